//! Which of the heavy tasks with all inputs here starts next.

use std::collections::BTreeSet;

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::resources::Resources;

/// How many later tasks may start past the most urgent one that does not fit, before everything
/// waits for it. Keeps cores busy, yet a large task is never starved by small ones.
const PASSED_OVER_MAX: u32 = 64;

/// Startable tasks by urgency, and the resources that are left.
#[derive(Debug)]
pub struct Queue {
    capacity: Resources,
    /// Cores are here only while the pool does not have them.
    free: Resources,
    tasks: BTreeSet<(u32, TaskId)>,
    passed_over: u32,
}

impl Queue {
    /// An empty queue in front of `capacity`.
    pub fn new(capacity: Resources) -> Self {
        Queue { free: capacity.clone(), capacity, tasks: BTreeSet::new(), passed_over: 0 }
    }

    /// Enters a task.
    pub fn push(&mut self, urgency: u32, task: TaskId) {
        self.tasks.insert((urgency, task));
    }

    /// Takes a task out that shall not start. True if it was there.
    pub fn remove(&mut self, urgency: u32, task: TaskId) -> bool {
        self.tasks.remove(&(urgency, task))
    }

    /// What the most urgent task that may start asks for.
    pub fn first_request<'a>(
        &self,
        graph: &'a Graph,
        may_start: impl Fn(TaskId) -> bool,
    ) -> Option<&'a Resources> {
        let mut able = self.tasks.iter().filter(|(_, task)| may_start(*task));
        able.next().map(|&(_, task)| &graph.options(task).resources)
    }

    /// True if nothing waits to start.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Those that wait to start, the most urgent first.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks.iter().map(|(_, task)| *task)
    }

    /// True if a request is covered but for its cores.
    pub fn only_lacks_cpus(&self, request: &Resources) -> bool {
        self.free.covers(&Resources { cpus: 0, ..request.clone() })
    }

    /// The next task to start, of those that may; its resources are taken. The others keep nobody waiting: what
    /// they wait for may come from those behind them.
    pub fn start_next(&mut self, graph: &Graph, may_start: impl Fn(TaskId) -> bool) -> Option<TaskId> {
        if self.free.cpus == 0 {
            // Every task asks for a core: spares the search in the usual case.
            return None;
        }
        let fits = |task: TaskId| self.free.covers(&graph.options(task).resources);
        let mut able = self.tasks.iter().filter(|(_, task)| may_start(*task));
        let first = *able.next()?;
        let chosen = match fits(first.1) {
            true => first,
            false if self.passed_over >= PASSED_OVER_MAX => return None,
            false => *able.find(|(_, task)| fits(*task))?,
        };
        self.passed_over = if chosen == first { 0 } else { self.passed_over + 1 };
        self.tasks.remove(&chosen);
        self.free.take(&graph.options(chosen.1).resources);
        Some(chosen.1)
    }

    /// A started task ended: its resources are free again.
    pub fn end(&mut self, graph: &Graph, task: TaskId) {
        self.free.give(&graph.options(task).resources);
    }

    /// Cores go to the pool.
    pub fn take_cpus(&mut self, cpus: u32) {
        self.free.cpus -= cpus;
    }

    /// Cores come back from the pool.
    pub fn give_cpus(&mut self, cpus: u32) {
        self.free.cpus += cpus;
    }

    /// What is not in use.
    pub fn free(&self) -> &Resources {
        &self.free
    }

    /// What there is in all.
    pub fn capacity(&self) -> &Resources {
        &self.capacity
    }

    /// True if a task waits here to start.
    pub fn contains(&self, urgency: u32, task: TaskId) -> bool {
        self.tasks.contains(&(urgency, task))
    }

    /// How many tasks wait to start.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }
}
