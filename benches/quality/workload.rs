//! What is scheduled: tasks with run times and sizes of outputs, recorded or made up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dagmar::client::formats::make::{Shape, Size, make};
use dagmar::client::formats::{Replay, read_wfformat};
use dagmar::core::graph::Graph;
use dagmar::core::id::TaskId;
use dagmar::core::task::{Argument, Body, Command, CommandLine, Stdin, Stream};
use dagmar::core::value::Value;

/// Where recordings are: a directory of WfFormat files.
const RECORDINGS: &str = "DAGMAR_WFINSTANCES";
/// The recording that is always there.
const SMALL: &str = "tests/recorded/pipeline.json";

/// A graph and what really happens when its tasks run.
pub struct Workload {
    pub name: String,
    pub graph: Arc<Graph>,
    /// How long each task runs.
    pub ran_us: Vec<u64>,
    /// How large each task's output is.
    pub bytes: Vec<u64>,
    /// The tasks whose output each task fetches.
    pub values: Vec<Vec<usize>>,
    /// All tasks that each task waits for.
    pub inputs: Vec<Vec<usize>>,
    /// The tasks that wait for each task.
    pub dependents: Vec<Vec<usize>>,
}

impl Workload {
    /// A graph whose tasks run and give what the two functions say.
    pub fn new(
        name: String,
        graph: Graph,
        ran_us: impl Fn(TaskId) -> u64,
        bytes: impl Fn(TaskId) -> u64,
    ) -> Self {
        let tasks = || graph.tasks();
        let places = |tasks: &mut dyn Iterator<Item = TaskId>| tasks.map(TaskId::index).collect::<Vec<_>>();
        Workload {
            name,
            ran_us: tasks().map(ran_us).collect(),
            bytes: tasks().map(bytes).collect(),
            values: tasks().map(|task| places(&mut graph.value_inputs(task).iter())).collect(),
            inputs: tasks().map(|task| places(&mut graph.inputs(task))).collect(),
            dependents: tasks().map(|task| places(&mut graph.dependents(task).iter())).collect(),
            graph: Arc::new(graph),
        }
    }

    /// A recorded execution.
    pub fn recorded(path: &Path, knowledge: Knowledge) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let read = read_wfformat(path, &bytes, Replay::default()).unwrap_or_else(|error| panic!("{error}"));
        let ran_us = |task| read.options(task).expected.map_or(0, |expected| expected.0);
        let graph = as_programs(&read, knowledge);
        Workload::new(read.name().to_owned(), graph, ran_us, |task| value_bytes(&read, task))
    }

    /// A made shape whose tasks are all alike.
    pub fn made(shape: Shape, size: Size, ran_us: u64, bytes: u64) -> Self {
        let graph = make(shape, size).expect("a known shape of a fair size");
        let name = format!("{shape} {} x {}", size.width, size.steps);
        Workload::new(name, graph, |_| ran_us, |_| bytes)
    }

    pub fn len(&self) -> usize {
        self.ran_us.len()
    }

    /// The longest path from each task to an exit in microseconds, itself included.
    pub fn levels_us(&self) -> Vec<u64> {
        self.levels_us_with(|_, _| 0)
    }

    /// The same, with what the edge between two tasks costs.
    pub fn levels_us_with(&self, edge_us: impl Fn(usize, usize) -> u64) -> Vec<u64> {
        let mut levels = vec![0; self.len()];
        for task in self.graph.topological_order().rev().map(|task| task.index()) {
            let below = self.dependents[task].iter().map(|&below| levels[below] + edge_us(task, below)).max();
            levels[task] = self.ran_us[task] + below.unwrap_or(0);
        }
        levels
    }

    /// What no schedule beats: the critical path, or all work spread over all cores.
    pub fn bound_us(&self, cores: u64) -> u64 {
        let path = self.levels_us().into_iter().max().unwrap_or(0);
        path.max(self.ran_us.iter().sum::<u64>().div_ceil(cores))
    }
}

/// What dagmar is told of the run times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Knowledge {
    /// The `expected` of every task is what it will take.
    Told,
    /// Nothing: it has its guesses and what it measures.
    Untold,
}

/// The graph with programs in place of calls, which is what was recorded.
fn as_programs(graph: &Graph, knowledge: Knowledge) -> Graph {
    let mut columns = graph.columns().clone();
    let line = CommandLine::Arguments(vec!["true".into()]);
    let (stdin, environment, directory) = (Stdin::Null, Vec::new(), "/".into());
    let (stdout, stderr, capture_limit_bytes) = (Stream::Capture, Stream::Capture, u64::MAX);
    let command = Command { line, environment, directory, stdin, stdout, stderr, capture_limit_bytes };
    for operation in &mut columns.operations {
        operation.body = Body::Command(Box::new(command.clone()));
    }
    if knowledge == Knowledge::Untold {
        columns.options.iter_mut().for_each(|options| options.expected = None);
    }
    Graph::from_columns(columns).expect("the links are what they were")
}

/// The size that a task of an imported graph gives its value.
fn value_bytes(graph: &Graph, task: TaskId) -> u64 {
    match &graph.operation(task).body {
        Body::Call(call) => match call.arguments.get(1) {
            Some(Argument::Value(Value::Int(bytes))) => u64::try_from(*bytes).unwrap_or(0),
            _ => 0,
        },
        Body::Command(_) | Body::Python(_) | Body::Pickled(_) | Body::PickledCall(_) | Body::Join => 0,
    }
}

/// All recordings at hand, in the order of their names.
pub fn recordings(is_small: bool, knowledge: Knowledge) -> Vec<Workload> {
    let small = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(SMALL)];
    let files: Vec<PathBuf> = match std::env::var_os(RECORDINGS) {
        Some(directory) if !is_small => {
            let entries = std::fs::read_dir(directory).expect("the directory of recordings can be read");
            let mut files: Vec<PathBuf> =
                entries.map(|entry| entry.expect("it can be listed").path()).collect();
            files.retain(|file| file.extension().is_some_and(|kind| kind == "json"));
            files.sort();
            files
        }
        _ => {
            eprintln!("only a small recording is played: {RECORDINGS} names a directory of others");
            small
        }
    };
    files.iter().map(|file| Workload::recorded(file, knowledge)).collect()
}
