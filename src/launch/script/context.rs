//! The values that a job-script template sees.
//!
//! Every field is there by its name, with `none` for what is not said or left out; what a batch system
//! spells in its own way is spelled here.

use std::collections::BTreeMap;

use minijinja::Value as Seen;

use crate::launch::batch::{MARK_VARIABLE, System};
use crate::launch::field::{FIELDS, Field, Kind};
use crate::launch::given::Value;
use crate::launch::request::{Memory, Request};
use crate::launch::rule::{self, Refusal};
use crate::launch::units;

use super::{ScriptContext, ScriptError, job_name};

type Values = BTreeMap<String, Seen>;

/// All values.
pub fn values(request: &Request, context: &ScriptContext<'_>) -> Result<Seen, ScriptError> {
    check_words(request, context)?;
    let mut flat: Values = FIELDS.iter().map(|field| (field.name.to_owned(), seen(request, field))).collect();
    set(&mut flat, request, "name", Some(name(request, context)));
    set(&mut flat, request, "stdout", path(request, context, "stdout")?);
    set(&mut flat, request, "stderr", path(request, context, "stderr")?);
    // Without the mark no lost job would be found, so only a user's own words can be left out.
    flat.insert("comment".into(), comment(request, context.mark).into());
    set(&mut flat, request, "memory", memory(request));
    set(&mut flat, request, "memory_per_cpu", memory_per_cpu(request));
    set(&mut flat, request, "nodes", Some(request.shape.nodes));
    set(&mut flat, request, "workers_per_node", Some(request.shape.workers_per_node));
    set(&mut flat, request, "cpus_per_worker", request.shape.cpus_per_worker);
    set(&mut flat, request, "environment.export", export(request));
    set(&mut flat, request, "mail.types", mail_types(request));
    let removed: Vec<&str> =
        FIELDS.iter().map(|field| field.name).filter(|name| request.is_removed(name)).collect();
    flat.insert("shebang".into(), request.text("shebang").unwrap_or("#!/bin/bash").into());
    flat.insert("form".into(), request.form().into());
    flat.insert("margin_s".into(), request.seconds("margin").unwrap_or(60).into());
    flat.insert("system".into(), request.system.name().into());
    flat.insert("shape".into(), shape(request));
    flat.insert("chunk".into(), chunk(request, 0).into());
    flat.insert("first_chunk".into(), chunk(request, 1).into());
    flat.insert("total_memory".into(), total_memory(request).into());
    flat.insert("passed".into(), passed(request, context.mark).into());
    flat.insert("removed".into(), removed.into());
    flat.insert("mark".into(), context.mark.into());
    flat.insert("run".into(), utf8("the run directory", context.run)?.into());
    flat.insert("program".into(), utf8("the program", context.program)?.into());
    Ok(nested(flat))
}

/// A value that is spelled in its own way; nothing if its line is left out.
fn set(flat: &mut Values, request: &Request, field: &str, value: Option<impl Into<Seen>>) {
    let value = value.filter(|_| !request.is_removed(field));
    flat.insert(field.to_owned(), value.map_or(Seen::from(()), Into::into));
}

/// A value as most templates want it.
fn seen(request: &Request, field: &Field) -> Seen {
    let empty = || match field.kind {
        kind if kind.is_list() => Seen::from(Vec::<String>::new()),
        kind if kind.is_table() => Seen::from(BTreeMap::<String, String>::new()),
        _ => Seen::from(()),
    };
    let Some(given) = request.given(field.name).filter(|_| !request.is_removed(field.name)) else {
        return empty();
    };
    match (&given.value, field.kind) {
        (Value::Text(_), Kind::Time) => {
            units::clock(request.seconds(field.name).expect("it is a time")).into()
        }
        (Value::Text(text), _) => text.clone().into(),
        (Value::Count(count), _) => (*count).into(),
        (Value::Flag(flag), _) => (*flag).into(),
        (Value::List(list), _) => Seen::from(list.clone()),
        (Value::Pairs(pairs), _) => Seen::from(pairs.clone()),
        (Value::Amounts(amounts), _) => Seen::from(amounts.clone()),
    }
}

/// Tables of the names with a dot.
fn nested(flat: Values) -> Seen {
    let mut top: Values = BTreeMap::new();
    let mut rooms: BTreeMap<String, Values> = BTreeMap::new();
    for (name, value) in flat {
        match name.split_once('.') {
            Some((room, name)) => {
                rooms.entry(room.to_owned()).or_default().insert(name.to_owned(), value);
            }
            None => {
                top.insert(name, value);
            }
        }
    }
    top.extend(rooms.into_iter().map(|(room, values)| (room, Seen::from(values))));
    Seen::from(top)
}

fn check_words(request: &Request, context: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let check = |what, field: &str, text: &str| {
        let field = Field::find(field).expect("the table has it");
        let checked = rule::check(field, request.system, &Value::Text(text.to_owned()));
        checked.map_err(|refusal| ScriptError::Word(what, text.to_owned(), refusal))
    };
    check("the mark", "gpu_type", context.mark)
}

fn utf8(what: &'static str, path: &std::path::Path) -> Result<String, ScriptError> {
    let refuse = |why: &str| {
        let refusal = Refusal { why: why.into(), hint: Some("use a path without such letters".into()) };
        ScriptError::Path(what, path.to_owned(), refusal)
    };
    let text = path.to_str().ok_or_else(|| refuse("it is no UTF-8"))?;
    match text.contains('\0') {
        true => Err(refuse("it contains a NUL byte")),
        false => Ok(text.to_owned()),
    }
}

fn name(request: &Request, context: &ScriptContext<'_>) -> String {
    let asked = request.text("name").map(str::to_owned);
    asked.unwrap_or_else(|| job_name(request.system, context.name))
}

/// Where the script's output goes: below the run directory. Slurm's patterns are switched off.
fn path(
    request: &Request,
    context: &ScriptContext<'_>,
    field: &'static str,
) -> Result<Option<String>, ScriptError> {
    let asked = match (request.text(field), field) {
        (Some(asked), _) => asked,
        (None, "stdout") => "batch.out",
        (None, _) => return Ok(None),
    };
    let full = context.run.join(asked);
    let text = utf8("the job's output", &full)?;
    let text = if request.system == System::Slurm { text.replace('%', "%%") } else { text };
    let of = Field::find(field).expect("the table has it");
    let checked = rule::check(of, request.system, &Value::Text(text.clone()));
    checked.map_err(|refusal| ScriptError::Path("the job's output", full, refusal))?;
    Ok(Some(text))
}

/// The user's words and the mark.
fn comment(request: &Request, mark: &str) -> String {
    match request.text("comment").filter(|_| !request.is_removed("comment")) {
        Some(words) => format!("{words} {mark}"),
        None => mark.to_owned(),
    }
}

/// What carries a mark on the command line. On the way through `ssh` words with spaces would fall apart,
/// so that of a comment the mark alone goes there.
pub fn carrier(request: &Request, mark: &str) -> String {
    match request.system {
        System::Slurm if request.commands().submit.len() > 1 => mark.to_owned(),
        System::Slurm => comment(request, mark),
        System::Pbs | System::Torque | System::Local => passed(request, mark),
    }
}

fn memory(request: &Request) -> Option<String> {
    match request.shape.memory {
        Memory::PerNode(bytes) => Some(format!("{}M", units::mebibytes(bytes))),
        Memory::All => Some("0".into()),
        Memory::PerCpu(_) | Memory::None => None,
    }
}

fn memory_per_cpu(request: &Request) -> Option<String> {
    match request.shape.memory {
        Memory::PerCpu(bytes) => Some(format!("{}M", units::mebibytes(bytes))),
        _ => None,
    }
}

fn is_memory_removed(request: &Request) -> bool {
    request.is_removed("memory") || request.is_removed("memory_per_cpu")
}

fn total_memory(request: &Request) -> Option<String> {
    let each = request.shape.memory_per_node().filter(|_| !is_memory_removed(request))?;
    Some(format!("{}mb", units::mebibytes(each).saturating_mul(u64::from(request.shape.nodes))))
}

/// Slurm takes names of variables as they are; for PBS see `passed`.
fn export(request: &Request) -> Option<String> {
    let list = request.list("environment.export");
    let is_word = list == ["all"] || list == ["none"];
    match (list.is_empty(), is_word, request.system) {
        (true, ..) => None,
        (_, true, System::Slurm) => Some(list[0].to_uppercase()),
        _ => Some(list.join(",")),
    }
}

/// The variables that PBS passes on: those that were named, and the mark.
fn passed(request: &Request, mark: &str) -> String {
    let is_removed = request.is_removed("environment.export");
    let list = if is_removed { &[][..] } else { request.list("environment.export") };
    let names = list.iter().filter(|name| !["all", "none"].contains(&name.as_str())).cloned();
    let mark = format!("{MARK_VARIABLE}={mark}");
    let all: Vec<String> = names.chain([mark]).collect();
    all.join(",")
}

fn mail_types(request: &Request) -> Option<String> {
    let types = request.list("mail.types");
    if types.is_empty() {
        return None;
    }
    if request.system == System::Slurm {
        return Some(types.join(",").to_uppercase());
    }
    let letter = |name: &String| match name.as_str() {
        "begin" => "b",
        "end" => "e",
        "fail" => "a",
        "all" => "abe",
        _ => "n",
    };
    Some(types.iter().map(letter).collect())
}

/// What PBS is told of each node after its count, with room for `extra` more processes.
fn chunk(request: &Request, extra: u64) -> String {
    let shape = &request.shape;
    let has = |field: &str| !request.is_removed(field);
    let mut parts = Vec::new();
    let mut add = |is_there: bool, part: String| {
        if is_there {
            parts.push(part)
        }
    };
    if request.form() == "nodes" {
        add(has("cpus_per_worker"), format!("ppn={}", shape.cpus_per_node()));
        add(has("gpus_per_node"), shape.gpus_per_node.map_or(String::new(), |gpus| format!("gpus={gpus}")));
    } else {
        add(has("cpus_per_worker"), format!("ncpus={}", shape.cpus_per_node()));
        add(has("workers_per_node"), format!("mpiprocs={}", u64::from(shape.workers_per_node) + extra));
        add(has("gpus_per_node"), shape.gpus_per_node.map_or(String::new(), |gpus| format!("ngpus={gpus}")));
        let memory = shape
            .memory_per_node()
            .map_or(String::new(), |bytes| format!("mem={}mb", units::mebibytes(bytes)));
        add(!is_memory_removed(request), memory);
    }
    add(has("constraint"), request.text("constraint").unwrap_or_default().to_owned());
    parts.iter().filter(|part| !part.is_empty()).map(|part| format!(":{part}")).collect()
}

fn shape(request: &Request) -> Seen {
    let shape = &request.shape;
    let nodes = u64::from(shape.nodes);
    let figures = [
        ("nodes", nodes),
        ("workers_per_node", u64::from(shape.workers_per_node)),
        ("workers", shape.workers()),
        ("ranks", shape.workers() + 1),
        ("cpus_per_node", shape.cpus_per_node()),
        ("cpus", shape.cpus_per_node() * nodes),
        ("gpus", u64::from(shape.gpus_per_node.unwrap_or(0)) * nodes),
    ];
    Seen::from(
        figures.into_iter().map(|(name, figure)| (name.to_owned(), Seen::from(figure))).collect::<Values>(),
    )
}
