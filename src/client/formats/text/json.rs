//! Strict JSON into the common tree.

use std::collections::HashSet;

use jsonc_parser::ast::{Array, NumberLit, Object, Value};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::fault::{Fault, Outcome, uncapitalised};
use super::problem::Problem;
use super::tree::{DEPTH_MAX, Entry, Node, Span, Tree};

/// JSON as the standard has it, without any of the extensions that the parser knows.
const STRICT: ParseOptions = ParseOptions {
    allow_comments: false,
    allow_loose_object_property_names: false,
    allow_trailing_commas: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// Parses a JSON document.
pub fn parse(text: &str) -> Outcome<Node> {
    let document = parse_to_ast(text, &CollectOptions::default(), &STRICT).map_err(|e| syntax_fault(&e))?;
    match &document.value {
        Some(value) => node(value, DEPTH_MAX + 1),
        None => Err(Fault::whole(Problem::NoTasks)),
    }
}

fn syntax_fault(error: &ParseError) -> Box<Fault> {
    let problem = match error.kind() {
        ParseErrorKind::NestingDepthExceeded => Problem::TooDeep { limit: DEPTH_MAX },
        kind => Problem::Syntax(uncapitalised(&kind.to_string())),
    };
    Fault::at(span(error.range()), problem)
}

fn span(range: Range) -> Span {
    Span { start: range.start, end: range.end }
}

fn node(value: &Value<'_>, depth: usize) -> Outcome<Node> {
    let span = span(value.range());
    let depth = depth.checked_sub(1).ok_or_else(|| Fault::at(span, Problem::TooDeep { limit: DEPTH_MAX }))?;
    let tree = match value {
        Value::StringLit(literal) => Tree::Text(literal.value.to_string()),
        Value::NumberLit(literal) => number(literal, span)?,
        Value::BooleanLit(literal) => Tree::Bool(literal.value),
        Value::NullKeyword(_) => Tree::Null,
        Value::Array(array) => list(array, depth)?,
        Value::Object(object) => table(object, depth)?,
    };
    Ok(Node { span, tree })
}

/// An integer that does not fit is refused, not rounded: it was probably an identifier.
fn number(literal: &NumberLit<'_>, span: Span) -> Outcome<Tree> {
    let written = literal.value;
    let too_large = || Fault::at(span, Problem::NumberTooLarge(written.to_owned()));
    if serde_json::from_str::<serde::de::IgnoredAny>(written).is_err() {
        return Err(Fault::at(span, Problem::Syntax(format!("`{written}` is no number"))));
    }
    if !written.contains(['.', 'e', 'E']) {
        return written.parse().map(Tree::Int).map_err(|_| too_large());
    }
    let number: f64 = written.parse().map_err(|_| too_large())?;
    number.is_finite().then(|| Tree::Float(number, written.to_owned())).ok_or_else(too_large)
}

fn list(array: &Array<'_>, depth: usize) -> Outcome<Tree> {
    array.elements.iter().map(|value| node(value, depth)).collect::<Outcome<_>>().map(Tree::List)
}

fn table(object: &Object<'_>, depth: usize) -> Outcome<Tree> {
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(object.properties.len());
    for property in &object.properties {
        let key = property.name.as_str();
        let key_span = span(property.name.range());
        if !seen.insert(key) {
            return Err(Fault::at(key_span, Problem::DuplicateKey(key.to_owned())));
        }
        entries.push(Entry { key: key.to_owned(), key_span, node: node(&property.value, depth)? });
    }
    Ok(Tree::Table(entries))
}
