//! Attempts that run out of memory, and what their tasks have after that.

use std::collections::BTreeMap;

use dagmar::core::event::{Cause, Event, Shortage};
use dagmar::core::id::{Rank, TaskId};
use dagmar::core::resources::Resources;

use super::World;
use crate::coverage::Happening;

/// What tasks must have.
#[derive(Default)]
pub struct Shortages {
    /// Those that do not have what they began with.
    memory: BTreeMap<TaskId, u64>,
    /// What is to be told next.
    awaited: Option<(TaskId, u64)>,
}

impl World {
    /// How an attempt fails: those of tasks that ask for memory often for want of it.
    pub(super) fn fault_of(&mut self, task: TaskId) -> Cause {
        match self.memory_of(task) > 0 && self.rng.u8(..) < 200 {
            true => Cause::OutOfMemory(Shortage::default()),
            false => Cause::ExitCode(1),
        }
    }

    fn memory_of(&self, task: TaskId) -> u64 {
        let began_with = || match self.problem.beginning.began_with(task) {
            true => self.problem.beginning.options(task).resources.memory_bytes,
            false => self.problem.graph.options(task).resources.memory_bytes,
        };
        self.shortages.memory.get(&task).copied().unwrap_or_else(began_with)
    }

    /// The worker knows what the task has.
    pub(super) fn check_memory(&self, rank: Rank, task: TaskId) {
        let known = self.nodes[&rank].graph.options(task).resources.memory_bytes;
        assert_eq!(known, self.memory_of(task), "memory of task {task} at {rank}");
        assert!(known <= self.capacity(rank).memory_bytes, "task {task} does not fit {rank}");
    }

    /// Twice as much, up to what it may have and what the largest worker has; else it is a failure like others.
    pub(super) fn check_shortage(&mut self, task: TaskId, shortage: Shortage, retried: bool) {
        if self.is_stopping {
            return assert!(!retried, "task {task} is tried again in a run that is stopped");
        }
        let before = self.memory_of(task);
        let options = self.problem.graph.options(task);
        let (most, retries) = (options.memory_max_bytes, options.retries);
        let request = Resources { memory_bytes: 0, ..options.resources.clone() };
        let known = self.nodes.keys().filter(|rank| self.scheduler.incarnation(**rank).is_some());
        let capacities = known.map(|rank| self.capacity(*rank)).filter(|capacity| capacity.covers(&request));
        let largest = capacities.map(|capacity| capacity.memory_bytes).max().unwrap_or(0);
        let more = (2 * before).min(most).min(largest);
        assert_eq!(shortage.is_most, before < most && largest <= before, "task {task}");
        if before < most && more > before {
            assert!(retried, "task {task} gets more memory");
            self.shortages.awaited = Some((task, more));
            return self.coverage.happened(Happening::MemoryRaised);
        }
        self.coverage.happened(match shortage.is_most {
            true => Happening::NobodyHasMore,
            false => Happening::MemoryAtMost,
        });
        let failures = self.own_failures.entry(task).or_default();
        *failures += 1;
        assert_eq!(retried, *failures <= retries, "task {task}: {failures} failures, {retries} retries");
    }

    pub(super) fn on_memory_set(&mut self, task: TaskId, memory_bytes: u64) {
        match self.shortages.awaited.take() {
            Some(awaited) => assert_eq!(awaited, (task, memory_bytes)),
            // Workers of this life have less.
            None => assert!(self.run_life > 1 && memory_bytes < self.memory_of(task), "task {task}"),
        }
        self.shortages.memory.insert(task, memory_bytes);
    }

    /// It has become another, with what that has.
    pub(super) fn forget_memory(&mut self, task: TaskId) {
        let memory_bytes = self.problem.graph.options(task).resources.memory_bytes;
        self.shortages.memory.insert(task, memory_bytes);
    }

    /// What the events tell is what the next life knows.
    pub(super) fn recall_memory(&mut self) {
        self.shortages = Shortages::default();
        let mut told: BTreeMap<TaskId, Option<u64>> = BTreeMap::new();
        for event in &self.disk.journal {
            match event {
                Event::MemorySet { task, memory_bytes, .. } => drop(told.insert(*task, Some(*memory_bytes))),
                Event::TasksAdded { task, .. } => drop(told.insert(*task, None)),
                // Tasks have other numbers from here on, and the memory that their graph says.
                Event::GraphEdited(_) => told.clear(),
                _ => {}
            }
        }
        for (task, memory_bytes) in told {
            let known = self.problem.graph.options(task).resources.memory_bytes;
            if let Some(memory_bytes) = memory_bytes {
                self.coverage.happened(Happening::MemoryRecalled);
                assert_eq!(known, memory_bytes, "memory of task {task}");
            }
            self.shortages.memory.insert(task, known);
        }
    }
}
