//! A graph in numbers: what `graph show` and `graph stats` print.

use std::collections::HashSet;

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::task::{Body, CommandLine, Text};

/// A graph in numbers. Hidden tasks are not counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outline {
    /// The graph's name.
    pub name: String,
    /// How many tasks there are.
    pub tasks: usize,
    /// How many dependencies are stored, those through hidden tasks included.
    pub dependencies: usize,
    /// Tasks that need nothing.
    pub sources: usize,
    /// Tasks that nobody needs.
    pub sinks: usize,
    /// The longest path, in tasks.
    pub depth: usize,
    /// The most tasks at the same distance from the start: what can run side by side.
    pub width: usize,
    /// How many different operations there are.
    pub operations: usize,
    /// Every task and array, in the order of the file.
    pub groups: Vec<GroupOutline>,
}

/// A task or an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOutline {
    /// Its name.
    pub name: String,
    /// How many tasks it has; none for a single one.
    pub elements: Option<usize>,
    /// What its first task does, in one line.
    pub work: String,
    /// The names of the tasks and arrays that it needs.
    pub needs: Vec<String>,
}

/// Elements of an array that are asked what they need; the others need the like.
const ELEMENTS_ASKED_MAX: usize = 1000;

/// Counts a graph.
pub fn outline(graph: &Graph) -> Outline {
    let hidden: Vec<bool> = graph.tasks().map(|task| graph.keys().group_of(task).hidden).collect();
    let levels = levels(graph, &hidden);
    let visible = || graph.tasks().filter(|task| !hidden[task.index()]);
    let depth = levels.iter().copied().max().unwrap_or(0);
    let mut at_level = vec![0_usize; depth + 1];
    visible().for_each(|task| at_level[levels[task.index()]] += 1);
    Outline {
        name: graph.name().to_owned(),
        tasks: visible().count(),
        dependencies: graph.dependency_count() as usize,
        sources: visible().filter(|task| graph.inputs(*task).next().is_none()).count(),
        sinks: graph.sinks().count(),
        depth,
        width: at_level.into_iter().max().unwrap_or(0),
        operations: graph.columns().operations.len(),
        groups: groups(graph),
    }
}

/// For every task, the tasks on the longest path that ends with it, itself included.
fn levels(graph: &Graph, hidden: &[bool]) -> Vec<usize> {
    let mut levels = vec![0; graph.len()];
    for task in graph.topological_order() {
        let before = graph.inputs(task).map(|input| levels[input.index()]).max().unwrap_or(0);
        levels[task.index()] = before + usize::from(!hidden[task.index()]);
    }
    levels
}

fn groups(graph: &Graph) -> Vec<GroupOutline> {
    let shown = graph.keys().groups().iter().filter(|group| !group.hidden);
    shown
        .map(|group| {
            let count = group.count().unwrap_or(0);
            GroupOutline {
                name: group.name.clone(),
                elements: group.is_array().then_some(count as usize),
                work: work(graph, group.first),
                needs: needs(graph, group.first, count as usize),
            }
        })
        .collect()
}

/// What a task does, in one line.
pub fn work(graph: &Graph, task: TaskId) -> String {
    match &graph.operation(task).body {
        Body::Join => "wait".to_owned(),
        Body::Call(call) => format!("call {}", call.function),
        Body::Pickled(_) | Body::PickledCall(_) => "python".to_owned(),
        Body::Python(python) => format!("python {}:{}", python.module, python.function),
        Body::Command(command) => match &command.line {
            CommandLine::Shell(text) => format!("run {}", written(text)),
            CommandLine::Arguments(words) => {
                format!("run {}", words.iter().map(written).collect::<Vec<_>>().join(" "))
            }
        },
    }
}

fn written(text: &Text) -> String {
    match text {
        Text::Plain(text) => text.replace('\n', " "),
        Text::AroundAttempt(pieces) => pieces.join("{attempt}").replace('\n', " "),
    }
}

fn needs(graph: &Graph, first: TaskId, count: usize) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut names = Vec::new();
    for task in (first.0..).map(TaskId).take(count.min(ELEMENTS_ASKED_MAX)) {
        for input in graph.inputs(task).flat_map(|input| behind(graph, input)) {
            let name = &graph.keys().group_of(input).name;
            if seen.insert(name.as_str()) {
                names.push(name.clone());
            }
        }
    }
    names
}

/// A task, or what a hidden one stands for.
fn behind(graph: &Graph, task: TaskId) -> Vec<TaskId> {
    match graph.keys().group_of(task).hidden {
        false => vec![task],
        true => graph.inputs(task).take(ELEMENTS_ASKED_MAX).collect(),
    }
}
