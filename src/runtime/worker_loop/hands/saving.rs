//! Outputs on their way into the run directory: what was synced there, and what is saved because the run is
//! about to be cut off.
//!
//! What is saved is written in slices between which messages move on: a rank that is silent for long is given
//! up, and what was written by then may be synced and told of.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use crate::clock;
use crate::core::id::{Attempt, TaskId};
use crate::core::time::{Micros, Timestamp};
use crate::core::worker::Input;
use crate::transport::endpoint::Endpoint;
use crate::worker::files;
use crate::worker::pool::Recorder;
use crate::worker::store::Found;

use super::super::super::margin::WRITES_PER_SECOND;
use super::super::super::syncing::Synced;
use super::super::WorkerError;
use super::Hands;

/// What failed to be synced ends the worker: nothing that is said of it later could be believed.
pub(super) const UNSYNCED: fn(io::Error) -> WorkerError = |error| WorkerError::Io("sync its pack", error);

/// How long a slice takes, but for the last output in it.
const SLICE: Micros = Micros::from_millis(20);

/// Outputs that are to be saved, as they were found: a release that comes later takes nothing away.
#[derive(Debug, Default)]
pub(super) struct Saving {
    left: VecDeque<(TaskId, Attempt, Found)>,
    /// How many bytes the run directory takes in a second, as rank 0 was told; 0 if it was not.
    told: u64,
}

impl Saving {
    /// True if nothing is left to save.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }
}

impl<E: Endpoint> Hands<E> {
    /// An output goes into the pack that nobody wanted there before.
    pub(super) fn save(&mut self, task: TaskId, attempt: Attempt) {
        let found = self.find(task, Some(attempt));
        self.saving.left.push_back((task, attempt, found));
    }

    /// Writes some of what is to be saved. True if there was anything.
    pub(super) fn save_a_slice(&mut self) -> Result<bool, WorkerError> {
        if self.saving.is_empty() {
            return Ok(false);
        }
        let began = clock::now();
        while clock::now().since(began) < SLICE
            && let Some((task, attempt, found)) = self.saving.left.pop_front()
        {
            let output = match found {
                Found::Here(output) => output,
                Found::Away(spilled) => {
                    let memory = self.store.memory().expect("what is on the disk left memory");
                    let read = self.store.read_for_other(&spilled, memory);
                    read.map_err(|error| WorkerError::Io("read an output back from its disk", error))?
                }
            };
            if let Err(cause) = self.pack.record(task, attempt, &output, self.files_of(task, attempt)) {
                log::warn!("the output of task {task} is not saved: {cause}");
            }
        }
        Ok(true)
    }

    /// Rank 0 stops a run so much earlier as saving takes longer before the end of its allocation.
    pub(super) fn tell_how_fast_saving_is(&mut self, now: Timestamp) {
        let (writes, told) = (self.syncing.writes_per_second(), self.saving.told);
        let told = if told == 0 { WRITES_PER_SECOND } else { told };
        if writes < told / 3 * 2 || writes > told / 2 * 3 {
            self.saving.told = writes;
            self.machine.handle(now, Input::WritesPerSecond(writes), &mut self.actions);
        }
    }

    /// The files that a task declares.
    pub(super) fn files_of(&self, task: TaskId, attempt: Attempt) -> Vec<PathBuf> {
        files::output_paths(&self.graph.operation(task).outputs, attempt)
    }

    /// Hears what is durable by now, if anything is. Rank 0 is told with something else, or some time later.
    pub(super) fn take_in_synced(&mut self) -> Result<bool, WorkerError> {
        let synced = self.syncing.take().map_err(UNSYNCED)?;
        let is_any = !synced.is_empty();
        self.on_synced(synced);
        Ok(is_any)
    }

    pub(super) fn on_synced(&mut self, synced: Vec<Synced>) {
        let now = clock::now();
        for Synced { durable, volatile } in synced {
            let durable = durable.into_iter().map(|(tasks, attempt)| Input::Durable(tasks, attempt));
            let volatile = volatile.into_iter().map(|(tasks, attempt)| Input::Volatile(tasks, attempt));
            for input in durable.chain(volatile) {
                self.machine.handle(now, input, &mut self.actions);
                self.untold.on_durable(now);
            }
        }
    }
}
