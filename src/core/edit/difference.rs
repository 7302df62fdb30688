//! What differs between two operations, in words that complete "`task` runs again: ".

use crate::core::task::{Body, Call, Command, Operation, Python, Stream};

/// Arguments say how many inputs there are, so other inputs may show in them.
pub(super) const ARGUMENTS: &str = "its arguments changed";

/// The first thing that makes an operation another one; `None` if it is the same. How much of a stream may be
/// captured, and whether it is shown besides, makes no difference to what a task gives.
pub(super) fn difference(old: &Operation, new: &Operation) -> Option<&'static str> {
    let work = match (&old.body, &new.body) {
        (Body::Join, Body::Join) => None,
        (Body::Call(old), Body::Call(new)) => of_calls(old, new),
        (Body::Command(old), Body::Command(new)) => of_commands(old, new),
        (Body::Python(old), Body::Python(new)) => of_python(old, new),
        _ => Some("it does something else"),
    };
    let files = [
        (old.outputs != new.outputs, "its declared outputs changed"),
        (old.inputs != new.inputs, "its declared inputs changed"),
    ];
    work.or_else(|| first(&files))
}

fn of_calls(old: &Call, new: &Call) -> Option<&'static str> {
    first(&[
        (old.function != new.function, "it calls another function"),
        (old.arguments != new.arguments, ARGUMENTS),
    ])
}

fn of_python(old: &Python, new: &Python) -> Option<&'static str> {
    first(&[
        ((&old.module, &old.function) != (&new.module, &new.function), "it calls another function"),
        (old.arguments != new.arguments || old.keywords != new.keywords, ARGUMENTS),
        (old.environment != new.environment, "its environment changed"),
        (old.directory != new.directory, "its working directory changed"),
    ])
}

fn of_commands(old: &Command, new: &Command) -> Option<&'static str> {
    first(&[
        (old.line != new.line, "its command changed"),
        (old.environment != new.environment, "its environment changed"),
        (old.directory != new.directory, "its working directory changed"),
        (old.stdin != new.stdin, "its standard input changed"),
        (!goes_where(&old.stdout, &new.stdout), "its standard output goes elsewhere"),
        (!goes_where(&old.stderr, &new.stderr), "its standard error goes elsewhere"),
    ])
}

fn goes_where(old: &Stream, new: &Stream) -> bool {
    let is_captured = |stream: &Stream| matches!(stream, Stream::Capture | Stream::Forward);
    old == new || is_captured(old) && is_captured(new)
}

fn first(differences: &[(bool, &'static str)]) -> Option<&'static str> {
    differences.iter().find(|(differs, _)| *differs).map(|(_, what)| *what)
}
