//! The operation of one element: its command or call with everything expanded.

use std::collections::HashSet;

use crate::client::formats::description::{
    Hole, LineSpec, PythonSpec, RunSpec, StreamSpec, TaskSpec, Template, Work,
};
use crate::client::formats::disk::{absolute, absolute_text};
use crate::client::formats::text::{Fault, Outcome, Span};
use crate::core::task::{Body, Call, Command, CommandLine, Operation, Python, Stdin, Stream, Text};

use super::arguments::{Slot, build_arguments, build_entries};
use super::expansion::{Scope, Style};
use super::files::Match;

/// What one element of a task does.
pub(super) fn build_operation(
    task: &TaskSpec,
    slots: &[Slot],
    found: Vec<Match>,
    directory: &str,
    scope: &Scope<'_>,
) -> Outcome<Operation> {
    // Only a command that runs in the graph's directory can use relative paths; functions cannot.
    let is_elsewhere = match &task.work {
        Work::Run(run) => run.directory.is_some(),
        Work::Python(python) => python.directory.is_some(),
        Work::Call { .. } => true,
    };
    let mut inputs: Vec<String> = Vec::with_capacity(found.len());
    let mut paths: Vec<String> = Vec::with_capacity(found.len());
    let mut seen = HashSet::new();
    for one in found.into_iter().filter(|one| seen.insert(one.path.clone())) {
        inputs.push(if is_elsewhere { one.path.clone() } else { one.shown });
        paths.push(one.path);
    }
    let written = task.outputs.iter().map(|output| output.expand(scope, Style::Plain));
    let written = written.collect::<Outcome<Vec<Text>>>()?;
    let outputs: Vec<Text> = written.iter().map(|path| absolute_text(directory, path.clone())).collect();
    let mut shown = if is_elsewhere { outputs.clone() } else { written };
    if matches!(&task.work, Work::Run(run) if run.publish.is_some()) {
        shown = shown.iter().map(Text::staged).collect();
    }
    let key = scope.key;
    let scope = Scope { inputs: &inputs, outputs: &shown, ..*scope };
    let body = match &task.work {
        Work::Call { function, arguments } => {
            let arguments = build_arguments(arguments, slots, &scope)?;
            Body::Call(Call { function: function.clone(), arguments })
        }
        Work::Python(python) => Body::Python(Box::new(build_python(python, slots, directory, &scope)?)),
        Work::Run(run) => {
            let mut command = build_command(run, slots, directory, &scope)?;
            if let Some(span) = run.publish.filter(|_| !outputs.is_empty()) {
                stage_streams(&mut command, &outputs);
                if !command.is_staged() {
                    return Err(not_staged(key.text(), span));
                }
            }
            Body::Command(Box::new(command))
        }
    };
    paths.sort_unstable();
    Ok(Operation { body, outputs, inputs: paths.into_iter().map(Text::Plain).collect() })
}

/// A stream that is a declared output goes where the others go.
fn stage_streams(command: &mut Command, outputs: &[Text]) {
    for stream in [&mut command.stdout, &mut command.stderr] {
        if let Stream::File(path) = stream
            && outputs.contains(path)
        {
            *path = path.staged();
        }
    }
}

fn not_staged(task: &str, span: Span) -> Box<Fault> {
    let reason = "the command does not say `{outputs}`, so it cannot write its files elsewhere first";
    Fault::bad_value(span, "publish", &format!("task `{task}`"), "rename", reason)
        .hint("write `{outputs}` where the command names the files that it makes")
}

fn build_python(python: &PythonSpec, slots: &[Slot], directory: &str, scope: &Scope<'_>) -> Outcome<Python> {
    let environment = python.environment.iter();
    let environment = environment.map(|(name, text)| Ok((name.clone(), text.expand(scope, Style::Plain)?)));
    let cwd = python.directory.as_ref().map(|text| text.expand(scope, Style::Plain)).transpose()?;
    let module = match python.module.ends_with(".py") {
        true => absolute(directory, &python.module),
        false => python.module.clone(),
    };
    Ok(Python {
        module,
        function: python.function.clone(),
        arguments: build_arguments(&python.arguments, slots, scope)?,
        keywords: build_entries(&python.keywords, slots, scope)?,
        environment: environment.collect::<Outcome<_>>()?,
        directory: cwd.map_or_else(|| Text::from(directory), |cwd| absolute_text(directory, cwd)),
    })
}

fn build_command(run: &RunSpec, slots: &[Slot], directory: &str, scope: &Scope<'_>) -> Outcome<Command> {
    let environment = run.environment.iter();
    let environment = environment.map(|(name, text)| Ok((name.clone(), text.expand(scope, Style::Plain)?)));
    let stdin = match run.stdin.map(|number| &slots[number]) {
        Some(Slot::Input(position)) => Stdin::Input(*position),
        _ => Stdin::Null,
    };
    let cwd = run.directory.as_ref().map(|text| text.expand(scope, Style::Plain)).transpose()?;
    Ok(Command {
        line: build_line(&run.line, scope)?,
        environment: environment.collect::<Outcome<_>>()?,
        directory: cwd.map_or_else(|| Text::from(directory), |cwd| absolute_text(directory, cwd)),
        stdin,
        stdout: build_stream(&run.stdout, directory, scope)?,
        stderr: build_stream(&run.stderr, directory, scope)?,
        capture_limit_bytes: run.capture_limit_bytes,
    })
}

fn build_line(line: &LineSpec, scope: &Scope<'_>) -> Outcome<CommandLine> {
    let words = match line {
        LineSpec::Shell(text) => return Ok(CommandLine::Shell(text.expand(scope, Style::Shell)?)),
        LineSpec::Arguments(words) => words,
    };
    let mut arguments = Vec::with_capacity(words.len());
    for word in words {
        arguments.extend(build_words(word, scope)?);
    }
    Ok(CommandLine::Arguments(arguments))
}

/// A list of files by itself becomes an argument each.
fn build_words(word: &Template, scope: &Scope<'_>) -> Outcome<Vec<Text>> {
    Ok(match word.lone() {
        Some(Hole::Inputs) => scope.inputs.iter().map(|path| Text::from(path.as_str())).collect(),
        Some(Hole::Outputs) => scope.outputs.to_vec(),
        _ => vec![word.expand(scope, Style::Plain)?],
    })
}

fn build_stream(stream: &StreamSpec, directory: &str, scope: &Scope<'_>) -> Outcome<Stream> {
    Ok(match stream {
        StreamSpec::Capture => Stream::Capture,
        StreamSpec::Forward => Stream::Forward,
        StreamSpec::Discard => Stream::Discard,
        StreamSpec::File(text) => Stream::File(absolute_text(directory, text.expand(scope, Style::Plain)?)),
    })
}
