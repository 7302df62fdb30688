//! The order in which ready tasks are started.

use std::cmp::Reverse;

use crate::core::graph::Graph;
use crate::core::id::TaskId;

use super::durations::Durations;
use super::precedence::Precedence;

/// How urgent every task is.
///
/// A higher `priority` comes first, then what the `Precedence` says, then the lower id, so that equal
/// graphs are always ordered equally.
#[derive(Debug)]
pub struct Urgency {
    level_of: Vec<u32>,
}

impl Urgency {
    /// Weighs all tasks of a graph.
    pub fn of(graph: &Graph, durations: &Durations, precedence: Precedence) -> Self {
        Urgency { level_of: levels(graph, durations, precedence) }
    }

    /// The task's level: a lower one starts first, and of one level the lower id.
    pub fn level(&self, task: TaskId) -> u32 {
        self.level_of[task.index()]
    }
}

/// Each task's level: those of a higher priority lie below those of a lower one.
fn levels(graph: &Graph, durations: &Durations, precedence: Precedence) -> Vec<u32> {
    let mut priorities: Vec<i32> = graph.columns().options.iter().map(|options| options.priority).collect();
    priorities.sort_unstable_by_key(|&priority| Reverse(priority));
    priorities.dedup();
    // Each priority takes at most this many levels and one more, so that the last of all still fits.
    let most = u32::MAX / (priorities.len() as u32 + 1) - 1;
    let mut levels = precedence.weights(graph, durations, most);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::task::{Body, Call, Operation, TaskOptions};
    use crate::core::time::Micros;

    /// Expected milliseconds, inputs by number, priority.
    type Task<'a> = (u64, &'a [u32], i32);

    const ALL: [Precedence; 4] =
        [Precedence::LongestPath, Precedence::DepthFirst, Precedence::Submission, Precedence::Random(3)];

    fn urgency(tasks: &[Task<'_>], precedence: Precedence) -> Urgency {
        let mut builder = GraphBuilder::new("test", "/");
        for number in 0..tasks.len() {
            builder.declare(Group::single(format!("t{number}"))).unwrap();
        }
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        for &(millis, inputs, priority) in tasks {
            let expected = Some(Micros::from_millis(millis));
            let options = builder.options(TaskOptions { expected, priority, ..TaskOptions::default() });
            let values = inputs.iter().copied().map(TaskId).collect();
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        let graph = builder.build().unwrap();
        Urgency::of(&graph, &Durations::new(&graph), precedence)
    }

    /// Task numbers in the order in which they would be started.
    fn order(tasks: &[Task<'_>], precedence: Precedence) -> Vec<u32> {
        let urgency = urgency(tasks, precedence);
        let mut order: Vec<u32> = (0..tasks.len() as u32).collect();
        order.sort_by_key(|&task| (urgency.level(TaskId(task)), task));
        order
    }

    #[test]
    fn priority_counts_more_than_the_path_and_the_path_more_than_the_id() {
        let tasks: [Task<'_>; 6] =
            [(1, &[], 0), (1, &[], 0), (1, &[1], 0), (1, &[], -1), (1, &[3], -1), (1, &[], 7)];
        assert_eq!(order(&tasks, Precedence::LongestPath), [5, 1, 0, 2, 3, 4]);
        for precedence in ALL {
            assert_eq!(order(&tasks, precedence)[0], 5, "{precedence:?}");
        }
    }

    #[test]
    fn the_longest_path_is_measured_in_time() {
        // Two tasks in a row against one.
        let check = |each, alone, expected: [u32; 3]| {
            let tasks: [Task<'_>; 3] = [(each, &[], 0), (each, &[0], 0), (alone, &[], 0)];
            assert_eq!(order(&tasks, Precedence::LongestPath), expected);
        };
        check(1, 5, [2, 0, 1]);
        check(3, 5, [0, 2, 1]);
    }

    #[test]
    fn paths_of_years_in_many_priorities_still_have_levels() {
        let year = 365 * 86_400 * 1000;
        let tasks: Vec<Task<'_>> = (0..100).map(|n| (year * (n % 10 + 1), &[][..], n as i32 % 7)).collect();
        let order = order(&tasks, Precedence::LongestPath);
        let facts: Vec<(i32, u64)> =
            order.iter().map(|&n| (tasks[n as usize].2, tasks[n as usize].0)).collect();
        assert!(facts.windows(2).all(|pair| pair[0] >= pair[1]), "{facts:?}");
    }

    #[test]
    fn depth_first_ends_one_branch_before_the_next() {
        // Two pairs, each added up, and both sums added up.
        let pairs: [Task<'_>; 7] = [
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
    fn depth_first_follows_a_long_chain_without_a_deep_stack() {
        let inputs: Vec<[u32; 1]> = (0..100_000).map(|number: u32| [number.saturating_sub(1)]).collect();
        let mut tasks: Vec<Task<'_>> = inputs.iter().map(|input| (1, &input[..], 0)).collect();
        tasks[0].1 = &[];
        assert!(order(&tasks, Precedence::DepthFirst).is_sorted());
    }

    #[test]
    fn chance_is_the_same_for_the_same_number() {
        let tasks: [Task<'_>; 50] = [(1, &[], 0); 50];
        let [one, again, other] = [1, 1, 2].map(|seed| order(&tasks, Precedence::Random(seed)));
        assert!(one == again && one != other && !one.is_sorted());
    }
}
