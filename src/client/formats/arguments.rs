//! Arguments of calls: from the file's tree to what they say, and from there to an operation's.

use crate::core::id::TaskId;
use crate::core::task::{Argument, Text};
use crate::core::value::Value;

use super::fault::Outcome;
use super::reference::Reference;
use super::spec::ArgumentSpec;
use super::template::{Hole, Scope, Style, Template};
use super::tree::{Node, Tree};
use super::vocabulary::Vocabulary;

/// Reads one argument; tasks that it names go to `references`.
pub(super) fn read_argument(
    node: &Node,
    vocabulary: Vocabulary<'_>,
    references: &mut Vec<Reference>,
) -> Outcome<ArgumentSpec> {
    if let Some(value) = node.scalar().filter(|value| !matches!(value, Value::Text(_))) {
        return Ok(ArgumentSpec::Value(value));
    }
    match &node.tree {
        Tree::Text(text) => read_text(text, node, vocabulary, references),
        Tree::List(nodes) => {
            let items = nodes.iter().map(|node| read_argument(node, vocabulary, references));
            Ok(fold_list(items.collect::<Outcome<_>>()?))
        }
        Tree::Table(entries) => {
            let items = entries
                .iter()
                .map(|entry| Ok((entry.key.clone(), read_argument(&entry.node, vocabulary, references)?)));
            Ok(fold_map(items.collect::<Outcome<_>>()?))
        }
        Tree::Null | Tree::Bool(_) | Tree::Int(_) | Tree::Float(..) => {
            unreachable!("values without parts were taken before")
        }
    }
}

fn read_text(
    text: &str,
    node: &Node,
    vocabulary: Vocabulary<'_>,
    references: &mut Vec<Reference>,
) -> Outcome<ArgumentSpec> {
    let text = match text.strip_prefix('@') {
        Some(rest) if rest.starts_with('@') => rest,
        Some(key) => {
            let vocabulary = Vocabulary { allowed: &["key"], ..vocabulary };
            references.push(Reference::parse(key, node.span, "args", vocabulary)?);
            return Ok(ArgumentSpec::Reference(references.len() - 1));
        }
        None => text,
    };
    let template = Template::parse(text, node.span, vocabulary)?;
    Ok(match (template.constant(), template.lone()) {
        (Some(text), _) => ArgumentSpec::Value(Value::Text(text.to_owned())),
        (None, Some(hole @ (Hole::Variable(..) | Hole::Inputs | Hole::Outputs))) => {
            ArgumentSpec::Hole(hole, node.span)
        }
        _ => ArgumentSpec::Text(template),
    })
}

/// A list in which nothing expands is one value.
fn fold_list(items: Vec<ArgumentSpec>) -> ArgumentSpec {
    if !items.iter().all(|item| matches!(item, ArgumentSpec::Value(_))) {
        return ArgumentSpec::List(items);
    }
    ArgumentSpec::Value(Value::List(items.into_iter().filter_map(into_value).collect()))
}

fn fold_map(items: Vec<(String, ArgumentSpec)>) -> ArgumentSpec {
    if !items.iter().all(|(_, item)| matches!(item, ArgumentSpec::Value(_))) {
        return ArgumentSpec::Map(items);
    }
    let entries = items.into_iter().filter_map(|(key, item)| Some((key, into_value(item)?)));
    ArgumentSpec::Value(Value::Map(entries.collect()))
}

fn into_value(item: ArgumentSpec) -> Option<Value> {
    match item {
        ArgumentSpec::Value(value) => Some(value),
        _ => None,
    }
}

/// Which of a task's value inputs a reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// None: an optional element that is not there.
    Missing,
    Input(u32),
    Inputs {
        first: u32,
        count: u32,
    },
    /// A list of inputs that do not lie side by side.
    Scattered(Vec<u32>),
}

/// An operation's argument for one element; none where an optional one is missing.
pub(super) fn build_argument(
    spec: &ArgumentSpec,
    slots: &[Slot],
    scope: &Scope<'_>,
) -> Outcome<Option<Argument>> {
    Ok(Some(match spec {
        ArgumentSpec::Value(value) => Argument::Value(value.clone()),
        ArgumentSpec::Hole(Hole::Variable(number, form), span) => {
            Argument::Value(scope.value(*number, *form, *span)?)
        }
        ArgumentSpec::Hole(Hole::Outputs, _) => paths(scope.outputs.to_vec()),
        ArgumentSpec::Hole(..) => paths(scope.inputs.iter().map(|path| path.clone().into()).collect()),
        ArgumentSpec::Text(template) => text(template.expand(scope, Style::Plain)?),
        ArgumentSpec::Reference(number) => return Ok(slot_argument(&slots[*number])),
        ArgumentSpec::List(items) => Argument::List(build_arguments(items, slots, scope)?),
        ArgumentSpec::Map(entries) => {
            let mut built = Vec::with_capacity(entries.len());
            for (key, item) in entries {
                built.extend(build_argument(item, slots, scope)?.map(|argument| (key.clone(), argument)));
            }
            Argument::Map(built)
        }
    }))
}

/// All arguments of a call for one element.
pub(super) fn build_arguments(
    specs: &[ArgumentSpec],
    slots: &[Slot],
    scope: &Scope<'_>,
) -> Outcome<Vec<Argument>> {
    let built = specs.iter().map(|spec| build_argument(spec, slots, scope));
    built.filter_map(Result::transpose).collect()
}

fn slot_argument(slot: &Slot) -> Option<Argument> {
    match slot {
        Slot::Missing => None,
        Slot::Input(position) => Some(Argument::Input(*position)),
        Slot::Inputs { first, count } => Some(Argument::Inputs { first: *first, count: *count }),
        Slot::Scattered(positions) => {
            Some(Argument::List(positions.iter().copied().map(Argument::Input).collect()))
        }
    }
}

fn text(text: Text) -> Argument {
    match text {
        Text::Plain(text) => Argument::Value(Value::Text(text)),
        open => Argument::Text(open),
    }
}

fn paths(paths: Vec<Text>) -> Argument {
    Argument::List(paths.into_iter().map(text).collect())
}

/// A task's value inputs in the making: each task once, found again by its position.
#[derive(Default)]
pub(super) struct Positions {
    pub tasks: Vec<TaskId>,
    index: std::collections::HashMap<TaskId, u32>,
}

/// Inputs up to which a scan finds positions faster than a hash.
const SCANNED_MAX: usize = 32;

impl Positions {
    /// The position of a task, which is added if it is new.
    pub fn of(&mut self, task: TaskId) -> u32 {
        if let Some(position) = self.find(task) {
            return position;
        }
        self.tasks.push(task);
        (self.tasks.len() - 1) as u32
    }

    /// The positions of `count` tasks from `first` on.
    pub fn of_all(&mut self, first: TaskId, count: u32) -> Slot {
        let all = first.0..first.0 + count;
        if self.tasks.iter().any(|task| all.contains(&task.0)) {
            return Slot::Scattered(all.map(|task| self.of(TaskId(task))).collect());
        }
        let position = self.tasks.len() as u32;
        self.tasks.extend(all.map(TaskId));
        Slot::Inputs { first: position, count }
    }

    fn find(&mut self, task: TaskId) -> Option<u32> {
        if self.tasks.len() <= SCANNED_MAX {
            return self.tasks.iter().position(|other| *other == task).map(|position| position as u32);
        }
        for position in self.index.len()..self.tasks.len() {
            self.index.insert(self.tasks[position], position as u32);
        }
        self.index.get(&task).copied()
    }
}
