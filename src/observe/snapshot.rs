//! What a run is doing: the events so far, folded into counts.
//!
//! Fed event by event, in the order of the journal. Costs one byte a task, besides what is
//! counted by group and by worker. Hidden joins appear nowhere.

use std::collections::BTreeMap;

use crate::core::addition::{Addition, Numbering};
use crate::core::batch::Batch;
use crate::core::edit::Edit;
use crate::core::event::{Cause, Event, Outcome, StopReason, Totals};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};

mod workers;

use workers::Workers;
pub use workers::{Presence, WorkerView};

/// How many failures are kept in full; the others are only counted.
const FAILURES_MAX: usize = 1000;

/// What a task is doing, as far as rank 0 was told. Short attempts are not seen running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It has not run, or must run again.
    #[default]
    Waiting,
    /// It has been running for a while.
    Running,
    /// It ran to success.
    Finished,
    /// It failed by its own fault.
    Failed,
    /// It will not run because one upstream failed.
    Aborted,
    /// It will not run because a person said so.
    Cancelled,
    /// It need not run: its files were there.
    Skipped,
}

impl State {
    /// The state of this number.
    const fn of(number: u8) -> Self {
        const ALL: [State; 7] = [
            State::Waiting,
            State::Running,
            State::Finished,
            State::Failed,
            State::Aborted,
            State::Cancelled,
            State::Skipped,
        ];
        ALL[number as usize]
    }
}

/// Tasks by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Not run yet, or to run again. Of a group: also those this run does not need.
    pub waiting: u32,
    /// Known to be running.
    pub running: u32,
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
}

impl Counts {
    /// All of them.
    pub const fn total(&self) -> u32 {
        self.waiting.saturating_add(self.running).saturating_add(self.ended())
    }

    /// Those that came to an end, good or bad.
    pub const fn ended(&self) -> u32 {
        self.finished + self.failed + self.aborted + self.cancelled + self.skipped
    }

    fn of(&mut self, state: State) -> &mut u32 {
        match state {
            State::Waiting => &mut self.waiting,
            State::Running => &mut self.running,
            State::Finished => &mut self.finished,
            State::Failed => &mut self.failed,
            State::Aborted => &mut self.aborted,
            State::Cancelled => &mut self.cancelled,
            State::Skipped => &mut self.skipped,
        }
    }

    /// Saturates, because a journal with a gap may tell of an end without a beginning.
    fn change(&mut self, from: State, to: State) {
        let from = self.of(from);
        *from = from.saturating_sub(1);
        let to = self.of(to);
        *to = to.saturating_add(1);
    }
}

/// An attempt that ended badly.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedAttempt {
    /// The task.
    pub task: TaskId,
    /// Which try.
    pub attempt: Attempt,
    /// Where.
    pub worker: Rank,
    /// Why.
    pub cause: Cause,
    /// True if the task was to be tried again.
    pub retried: bool,
    /// How often the task had been tried by then, as what it was then, since the run began or was resumed. Tries that
    /// were lost with their rank do not count.
    pub tries: u32,
}

/// The state of a run after the events so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    counts: Counts,
    groups: Vec<Counts>,
    /// Numbers, because zeros take no memory before they are written.
    states: Vec<u8>,
    workers: Workers,
    failures: Vec<FailedAttempt>,
    /// How often tasks failed by their own fault and were tried again.
    failed_before: BTreeMap<TaskId, u32>,
    failure_count: u64,
    retry_count: u64,
    started: Option<Timestamp>,
    /// The time between its lives.
    paused: Micros,
    latest: Timestamp,
    stopping: Option<StopReason>,
    outcome: Option<Outcome>,
}

impl Snapshot {
    /// The state before the first event: whatever the graph has grown by since is not there yet.
    pub fn new(graph: &Graph) -> Self {
        let count = |waiting: Option<u32>| Counts { waiting: waiting.unwrap_or(0), ..Counts::default() };
        Snapshot {
            counts: Counts::default(),
            groups: graph.keys().groups().iter().map(|group| count(group.count())).collect(),
            states: vec![State::Waiting as u8; graph.count_begun()],
            workers: Workers::default(),
            failures: Vec::new(),
            failed_before: BTreeMap::new(),
            failure_count: 0,
            retry_count: 0,
            started: None,
            paused: Micros::ZERO,
            latest: Timestamp::default(),
            stopping: None,
            outcome: None,
        }
    }

    /// Takes one event in. Events about tasks that are not in the graph are left out. `GraphEdited`, and what
    /// follows it, is about the new graph.
    pub fn on_event(&mut self, graph: &Graph, time: Timestamp, event: &Event) {
        if let Event::RunResumed { to_do, .. } = event {
            self.on_run_resumed(graph, time, to_do);
        }
        self.latest = self.latest.max(time);
        match event {
            Event::RunStarted { tasks } => self.on_run_started(time, *tasks),
            Event::WorkerJoined { worker, incarnation, host, capacity } => {
                let (host, capacity) = (host.clone(), capacity.clone());
                let (rank, incarnation) = (*worker, *incarnation);
                let life =
                    WorkerView { rank, incarnation, host, capacity, joined: time, ..WorkerView::default() };
                self.workers.on_joined(life);
            }
            Event::WorkerLost { worker, .. } => {
                self.workers.on_gone(time, *worker, Presence::Lost);
            }
            Event::WorkerLeft { worker, totals } => {
                self.workers.on_left(time, *worker, *totals);
            }
            Event::TaskStarted { task, .. } => self.change(graph, *task, State::Running),
            Event::MultiNodeAssigned { .. } => {}
            Event::TasksFinished { worker, batch } if batch.is_whole() => {
                self.on_tasks_finished(graph, *worker, batch);
            }
            Event::AttemptFailed { task, attempt, worker, failure, retried } => {
                let (task, attempt, worker, retried) = (*task, *attempt, *worker, *retried);
                let tries = self.failed_before.get(&task).map_or(1, |count| count.saturating_add(1));
                let cause = failure.cause.clone();
                let failed = FailedAttempt { task, attempt, worker, cause, retried, tries };
                self.on_attempt_failed(graph, failed, failure.ran);
            }
            Event::OutputLost { task } => self.change(graph, *task, State::Waiting),
            Event::TaskAborted { task, .. } => self.change(graph, *task, State::Aborted),
            Event::TaskCancelled { task } => self.change(graph, *task, State::Cancelled),
            Event::RunStopping { reason } => self.stopping = Some(*reason),
            Event::RunFinished { outcome } => self.outcome = Some(*outcome),
            Event::TasksSkipped { tasks } => self.on_tasks_skipped(graph, tasks),
            Event::GraphEdited(edit) => self.on_graph_edited(graph, edit),
            Event::TasksFinished { .. }
            | Event::TaskBound { .. }
            | Event::MemorySet { .. }
            | Event::TasksDurable { .. }
            | Event::RunResumed { .. } => {}
            Event::TasksSubmitted { client, numbering, addition } => {
                self.on_tasks_added(graph, (*client, *numbering), addition);
            }
            Event::TasksAdded { task, worker, ran, numbering, addition, .. } => {
                self.failed_before.remove(task);
                self.on_tasks_added(graph, (*task, *numbering), addition);
                self.change(graph, *task, State::Waiting);
                self.add_busy(graph, *task, *worker, *ran);
            }
        }
    }

    /// The tasks of this run by state.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The tasks of each group by state, in the order of the graph's groups, hidden ones included.
    pub fn groups(&self) -> &[Counts] {
        &self.groups
    }

    /// What one task is doing. One that no event told of waits.
    pub fn state(&self, task: TaskId) -> State {
        self.states.get(task.index()).map_or(State::Waiting, |state| State::of(*state))
    }

    /// The workers since the run began or was resumed, by rank.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = &WorkerView> {
        self.workers.iter()
    }

    /// What all workers moved that have left.
    pub fn totals(&self) -> Totals {
        self.workers.totals()
    }

    /// The first thousand attempts that ended badly, in order. Those that were ended on purpose
    /// (cancelled, stopped) are not among them.
    pub fn failures(&self) -> &[FailedAttempt] {
        &self.failures
    }

    /// How many attempts ended badly, those not listed included.
    pub const fn failure_count(&self) -> u64 {
        self.failure_count
    }

    /// How many attempts were made again because of their own fault.
    pub const fn retry_count(&self) -> u64 {
        self.retry_count
    }

    /// When the run began.
    pub const fn started(&self) -> Option<Timestamp> {
        self.started
    }

    /// The time of the latest event.
    pub const fn latest(&self) -> Timestamp {
        self.latest
    }

    /// Why the run is being stopped, if it is.
    pub const fn stopping(&self) -> Option<StopReason> {
        self.stopping
    }

    /// How the run ended, once it has.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// How long the run has taken at `now`, or took if it is over.
    pub fn elapsed(&self, now: Timestamp) -> Micros {
        let end = if self.outcome.is_some() { self.latest } else { now.max(self.latest) };
        self.started.map_or(Micros::ZERO, |started| end.since(started) - self.paused)
    }

    /// Tasks finished per second, over all of the run up to `now`.
    pub fn rate_per_s(&self, now: Timestamp) -> f64 {
        let seconds = self.elapsed(now).as_secs_f64();
        if seconds > 0.0 { f64::from(self.counts.finished) / seconds } else { 0.0 }
    }

    /// Cores times the time they were there, over all workers, up to the latest event.
    pub fn offered_cpus(&self) -> Micros {
        self.workers.offered_cpus(self.latest)
    }

    /// Cores times the time they were busy.
    pub fn busy_cpus(&self) -> Micros {
        self.workers.busy_cpus()
    }

    fn on_run_started(&mut self, time: Timestamp, tasks: u32) {
        // A run that was resumed has begun several times; what is finished stays so.
        self.begin(time);
        self.counts.waiting = tasks.saturating_sub(self.counts.running + self.counts.ended());
        (self.stopping, self.outcome) = (None, None);
    }

    fn on_tasks_skipped(&mut self, graph: &Graph, tasks: &[Span]) {
        let tasks = tasks.iter().flat_map(|span| span.tasks());
        let known: Vec<TaskId> = tasks.take_while(|task| task.index() < self.states.len()).collect();
        known.into_iter().for_each(|task| self.change(graph, task, State::Skipped));
    }

    /// What was carried over and is finished stays so; all else waits.
    fn on_graph_edited(&mut self, graph: &Graph, edit: &Edit) {
        let Snapshot { counts, groups, states, .. } = Snapshot::new(graph);
        let before = std::mem::replace(&mut self.states, states);
        (self.counts, self.groups) = (counts, groups);
        self.failed_before.clear();
        if edit.check(before.len(), self.states.len()).is_err() {
            return;
        }
        for (from, to) in edit.carried.iter().flat_map(|tasks| tasks.tasks()) {
            if let state @ (State::Finished | State::Skipped) = State::of(before[from.index()]) {
                self.change(graph, to, state);
            }
        }
    }

    /// All that was known to be under way has ended with the processes, and what is to do waits.
    fn on_run_resumed(&mut self, graph: &Graph, time: Timestamp, to_do: &[Span]) {
        self.workers.on_run_resumed(self.latest);
        self.paused = self.paused + time.since(self.latest);
        (self.stopping, self.outcome) = (None, None);
        self.begin(time);
        // What failed is tried again.
        (self.failures, self.failure_count, self.retry_count) = (Vec::new(), 0, 0);
        self.failed_before.clear();
        let waiting =
            to_do.iter().flat_map(|span| span.tasks()).take_while(|task| task.index() < self.states.len());
        let waiting: Vec<TaskId> = waiting.collect();
        let is_shown = |task: &&TaskId| !graph.group_of(**task).hidden;
        (self.counts.running, self.counts.waiting) = (0, waiting.iter().filter(is_shown).count() as u32);
        for task in waiting {
            // It is counted already, whatever it was before.
            let counts = self.counts;
            self.change(graph, task, State::Waiting);
            self.counts = Counts { waiting: counts.waiting, running: 0, ..self.counts };
        }
    }

    fn begin(&mut self, time: Timestamp) {
        let began = *self.started.get_or_insert(time);
        self.workers.on_run_started(began);
    }

    /// What is the same for neighbours is looked up once.
    fn on_tasks_finished(&mut self, graph: &Graph, worker: Rank, batch: &Batch) {
        let mut alike = TaskId(0)..TaskId(0);
        let (mut group, mut cpus) = (0, 0);
        let (mut busy, mut busy_cpus, mut count) = (Micros::ZERO, Micros::ZERO, 0);
        for (task, _, ran, _) in batch.timings() {
            count += 1;
            if task.index() >= self.states.len() {
                continue;
            }
            if !alike.contains(&task) {
                (group, cpus) = (graph.group_place(task), graph.options(task).resources.cpus);
                alike = task..graph.sources_end(task).min(self.group_end(graph, group));
            }
            self.change_in(graph, group, task, State::Finished);
            (busy, busy_cpus) = (busy + ran, busy_cpus + times(ran, cpus));
        }
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.tasks_finished = worker.tasks_finished.saturating_add(count);
            (worker.busy, worker.busy_cpus) = (worker.busy + busy, worker.busy_cpus + busy_cpus);
        }
    }

    fn group_end(&self, graph: &Graph, group: usize) -> TaskId {
        let group = &graph.keys().groups()[group];
        TaskId(group.first.0 + group.count().unwrap_or(0))
    }

    fn on_attempt_failed(&mut self, graph: &Graph, failed: FailedAttempt, ran: Micros) {
        // What becomes of a task that was ended on purpose is told by another event, if at all.
        let is_final = !failed.retried && !is_on_purpose(&failed.cause) && self.stopping.is_none();
        self.change(graph, failed.task, if is_final { State::Failed } else { State::Waiting });
        self.add_busy(graph, failed.task, failed.worker, ran);
        if failed.retried && !failed.cause.is_infrastructure() {
            self.retry_count += 1;
            let count = self.failed_before.entry(failed.task).or_default();
            *count = count.saturating_add(1);
        }
        if let Some(worker) = self.workers.get_mut(failed.worker) {
            worker.attempts_failed += 1;
        }
        self.keep(failed);
    }

    /// The graph learns what was added, unless it is the one that grew.
    fn on_tasks_added(&mut self, graph: &Graph, (by, numbering): (TaskId, Numbering), addition: &Addition) {
        let count = addition.tasks.len();
        if by.index() >= self.states.len() || numbering.task.index() != self.states.len() {
            // An addition before this one is missing, so nobody knows whose outputs it takes.
            return;
        }
        if graph.replay(by, numbering, addition).is_err() {
            return;
        }
        self.states.resize(self.states.len() + count, State::Waiting as u8);
        self.counts.waiting = self.counts.waiting.saturating_add(count as u32);
        if let Some(first) = addition.tasks.first().map(|_| numbering.task) {
            let group = graph.group_place(first);
            self.groups[group].waiting = self.groups[group].waiting.saturating_add(count as u32);
        }
    }

    fn add_busy(&mut self, graph: &Graph, task: TaskId, worker: Rank, ran: Micros) {
        let is_known = task.index() < self.states.len();
        let Some(worker) = self.workers.get_mut(worker).filter(|_| is_known) else {
            return;
        };
        worker.busy = worker.busy + ran;
        worker.busy_cpus = worker.busy_cpus + times(ran, graph.options(task).resources.cpus);
    }

    fn keep(&mut self, failure: FailedAttempt) {
        if is_on_purpose(&failure.cause) {
            return;
        }
        self.failure_count += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(failure);
        }
    }

    fn change(&mut self, graph: &Graph, task: TaskId, to: State) {
        self.change_in(graph, graph.group_place(task), task, to);
    }

    fn change_in(&mut self, graph: &Graph, group: usize, task: TaskId, to: State) {
        let Some(state) = self.states.get_mut(task.index()) else { return };
        let from = State::of(std::mem::replace(state, to as u8));
        self.groups[group].change(from, to);
        if !graph.keys().groups()[group].hidden {
            self.counts.change(from, to);
        }
    }
}

/// True for attempts that were ended because somebody wanted it.
const fn is_on_purpose(cause: &Cause) -> bool {
    matches!(cause, Cause::Cancelled | Cause::Stopped)
}

const fn times(span: Micros, cpus: u32) -> Micros {
    Micros(span.0.saturating_mul(cpus as u64))
}

#[cfg(test)]
mod tests;
