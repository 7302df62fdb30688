//! Outputs of tasks as `dagmar run GRAPH KEY` prints them.

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::key::Named;
use crate::core::task::Body;
use crate::core::task_list::TaskList;
use crate::core::value::Value;
use crate::observe::snapshot::State;
use crate::record::layout::RunDirectory;
use crate::record::pack_reader::PackReader;
use crate::runtime::envelope::Envelope;
use crate::runtime::left_outputs::read_output;
use crate::worker::json::to_json;
use crate::worker::output::Output;
use crate::worker::python::PythonObject;

use super::failure::Failure;
use super::output::{Page, tell};

/// Prints the outputs of the asked tasks that finished: as it is if one task was asked for, else as a
/// JSON object a line, however few elements an array has. Returns those that were skipped, of which no value is known.
pub fn print(
    graph: &Graph,
    directory: &RunDirectory,
    (keys, asked): (&[String], &TaskList),
    state: impl Fn(TaskId) -> State,
) -> Result<Vec<TaskId>, Failure> {
    let packs = PackReader::of_run(directory).map_err(|error| Failure::broken(error.to_string()))?;
    let mut page = Page::open();
    let is_array = |key: &String| matches!(graph.keys().find(key), Some(Named::Array { .. }));
    let is_alone = keys.len() == 1 && !is_array(&keys[0]);
    for task in asked.iter().filter(|&task| state(task) == State::Finished) {
        let value = read(graph, task, &packs)?;
        match is_alone {
            true => page.bytes(&alone(&value)?)?,
            false => page.json(&named(graph, task, &value)?)?,
        }
    }
    page.flush()?;
    Ok(asked.iter().filter(|&task| state(task) == State::Skipped).collect())
}

/// Says of which tasks no value was printed because they did not run.
pub fn tell_skipped(graph: &Graph, skipped: &[TaskId]) {
    match skipped {
        [] => {}
        [task] => tell(&format!("`{}` was skipped: its value is not printed", graph.key(*task))),
        [task, others @ ..] => tell(&format!(
            "`{}` and {} more were skipped: their values are not printed",
            graph.key(*task),
            others.len()
        )),
    }
}

/// The value as a line of `{"key": ..., "value": ...}`; bytes that are no text as `hex`.
pub fn named(graph: &Graph, task: TaskId, value: &Value) -> Result<serde_json::Value, Failure> {
    let key = graph.key(task);
    if let Value::Bytes(bytes) = value {
        return Ok(serde_json::json!({ "key": key, "hex": hex(bytes) }));
    }
    let json = json_bytes(value)?;
    let value: serde_json::Value = serde_json::from_slice(&json).map_err(|error| broken(&error))?;
    Ok(serde_json::json!({ "key": key, "value": value }))
}

/// Two digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The output of a task that finished.
pub fn read(graph: &Graph, task: TaskId, packs: &PackReader) -> Result<Value, Failure> {
    let is_command = matches!(graph.operation(task).body, Body::Command(_));
    let bytes = read_output(graph, packs, task).map_err(|error| Failure::broken(error.to_string()))?;
    if !packs.latest_attempt(task).is_some_and(|attempt| packs.is_whole(task, attempt)) {
        return Err(broken(&format!(
            "`{}` finished, and no index says where its output is",
            graph.key(task)
        )));
    }
    if is_command {
        // A command that printed nothing leaves nothing.
        return Ok(text_or_bytes(bytes.unwrap_or_default()));
    }
    let bytes = bytes.ok_or_else(|| broken(&format!("`{}` finished but left no value", graph.key(task))))?;
    match Envelope::output_in(&bytes).map_err(|error| broken(&error))? {
        Output::Value(value) => Ok(value),
        Output::Captured(bytes) => Ok(text_or_bytes(bytes)),
        Output::Typed(typed) if PythonObject::is(&typed) => {
            let message = format!("cannot print `{}`: it is a Python object", graph.key(task));
            Err(Failure::usage(message).hint(
                "return text, numbers, lists or dicts of them, or give it to a function that does".to_owned(),
            ))
        }
        Output::Typed(typed) => {
            let (key, name) = (graph.key(task), typed.type_name());
            Err(Failure::usage(format!(
                "cannot print `{key}`: it is a `{name}`, which only its program reads"
            )))
        }
    }
}

fn text_or_bytes(bytes: Vec<u8>) -> Value {
    String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::Text)
}

fn alone(value: &Value) -> Result<Vec<u8>, Failure> {
    let mut bytes = match value {
        Value::Bytes(bytes) => return Ok(bytes.clone()),
        Value::Text(text) => text.clone().into_bytes(),
        other => json_bytes(other)?,
    };
    if bytes.last().is_some_and(|last| *last != b'\n') {
        bytes.push(b'\n');
    }
    Ok(bytes)
}

fn json_bytes(value: &Value) -> Result<Vec<u8>, Failure> {
    to_json(value).map_err(|why| Failure::broken(format!("cannot print the output: {why}")))
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::broken(format!("the run's output is damaged: {error}"))
}
