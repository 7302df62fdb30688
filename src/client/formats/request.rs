//! What a user asks for: tasks, arrays, elements, output files.

use std::collections::HashMap;
use std::fmt;

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::key::Named;
use crate::core::task::Text;
use crate::core::task_list::TaskList;
use crate::core::task_set::TaskSet;

use super::disk::absolute;
use super::text::nearest;

/// A key that names nothing in a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The key as it was typed.
    pub key: String,
    /// The name that was probably meant.
    pub nearest: Option<String>,
}

impl RequestError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match &self.nearest {
            Some(name) => format!("the nearest name is `{name}`"),
            None => "`dagmar graph show` lists the tasks of a graph".to_owned(),
        }
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the graph has neither a task nor an output file `{}`", self.key)
    }
}

impl std::error::Error for RequestError {}

/// The tasks that keys name, in the order asked, each once; the sinks when nothing is asked.
///
/// A key is a task, an array, an element, or a declared output file, whose relative path starts at
/// the graph's directory, or else at the shell's.
pub fn resolve(graph: &Graph, keys: &[String]) -> Result<TaskList, RequestError> {
    if keys.is_empty() {
        return Ok(graph.sink_stretches().collect());
    }
    let mut makers = None;
    let mut asked = Asked { tasks: TaskList::default(), seen: TaskSet::new(graph.len()) };
    for key in keys {
        match named(graph, key) {
            Some(found) => asked.add(found),
            None => {
                let makers = makers.get_or_insert_with(|| makers_of_files(graph));
                let maker = maker_of(graph, key, makers);
                asked.add(Named::Task(maker.ok_or_else(|| unknown(graph, key, makers))?));
            }
        }
    }
    Ok(asked.tasks)
}

/// Tasks in the order asked.
struct Asked {
    tasks: TaskList,
    seen: TaskSet,
}

impl Asked {
    /// Adds those that were not asked for before.
    fn add(&mut self, found: Named) {
        let stretch = match found {
            Named::Task(task) => task.0..task.0 + 1,
            Named::Array { first, count } => first.0..first.0 + count,
        };
        match self.seen.count(stretch.clone()) {
            0 => self.tasks.push_all(stretch.clone()),
            _ => {
                found.tasks().filter(|task| !self.seen.contains(*task)).for_each(|task| self.tasks.push(task))
            }
        }
        self.seen.insert_all(stretch);
    }
}

/// What a key names, unless that is hidden.
fn named(graph: &Graph, key: &str) -> Option<Named> {
    let found = graph.find(key)?;
    let hidden = found.tasks().next().is_some_and(|task| graph.group_of(task).hidden);
    (!hidden).then_some(found)
}

fn makers_of_files(graph: &Graph) -> HashMap<&str, TaskId> {
    let outputs = graph.tasks().flat_map(|task| {
        graph.operation(task).outputs.iter().filter_map(move |output| match output {
            Text::Plain(path) => Some((path.as_str(), task)),
            Text::AroundAttempt(_) => None,
        })
    });
    outputs.collect()
}

/// The task that makes a file. Its path starts at the graph's directory, or else at the shell's.
fn maker_of(graph: &Graph, key: &str, makers: &HashMap<&str, TaskId>) -> Option<TaskId> {
    let beside_graph = absolute(graph.directory(), key);
    let here = || Some(absolute("", std::path::absolute(key).ok()?.to_str()?));
    makers.get(beside_graph.as_str()).or_else(|| makers.get(here()?.as_str())).copied()
}

fn unknown(graph: &Graph, key: &str, makers: &HashMap<&str, TaskId>) -> RequestError {
    let (name, elements) = key.split_once('[').map_or((key, None), |(name, rest)| (name, Some(rest)));
    let groups = || graph.keys().groups().iter().filter(|group| !group.hidden);
    let meant = match nearest(name, groups().map(|group| group.name.as_str())) {
        Some(name) if elements.is_some() => graph.keys().group(name).map(|group| {
            let last = group.count().unwrap_or(1).saturating_sub(1);
            format!("{}` ... `{}", group.key(0), group.key(last as usize))
        }),
        Some(name) => Some(name.to_owned()),
        None => {
            let start = format!("{}/", graph.directory());
            let mut files: Vec<&str> =
                makers.keys().map(|path| path.strip_prefix(&start).unwrap_or(path)).collect();
            files.sort_unstable();
            nearest(key, files).map(str::to_owned)
        }
    };
    RequestError { key: key.to_owned(), nearest: meant }
}
