//! How tasks run: retries, times, and what else is not resources.

use crate::client::formats::text::units::duration;
use crate::client::formats::text::{Node, Outcome, Tree};
use crate::core::task::TaskOptions;
use crate::core::time::Micros;

use super::fields::{Fields, Kind};
use super::resources::read_resources;

/// Reads the options of a task, or of `defaults`.
pub(super) fn read_options(fields: &Fields<'_>) -> Outcome<TaskOptions> {
    let (resources, ranks, memory_max_bytes) = read_resources(fields)?;
    let mut options = TaskOptions { resources, ranks, memory_max_bytes, ..TaskOptions::default() };
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
    if fields.kind != Kind::Call {
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
pub(super) fn whole<N: TryFrom<i64>>(fields: &Fields<'_>, field: &str, node: &Node) -> Outcome<N> {
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
pub(super) fn shown(node: &Node) -> String {
    node.word().unwrap_or_default().escape_debug().to_string()
}
