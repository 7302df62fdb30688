//! The failed tasks of a run: each with its cause and the end of its standard error.

use std::fmt::Write as _;

use crate::core::graph::Graph;
use crate::observe::snapshot::{FailedAttempt, Snapshot};
use crate::record::layout::RunDirectory;
use crate::record::pack::Piece;
use crate::record::pack_reader::PackReader;

/// Tasks told in full.
const SHOWN: usize = 10;
/// Lines of standard error told of each.
const LINES: usize = 5;
/// Bytes of standard error looked at for them.
const BYTES: u64 = 2_000;

/// The tasks that failed for good, in the order in which they did.
fn failed(snapshot: &Snapshot) -> impl Iterator<Item = &FailedAttempt> {
    snapshot.failures().iter().filter(|failure| !failure.retried)
}

/// The lines that tell of them.
pub fn text(graph: &Graph, snapshot: &Snapshot, directory: &RunDirectory) -> String {
    let counts = snapshot.counts();
    let noun = if counts.total() == 1 { "task" } else { "tasks" };
    let mut text = format!("error: {} of {} {noun} failed\n", counts.failed, counts.total());
    let packs = PackReader::open(&directory.output()).ok();
    for failure in failed(snapshot).take(SHOWN) {
        writeln!(text, "  {}", sentence(graph, snapshot, failure)).expect("writing to a string cannot fail");
        let tail = packs.as_ref().and_then(|packs| {
            packs.tail(failure.task, Some(failure.attempt), Piece::Stderr, BYTES).ok().flatten()
        });
        for line in last_lines(&tail.unwrap_or_default()) {
            writeln!(text, "    | {line}").expect("writing to a string cannot fail");
        }
    }
    let more = (counts.failed as usize).saturating_sub(SHOWN);
    if more > 0 {
        writeln!(text, "  ... and {more} more").expect("writing to a string cannot fail");
    }
    if let Some(first) = failed(snapshot).next() {
        let (run, key) = (directory.name(), graph.key(first.task));
        write!(text, "  hint: everything it printed: `dagmar logs {run} '{key}'`")
            .expect("writing to a string");
    }
    text
}

/// `` `b[3]` exited with 137 on rank 5 (node `n042`) after 2 attempts ``.
fn sentence(graph: &Graph, snapshot: &Snapshot, failure: &FailedAttempt) -> String {
    let worker = snapshot.workers().find(|worker| worker.rank == failure.worker);
    let node = worker.map_or(String::new(), |worker| format!(" (node `{}`)", worker.host));
    let attempts = match failure.attempt.0 {
        1 => String::new(),
        number => format!(" after {number} attempts"),
    };
    let place = format!("on rank {}{node}{attempts}", failure.worker);
    // What a function said may be long: the place stands before it.
    let cause = failure.cause.to_string();
    let told = match cause.split_once(": ") {
        Some((what, why)) => format!("{what} {place}: {why}"),
        None => format!("{cause} {place}"),
    };
    format!("`{}` {told}", graph.key(failure.task))
}

/// The last lines of a stream, fit for a terminal: no control characters.
fn last_lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LINES)..].iter();
    last.map(|line| line.chars().filter(|char| !char.is_control() || *char == '\t').collect()).collect()
}

/// The failed tasks as JSON.
pub fn json(graph: &Graph, snapshot: &Snapshot) -> Vec<serde_json::Value> {
    let failed = failed(snapshot).map(|failure| {
        serde_json::json!({
            "key": graph.key(failure.task),
            "attempt": failure.attempt.0,
            "rank": failure.worker.0,
            "cause": failure.cause.to_string(),
        })
    });
    failed.collect()
}
