//! How often the ranks of a run are started in one allocation: as long as each start gets somewhere.

use std::thread;
use std::time::Duration;

use crate::core::event::{Cause, Event};
use crate::core::id::TaskId;
use crate::launch::supervise::Ended;
use crate::record::journal::JournalReader;
use crate::record::layout::RunDirectory;

use super::super::output::tell;

/// Starts in a row that may end without a task having ended.
const VAIN_MAX: u32 = 3;

/// The starts so far.
pub(super) struct Starts<'a> {
    directory: &'a RunDirectory,
    resumes: bool,
    /// Tasks that had ended when the last start began.
    ended: u64,
    /// Starts since then in which none did.
    vain: u32,
}

impl<'a> Starts<'a> {
    /// None yet in this allocation.
    pub fn new(directory: &'a RunDirectory, resumes: bool) -> Self {
        Starts { directory, resumes, ended: ended_attempts(directory), vain: 0 }
    }

    /// True if the next start goes on with what earlier ones left.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// A start was cut off. True if the ranks are to be started again.
    pub fn is_worth_another(&mut self, ended: &Ended) -> bool {
        let now = ended_attempts(self.directory);
        self.vain = if now > self.ended { 0 } else { self.vain + 1 };
        (self.ended, self.resumes) = (now, true);
        let name = self.directory.name();
        if self.vain >= VAIN_MAX {
            tell(&format!("`{name}` was cut off {VAIN_MAX} times without getting anywhere"));
            return false;
        }
        tell(&format!("a rank of `{name}` was lost (the launcher ended with {}); going on", ended.code()));
        thread::sleep(Duration::from_secs(u64::from(self.vain)));
        true
    }
}

/// Tasks that ended by themselves at least once, as far as the journal has it. An attempt that was lost or told to
/// stop got nowhere, and neither did one that only repeated what had been done before.
pub(super) fn ended_attempts(directory: &RunDirectory) -> u64 {
    let Ok(journal) = JournalReader::open(&directory.journal()) else { return 0 };
    let mut seen = Vec::new();
    let mut count = 0;
    let mut see = |task: TaskId| {
        if seen.len() <= task.index() {
            seen.resize(task.index() + 1, false);
        }
        count += u64::from(!std::mem::replace(&mut seen[task.index()], true));
    };
    for (_, event) in journal.map_while(Result::ok) {
        match event {
            Event::TasksFinished { batch, .. } => batch.tasks().for_each(&mut see),
            Event::AttemptFailed { task, failure, .. } if !is_cut_off(&failure.cause) => see(task),
            _ => {}
        }
    }
    count
}

fn is_cut_off(cause: &Cause) -> bool {
    cause.is_infrastructure() || matches!(cause, Cause::Cancelled | Cause::Stopped)
}
