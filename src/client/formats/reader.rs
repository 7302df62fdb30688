//! Reading a graph file: which kind it is, and the way from its bytes to a graph.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use crate::core::graph::Graph;

use super::assembly::assemble;
use super::fault::{Fault, Outcome, uncapitalised};
use super::problem::{GraphFileError, Problem};
use super::schema::read_graph;
use super::tree::{Node, Span};
use super::{json, toml};

/// The largest file that is read as text. Larger graphs have `each`, or are packed.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// What a packed graph starts with.
const PACKED: &[u8] = b"dagmar\0";

/// What some editors put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The kinds of graph files, known by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The binary form, which `record` reads.
    Packed,
    /// Its first character is a brace.
    Json,
    /// Everything else.
    Toml,
}

impl Kind {
    /// The kind of a file that starts with these bytes.
    pub fn of(bytes: &[u8]) -> Kind {
        if bytes.starts_with(PACKED) {
            return Kind::Packed;
        }
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Kind::Json,
            _ => Kind::Toml,
        }
    }
}

/// The names of the functions that graphs may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    names: BTreeSet<String>,
}

impl Functions {
    /// The functions that are always there.
    pub const BUILT_IN: [&'static str; 17] = [
        "add", "sub", "mul", "div", "sum", "min", "max", "concat", "identity", "list", "get", "len", "range",
        "noop", "sleep", "spin", "fail",
    ];

    /// The functions that are always there.
    pub fn built_in() -> Functions {
        Functions::BUILT_IN.into_iter().collect()
    }

    /// True if there is a function of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// All names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The names as a sentence lists them.
    pub(super) fn listed(&self) -> String {
        self.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

impl<T: Into<String>> FromIterator<T> for Functions {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Functions { names: names.into_iter().map(Into::into).collect() }
    }
}

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
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let read = build(path, bytes, directory, functions);
    read.map_err(|fault| fault.locate(&file, &String::from_utf8_lossy(bytes)))
}

fn build(path: &Path, bytes: &[u8], directory: &Path, functions: &Functions) -> Outcome<Graph> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::whole(Problem::TooLarge { limit_bytes: FILE_BYTES_MAX }));
    }
    let kind = Kind::of(bytes);
    if kind == Kind::Packed {
        return Err(Fault::whole(Problem::Packed));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        Fault::at(Span { start: at, end: at + 1 }, Problem::NotUtf8).hint("save the file as UTF-8")
    })?;
    let directory = absolute_directory(directory)?;
    let root = match kind {
        Kind::Json => json::parse(text)?,
        _ => toml::parse(text).or_else(|fault| parse_list(text).ok_or(fault))?,
    };
    let spec = read_graph(&root, &name_of(path), Path::new(&directory), functions)?;
    drop(root);
    assemble(&spec, &directory)
}

/// A JSON list starts as a TOML table does. It is no graph either, but the error should say why.
fn parse_list(text: &str) -> Option<Node> {
    text.trim_start().starts_with('[').then(|| json::parse(text).ok()).flatten()
}

fn read_file(path: &Path) -> Outcome<Vec<u8>> {
    read_limited(path).map_err(|error| Fault::whole(Problem::Unreadable(reason(&error))))
}

/// A file's bytes, or the first of them if it has more than are read.
pub(super) fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An operating system's reason without its number.
pub(super) fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    uncapitalised(text.split(" (os error").next().unwrap_or(&text))
}

/// A directory as an absolute path. Links stay as they are, for they may differ between nodes.
pub(super) fn absolute_directory(directory: &Path) -> Outcome<String> {
    let absolute =
        std::path::absolute(directory).map_err(|error| Fault::whole(Problem::Unreadable(reason(&error))))?;
    match absolute.to_str() {
        Some(text) => Ok(super::files::absolute("", text)),
        None => Err(Fault::whole(Problem::PathNotUtf8(absolute.display().to_string()))),
    }
}

/// A graph's name if the file does not say one: the file's stem, with `-` for what no name has.
fn name_of(path: &Path) -> String {
    let stem = path.file_stem().map_or(Cow::Borrowed(""), |stem| stem.to_string_lossy());
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_.-".contains(letter);
    let name: String = stem.chars().map(|letter| if fits(letter) { letter } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "graph".to_owned() } else { name.to_owned() }
}
