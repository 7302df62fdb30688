//! `dagmar graph`: look at graphs, pack them, make them, import them.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::client::formats::make::{self, Kernel, SHAPES, Size};
use crate::client::formats::outline::{Outline, outline};
use crate::client::formats::{Pastime, Replay, read_wfformat};
use crate::core::graph::Graph;
use crate::record::{packed, publish};
use crate::runtime::exit;

use super::failure::Failure;
use super::flags::{GraphCommand, GraphFlags, ImportFlags, ImportFormat, MakeFlags, PackFlags};
use super::output::{Format, Page, tell};
use super::{CommandResult, OK, source};

/// The largest factor of an import: beyond it, times and sizes would not fit.
const SCALE_MAX: f64 = 1000.0;

/// Does what was asked.
pub fn run(command: GraphCommand) -> CommandResult {
    match command {
        GraphCommand::Check(flags) => check(&flags),
        GraphCommand::Show(flags) => show(&flags),
        GraphCommand::Stats(flags) => stats(&flags),
        GraphCommand::Pack(flags) => pack(&flags),
        GraphCommand::Make(flags) => make(&flags),
        GraphCommand::Import(flags) => import(&flags),
    }
}

fn check(flags: &GraphFlags) -> CommandResult {
    let outline = outline(&source::read(&flags.graph)?);
    let mut page = Page::open();
    match flags.output {
        Format::Json => page.json(&json!({ "ok": true, "name": outline.name, "tasks": outline.tasks }))?,
        Format::Human => page.line(format!(
            "`{}` can run: {} tasks, {} dependencies",
            outline.name, outline.tasks, outline.dependencies
        ))?,
    }
    Ok(OK)
}

fn show(flags: &GraphFlags) -> CommandResult {
    let outline = outline(&source::read(&flags.graph)?);
    let mut page = Page::open();
    if flags.output == Format::Json {
        page.json(&json_of(&outline))?;
        return Ok(OK);
    }
    for group in &outline.groups {
        let count = group.elements.map_or(String::new(), |count| format!(" x {count}"));
        page.line(format!("{}{count}  {}", group.name, group.work))?;
        for need in &group.needs {
            page.line(format!("    needs {need}"))?;
        }
    }
    Ok(OK)
}

fn stats(flags: &GraphFlags) -> CommandResult {
    let outline = outline(&source::read(&flags.graph)?);
    let mut page = Page::open();
    if flags.output == Format::Json {
        page.json(&json_of(&outline))?;
        return Ok(OK);
    }
    let rows = [
        ("tasks", outline.tasks),
        ("dependencies", outline.dependencies),
        ("sources", outline.sources),
        ("sinks", outline.sinks),
        ("depth", outline.depth),
        ("width", outline.width),
        ("operations", outline.operations),
    ];
    page.line(format!("{:<13}{}", "name", outline.name))?;
    for (name, count) in rows {
        page.line(format!("{name:<13}{count}"))?;
    }
    Ok(OK)
}

fn json_of(outline: &Outline) -> serde_json::Value {
    let groups = outline.groups.iter().map(|group| {
        json!({ "name": group.name, "elements": group.elements, "work": group.work, "needs": group.needs })
    });
    json!({
        "name": outline.name, "tasks": outline.tasks, "dependencies": outline.dependencies,
        "sources": outline.sources, "sinks": outline.sinks, "depth": outline.depth,
        "width": outline.width, "operations": outline.operations, "groups": groups.collect::<Vec<_>>(),
    })
}

fn pack(flags: &PackFlags) -> CommandResult {
    let graph = source::read(&flags.graph)?;
    let out = flags.out.clone().unwrap_or_else(|| flags.graph.with_extension("dagmar"));
    write(&graph, &out, flags.output)
}

fn make(flags: &MakeFlags) -> CommandResult {
    let unknown = || make::MakeError::UnknownShape(flags.shape.clone());
    let refused = |error: make::MakeError| Failure::usage(error.to_string()).hint(error.hint());
    let shape = SHAPES.iter().find(|(name, _)| *name == flags.shape);
    let (_, shape) = shape.ok_or_else(|| refused(unknown()))?;
    let size = Size { width: flags.width, steps: flags.steps, seed: flags.seed };
    let graph = match flags.iterations {
        None => make::make(*shape, size),
        Some(iterations) => make::make_with_kernel(*shape, size, Kernel { iterations, bytes: flags.bytes }),
    };
    let graph = graph.map_err(refused)?;
    let out = flags.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.dagmar", flags.shape)));
    write(&graph, &out, flags.output)
}

fn import(flags: &ImportFlags) -> CommandResult {
    if !(flags.scale > 0.0 && flags.scale <= SCALE_MAX) {
        let scale = flags.scale;
        return Err(Failure::usage(format!(
            "`--scale` cannot be {scale}: it is above 0 and at most {SCALE_MAX}"
        )));
    }
    let path = &flags.file;
    let bytes = fs::read(path);
    let bytes =
        bytes.map_err(|error| Failure::usage(format!("cannot read `{}`: {error}", path.display())))?;
    let pastime = if flags.spin { Pastime::Spin } else { Pastime::Sleep };
    let graph = match flags.from {
        ImportFormat::Wfformat => read_wfformat(path, &bytes, Replay { scale: flags.scale, pastime }),
    };
    let graph = graph.map_err(source::refused)?;
    let out = flags.out.clone().unwrap_or_else(|| path.with_extension("dagmar"));
    write(&graph, &out, flags.output)
}

fn write(graph: &Graph, path: &Path, output: Format) -> CommandResult {
    let failed = |error| Failure::broken(format!("cannot write `{}`: {error}", path.display()));
    // Another dagmar may have mapped the file that is there, and this graph may lie in it.
    let beside = path.with_file_name(format!(
        ".{}.{}",
        path.file_name().unwrap_or_default().to_string_lossy(),
        publish::unique()
    ));
    let is_replaced = fs::metadata(path).map_or(true, |there| there.is_file());
    let written = if is_replaced { beside.as_path() } else { path };
    let file = File::create(written);
    let file = file.map_err(|error| Failure { exit_code: exit::USAGE, ..failed(error) })?;
    let done = packed::write(graph, BufWriter::new(file));
    let done = done.and_then(|()| if is_replaced { fs::rename(&beside, path) } else { Ok(()) });
    if done.is_err() && is_replaced {
        let _ = fs::remove_file(&beside);
    }
    done.map_err(failed)?;
    let hidden = graph.keys().groups().iter().filter(|group| group.hidden);
    let tasks = graph.len() - hidden.filter_map(|group| group.count()).sum::<u32>() as usize;
    match output {
        Format::Json => Page::open().json(&json!({ "file": path, "tasks": tasks }))?,
        Format::Human => tell(&format!("{tasks} tasks packed into `{}`", path.display())),
    }
    Ok(OK)
}
