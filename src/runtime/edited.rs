//! A run that was begun before is taken, and with it the graph that it goes on with: its last one, or a new one.
//!
//! A new graph lies in the run directory, synced, before the journal names it. If this process ends in between, the run
//! has a file that nobody reads, and goes on with the graph that it had.

use std::io;
use std::sync::Arc;

use crate::core::edit::{Comparison, Lineage, Reason};
use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::task_set::TaskSet;
use crate::record::layout::RunDirectory;
use crate::record::lease::Taken;
use crate::record::{edits, packed, publish};

use super::beginning;
use super::scheduler_loop::SchedulerError;

/// A run that this process has.
pub struct TakenOver {
    /// The right to schedule it.
    pub taken: Taken,
    /// What this life changes about its graph.
    pub comparison: Option<Comparison>,
}

/// Takes a run that goes on with a graph that it has. The directory knows which one that was when it was read.
pub fn take(directory: &RunDirectory) -> Result<TakenOver, SchedulerError> {
    let taken = beginning::take(directory)?;
    match read(directory)? == **directory.lineage() {
        true => Ok(TakenOver { taken, comparison: None }),
        false => Err(SchedulerError::Edited),
    }
}

/// Takes a run that goes on with another graph, of which these keys are asked. The directory that is given back knows it.
pub fn take_with(
    directory: RunDirectory,
    graph: &Graph,
    keys: &[String],
) -> Result<(RunDirectory, TakenOver), SchedulerError> {
    let taken = beginning::take(&directory)?;
    let lineage = read(&directory)?;
    let directory = directory.with_lineage(Arc::new(lineage.clone()));
    let old = open(&directory, lineage.current())?;
    let mut comparison = Comparison::of(&old, graph);
    (comparison.edit.graph, comparison.edit.keys) = (taken.segment.number(), keys.to_vec());
    let path = directory.graph_of(comparison.edit.graph);
    let write = |file: &mut std::fs::File| packed::write(graph, io::BufWriter::new(file));
    publish::publish_with(&path, write).map_err(|error| SchedulerError::Graph(path, error.to_string()))?;
    let mut lineage = lineage;
    lineage.push(comparison.edit.clone());
    let directory = directory.with_lineage(Arc::new(lineage));
    Ok((directory, TakenOver { taken, comparison: Some(comparison) }))
}

/// One of the graphs that a run had, as it began.
pub(super) fn open(directory: &RunDirectory, number: u32) -> Result<Graph, SchedulerError> {
    let path = directory.graph_of(number);
    packed::open(&path).map_err(|error| SchedulerError::Graph(path, error.to_string()))
}

fn read(directory: &RunDirectory) -> Result<Lineage, SchedulerError> {
    edits::read(directory).map_err(|error| SchedulerError::Resume(Box::new(error.into())))
}

/// The tasks that a resumed run has to do.
pub(super) fn tasks_to_do(event: &Event, tasks: usize) -> TaskSet {
    let mut due = TaskSet::new(tasks);
    if let Event::RunResumed { to_do, .. } = event {
        to_do.iter().for_each(|span| due.insert_all(span.first.0..span.end().0));
    }
    due
}

/// What is told of an edit: which of the tasks to do run because of it, and what is gone. What follows from itself comes
/// before what follows from others.
pub(super) fn lines(
    comparison: &Comparison,
    (old, new): (&Graph, &Graph),
    due: &TaskSet,
    had_finished: impl Fn(TaskId) -> bool,
    had_submitted: &[TaskId],
) -> Vec<String> {
    let (mut own, mut by_others) = (Vec::new(), Vec::new());
    for (&task, reason) in &comparison.reasons {
        if !due.contains(task) || new.group_of(task).hidden {
            continue;
        }
        let key = new.key(task);
        match reason {
            Reason::New => own.push(format!("{key} is new")),
            Reason::DependsOn(_) if !had_finished(task) => {}
            reason => {
                let again = if had_finished(task) { " again" } else { "" };
                let line = format!("{key} runs{again}: {}", comparison.why(new, task));
                match reason {
                    Reason::DependsOn(_) => by_others.push(line),
                    _ => own.push(line),
                }
            }
        }
    }
    let submitted = had_submitted.iter().filter_map(|&task| comparison.edit.now(task));
    let submitted = submitted.filter(|&task| due.contains(task)).map(|task| {
        format!("{} runs again: tasks that it submitted are not taken over into another graph", new.key(task))
    });
    own.extend(submitted);
    let gone = comparison.gone.iter().map(|&task| format!("{} is gone", old.key(task)));
    own.into_iter().chain(by_others).chain(gone).collect()
}
