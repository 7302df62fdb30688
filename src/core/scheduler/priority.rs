//! The order in which ready tasks are started.

use crate::core::graph::Graph;
use crate::core::id::TaskId;

use super::durations::Durations;

/// Every task's place in one total order; lower starts first.
///
/// A higher `priority` comes first, then the longer path to an exit (the b-level, in the time that tasks
/// are expected to take), then the lower id, so that equal graphs are always ordered equally.
#[derive(Debug)]
pub struct Urgency {
    place_of: Vec<u32>,
    task_at: Vec<TaskId>,
}

impl Urgency {
    /// Orders all tasks of a graph. Takes O(n log n) time once.
    pub fn of(graph: &Graph, durations: &Durations) -> Self {
        let levels = levels_to_exit(graph, durations);
        let mut task_at: Vec<TaskId> = graph.tasks().collect();
        task_at.sort_by_cached_key(|&task| {
            let priority = std::cmp::Reverse(graph.options(task).priority);
            (priority, std::cmp::Reverse(levels[task.index()]))
        });
        let mut place_of = vec![0; task_at.len()];
        for (place, task) in task_at.iter().enumerate() {
            place_of[task.index()] = place as u32;
        }
        Urgency { place_of, task_at }
    }

    /// The task's place in the order.
    pub fn of_task(&self, task: TaskId) -> u32 {
        self.place_of[task.index()]
    }

    /// The task at a place in the order.
    pub fn task(&self, place: u32) -> TaskId {
        self.task_at[place as usize]
    }
}

/// The longest path from each task to an exit, in microseconds. Hidden joins add nothing.
fn levels_to_exit(graph: &Graph, durations: &Durations) -> Vec<u64> {
    let mut levels = vec![0_u64; graph.len()];
    for &task in graph.topological_order().iter().rev() {
        let below = graph.dependents(task).iter().map(|dependent| levels[dependent.index()]).max();
        let own = if graph.is_join(task) { 0 } else { durations.expected_us(task) };
        levels[task.index()] = below.unwrap_or(0) + u64::from(own);
    }
    levels
}
