//! Which tasks need not run because their files are there, and are not older than what they are made of.

use std::fs;
use std::time::SystemTime;

use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::scheduler::{Files, Skipping};
use crate::core::task::{Operation, Text};
use crate::core::task_list::TaskList;

use super::looks::look_at_all;

/// Looks at the files of all tasks that are needed, and decides as make does.
pub(super) fn skipping(graph: &Graph, asked: &TaskList) -> Skipping {
    let needed = graph.needed_by(asked);
    let has_files = |task: &TaskId| !graph.operation(*task).outputs.is_empty();
    let tasks: Vec<TaskId> = needed.iter(graph.len()).filter(has_files).collect();
    let found = look_at_all(&tasks, |task| is_up_to_date(graph.operation(*task)));
    Skipping::find(graph, asked, |task| match tasks.binary_search(&task) {
        Err(_) => Files::None,
        Ok(place) if found[place] => Files::UpToDate,
        Ok(_) => Files::Stale,
    })
}

/// True if all outputs are there and none is older than an input. What cannot be looked at is not there.
fn is_up_to_date(operation: &Operation) -> bool {
    let oldest = operation.outputs.iter().map(changed).min();
    let oldest = oldest.expect("it declares outputs");
    oldest.is_some() && operation.inputs.iter().map(changed).all(|input| input.is_some() && input <= oldest)
}

/// When a file was written last.
fn changed(file: &Text) -> Option<SystemTime> {
    fs::metadata(&*file.resolve(Attempt::FIRST)).and_then(|found| found.modified()).ok()
}
