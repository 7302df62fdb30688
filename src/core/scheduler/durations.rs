//! How long tasks of one kind take, as measured so far. A kind is a task array or a single task.

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::task::Body;
use crate::core::time::Micros;

/// Run times of functions that were never measured are taken to be this long.
const FUNCTION_GUESS: Micros = Micros::from_millis(1);
/// Run times of programs that were never measured are taken to be this long.
const COMMAND_GUESS: Micros = Micros::from_millis(500);
/// The mean follows the last this many measurements.
const WINDOW: u32 = 32;

/// A moving mean of the run time of each kind.
#[derive(Debug)]
pub struct Durations {
    kinds: Vec<Kind>,
    /// The end of each kind's range of task ids, ascending.
    ends: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    mean_us: u32,
    measured: u32,
}

impl Durations {
    /// Guesses for a graph: the author's `expected`, else by whether it is a function or a program.
    pub fn new(graph: &Graph) -> Self {
        let groups = graph.keys().groups().iter().filter(|group| group.count() != Some(0));
        let kinds = groups.clone().map(|group| Kind { mean_us: guess(graph, group.first), measured: 0 });
        let ends = groups.map(|group| group.first.0 + group.count().unwrap_or(0));
        Durations { kinds: kinds.collect(), ends: ends.collect() }
    }

    /// What a task is expected to take, in microseconds; at least 1.
    pub fn expected_us(&self, task: TaskId) -> u32 {
        self.kinds[self.kind(task)].mean_us
    }

    /// Takes a measurement in.
    pub fn measured(&mut self, task: TaskId, ran: Micros) {
        let kind = self.kind(task);
        let kind = &mut self.kinds[kind];
        kind.measured = (kind.measured + 1).min(WINDOW);
        let old = i64::from(kind.mean_us);
        let new = i64::from(clamp_us(ran));
        let mean = old + (new - old) / i64::from(kind.measured);
        kind.mean_us = u32::try_from(mean).unwrap_or(u32::MAX).max(1);
    }

    fn kind(&self, task: TaskId) -> usize {
        self.ends.partition_point(|&end| end <= task.0)
    }
}

fn guess(graph: &Graph, task: TaskId) -> u32 {
    if let Some(expected) = graph.options(task).expected {
        return clamp_us(expected);
    }
    clamp_us(match graph.operation(task).body {
        Body::Command(_) => COMMAND_GUESS,
        Body::Call(_) | Body::Join => FUNCTION_GUESS,
    })
}

fn clamp_us(span: Micros) -> u32 {
    u32::try_from(span.0).unwrap_or(u32::MAX).max(1)
}
