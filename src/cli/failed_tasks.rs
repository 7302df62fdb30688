//! The failed tasks of a run: each with its cause and the end of its standard error.

use std::collections::BTreeMap;

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::observe::snapshot::{FailedAttempt, Snapshot, State};
use crate::record::layout::RunDirectory;
use crate::record::pack::Piece;
use crate::record::pack_reader::PackReader;

/// Tasks told in full.
const SHOWN: usize = 10;
/// Of these, elements of one array: the others mostly failed for the same reason.
const SHOWN_OF_ARRAY: usize = 3;
/// Lines of standard error told of each.
const LINES: usize = 5;
/// Bytes of standard error looked at for them.
const BYTES: u64 = 2_000;

/// The tasks that failed for good, in the order in which they did. An attempt that was ended with the run is none.
fn failed(snapshot: &Snapshot) -> impl Iterator<Item = &FailedAttempt> {
    let has_failed =
        |failure: &&FailedAttempt| !failure.retried && snapshot.state(failure.task) == State::Failed;
    snapshot.failures().iter().filter(has_failed)
}

/// The failed tasks told in full: some of each array.
fn shown(graph: &Graph, snapshot: &Snapshot) -> Vec<FailedAttempt> {
    let mut of_array: BTreeMap<TaskId, usize> = BTreeMap::new();
    let few_of_array = |failure: &&FailedAttempt| {
        let told = of_array.entry(graph.group_of(failure.task).first).or_default();
        *told += 1;
        *told <= SHOWN_OF_ARRAY
    };
    failed(snapshot).filter(few_of_array).take(SHOWN).cloned().collect()
}

/// The lines that tell of them.
pub fn text(graph: &Graph, snapshot: &Snapshot, directory: &RunDirectory) -> String {
    let counts = snapshot.counts();
    let noun = if counts.total() == 1 { "task" } else { "tasks" };
    let mut lines = vec![format!("error: {} of {} {noun} failed", counts.failed, counts.total())];
    let packs = PackReader::of_run(directory).ok();
    let shown = shown(graph, snapshot);
    for failure in &shown {
        lines.push(format!("  {}", sentence(graph, snapshot, failure)));
        let tail = packs.as_ref().and_then(|packs| {
            packs.tail(failure.task, Some(failure.attempt), Piece::Stderr, BYTES).ok().flatten()
        });
        lines.extend(last_lines(&tail.unwrap_or_default()).into_iter().map(|line| format!("    | {line}")));
    }
    lines.extend(others(graph, snapshot, &shown));
    let has_printed = |failure: &&FailedAttempt| {
        packs.as_ref().is_some_and(|packs| packs.latest_attempt(failure.task).is_some())
    };
    if let Some(first) = shown.iter().find(has_printed) {
        let (run, key) = (directory.name(), graph.key(first.task));
        lines.push(format!("  hint: everything it printed: `dagmar logs {run} '{key}'`"));
    }
    lines.join("\n")
}

/// `... and 27 more of align`, for each array or task of which some are not shown.
fn others(graph: &Graph, snapshot: &Snapshot, shown: &[FailedAttempt]) -> Vec<String> {
    let groups = graph.keys().groups().iter().zip(snapshot.groups()).filter(|(group, _)| !group.hidden);
    let others = groups.filter_map(|(group, counts)| {
        let of_group = |failure: &&FailedAttempt| graph.group_of(failure.task).first == group.first;
        let more = (counts.failed as usize).saturating_sub(shown.iter().filter(of_group).count());
        (more > 0).then(|| format!("  ... and {more} more of `{}`", group.name))
    });
    let mut others: Vec<String> = others.collect();
    let hidden = others.len().saturating_sub(SHOWN);
    if hidden > 0 {
        others.truncate(SHOWN);
        others.push(format!("  ... and more of {hidden} others"));
    }
    others
}

/// `` `b[3]` exited with 137 on rank 5 (node `n042`) after 2 attempts ``.
fn sentence(graph: &Graph, snapshot: &Snapshot, failure: &FailedAttempt) -> String {
    let worker = snapshot.workers().find(|worker| worker.rank == failure.worker);
    let node = worker.map_or(String::new(), |worker| format!(" (node `{}`)", worker.host));
    let attempts = match failure.tries {
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
