//! Ready tasks that wait for one particular worker, because starting anywhere else would not be sooner.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::core::id::TaskId;

/// The tasks by urgency. What stopped being ready is skipped by the reader.
#[derive(Debug, Default)]
pub struct Parked {
    tasks: BinaryHeap<Reverse<(u32, TaskId)>>,
}

impl Parked {
    /// Enters a task.
    pub fn push(&mut self, level: u32, task: TaskId) {
        self.tasks.push(Reverse((level, task)));
    }

    /// The most urgent one.
    pub fn first(&self) -> Option<TaskId> {
        self.tasks.peek().map(|entry| entry.0.1)
    }

    /// Takes the most urgent one.
    pub fn pop(&mut self) -> Option<TaskId> {
        self.tasks.pop().map(|entry| entry.0.1)
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// True if a task is parked. Searches everything: for checks.
    pub fn contains(&self, task: TaskId) -> bool {
        self.tasks.iter().any(|entry| entry.0.1 == task)
    }

    /// All of them, in no particular order.
    pub fn into_tasks(self) -> impl Iterator<Item = TaskId> {
        self.tasks.into_iter().map(|entry| entry.0.1)
    }
}
