//! What a run directory says about a run that was killed and resumed: read by other means than the run's own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use dagmar::core::event::Event;
use dagmar::core::id::{Attempt, TaskId};
use dagmar::record::journal::JournalReader;
use dagmar::record::pack::Piece;
use dagmar::record::pack_reader::PackReader;
use dagmar::record::packed;

use super::harness::Place;

/// What was seen after each kill.
#[derive(Default)]
pub struct Verdict {
    /// Tasks that were durable once, and by which try.
    durable: BTreeMap<TaskId, Attempt>,
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
        let mut durable = BTreeMap::new();
        for event in journal {
            let (_, event) = event.unwrap_or_else(|error| panic!("{}: {error}", run.display()));
            check(&durable, &event);
            if let Event::TasksDurable { tasks, attempt, .. } = event {
                let tasks = tasks.iter().flat_map(|span| span.tasks());
                durable.extend(tasks.map(|task| (task, attempt)));
            }
        }
        for (task, attempt) in &self.durable {
            assert_eq!(durable.get(task), Some(attempt), "task {task} was durable, in {}", run.display());
        }
        let packs = PackReader::open(&run.join("output")).expect("packs can be read");
        let graph = packed::open(&run.join("graph.dagmar")).expect("the graph can be read");
        let last = last_starts(place);
        for (&task, &attempt) in &durable {
            assert!(packs.is_whole(task, attempt), "the output of task {task} is gone, in {}", run.display());
            let key = graph.key(task);
            let Some(row) = key.strip_prefix("c[").and_then(|rest| rest.strip_suffix(']')) else { continue };
            let printed = packs.read(task, Some(attempt), Piece::Stdout).expect("it can be read");
            assert_eq!(printed.unwrap_or_default(), format!("{row}\n").into_bytes(), "`{key}`");
            let started = last[&row.parse::<u64>().expect("a row")];
            assert!(started <= attempt.0, "`{key}` is durable by try {attempt}, and try {started} was begun");
        }
        self.durable = durable;
    }

    /// Every command ran, none twice with one number, and all are durable.
    pub fn check_all_ran(&self, rows: u64) {
        assert!(self.durable.len() as u64 > rows, "{} tasks are durable", self.durable.len());
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
