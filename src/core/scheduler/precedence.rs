//! Which order tasks of one `priority` have: the policies that `Options` chooses from.

use crate::core::graph::{Graph, Levels};
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

/// From one choice of steps to the next, if they were too small.
const COARSER: f32 = 1000.0;

impl Precedence {
    /// For each task a number up to `most`; the greatest goes first, and of equals the lower id.
    pub(super) fn weigh(self, graph: &Graph, most: u32) -> Levels {
        let listed = match self {
            Precedence::LongestPath => return paths_to_exit(graph, most),
            Precedence::DepthFirst => walk_from_exits(graph, most),
            Precedence::Submission => vec![0; graph.len()],
            Precedence::Random(seed) => {
                let chance = |task: TaskId| scatter(seed ^ u64::from(task.0)) % (u64::from(most) + 1);
                graph.tasks().map(|task| chance(task) as u32).collect()
            }
        };
        Levels::listed(graph, listed)
    }
}

/// The longest path from each task to an exit: in microseconds, or in larger steps if `most` are too few
/// for the longest of all. Hidden joins add nothing, every other task at least one step.
fn paths_to_exit(graph: &Graph, most: u32) -> Levels {
    let durations = Durations::new(graph);
    let mut step_us = 1.0;
    loop {
        let levels = Levels::to_exit(graph, |task| ((durations.expected_us(task) / step_us) as u32).max(1));
        // A path of tasks that are one step each is no shorter in larger steps.
        if levels.greatest() <= most || step_us > f32::MAX / COARSER {
            return levels;
        }
        step_us *= COARSER;
    }
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
