//! From calls that have not happened to a graph.

use std::collections::HashMap;
use std::sync::Arc;

use crate::core::graph::{Definition, Graph, GraphBuilder, GraphError};
use crate::core::id::{OperationId, Rank, TaskId};
use crate::core::key::{Axis, Group};
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
use crate::core::value::Value;
use crate::runtime::typed;

use super::argument::{self, Source};
use super::delayed::{Node, Standing};
use super::registry::{ISOLATED, KEPT};

/// A graph, and where in it the calls that were asked for stand.
pub struct Assembled {
    /// The graph.
    pub graph: Graph,
    /// The task of each asked call, in their order.
    pub asked: Vec<TaskId>,
}

/// What the graph of a program is made for.
pub struct Assembly<'a> {
    /// The graph's name.
    pub name: &'a str,
    /// Where the program runs.
    pub directory: &'a str,
    /// The calls whose outputs are wanted, each with the number that its output is kept under.
    pub asked: &'a [(Arc<Node>, u64)],
    /// The resource that only the n-th worker has, if outputs have to be taken from where they are.
    pub pins: &'a [String],
}

impl Assembly<'_> {
    /// Everything that the asked calls need and that is not kept from an earlier run.
    ///
    /// Time and memory are linear in calls and arguments; no chain is too long for the stack.
    pub fn assemble(&self) -> Result<Assembled, GraphError> {
        let order = Order::of(self.asked.iter().map(|(node, _)| node));
        let mut builder = GraphBuilder::new(self.name, self.directory);
        let ids = declare(&mut builder, &order)?;
        let numbers = self.asked.iter().map(|(node, number)| (address(node), *number)).collect();
        let mut writer = Writer { assembly: self, order: &order, ids: &ids, numbers, shared: HashMap::new() };
        let mut places: Vec<usize> = (0..order.nodes.len()).collect();
        places.sort_unstable_by_key(|&place| ids[place]);
        for place in places {
            let definition = writer.definition(&mut builder, &order.nodes[place]);
            builder.define(definition)?;
        }
        let asked = self.asked.iter().map(|(node, _)| ids[order.places[&address(node)]]).collect();
        Ok(Assembled { graph: builder.build()?, asked })
    }
}

/// Every call that is needed, each behind those that it needs.
pub(super) struct Order {
    pub nodes: Vec<Arc<Node>>,
    pub places: HashMap<usize, usize>,
}

/// Calls have no names of their own: where they lie tells them apart while somebody holds them.
pub(super) fn address(node: &Arc<Node>) -> usize {
    Arc::as_ptr(node).addr()
}

impl Order {
    pub fn of<'a>(asked: impl Iterator<Item = &'a Arc<Node>>) -> Self {
        let mut order = Order { nodes: Vec::new(), places: HashMap::new() };
        for node in asked {
            order.enter(node);
        }
        order
    }

    /// Depth first, with a stack of its own. A call is met twice: first its inputs go on top of it, then,
    /// with all of them entered, itself.
    fn enter(&mut self, asked: &Arc<Node>) {
        let mut stack = vec![(asked.clone(), false)];
        while let Some((node, is_open)) = stack.pop() {
            if self.places.contains_key(&address(&node)) {
                continue;
            }
            if is_open || node.kept.get().is_some() {
                self.places.insert(address(&node), self.nodes.len());
                self.nodes.push(node);
                continue;
            }
            stack.push((node.clone(), true));
            for source in node.sources().iter().rev() {
                let inputs = inputs_of(source).iter().rev();
                let unknown = inputs
                    .filter(|input| input.standing.is_none() && !self.places.contains_key(&address(input)));
                stack.extend(unknown.map(|input| (input.clone(), false)));
            }
        }
    }
}

fn inputs_of(source: &Source) -> &[Arc<Node>] {
    match source {
        Source::Value(_) => &[],
        Source::Output(node) => std::slice::from_ref(node),
        Source::Outputs(nodes) => nodes,
    }
}

/// Gives every call its id: those of one name are an array, in the order in which they can run.
fn declare(builder: &mut GraphBuilder, order: &Order) -> Result<Vec<TaskId>, GraphError> {
    let mut members: Vec<Vec<usize>> = Vec::new();
    let mut groups: HashMap<String, usize> = HashMap::new();
    for (place, node) in order.nodes.iter().enumerate() {
        let name = node.group();
        let group = match groups.get(name) {
            Some(&group) => group,
            None => {
                members.push(Vec::new());
                groups.insert(name.to_owned(), members.len() - 1);
                members.len() - 1
            }
        };
        members[group].push(place);
    }
    let mut names: Vec<(String, usize)> = groups.into_iter().collect();
    names.sort_unstable_by_key(|(_, group)| *group);
    let mut ids = vec![TaskId(0); order.nodes.len()];
    for (name, group) in names {
        let count = members[group].len() as u32;
        let axis = Axis::Range { first: 0, step: 1, count, width: 1 };
        let first = builder.declare(Group::array(plain(&name), vec![axis]))?;
        for (id, &place) in (first.0..).zip(&members[group]) {
            ids[place] = TaskId(id);
        }
    }
    Ok(ids)
}

/// A name that can be typed on a command line and stands before brackets.
pub(super) fn plain(name: &str) -> String {
    let plain = |letter: char| if letter.is_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
    name.chars().map(plain).collect()
}

struct Writer<'a> {
    assembly: &'a Assembly<'a>,
    order: &'a Order,
    ids: &'a [TaskId],
    numbers: HashMap<usize, u64>,
    /// Operations that hold no value of their own, by function: many calls share them.
    shared: HashMap<String, Vec<(Vec<Argument>, OperationId)>>,
}

impl Writer<'_> {
    fn definition(&mut self, builder: &mut GraphBuilder, node: &Arc<Node>) -> Definition {
        if let Some(kept) = node.kept.get() {
            let number = Argument::Value(Value::Int(kept.number as i64));
            let operation = enter(builder, KEPT.to_owned(), vec![number]);
            let options = builder.options(pinned(self.assembly.pins, kept.worker));
            return Definition { operation, options, ..Definition::default() };
        }
        let mut values = Vec::new();
        let mut arguments = vec![self.number(node)];
        if let Some(Standing::Value(output)) = &node.standing {
            arguments.push(Argument::Value(Value::Text(typed::type_name_of(output).to_owned())));
            arguments.push(argument::value(typed::bytes_of(output)));
        }
        arguments.extend(node.sources().iter().map(|source| self.argument(source, &mut values)));
        let operation = self.operation(builder, function(node), arguments);
        Definition { operation, options: builder.options(options_of(node)), values, orders: Vec::new() }
    }

    /// The first argument of every call: the number that its output is to be kept under, if any.
    fn number(&self, node: &Arc<Node>) -> Argument {
        let number = self.numbers.get(&address(node));
        Argument::Value(number.map_or(Value::Null, |number| Value::Int(*number as i64)))
    }

    fn argument(&self, source: &Source, values: &mut Vec<TaskId>) -> Argument {
        match source {
            Source::Value(bytes) => argument::value(bytes.clone()),
            Source::Output(node) => self.output(node, values),
            Source::Outputs(nodes) => {
                argument::in_a_row(nodes.iter().map(|node| self.output(node, values)).collect())
            }
        }
    }

    fn output(&self, node: &Arc<Node>, values: &mut Vec<TaskId>) -> Argument {
        match node.standing_bytes() {
            Some(bytes) => argument::value(bytes),
            None => Argument::Input(self.input(node, values)),
        }
    }

    /// The position of an input among those of a task, where each stands once.
    fn input(&self, node: &Arc<Node>, values: &mut Vec<TaskId>) -> u32 {
        let task = self.ids[self.order.places[&address(node)]];
        let known = values.iter().position(|&other| other == task);
        known.unwrap_or_else(|| {
            values.push(task);
            values.len() - 1
        }) as u32
    }

    fn operation(
        &mut self,
        builder: &mut GraphBuilder,
        function: String,
        arguments: Vec<Argument>,
    ) -> OperationId {
        let is_its_own =
            |argument: &Argument| matches!(argument, Argument::Value(value) if *value != Value::Null);
        if arguments.iter().any(is_its_own) {
            return enter(builder, function, arguments);
        }
        let known = self.shared.entry(function.clone()).or_default();
        if let Some((_, operation)) = known.iter().find(|(other, _)| *other == arguments) {
            return *operation;
        }
        let operation = enter(builder, function, arguments.clone());
        known.push((arguments, operation));
        operation
    }
}

fn enter(builder: &mut GraphBuilder, function: String, arguments: Vec<Argument>) -> OperationId {
    let body = Body::Call(Call { function, arguments });
    builder.operation(Operation { body, inputs: Vec::new(), outputs: Vec::new() })
}

pub(super) fn function(node: &Node) -> String {
    let is_isolated = node.settings.as_ref().is_some_and(|settings| settings.is_isolated);
    format!("{}{}", if is_isolated { ISOLATED } else { "" }, node.task.id)
}

pub(super) fn options_of(node: &Node) -> TaskOptions {
    node.settings.as_ref().map_or_else(TaskOptions::default, |settings| settings.options.clone())
}

/// Runs where the output is: on the only worker that has this resource.
fn pinned(pins: &[String], worker: Rank) -> TaskOptions {
    let mut options = TaskOptions::default();
    if let Some(pin) = worker.index().checked_sub(1).and_then(|place| pins.get(place)) {
        options.resources.custom.insert(pin.clone(), 1);
    }
    options
}
