//! The text of a graph file: which kind it is, and its parser.

use super::fault::{Fault, Outcome};
use super::problem::Problem;
use super::tree::{Node, Span};
use super::{json, toml};

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
        match without_mark(bytes).iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => Kind::Json,
            _ => Kind::Toml,
        }
    }
}

/// The text of a file that is not packed.
pub struct Source<'t> {
    kind: Kind,
    text: &'t str,
}

impl<'t> Source<'t> {
    /// The bytes of a file as text.
    pub fn new(bytes: &'t [u8]) -> Outcome<Source<'t>> {
        let kind = Kind::of(bytes);
        if kind == Kind::Packed {
            return Err(Fault::whole(Problem::Packed));
        }
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let at = error.valid_up_to();
            Fault::at(Span { start: at, end: at + 1 }, Problem::NotUtf8).hint("save the file as UTF-8")
        })?;
        Ok(Source { kind, text })
    }

    /// What the text says, in the form that both kinds have.
    pub fn parse(&self) -> Outcome<Node> {
        match self.kind {
            Kind::Json => json::parse(self.text),
            _ => toml::parse(self.text).or_else(|fault| parse_list(self.text).ok_or(fault)),
        }
    }
}

/// A file's bytes without what some editors put before a text.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

/// A JSON list starts as a TOML table does. It is no graph either, but the error should say why.
fn parse_list(text: &str) -> Option<Node> {
    text.trim_start().starts_with('[').then(|| json::parse(text).ok()).flatten()
}
