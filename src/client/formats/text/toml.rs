//! TOML into the common tree.

use ::toml::Spanned;
use ::toml::de::{DeArray, DeInteger, DeTable, DeValue};

use super::fault::{Fault, Outcome};
use super::problem::Problem;
use super::tree::{DEPTH_MAX, Entry, Node, Span, Tree};

/// Parses a TOML document.
pub(super) fn parse(text: &str) -> Outcome<Node> {
    let document = DeTable::parse(text).map_err(|error| syntax_fault(&error, text))?;
    let span = span(document.span());
    Ok(Node { span, tree: table(document.get_ref(), text, DEPTH_MAX)? })
}

fn syntax_fault(error: &::toml::de::Error, text: &str) -> Box<Fault> {
    let message = error.message().trim().replace('\n', ", ");
    let place = error.span().map_or(Span { start: text.len(), end: text.len() }, span);
    let problem = match message.as_str() {
        "duplicate key" => {
            Problem::DuplicateKey(text.get(place.start..place.end).unwrap_or_default().to_owned())
        }
        deep if deep.contains("recursion") => Problem::TooDeep { limit: DEPTH_MAX },
        _ => Problem::Syntax(message),
    };
    Fault::at(place, problem)
}

fn span(range: std::ops::Range<usize>) -> Span {
    Span { start: range.start, end: range.end }
}

fn node(value: &Spanned<DeValue<'_>>, text: &str, depth: usize) -> Outcome<Node> {
    let span = span(value.span());
    let depth = depth.checked_sub(1).ok_or_else(|| Fault::at(span, Problem::TooDeep { limit: DEPTH_MAX }))?;
    let tree = match value.get_ref() {
        DeValue::String(string) => Tree::Text(string.to_string()),
        DeValue::Integer(integer) => Tree::Int(whole(integer, span)?),
        DeValue::Float(float) => {
            let written = text[span.start..span.end].replace('_', "");
            let number = float.as_str().parse();
            Tree::Float(
                number.map_err(|_| Fault::at(span, Problem::NumberTooLarge(written.clone())))?,
                written,
            )
        }
        DeValue::Boolean(flag) => Tree::Bool(*flag),
        DeValue::Datetime(_) => {
            return Err(Fault::at(span, Problem::DateOrTime).hint("write it as text, in quotes"));
        }
        DeValue::Array(array) => list(array, text, depth)?,
        DeValue::Table(entries) => table(entries, text, depth)?,
    };
    Ok(Node { span, tree })
}

fn whole(integer: &DeInteger<'_>, span: Span) -> Outcome<i64> {
    i64::from_str_radix(integer.as_str(), integer.radix())
        .map_err(|_| Fault::at(span, Problem::NumberTooLarge(integer.to_string())))
}

fn list(array: &DeArray<'_>, text: &str, depth: usize) -> Outcome<Tree> {
    array.iter().map(|value| node(value, text, depth)).collect::<Outcome<_>>().map(Tree::List)
}

/// The parser sorts names; the file's order comes back from where they stand.
fn table(entries: &DeTable<'_>, text: &str, depth: usize) -> Outcome<Tree> {
    let mut found = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        found.push(Entry {
            key: key.get_ref().to_string(),
            key_span: span(key.span()),
            node: node(value, text, depth)?,
        });
    }
    found.sort_by_key(|entry| entry.key_span.start);
    Ok(Tree::Table(found))
}
