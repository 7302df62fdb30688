//! The scheduler as one state machine: what came in, what must be done.
//!
//! Inputs only change tables; decisions are made once, on `Input::Turn`, after everything that came
//! has been handed in. So a burst of reports costs one decision and one message per worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::core::client::{FromClient, ToClient};
use crate::core::event::{Event, Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{FromWorker, Order, ToWorker};
use crate::core::span::Span;
use crate::core::task_list::TaskList;
use crate::core::time::{Micros, Timestamp};

use super::ahead::Ahead;
use super::client::Client;
use super::culprits::{CRASH_LIMIT, Killing, PastKillings};
use super::dispatch::Dealing;
use super::division::Division;
use super::durations::Durations;
use super::multi_node::MultiNode;
use super::precedence::Precedence;
use super::priority::Urgency;
use super::ready::Ready;
use super::tasks::{Marks, TaskState, Tasks};
use super::workers::Workers;

/// Something that came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A worker said something. The first thing it says is `Report::Joined`.
    FromWorker {
        /// Who.
        worker: Rank,
        /// What.
        message: FromWorker,
    },
    /// A worker is given up: nothing that this life of it still says counts.
    WorkerLost {
        /// Who.
        worker: Rank,
        /// Which life.
        incarnation: Incarnation,
    },
    /// A worker that was waited for is lost before it has joined.
    NeverJoins,
    /// A worker that is about to be given up, or its rank, was ended by a task that it ran.
    KilledRank(Killing),
    /// A client said something. None is heard before all workers are there.
    FromClient(FromClient),
    /// The run shall end before everything is done.
    Stop(StopReason),
    /// Everything that came has been handed in: decide.
    Turn,
}

/// Something that must be done. Actions are performed in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this.
    ToWorker {
        /// To whom.
        worker: Rank,
        /// What.
        message: ToWorker,
    },
    /// Tell the client.
    ToClient(ToClient),
    /// Have a worker send this output, for the client.
    Fetch {
        /// Who holds it.
        worker: Rank,
        /// Which life of that.
        incarnation: Incarnation,
        /// Whose output it is.
        task: TaskId,
        /// Of which try.
        attempt: Attempt,
    },
    /// Note that this happened.
    Record(Event),
    /// The run is over and every worker has left.
    Finish(Outcome),
}

/// What a scheduler is told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tasks are placed once this many workers have joined.
    pub workers: u32,
    /// True if a lost worker may come back; otherwise the run ends when those that are left can run
    /// nothing more.
    pub workers_come_back: bool,
    /// What is written into the run directory.
    pub persist: Persist,
    /// What is started first.
    pub precedence: Precedence,
}

/// Which outputs are written into the run directory, where they survive the run and its processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Persist {
    /// None.
    None,
    /// Those of commands, and of tasks that say `keep`.
    #[default]
    Kept,
    /// Those of what is asked for besides.
    Asked,
    /// All.
    All,
}

/// Where a run as a whole stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Too few workers have joined to place anything.
    Gathering,
    /// Tasks are placed.
    Working,
    /// Nothing more is started; what runs is being ended.
    Stopping(StopReason),
    /// Every worker was told to leave; the run will have this outcome.
    Leaving(Outcome),
    /// Everybody left.
    Over,
}

/// Decides what runs where. Pure: the same inputs give the same actions.
#[derive(Debug)]
pub struct Scheduler {
    pub(super) graph: Arc<Graph>,
    pub(super) options: Options,
    pub(super) phase: Phase,
    pub(super) tasks: Tasks,
    pub(super) workers: Workers,
    pub(super) ready: Ready,
    pub(super) multi_node: MultiNode,
    pub(super) urgency: Urgency,
    pub(super) durations: Durations,
    pub(super) division: Division,
    pub(super) dealing: Dealing,
    pub(super) ahead: Ahead,
    pub(super) client: Client,
    pub(super) out_of_memory_failures: u32,
    /// The run is stopped once more tasks have failed, those not counted that had failed before this life.
    max_fails: u32,
    pub(super) failed_before: u32,
    /// How often a task may kill its rank.
    pub(super) crash_limit: u32,
    /// What killed ranks in earlier lives of the run, until tasks are placed.
    pub(super) past_killings: PastKillings,
    /// When everything must be over, if that is known, and what time it was last.
    pub(super) end: Option<Timestamp>,
    pub(super) now: Timestamp,
    /// Ready tasks that would not be over by then: they wait for another life of the run.
    pub(super) held_back: BTreeSet<TaskId>,
    /// Tasks that wait for the end of another, at its worker or here, by that one.
    pub(super) followers: BTreeMap<TaskId, Vec<TaskId>>,
    /// The failed task upstream of each aborted one.
    pub(super) aborted_because: BTreeMap<TaskId, TaskId>,
}

impl Scheduler {
    /// A scheduler for what `asked` needs of a graph.
    pub fn new(graph: Arc<Graph>, asked: impl Into<TaskList>, options: Options) -> Self {
        let ready = Ready::new(&graph);
        let durations = Durations::new(&graph);
        Scheduler {
            options,
            phase: Phase::Gathering,
            tasks: Tasks::new(&graph, asked.into()),
            workers: Workers::new(graph.len(), ready.requests()),
            ready,
            multi_node: MultiNode::default(),
            urgency: Urgency::of(&graph, options.precedence),
            durations,
            division: Division::default(),
            dealing: Dealing::default(),
            ahead: Ahead::of(&graph),
            client: Client::default(),
            out_of_memory_failures: 0,
            max_fails: u32::MAX,
            failed_before: 0,
            crash_limit: CRASH_LIMIT,
            past_killings: PastKillings::default(),
            end: None,
            now: Timestamp::default(),
            held_back: BTreeSet::new(),
            followers: BTreeMap::new(),
            aborted_because: BTreeMap::new(),
            graph,
        }
    }

    /// The same, but one that places tasks by no more than so many orders in a turn: workers begin with
    /// what they got while it goes on.
    #[must_use]
    pub fn with_pace(mut self, orders: u32) -> Self {
        self.dealing.pace = orders.max(1);
        self
    }

    /// The same, but one that starts nothing that is expected to run beyond `end`. Once nothing else is left, it
    /// stops the run, which can be resumed.
    #[must_use]
    pub fn with_end(mut self, end: Option<Timestamp>) -> Self {
        self.end = end;
        self
    }

    /// True if the last turn left tasks for the next one, which should come soon, whether anything comes in
    /// before it or not.
    pub fn is_unfinished(&self) -> bool {
        self.phase == Phase::Working && self.dealing.is_unfinished
    }

    /// The graph, as it is by now.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many tasks this run has to do, hidden ones not counted.
    pub fn task_count(&self) -> u32 {
        self.count_shown(|state| state != TaskState::Culled)
    }

    /// How many tasks are in a state, hidden ones not counted.
    pub fn count(&self, state: TaskState) -> u32 {
        match self.graph.has_joins() {
            false => self.tasks.count(state) - self.count_lists(|other| other == state),
            true => self.count_shown(|other| other == state),
        }
    }

    fn count_shown(&self, is_counted: impl Fn(TaskState) -> bool) -> u32 {
        let has_joins = self.graph.has_joins();
        let is_no_join = |task: &TaskId| !has_joins || !self.graph.is_join(*task);
        let counted = self.graph.tasks().filter(|&task| is_counted(self.state(task)));
        counted.filter(is_no_join).count() as u32 - self.count_lists(is_counted)
    }

    fn count_lists(&self, is_counted: impl Fn(TaskState) -> bool) -> u32 {
        self.graph.hidden_lists().filter(|&task| is_counted(self.state(task))).count() as u32
    }

    /// Where a task stands.
    pub fn state(&self, task: TaskId) -> TaskState {
        self.tasks.state.get(task)
    }

    /// Who has the task, or has its output; and which try that is.
    pub fn location(&self, task: TaskId) -> (Rank, Attempt) {
        (self.tasks.worker.get(task), self.tasks.attempt.get(task))
    }

    /// True if a task's output is in the run directory.
    pub fn is_stored(&self, task: TaskId) -> bool {
        self.tasks.has(task, Marks::STORED)
    }

    /// Which life of a worker is known; `None` if it never joined, left, or is lost.
    pub fn incarnation(&self, worker: Rank) -> Option<Incarnation> {
        self.workers.get(worker).map(|record| record.incarnation)
    }

    /// Takes one input in and appends what must be done.
    pub fn handle(&mut self, now: Timestamp, input: Input, actions: &mut Vec<Action>) {
        self.now = now;
        match input {
            Input::FromWorker { worker, message } => self.on_message(worker, message, actions),
            Input::WorkerLost { worker, incarnation } => self.on_worker_lost(worker, incarnation, actions),
            Input::NeverJoins => self.expect_one_worker_less(),
            Input::KilledRank(killing) => self.on_killed_rank(killing, actions),
            Input::FromClient(word) => self.on_client(word, actions),
            Input::Stop(reason) => self.on_stop(reason, actions),
            Input::Turn => self.on_turn(actions),
        }
    }

    /// This scheduler, but one that stops the run once more than so many tasks have failed for good; none: never.
    pub fn with_max_fails(mut self, max_fails: Option<u32>) -> Self {
        self.max_fails = max_fails.unwrap_or(u32::MAX);
        self
    }

    /// A task has failed for good.
    pub(super) fn stop_if_too_many_failed(&mut self, actions: &mut Vec<Action>) {
        if self.tasks.count(TaskState::Failed) - self.failed_before > self.max_fails {
            self.on_stop(StopReason::TooManyFailures, actions);
        }
    }

    pub(super) fn on_stop(&mut self, reason: StopReason, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Gathering | Phase::Working) {
            return;
        }
        self.phase = Phase::Stopping(reason);
        actions.push(Action::Record(Event::RunStopping { reason }));
        self.ready.clear();
        self.workers.clear_parked();
        self.give_up_collecting();
        self.multi_node.clear();
        self.workers.order_all(&Order::Stop);
        if reason != StopReason::Cancelled {
            let all = Span { first: TaskId(0), count: self.graph.len() as u32 };
            self.save_outputs(&[all]);
        }
        if reason == StopReason::Cancelled {
            let waiting = self.graph.tasks().filter(|task| self.state(*task) == TaskState::Waiting);
            for task in waiting.collect::<Vec<_>>() {
                self.cancel(task, actions);
            }
        }
    }

    /// Those of these outputs that are in memory alone, and that somebody still takes, go into the run directory:
    /// then they need not be made again when the run is resumed.
    pub(super) fn save_outputs(&mut self, tasks: &[Span]) {
        if self.options.persist == Persist::None {
            return;
        }
        let graph = Arc::clone(&self.graph);
        let tasks = tasks.iter().flat_map(|span| span.tasks());
        for task in tasks.filter(|&task| self.is_to_be_saved(&graph, task)).collect::<Vec<_>>() {
            let order = Order::Persist(task, self.tasks.attempt.get(task));
            self.workers.order(self.tasks.worker.get(task), order);
        }
    }

    fn is_to_be_saved(&self, graph: &Graph, task: TaskId) -> bool {
        let is_held = self.tasks.has(task, Marks::HELD) && self.tasks.consumers.get(task) > 0;
        is_held && !self.tasks.has(task, Marks::STORED) && !self.is_persisted(task, &graph.facts(task))
    }

    /// Bytes that each worker would have to save if the run were stopped now. Takes time for each task.
    pub fn unsaved_bytes(&self) -> BTreeMap<Rank, u64> {
        let mut unsaved = BTreeMap::new();
        if self.options.persist != Persist::None {
            for task in self.graph.tasks().filter(|&task| self.is_to_be_saved(&self.graph, task)) {
                let bytes = self.tasks.size_bytes.get(task) as u64;
                *unsaved.entry(self.tasks.worker.get(task)).or_default() += bytes;
            }
        }
        unsaved
    }

    fn on_turn(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Gathering && self.workers.len() >= self.options.workers as usize {
            self.phase = Phase::Working;
            self.fit_memory(actions);
            self.take_up_killings(actions);
            if self.phase == Phase::Working {
                self.enter_ready_tasks(actions);
            }
        }
        if self.phase == Phase::Working {
            self.serve_multi_node_tasks(actions);
            self.place_ready_tasks();
            if !self.dealing.is_unfinished {
                self.steal_for_idle_workers();
            }
            if self.is_out_of_time() {
                self.on_stop(StopReason::Terminated, actions);
            }
        }
        if let Some(outcome) = self.outcome() {
            self.workers.order_all(&Order::Leave);
            self.phase = Phase::Leaving(outcome);
        }
        let messages = self.workers.take_orders().map(|(worker, incarnation, orders)| Action::ToWorker {
            worker,
            message: ToWorker { incarnation, orders },
        });
        actions.extend(messages);
        if let (Phase::Leaving(outcome), true) = (self.phase, self.workers.is_empty()) {
            self.phase = Phase::Over;
            actions.push(Action::Record(Event::RunFinished { outcome }));
            actions.push(Action::Finish(outcome));
        }
    }

    /// True if a task is not expected to be over in time.
    pub(super) fn would_end_late(&self, task: TaskId) -> bool {
        self.end.is_some_and(|end| self.now + Micros(self.durations.expected_us(task) as u64) > end)
    }

    /// True if all that could still be done would take too long.
    fn is_out_of_time(&self) -> bool {
        let is_left = |task: &TaskId| self.state(*task) == TaskState::Waiting;
        self.tasks.active_count() == 0 && !self.dealing.is_unfinished && self.held_back.iter().any(is_left)
    }

    /// How the run ends, if nothing is left to do or to wait for.
    fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            // What is to be durable must be so before anybody is told that all is done.
            Phase::Working if self.tasks.open_count() == 0 => {
                (self.tasks.unsaved_count() == 0).then(|| self.outcome_of_ended())
            }
            Phase::Stopping(reason) if self.tasks.active_count() == 0 => Some(Outcome::Stopped(reason)),
            Phase::Working if self.is_deserted() => Some(Outcome::WorkersLost),
            _ => None,
        }
    }

    /// True if so many workers were lost that nobody can run what is left, and none will come back. Asked
    /// after placing: workers that have nothing to do are given whatever any of them could run.
    fn is_deserted(&self) -> bool {
        let is_any_left = self.tasks.open_count() > u32::from(self.client.is_there());
        is_any_left && self.tasks.active_count() == 0 && !self.options.workers_come_back
    }

    fn outcome_of_ended(&self) -> Outcome {
        let failed = self.tasks.count(TaskState::Failed);
        if failed == 0 {
            return Outcome::Done;
        }
        let aborted = self.graph.tasks().filter(|&task| self.state(task) == TaskState::Aborted);
        let aborted = aborted.filter(|&task| !self.graph.is_join(task)).count() as u32;
        Outcome::TasksFailed { failed, aborted, out_of_memory: self.out_of_memory_failures == failed }
    }

    /// Enters every task that waits for nothing, once: where many are alike, all of them at once.
    fn enter_ready_tasks(&mut self, actions: &mut Vec<Action>) {
        let end = TaskId::from(self.graph.len());
        // Those that became others may have other options than their neighbours.
        let are_all_waiting =
            self.tasks.count(TaskState::Waiting) as usize == self.graph.len() && !self.graph.has_grown();
        let mut task = TaskId(0);
        while task < end {
            let run = Span { first: task, count: self.urgency.run_end(task).0 - task.0 };
            let is_run = run.count > 1 && self.graph.options(task).several_nodes().is_none();
            if is_run && !self.graph.is_join(task) && are_all_waiting {
                self.ready.push(self.ready.class(self.graph.options_id(task)), self.urgency.level(task), run);
                task = run.end();
                continue;
            }
            if self.is_ready(task) {
                self.settle(task, actions);
            }
            task = TaskId(task.0 + 1);
        }
    }
}
