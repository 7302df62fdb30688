//! Every invariant of the worker's tables. A broken one is a bug, so `check` panics.

use crate::core::resources::Resources;

use super::machine::{Stage, Worker};

impl Worker {
    /// Checks everything. For tests.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        self.check_resources();
        self.check_stages();
        for fetch in self.fetches.iter() {
            let input = fetch.location;
            assert!(!fetch.waiting.is_empty(), "nobody waits for task {}", input.task);
            assert_ne!(
                self.outputs.get(&input.task),
                Some(&input.attempt),
                "task {} is here already",
                input.task
            );
        }
    }

    fn check_resources(&self) {
        let mut used = Resources::default();
        for (task, local) in &self.tasks {
            if matches!(local.stage, Stage::Running(_)) {
                used.give(&self.graph.options(*task).resources);
            }
        }
        assert!(self.queue.capacity().covers(&used), "more is in use than there is: {used:?}");
        let mut sum = self.queue.free().clone();
        sum.give(&used);
        assert!(
            sum.covers(self.queue.capacity()) && self.queue.capacity().covers(&sum),
            "used + free = capacity"
        );
    }

    fn check_stages(&self) {
        let mut queued = 0;
        for (task, local) in &self.tasks {
            let waits_for = self.fetches.iter().filter(|fetch| fetch.waiting.contains(task)).count();
            match local.stage {
                Stage::Fetching(missing) => assert_eq!(missing as usize, waits_for, "inputs of task {task}"),
                Stage::Queued => {
                    queued += 1;
                    assert!(self.queue.contains(local.assignment.urgency, *task), "task {task} is queued");
                    for input in &local.assignment.inputs {
                        let here = self.outputs.get(&input.task);
                        assert_eq!(here, Some(&input.attempt), "task {task} is queued without an input");
                    }
                }
                Stage::Running(_) => assert_eq!(waits_for, 0, "task {task} runs and waits"),
            }
            assert!(
                !self.is_stopping || matches!(local.stage, Stage::Running(_)),
                "task {task} waits at the end"
            );
        }
        assert_eq!(queued, self.queue.len(), "the queue holds assigned tasks only");
    }
}
