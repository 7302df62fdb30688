//! What TOML and JSON have in common: values that know where they stand.

use crate::core::value::Value;

/// How deeply lists and tables may be nested.
pub(super) const DEPTH_MAX: usize = 64;

/// A stretch of the file in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Its first byte.
    pub start: usize,
    /// The byte behind it.
    pub end: usize,
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Span,
    pub tree: Tree,
}

/// A value as written.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    /// The number, and how it was written.
    Float(f64, String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file; no name twice.
    Table(Vec<Entry>),
}

/// A named value of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

impl Node {
    /// The type in a user's words.
    pub fn type_name(&self) -> &'static str {
        match self.tree {
            Tree::Null => "null",
            Tree::Bool(_) => "a boolean",
            Tree::Int(_) => "a number",
            Tree::Float(..) => "a fraction",
            Tree::Text(_) => "text",
            Tree::List(_) => "a list",
            Tree::Table(_) => "a table",
        }
    }

    /// Text, and what can stand for it: numbers and booleans as written.
    pub fn word(&self) -> Option<String> {
        match &self.tree {
            Tree::Bool(flag) => Some(flag.to_string()),
            Tree::Int(number) => Some(number.to_string()),
            Tree::Float(_, written) => Some(written.clone()),
            Tree::Text(text) => Some(text.clone()),
            Tree::Null | Tree::List(_) | Tree::Table(_) => None,
        }
    }

    /// A value without parts.
    pub fn scalar(&self) -> Option<Value> {
        match &self.tree {
            Tree::Null => Some(Value::Null),
            Tree::Bool(flag) => Some(Value::Bool(*flag)),
            Tree::Int(number) => Some(Value::Int(*number)),
            Tree::Float(number, _) => Some(Value::Float(*number)),
            Tree::Text(text) => Some(Value::Text(text.clone())),
            Tree::List(_) | Tree::Table(_) => None,
        }
    }
}

/// The entry of this name.
pub fn find<'t>(entries: &'t [Entry], key: &str) -> Option<&'t Entry> {
    entries.iter().find(|entry| entry.key == key)
}
