//! Graphs of known shape and known outcome, for benchmarks and for trying dagmar out.
//!
//! `trivial` is `width * steps` times `noop`. `chain` is `width` chains of `steps` tasks that add
//! one each: every sink is worth `steps`. `tree` adds `width` ones pairwise: its sink is worth
//! `width`, a power of two. The others are `width` points that pass through `steps` steps: the
//! first ones are worth a number below 1000 that `seed` gives, and a later one takes of its inputs
//! in turn the greatest and the least, so that values stay small and a missing input shows.
//!
//! With a `Kernel` every point computes for as long as it says and gives as many bytes as it says,
//! and a last task, `checksum`, takes the last step: benches/taskbench.h does the same in C.

mod kernel;
mod pattern;

use std::fmt;
use std::str::FromStr;

pub use kernel::{Kernel, make_with_kernel};
use pattern::{Chance, inputs_of};

use crate::core::graph::{Definition, Graph, GraphBuilder, GraphError, Progression};
use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::{Axis, Group};
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
use crate::core::value::Value;

/// The shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// No dependencies at all.
    Trivial,
    /// Every task needs the one before.
    Chain,
    /// A reduction, two by two.
    Tree,
    /// A point needs itself and its two neighbours of the step before.
    Stencil1d,
    /// A butterfly: a point needs itself and those at a distance that doubles step by step.
    Fft,
    /// A point needs itself and two that chance names.
    Random,
    /// A point needs itself and two neighbours on either side.
    Nearest,
    /// A point needs five that are spread over the whole width.
    Spread,
    /// A point needs all points of the step before.
    AllToAll,
    /// A point needs itself alone.
    NoComm,
    /// A sweep: a point needs itself and its left neighbour.
    Dom,
    /// A point needs the one at half its place.
    FanOut,
    /// A point needs itself and those of its two neighbours on either side that chance names.
    RandomNearest,
}

/// All shapes by name.
pub const SHAPES: [(&str, Shape); 13] = [
    ("trivial", Shape::Trivial),
    ("chain", Shape::Chain),
    ("tree", Shape::Tree),
    ("stencil_1d", Shape::Stencil1d),
    ("fft", Shape::Fft),
    ("random", Shape::Random),
    ("nearest", Shape::Nearest),
    ("spread", Shape::Spread),
    ("all_to_all", Shape::AllToAll),
    ("no_comm", Shape::NoComm),
    ("dom", Shape::Dom),
    ("fan_out", Shape::FanOut),
    ("random_nearest", Shape::RandomNearest),
];

impl FromStr for Shape {
    type Err = MakeError;

    fn from_str(name: &str) -> Result<Shape, MakeError> {
        let found = SHAPES.iter().find(|(known, _)| *known == name);
        found.map(|(_, shape)| *shape).ok_or_else(|| MakeError::UnknownShape(name.to_owned()))
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = SHAPES.iter().find(|(_, shape)| shape == self);
        out.write_str(known.map_or("", |(name, _)| name))
    }
}

/// How large a graph is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Tasks side by side.
    pub width: u32,
    /// Tasks one after the other. A tree has as many as its width asks for.
    pub steps: u32,
    /// Where chance starts.
    pub seed: u64,
}

/// Why a graph cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MakeError {
    /// No such shape.
    UnknownShape(String),
    /// Neither width nor steps can be zero.
    Empty,
    /// A tree's width is a power of two.
    NotAPowerOfTwo(u32),
    /// A shape whose points are no steps has no kernels.
    NoKernel(Shape),
    /// More tasks or dependencies than a graph can have.
    TooLarge(Size),
}

impl MakeError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let listed =
            |shapes: &[&str]| shapes.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match self {
            MakeError::UnknownShape(_) => Some(format!("shapes: {}", listed(&SHAPES.map(|(name, _)| name)))),
            MakeError::NoKernel(_) => Some(format!("trees with kernels: {}", listed(&["fan_out", "fft"]))),
            _ => None,
        }
    }
}

impl fmt::Display for MakeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MakeError::UnknownShape(name) => write!(out, "there is no shape `{name}`"),
            MakeError::Empty => out.write_str("a graph has at least one task in width and in steps"),
            MakeError::NotAPowerOfTwo(width) => {
                write!(out, "a tree cannot be `{width}` wide: that is no power of two")
            }
            MakeError::NoKernel(shape) => {
                write!(out, "the tasks of a `{shape}` only add: they have no kernel")
            }
            MakeError::TooLarge(size) => {
                write!(out, "a graph of {} by {} is too large", size.width, size.steps)
            }
        }
    }
}

impl std::error::Error for MakeError {}

/// Makes a graph.
pub fn make(shape: Shape, size: Size) -> Result<Graph, MakeError> {
    check(shape, size)?;
    let mut maker = Maker::new(shape, size);
    let made = match shape {
        Shape::Trivial => maker.trivial(),
        Shape::Tree => maker.tree(),
        _ => maker.steps(),
    };
    made.and_then(|()| maker.builder.build()).map_err(|_: GraphError| MakeError::TooLarge(size))
}

/// What the sinks of the graph that `make` makes are worth, in the order of ids.
pub fn expected(shape: Shape, size: Size) -> Result<Vec<Value>, MakeError> {
    check(shape, size)?;
    let (width, steps) = (size.width as usize, size.steps as usize);
    Ok(match shape {
        Shape::Trivial => vec![Value::Null; width * steps],
        Shape::Chain => vec![Value::Int(i64::from(size.steps)); width],
        Shape::Tree => vec![Value::Int(i64::from(size.width))],
        _ => expected_points(shape, size).into_iter().map(Value::Int).collect(),
    })
}

fn expected_points(shape: Shape, size: Size) -> Vec<i64> {
    let mut row: Vec<i64> = (0..size.width).map(|point| first_value(size, point)).collect();
    let (mut sinks, mut inputs) = (Vec::new(), Vec::new());
    for step in 1..size.steps {
        let mut is_needed = vec![false; row.len()];
        let next = (0..size.width).map(|point| {
            inputs_of(shape, size, step, point, &mut inputs);
            inputs.iter().for_each(|&input| is_needed[input as usize] = true);
            let values = inputs.iter().map(|&input| row[input as usize]);
            let taken = if takes_greatest(step) { values.max() } else { values.min() };
            taken.expect("a point needs one at least")
        });
        let next = next.collect();
        sinks.extend(row.iter().zip(is_needed).filter(|(_, is_needed)| !is_needed).map(|(value, _)| value));
        row = next;
    }
    sinks.extend(row);
    sinks
}

fn check(shape: Shape, size: Size) -> Result<(), MakeError> {
    if size.width == 0 || size.steps == 0 {
        return Err(MakeError::Empty);
    }
    if shape == Shape::Tree && !size.width.is_power_of_two() {
        return Err(MakeError::NotAPowerOfTwo(size.width));
    }
    let inputs = if shape == Shape::AllToAll { u64::from(size.width) } else { 1 };
    let dependencies = (inputs * u64::from(size.width)).saturating_mul(u64::from(size.steps - 1));
    if dependencies > u64::from(u32::MAX) {
        return Err(MakeError::TooLarge(size));
    }
    match size
        .width
        .checked_mul(size.steps)
        .filter(|tasks| u64::from(*tasks) <= super::description::TASKS_MAX)
    {
        Some(_) => Ok(()),
        None => Err(MakeError::TooLarge(size)),
    }
}

/// Points of the first step are worth less than this.
const FIRST_VALUES: u32 = 1000;

/// What a point of the first step is worth.
fn first_value(size: Size, point: u32) -> i64 {
    Chance::at(size.seed, 0, point).below(FIRST_VALUES).into()
}

/// Odd steps take the greatest of their inputs, even ones the least.
fn takes_greatest(step: u32) -> bool {
    step % 2 == 1
}

struct Maker {
    builder: GraphBuilder,
    shape: Shape,
    size: Size,
    options: OptionsId,
    /// Operations made so far, by the number of inputs: the greatest, and the least.
    taking: [Vec<Option<OperationId>>; 2],
    /// Operations of the first step, by value.
    giving: Vec<Option<OperationId>>,
}

impl Maker {
    fn new(shape: Shape, size: Size) -> Maker {
        let mut builder = GraphBuilder::new(shape.to_string(), "/");
        let options = builder.options(TaskOptions::default());
        let giving = vec![None; FIRST_VALUES as usize];
        Maker { builder, shape, size, options, taking: Default::default(), giving }
    }

    fn call(&mut self, function: &str, arguments: Vec<Argument>) -> OperationId {
        let body = Body::Call(Call { function: function.into(), arguments });
        self.builder.operation(Operation { body, inputs: vec![], outputs: vec![] })
    }

    fn define(&mut self, operation: OperationId, values: Vec<TaskId>) -> Result<(), GraphError> {
        let definition = Definition { operation, options: self.options, values, orders: vec![] };
        self.builder.define(definition).map(|_| ())
    }

    fn trivial(&mut self) -> Result<(), GraphError> {
        let count = self.size.width * self.size.steps;
        self.builder.declare(Group::array("task", vec![range(count)]))?;
        let noop = self.call("noop", vec![]);
        self.builder.define_alike(count, (noop, self.options), &[], &[]).map(drop)
    }

    /// The leaves are `level[0,*]` in all but name: each level is an array of its own.
    fn tree(&mut self) -> Result<(), GraphError> {
        let levels = self.size.width.trailing_zeros() + 1;
        for level in 0..levels {
            let group = Group::array(format!("level_{level}"), vec![range(self.size.width >> level)]);
            self.builder.declare(group)?;
        }
        let one = self.call("identity", vec![Argument::Value(Value::Int(1))]);
        let add = self.call("add", vec![Argument::Input(0), Argument::Input(1)]);
        self.builder.define_alike(self.size.width, (one, self.options), &[], &[])?;
        // A level's tasks follow those of the level before, so pairs are simply two by two.
        let mut first = TaskId(0);
        for level in 1..levels {
            let pairs = Progression { first, advance: 2, count: 2, step: 1 };
            let count = self.size.width >> level;
            self.builder.define_alike(count, (add, self.options), &[pairs], &[])?;
            first.0 += 2 * count;
        }
        Ok(())
    }

    fn steps(&mut self) -> Result<(), GraphError> {
        let Size { width, steps, .. } = self.size;
        self.builder.declare(Group::array("point", vec![range(steps), range(width)]))?;
        let mut inputs = Vec::new();
        for point in 0..width {
            let operation = self.first(point);
            self.define(operation, vec![])?;
        }
        for step in 1..steps {
            let before = (step - 1) * width;
            for point in 0..width {
                inputs_of(self.shape, self.size, step, point, &mut inputs);
                let operation = self.later(step, inputs.len());
                let values = inputs.iter().map(|input| TaskId(before + input)).collect();
                self.define(operation, values)?;
            }
        }
        Ok(())
    }

    fn first(&mut self, point: u32) -> OperationId {
        let value = match self.shape {
            Shape::Chain => 1,
            _ => first_value(self.size, point),
        };
        if let Some(operation) = self.giving[value as usize] {
            return operation;
        }
        let operation = self.call("identity", vec![Argument::Value(Value::Int(value))]);
        self.giving[value as usize] = Some(operation);
        operation
    }

    fn later(&mut self, step: u32, count: usize) -> OperationId {
        let (slot, function) = match (self.shape, takes_greatest(step)) {
            (Shape::Chain, _) | (_, true) => (0, "max"),
            (_, false) => (1, "min"),
        };
        if let Some(Some(operation)) = self.taking[slot].get(count) {
            return *operation;
        }
        let operation = match self.shape {
            Shape::Chain => self.call("add", vec![Argument::Input(0), Argument::Value(Value::Int(1))]),
            _ => self.call(function, vec![Argument::Inputs { first: 0, count: count as u32 }]),
        };
        let known = self.taking[slot].len().max(count + 1);
        self.taking[slot].resize(known, None);
        self.taking[slot][count] = Some(operation);
        operation
    }
}

fn range(count: u32) -> Axis {
    Axis::Range { first: 0, step: 1, count, width: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the few functions that shapes call.
    fn run(graph: &Graph) -> Vec<Value> {
        let mut values = vec![Value::Null; graph.len()];
        for task in graph.topological_order() {
            let Body::Call(call) = &graph.operation(task).body else { panic!("{task} is no call") };
            let inputs: Vec<i64> =
                graph.value_inputs(task).iter().map(|input| int(&values[input.index()])).collect();
            let numbers: Vec<i64> =
                call.arguments.iter().flat_map(|argument| given(argument, &inputs)).collect();
            values[task.index()] = match call.function.as_str() {
                "noop" => Value::Null,
                "identity" => Value::Int(numbers[0]),
                "add" => Value::Int(numbers[0] + numbers[1]),
                "max" => Value::Int(*numbers.iter().max().unwrap()),
                "min" => Value::Int(*numbers.iter().min().unwrap()),
                other => panic!("{other}"),
            };
        }
        graph.sinks().map(|task| values[task.index()].clone()).collect()
    }

    fn int(value: &Value) -> i64 {
        let Value::Int(number) = value else { panic!("{value:?}") };
        *number
    }

    fn given(argument: &Argument, inputs: &[i64]) -> Vec<i64> {
        match argument {
            Argument::Value(value) => vec![int(value)],
            Argument::Input(position) => vec![inputs[*position as usize]],
            Argument::Inputs { first, count } => inputs[*first as usize..][..*count as usize].to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_shape_is_worth_what_is_expected() {
        for (name, shape) in SHAPES {
            for (width, steps) in [(1, 1), (1, 7), (8, 1), (16, 9), (2, 2)] {
                let size = Size { width, steps, seed: 42 };
                let graph = make(shape, size).unwrap();
                assert_eq!(run(&graph), expected(shape, size).unwrap(), "{name} {width} x {steps}");
            }
        }
    }

    #[test]
    fn shapes_without_powers_of_two_work_too() {
        for (name, shape) in SHAPES.into_iter().filter(|(_, shape)| *shape != Shape::Tree) {
            let size = Size { width: 13, steps: 6, seed: 7 };
            assert_eq!(run(&make(shape, size).unwrap()), expected(shape, size).unwrap(), "{name}");
        }
    }

    #[test]
    fn shapes_share_few_operations() {
        let size = Size { width: 1000, steps: 50, seed: 1 };
        let graph = make(Shape::Stencil1d, size).unwrap();
        assert_eq!(graph.len(), 50_000);
        assert!(graph.columns().operations.len() <= 1000 + 4);
        assert_eq!(graph.dependency_count(), 49 * (3 * 1000 - 2));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let check = |shape, width, steps, expected| {
            assert_eq!(make(shape, Size { width, steps, seed: 0 }).unwrap_err(), expected);
        };
        check(Shape::Tree, 12, 1, MakeError::NotAPowerOfTwo(12));
        check(Shape::Chain, 0, 1, MakeError::Empty);
        let size = Size { width: 1 << 20, steps: 1 << 20, seed: 0 };
        check(Shape::Dom, size.width, size.steps, MakeError::TooLarge(size));
        assert_eq!("star".parse::<Shape>(), Err(MakeError::UnknownShape("star".into())));
    }
}
