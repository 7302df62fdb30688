//! The simulated disk: outputs that were persisted, the journal, and what of both is left after everything that
//! ran has ended at once.
//!
//! A process that is killed leaves what it wrote; a node that loses its power only what was synced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dagmar::core::edit::{Comparison, Edit};
use dagmar::core::event::Event;
use dagmar::core::graph::Graph;
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{PeerMessage, PeerWord, Report};
use dagmar::core::scheduler::{Past, Persist, Scheduler, TaskState};
use dagmar::core::span::Span;
use dagmar::core::worker;

use super::{Due, World};
use crate::coverage::Happening;
use crate::editing::edited;

/// Longest time until something is synced, in microseconds.
const SYNC_US_MAX: u64 = 30_000;
/// How often outputs cannot be synced, as files are gone, of 256 times.
const VOLATILE_OF_256: u8 = 4;
/// How often a durable output cannot be read, of 256 times.
const UNREADABLE_OF_256: u8 = 3;

/// What outlives processes.
#[derive(Default)]
pub struct Disk {
    /// The value of each persisted output, and whether it is synced.
    pub(super) outputs: BTreeMap<(TaskId, Attempt), (u64, bool)>,
    pub(super) journal: Vec<Event>,
    /// The graphs that the run had before the one that it has, as they began; by their numbers.
    graphs: BTreeMap<u32, Arc<Graph>>,
    /// The number of the one that it has.
    graph: u32,
    /// So many events of the journal are synced,
    synced: usize,
    /// and a sync of so many is under way.
    syncing: Option<usize>,
    /// Tasks whose output and record are synced: they never run again.
    promised: BTreeMap<TaskId, Attempt>,
    /// Outputs that cannot be read any more.
    unreadable: BTreeSet<(TaskId, Attempt)>,
    /// Outputs that could not be made durable.
    volatile: BTreeSet<(TaskId, Attempt)>,
}

impl World {
    /// A task that ran to success has written its output.
    pub(super) fn write_output(&mut self, rank: Rank, task: TaskId, attempt: Attempt, value: u64) {
        let before = self.disk.outputs.insert((task, attempt), (value, false));
        assert!(before.is_none(), "try {attempt} of task {task} has written twice");
        let node = self.nodes.get_mut(&rank).expect("it just ran there");
        node.unsynced.push((task, attempt));
        let life = node.life;
        let delay = self.rng.u64(0..SYNC_US_MAX);
        self.plan(delay, Due::Sync(rank, life));
    }

    /// A worker's outputs are synced, all at once.
    pub(super) fn sync_outputs(&mut self, rank: Rank) -> Vec<(Vec<Span>, Attempt)> {
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        let mut synced: BTreeMap<Attempt, Vec<Span>> = BTreeMap::new();
        for (task, attempt) in std::mem::take(&mut node.unsynced) {
            self.disk.outputs.get_mut(&(task, attempt)).expect("it was written").1 = true;
            Span::add_to(synced.entry(attempt).or_default(), task);
        }
        synced.into_iter().map(|(attempt, tasks)| (tasks, attempt)).collect()
    }

    pub(super) fn on_sync(&mut self, rank: Rank, life: Incarnation) {
        if !self.nodes[&rank].is_alive || self.nodes[&rank].life != life {
            return;
        }
        for (tasks, attempt) in self.sync_outputs(rank) {
            if self.rng.u8(..) < VOLATILE_OF_256 {
                self.coverage.happened(Happening::OutputVolatile);
                let tasks_of = tasks.iter().flat_map(|span| span.tasks());
                self.disk.volatile.extend(tasks_of.map(|task| (task, attempt)));
                self.worker_takes(rank, worker::Input::Volatile(tasks, attempt));
                continue;
            }
            self.coverage.happened(Happening::OutputSynced);
            self.worker_takes(rank, worker::Input::Durable(tasks, attempt));
        }
    }

    /// What a worker that leaves says of outputs that were not synced yet.
    pub(super) fn last_durable(&mut self, rank: Rank) -> Vec<Report> {
        let synced = self.sync_outputs(rank).into_iter();
        synced.map(|(tasks, attempt)| Report::Durable(tasks, attempt)).collect()
    }

    /// An event is in the journal, and synced some time later.
    pub(super) fn write_event(&mut self, event: Event) {
        self.disk.journal.push(event);
        self.sync_journal_later();
    }

    fn sync_journal_later(&mut self) {
        if self.disk.syncing.is_none() && self.disk.synced < self.disk.journal.len() {
            self.disk.syncing = Some(self.disk.journal.len());
            let delay = self.rng.u64(0..SYNC_US_MAX);
            self.plan(delay, Due::JournalSynced(self.run_life));
        }
    }

    pub(super) fn on_journal_synced(&mut self, run_life: u32) {
        if run_life != self.run_life {
            return;
        }
        let synced = self.disk.syncing.take().expect("one was under way");
        self.promise(synced);
        self.sync_journal_later();
    }

    /// So many events are synced.
    fn promise(&mut self, synced: usize) {
        for place in self.disk.synced..synced {
            match &self.disk.journal[place] {
                Event::TasksDurable { tasks, attempt, .. } => {
                    let tasks = tasks.iter().flat_map(|span| span.tasks());
                    self.disk.promised.extend(tasks.map(|task| (task, *attempt)));
                }
                Event::OutputLost { task } => drop(self.disk.promised.remove(task)),
                _ => {}
            }
        }
        self.disk.synced = synced;
    }

    /// No task runs again whose output is safe, unless that cannot be read.
    pub(super) fn check_not_promised(&self, task: TaskId, attempt: Attempt) {
        if let Some(durable) = self.disk.promised.get(&task) {
            let is_unreadable = self.disk.unreadable.contains(&(task, *durable));
            assert!(is_unreadable, "task {task} runs as try {attempt}, and try {durable} is durable");
        }
    }

    /// A worker reads an output in the run directory, as if rank 0 had it.
    pub(super) fn load(&mut self, rank: Rank, message: PeerMessage) {
        let PeerWord::Want(task, attempt) = message.word else {
            assert!(matches!(message.word, PeerWord::Unwant(..)), "{message:?} to the run directory");
            return;
        };
        let life = self.nodes[&rank].life;
        let delay = self.rng.u64(0..SYNC_US_MAX);
        self.plan(delay, Due::Loaded(rank, life, (task, attempt)));
    }

    pub(super) fn on_loaded(&mut self, rank: Rank, life: Incarnation, of: (TaskId, Attempt)) {
        if !self.nodes[&rank].is_alive || self.nodes[&rank].life != life {
            return;
        }
        let (value, is_synced) = self.disk.outputs[&of];
        assert!(is_synced, "{of:?} is read and not synced");
        if self.rng.u8(..) < UNREADABLE_OF_256 {
            self.disk.unreadable.insert(of);
        }
        let word = match self.disk.unreadable.contains(&of) {
            true => PeerWord::Unknown(of.0, of.1),
            false => PeerWord::Output(of.0, of.1),
        };
        self.coverage.happened(match word {
            PeerWord::Unknown(..) => Happening::StoredOutputUnreadable,
            _ => Happening::StoredOutputRead,
        });
        let message = PeerMessage { from: Incarnation::default(), to: life, word };
        self.peer_takes(Rank::SCHEDULER, rank, message, value);
    }

    /// Everything that runs ends at once, and the run is begun again from what is on the disk.
    pub(super) fn crash(&mut self) {
        let is_power_lost = self.rng.bool();
        self.check_past();
        let cut = match is_power_lost {
            true => self.rng.usize(self.disk.synced..=self.disk.journal.len()),
            false => self.disk.journal.len(),
        };
        if cut < self.disk.journal.len() {
            self.coverage.happened(Happening::EventsLost);
        }
        self.disk.journal.truncate(cut);
        let rng = &mut self.rng;
        self.disk.outputs.retain(|_, (_, is_synced)| *is_synced || !is_power_lost || rng.bool());
        self.coverage.happened(match is_power_lost {
            true => Happening::PowerLost,
            false => Happening::AllKilled,
        });
        self.resume();
    }

    /// Goes on with a run whose processes are gone, whether they were killed or it was stopped.
    pub(super) fn resume(&mut self) {
        self.due.clear();
        self.last_arrival.clear();
        self.teams.clear();
        self.followers.clear();
        self.own_failures.clear();
        (self.outcome, self.is_stopping, self.disk.syncing) = (None, false, None);
        self.run_life += 1;
        (self.has_end, self.max_fails) = (false, None);
        self.problem.graph = Arc::new(self.problem.beginning.clone());
        let mut past = self.past(&self.problem.graph);
        let changed = self.edit(&mut past);
        for (task, attempt) in self.disk.outputs.keys() {
            past.on_trace(*task, *attempt);
        }
        self.leave_last_words(&mut past);
        let options = self.options;
        let resumed = Scheduler::resume(&past, &self.problem.asked[..], options);
        let (scheduler, event, left) = resumed.expect("the journal belongs to the graph");
        self.scheduler = scheduler.with_pace(self.pace).with_crash_limit(self.culprits.limit);
        self.scheduler.check();
        let tasks = self.problem.graph.len();
        self.expected.truncate(tasks);
        self.finished.retain(|task, _| task.index() < tasks);
        self.states = self.problem.graph.tasks().map(|task| self.scheduler.state(task)).collect();
        self.recall_memory();
        self.check_left(&past, left);
        self.check_changed(&changed);
        self.record(event);
        let workers: Vec<(Rank, Incarnation)> =
            self.nodes.iter().map(|(rank, node)| (*rank, node.life)).collect();
        for (rank, life) in workers {
            self.nodes.get_mut(&rank).expect("nodes are never removed").is_alive = false;
            self.begin_life(rank, Incarnation(life.0 + 1));
        }
        self.plan_faults(self.nodes.len() as u32);
    }

    /// When all is done, what was asked for and is to be persisted is durable.
    pub(super) fn check_results(&self) {
        for &task in &self.problem.asked {
            let keep = self.problem.graph.options(task).keep;
            let is_persisted = match self.options.persist {
                Persist::None => false,
                Persist::Kept => keep,
                Persist::Asked | Persist::All => true,
            };
            if self.scheduler.state(task) == TaskState::Culled || self.problem.graph.is_join(task) {
                continue; // Its files were there, or there is nothing of it.
            }
            let attempt = self.scheduler.location(task).1;
            let is_excused =
                [&self.disk.volatile, &self.disk.unreadable].iter().any(|set| set.contains(&(task, attempt)));
            let is_safe = self.scheduler.is_stored(task) || is_excused;
            assert!(!is_persisted || is_safe, "task {task} is a result and not durable");
        }
    }

    /// The events tell what the scheduler knows.
    fn check_past(&self) {
        let past = self.past(&Arc::new(self.problem.beginning.clone()));
        let is_there = |task: &TaskId| self.scheduler.state(*task) != TaskState::Culled;
        for task in self.problem.graph.tasks().filter(is_there) {
            let is_stored = self.scheduler.is_stored(task);
            let is_unreadable = self.disk.unreadable.iter().any(|(other, _)| *other == task);
            assert!(
                past.is_durable(task) == is_stored || is_unreadable,
                "the output of task {task} is in the run directory"
            );
        }
    }

    /// What the journal tells; `current` is the graph that the run has now, as it began.
    fn past(&self, current: &Arc<Graph>) -> Past {
        let graph = |number: u32| self.disk.graphs.get(&number).unwrap_or(current).clone();
        let mut past = Past::new(graph(0));
        for event in &self.disk.journal {
            let folded = match event {
                Event::GraphEdited(edit) => past.on_edit(edit, graph(edit.graph)),
                event => past.on_event(event),
            };
            folded.expect("the journal belongs to the graph");
        }
        past
    }

    /// Now and then somebody edits the graph before the run goes on. Returns the tasks that are not what they were.
    fn edit(&mut self, past: &mut Past) -> Vec<TaskId> {
        if self.faults.edits == 0 {
            return Vec::new();
        }
        self.faults.edits -= 1;
        self.coverage.happened(Happening::GraphEdited);
        if self.disk.graph > 0 {
            self.coverage.happened(Happening::EditAfterEdit);
        }
        let (graph, asked) = edited(&self.problem, &mut self.rng, self.run_life);
        let old = std::mem::replace(&mut self.problem.beginning, graph.clone());
        let mut comparison = Comparison::of(&old, &graph);
        comparison.edit.graph = self.run_life;
        self.disk.graphs.insert(std::mem::replace(&mut self.disk.graph, self.run_life), Arc::new(old));
        (self.problem.graph, self.problem.asked) = (Arc::new(graph), asked);
        past.on_edit(&comparison.edit, self.problem.graph.clone()).expect("the edit belongs to the graphs");
        // It is synced before anything runs, with all that came before.
        self.promise(self.disk.journal.len());
        self.take_over(&comparison.edit);
        self.record(Event::GraphEdited(Box::new(comparison.edit)));
        self.disk.synced = self.disk.journal.len();
        comparison.reasons.into_keys().collect()
    }

    /// Everything that names tasks of the graph before names those of the new one.
    fn take_over(&mut self, edit: &Edit) {
        fn tries<T>(edit: &Edit, all: BTreeMap<(TaskId, Attempt), T>) -> BTreeMap<(TaskId, Attempt), T> {
            let now = |((task, attempt), it)| Some(((edit.now(task)?, attempt), it));
            all.into_iter().filter_map(now).collect()
        }
        let set = |all: &BTreeSet<(TaskId, Attempt)>| -> BTreeSet<(TaskId, Attempt)> {
            all.iter().filter_map(|&(task, attempt)| Some((edit.now(task)?, attempt))).collect()
        };
        self.disk.outputs = tries(edit, std::mem::take(&mut self.disk.outputs));
        (self.disk.unreadable, self.disk.volatile) = (set(&self.disk.unreadable), set(&self.disk.volatile));
        let promised = std::mem::take(&mut self.disk.promised).into_iter();
        self.disk.promised =
            promised.filter_map(|(task, attempt)| Some((edit.now(task)?, attempt))).collect();
        self.skipped = self.skipped.iter().filter_map(|task| edit.now(*task)).collect();
        let finished = std::mem::take(&mut self.finished).into_iter();
        self.finished = finished.filter_map(|(task, value)| Some((edit.now(task)?, value))).collect();
        if self.culprits.take_over(edit) {
            self.coverage.happened(Happening::KillingCarried);
        }
        let before = std::mem::replace(&mut self.expected, self.problem.values());
        for (from, to) in edit.carried.iter().flat_map(|tasks| tasks.tasks()) {
            let (before, now) = (before[from.index()], self.expected[to.index()]);
            assert_eq!(before, now, "task {from} is taken over as task {to}, and is worth something else");
        }
    }

    /// What is not what it was, and is needed, is done.
    fn check_changed(&mut self, changed: &[TaskId]) {
        let needed = self.problem.beginning.needed_by(&self.problem.asked);
        for &task in changed.iter().filter(|task| needed.contains(**task)) {
            assert_eq!(self.scheduler.state(task), TaskState::Waiting, "task {task} has changed");
            self.coverage.happened(Happening::ChangedTaskRuns);
        }
        if !changed.is_empty() && !self.disk.promised.is_empty() {
            self.coverage.happened(Happening::CarriedTaskKept);
        }
    }

    fn check_left(&mut self, past: &Past, left: dagmar::core::scheduler::Left) {
        let graph = &self.problem.graph;
        let beginning = &self.problem.beginning;
        let needed = beginning.needed_by(&self.problem.asked);
        let is_needed = |task: TaskId| task.index() >= beginning.len() || needed.contains(task);
        let shown = || graph.tasks().filter(|&task| !graph.is_join(task));
        let waiting = shown().filter(|&task| self.scheduler.state(task) == TaskState::Waiting);
        assert_eq!(waiting.count() as u32, left.to_do, "tasks to do");
        let unreadable = &self.disk.unreadable;
        let promised = self.disk.promised.iter().map(|(task, attempt)| (*task, *attempt));
        for (task, attempt) in promised.filter(|promise| !unreadable.contains(promise)) {
            assert!(past.is_durable(task), "task {task} was durable");
            assert_eq!(self.disk.outputs[&(task, attempt)], (self.expected[task.index()], true));
            // What is asked for may be less since the graph was edited.
            let expected = if is_needed(task) { TaskState::Finished } else { TaskState::Culled };
            assert_eq!(self.scheduler.state(task), expected, "task {task} was durable");
        }
        let is_kept = |task: &TaskId| past.is_durable(*task) && is_needed(*task);
        for task in graph.tasks().filter(is_kept) {
            let attempt = self.scheduler.location(task).1;
            assert!(self.disk.outputs.get(&(task, attempt)).is_some_and(|output| output.1), "task {task}");
        }
        let runs = |task: TaskId| self.scheduler.state(task) == TaskState::Waiting;
        for task in past.skipped().filter(|&task| is_needed(task)) {
            let is_outdated = crate::skipping::inputs(graph, task).into_iter().any(runs);
            assert!(
                !is_outdated || runs(task),
                "task {task} was skipped, and something that it depends on runs"
            );
            if is_outdated {
                self.coverage.happened(Happening::SkippedTaskOutdated);
            }
        }
        match left.repeated {
            0 => {}
            _ => self.coverage.happened(Happening::TaskRepeated),
        }
        if left.durable > 0 {
            self.coverage.happened(Happening::DurableKept);
        }
    }
}
