//! `each`: variables whose elements are ranges, lists, files found, lines of a file.

use std::collections::HashSet;
use std::path::Path;

use crate::client::formats::description::{VARIABLES_MAX, Variable, Vocabulary, is_identifier, parse_range};
use crate::client::formats::disk::{FILE_BYTES_MAX, files_matching, read_limited, reason};
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, Span, Tree, without_mark};
use crate::core::key::Axis;
use crate::core::value::Value;

/// Reads `each`.
pub(super) fn read_each(node: &Node, of: &str, directory: &Path) -> Outcome<Vec<Variable>> {
    let Tree::Table(entries) = &node.tree else {
        return Err(Fault::wrong_type("each", of, "a table such as `{ i = \"1..9\" }`", node));
    };
    if entries.is_empty() {
        return Err(Fault::bad_value(node.span, "each", of, "{}", "it names no variable"));
    }
    if entries.len() > VARIABLES_MAX {
        let reason = format!("an array has at most {VARIABLES_MAX} variables");
        return Err(Fault::bad_value(node.span, "each", of, "{...}", &reason));
    }
    entries.iter().map(|entry| read_variable(entry, of, directory)).collect()
}

fn read_variable(entry: &Entry, of: &str, directory: &Path) -> Outcome<Variable> {
    let name = &entry.key;
    if !is_identifier(name) {
        return Err(Fault::at(entry.key_span, Problem::BadName { what: "variable", name: name.clone() })
            .hint("names of variables are letters, digits and `_`, and do not start with a digit"));
    }
    if Vocabulary::ALL.contains(&name.as_str()) {
        let reason = format!("`{{{name}}}` means something else already");
        return Err(Fault::bad_value(entry.key_span, "each", of, name, &reason));
    }
    let elements = Elements { name, of, span: entry.node.span };
    match &entry.node.tree {
        Tree::Text(text) => elements.range(text),
        Tree::List(nodes) => elements.list(nodes),
        Tree::Table(entries) => elements.found(entries, directory),
        _ => Err(Fault::wrong_type(&format!("each.{name}"), of, "a range, a list, or a table", &entry.node)),
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
        let axis = parse_range(text).map_err(|reason| {
            Fault::bad_value(self.span, &format!("each.{}", self.name), self.of, text, &reason)
        })?;
        Ok(Variable::new(self.name, axis))
    }

    fn list(&self, nodes: &[Node]) -> Outcome<Variable> {
        let field = || format!("each.{}", self.name);
        let expected = "a list of texts, numbers and booleans";
        let mut words = Vec::with_capacity(nodes.len());
        let mut values = Vec::with_capacity(nodes.len());
        for node in nodes {
            words.push(node.word().ok_or_else(|| Fault::wrong_type(&field(), self.of, expected, node))?);
            values.push(node.scalar().ok_or_else(|| Fault::wrong_type(&field(), self.of, expected, node))?);
        }
        let values = values.iter().any(|value| !matches!(value, Value::Text(_))).then_some(values);
        let mut variable = self.words(words, "the list is empty")?;
        variable.values = values;
        Ok(variable)
    }

    fn found(&self, entries: &[Entry], directory: &Path) -> Outcome<Variable> {
        let field = format!("each.{}", self.name);
        let [entry] = entries else {
            return Err(Fault::bad_value(
                self.span,
                &field,
                self.of,
                "{...}",
                "one of `glob` and `lines` says where from",
            ));
        };
        let text = |node: &Node| match &node.tree {
            Tree::Text(text) => Ok(text.clone()),
            _ => Err(Fault::wrong_type(&format!("{field}.{}", entry.key), self.of, "text", node)),
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
        let paths = files_matching(pattern, directory, self.span)?;
        if paths.is_empty() {
            let hint = "the pattern is looked up on disk when the graph is read, \
                        so files that only its tasks will make do not count";
            return Err(self.nothing(&reason).hint(hint));
        }
        self.words(paths, &reason)
    }

    fn lines(&self, file: &str, directory: &Path) -> Outcome<Variable> {
        let wrong =
            |reason: &str| Fault::bad_value(self.span, &format!("each.{}", self.name), self.of, file, reason);
        let bytes = read_limited(&directory.join(file)).map_err(|error| wrong(&reason(&error)))?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(wrong("it is too large"));
        }
        let text = std::str::from_utf8(without_mark(&bytes)).map_err(|_| wrong("it is not UTF-8 text"))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        self.words(lines, &format!("`{file}` has no lines"))
    }

    fn words(&self, words: Vec<String>, when_empty: &str) -> Outcome<Variable> {
        let (variable, of) = (self.name.to_owned(), self.of.to_owned());
        if words.is_empty() {
            return Err(self.nothing(when_empty));
        }
        let mut seen = HashSet::with_capacity(words.len());
        if let Some(element) = words.iter().find(|word| !seen.insert(word.as_str())) {
            let element = element.clone();
            return Err(Fault::at(self.span, Problem::DuplicateElement { variable, of, element })
                .hint("elements name tasks, so each stands there once"));
        }
        if let Some(word) = words.iter().find(|word| word.contains('\0') || word.is_empty()) {
            let reason = "an element is not empty and has no NUL byte";
            return Err(Fault::bad_value(
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

    fn nothing(&self, reason: &str) -> Box<Fault> {
        let (variable, of) = (self.name.to_owned(), self.of.to_owned());
        Fault::at(self.span, Problem::NoElements { variable, of, reason: reason.to_owned() })
    }
}
