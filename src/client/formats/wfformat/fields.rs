//! The fields of a recorded execution: looked up, and refused by name when they are something else.

use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, Span, Tree, find};

/// One table of the file. Fields that nobody asks for may be anything: the format is rich.
pub(super) struct Record<'t> {
    /// Whose fields these are: "task `b`", "the file".
    pub of: String,
    pub span: Span,
    entries: &'t [Entry],
}

impl<'t> Record<'t> {
    /// A table that is the value of `field`, or an element of it.
    pub fn new(node: &'t Node, field: &str, of: impl Into<String>) -> Outcome<Record<'t>> {
        let of = of.into();
        match &node.tree {
            Tree::Table(entries) => Ok(Record { of, span: node.span, entries }),
            _ => Err(Fault::wrong_type(field, &of, "a table", node)),
        }
    }

    /// A field; `null` is as good as none.
    pub fn get(&self, field: &str) -> Option<&'t Node> {
        let node = &find(self.entries, field)?.node;
        (node.tree != Tree::Null).then_some(node)
    }

    /// A field that must be there.
    pub fn need(&self, field: &str) -> Outcome<&'t Node> {
        self.get(field).ok_or_else(|| {
            let names = self.entries.iter().map(|entry| entry.key.as_str());
            let (of, field) = (self.of.clone(), field.to_owned());
            Fault::at(self.span, Problem::MissingField { field: field.clone(), of }).nearest(&field, names)
        })
    }

    /// A table in this one.
    pub fn table(&self, field: &str) -> Outcome<Record<'t>> {
        Record::new(self.need(field)?, field, self.of.clone())
    }

    /// The elements of a list; none if it is not there.
    pub fn list(&self, field: &str) -> Outcome<&'t [Node]> {
        match self.get(field) {
            None => Ok(&[]),
            Some(Node { tree: Tree::List(nodes), .. }) => Ok(nodes),
            Some(node) => Err(Fault::wrong_type(field, &self.of, "a list", node)),
        }
    }

    /// A list of names with their places; empty if it is not there.
    pub fn names(&self, field: &str) -> Outcome<Vec<(&'t str, Span)>> {
        self.list(field)?.iter().map(|node| self.as_name(field, node)).collect()
    }

    /// A name that must be there.
    pub fn name(&self, field: &str) -> Outcome<(&'t str, Span)> {
        self.as_name(field, self.need(field)?)
    }

    fn as_name(&self, field: &str, node: &'t Node) -> Outcome<(&'t str, Span)> {
        match &node.tree {
            Tree::Text(text) => Ok((text, node.span)),
            _ => Err(Fault::wrong_type(field, &self.of, "text", node)),
        }
    }

    /// A number that is neither negative nor above `limit`; none if it is not there.
    pub fn number(&self, field: &str, limit: f64) -> Outcome<Option<f64>> {
        let Some(node) = self.get(field) else { return Ok(None) };
        let number = match &node.tree {
            Tree::Int(number) => *number as f64,
            Tree::Float(number, _) => *number,
            _ => return Err(Fault::wrong_type(field, &self.of, "a number", node)),
        };
        if (0.0..=limit).contains(&number) {
            return Ok(Some(number));
        }
        let shown = node.word().unwrap_or_default();
        Err(Fault::bad_value(node.span, field, &self.of, &shown, "it is negative or too large"))
    }
}
