//! Recorded executions in WfFormat 1.5, as graphs that can be played again.
//!
//! `fields` looks values up and refuses wrong ones by name, `recording` reads what a file tells of its tasks,
//! `assembly` makes the graph. What a task did is not repeated: it waits as long as it ran, and its
//! value is as large as the files that it made and others read. Machines, energy and authors are left out.

mod assembly;
mod fields;
mod recording;

use std::path::Path;

use crate::core::graph::Graph;

use super::reader::name_of;
use super::text::{GraphFileError, Outcome, Source, without_mark};

/// How a recorded execution is played again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replay {
    /// What times and sizes are multiplied with.
    pub scale: f64,
    /// What a task does meanwhile.
    pub pastime: Pastime,
}

/// What a task does for as long as it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pastime {
    /// Waits without using its cores.
    #[default]
    Sleep,
    /// Keeps one core busy.
    Spin,
}

impl Default for Replay {
    fn default() -> Self {
        Replay { scale: 1.0, pastime: Pastime::Sleep }
    }
}

/// Reads the bytes of a WfFormat file. Errors name the file as `path`.
///
/// Tasks are named by their ids. They wait for their parents, for tasks that have them as children, and for the makers
/// of the files that they read; of these they take the value.
pub fn read_wfformat(path: &Path, bytes: &[u8], replay: Replay) -> Result<Graph, GraphFileError> {
    let bytes = without_mark(bytes);
    let read = build(path, bytes, replay);
    read.map_err(|fault| fault.locate(&path.display().to_string(), &String::from_utf8_lossy(bytes)))
}

fn build(path: &Path, bytes: &[u8], replay: Replay) -> Outcome<Graph> {
    let root = Source::new(bytes)?.parse()?;
    let recorded = recording::read_recording(&root)?;
    assembly::assemble(&name_of(path), &recorded, replay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::TaskId;
    use crate::core::task::{Argument, Body};
    use crate::core::time::Micros;
    use crate::core::value::Value;

    /// Two tasks and a file between them; pieces may be replaced.
    fn small() -> String {
        r#"{ "schemaVersion": "1.5", "workflow": {
  "specification": {
    "tasks": [
      { "id": "split", "parents": [], "children": ["count"], "inputFiles": ["in"], "outputFiles": ["a", "b"] },
      { "id": "count", "parents": ["split"], "children": [], "inputFiles": ["a"], "outputFiles": ["n"] },
      { "id": "report", "parents": ["count"], "children": [] }
    ],
    "files": [ { "id": "in", "sizeInBytes": 9 }, { "id": "a", "sizeInBytes": 3000 },
               { "id": "b", "sizeInBytes": 5000 }, { "id": "n", "sizeInBytes": 1 } ]
  },
  "execution": { "tasks": [
    { "id": "split", "runtimeInSeconds": 1.5, "coreCount": 2, "memoryInBytes": 4096 },
    { "id": "count", "runtimeInSeconds": 20 },
    { "id": "report", "runtimeInSeconds": 0.0 }
  ] } } }"#
            .to_owned()
    }

    fn read(text: &str, replay: Replay) -> Result<Graph, GraphFileError> {
        read_wfformat(Path::new("some/two steps.json"), text.as_bytes(), replay)
    }

    fn arguments(graph: &Graph, task: u32) -> (String, Vec<Argument>) {
        let Body::Call(call) = &graph.operation(TaskId(task)).body else { panic!("a call") };
        (call.function.clone(), call.arguments.clone())
    }

    #[test]
    fn what_was_recorded_becomes_tasks() {
        let graph = read(&small(), Replay::default()).unwrap();
        assert_eq!(graph.name(), "two-steps");
        let keys: Vec<String> = graph.tasks().map(|task| graph.key(task)).collect();
        assert_eq!(keys, ["split", "count", "report"]);
        let split = graph.options(TaskId(0));
        assert_eq!((split.resources.cpus, split.resources.memory_bytes), (2, 4096));
        assert_eq!(split.expected, Some(Micros(1_500_000)));
        assert_eq!(graph.options(TaskId(1)).resources.cpus, 1);
    }

    #[test]
    fn files_carry_values_and_parents_without_files_only_order() {
        let graph = read(&small(), Replay::default()).unwrap();
        assert_eq!(graph.value_inputs(TaskId(1)), [TaskId(0)]);
        assert_eq!(graph.order_inputs(TaskId(2)), [TaskId(1)]);
        assert!(graph.value_inputs(TaskId(2)).is_empty());
    }

    #[test]
    fn a_value_is_as_large_as_the_files_that_others_read() {
        let graph = read(&small(), Replay::default()).unwrap();
        let bytes = |bytes| Argument::Value(Value::Int(bytes));
        let second = |task| arguments(&graph, task).1.get(1).cloned();
        assert_eq!(second(0), Some(bytes(3000)), "nobody reads `b`");
        assert_eq!(second(1), None, "nobody reads `n`");
    }

    #[test]
    fn a_scale_shortens_times_and_sizes() {
        let graph = read(&small(), Replay { scale: 0.001, pastime: Pastime::Spin }).unwrap();
        let (function, given) = arguments(&graph, 0);
        assert_eq!(function, "spin");
        assert_eq!(given, [Argument::Value(Value::Float(0.0015)), Argument::Value(Value::Int(3))]);
        assert_eq!(graph.options(TaskId(1)).expected, Some(Micros(20_000)));
    }

    #[test]
    fn a_file_links_tasks_that_do_not_name_each_other() {
        let apart = small().replace(r#""children": ["count"]"#, r#""children": []"#);
        let apart = apart.replace(r#""parents": ["split"]"#, r#""parents": []"#);
        let graph = read(&apart, Replay::default()).unwrap();
        assert_eq!(graph.value_inputs(TaskId(1)), [TaskId(0)]);
    }

    #[test]
    fn children_alone_link_too() {
        let text = small().replace(r#""parents": ["count"]"#, r#""parents": []"#);
        let text = text.replace(
            r#""children": [], "inputFiles": ["a"]"#,
            r#""children": ["report"], "inputFiles": ["a"]"#,
        );
        let graph = read(&text, Replay::default()).unwrap();
        assert_eq!(graph.order_inputs(TaskId(2)), [TaskId(1)]);
    }

    #[test]
    fn errors_name_the_place_and_the_task() {
        let check = |from: &str, to: &str, expected: &str| {
            let text = small().replacen(from, to, 1);
            assert_ne!(text, small(), "`{from}` is in the text");
            let error = read(&text, Replay::default()).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot read `some/two steps.json`: {expected}"));
        };
        check(
            "1.5\"",
            "1.3\"",
            "line 1, column 20: `schemaVersion` of the file cannot be `1.3`: only `1.5` is read",
        );
        check("\"workflow\"", "\"flow\"", "line 1, column 1: the file has no `workflow`");
        check(
            "[\"split\"]",
            "[\"spilt\"]",
            "line 5, column 36: task `count` needs `spilt`, which the graph does not define",
        );
        check(
            "\"runtimeInSeconds\": 20",
            "\"runtimeInSeconds\": \"20\"",
            "line 13, column 42: `runtimeInSeconds` of task `count` must be a number, not text",
        );
        check(
            "\"runtimeInSeconds\": 20",
            "\"runtimeInSeconds\": -20",
            "line 13, column 42: `runtimeInSeconds` of task `count` cannot be `-20`: it is negative or too large",
        );
        check(
            "\"id\": \"count\", \"runtimeInSeconds\": 20",
            "\"id\": \"count\"",
            "line 13, column 5: task `count` has no `runtimeInSeconds`",
        );
        check(
            "\"inputFiles\": [\"a\"]",
            "\"inputFiles\": [\"c\"]",
            "line 5, column 77: `inputFiles` of task `count` cannot be `c`: `files` does not list it",
        );
        check("[\"n\"]", "[\"a\"]", "line 5, column 99: tasks `split` and `count` both make `a`");
        check(
            "\"id\": \"count\", \"parents\"",
            "\"id\": \"-count\", \"parents\"",
            "line 5, column 15: `-count` cannot name a task",
        );
        check(
            "\"id\": \"report\", \"parents\"",
            "\"id\": \"count\", \"parents\"",
            "line 6, column 15: `count` names two tasks",
        );
    }

    #[test]
    fn a_circle_is_named_task_by_task() {
        let text = small().replacen("\"parents\": []", "\"parents\": [\"count\"]", 1);
        let error = read(&text, Replay::default()).unwrap_err();
        assert!(error.to_string().contains("tasks wait for each other in a circle: `"), "{error}");
        assert!(error.place.is_some());
    }

    #[test]
    fn a_task_without_a_record_is_refused_with_a_hint() {
        let text = small().replace(
            "{ \"id\": \"report\", \"runtimeInSeconds\": 0.0 }",
            "{ \"id\": \"repart\", \"runtimeInSeconds\": 0.0 }",
        );
        let error = read(&text, Replay::default()).unwrap_err();
        assert_eq!(error.hint(), Some("the nearest name is `report` (line 6)"));
        let short = small().replace(",\n    { \"id\": \"report\", \"runtimeInSeconds\": 0.0 }", "");
        let error = read(&short, Replay::default()).unwrap_err();
        assert!(error.to_string().contains("line 6, column 15: task `report` was not recorded"), "{error}");
    }

    #[test]
    fn damaged_files_are_refused_and_never_panic() {
        let text = small();
        for end in 0..text.len() {
            assert!(read(&text[..end], Replay::default()).is_err(), "cut at {end}");
        }
        for field in ["tasks", "files", "id", "parents", "children", "sizeInBytes", "execution", "coreCount"]
        {
            for value in ["null", "7", "[]", "{}", "\"x\"", "-1", "1e300", "[[]]"] {
                let named = format!("\"{field}\": ");
                let text = text.replacen(&named, &format!("{named}{value}, \"was\": "), 1);
                let _ = read(&text, Replay::default());
            }
        }
    }
}
