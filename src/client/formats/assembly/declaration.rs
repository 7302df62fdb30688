//! What elements can refer to: every task by name, every output by path.

use crate::client::formats::description::{GraphSpec, TASKS_MAX};
use crate::client::formats::disk::absolute_text;
use crate::client::formats::text::{Fault, Outcome, Problem, Span};
use crate::core::graph::{GraphBuilder, GraphError};
use crate::core::id::TaskId;
use crate::core::key::KeyError;
use crate::core::task::Text;

use super::expansion::{ElementKey, Places, Style, scope};
use super::files::Files;
use super::names::Names;

/// Declares every task and array, in the order of the file.
pub(super) fn declare(spec: &GraphSpec, builder: &mut GraphBuilder) -> Outcome<Names> {
    let mut names = Names::default();
    let mut total: u64 = 0;
    for task in &spec.tasks {
        let too_many = || {
            let name = task.name.clone();
            Fault::at(task.span, Problem::TooManyTasks { name, limit: TASKS_MAX })
        };
        let mut group = task.group();
        total += u64::from(group.count().ok_or_else(too_many)?);
        if total > TASKS_MAX {
            return Err(too_many());
        }
        group.first = builder.declare(group.clone()).map_err(|error| match error {
            GraphError::Key(KeyError::Duplicate(name)) => Fault::at(task.span, Problem::DuplicateKey(name)),
            _ => too_many(),
        })?;
        names.add(group, task.span);
    }
    Ok(names)
}

/// Collects the outputs of all elements.
pub(super) fn index_files(spec: &GraphSpec, names: &Names, directory: &str) -> Outcome<Files> {
    let mut outputs = Vec::new();
    for (number, task) in spec.tasks.iter().enumerate() {
        if task.outputs.is_empty() {
            continue;
        }
        let named = names.group(number);
        let mut places = Places::new(task);
        for element in 0..named.count {
            let id = TaskId(named.group.first.0 + element);
            let key = ElementKey::new(&named.group, element as usize);
            let scope = scope(task, &places.places, &key);
            for output in &task.outputs {
                let path = absolute_text(directory, output.expand(&scope, Style::Plain)?);
                if let Text::Plain(path) = path {
                    outputs.push((path, id));
                }
            }
            places.advance();
        }
    }
    Files::new(directory, outputs).map_err(|clash| {
        let [first, second] = clash.tasks.map(|task| names.key(task).unwrap_or_default());
        let later = names.find(second.split('[').next().unwrap_or_default());
        let span = later.map_or(Span::default(), |number| spec.tasks[number].outputs[0].span);
        let fault = Fault::at(
            span,
            Problem::TwoProducers { file: clash.path, first: first.clone(), second: second.clone() },
        );
        match first == second {
            true => fault.hint("the file stands twice in its `outputs`"),
            false => fault,
        }
    })
}
