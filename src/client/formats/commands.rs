//! The fields of tasks that `run` a program.

use super::fault::{Fault, Outcome};
use super::nearest::is_near;
use super::reference::Reference;
use super::schema::TaskReader;
use super::spec::{LineSpec, RunSpec, StreamSpec};
use super::template::Template;
use super::tree::{Entry, Node, Tree};
use super::units::size;
use super::vocabulary::ALL;

/// Bytes captured of a stream unless the file says otherwise.
pub(super) const CAPTURE_LIMIT_BYTES: u64 = 1 << 30;

/// The words that are no files.
const STREAMS: [&str; 3] = ["capture", "forward", "discard"];

/// Reads `run` and the fields that go with it.
pub(super) fn read_command(
    reader: &TaskReader<'_>,
    run: &Node,
    references: &mut Vec<Reference>,
) -> Outcome<RunSpec> {
    Ok(RunSpec {
        line: read_line(reader, run)?,
        environment: read_environment(reader)?,
        directory: read_directory(reader)?,
        stdin: read_stdin(reader, references)?,
        stdout: read_stream(reader, "stdout")?,
        stderr: read_stream(reader, "stderr")?,
        capture_limit_bytes: read_capture_limit(reader)?,
    })
}

fn read_line(reader: &TaskReader<'_>, node: &Node) -> Outcome<LineSpec> {
    let vocabulary = reader.vocabulary("run", ALL);
    match &node.tree {
        Tree::Text(text) if text.trim().is_empty() => {
            Err(reader.bad("run", text, "the command is empty", node))
        }
        Tree::Text(text) => {
            check_text(reader, "run", text, node)?;
            Ok(LineSpec::Shell(Template::parse_shell(text, node.span, vocabulary)?))
        }
        Tree::List(nodes) => {
            let words = nodes.iter().map(|node| {
                let expected = "a text, or a list of texts and numbers";
                let word = node.word().ok_or_else(|| reader.wrong_type("run", expected, node))?;
                check_text(reader, "run", &word, node)?;
                Template::parse(&word, node.span, vocabulary)
            });
            let words = words.collect::<Outcome<Vec<_>>>()?;
            match words.first().map(Template::constant) {
                None | Some(Some("")) => Err(reader.bad("run", "[]", "it names no program", node)),
                _ => Ok(LineSpec::Arguments(words)),
            }
        }
        _ => Err(reader.wrong_type("run", "a text, or a list of texts", node)),
    }
}

/// No argument, variable or path can have a NUL byte.
fn check_text(reader: &TaskReader<'_>, field: &str, text: &str, node: &Node) -> Outcome<()> {
    match text.contains('\0') {
        true => Err(reader.bad(field, &text.escape_debug().to_string(), "it has a NUL byte", node)),
        false => Ok(()),
    }
}

fn read_environment(reader: &TaskReader<'_>) -> Outcome<Vec<(String, Template)>> {
    reader.merged("env")?.into_iter().map(|entry| read_variable(reader, entry)).collect()
}

fn read_variable(reader: &TaskReader<'_>, entry: &Entry) -> Outcome<(String, Template)> {
    let name = &entry.key;
    if name.is_empty() || name.contains(['=', '\0']) {
        let shown = name.escape_debug().to_string();
        let reason = "the name of a variable is not empty and has neither `=` nor a NUL byte";
        let node = Node { span: entry.key_span, tree: Tree::Null };
        return Err(reader.bad("env", &shown, reason, &node));
    }
    let field = format!("env.{name}");
    let text = entry.node.word().ok_or_else(|| reader.wrong_type(&field, "text", &entry.node))?;
    check_text(reader, &field, &text, &entry.node)?;
    let template = Template::parse(&text, entry.node.span, reader.vocabulary(&field, ALL))?;
    Ok((name.clone(), template))
}

fn read_directory(reader: &TaskReader<'_>) -> Outcome<Option<Template>> {
    let Some(entry) = reader.get("cwd") else { return Ok(None) };
    let text = path_text(reader, "cwd", "a path", entry)?;
    Template::parse(text, entry.node.span, reader.vocabulary("cwd", &["key", "attempt"])).map(Some)
}

fn path_text<'t>(
    reader: &TaskReader<'_>,
    field: &str,
    expected: &'static str,
    entry: &'t Entry,
) -> Outcome<&'t str> {
    match &entry.node.tree {
        Tree::Text(text) if text.is_empty() => Err(reader.bad(field, "", "it is empty", &entry.node)),
        Tree::Text(text) => check_text(reader, field, text, &entry.node).map(|()| text.as_str()),
        _ => Err(reader.wrong_type(field, expected, &entry.node)),
    }
}

/// `stdin = "@key"` takes the value of one task.
fn read_stdin(reader: &TaskReader<'_>, references: &mut Vec<Reference>) -> Outcome<Option<usize>> {
    let Some(entry) = reader.own("stdin") else { return Ok(None) };
    let Tree::Text(text) = &entry.node.tree else {
        return Err(reader.wrong_type("stdin", "a task's output such as `\"@x\"`", &entry.node));
    };
    let Some(key) = text.strip_prefix('@').filter(|key| !key.starts_with('@')) else {
        return Err(reader
            .bad("stdin", text, "it takes the output of a task, written `@x`", &entry.node)
            .hint("read a file with `run = \"... < file\"`"));
    };
    let vocabulary = reader.vocabulary("stdin", &["key"]);
    references.push(Reference::parse(key, entry.node.span, "stdin", vocabulary)?);
    Ok(Some(references.len() - 1))
}

fn read_stream(reader: &TaskReader<'_>, field: &'static str) -> Outcome<StreamSpec> {
    let Some(entry) = reader.get(field) else { return Ok(StreamSpec::Capture) };
    let text = path_text(reader, field, "`\"capture\"`, `\"forward\"`, `\"discard\"` or a file", entry)?;
    Ok(match text {
        "capture" => StreamSpec::Capture,
        "forward" => StreamSpec::Forward,
        "discard" => StreamSpec::Discard,
        _ => {
            refuse_misspelt_stream(reader, field, text, entry)?;
            let vocabulary = reader.vocabulary(field, &["key", "attempt"]);
            StreamSpec::File(Template::parse(text, entry.node.span, vocabulary)?)
        }
    })
}

/// A slip would otherwise write a file.
fn refuse_misspelt_stream(reader: &TaskReader<'_>, field: &str, text: &str, entry: &Entry) -> Outcome<()> {
    match STREAMS.into_iter().find(|stream| is_near(text, stream)) {
        None => Ok(()),
        Some(stream) => Err(Fault::hint(
            reader.bad(field, text, &format!("it was probably meant to be `{stream}`"), &entry.node),
            format!("write `./{text}` for a file of this name"),
        )),
    }
}

fn read_capture_limit(reader: &TaskReader<'_>) -> Outcome<u64> {
    let Some(entry) = reader.get("capture_limit") else { return Ok(CAPTURE_LIMIT_BYTES) };
    let field = "capture_limit";
    let read = size(&entry.node)
        .ok_or_else(|| reader.wrong_type(field, "a size such as `\"1GiB\"`", &entry.node))?;
    let shown = entry.node.word().unwrap_or_default();
    read.map_err(|reason| reader.bad(field, &shown, &reason, &entry.node))
}
