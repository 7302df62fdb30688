//! The outputs in a worker's memory. Which ones stay, its machine decides.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::id::{Attempt, TaskId};

use super::output::Output;

/// Outputs by the task and the try that made them.
#[derive(Debug, Default)]
pub struct Store {
    outputs: HashMap<(TaskId, Attempt), Arc<Output>>,
}

impl Store {
    /// Keeps an output.
    pub fn insert(&mut self, task: TaskId, attempt: Attempt, output: Arc<Output>) {
        self.outputs.insert((task, attempt), output);
    }

    /// An output that the machine said is here.
    ///
    /// # Panics
    /// When it is not: machine and store would disagree.
    pub fn get(&self, task: TaskId, attempt: Attempt) -> &Arc<Output> {
        let output = self.outputs.get(&(task, attempt));
        output.unwrap_or_else(|| panic!("the output of task {task}, attempt {attempt}, is not in the store"))
    }

    /// Drops an output, if it is here.
    pub fn remove(&mut self, task: TaskId, attempt: Attempt) {
        self.outputs.remove(&(task, attempt));
    }
}
