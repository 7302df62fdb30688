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

/// The longest path from each task to an exit, in tasks. Hidden joins add nothing.
fn paths_to_exit(graph: &Graph) -> Vec<u32> {
    let mut paths = vec![0_u32; graph.len()];
    for task in graph.topological_order().rev() {
        let below = graph.dependents(task).iter().map(|dependent| paths[dependent.index()]).max();
        paths[task.index()] = below.unwrap_or(0) + u32::from(!graph.is_join(task));
    }
    paths
}

fn runs(graph: &Graph, level_of: &[u32]) -> Vec<Range<u32>> {
    let kind = |task: TaskId| {
        let body = discriminant(&graph.operation(task).body);
        (level_of[task.index()], graph.options_id(task), body)
    };
    let mut runs: Vec<Range<u32>> = Vec::new();
    for task in graph.tasks().filter(|&task| graph.input_count(task) == 0) {
        match runs.last_mut() {
            Some(run) if run.end == task.0 && kind(TaskId(run.start)) == kind(task) => run.end += 1,
            Some(run) if run.len() == 1 => *run = task.0..task.0 + 1,
            _ => runs.push(task.0..task.0 + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::task::{Body, Call, Operation, TaskOptions};

    /// Tasks by their priorities and inputs, in the order of ids.
    fn urgency(tasks: &[(i32, &[u32])]) -> Urgency {
        let mut builder = GraphBuilder::new("test", "/");
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        for number in 0..tasks.len() {
            builder.declare(Group::single(format!("t{number}"))).unwrap();
        }
        for (priority, inputs) in tasks {
            let options = builder.options(TaskOptions { priority: *priority, ..TaskOptions::default() });
            let values = inputs.iter().copied().map(TaskId).collect();
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        Urgency::of(&builder.build().unwrap())
    }

    fn order(urgency: &Urgency, count: u32) -> Vec<u32> {
        let mut tasks: Vec<u32> = (0..count).collect();
        tasks.sort_by_key(|&task| (urgency.level(TaskId(task)), task));
        tasks
    }

    #[test]
    fn priority_counts_more_than_the_path_and_the_path_more_than_the_id() {
        let tasks: [(i32, &[u32]); 6] = [(0, &[]), (0, &[]), (0, &[1]), (-1, &[]), (-1, &[3]), (7, &[])];
        assert_eq!(order(&urgency(&tasks), 6), [5, 1, 0, 2, 3, 4]);
    }

    #[test]
    fn a_run_ends_where_tasks_differ_or_take_inputs() {
        let tasks: [(i32, &[u32]); 7] =
            [(0, &[]), (0, &[]), (0, &[]), (1, &[]), (0, &[]), (0, &[4]), (0, &[])];
        let urgency = urgency(&tasks);
        let ends: Vec<u32> = (0..7).map(|task| urgency.run_end(TaskId(task)).0).collect();
        assert_eq!(ends, [3, 3, 3, 4, 5, 6, 7]);
    }
}
