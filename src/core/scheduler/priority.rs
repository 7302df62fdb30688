//! The order in which ready tasks are started.

use std::cmp::Reverse;

use crate::core::graph::Graph;
use crate::core::id::TaskId;

use super::durations::Durations;

/// What is started first among tasks of one `priority`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// What has the longest path to an exit, in the time that tasks are expected to take: the b-level.
    #[default]
    LongestPath,
    /// What a walk from the exits down, input by input, leaves first: one branch is done, and its
    /// outputs are gone, before the next is begun.
    DepthFirst,
    /// What stands first in the graph.
    Submission,
    /// What chance says, the same for the same number: to compare with.
    Random(u64),
}

/// Every task's place in one total order; lower starts first.
///
/// A higher `priority` comes first, then what the `Precedence` says, then the lower id, so that equal
/// graphs are always ordered equally.
#[derive(Debug)]
pub struct Urgency {
    place_of: Vec<u32>,
    task_at: Vec<TaskId>,
}

impl Urgency {
    /// Orders all tasks of a graph. Takes O(n log n) time once.
    pub fn of(graph: &Graph, durations: &Durations, order: Precedence) -> Self {
        let weights = weights(graph, durations, order);
        let mut task_at: Vec<TaskId> = graph.tasks().collect();
        task_at.sort_by_cached_key(|&task| {
            (Reverse(graph.options(task).priority), Reverse(weights[task.index()]))
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

/// For each task a number; the greatest goes first.
fn weights(graph: &Graph, durations: &Durations, order: Precedence) -> Vec<u64> {
    match order {
        Precedence::LongestPath => paths_to_exit_us(graph, durations),
        Precedence::DepthFirst => walk_from_exits(graph),
        Precedence::Submission => vec![0; graph.len()],
        Precedence::Random(seed) => graph.tasks().map(|task| scatter(seed ^ u64::from(task.0))).collect(),
    }
}

/// The longest path from each task to an exit, in microseconds. Hidden joins add nothing.
fn paths_to_exit_us(graph: &Graph, durations: &Durations) -> Vec<u64> {
    let mut paths = vec![0_u64; graph.len()];
    for &task in graph.topological_order().iter().rev() {
        let below = graph.dependents(task).iter().map(|dependent| paths[dependent.index()]).max();
        let own = if graph.is_join(task) { 0 } else { durations.expected_us(task) };
        paths[task.index()] = below.unwrap_or(0) + u64::from(own);
    }
    paths
}

/// Numbers tasks downwards as a walk from the exits leaves them, inputs first. No recursion, however
/// long a chain is.
fn walk_from_exits(graph: &Graph) -> Vec<u64> {
    let mut weights = vec![0_u64; graph.len()];
    let mut is_entered = vec![false; graph.len()];
    let mut left = 0;
    for exit in graph.sinks() {
        let mut way = vec![(exit, false)];
        while let Some((task, is_done)) = way.pop() {
            if is_done {
                left += 1;
                weights[task.index()] = u64::MAX - left;
            } else if !std::mem::replace(&mut is_entered[task.index()], true) {
                way.push((task, true));
                let first = way.len();
                way.extend(graph.inputs(task).map(|input| (input, false)));
                way[first..].reverse();
            }
        }
    }
    weights
}

/// A number that looks like chance: the finishing steps of SplitMix64.
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::task::{Body, Call, Operation, TaskOptions};
    use crate::core::time::Micros;

    /// Tasks in the order of the lines: the milliseconds expected, the inputs by number, `priority`.
    fn order(tasks: &[(u64, &[u32], i32)], order: Precedence) -> Vec<u32> {
        let mut builder = GraphBuilder::new("test", "/");
        for number in 0..tasks.len() {
            builder.declare(Group::single(format!("t{number}"))).expect("names differ");
        }
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        for &(millis, inputs, priority) in tasks {
            let expected = Some(Micros::from_millis(millis));
            let options = builder.options(TaskOptions { expected, priority, ..TaskOptions::default() });
            let values = inputs.iter().copied().map(TaskId).collect();
            let definition = Definition { operation, options, values, orders: vec![] };
            builder.define(definition).expect("few dependencies");
        }
        let graph = builder.build().expect("no cycle");
        let urgency = Urgency::of(&graph, &Durations::new(&graph), order);
        let places = 0..graph.len() as u32;
        places
            .map(|place| {
                let task = urgency.task(place);
                assert_eq!(urgency.of_task(task), place);
                task.0
            })
            .collect()
    }

    #[test]
    fn the_longest_path_is_measured_in_time() {
        // Two short tasks in a row against one long one.
        assert_eq!(order(&[(1, &[], 0), (1, &[0], 0), (5, &[], 0)], Precedence::LongestPath), [2, 0, 1]);
        assert_eq!(order(&[(3, &[], 0), (3, &[0], 0), (5, &[], 0)], Precedence::LongestPath), [0, 2, 1]);
    }

    #[test]
    fn a_higher_priority_comes_before_any_order() {
        for kind in
            [Precedence::LongestPath, Precedence::DepthFirst, Precedence::Submission, Precedence::Random(3)]
        {
            assert_eq!(order(&[(9, &[], 0), (1, &[], 1)], kind)[0], 1, "{kind:?}");
        }
    }

    #[test]
    fn depth_first_ends_one_branch_before_the_next() {
        // Two pairs, each added up, and both sums added up.
        let pairs: [(u64, &[u32], i32); 7] = [
            (1, &[], 0),
            (1, &[], 0),
            (1, &[], 0),
            (1, &[], 0),
            (1, &[0, 2], 0),
            (1, &[1, 3], 0),
            (1, &[4, 5], 0),
        ];
        assert_eq!(order(&pairs, Precedence::DepthFirst), [0, 2, 4, 1, 3, 5, 6]);
        assert_eq!(order(&pairs, Precedence::Submission), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_long_chain_needs_no_deep_stack() {
        let inputs: Vec<[u32; 1]> = (0..200_000).map(|number: u32| [number.saturating_sub(1)]).collect();
        let tasks: Vec<(u64, &[u32], i32)> = inputs
            .iter()
            .enumerate()
            .map(|(n, input)| (1, if n == 0 { &[][..] } else { input }, 0))
            .collect();
        assert_eq!(order(&tasks, Precedence::DepthFirst)[199_999], 199_999);
    }

    #[test]
    fn chance_is_the_same_for_the_same_number() {
        let tasks: Vec<(u64, &[u32], i32)> = vec![(1, &[], 0); 50];
        assert_eq!(order(&tasks, Precedence::Random(1)), order(&tasks, Precedence::Random(1)));
        assert_ne!(order(&tasks, Precedence::Random(1)), order(&tasks, Precedence::Random(2)));
        assert_ne!(order(&tasks, Precedence::Random(1)), order(&tasks, Precedence::Submission));
    }
}
