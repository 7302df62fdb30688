//! What a run directory says about a run that was killed and resumed: read by other means than the run's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use dagmar::core::event::Event;
use dagmar::core::graph::Graph;
use dagmar::core::id::{Attempt, TaskId};
use dagmar::core::task_set::TaskSet;
use dagmar::record::journal::JournalReader;
use dagmar::record::pack::Piece;
use dagmar::record::pack_reader::PackReader;
use dagmar::record::packed;
use dagmar::worker::files::output_paths;

use super::harness::Place;

/// What was seen after each kill.
#[derive(Default)]
pub struct Verdict {
    /// Tasks that were durable once, and by which try.
    durable: BTreeMap<TaskId, Attempt>,
    /// The files that they declare, each with when it was written and how long it is.
    files: BTreeMap<PathBuf, (SystemTime, u64)>,
}

impl Verdict {
    /// Looks at the latest run: what was durable is so for ever, and its output is there.
    pub fn look(&mut self, place: &Place) {
        let runs = place.runs();
        let Some(run) = runs.last().filter(|run| run.join("journal").is_file()) else { return };
        let journal = match JournalReader::open(&run.join("journal")) {
            Ok(journal) => journal,
            // It was killed while it began.
            Err(error) => {
                assert!(self.durable.is_empty(), "{}: {error}", run.display());
                return;
            }
        };
        let graph = packed::open(&run.join("graph.dagmar")).expect("the graph can be read");
        let mut durable = BTreeMap::new();
        for event in journal {
            let (_, event) = event.unwrap_or_else(|error| panic!("{}: {error}", run.display()));
            check(&durable, &event);
            check_lineage(&graph, &event);
            if let Event::TasksDurable { tasks, attempt, .. } = event {
                let tasks = tasks.iter().flat_map(|span| span.tasks());
                durable.extend(tasks.map(|task| (task, attempt)));
            }
        }
        for (task, attempt) in &self.durable {
            assert_eq!(durable.get(task), Some(attempt), "task {task} was durable, in {}", run.display());
        }
        let packs = PackReader::open(&run.join("output")).expect("packs can be read");
        let last = last_starts(place);
        for (&task, &attempt) in &durable {
            assert!(packs.is_whole(task, attempt), "the output of task {task} is gone, in {}", run.display());
            let key = graph.key(task);
            for path in output_paths(&graph.operation(task).outputs, attempt) {
                let path = place.path().join(path);
                let file =
                    fs::metadata(&path).unwrap_or_else(|error| panic!("{key}: {}: {error}", path.display()));
                let stamp = (file.modified().expect("files have times"), file.len());
                let known = *self.files.entry(path).or_insert(stamp);
                assert_eq!(known, stamp, "`{key}` was durable, and its file was written again");
            }
            let Some(row) = key.strip_prefix("c[").and_then(|rest| rest.strip_suffix(']')) else { continue };
            let printed = packs.read(task, Some(attempt), Piece::Stdout).expect("it can be read");
            assert_eq!(printed.unwrap_or_default(), format!("{row}\n").into_bytes(), "`{key}`");
            let started = last[&row.parse::<u64>().expect("a row")];
            assert!(started <= attempt.0, "`{key}` is durable by try {attempt}, and try {started} was begun");
        }
        self.durable = durable;
    }

    /// So many tasks and more were seen to be durable.
    pub fn check_more_durable_than(&self, count: u64) {
        assert!(self.durable.len() as u64 > count, "{} tasks are durable", self.durable.len());
    }
}

/// What is durable does not run again.
fn check(durable: &BTreeMap<TaskId, Attempt>, event: &Event) {
    let again: Vec<TaskId> = match event {
        Event::TasksFinished { batch, .. } => batch.tasks().collect(),
        Event::TaskStarted { task, .. } | Event::OutputLost { task } | Event::AttemptFailed { task, .. } => {
            vec![*task]
        }
        Event::RunResumed { to_do, .. } => to_do.iter().flat_map(|span| span.tasks()).collect(),
        _ => Vec::new(),
    };
    let repeated: Vec<&TaskId> = again.iter().filter(|task| durable.contains_key(task)).collect();
    assert!(repeated.is_empty(), "{repeated:?} are durable, and then: {event:?}");
}

/// A life does again only what was asked for, or what another task takes that is to do.
fn check_lineage(graph: &Graph, event: &Event) {
    let Event::RunResumed { to_do, .. } = event else { return };
    let mut due = TaskSet::new(graph.len());
    to_do.iter().for_each(|span| due.insert_all(span.first.0..span.end().0));
    for task in to_do.iter().flat_map(|span| span.tasks()) {
        let dependents = graph.dependents(task);
        let is_needed = dependents.is_empty() || dependents.iter().any(|dependent| due.contains(dependent));
        assert!(is_needed, "`{}` is to be done, and nobody needs it", graph.key(task));
    }
}

/// The last try of each row's command that began, as the commands themselves wrote it down.
fn last_starts(place: &Place) -> BTreeMap<u64, u32> {
    let text = fs::read_to_string(place.path().join("started")).unwrap_or_default();
    let mut last = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let (row, attempt) = line.split_once(' ').unwrap_or_else(|| panic!("`{line}` is no start"));
        let (row, attempt): (u64, u32) = (row.parse().expect("a row"), attempt.parse().expect("a try"));
        assert!(seen.insert((row, attempt)), "try {attempt} of row {row} began twice");
        let known = last.entry(row).or_insert(attempt);
        *known = attempt.max(*known);
    }
    last
}
