//! What the whole file says: its name, its defaults, its tasks.

use std::path::Path;

use crate::client::formats::description::{Functions, GraphSpec};
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, Tree, find};

use super::fields::{Fields, Kind, With, entries_of, find_field};
use super::options::read_options;
use super::task::{check_name, read_task};

/// What the whole file may say.
const TOP: [&str; 3] = ["name", "defaults", "tasks"];

/// Reads a whole file.
pub fn read_graph(root: &Node, name: &str, directory: &Path, functions: &Functions) -> Outcome<GraphSpec> {
    let Tree::Table(top) = &root.tree else {
        return Err(Fault::wrong_type("the graph", "this file", "a table", root));
    };
    if let Some(entry) = top.iter().find(|entry| !TOP.contains(&entry.key.as_str())) {
        let (field, of) = (entry.key.clone(), "the graph".to_owned());
        return Err(Fault::at(entry.key_span, Problem::UnknownField { field, of })
            .hint("a graph has `name`, `defaults` and `tasks`")
            .nearest(&entry.key, TOP));
    }
    let name = graph_name(top, name)?;
    let defaults = read_defaults(top)?;
    let tasks = entries_of(top, "tasks", "the graph")?;
    if tasks.is_empty() {
        let problem = Problem::NoTasks;
        return Err(Fault::whole(problem).hint("a task is `[tasks.hello]` with `run = \"echo hello\"`"));
    }
    let tasks = tasks.iter().map(|entry| read_task(entry, defaults, directory, functions));
    Ok(GraphSpec { name, tasks: tasks.collect::<Outcome<_>>()? })
}

fn graph_name(top: &[Entry], otherwise: &str) -> Outcome<String> {
    let Some(entry) = find(top, "name") else {
        return Ok(otherwise.to_owned());
    };
    let Tree::Text(name) = &entry.node.tree else {
        return Err(Fault::wrong_type("name", "the graph", "text", &entry.node));
    };
    check_name("graph", name, entry.node.span)?;
    Ok(name.clone())
}

/// Defaults are checked by themselves, so that one that no task uses is not wrong unnoticed.
fn read_defaults(top: &[Entry]) -> Outcome<&[Entry]> {
    let defaults = entries_of(top, "defaults", "the graph")?;
    let of = "`defaults`".to_owned();
    for entry in defaults {
        let known = find_field(entry, &of)?;
        if known.with == With::Nothing {
            let field = entry.key.clone();
            return Err(Fault::at(entry.key_span, Problem::Unsupported { field, of }));
        }
        if !known.is_default {
            return Err(Fault::at(entry.key_span, Problem::NotADefault(entry.key.clone())));
        }
    }
    let fields =
        Fields { name: "", of, own: defaults, defaults: &[], kind: Kind::Run, variables: Vec::new() };
    read_options(&fields)?;
    Ok(defaults)
}
