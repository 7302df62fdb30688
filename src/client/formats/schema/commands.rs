//! The fields of tasks that `run` a program.

use crate::client::formats::description::{
    CAPTURE_LIMIT_BYTES, LineSpec, Reference, RunSpec, StreamSpec, Template, Vocabulary,
};
use crate::client::formats::text::units::size;
use crate::client::formats::text::{Entry, Fault, Node, Outcome, Span, Tree, is_near};

use super::fields::Fields;

/// The words that are no files.
const STREAMS: [&str; 3] = ["capture", "forward", "discard"];

/// Reads `run` and the fields that go with it.
pub(super) fn read_command(
    fields: &Fields<'_>,
    run: &Node,
    references: &mut Vec<Reference>,
) -> Outcome<RunSpec> {
    Ok(RunSpec {
        line: read_line(fields, run)?,
        environment: read_environment(fields)?,
        directory: read_directory(fields)?,
        stdin: read_stdin(fields, references)?,
        stdout: read_stream(fields, "stdout")?,
        stderr: read_stream(fields, "stderr")?,
        capture_limit_bytes: read_capture_limit(fields)?,
        publish: read_publish(fields)?,
    })
}

fn read_line(fields: &Fields<'_>, node: &Node) -> Outcome<LineSpec> {
    let vocabulary = fields.vocabulary("run", Vocabulary::ALL);
    match &node.tree {
        Tree::Text(text) if text.trim().is_empty() => {
            Err(fields.bad("run", text, "the command is empty", node))
        }
        Tree::Text(text) => {
            check_text(fields, "run", text, node)?;
            Ok(LineSpec::Shell(Template::parse_shell(text, node.span, vocabulary)?))
        }
        Tree::List(nodes) => {
            let words = nodes.iter().map(|node| {
                let expected = "a text, or a list of texts and numbers";
                let word = node.word().ok_or_else(|| fields.wrong_type("run", expected, node))?;
                check_text(fields, "run", &word, node)?;
                Template::parse(&word, node.span, vocabulary)
            });
            let words = words.collect::<Outcome<Vec<_>>>()?;
            match words.first().map(Template::constant) {
                None | Some(Some("")) => Err(fields.bad("run", "[]", "it names no program", node)),
                _ => Ok(LineSpec::Arguments(words)),
            }
        }
        _ => Err(fields.wrong_type("run", "a text, or a list of texts", node)),
    }
}

/// No argument, variable or path can have a NUL byte.
fn check_text(fields: &Fields<'_>, field: &str, text: &str, node: &Node) -> Outcome<()> {
    match text.contains('\0') {
        true => Err(fields.bad(field, &text.escape_debug().to_string(), "it has a NUL byte", node)),
        false => Ok(()),
    }
}

/// The variables of `env`, those of `defaults` first.
pub(super) fn read_environment(fields: &Fields<'_>) -> Outcome<Vec<(String, Template)>> {
    fields.merged("env")?.into_iter().map(|entry| read_variable(fields, entry)).collect()
}

fn read_variable(fields: &Fields<'_>, entry: &Entry) -> Outcome<(String, Template)> {
    let name = &entry.key;
    if name.is_empty() || name.contains(['=', '\0']) {
        let shown = name.escape_debug().to_string();
        let reason = "the name of a variable is not empty and has neither `=` nor a NUL byte";
        let node = Node { span: entry.key_span, tree: Tree::Null };
        return Err(fields.bad("env", &shown, reason, &node));
    }
    let field = format!("env.{name}");
    let text = entry.node.word().ok_or_else(|| fields.wrong_type(&field, "text", &entry.node))?;
    check_text(fields, &field, &text, &entry.node)?;
    let template = Template::parse(&text, entry.node.span, fields.vocabulary(&field, Vocabulary::ALL))?;
    Ok((name.clone(), template))
}

/// `cwd`.
pub(super) fn read_directory(fields: &Fields<'_>) -> Outcome<Option<Template>> {
    let Some(entry) = fields.get("cwd") else { return Ok(None) };
    let text = path_text(fields, "cwd", "a path", entry)?;
    Template::parse(text, entry.node.span, fields.vocabulary("cwd", &["key", "attempt"])).map(Some)
}

fn path_text<'t>(
    fields: &Fields<'_>,
    field: &str,
    expected: &'static str,
    entry: &'t Entry,
) -> Outcome<&'t str> {
    match &entry.node.tree {
        Tree::Text(text) if text.is_empty() => Err(fields.bad(field, "", "it is empty", &entry.node)),
        Tree::Text(text) => check_text(fields, field, text, &entry.node).map(|()| text.as_str()),
        _ => Err(fields.wrong_type(field, expected, &entry.node)),
    }
}

/// `stdin = "@key"` takes the value of one task.
fn read_stdin(fields: &Fields<'_>, references: &mut Vec<Reference>) -> Outcome<Option<usize>> {
    let Some(entry) = fields.own("stdin") else { return Ok(None) };
    let Tree::Text(text) = &entry.node.tree else {
        return Err(fields.wrong_type("stdin", "a task's output such as `\"@x\"`", &entry.node));
    };
    let Some(key) = text.strip_prefix('@').filter(|key| !key.starts_with('@')) else {
        return Err(fields
            .bad("stdin", text, "it takes the output of a task, written `@x`", &entry.node)
            .hint("read a file with `run = \"... < file\"`"));
    };
    let vocabulary = fields.vocabulary("stdin", &["key"]);
    references.push(Reference::parse(key, entry.node.span, "stdin", vocabulary)?);
    Ok(Some(references.len() - 1))
}

fn read_stream(fields: &Fields<'_>, field: &'static str) -> Outcome<StreamSpec> {
    let Some(entry) = fields.get(field) else { return Ok(StreamSpec::Capture) };
    let text = path_text(fields, field, "`\"capture\"`, `\"forward\"`, `\"discard\"` or a file", entry)?;
    Ok(match text {
        "capture" => StreamSpec::Capture,
        "forward" => StreamSpec::Forward,
        "discard" => StreamSpec::Discard,
        _ => {
            refuse_misspelt_stream(fields, field, text, entry)?;
            let vocabulary = fields.vocabulary(field, &["key", "attempt"]);
            StreamSpec::File(Template::parse(text, entry.node.span, vocabulary)?)
        }
    })
}

/// A slip would otherwise write a file.
fn refuse_misspelt_stream(fields: &Fields<'_>, field: &str, text: &str, entry: &Entry) -> Outcome<()> {
    match STREAMS.into_iter().find(|stream| is_near(text, stream)) {
        None => Ok(()),
        Some(stream) => Err(Fault::hint(
            fields.bad(field, text, &format!("it was probably meant to be `{stream}`"), &entry.node),
            format!("write `./{text}` for a file of this name"),
        )),
    }
}

/// `publish = "rename"`. A default is for those tasks that have files.
fn read_publish(fields: &Fields<'_>) -> Outcome<Option<Span>> {
    let Some(entry) = fields.get("publish") else { return Ok(None) };
    match &entry.node.tree {
        Tree::Text(text) if text == "rename" => {}
        Tree::Text(text) => {
            return Err(fields.bad("publish", text, "the one way is `\"rename\"`", &entry.node));
        }
        _ => return Err(fields.wrong_type("publish", "`\"rename\"`", &entry.node)),
    }
    match (fields.own("publish"), fields.own("outputs")) {
        (Some(_), None) => Err(fields
            .bad("publish", "rename", "the task declares no `outputs`", &entry.node)
            .hint("name the files that it makes in `outputs`, and give the command `{outputs}`")),
        _ => Ok(Some(entry.node.span)),
    }
}

fn read_capture_limit(fields: &Fields<'_>) -> Outcome<u64> {
    let Some(entry) = fields.get("capture_limit") else { return Ok(CAPTURE_LIMIT_BYTES) };
    let field = "capture_limit";
    let read = size(&entry.node)
        .ok_or_else(|| fields.wrong_type(field, "a size such as `\"1GiB\"`", &entry.node))?;
    let shown = entry.node.word().unwrap_or_default();
    read.map_err(|reason| fields.bad(field, &shown, &reason, &entry.node))
}
