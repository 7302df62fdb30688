//! From the call that a task returns to what it submits: the same calls, as an addition to the graph that runs.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::addition::{Addition, NewTask, Source, Work};
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
use crate::core::value::Value;
use crate::runtime::typed;

use super::argument;
use super::assembly::{Order, address, function, options_of, plain};
use super::delayed::{Node, Standing};
use super::registry::SAME;

/// What a task submits that leaves its output to this call. `number` is the argument of the task under which
/// its output is to be kept; so it is for what the task becomes.
///
/// Time and memory are linear in calls and arguments.
pub(super) fn addition(root: &Arc<Node>, number: Argument) -> Result<Addition, String> {
    let order = Order::of(std::iter::once(root));
    let mut writer = Writer { order: &order, numbers: HashMap::new(), shared: Shared::default() };
    let mut addition = Addition::default();
    let mut names: HashMap<String, u32> = HashMap::new();
    for (place, node) in order.nodes.iter().enumerate() {
        if node.kept.get().is_some() {
            return Err("what it submits takes an output that is kept from before the run".to_owned());
        }
        if address(node) == address(root) {
            addition.becomes = Some(writer.work(node, number.clone()));
        } else if node.standing.is_none() {
            let name = plain(node.group());
            let next = names.len() as u32;
            let name = *names.entry(name.clone()).or_insert_with(|| {
                addition.names.push(name);
                next
            });
            let work = writer.work(node, Argument::Value(Value::Null));
            writer.numbers.insert(place, addition.tasks.len() as u32);
            addition.tasks.push(NewTask { name, work });
        }
    }
    (addition.operations, addition.options) = (writer.shared.operations, writer.shared.options);
    Ok(addition)
}

/// Operations and options, those that are alike once.
#[derive(Default)]
struct Shared {
    operations: Vec<Arc<Operation>>,
    options: Vec<Arc<TaskOptions>>,
}

impl Shared {
    fn operation(&mut self, function: String, arguments: Vec<Argument>) -> u32 {
        let body = Body::Call(Call { function, arguments });
        let operation = Operation { body, inputs: Vec::new(), outputs: Vec::new() };
        // Calls in a row are often alike; to compare with all would take too long.
        if self.operations.last().is_none_or(|last| **last != operation) {
            self.operations.push(Arc::new(operation));
        }
        self.operations.len() as u32 - 1
    }

    fn options(&mut self, options: TaskOptions) -> u32 {
        let known = self.options.iter().rposition(|other| **other == options);
        known.unwrap_or_else(|| {
            self.options.push(Arc::new(options));
            self.options.len() - 1
        }) as u32
    }
}

struct Writer<'a> {
    order: &'a Order,
    /// The number of each new task, by its place in the order.
    numbers: HashMap<usize, u32>,
    shared: Shared,
}

impl Writer<'_> {
    fn work(&mut self, node: &Arc<Node>, number: Argument) -> Work {
        let mut values = Inputs::default();
        let mut arguments = vec![number];
        let function = match node.standing {
            Some(_) => {
                arguments.push(self.output(node, &mut values));
                SAME.to_owned()
            }
            None => {
                arguments.extend(node.sources().iter().map(|source| self.argument(source, &mut values)));
                function(node)
            }
        };
        let operation = self.shared.operation(function, arguments);
        let options = self.shared.options(options_of(node));
        Work { operation, place: 0, options, values: values.sources }
    }

    fn argument(&self, source: &argument::Source, values: &mut Inputs) -> Argument {
        match source {
            argument::Source::Value(bytes) => argument::value(bytes.clone()),
            argument::Source::Output(node) => self.output(node, values),
            argument::Source::Outputs(nodes) => {
                let all: Vec<Argument> = nodes.iter().map(|node| self.output(node, values)).collect();
                argument::in_a_row(all)
            }
        }
    }

    fn output(&self, node: &Arc<Node>, values: &mut Inputs) -> Argument {
        match &node.standing {
            Some(Standing::Value(output)) => argument::value(typed::bytes_of(output)),
            Some(Standing::Taken(place)) => Argument::Input(values.position(Source::Taken(*place))),
            None => {
                let place = self.order.places[&address(node)];
                Argument::Input(values.position(Source::New(self.numbers[&place])))
            }
        }
    }
}

/// The inputs of one task, each once.
#[derive(Default)]
struct Inputs {
    sources: Vec<Source>,
    positions: HashMap<(bool, u32), u32>,
}

impl Inputs {
    fn position(&mut self, source: Source) -> u32 {
        let key = match source {
            Source::New(number) => (true, number),
            Source::Taken(place) => (false, place),
            Source::Known(task) => (false, task.0),
        };
        *self.positions.entry(key).or_insert_with(|| {
            self.sources.push(source);
            self.sources.len() as u32 - 1
        })
    }
}
