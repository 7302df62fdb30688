//! Every invariant of the worker's tables. A broken one is a bug, so `check` panics.

use crate::core::id::TaskId;
use crate::core::resources::Resources;

use super::machine::{Stage, Worker};

impl Worker {
    /// Checks everything. Takes time linear in tasks and dependencies: for tests.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        self.check_resources();
        self.check_heavies();
        let tasks = || (0..self.stage.count()).map(TaskId::from);
        let admitted = tasks().filter(|&task| self.stage.get(task) == Stage::Admitted);
        assert_eq!(admitted.count(), self.sharing.light_count as usize, "light tasks");
        let heavy = tasks().filter(|&task| self.stage.get(task) == Stage::Heavy);
        assert!(heavy.eq(self.heavies.tasks.keys().copied()), "heavy tasks");
        for fetch in self.fetches.iter() {
            let input = fetch.location;
            assert!(!fetch.waiting.is_empty(), "nobody waits for task {}", input.task);
        }
        for task in self.lacking.keys().chain(self.ending.keys()) {
            assert_eq!(self.stage.get(*task), Stage::Admitted, "task {task} is about to be revoked");
        }
    }

    fn check_resources(&self) {
        let queue = &self.heavies.queue;
        let mut used = Resources::cores(self.sharing.granted());
        for (task, heavy) in &self.heavies.tasks {
            if heavy.started.is_some() {
                used.give(&self.graph.options(*task).resources);
            }
        }
        assert!(queue.capacity().covers(&used), "more is in use than there is: {used:?}");
        let mut sum = queue.free().clone();
        sum.give(&used);
        assert!(sum.covers(queue.capacity()) && queue.capacity().covers(&sum), "used + free = capacity");
        assert_eq!(self.sharing.cpus(), queue.capacity().cpus);
    }

    fn check_heavies(&self) {
        let mut queued = 0;
        for (task, heavy) in &self.heavies.tasks {
            for input in &heavy.missing {
                assert_ne!(self.stage.get(*input), Stage::Here, "task {task} misses what is here");
            }
            let is_waiting = heavy.started.is_none();
            if is_waiting && heavy.missing.is_empty() {
                queued += 1;
                assert!(
                    self.heavies.queue.contains(heavy.assignment.urgency, *task),
                    "task {task} is queued"
                );
            }
            assert!(!self.is_stopping || !is_waiting, "task {task} waits at the end");
        }
        assert_eq!(queued, self.heavies.queue.len(), "the queue holds assigned tasks only");
    }
}
