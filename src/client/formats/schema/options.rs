//! How tasks run: resources, retries, times.

use crate::client::formats::text::units::{duration, size};
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, Tree, is_near};
use crate::core::resources::Resources;
use crate::core::task::TaskOptions;
use crate::core::time::Micros;

use super::fields::Fields;

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
pub(super) fn read_options(fields: &Fields<'_>) -> Outcome<TaskOptions> {
    let mut options = TaskOptions { resources: read_resources(fields)?, ..TaskOptions::default() };
    if let Some(entry) = fields.get("retries") {
        options.retries = whole(fields, "retries", &entry.node)?;
    }
    if let Some(entry) = fields.get("priority") {
        options.priority = whole(fields, "priority", &entry.node)?;
    }
    if let Some(entry) = fields.get("keep") {
        let Tree::Bool(keep) = entry.node.tree else {
            return Err(fields.wrong_type("keep", "`true` or `false`", &entry.node));
        };
        options.keep = keep;
    }
    options.expected = read_duration(fields, "expected")?;
    // A function runs inside its worker and cannot be ended, so a default does not reach it.
    if !fields.is_call {
        options.timeout = read_duration(fields, "timeout")?;
        options.grace = read_duration(fields, "grace")?.unwrap_or(options.grace);
    }
    match (options.timeout, fields.get("timeout")) {
        (Some(Micros::ZERO), Some(entry)) => {
            Err(fields.bad("timeout", "0", "nothing could run in no time", &entry.node))
        }
        _ => Ok(options),
    }
}

fn read_duration(fields: &Fields<'_>, field: &str) -> Outcome<Option<Micros>> {
    let Some(entry) = fields.get(field) else { return Ok(None) };
    let read = duration(&entry.node)
        .ok_or_else(|| fields.wrong_type(field, "a duration such as `\"10m\"`", &entry.node))?;
    read.map(Some).map_err(|reason| fields.bad(field, &shown(&entry.node), &reason, &entry.node))
}

/// A whole number in the bounds of its type.
fn whole<N: TryFrom<i64>>(fields: &Fields<'_>, field: &str, node: &Node) -> Outcome<N> {
    let Tree::Int(number) = node.tree else {
        return Err(fields.wrong_type(field, "a whole number", node));
    };
    N::try_from(number).map_err(|_| {
        let reason = match number < 0 && N::try_from(-1).is_err() {
            true => "it is negative",
            false => "it is too large",
        };
        fields.bad(field, &number.to_string(), reason, node)
    })
}

/// A value as written, for messages.
fn shown(node: &Node) -> String {
    node.word().unwrap_or_default().escape_debug().to_string()
}

fn read_resources(fields: &Fields<'_>) -> Outcome<Resources> {
    let mut resources = Resources::cores(1);
    for entry in fields.merged("resources")? {
        let field = format!("resources.{}", entry.key);
        match entry.key.as_str() {
            "cpus" => resources.cpus = read_cpus(fields, &field, &entry.node)?,
            "gpus" => resources.gpus = whole(fields, &field, &entry.node)?,
            "memory" => resources.memory_bytes = read_memory(fields, &field, &entry.node)?,
            "ranks" | "nodes" => return Err(fields.unsupported(&field, entry)),
            _ => {
                check_custom_name(fields, &field, entry)?;
                resources.custom.insert(entry.key.clone(), whole(fields, &field, &entry.node)?);
            }
        }
    }
    Ok(resources)
}

fn read_cpus(fields: &Fields<'_>, field: &str, node: &Node) -> Outcome<u32> {
    match whole(fields, field, node)? {
        0 => Err(fields.bad(field, "0", "a task needs at least one", node)),
        cpus => Ok(cpus),
    }
}

fn read_memory(fields: &Fields<'_>, field: &str, node: &Node) -> Outcome<u64> {
    let read = size(node).ok_or_else(|| fields.wrong_type(field, "a size such as `\"2GiB\"`", node))?;
    read.map_err(|reason| fields.bad(field, &shown(node), &reason, node))
}

fn check_custom_name(fields: &Fields<'_>, field: &str, entry: &Entry) -> Outcome<()> {
    let meant = MEANT.iter().find(|(alias, _)| *alias == entry.key).map(|(_, known)| *known);
    let meant = meant.or_else(|| KNOWN.into_iter().find(|known| is_near(&entry.key, known)));
    if let Some(known) = meant {
        let (field, of) = (field.to_owned(), fields.of.clone());
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
