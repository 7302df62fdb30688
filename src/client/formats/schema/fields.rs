//! The fields of tasks: which there are, what they go with, and how one task's are looked up.

use crate::client::formats::description::{Variable, Vocabulary};
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, Span, Tree, find};

/// What a field of a task goes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum With {
    Anything,
    Run,
    Python,
    /// A function of either kind.
    Function,
    /// What runs in a process of its own.
    Process,
    /// Planned for later versions.
    Nothing,
}

/// What kind of work a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Call,
    Python,
}

impl Kind {
    /// The fields that say what a task does. One of them is there.
    const FIELDS: [(&'static str, Kind); 3] =
        [("run", Kind::Run), ("call", Kind::Call), ("python", Kind::Python)];

    /// The kind that a task's own fields say; a program, if they say none.
    pub fn of(own: &[Entry]) -> Kind {
        Kind::FIELDS
            .into_iter()
            .find(|(name, _)| find(own, name).is_some())
            .map_or(Kind::Run, |(_, kind)| kind)
    }
}

/// A field of a task.
pub(super) struct Field {
    name: &'static str,
    pub with: With,
    /// True if `defaults` may have it.
    pub is_default: bool,
}

const fn field(name: &'static str, with: With, is_default: bool) -> Field {
    Field { name, with, is_default }
}

/// All fields of tasks.
const FIELDS: [Field; 25] = [
    field("run", With::Anything, false),
    field("call", With::Anything, false),
    field("python", With::Anything, false),
    field("args", With::Function, false),
    field("kwargs", With::Python, false),
    field("each", With::Anything, false),
    field("zip", With::Anything, false),
    field("after", With::Anything, false),
    field("inputs", With::Anything, false),
    field("outputs", With::Anything, false),
    field("stdin", With::Run, false),
    field("stdout", With::Run, true),
    field("stderr", With::Run, true),
    field("capture_limit", With::Run, true),
    field("env", With::Process, true),
    field("cwd", With::Process, true),
    field("resources", With::Anything, true),
    field("retries", With::Anything, true),
    field("timeout", With::Process, true),
    field("grace", With::Process, true),
    field("priority", With::Anything, true),
    field("expected", With::Anything, true),
    field("keep", With::Anything, true),
    field("publish", With::Run, true),
    field("isolated", With::Nothing, true),
];

/// What fields are called elsewhere, and what is written here.
const ELSEWHERE: [(&[&str], &str); 13] = [
    (&["cmd", "command", "shell", "script"], "run"),
    (&["function", "fn"], "call"),
    (&["needs", "depends_on", "deps", "depends", "requires", "dependencies"], "after"),
    (&["input"], "inputs"),
    (&["output"], "outputs"),
    (&["cpus", "threads", "cores"], "resources = { cpus = 2 }"),
    (&["memory", "mem"], "resources = { memory = \"2GiB\" }"),
    (&["gpus"], "resources = { gpus = 1 }"),
    (&["walltime", "time", "time_limit"], "timeout"),
    (&["dir", "workdir", "chdir", "directory"], "cwd"),
    (&["environment"], "env"),
    (&["foreach", "array", "matrix", "items"], "each"),
    (&["retry"], "retries"),
];

/// The fields of one task, with those of `defaults` behind them.
pub(super) struct Fields<'t> {
    pub name: &'t str,
    /// "task `b`", or "`defaults`".
    pub of: String,
    pub own: &'t [Entry],
    pub defaults: &'t [Entry],
    pub kind: Kind,
    pub variables: Vec<Variable>,
}

impl<'t> Fields<'t> {
    /// A field of the task itself.
    pub fn own(&self, name: &str) -> Option<&'t Entry> {
        find(self.own, name)
    }

    /// A field of the task, or else of `defaults`.
    pub fn get(&self, name: &str) -> Option<&'t Entry> {
        self.own(name).or_else(|| find(self.defaults, name))
    }

    /// The entries of a table that `defaults` adds to: those of `defaults`, then the task's own.
    pub fn merged(&self, name: &str) -> Outcome<Vec<&'t Entry>> {
        let behind = entries_of(self.defaults, name, &self.of)?;
        let own = entries_of(self.own, name, &self.of)?;
        let kept = behind.iter().filter(|entry| find(own, &entry.key).is_none());
        Ok(kept.chain(own).collect())
    }

    /// What may stand in braces in one of its fields.
    pub fn vocabulary<'a>(&'a self, field: &'a str, allowed: &'static [&'static str]) -> Vocabulary<'a> {
        Vocabulary { variables: &self.variables, allowed, field, of: &self.of }
    }

    /// Refuses a value of another type.
    pub fn wrong_type(&self, field: &str, expected: &'static str, node: &Node) -> Box<Fault> {
        Fault::wrong_type(field, &self.of, expected, node)
    }

    /// Refuses a value that makes no sense.
    pub fn bad(&self, field: &str, value: &str, reason: &str, node: &Node) -> Box<Fault> {
        Fault::bad_value(node.span, field, &self.of, value, reason)
    }

    /// Refuses what this version does not know yet.
    pub fn unsupported(&self, field: &str, entry: &Entry) -> Box<Fault> {
        let (field, of) = (field.to_owned(), self.of.clone());
        Fault::at(entry.key_span, Problem::Unsupported { field, of })
    }

    /// A list of texts; a single text stands for a list of one.
    pub fn texts(&self, field: &str) -> Outcome<Vec<(&'t Node, &'t str)>> {
        let Some(entry) = self.own(field) else { return Ok(Vec::new()) };
        let text = |node: &'t Node| match &node.tree {
            Tree::Text(text) => Ok((node, text.as_str())),
            _ => Err(self.wrong_type(field, "a list of texts", node)),
        };
        match &entry.node.tree {
            Tree::List(nodes) => nodes.iter().map(text).collect(),
            _ => Ok(vec![text(&entry.node)?]),
        }
    }

    /// Refuses fields that a task of its kind cannot have.
    pub fn check(&self, span: Span) -> Outcome<()> {
        for entry in self.own {
            if find_field(entry, &self.of)?.with == With::Nothing {
                return Err(self.unsupported(&entry.key, entry));
            }
        }
        let task = self.name.to_owned();
        let works: Vec<&Entry> = Kind::FIELDS.iter().filter_map(|(name, _)| self.own(name)).collect();
        match works[..] {
            [] => return Err(Fault::at(span, Problem::MissingWork(task))),
            [first, second, ..] => {
                let later = first.key_span.start.max(second.key_span.start);
                let span = if later == first.key_span.start { first.key_span } else { second.key_span };
                let (first, second) = (first.key.clone(), second.key.clone());
                return Err(Fault::at(span, Problem::SeveralWorks { task, first, second }));
            }
            _ => {}
        }
        self.own.iter().try_for_each(|entry| self.check_place(entry))
    }

    /// Refuses fields of commands on calls and the other way round.
    fn check_place(&self, entry: &Entry) -> Outcome<()> {
        let goes_with = match (find_field(entry, &self.of)?.with, self.kind) {
            (With::Process, Kind::Call) if ["timeout", "grace"].contains(&entry.key.as_str()) => {
                let of = format!("{}, which calls a function,", self.of);
                let field = entry.key.clone();
                return Err(Fault::at(entry.key_span, Problem::Unsupported { field, of }));
            }
            (With::Run, Kind::Call | Kind::Python) => "`run`",
            (With::Process, Kind::Call) => "`run` or `python`",
            (With::Function, Kind::Run) => "`call` or `python`",
            (With::Python, Kind::Run | Kind::Call) => "`python`",
            _ => return Ok(()),
        };
        let (field, task) = (entry.key.clone(), self.name.to_owned());
        Err(Fault::at(entry.key_span, Problem::Misplaced { field, task, goes_with }))
    }
}

/// A field of this name, or what is said when there is none.
pub(super) fn find_field(entry: &Entry, of: &str) -> Outcome<&'static Field> {
    FIELDS.iter().find(|field| field.name == entry.key).ok_or_else(|| {
        let (field, of) = (entry.key.clone(), of.to_owned());
        let fault = Fault::at(entry.key_span, Problem::UnknownField { field, of });
        match called_here(&entry.key) {
            Some(here) => fault.hint(format!("here this is written `{here}`")),
            None => fault.nearest(&entry.key, FIELDS.iter().map(|field| field.name)),
        }
    })
}

/// What a field of another tool is written like here.
fn called_here(field: &str) -> Option<&'static str> {
    let field = field.to_ascii_lowercase().replace('-', "_");
    ELSEWHERE.iter().find(|(names, _)| names.contains(&field.as_str())).map(|(_, here)| *here)
}

/// The entries of a table; none if it is not there.
pub(super) fn entries_of<'t>(entries: &'t [Entry], key: &str, of: &str) -> Outcome<&'t [Entry]> {
    match find(entries, key) {
        None => Ok(&[]),
        Some(Entry { node: Node { tree: Tree::Table(entries), .. }, .. }) => Ok(entries),
        Some(entry) => Err(Fault::wrong_type(key, of, "a table", &entry.node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_elsewhere_lead_to_fields() {
        let is_field = |name: &str| FIELDS.iter().any(|field| field.name == name);
        for (names, here) in ELSEWHERE {
            assert!(is_field(here.split(' ').next().unwrap()), "{here}");
            assert!(!names.iter().any(|name| is_field(name)), "{names:?}");
        }
        assert_eq!(called_here("Depends-On"), Some("after"));
        assert_eq!(called_here("retrys"), None);
    }
}
