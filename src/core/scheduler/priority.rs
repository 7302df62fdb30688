//! The order in which ready tasks are started.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::core::graph::Graph;
use crate::core::id::TaskId;

/// Every task's level in the order of all; lower starts first, and lower ids where levels are equal.
///
/// A higher `priority` comes first, then the longer path to an exit (the b-level, in tasks).
#[derive(Debug)]
pub struct Urgency {
    level_of: Vec<u32>,
}

impl Urgency {
    /// Orders all tasks of a graph. Takes time linear in tasks and dependencies.
    pub fn of(graph: &Graph) -> Self {
        let depths = depths_to_exit(graph);
        let key = |task: TaskId| (Reverse(graph.options(task).priority), Reverse(depths[task.index()]));
        let distinct: BTreeSet<_> = graph.tasks().map(key).collect();
        let place: BTreeMap<_, u32> = distinct.into_iter().zip(0..).collect();
        Urgency { level_of: graph.tasks().map(|task| place[&key(task)]).collect() }
    }

    /// The task's level.
    pub fn level(&self, task: TaskId) -> u32 {
        self.level_of[task.index()]
    }
}

/// The longest path from each task to an exit, in tasks. Hidden joins add nothing.
fn depths_to_exit(graph: &Graph) -> Vec<u32> {
    let mut depths = vec![0_u32; graph.len()];
    for &task in graph.topological_order().iter().rev() {
        let below = graph.dependents(task).iter().map(|dependent| depths[dependent.index()]).max();
        depths[task.index()] = below.unwrap_or(0) + u32::from(!graph.is_join(task));
    }
    depths
}
