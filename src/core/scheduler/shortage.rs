//! Attempts that ran out of memory are made again with more, where their tasks say so.
//!
//! A task with another amount of memory gets a row of its own, as one that has become another does: so its worker,
//! placement and whoever else asks what it occupies find the new amount where they look for it.

use std::sync::Arc;

use crate::core::addition::Numbering;
use crate::core::event::{Event, Shortage};
use crate::core::id::TaskId;
use crate::core::resources::Resources;

use super::machine::{Action, Scheduler};
use super::past::PastError;
use super::tasks::TaskState;

impl Scheduler {
    /// How much memory a task gets for the next attempt, if that is more than it had. Costs no retry.
    pub(super) fn more_memory(&self, task: TaskId, shortage: &mut Shortage) -> Option<u64> {
        let options = self.graph.options(task);
        let before = options.resources.memory_bytes;
        if before >= options.memory_max_bytes {
            return None;
        }
        let most = self.most_memory(task);
        shortage.is_most = most <= before;
        let more = before.saturating_mul(2).min(options.memory_max_bytes).min(most);
        (more > before).then_some(more)
    }

    /// What the largest worker has that could run a task but for its memory.
    fn most_memory(&self, task: TaskId) -> u64 {
        let request = Resources { memory_bytes: 0, ..self.graph.options(task).resources.clone() };
        let able = self.workers.iter().filter(|(_, record)| record.capacity.covers(&request));
        able.map(|(_, record)| record.capacity.memory_bytes).max().unwrap_or(0)
    }

    /// From now on a task that no worker has asks for so much.
    pub(super) fn set_memory(&mut self, task: TaskId, memory_bytes: u64, actions: &mut Vec<Action>) {
        let numbering = self.next_numbering(task);
        self.enter_memory(task, numbering, memory_bytes);
        actions.push(Action::Record(Event::MemorySet { task, numbering, memory_bytes }));
    }

    fn enter_memory(&mut self, task: TaskId, numbering: Numbering, memory_bytes: u64) {
        let row = self.graph.row_with_memory(task, numbering, memory_bytes);
        self.ahead.learn_options(&row.options);
        self.ready.learn(&row.options);
        self.workers.learn(self.ready.requests());
        self.graph.learn(task, Arc::new(row));
        self.tasks.resized.insert(task);
    }

    /// The same as an earlier life of the run recorded it.
    pub(super) fn set_memory_again(
        &mut self,
        task: TaskId,
        numbering: Numbering,
        memory_bytes: u64,
    ) -> Result<(), PastError> {
        let bad = |why: &str| PastError { task: Some(task), why: why.to_owned() };
        if self.state(task) != TaskState::Waiting || self.graph.is_join(task) {
            return Err(bad("it was given memory, and nobody runs it"));
        }
        if numbering != self.next_numbering(task) {
            return Err(bad("what it was given is numbered from elsewhere"));
        }
        self.enter_memory(task, numbering, memory_bytes);
        Ok(())
    }

    /// The workers of this life may have less: a task that none of them could run takes what the largest has.
    pub(super) fn fit_memory(&mut self, actions: &mut Vec<Action>) {
        for task in self.tasks.resized.clone() {
            let most = self.most_memory(task);
            let asked = self.graph.options(task).resources.memory_bytes;
            if self.state(task) == TaskState::Waiting && 0 < most && most < asked {
                self.set_memory(task, most, actions);
            }
        }
    }
}
