//! From a recorded execution to a graph: links by parents, children and files, and a call for each task.

use std::collections::{BTreeMap, HashMap};

use crate::client::formats::text::{Fault, Outcome, Problem, Span, nearest};
use crate::core::graph::{Definition, Graph, GraphBuilder, GraphError};
use crate::core::id::TaskId;
use crate::core::key::Group;
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
use crate::core::time::Micros;
use crate::core::value::Value;

use super::recording::{RecordedTask, Recording};
use super::{Pastime, Replay};

/// Builds the graph.
pub(super) fn assemble(name: &str, recording: &Recording<'_>, replay: Replay) -> Outcome<Graph> {
    let links = Links::of(recording)?;
    let mut builder = GraphBuilder::new(name, "/");
    for task in &recording.tasks {
        builder.declare(Group::single(task.id)).map_err(|error| refused(error, recording))?;
    }
    for (task, read_bytes) in (0..).map(TaskId).zip(&links.read_bytes) {
        let recorded = &recording.tasks[task.index()];
        let operation = builder.operation(operation(recorded, *read_bytes, replay));
        let options = builder.options(TaskOptions {
            resources: recorded.resources.clone(),
            expected: Some(Micros((recorded.ran_s * replay.scale * 1e6).round() as u64)),
            ..TaskOptions::default()
        });
        let (values, orders) = links.inputs(task);
        builder
            .define(Definition { operation, options, values, orders })
            .map_err(|error| refused(error, recording))?;
    }
    builder.build().map_err(|error| refused(error, recording))
}

/// Waits as long as the task ran; the value has as many bytes as others read of it.
fn operation(task: &RecordedTask<'_>, read_bytes: f64, replay: Replay) -> Operation {
    let function = match replay.pastime {
        Pastime::Sleep => "sleep",
        Pastime::Spin => "spin",
    };
    let mut arguments = vec![Argument::Value(Value::Float(task.ran_s * replay.scale))];
    let bytes = (read_bytes * replay.scale).ceil();
    if bytes > 0.0 {
        arguments.push(Argument::Value(Value::Int(bytes as i64)));
    }
    let body = Body::Call(Call { function: function.to_owned(), arguments });
    Operation { body, inputs: Vec::new(), outputs: Vec::new() }
}

/// Who waits for whom, and whether for a value.
struct Links {
    /// For each task its inputs; true if it reads a file of theirs.
    inputs: Vec<BTreeMap<TaskId, bool>>,
    /// The bytes of each task's files that other tasks read.
    read_bytes: Vec<f64>,
}

impl Links {
    fn of(recording: &Recording<'_>) -> Outcome<Links> {
        let tasks = &recording.tasks;
        let mut links =
            Links { inputs: vec![BTreeMap::new(); tasks.len()], read_bytes: vec![0.0; tasks.len()] };
        links.add_relatives(tasks)?;
        links.add_files(recording)?;
        Ok(links)
    }

    fn add_relatives(&mut self, tasks: &[RecordedTask<'_>]) -> Outcome<()> {
        let ids: HashMap<&str, TaskId> =
            (0..).map(TaskId).zip(tasks).map(|(id, task)| (task.id, id)).collect();
        let find = |of: &RecordedTask<'_>, name: &str, span: Span| {
            ids.get(name).copied().ok_or_else(|| unknown_task(of, name, span, tasks))
        };
        for (id, task) in (0..).map(TaskId).zip(tasks) {
            for &(name, span) in &task.parents {
                self.inputs[id.index()].entry(find(task, name, span)?).or_insert(false);
            }
            for &(name, span) in &task.children {
                self.inputs[find(task, name, span)?.index()].entry(id).or_insert(false);
            }
        }
        Ok(())
    }

    /// A file that a task reads and writes is its own business; one that nobody makes was there before.
    fn add_files(&mut self, recording: &Recording<'_>) -> Outcome<()> {
        let makers = makers(recording)?;
        let mut is_read: HashMap<&str, bool> = HashMap::new();
        for (id, task) in (0..).map(TaskId).zip(&recording.tasks) {
            for &(file, span) in &task.inputs {
                let bytes =
                    *recording.files.get(file).ok_or_else(|| unlisted(task, "inputFiles", file, span))?;
                let Some(&maker) = makers.get(file).filter(|maker| **maker != id) else { continue };
                self.inputs[id.index()].insert(maker, true);
                if !std::mem::replace(is_read.entry(file).or_default(), true) {
                    self.read_bytes[maker.index()] += bytes;
                }
            }
        }
        Ok(())
    }

    /// The inputs whose value a task takes, and the others.
    fn inputs(&self, task: TaskId) -> (Vec<TaskId>, Vec<TaskId>) {
        let inputs = &self.inputs[task.index()];
        let those = |value: bool| inputs.iter().filter(move |input| *input.1 == value).map(|input| *input.0);
        (those(true).collect(), those(false).collect())
    }
}

/// Who makes each file.
fn makers<'t>(recording: &Recording<'t>) -> Outcome<HashMap<&'t str, TaskId>> {
    let mut makers = HashMap::new();
    for (id, task) in (0..).map(TaskId).zip(&recording.tasks) {
        for &(file, span) in &task.outputs {
            if !recording.files.contains_key(file) {
                return Err(unlisted(task, "outputFiles", file, span));
            }
            if let Some(other) = makers.insert(file, id).filter(|other| *other != id) {
                let first = recording.tasks[other.index()].id.to_owned();
                let (file, second) = (file.to_owned(), task.id.to_owned());
                return Err(Fault::at(span, Problem::TwoProducers { file, first, second }));
            }
        }
    }
    Ok(makers)
}

fn unknown_task(of: &RecordedTask<'_>, name: &str, span: Span, tasks: &[RecordedTask<'_>]) -> Box<Fault> {
    let (task, needs) = (of.id.to_owned(), name.to_owned());
    let meant = nearest(name, tasks.iter().map(|task| task.id));
    let place = |id: &str| tasks.iter().find(|task| task.id == id).map(|task| task.span);
    Fault::at(span, Problem::UnknownTask { task, needs }).meant(meant.map(|id| (id.to_owned(), place(id))))
}

fn unlisted(task: &RecordedTask<'_>, field: &str, file: &str, span: Span) -> Box<Fault> {
    Fault::bad_value(span, field, &format!("task `{}`", task.id), file, "`files` does not list it")
}

fn refused(error: GraphError, recording: &Recording<'_>) -> Box<Fault> {
    match error {
        GraphError::Cycle(tasks) => {
            let recorded = |task: &TaskId| &recording.tasks[task.index()];
            let keys = tasks.iter().map(|task| recorded(task).id.to_owned()).collect();
            match tasks.first() {
                Some(first) => Fault::at(recorded(first).span, Problem::Cycle(keys)),
                None => Fault::whole(Problem::Cycle(keys)),
            }
        }
        other => crate::client::formats::assembly::graph_fault(other),
    }
}
