//! What a program must know of a run: where the asked outputs are, and what failed first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::event::{Cause, Event};
use crate::core::graph::Graph;
use crate::core::id::{Rank, TaskId};
use crate::core::scheduler::Left;
use crate::core::time::Timestamp;
use crate::runtime::envelope::StandardStream;
use crate::runtime::scheduler_loop::Watcher;

/// Listens to a run.
pub struct Watch {
    /// Where each asked task ran last.
    pub workers: HashMap<TaskId, Rank>,
    /// The first task that failed for good, and how often it was tried.
    pub failure: Option<(TaskId, u32, Cause)>,
    /// Tries that failed and were made again.
    retried: HashMap<TaskId, u32>,
}

impl Watch {
    /// Listens for these tasks.
    pub fn new(asked: &[TaskId]) -> Self {
        let workers = asked.iter().map(|&task| (task, Rank::SCHEDULER)).collect();
        Watch { workers, failure: None, retried: HashMap::new() }
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
            Event::AttemptFailed { task, retried: true, .. } => {
                *self.retried.entry(*task).or_default() += 1;
            }
            Event::AttemptFailed { task, failure, retried: false, .. } if self.failure.is_none() => {
                let tries = self.retried.get(task).map_or(1, |retried| retried + 1);
                self.failure = Some((*task, tries, failure.cause.clone()));
            }
            // What the task has become is tried for the first time.
            Event::TasksAdded { task, .. } => drop(self.retried.remove(task)),
            _ => {}
        }
    }

    fn on_output(&mut self, _: StandardStream, _: &[u8]) {}

    fn on_graph(&mut self, _: Arc<Graph>) {}

    fn on_resumed(&mut self, _: Left, _: &[String]) {}

    fn on_turn(&mut self, _: Timestamp) {}
}
