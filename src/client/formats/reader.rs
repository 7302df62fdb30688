//! Reading a graph file: the way through the stages, from its bytes to a graph.

use std::borrow::Cow;
use std::path::Path;

use crate::core::graph::Graph;

use super::assembly::assemble;
use super::description::Functions;
use super::disk::{FILE_BYTES_MAX, absolute_directory, read_limited, reason};
use super::schema::read_graph;
use super::text::{Fault, GraphFileError, Outcome, Problem, Source, without_mark};

/// Reads a TOML or JSON graph file. Relative paths in it start at its directory.
pub fn read(path: &Path, functions: &Functions) -> Result<Graph, GraphFileError> {
    let file = path.display().to_string();
    let bytes = read_file(path).map_err(|fault| fault.locate(&file, ""))?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read_bytes(path, &bytes, directory, functions)
}

/// Reads a graph from the bytes of a file. Relative paths in it start at `directory`.
///
/// Files that patterns and lists name are looked up on disk; otherwise only `bytes` is looked at.
pub fn read_bytes(
    path: &Path,
    bytes: &[u8],
    directory: &Path,
    functions: &Functions,
) -> Result<Graph, GraphFileError> {
    let file = path.display().to_string();
    let bytes = without_mark(bytes);
    let read = build(path, bytes, directory, functions);
    read.map_err(|fault| fault.locate(&file, &String::from_utf8_lossy(bytes)))
}

fn build(path: &Path, bytes: &[u8], directory: &Path, functions: &Functions) -> Outcome<Graph> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::whole(Problem::TooLarge { limit_bytes: FILE_BYTES_MAX }));
    }
    let source = Source::new(bytes)?;
    let directory = absolute_directory(directory)?;
    let root = source.parse()?;
    let spec = read_graph(&root, &name_of(path), Path::new(&directory), functions)?;
    drop(root);
    assemble(&spec, &directory)
}

fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    read_limited(path).map_err(|error| Fault::whole(Problem::Unreadable(reason(&error))))
}

/// A graph's name if the file does not say one: the file's stem, with `-` for what no name has.
pub(super) fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map_or(Cow::Borrowed(""), |stem| stem.to_string_lossy());
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let name: String = stem.chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "graph".to_owned() } else { name.to_owned() }
}
