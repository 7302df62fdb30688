//! Which order tasks of one `priority` have: the policies that `Options` chooses from.

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

impl Precedence {
    /// For each task a number up to `most`; the greatest goes first, and of equals the lower id.
    pub(super) fn weights(self, graph: &Graph, durations: &Durations, most: u32) -> Vec<u32> {
        match self {
            Precedence::LongestPath => paths_to_exit(graph, durations, most),
            Precedence::DepthFirst => walk_from_exits(graph, most),
            Precedence::Submission => vec![0; graph.len()],
            Precedence::Random(seed) => {
                let chance = |task: TaskId| scatter(seed ^ u64::from(task.0)) % (u64::from(most) + 1);
                graph.tasks().map(|task| chance(task) as u32).collect()
            }
        }
    }
}

/// The longest path from each task to an exit: in microseconds, or in larger steps if `most` are too few
/// for the longest of all. Hidden joins add nothing.
fn paths_to_exit(graph: &Graph, durations: &Durations, most: u32) -> Vec<u32> {
    let mut paths = vec![0.0_f64; graph.len()];
    for task in graph.topological_order().rev() {
        let below = graph.dependents(task).iter().map(|dependent| paths[dependent.index()]);
        let own = if graph.is_join(task) { 0.0 } else { f64::from(durations.expected_us(task)) };
        paths[task.index()] = below.fold(0.0, f64::max) + own;
    }
    let longest = paths.iter().copied().fold(0.0, f64::max);
    let step_us = (longest / f64::from(most)).max(1.0);
    paths.into_iter().map(|path| (path / step_us) as u32).collect()
}

/// Numbers tasks downwards as a walk from the exits leaves them, inputs first. No recursion, however
/// long a chain is.
fn walk_from_exits(graph: &Graph, most: u32) -> Vec<u32> {
    let tasks_a_step = (graph.len() as u32 / most.max(1)) + 1;
    let mut weights = vec![0; graph.len()];
    let mut is_entered = vec![false; graph.len()];
    let mut left = graph.len() as u32;
    for exit in graph.sinks() {
        let mut way = vec![(exit, false)];
        while let Some((task, is_done)) = way.pop() {
            if is_done {
                left -= 1;
                weights[task.index()] = left / tasks_a_step;
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
