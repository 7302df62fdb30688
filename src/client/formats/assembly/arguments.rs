//! A call's arguments for one element, and the value inputs that they stand for.

use std::collections::HashMap;

use crate::client::formats::description::{ArgumentSpec, Hole};
use crate::client::formats::text::Outcome;
use crate::core::id::TaskId;
use crate::core::task::{Argument, Text};
use crate::core::value::Value;

use super::expansion::{Scope, Style};

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

/// All arguments of a call for one element.
pub(super) fn build_arguments(
    specs: &[ArgumentSpec],
    slots: &[Slot],
    scope: &Scope<'_>,
) -> Outcome<Vec<Argument>> {
    let built = specs.iter().map(|spec| build_argument(spec, slots, scope));
    built.filter_map(Result::transpose).collect()
}

/// An operation's argument for one element; none where an optional one is missing.
fn build_argument(spec: &ArgumentSpec, slots: &[Slot], scope: &Scope<'_>) -> Outcome<Option<Argument>> {
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
        ArgumentSpec::Map(entries) => Argument::Map(build_entries(entries, slots, scope)?),
    }))
}

/// Arguments with names, for one element.
pub(super) fn build_entries(
    specs: &[(String, ArgumentSpec)],
    slots: &[Slot],
    scope: &Scope<'_>,
) -> Outcome<Vec<(String, Argument)>> {
    let mut built = Vec::with_capacity(specs.len());
    for (name, spec) in specs {
        built.extend(build_argument(spec, slots, scope)?.map(|argument| (name.clone(), argument)));
    }
    Ok(built)
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
    index: HashMap<TaskId, u32>,
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
