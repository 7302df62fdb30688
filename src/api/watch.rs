//! What a program must know of a run: where the asked outputs are, and what failed first.

use std::collections::HashMap;

use crate::core::event::{Cause, Event};
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::time::Timestamp;
use crate::runtime::envelope::StandardStream;
use crate::runtime::scheduler_loop::Watcher;

/// Listens to a run.
pub struct Watch {
    /// Where each asked task ran last.
    pub workers: HashMap<TaskId, Rank>,
    /// The first task that failed for good.
    pub failure: Option<(TaskId, Attempt, Cause)>,
}

impl Watch {
    /// Listens for these tasks.
    pub fn new(asked: &[TaskId]) -> Self {
        Watch { workers: asked.iter().map(|&task| (task, Rank::SCHEDULER)).collect(), failure: None }
    }
}

impl Watcher for Watch {
    fn on_event(&mut self, _: Timestamp, event: &Event) {
        match event {
            Event::TasksFinished { worker, batch } => {
                for task in batch.tasks() {
                    if let Some(known) = self.workers.get_mut(&task) {
                        *known = *worker;
                    }
                }
            }
            Event::AttemptFailed { task, attempt, failure, retried: false, .. } if self.failure.is_none() => {
                self.failure = Some((*task, *attempt, failure.cause.clone()));
            }
            _ => {}
        }
    }

    fn on_output(&mut self, _: StandardStream, _: &[u8]) {}

    fn on_turn(&mut self, _: Timestamp) {}
}
