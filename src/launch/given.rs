//! Values of fields, and where each came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A value, in the shape that its field's kind has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Count(u64),
    /// Yes or no.
    Flag(bool),
    /// Text of any kind.
    Text(String),
    /// Texts.
    List(Vec<String>),
    /// Names and texts.
    Pairs(BTreeMap<String, String>),
    /// Names and whole numbers.
    Amounts(BTreeMap<String, u64>),
}

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub source: Source,
    /// How late it was said: what is said later counts more.
    pub layer: usize,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A built-in template and a line of it.
    BuiltIn(&'static str, usize),
    /// A file and a line of it.
    File(PathBuf, usize),
    /// The command line: the flag.
    Flag(String),
    /// dagmar itself: what it did.
    Own(&'static str),
}

/// Something typed on the command line: `--queue long` is the field `queue`, the text `long` and the
/// flag `--queue`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Typed {
    /// The field, or `environment.variables.NAME`.
    pub field: String,
    /// What was typed.
    pub text: String,
    /// The flag, as it is shown.
    pub flag: String,
}

impl Typed {
    /// What a flag says of a field.
    pub fn new(field: impl Into<String>, text: impl Into<String>, flag: impl Into<String>) -> Self {
        Typed { field: field.into(), text: text.into(), flag: flag.into() }
    }
}

impl Value {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub const fn count(&self) -> Option<u64> {
        match self {
            Value::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The texts, if they are some.
    pub fn list(&self) -> Option<&[String]> {
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }
}

/// As it is shown to people: on one line, and not longer than that.
impl fmt::Display for Value {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self {
            Value::Count(count) => count.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Text(text) => shown(text),
            Value::List(list) => list.iter().map(|text| shown(text)).collect::<Vec<_>>().join(", "),
            Value::Pairs(pairs) => pairs
                .iter()
                .map(|(name, text)| format!("{name}={}", shown(text)))
                .collect::<Vec<_>>()
                .join(", "),
            Value::Amounts(pairs) => {
                pairs.iter().map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(", ")
            }
        };
        out.write_str(&shown)
    }
}

/// Characters of a text that are shown.
const SHOWN_MAX: usize = 120;

/// `text` without anything that a terminal would act on.
pub fn shown(text: &str) -> String {
    let escaped: String = text.chars().take(SHOWN_MAX).flat_map(char::escape_debug).collect();
    let escaped = escaped.replace("\\'", "'").replace("\\\"", "\"");
    if text.chars().nth(SHOWN_MAX).is_some() { format!("{escaped}...") } else { escaped }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::BuiltIn(name, _) => write!(out, "the built-in template `{name}`"),
            Source::File(path, line) => write!(out, "`{}` line {line}", path.display()),
            Source::Flag(flag) => write!(out, "`{flag}`"),
            Source::Own(what) => out.write_str(what),
        }
    }
}
