//! What one task says with its fields.

use std::path::Path;

use crate::client::formats::description::{
    ArgumentSpec, Functions, PythonSpec, Reference, TaskSpec, Template, Variable, Vocabulary, Work,
};
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Problem, Span, Tree};

use super::arguments::read_argument;
use super::commands::{read_command, read_directory, read_environment};
use super::each::read_each;
use super::fields::{Fields, Kind, entries_of};
use super::options::read_options;

/// Reads one task.
pub(super) fn read_task(
    entry: &Entry,
    defaults: &[Entry],
    directory: &Path,
    functions: &Functions,
) -> Outcome<TaskSpec> {
    check_name("task", &entry.key, entry.key_span)?;
    let of = format!("task `{}`", entry.key);
    let Tree::Table(own) = &entry.node.tree else {
        return Err(Fault::wrong_type(&entry.key, "`tasks`", "a table", &entry.node));
    };
    let mut fields =
        Fields { name: &entry.key, of, own, defaults, kind: Kind::of(own), variables: Vec::new() };
    fields.check(entry.key_span)?;
    if let Some(each) = fields.own("each") {
        fields.variables = read_each(&each.node, &fields.of, directory)?;
    }
    let zipped = read_zip(&fields)?;
    let mut references = Vec::new();
    Ok(TaskSpec {
        name: entry.key.clone(),
        span: entry.key_span,
        zipped,
        work: read_work(&fields, functions, &mut references)?,
        references,
        after: read_after(&fields)?,
        inputs: read_paths(&fields, "inputs", &["key"])?,
        outputs: read_paths(&fields, "outputs", &["key", "attempt"])?,
        options: read_options(&fields)?,
        variables: fields.variables,
    })
}

/// Names start with a letter, a digit or `_` and go on with these, `.` and `-`.
pub fn check_name(what: &'static str, name: &str, span: Span) -> Outcome<()> {
    let first = name.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_');
    if first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Ok(());
    }
    let name = name.escape_debug().to_string();
    Err(Fault::at(span, Problem::BadName { what, name })
        .hint("names are letters, digits, `_`, `.` and `-`, and do not start with `.` or `-`"))
}

fn read_zip(fields: &Fields<'_>) -> Outcome<bool> {
    let Some(entry) = fields.own("zip") else { return Ok(false) };
    let Tree::Bool(zip) = entry.node.tree else {
        return Err(fields.wrong_type("zip", "`true` or `false`", &entry.node));
    };
    let Some(first) = fields.variables.first() else {
        let (field, task) = ("zip".to_owned(), fields.name.to_owned());
        return Err(Fault::at(entry.key_span, Problem::Misplaced { field, task, goes_with: "`each`" }));
    };
    let unequal = fields.variables.iter().find(|other| other.axis.count() != first.axis.count());
    if let Some(other) = unequal.filter(|_| zip) {
        let sized = |variable: &Variable| (variable.name.clone(), variable.axis.count());
        let (of, first, second) = (fields.of.clone(), sized(first), sized(other));
        return Err(Fault::at(entry.key_span, Problem::UnequalLengths { of, first, second }));
    }
    Ok(zip)
}

fn read_work(fields: &Fields<'_>, functions: &Functions, references: &mut Vec<Reference>) -> Outcome<Work> {
    if let Some(run) = fields.own("run") {
        return Ok(Work::Run(Box::new(read_command(fields, &run.node, references)?)));
    }
    if let Some(python) = fields.own("python") {
        return Ok(Work::Python(Box::new(read_python(fields, &python.node, references)?)));
    }
    let call = fields.own("call").expect("one kind of work was found");
    let Tree::Text(function) = &call.node.tree else {
        return Err(fields.wrong_type("call", "the name of a function", &call.node));
    };
    if !functions.contains(function) {
        let (task, function) = (fields.name.to_owned(), function.clone());
        return Err(Fault::at(call.node.span, Problem::UnknownFunction { task, function: function.clone() })
            .hint(format!("functions here: {}", functions.listed()))
            .nearest(&function, functions.names()));
    }
    let arguments = read_arguments(fields, references)?;
    Ok(Work::Call { function: function.clone(), arguments })
}

fn read_arguments(fields: &Fields<'_>, references: &mut Vec<Reference>) -> Outcome<Vec<ArgumentSpec>> {
    match fields.own("args") {
        None => Ok(Vec::new()),
        Some(Entry { node: Node { tree: Tree::List(nodes), .. }, .. }) => nodes
            .iter()
            .map(|node| read_argument(node, fields.vocabulary("args", Vocabulary::ALL), references))
            .collect(),
        Some(entry) => Err(fields.wrong_type("args", "a list", &entry.node)),
    }
}

/// `python = "module:function"` or `python = "file.py:function"`.
fn read_python(fields: &Fields<'_>, node: &Node, references: &mut Vec<Reference>) -> Outcome<PythonSpec> {
    let Tree::Text(text) = &node.tree else {
        return Err(fields.wrong_type("python", "a function such as `\"module:function\"`", node));
    };
    let bad = |reason: &str| {
        fields
            .bad("python", &text.escape_debug().to_string(), reason, node)
            .hint("write `\"module:function\"` or `\"file.py:function\"`")
    };
    let (module, function) = text.rsplit_once(':').ok_or_else(|| bad("it names no function"))?;
    if !function.split('.').all(is_python_name) {
        return Err(bad("what follows the colon is no name of a function"));
    }
    let is_file = module.ends_with(".py") && module != ".py";
    if !is_file && !module.split('.').all(is_python_name) {
        return Err(bad("what is before the colon is neither a module nor a file that ends with `.py`"));
    }
    let arguments = read_arguments(fields, references)?;
    let mut keywords = Vec::new();
    for entry in entries_of(fields.own, "kwargs", &fields.of)? {
        if !is_python_name(&entry.key) {
            let shown = entry.key.escape_debug().to_string();
            let reason = "a keyword argument has a name of letters, digits and `_`";
            return Err(fields.bad(
                "kwargs",
                &shown,
                reason,
                &Node { span: entry.key_span, tree: Tree::Null },
            ));
        }
        let vocabulary = fields.vocabulary("kwargs", Vocabulary::ALL);
        keywords.push((entry.key.clone(), read_argument(&entry.node, vocabulary, references)?));
    }
    let (environment, directory) = (read_environment(fields)?, read_directory(fields)?);
    let (module, function) = (module.to_owned(), function.to_owned());
    Ok(PythonSpec { module, function, arguments, keywords, environment, directory })
}

/// True for what can be an identifier: Python knows letters of all alphabets.
fn is_python_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
        && letters.all(|letter| letter == '_' || letter.is_alphanumeric())
}

fn read_after(fields: &Fields<'_>) -> Outcome<Vec<Reference>> {
    let mut after = Vec::new();
    for (node, text) in fields.texts("after")? {
        if let Some(key) = text.strip_prefix('@') {
            return Err(fields
                .bad("after", text, "`@` takes a value, and `after` takes none", node)
                .hint(format!("write `{key}`")));
        }
        after.push(Reference::parse(text, node.span, "after", fields.vocabulary("after", &["key"]))?);
    }
    Ok(after)
}

fn read_paths(
    fields: &Fields<'_>,
    field: &'static str,
    allowed: &'static [&'static str],
) -> Outcome<Vec<Template>> {
    let mut paths = Vec::new();
    for (node, text) in fields.texts(field)? {
        if text.is_empty() || text.contains('\0') {
            let shown = text.escape_debug().to_string();
            return Err(fields.bad(field, &shown, "a path is not empty and has no NUL byte", node));
        }
        paths.push(Template::parse(text, node.span, fields.vocabulary(field, allowed))?);
    }
    Ok(paths)
}
