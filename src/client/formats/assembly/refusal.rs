//! What the graph's builder refuses, in the words and at the places of the file.

use crate::client::formats::description::{GraphSpec, TASKS_MAX};
use crate::client::formats::text::{Fault, Problem, Span};
use crate::core::graph::GraphError;
use crate::core::id::TaskId;
use crate::core::key::{KeyError, Keys};

use super::expansion::{ElementKey, scope};
use super::hidden;
use super::links;
use super::names::{Found, Names};

/// The builder's error as a fault of the file.
pub fn graph_fault(error: GraphError) -> Box<Fault> {
    match error {
        GraphError::Cycle(_) => Fault::whole(Problem::Inconsistent("a graph in parts has a cycle")),
        GraphError::Key(KeyError::Duplicate(name)) => Fault::whole(Problem::DuplicateKey(name)),
        GraphError::Key(KeyError::TooMany) => {
            Fault::whole(Problem::TooManyTasks { name: String::new(), limit: TASKS_MAX })
        }
        GraphError::TooManyDependencies => Fault::whole(Problem::TooManyDependencies),
        GraphError::Key(KeyError::Inconsistent(how)) | GraphError::Inconsistent(how) => {
            Fault::whole(Problem::Inconsistent(how))
        }
    }
}

/// The cycle stands where its first task names the next one. Between files nothing is named, and
/// the cycle stands where that task does.
pub(super) fn cycle_fault(cycle: &[TaskId], spec: &GraphSpec, keys: &Keys, names: &Names) -> Box<Fault> {
    let shown = |task: TaskId| hidden::shown(&keys.key(task)).to_owned();
    let problem = Problem::Cycle(cycle.iter().map(|task| shown(*task)).collect());
    let visible = cycle.iter().enumerate().find_map(|(at, task)| Some((at, names.group_of(*task)?)));
    let Some((at, named)) = visible else { return Fault::whole(problem) };
    let next = cycle[(at + 1) % cycle.len()];
    let span = naming(cycle[at], next, &shown(next), spec, names);
    Fault::at(span.unwrap_or(named.span), problem)
}

/// Where a task names another one, or the array that this is part of or stands for.
fn naming(task: TaskId, other: TaskId, other_shown: &str, spec: &GraphSpec, names: &Names) -> Option<Span> {
    let named = names.group_of(task)?;
    let element = (task.0 - named.group.first.0) as usize;
    let (key, places) = (ElementKey::new(&named.group, element), named.group.places(element));
    let spec = &spec.tasks[names.find(&named.group.name)?];
    let scope = scope(spec, &places, &key);
    let shown = names.find_key(other_shown);
    let is_other = |found: Found| match found {
        Found::One(task) => task == other,
        Found::Whole(number) => shown == Some(found) || names.group(number).contains(other),
    };
    let mut references = spec.references.iter().chain(&spec.after);
    let naming = references.find(|reference| {
        links::resolve(reference, names, &scope).is_ok_and(|found| found.is_some_and(is_other))
    });
    naming.map(|reference| reference.span)
}
