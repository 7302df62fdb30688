//! What a run did: the summary that is told at its end, for people and as JSON.
//!
//! The field names are stable; a field's unit is the last part of its name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::core::event::{Event, Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::time::{Micros, Timestamp};

use super::critical_path::{CriticalPath, Durations};
use super::snapshot::{Counts, Snapshot};

/// How many tasks of the critical path are named: its longest.
const PATH_KEYS: usize = 5;
/// How many of them the text names.
const PATH_KEYS_SHOWN: usize = 3;
/// How many groups are listed.
const GROUPS: usize = 5;
/// How many of them the text lists.
const GROUPS_SHOWN: usize = 3;

/// The summary of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How it ended; null while it goes on, or when it was cut off.
    pub outcome: Option<&'static str>,
    /// Its tasks by state.
    pub tasks: TaskCounts,
    /// Attempts made again because the one before failed by its own fault.
    pub retries: u64,
    /// From the first event to the last.
    #[serde(rename = "elapsed_s", serialize_with = "seconds")]
    pub elapsed: Micros,
    /// Workers that were there since the run began or was resumed.
    pub workers: u32,
    /// Times that a worker was lost.
    pub workers_lost: u32,
    /// Their cores.
    pub cpus: u32,
    /// Core time used by attempts, of the core time that the workers were there for: 0 to 1.
    pub utilisation: f64,
    /// Bytes of outputs that went from worker to worker: sent or received, whichever is more, as a worker that was
    /// lost cannot say what it did.
    pub moved_bytes: u64,
    /// Bytes of outputs that went to the disks of nodes because memory was short.
    pub spilled_bytes: u64,
    /// Bytes of outputs that were read back from there.
    pub read_back_bytes: u64,
    /// Length of the longest chain of measured durations over the dependencies.
    #[serde(rename = "critical_path_s", serialize_with = "seconds")]
    pub critical_path: Micros,
    /// How many tasks it has.
    pub critical_path_tasks: u32,
    /// Its longest tasks, in its order.
    pub critical_path_keys: Vec<String>,
    /// The groups that ran longest in all, the longest first.
    pub slowest_groups: Vec<GroupReport>,
}

/// Tasks by state; `waiting` did not run, or did not end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TaskCounts {
    /// Ran to success.
    pub finished: u32,
    /// Failed by their own fault.
    pub failed: u32,
    /// Not run because one upstream failed.
    pub aborted: u32,
    /// Not run because a person said so.
    pub cancelled: u32,
    /// Not run because their files were there.
    pub skipped: u32,
    /// Not ended.
    pub waiting: u32,
}

/// What the tasks of one name took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// Their name.
    pub name: String,
    /// How many ran to success.
    pub tasks: u32,
    /// How long they ran in all.
    #[serde(rename = "total_s", serialize_with = "seconds")]
    pub total: Micros,
    /// How long one ran on average.
    #[serde(rename = "mean_s", serialize_with = "seconds")]
    pub mean: Micros,
    /// How long the longest ran.
    #[serde(rename = "longest_s", serialize_with = "seconds")]
    pub longest: Micros,
    /// Which one that was.
    pub longest_key: String,
}

fn seconds<S: Serializer>(span: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(span.as_secs_f64())
}

/// Takes events in and gives the report.
#[derive(Clone, Debug)]
pub struct ReportBuilder {
    graph: Arc<Graph>,
    is_begun: bool,
    snapshot: Snapshot,
    durations: Durations,
    workers_lost: u32,
}

impl ReportBuilder {
    /// A run of which nothing has happened.
    pub fn new(graph: Arc<Graph>) -> Self {
        let (snapshot, durations) = (Snapshot::new(&graph), Durations::new(&graph));
        ReportBuilder { graph, is_begun: false, snapshot, durations, workers_lost: 0 }
    }

    /// The next event is about this graph: the one that the run began with, or, if that event is `GraphEdited`, the
    /// one that it goes on with.
    pub fn on_graph(&mut self, graph: Arc<Graph>) {
        match self.is_begun {
            true => self.graph = graph,
            false => *self = Self::new(graph),
        }
    }

    /// The graph that the latest events are about.
    pub const fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Takes one event in, in the order of the journal.
    pub fn on_event(&mut self, time: Timestamp, event: &Event) {
        self.is_begun = true;
        match event {
            Event::TasksFinished { batch, .. } if batch.is_whole() => {
                batch.timings().for_each(|(task, _, ran, _)| self.durations.set(task, ran));
            }
            Event::GraphEdited(edit) => self.durations.edit(edit, &self.graph),
            Event::WorkerLost { .. } => self.workers_lost += 1,
            Event::TasksAdded { addition, .. } | Event::TasksSubmitted { addition, .. } => {
                self.durations.add(addition.tasks.len())
            }
            _ => (),
        }
        self.snapshot.on_event(&self.graph, time, event);
    }

    /// The state that the events lead to.
    pub const fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// How long each task ran.
    pub const fn durations(&self) -> &Durations {
        &self.durations
    }

    /// The report of what happened so far.
    pub fn report(&self) -> Report {
        let path = CriticalPath::find(&self.graph, &self.durations);
        let longest = path.longest(&self.durations, PATH_KEYS);
        let workers = self.snapshot.workers();
        let totals = self.snapshot.totals();
        Report {
            outcome: self.snapshot.outcome().map(outcome_word),
            tasks: TaskCounts::from(*self.snapshot.counts()),
            retries: self.snapshot.retry_count(),
            elapsed: self.snapshot.elapsed(self.snapshot.latest()),
            workers: workers.len() as u32,
            workers_lost: self.workers_lost,
            cpus: workers.map(|worker| worker.capacity.cpus).fold(0, u32::saturating_add),
            utilisation: utilisation(&self.snapshot),
            moved_bytes: totals.sent_bytes.max(totals.received_bytes),
            spilled_bytes: totals.spilled_bytes,
            read_back_bytes: totals.read_back_bytes,
            critical_path: path.length,
            critical_path_tasks: path.tasks.len() as u32,
            critical_path_keys: longest.into_iter().map(|task| self.graph.key(task)).collect(),
            slowest_groups: self.slowest_groups(),
        }
    }

    fn slowest_groups(&self) -> Vec<GroupReport> {
        let shown = self.graph.keys().groups().iter().filter(|group| !group.hidden);
        let tasks = |first: TaskId, count: u32| (first.0..first.0 + count).map(TaskId);
        let mut added = self.added_by_root();
        let mut groups: Vec<GroupTime> = shown
            .filter_map(|group| {
                let own = tasks(group.first, group.count().unwrap_or(0));
                let added = added.remove(&group.first).unwrap_or_default();
                self.group_time(own.chain(added))
            })
            .collect();
        groups.sort_by_key(|group| std::cmp::Reverse(group.total));
        groups.truncate(GROUPS);
        groups.iter().map(|group| group.report(&self.graph)).collect()
    }

    /// The tasks that were added, by the first task of the group that they are counted in.
    fn added_by_root(&self) -> BTreeMap<TaskId, Vec<TaskId>> {
        let mut added: BTreeMap<TaskId, Vec<TaskId>> = BTreeMap::new();
        if self.graph.has_grown() {
            for task in self.graph.tasks().filter(|&task| !self.graph.began_with(task)) {
                added.entry(self.graph.group_of(task).first).or_default().push(task);
            }
        }
        added
    }

    /// `None` for a group of which nothing ran.
    fn group_time(&self, tasks: impl Iterator<Item = TaskId>) -> Option<GroupTime> {
        tasks.filter_map(|task| Some((task, self.durations.get(task)?))).fold(None, |sum, (task, ran)| {
            let mut sum =
                sum.unwrap_or(GroupTime { count: 0, total: Micros::ZERO, longest: ran, longest_task: task });
            sum.count += 1;
            sum.total = sum.total + ran;
            if ran > sum.longest {
                (sum.longest, sum.longest_task) = (ran, task);
            }
            Some(sum)
        })
    }
}

/// What the tasks of a group took, before anything is put into words.
struct GroupTime {
    count: u32,
    total: Micros,
    longest: Micros,
    longest_task: TaskId,
}

impl GroupTime {
    fn report(&self, graph: &Graph) -> GroupReport {
        GroupReport {
            name: graph.group_of(self.longest_task).name.clone(),
            tasks: self.count,
            total: self.total,
            mean: Micros(self.total.0 / u64::from(self.count)),
            longest: self.longest,
            longest_key: graph.key(self.longest_task),
        }
    }
}

impl From<Counts> for TaskCounts {
    fn from(counts: Counts) -> Self {
        let Counts { waiting, running, finished, failed, aborted, cancelled, skipped } = counts;
        TaskCounts { finished, failed, aborted, cancelled, skipped, waiting: waiting.saturating_add(running) }
    }
}

/// An outcome as scripts know it.
const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::TasksFailed { .. } => "tasks_failed",
        Outcome::Stopped(StopReason::Interrupted) => "interrupted",
        Outcome::Stopped(StopReason::Terminated) => "terminated",
        Outcome::Stopped(StopReason::Cancelled) => "cancelled",
        Outcome::Stopped(StopReason::TooManyFailures) => "too_many_failures",
        Outcome::WorkersLost => "workers_lost",
    }
}

/// Clocks of nodes differ, so a full machine may seem fuller than full.
fn utilisation(snapshot: &Snapshot) -> f64 {
    match snapshot.offered_cpus() {
        Micros::ZERO => 0.0,
        offered => (snapshot.busy_cpus().as_secs_f64() / offered.as_secs_f64()).min(1.0),
    }
}

impl Report {
    /// The summary line by line.
    pub fn to_lines(&self) -> Vec<String> {
        let mut lines = vec![self.first_line(), self.second_line()];
        if self.spilled_bytes > 0 {
            let (spilled, read_back) = (Bytes(self.spilled_bytes), Bytes(self.read_back_bytes));
            lines.push(format!("  memory was short: {spilled} written to disk, {read_back} read back"));
        }
        let mishaps = self.mishaps();
        if !mishaps.is_empty() {
            lines.push(format!("  {}", mishaps.join(", ")));
        }
        if self.slowest_groups.len() > 1 {
            let groups: Vec<String> =
                self.slowest_groups.iter().take(GROUPS_SHOWN).map(GroupReport::to_string).collect();
            lines.push(format!("  most time in {}", groups.join(", ")));
        }
        lines
    }

    fn first_line(&self) -> String {
        let mut line = format!("{} finished", counted(u64::from(self.tasks.finished), "task"));
        let TaskCounts { failed, aborted, cancelled, skipped, waiting, .. } = self.tasks;
        let others = [
            (failed, "failed"),
            (aborted, "aborted"),
            (cancelled, "cancelled"),
            (skipped, "skipped"),
            (waiting, "not finished"),
        ];
        for (count, word) in others.into_iter().filter(|(count, _)| *count > 0) {
            line += &format!(", {count} {word}");
        }
        let workers = counted(u64::from(self.workers), "worker");
        line + &format!(" in {} on {workers} ({})", self.elapsed, counted(u64::from(self.cpus), "cpu"))
    }

    fn second_line(&self) -> String {
        let percent = self.utilisation * 100.0;
        let mut line = format!("  utilisation {percent:.0} %");
        if self.workers > 1 {
            line += &format!(", {} moved between workers", Bytes(self.moved_bytes));
        }
        if self.critical_path_tasks > 0 {
            let tasks = counted(u64::from(self.critical_path_tasks), "task");
            let keys = self.critical_path_keys.iter().take(PATH_KEYS_SHOWN).cloned().collect::<Vec<_>>();
            let all = self.critical_path_tasks as usize <= keys.len();
            let which = if all { ": " } else { ", most of it in " };
            let between = if all { " > " } else { ", " };
            line +=
                &format!(", critical path {} over {tasks}{which}{}", self.critical_path, keys.join(between));
        }
        line
    }

    fn mishaps(&self) -> Vec<String> {
        let retries = counted_as(self.retries, "retry", "retries");
        let lost = format!("{} lost", counted(u64::from(self.workers_lost), "worker"));
        let all = [(self.retries > 0, retries), (self.workers_lost > 0, lost)];
        all.into_iter().filter_map(|(happened, text)| happened.then_some(text)).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_lines().join("\n").fmt(out)
    }
}

impl fmt::Display for GroupReport {
    /// `align (16 tasks, 3 min 20 s)`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({}, {})", self.name, counted(u64::from(self.tasks), "task"), self.total)
    }
}

fn counted(count: u64, noun: &str) -> String {
    counted_as(count, noun, &format!("{noun}s"))
}

fn counted_as(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// An amount of bytes with three significant figures: `12.4 MB`.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
        if self.0 < 1000 {
            return write!(out, "{} B", self.0);
        }
        let mut amount = self.0 as f64 / 1e3;
        let mut place = 0;
        // What would be rounded up to 1000 belongs to the next unit.
        while amount >= 999.5 && place + 1 < units.len() {
            amount /= 1e3;
            place += 1;
        }
        let digits = if amount < 9.995 { 2 } else { usize::from(amount < 99.95) };
        write!(out, "{amount:.digits$} {}", units[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::Totals;
    use crate::core::id::Rank;
    use crate::observe::scenario::{Scenario, graph};

    fn leave(run: &mut Scenario<'_>, worker: u32, sent_bytes: u64) {
        let totals = Totals { sent_bytes, ..Totals::default() };
        run.tells(Event::WorkerLeft { worker: Rank(worker), totals });
    }

    #[test]
    fn the_summary_tells_what_happened() {
        let graph =
            graph("index:\nalign: index\n~all: align\nsort: ~all\nbad: index\nworse: bad\nworst: worse");
        let mut run = Scenario::new(&graph);
        run.joins(1, 2).joins(2, 2).waits(300_000).finishes("index", 1, 300_000);
        run.fails("bad", 2, true).fails("bad", 2, false).aborts("worse", "bad").aborts("worst", "bad");
        run.waits(900_000).finishes("align", 1, 500_000).finishes("~all", 0, 0).finishes("sort", 2, 110_000);
        leave(&mut run, 1, 12_400_000);
        leave(&mut run, 2, 0);
        let outcome = Outcome::TasksFailed { failed: 1, aborted: 2, out_of_memory: false };
        run.tells(Event::RunFinished { outcome });
        let report = run.report.report();
        insta::assert_snapshot!(report, @r#"
        3 tasks finished, 1 failed, 2 aborted in 1.20 s on 2 workers (4 cpus)
          utilisation 19 %, 12.4 MB moved between workers, critical path 910 ms over 3 tasks: index > align > sort
          1 retry
          most time in align (1 task, 500 ms), index (1 task, 300 ms), sort (1 task, 110 ms)
        "#);
        insta::assert_snapshot!(serde_json::to_string_pretty(&report).unwrap(), @r#"
        {
          "outcome": "tasks_failed",
          "tasks": {
            "finished": 3,
            "failed": 1,
            "aborted": 2,
            "cancelled": 0,
            "skipped": 0,
            "waiting": 0
          },
          "retries": 1,
          "elapsed_s": 1.2,
          "workers": 2,
          "workers_lost": 0,
          "cpus": 4,
          "utilisation": 0.18958375,
          "moved_bytes": 12400000,
          "spilled_bytes": 0,
          "read_back_bytes": 0,
          "critical_path_s": 0.91,
          "critical_path_tasks": 3,
          "critical_path_keys": [
            "index",
            "align",
            "sort"
          ],
          "slowest_groups": [
            {
              "name": "align",
              "tasks": 1,
              "total_s": 0.5,
              "mean_s": 0.5,
              "longest_s": 0.5,
              "longest_key": "align"
            },
            {
              "name": "index",
              "tasks": 1,
              "total_s": 0.3,
              "mean_s": 0.3,
              "longest_s": 0.3,
              "longest_key": "index"
            },
            {
              "name": "sort",
              "tasks": 1,
              "total_s": 0.11,
              "mean_s": 0.11,
              "longest_s": 0.11,
              "longest_key": "sort"
            }
          ]
        }
        "#);
    }

    #[test]
    fn a_run_that_did_nothing_has_a_summary() {
        let graph = graph("a:");
        insta::assert_snapshot!(Scenario::new(&graph).report.report(), @r#"
        0 tasks finished, 1 not finished in 0 us on 0 workers (0 cpus)
          utilisation 0 %
        "#);
    }

    #[test]
    fn a_lost_worker_is_told() {
        let graph = graph("a:");
        let mut run = Scenario::new(&graph);
        run.joins(1, 1).waits(1_000);
        run.tells(Event::WorkerLost { worker: Rank(1), incarnation: crate::core::id::Incarnation(1) });
        insta::assert_snapshot!(run.report.report(), @r#"
        0 tasks finished, 1 not finished in 1.00 ms on 1 worker (1 cpu)
          utilisation 0 %
          1 worker lost
        "#);
    }

    #[test]
    fn amounts_have_three_figures() {
        let texts = [0, 999, 1_000, 9_996, 12_350, 999_499, 999_600, 12_400_000_000, u64::MAX];
        let texts = texts.map(|bytes| Bytes(bytes).to_string());
        let expected =
            ["0 B", "999 B", "1.00 kB", "10.0 kB", "12.3 kB", "999 kB", "1.00 MB", "12.4 GB", "18.4 EB"];
        assert_eq!(texts, expected);
    }
}
