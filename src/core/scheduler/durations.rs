//! How long tasks of one kind take and how large their values are, as measured so far. A kind is a task
//! array, or all single tasks that call one function.

use std::collections::BTreeMap;

use crate::core::batch::Batch;
use crate::core::column::Column;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::task::{Body, Operation, TaskOptions};
use crate::core::time::{Micros, Timestamp};

use super::growth::function_of;

/// Run time in microseconds that functions are taken to have until one was measured.
const FUNCTION_GUESS_US: f32 = 50.0;
/// Run time in microseconds that Python functions are taken to have until one was measured.
const PYTHON_GUESS_US: f32 = 10_000.0;
/// Run time in microseconds that programs are taken to have until one was measured.
const COMMAND_GUESS_US: f32 = 500_000.0;
/// No task takes less, in microseconds: what running nothing costs.
const LEAST_US: f32 = 0.05;
/// The mean follows the last this many measurements.
const WINDOW: u32 = 32;

/// A moving mean of the run time of each kind.
#[derive(Debug)]
pub struct Durations {
    kinds: Vec<Kind>,
    /// The end of each group's range of task ids, ascending, and its kind.
    ends: Vec<(u32, usize)>,
    /// The kinds of single tasks, by what they call and how long that was guessed to take.
    functions: BTreeMap<(String, u32), usize>,
    /// Of each task that the graph did not begin with so: its kind, as kind + 1.
    grown: Column<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    mean_us: f32,
    mean_bytes: f32,
    measured: u32,
}

impl Durations {
    /// Guesses for a graph: the author's `expected`, else by whether it is a function or a program.
    pub fn new(graph: &Graph) -> Self {
        let (kinds, ends, grown) = (Vec::new(), Vec::new(), Column::new(0));
        let mut durations = Durations { kinds, ends, functions: BTreeMap::new(), grown };
        let mut functions: BTreeMap<(&str, u32), usize> = BTreeMap::new();
        for group in graph.keys().groups().iter().filter(|group| group.count() != Some(0)) {
            let guess = guess(graph.operation(group.first), graph.options(group.first));
            let count = group.count().unwrap_or(0);
            let new = durations.kinds.len();
            let kind = match (&graph.operation(group.first).body, count) {
                (Body::Call(call), 1) => *functions.entry((&call.function, guess.to_bits())).or_insert(new),
                _ => new,
            };
            if kind == new {
                durations.kinds.push(Kind { mean_us: guess, mean_bytes: 0.0, measured: 0 });
            }
            durations.ends.push((group.first.0 + count, kind));
        }
        let functions = functions.into_iter();
        durations.functions =
            functions.map(|((function, guess), kind)| ((function.to_owned(), guess), kind)).collect();
        durations
    }

    /// What a task is expected to take, in microseconds; more than 0.
    pub fn expected_us(&self, task: TaskId) -> f32 {
        self.kinds[self.kind(task)].mean_us
    }

    /// How large its output is expected to be; 0 until one of its kind has ended.
    pub fn expected_bytes(&self, task: TaskId) -> f32 {
        self.kinds[self.kind(task)].mean_bytes
    }

    /// Takes measurements in, and what all outputs have together; all are taken to be of the kind of the first.
    pub fn measured(&mut self, batch: &Batch, bytes: u64) {
        let Some(first) = batch.spans.first() else { return };
        let kind = self.kind(first.first);
        let kind = &mut self.kinds[kind];
        let count = batch.len().max(1);
        kind.measured = kind.measured.saturating_add(count).min(WINDOW.max(count));
        let mean = batch.ran.0 as f32 / count as f32;
        let weight = (count as f32 / kind.measured as f32).min(1.0);
        kind.mean_us = (kind.mean_us + (mean - kind.mean_us) * weight).max(LEAST_US);
        kind.mean_bytes += (bytes as f32 / count as f32 - kind.mean_bytes) * weight;
        kind.measured = kind.measured.min(WINDOW);
    }

    /// A task was submitted, or has become another.
    pub fn learn(&mut self, task: TaskId, operation: &Operation, options: &TaskOptions) {
        let guess = guess(operation, options);
        let key = (function_of(&operation.body).unwrap_or_default().to_owned(), guess.to_bits());
        let new = self.kinds.len();
        let kind = *self.functions.entry(key).or_insert(new);
        if kind == new {
            self.kinds.push(Kind { mean_us: guess, mean_bytes: 0.0, measured: 0 });
        }
        self.grown.set(task, kind as u32 + 1);
    }

    /// An attempt that left its output to others took so long.
    pub fn took(&mut self, task: TaskId, ran: Micros) {
        let mut batch = Batch::new(Attempt::FIRST);
        batch.push(task, Timestamp::default(), ran, 0);
        self.measured(&batch, 0);
    }

    fn kind(&self, task: TaskId) -> usize {
        if let Some(kind) = self.grown.get(task).checked_sub(1) {
            return kind as usize;
        }
        self.ends[self.ends.partition_point(|&(end, _)| end <= task.0)].1
    }
}

fn guess(operation: &Operation, options: &TaskOptions) -> f32 {
    if let Some(Micros(expected)) = options.expected {
        return (expected as f32).max(LEAST_US);
    }
    match operation.body {
        Body::Command(_) => COMMAND_GUESS_US,
        Body::Python(_) | Body::Pickled(_) | Body::PickledCall(_) => PYTHON_GUESS_US,
        Body::Call(_) | Body::Join => FUNCTION_GUESS_US,
    }
}
