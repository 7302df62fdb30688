//! What tasks occupy: cores, memory, GPUs, resources of the user's own, and the ranks of MPI programs.

use crate::client::formats::text::units::size;
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, find, is_near};
use crate::core::resources::Resources;
use crate::core::task::Ranks;

use super::fields::{Fields, Kind, entries_of};
use super::options::{shown, whole};

/// The names that mean something here; all others are resources of the user's own.
const KNOWN: [&str; 6] = ["cpus", "memory", "memory_max", "gpus", "nodes", "ranks"];

/// What people write for them; taken as resources of their own, they would never be met.
const MEANT: [(&str, &str); 11] = [
    ("cpu", "cpus"),
    ("core", "cpus"),
    ("cores", "cpus"),
    ("ncpus", "cpus"),
    ("mem", "memory"),
    ("gpu", "gpus"),
    ("ngpus", "gpus"),
    ("ntasks", "ranks"),
    ("nprocs", "ranks"),
    ("mpiprocs", "ranks"),
    ("nnodes", "nodes"),
];

/// Reads what a task occupies on each of its nodes, its ranks if it is an MPI program, and how much memory it may
/// get if it needs more.
pub(super) fn read_resources(fields: &Fields<'_>) -> Outcome<(Resources, Option<Ranks>, u64)> {
    let mut resources = Resources::cores(1);
    let mut asked = Asked::default();
    let mut memory_max = None;
    for entry in fields.merged("resources")? {
        let field = format!("resources.{}", entry.key);
        match entry.key.as_str() {
            "cpus" => resources.cpus = read_count(fields, &field, &entry.node)?,
            "gpus" => resources.gpus = whole(fields, &field, &entry.node)?,
            "memory" => resources.memory_bytes = read_memory(fields, &field, &entry.node)?,
            "memory_max" if fields.kind == Kind::Call => refuse(fields, &field, entry, "`run` or `python`")?,
            "ranks" | "nodes" if fields.kind != Kind::Run => refuse(fields, &field, entry, "`run`")?,
            "memory_max" => memory_max = Some((read_memory(fields, &field, &entry.node)?, &entry.node)),
            "ranks" => asked.ranks = Some((read_count(fields, &field, &entry.node)?, &entry.node)),
            "nodes" => asked.nodes = Some((read_count(fields, &field, &entry.node)?, &entry.node)),
            _ => {
                check_custom_name(fields, &field, entry)?;
                resources.custom.insert(entry.key.clone(), whole(fields, &field, &entry.node)?);
            }
        }
    }
    let ranks = asked.combined(fields, resources.cpus)?;
    resources.cpus = ranks.map_or(resources.cpus, |ranks| ranks.on_node_max() * ranks.cpus);
    let memory_max = check_memory_max(fields, memory_max, resources.memory_bytes, ranks)?;
    Ok((resources, ranks, memory_max))
}

/// There must be something to begin with, on one node.
fn check_memory_max(
    fields: &Fields<'_>,
    most: Option<(u64, &Node)>,
    memory_bytes: u64,
    ranks: Option<Ranks>,
) -> Outcome<u64> {
    let Some((most, node)) = most else { return Ok(0) };
    let reason = match ranks {
        Some(ranks) if ranks.nodes > 1 => "a task of several nodes has the same memory in every attempt",
        _ if memory_bytes == 0 => "there is no `memory` to begin with",
        _ if most < memory_bytes => "its `memory` is more than that",
        _ => return Ok(most),
    };
    Err(fields.bad("resources.memory_max", &shown(node), reason, node))
}

/// What is said about ranks, each with where it stands.
#[derive(Default)]
struct Asked<'t> {
    ranks: Option<(u32, &'t Node)>,
    nodes: Option<(u32, &'t Node)>,
}

impl Asked<'_> {
    /// One node unless more are asked for, and a rank on each unless more are.
    fn combined(self, fields: &Fields<'_>, cpus: u32) -> Outcome<Option<Ranks>> {
        let Some((_, node)) = self.ranks.or(self.nodes) else { return Ok(None) };
        let nodes = self.nodes.map_or(1, |(nodes, _)| nodes);
        let count = self.ranks.map_or(nodes, |(ranks, _)| ranks);
        if count < nodes {
            let reason = format!("there would be nodes without a rank, as it has {nodes} `nodes`");
            return Err(fields.bad("resources.ranks", &count.to_string(), &reason, node));
        }
        let ranks = Ranks { count, nodes, cpus };
        match ranks.on_node_max().checked_mul(cpus) {
            Some(_) => Ok(Some(ranks)),
            None => {
                let reason = format!("with {cpus} `cpus` each it is too large");
                Err(fields.bad("resources.ranks", &count.to_string(), &reason, node))
            }
        }
    }
}

/// A function has no ranks, and no memory of its own: those of `defaults` do not reach it, its own are refused.
fn refuse(fields: &Fields<'_>, field: &str, entry: &Entry, goes_with: &'static str) -> Outcome<()> {
    let own = entries_of(fields.own, "resources", &fields.of)?;
    if find(own, &entry.key).is_none() {
        return Ok(());
    }
    let (field, task) = (field.to_owned(), fields.name.to_owned());
    Err(Fault::at(entry.key_span, Problem::Misplaced { field, task, goes_with }))
}

fn read_count(fields: &Fields<'_>, field: &str, node: &Node) -> Outcome<u32> {
    match whole(fields, field, node)? {
        0 => Err(fields.bad(field, "0", "a task needs at least one", node)),
        count => Ok(count),
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
