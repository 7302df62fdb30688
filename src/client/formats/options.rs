//! How tasks run: resources, retries, times.

use crate::core::resources::Resources;
use crate::core::task::TaskOptions;
use crate::core::time::Micros;

use super::fault::{Fault, Outcome};
use super::nearest::is_near;
use super::problem::Problem;
use super::schema::TaskReader;
use super::tree::{Entry, Node, Tree};
use super::units::{duration, size};

/// The resources that every worker knows of.
const KNOWN: [&str; 3] = ["cpus", "memory", "gpus"];

/// What people write for them; taken as resources of their own, they would never be met.
const MEANT: [(&str, &str); 7] = [
    ("cpu", "cpus"),
    ("core", "cpus"),
    ("cores", "cpus"),
    ("ncpus", "cpus"),
    ("mem", "memory"),
    ("gpu", "gpus"),
    ("ngpus", "gpus"),
];

/// Reads the options of a task, or of `defaults`.
pub(super) fn read_options(reader: &TaskReader<'_>) -> Outcome<TaskOptions> {
    let mut options = TaskOptions { resources: read_resources(reader)?, ..TaskOptions::default() };
    if let Some(entry) = reader.get("retries") {
        options.retries = whole(reader, "retries", &entry.node)?;
    }
    if let Some(entry) = reader.get("priority") {
        options.priority = whole(reader, "priority", &entry.node)?;
    }
    if let Some(entry) = reader.get("keep") {
        let Tree::Bool(keep) = entry.node.tree else {
            return Err(reader.wrong_type("keep", "`true` or `false`", &entry.node));
        };
        options.keep = keep;
    }
    options.expected = read_duration(reader, "expected")?;
    // A function runs inside its worker and cannot be ended, so a default does not reach it.
    if !reader.is_call {
        options.timeout = read_duration(reader, "timeout")?;
        options.grace = read_duration(reader, "grace")?.unwrap_or(options.grace);
    }
    match (options.timeout, reader.get("timeout")) {
        (Some(Micros::ZERO), Some(entry)) => {
            Err(reader.bad("timeout", "0", "nothing could run in no time", &entry.node))
        }
        _ => Ok(options),
    }
}

fn read_duration(reader: &TaskReader<'_>, field: &str) -> Outcome<Option<Micros>> {
    let Some(entry) = reader.get(field) else { return Ok(None) };
    let read = duration(&entry.node)
        .ok_or_else(|| reader.wrong_type(field, "a duration such as `\"10m\"`", &entry.node))?;
    read.map(Some).map_err(|reason| reader.bad(field, &shown(&entry.node), &reason, &entry.node))
}

/// A whole number in the bounds of its type.
fn whole<N: TryFrom<i64>>(reader: &TaskReader<'_>, field: &str, node: &Node) -> Outcome<N> {
    let Tree::Int(number) = node.tree else {
        return Err(reader.wrong_type(field, "a whole number", node));
    };
    N::try_from(number).map_err(|_| {
        let reason = match number < 0 && N::try_from(-1).is_err() {
            true => "it is negative",
            false => "it is too large",
        };
        reader.bad(field, &number.to_string(), reason, node)
    })
}

/// A value as written, for messages.
fn shown(node: &Node) -> String {
    node.word().unwrap_or_default().escape_debug().to_string()
}

fn read_resources(reader: &TaskReader<'_>) -> Outcome<Resources> {
    let mut resources = Resources::cores(1);
    for entry in reader.merged("resources")? {
        let field = format!("resources.{}", entry.key);
        match entry.key.as_str() {
            "cpus" => resources.cpus = read_cpus(reader, &field, &entry.node)?,
            "gpus" => resources.gpus = whole(reader, &field, &entry.node)?,
            "memory" => resources.memory_bytes = read_memory(reader, &field, &entry.node)?,
            "ranks" | "nodes" => return Err(reader.unsupported(&field, entry)),
            _ => {
                check_custom_name(reader, &field, entry)?;
                resources.custom.insert(entry.key.clone(), whole(reader, &field, &entry.node)?);
            }
        }
    }
    Ok(resources)
}

fn read_cpus(reader: &TaskReader<'_>, field: &str, node: &Node) -> Outcome<u32> {
    match whole(reader, field, node)? {
        0 => Err(reader.bad(field, "0", "a task needs at least one", node)),
        cpus => Ok(cpus),
    }
}

fn read_memory(reader: &TaskReader<'_>, field: &str, node: &Node) -> Outcome<u64> {
    let read = size(node).ok_or_else(|| reader.wrong_type(field, "a size such as `\"2GiB\"`", node))?;
    read.map_err(|reason| reader.bad(field, &shown(node), &reason, node))
}

fn check_custom_name(reader: &TaskReader<'_>, field: &str, entry: &Entry) -> Outcome<()> {
    let meant = MEANT.iter().find(|(alias, _)| *alias == entry.key).map(|(_, known)| *known);
    let meant = meant.or_else(|| KNOWN.into_iter().find(|known| is_near(&entry.key, known)));
    if let Some(known) = meant {
        let (field, of) = (field.to_owned(), reader.of.clone());
        return Err(Fault::at(entry.key_span, Problem::UnknownField { field, of })
            .hint(format!("the nearest name is `{known}`")));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if entry.key.is_empty() || !entry.key.bytes().all(fits) {
        let (what, name) = ("resource", entry.key.escape_debug().to_string());
        return Err(Fault::at(entry.key_span, Problem::BadName { what, name }));
    }
    Ok(())
}
