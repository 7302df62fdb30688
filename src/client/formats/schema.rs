//! The fields of a graph file: which there are, and what a task says with them.

use std::path::Path;

use super::arguments::read_argument;
use super::axes::{Variable, bad, read_each, wrong_type};
use super::commands::read_command;
use super::fault::{Fault, Outcome};
use super::options::read_options;
use super::problem::Problem;
use super::reader::Functions;
use super::reference::Reference;
use super::spec::{GraphSpec, TaskSpec, Work};
use super::template::Template;
use super::tree::{Entry, Node, Span, Tree, find};
use super::vocabulary::{ALL, Vocabulary};

/// What a field of a task goes with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum With {
    Anything,
    Run,
    Call,
    /// Planned for later versions.
    Nothing,
}

/// A field of a task.
struct Field {
    name: &'static str,
    with: With,
    /// True if `defaults` may have it.
    is_default: bool,
}

const fn field(name: &'static str, with: With, is_default: bool) -> Field {
    Field { name, with, is_default }
}

/// All fields of tasks.
const FIELDS: [Field; 25] = [
    field("run", With::Anything, false),
    field("call", With::Anything, false),
    field("args", With::Call, false),
    field("each", With::Anything, false),
    field("zip", With::Anything, false),
    field("after", With::Anything, false),
    field("inputs", With::Anything, false),
    field("outputs", With::Anything, false),
    field("stdin", With::Run, false),
    field("stdout", With::Run, true),
    field("stderr", With::Run, true),
    field("capture_limit", With::Run, true),
    field("env", With::Run, true),
    field("cwd", With::Run, true),
    field("resources", With::Anything, true),
    field("retries", With::Anything, true),
    field("timeout", With::Run, true),
    field("grace", With::Run, true),
    field("priority", With::Anything, true),
    field("expected", With::Anything, true),
    field("keep", With::Anything, true),
    field("python", With::Nothing, false),
    field("kwargs", With::Nothing, false),
    field("publish", With::Nothing, true),
    field("isolated", With::Nothing, true),
];

/// What the whole file may say.
const TOP: [&str; 3] = ["name", "defaults", "tasks"];

/// The fields of one task, with those of `defaults` behind them.
pub(super) struct TaskReader<'t> {
    pub name: &'t str,
    /// "task `b`", or "`defaults`".
    pub of: String,
    own: &'t [Entry],
    defaults: &'t [Entry],
    pub is_call: bool,
    pub variables: Vec<Variable>,
}

/// Reads a whole file.
pub(super) fn read_graph(
    root: &Node,
    name: &str,
    directory: &Path,
    functions: &Functions,
) -> Outcome<GraphSpec> {
    let Tree::Table(top) = &root.tree else {
        return Err(wrong_type("the graph", "this file", "a table", root));
    };
    if let Some(entry) = top.iter().find(|entry| !TOP.contains(&entry.key.as_str())) {
        let (field, of) = (entry.key.clone(), "the graph".to_owned());
        return Err(Fault::at(entry.key_span, Problem::UnknownField { field, of })
            .hint("a graph has `name`, `defaults` and `tasks`")
            .nearest(&entry.key, TOP));
    }
    let name = graph_name(top, name)?;
    let defaults = read_defaults(top)?;
    let tasks = entries_of(top, "tasks", "the graph")?;
    if tasks.is_empty() {
        let problem = Problem::NoTasks;
        return Err(Fault::whole(problem).hint("a task is `[tasks.hello]` with `run = \"echo hello\"`"));
    }
    let tasks = tasks.iter().map(|entry| read_task(entry, defaults, directory, functions));
    Ok(GraphSpec { name, tasks: tasks.collect::<Outcome<_>>()? })
}

fn graph_name(top: &[Entry], otherwise: &str) -> Outcome<String> {
    let Some(entry) = find(top, "name") else {
        return Ok(otherwise.to_owned());
    };
    let Tree::Text(name) = &entry.node.tree else {
        return Err(wrong_type("name", "the graph", "text", &entry.node));
    };
    check_name("graph", name, entry.node.span)?;
    Ok(name.clone())
}

/// Names start with a letter, a digit or `_` and go on with these, `.` and `-`.
fn check_name(what: &'static str, name: &str, span: Span) -> Outcome<()> {
    let first = name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    if first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Ok(());
    }
    let name = name.escape_debug().to_string();
    Err(Fault::at(span, Problem::BadName { what, name })
        .hint("names are letters, digits, `_`, `.` and `-`, and do not start with `.` or `-`"))
}

fn entries_of<'t>(entries: &'t [Entry], key: &str, of: &str) -> Outcome<&'t [Entry]> {
    match find(entries, key) {
        None => Ok(&[]),
        Some(Entry { node: Node { tree: Tree::Table(entries), .. }, .. }) => Ok(entries),
        Some(entry) => Err(wrong_type(key, of, "a table", &entry.node)),
    }
}

/// Defaults are checked by themselves, so that one that no task uses is not wrong unnoticed.
fn read_defaults(top: &[Entry]) -> Outcome<&[Entry]> {
    let defaults = entries_of(top, "defaults", "the graph")?;
    let of = "`defaults`".to_owned();
    for entry in defaults {
        let known = find_field(entry, &of)?;
        if known.with == With::Nothing {
            let field = entry.key.clone();
            return Err(Fault::at(entry.key_span, Problem::Unsupported { field, of }));
        }
        if !known.is_default {
            return Err(Fault::at(entry.key_span, Problem::NotADefault(entry.key.clone())));
        }
    }
    let reader =
        TaskReader { name: "", of, own: defaults, defaults: &[], is_call: false, variables: Vec::new() };
    read_options(&reader)?;
    Ok(defaults)
}

fn find_field(entry: &Entry, of: &str) -> Outcome<&'static Field> {
    FIELDS.iter().find(|field| field.name == entry.key).ok_or_else(|| {
        let (field, of) = (entry.key.clone(), of.to_owned());
        Fault::at(entry.key_span, Problem::UnknownField { field, of })
            .nearest(&entry.key, FIELDS.iter().map(|field| field.name))
    })
}

fn read_task(
    entry: &Entry,
    defaults: &[Entry],
    directory: &Path,
    functions: &Functions,
) -> Outcome<TaskSpec> {
    check_name("task", &entry.key, entry.key_span)?;
    let of = format!("task `{}`", entry.key);
    let Tree::Table(own) = &entry.node.tree else {
        return Err(wrong_type(&entry.key, "`tasks`", "a table", &entry.node));
    };
    let mut reader = TaskReader {
        name: &entry.key,
        of,
        own,
        defaults,
        is_call: find(own, "call").is_some(),
        variables: Vec::new(),
    };
    reader.check_fields(entry.key_span)?;
    if let Some(each) = reader.own("each") {
        reader.variables = read_each(&each.node, &reader.of, directory)?;
    }
    let zipped = reader.read_zip()?;
    let mut references = Vec::new();
    Ok(TaskSpec {
        name: entry.key.clone(),
        span: entry.key_span,
        zipped,
        work: reader.read_work(functions, &mut references)?,
        references,
        after: reader.read_after()?,
        inputs: reader.read_paths("inputs", &["key"])?,
        outputs: reader.read_paths("outputs", &["key", "attempt"])?,
        options: read_options(&reader)?,
        variables: reader.variables,
    })
}

impl<'t> TaskReader<'t> {
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
        wrong_type(field, &self.of, expected, node)
    }

    /// Refuses a value that makes no sense.
    pub fn bad(&self, field: &str, value: &str, reason: &str, node: &Node) -> Box<Fault> {
        bad(node.span, field, &self.of, value, reason)
    }

    /// Refuses what this version does not know yet.
    pub fn unsupported(&self, field: &str, entry: &Entry) -> Box<Fault> {
        let (field, of) = (field.to_owned(), self.of.clone());
        Fault::at(entry.key_span, Problem::Unsupported { field, of })
    }

    fn check_fields(&self, span: Span) -> Outcome<()> {
        for entry in self.own {
            if find_field(entry, &self.of)?.with == With::Nothing {
                return Err(self.unsupported(&entry.key, entry));
            }
        }
        let task = self.name.to_owned();
        match (self.own("run"), self.own("call")) {
            (None, None) => return Err(Fault::at(span, Problem::MissingWork(task))),
            (Some(run), Some(call)) => {
                let later = [run, call].into_iter().max_by_key(|entry| entry.key_span.start).unwrap_or(run);
                let (first, second) = ("run".to_owned(), "call".to_owned());
                return Err(Fault::at(later.key_span, Problem::SeveralWorks { task, first, second }));
            }
            _ => {}
        }
        self.own.iter().try_for_each(|entry| self.check_place(entry))
    }

    /// Refuses fields of commands on calls and the other way round.
    fn check_place(&self, entry: &Entry) -> Outcome<()> {
        let goes_with = match (find_field(entry, &self.of)?.with, self.is_call) {
            (With::Run, true) if ["timeout", "grace"].contains(&entry.key.as_str()) => {
                let of = format!("{}, which calls a function,", self.of);
                let field = entry.key.clone();
                return Err(Fault::at(entry.key_span, Problem::Unsupported { field, of }));
            }
            (With::Run, true) => "run",
            (With::Call, false) => "call",
            _ => return Ok(()),
        };
        let (field, task) = (entry.key.clone(), self.name.to_owned());
        Err(Fault::at(entry.key_span, Problem::Misplaced { field, task, goes_with }))
    }

    fn read_zip(&self) -> Outcome<bool> {
        let Some(entry) = self.own("zip") else { return Ok(false) };
        let Tree::Bool(zip) = entry.node.tree else {
            return Err(self.wrong_type("zip", "`true` or `false`", &entry.node));
        };
        let Some(first) = self.variables.first() else {
            let (field, task) = ("zip".to_owned(), self.name.to_owned());
            return Err(Fault::at(entry.key_span, Problem::Misplaced { field, task, goes_with: "each" }));
        };
        let unequal = self.variables.iter().find(|other| other.axis.count() != first.axis.count());
        if let Some(other) = unequal.filter(|_| zip) {
            let sized = |variable: &Variable| (variable.name.clone(), variable.axis.count());
            let (of, first, second) = (self.of.clone(), sized(first), sized(other));
            return Err(Fault::at(entry.key_span, Problem::UnequalLengths { of, first, second }));
        }
        Ok(zip)
    }

    fn read_work(&self, functions: &Functions, references: &mut Vec<Reference>) -> Outcome<Work> {
        if let Some(run) = self.own("run") {
            return Ok(Work::Run(Box::new(read_command(self, &run.node, references)?)));
        }
        let call = self.own("call").expect("one kind of work was found");
        let Tree::Text(function) = &call.node.tree else {
            return Err(self.wrong_type("call", "the name of a function", &call.node));
        };
        if !functions.contains(function) {
            let (task, function) = (self.name.to_owned(), function.clone());
            return Err(Fault::at(
                call.node.span,
                Problem::UnknownFunction { task, function: function.clone() },
            )
            .hint(format!("functions here: {}", functions.listed()))
            .nearest(&function, functions.names()));
        }
        let arguments = match self.own("args") {
            None => Vec::new(),
            Some(Entry { node: Node { tree: Tree::List(nodes), .. }, .. }) => nodes
                .iter()
                .map(|node| read_argument(node, self.vocabulary("args", ALL), references))
                .collect::<Outcome<_>>()?,
            Some(entry) => return Err(self.wrong_type("args", "a list", &entry.node)),
        };
        Ok(Work::Call { function: function.clone(), arguments })
    }

    fn read_after(&self) -> Outcome<Vec<Reference>> {
        let mut after = Vec::new();
        for (node, text) in self.texts("after")? {
            if let Some(key) = text.strip_prefix('@') {
                return Err(self
                    .bad("after", text, "`@` takes a value, and `after` takes none", node)
                    .hint(format!("write `{key}`")));
            }
            after.push(Reference::parse(text, node.span, "after", self.vocabulary("after", &["key"]))?);
        }
        Ok(after)
    }

    fn read_paths(&self, field: &'static str, allowed: &'static [&'static str]) -> Outcome<Vec<Template>> {
        let mut paths = Vec::new();
        for (node, text) in self.texts(field)? {
            if text.is_empty() || text.contains('\0') {
                let shown = text.escape_debug().to_string();
                return Err(self.bad(field, &shown, "a path is not empty and has no NUL byte", node));
            }
            paths.push(Template::parse(text, node.span, self.vocabulary(field, allowed))?);
        }
        Ok(paths)
    }

    /// A list of texts; a single text stands for a list of one.
    fn texts(&self, field: &str) -> Outcome<Vec<(&'t Node, &'t str)>> {
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
}
