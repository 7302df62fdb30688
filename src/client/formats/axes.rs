//! The variables of `each`: ranges, lists, files found, lines of a file.

use std::collections::HashSet;
use std::path::Path;

use crate::core::key::Axis;
use crate::core::value::Value;

use super::fault::{Fault, Outcome};
use super::problem::Problem;
use super::reader::{FILE_BYTES_MAX, read_limited, reason};
use super::tree::{Entry, Node, Span, Tree};
use super::vocabulary::{ALL, is_identifier};

/// Most variables that one array can have; a bit each in `Template::uses`.
const VARIABLES_MAX: usize = 16;

/// A variable of `each`.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub name: String,
    pub axis: Axis,
    /// The elements with their types; none when they are what the axis says.
    values: Option<Vec<Value>>,
}

impl Variable {
    /// A variable without types of its own.
    pub fn new(name: &str, axis: Axis) -> Variable {
        Variable { name: name.to_owned(), axis, values: None }
    }

    /// True if arithmetic makes sense.
    pub fn is_range(&self) -> bool {
        matches!(self.axis, Axis::Range { .. })
    }

    /// An element with its type.
    pub fn value(&self, place: usize) -> Value {
        match (&self.values, self.axis.number(place)) {
            (Some(values), _) => values[place].clone(),
            (None, Some(number)) => Value::Int(number),
            (None, None) => Value::Text(self.axis.element(place).into_owned()),
        }
    }
}

/// Reads `each`.
pub(super) fn read_each(node: &Node, of: &str, directory: &Path) -> Outcome<Vec<Variable>> {
    let Tree::Table(entries) = &node.tree else {
        return Err(wrong_type("each", of, "a table such as `{ i = \"1..9\" }`", node));
    };
    if entries.is_empty() {
        return Err(bad(node.span, "each", of, "{}", "it names no variable"));
    }
    if entries.len() > VARIABLES_MAX {
        let reason = format!("an array has at most {VARIABLES_MAX} variables");
        return Err(bad(node.span, "each", of, "{...}", &reason));
    }
    entries.iter().map(|entry| read_variable(entry, of, directory)).collect()
}

fn read_variable(entry: &Entry, of: &str, directory: &Path) -> Outcome<Variable> {
    let name = &entry.key;
    if !is_identifier(name) {
        return Err(Fault::at(entry.key_span, Problem::BadName { what: "variable", name: name.clone() })
            .hint("names of variables are letters, digits and `_`, and do not start with a digit"));
    }
    if ALL.contains(&name.as_str()) {
        let reason = format!("`{{{name}}}` means something else already");
        return Err(bad(entry.key_span, "each", of, name, &reason));
    }
    let elements = Elements { name, of, span: entry.node.span };
    match &entry.node.tree {
        Tree::Text(text) => elements.range(text),
        Tree::List(nodes) => elements.list(nodes),
        Tree::Table(entries) => elements.found(entries, directory),
        _ => Err(wrong_type(&format!("each.{name}"), of, "a range, a list, or a table", &entry.node)),
    }
}

/// The variable whose elements are being read.
struct Elements<'a> {
    name: &'a str,
    of: &'a str,
    span: Span,
}

impl Elements<'_> {
    fn range(&self, text: &str) -> Outcome<Variable> {
        let axis = parse_range(text)
            .map_err(|reason| bad(self.span, &format!("each.{}", self.name), self.of, text, &reason))?;
        Ok(Variable::new(self.name, axis))
    }

    fn list(&self, nodes: &[Node]) -> Outcome<Variable> {
        let field = || format!("each.{}", self.name);
        let expected = "a list of texts, numbers and booleans";
        let mut words = Vec::with_capacity(nodes.len());
        let mut values = Vec::with_capacity(nodes.len());
        for node in nodes {
            words.push(node.word().ok_or_else(|| wrong_type(&field(), self.of, expected, node))?);
            values.push(node.scalar().ok_or_else(|| wrong_type(&field(), self.of, expected, node))?);
        }
        let values = values.iter().any(|value| !matches!(value, Value::Text(_))).then_some(values);
        let mut variable = self.words(words, "the list is empty")?;
        variable.values = values;
        Ok(variable)
    }

    fn found(&self, entries: &[Entry], directory: &Path) -> Outcome<Variable> {
        let field = format!("each.{}", self.name);
        let [entry] = entries else {
            return Err(bad(
                self.span,
                &field,
                self.of,
                "{...}",
                "one of `glob` and `lines` says where from",
            ));
        };
        let text = |node: &Node| match &node.tree {
            Tree::Text(text) => Ok(text.clone()),
            _ => Err(wrong_type(&format!("{field}.{}", entry.key), self.of, "text", node)),
        };
        match entry.key.as_str() {
            "glob" => self.files(&text(&entry.node)?, directory),
            "lines" => self.lines(&text(&entry.node)?, directory),
            _ => {
                let (field, of) = (format!("{field}.{}", entry.key), self.of.to_owned());
                Err(Fault::at(entry.key_span, Problem::UnknownField { field, of })
                    .nearest(&entry.key, ["glob", "lines"]))
            }
        }
    }

    fn files(&self, pattern: &str, directory: &Path) -> Outcome<Variable> {
        let reason = format!("no file matches `{pattern}`");
        let paths = super::files::on_disk(pattern, directory, self.span)?;
        self.words(paths, &reason)
    }

    fn lines(&self, file: &str, directory: &Path) -> Outcome<Variable> {
        let wrong = |reason: &str| bad(self.span, &format!("each.{}", self.name), self.of, file, reason);
        let bytes = read_limited(&directory.join(file)).map_err(|error| wrong(&reason(&error)))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong("it is too large"));
        }
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8 text"))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        self.words(lines, &format!("`{file}` has no lines"))
    }

    fn words(&self, words: Vec<String>, when_empty: &str) -> Outcome<Variable> {
        let (variable, of) = (self.name.to_owned(), self.of.to_owned());
        if words.is_empty() {
            let reason = when_empty.to_owned();
            return Err(Fault::at(self.span, Problem::NoElements { variable, of, reason }));
        }
        let mut seen = HashSet::with_capacity(words.len());
        if let Some(element) = words.iter().find(|word| !seen.insert(word.as_str())) {
            let element = element.clone();
            return Err(Fault::at(self.span, Problem::DuplicateElement { variable, of, element })
                .hint("elements name tasks, so each stands there once"));
        }
        if let Some(word) = words.iter().find(|word| word.contains('\0') || word.is_empty()) {
            let reason = "an element is not empty and has no NUL byte";
            return Err(bad(
                self.span,
                &format!("each.{variable}"),
                &of,
                &word.escape_debug().to_string(),
                reason,
            ));
        }
        drop(seen);
        Ok(Variable::new(self.name, Axis::Words(words)))
    }
}

/// Parses `first..last` or `first..last..step`. The error says what is wrong.
pub(super) fn parse_range(text: &str) -> Result<Axis, String> {
    let parts: Vec<&str> = text.split("..").map(str::trim).collect();
    let (first, last, step) = match parts[..] {
        [first, last] => (first, last, "1"),
        [first, last, step] => (first, last, step),
        _ => return Err("a range is written `1..9` or `1..9..2`, a single element as a list".into()),
    };
    let width = padding(first).max(padding(last));
    let (first, last, step) = (whole(first)?, whole(last)?, whole(step)?);
    if step == 0 {
        return Err("the step is zero".into());
    }
    let distance = i128::from(last) - i128::from(first);
    if distance.signum() * i128::from(step.signum()) < 0 {
        return Err("its end cannot be reached by its step".into());
    }
    let count = distance / i128::from(step) + 1;
    let count =
        u32::try_from(count).map_err(|_| format!("it has {count} elements, more than a graph holds"))?;
    Ok(Axis::Range { first, step, count, width })
}

fn whole(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` is no whole number"));
    }
    text.parse().map_err(|_| format!("`{text}` does not fit into 64 bits"))
}

/// The width that zeros in front ask for; 1 without such zeros.
fn padding(number: &str) -> u8 {
    let digits = number.strip_prefix('-').unwrap_or(number);
    match digits.len() > 1 && digits.starts_with('0') {
        true => digits.len().min(30) as u8,
        false => 1,
    }
}

pub(super) fn wrong_type(field: &str, of: &str, expected: &'static str, node: &Node) -> Box<Fault> {
    let (field, of, found) = (field.to_owned(), of.to_owned(), node.type_name());
    Fault::at(node.span, Problem::WrongType { field, of, expected, found })
}

pub(super) fn bad(span: Span, field: &str, of: &str, value: &str, reason: &str) -> Box<Fault> {
    let (field, of) = (field.to_owned(), of.to_owned());
    Fault::at(span, Problem::BadValue { field, of, value: value.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_and_keep_their_zeros() {
        let check = |text: &str, expected: Option<&str>| {
            let all = |axis: Axis| {
                (0..axis.count()).map(|place| axis.element(place).into_owned()).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(parse_range(text).ok().map(all).as_deref(), expected, "{text}");
        };
        check("1..3", Some("1 2 3"));
        check("08..11", Some("08 09 10 11"));
        check("1..9..4", Some("1 5 9"));
        check("1..8..4", Some("1 5"));
        check("3..1..-1", Some("3 2 1"));
        check("-1..1", Some("-1 0 1"));
        check("5..5", Some("5"));
        check("3..1", None);
        check("1..3..0", None);
        check("1...3", None);
        check("1-3", None);
        check("a..c", None);
        check("0..9999999999", None);
        check("-9223372036854775808..9223372036854775807", None);
    }
}
