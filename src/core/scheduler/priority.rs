//! The order in which ready tasks are started.

use std::cmp::Reverse;
use std::mem::discriminant;
use std::ops::Range;

use crate::core::graph::Graph;
use crate::core::id::TaskId;

/// How urgent every task is.
///
/// A higher `priority` comes first, then the longer path to an exit (the b-level, in tasks), then
/// the lower id, so that equal graphs are always ordered equally.
#[derive(Debug)]
pub struct Urgency {
    level_of: Vec<u32>,
    /// Tasks that are alike in every respect but their ids: runs of at least two, in order.
    runs: Vec<Range<u32>>,
    place_of: Vec<u32>,
    task_at: Vec<TaskId>,
}

impl Urgency {
    /// Weighs all tasks of a graph.
    pub fn of(graph: &Graph) -> Self {
        let level_of = levels(graph);
        let mut task_at: Vec<TaskId> = graph.tasks().collect();
        task_at.sort_by_cached_key(|&task| level_of[task.index()]);
        let mut place_of = vec![0; task_at.len()];
        for (place, task) in task_at.iter().enumerate() {
            place_of[task.index()] = place as u32;
        }
        let runs = runs(graph, &level_of);
        Urgency { level_of, runs, place_of, task_at }
    }

    /// The task's level: a lower one starts first, and of one level the lower id.
    pub fn level(&self, task: TaskId) -> u32 {
        self.level_of[task.index()]
    }

    /// The end of the run of tasks from this one on that have the same level, options and kind of
    /// operation, and no inputs. The task alone if it has inputs.
    pub fn run_end(&self, task: TaskId) -> TaskId {
        let run = self.runs[..self.runs.partition_point(|run| run.start <= task.0)].last();
        TaskId(run.map_or(0, |run| run.end).max(task.0 + 1))
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

/// Each task's level: those of a higher priority lie below those of a lower one.
fn levels(graph: &Graph) -> Vec<u32> {
    let mut levels = paths_to_exit(graph);
    let mut priorities: Vec<i32> = graph.columns().options.iter().map(|options| options.priority).collect();
    priorities.sort_unstable_by_key(|&priority| Reverse(priority));
    priorities.dedup();
    let rank = |priority: i32| priorities.iter().position(|&other| other == priority);
    let ranks: Vec<usize> =
        graph.columns().options.iter().filter_map(|options| rank(options.priority)).collect();
    let rank_of = |task: TaskId| ranks[graph.options_id(task).index()];
    let mut longest = vec![0; priorities.len()];
    for task in graph.tasks() {
        let path = &mut longest[rank_of(task)];
        *path = levels[task.index()].max(*path);
    }
    let mut last = 0;
    for end in &mut longest {
        last += *end + 1;
        *end = last;
    }
    for task in graph.tasks() {
        levels[task.index()] = longest[rank_of(task)] - levels[task.index()];
    }
    levels
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
