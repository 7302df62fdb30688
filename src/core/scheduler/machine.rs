//! The scheduler as one state machine: what came in, what must be done.
//!
//! Inputs only change tables; decisions are made once, on `Input::Turn`, after everything that came
//! has been handed in. So a burst of reports costs one decision and one message per worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::event::{Cause, Event, Failure, Outcome, StopReason, Success, Totals};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, FromWorker, InputLocation, Order, Report, ToWorker};
use crate::core::resources::Resources;
use crate::core::time::Timestamp;

use super::durations::Durations;
use super::placement::{Candidate, moving_us, place};
use super::priority::Urgency;
use super::ready::{Class, Ready};
use super::steal::{Loot, steal};
use super::tasks::{TaskState, Tasks};
use super::workers::{WorkerRecord, Workers};

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
    /// True if a lost worker may come back; otherwise the run ends when the last one is lost.
    pub workers_come_back: bool,
    /// True if what is asked for is to be written into the run directory, not only computed.
    pub persist_asked: bool,
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
    pub(super) urgency: Urgency,
    pub(super) durations: Durations,
    pub(super) out_of_memory_failures: u32,
    /// The failed task upstream of each aborted one.
    pub(super) aborted_because: BTreeMap<TaskId, TaskId>,
}

impl Scheduler {
    /// A scheduler for what `asked` needs of a graph.
    pub fn new(graph: Arc<Graph>, asked: &[TaskId], options: Options) -> Self {
        let ready = Ready::new(&graph);
        Scheduler {
            options,
            phase: Phase::Gathering,
            tasks: Tasks::new(&graph, asked),
            workers: Workers::new(ready.requests()),
            ready,
            urgency: Urgency::of(&graph),
            durations: Durations::new(&graph),
            out_of_memory_failures: 0,
            aborted_because: BTreeMap::new(),
            graph,
        }
    }

    /// How many tasks this run has to do, hidden joins not counted.
    pub fn task_count(&self) -> u32 {
        let counted = |task: &TaskId| self.state(*task) != TaskState::Culled && !self.graph.is_join(*task);
        self.graph.tasks().filter(counted).count() as u32
    }

    /// Where a task stands.
    pub fn state(&self, task: TaskId) -> TaskState {
        self.tasks.state[task.index()]
    }

    /// Who has the task, or has its output; and which try that is.
    pub fn location(&self, task: TaskId) -> (Rank, Attempt) {
        (self.tasks.worker[task.index()], self.tasks.attempt[task.index()])
    }

    /// Which life of a worker is known; `None` if it never joined, left, or is lost.
    pub fn incarnation(&self, worker: Rank) -> Option<Incarnation> {
        self.workers.get(worker).map(|record| record.incarnation)
    }

    /// Takes one input in and appends what must be done. No decision depends on the time yet.
    pub fn handle(&mut self, _now: Timestamp, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::FromWorker { worker, message } => self.on_message(worker, message, actions),
            Input::WorkerLost { worker, incarnation } => self.on_worker_lost(worker, incarnation, actions),
            Input::Stop(reason) => self.on_stop(reason, actions),
            Input::Turn => self.on_turn(actions),
        }
    }

    fn on_message(&mut self, worker: Rank, message: FromWorker, actions: &mut Vec<Action>) {
        for report in message.reports {
            if let Report::Joined { host, capacity } = report {
                self.on_joined(worker, message.incarnation, (host, capacity), actions);
                continue;
            }
            let lives =
                self.workers.get(worker).is_some_and(|record| record.incarnation == message.incarnation);
            if lives {
                self.on_report(worker, report, actions);
            }
        }
    }

    fn on_report(&mut self, worker: Rank, report: Report, actions: &mut Vec<Action>) {
        match report {
            Report::Joined { .. } => unreachable!("handled before, as it may begin a new life"),
            Report::Started(task, attempt, started) => {
                self.on_started(worker, task, attempt, started, actions)
            }
            Report::Finished(task, attempt, success) => {
                self.on_finished(worker, task, attempt, success, actions)
            }
            Report::Failed(task, attempt, failure) => self.on_failed(worker, task, attempt, failure, actions),
            Report::Retracted(task, attempt) => self.on_returned(worker, task, attempt, actions),
            Report::InputMissing { task, attempt, input } => {
                self.on_input_missing(worker, (task, attempt), input, actions);
            }
            Report::Heartbeat => {}
            Report::Left(totals) => self.on_left(worker, totals, actions),
        }
    }

    fn on_joined(
        &mut self,
        worker: Rank,
        incarnation: Incarnation,
        (host, capacity): (String, Resources),
        actions: &mut Vec<Action>,
    ) {
        if let Some(known) = self.workers.get(worker) {
            let known = known.incarnation;
            if known >= incarnation {
                return;
            }
            self.on_worker_lost(worker, known, actions);
        }
        if self.phase == Phase::Over {
            return;
        }
        self.workers.insert(worker, WorkerRecord::new(incarnation, capacity.clone()));
        actions.push(Action::Record(Event::WorkerJoined { worker, incarnation, host, capacity }));
        match self.phase {
            Phase::Stopping(_) => self.workers.order(worker, Order::Stop),
            Phase::Leaving(_) => self.workers.order(worker, Order::Leave),
            Phase::Gathering | Phase::Working | Phase::Over => {}
        }
    }

    fn on_started(
        &mut self,
        worker: Rank,
        task: TaskId,
        attempt: Attempt,
        started: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if self.tasks.is_current(task, attempt, worker) && self.state(task) == TaskState::Assigned {
            self.tasks.step(task, TaskState::Running);
            self.workers.keeps(worker, self.urgency.of_task(task));
            actions.push(Action::Record(Event::TaskStarted { task, attempt, worker, started }));
        }
    }

    fn on_finished(
        &mut self,
        worker: Rank,
        task: TaskId,
        attempt: Attempt,
        success: Success,
        actions: &mut Vec<Action>,
    ) {
        if !self.tasks.is_current(task, attempt, worker) {
            // An abandoned try: whatever it left there is of no use.
            self.workers.order(worker, Order::Release(task, attempt));
            return;
        }
        self.take_from_worker(task);
        self.durations.measured(task, success.ran);
        let place = task.index();
        self.tasks.size_bytes[place] = success.size_bytes;
        if !success.file_sizes.is_empty() {
            self.tasks.file_sizes.insert(task, success.file_sizes.clone());
        }
        self.tasks.step(task, TaskState::Finished);
        self.tasks.is_held[place] = self.tasks.is_kept[place];
        actions.push(Action::Record(Event::TaskFinished { task, attempt, worker, success }));
        self.after_end(task);
        self.meet_dependents(task, actions);
        match (self.tasks.is_kept[place], self.tasks.consumers[place] > 0) {
            (true, false) => self.release(task),
            // Someone came to need the value after the worker was told that nobody does.
            (false, true) if self.phase == Phase::Working => self.make_again(task, actions),
            _ => {}
        }
    }

    fn on_failed(
        &mut self,
        worker: Rank,
        task: TaskId,
        attempt: Attempt,
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        if !self.tasks.is_current(task, attempt, worker) {
            return;
        }
        self.take_from_worker(task);
        if let Phase::Stopping(reason) = self.phase {
            return self.on_ended_by_stop((task, attempt, worker), failure, reason, actions);
        }
        let failures = self.tasks.failures.entry(task).or_default();
        *failures += u32::from(!failure.cause.is_infrastructure());
        let retried = *failures <= self.graph.options(task).retries;
        let by_memory = failure.cause == Cause::OutOfMemory;
        actions.push(Action::Record(Event::AttemptFailed { task, attempt, worker, failure, retried }));
        if retried {
            self.tasks.step(task, TaskState::Waiting);
            return self.settle(task, actions);
        }
        self.tasks.step(task, TaskState::Failed);
        self.out_of_memory_failures += u32::from(by_memory);
        self.after_end(task);
        self.abort_dependents(task, actions);
    }

    /// An attempt that ended because the run is being stopped: no fault of the task.
    fn on_ended_by_stop(
        &mut self,
        (task, attempt, worker): (TaskId, Attempt, Rank),
        failure: Failure,
        reason: StopReason,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Record(Event::AttemptFailed { task, attempt, worker, failure, retried: false }));
        self.tasks.step(task, TaskState::Waiting);
        if reason == StopReason::Cancelled {
            self.cancel(task, actions);
        }
    }

    /// A worker gave a task back before it started.
    fn on_returned(&mut self, worker: Rank, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.tasks.is_current(task, attempt, worker) {
            self.take_unstarted(task);
            self.settle(task, actions);
        }
    }

    fn on_left(&mut self, worker: Rank, totals: Totals, actions: &mut Vec<Action>) {
        let known = self.workers.remove(worker);
        let idle = known.is_some_and(|record| record.assigned.is_empty());
        assert!(idle, "worker {worker} left with tasks");
        actions.push(Action::Record(Event::WorkerLeft { worker, totals }));
    }

    fn on_stop(&mut self, reason: StopReason, actions: &mut Vec<Action>) {
        if !matches!(self.phase, Phase::Gathering | Phase::Working) {
            return;
        }
        self.phase = Phase::Stopping(reason);
        actions.push(Action::Record(Event::RunStopping { reason }));
        self.ready.clear();
        self.workers.order_all(&Order::Stop);
        if reason == StopReason::Cancelled {
            let waiting = self.graph.tasks().filter(|task| self.state(*task) == TaskState::Waiting);
            for task in waiting.collect::<Vec<_>>() {
                self.cancel(task, actions);
            }
        }
    }

    /// A person said that a waiting task shall not run.
    pub(super) fn cancel(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.tasks.step(task, TaskState::Cancelled);
        self.after_end(task);
        if !self.graph.is_join(task) {
            actions.push(Action::Record(Event::TaskCancelled { task }));
        }
    }

    fn on_turn(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Gathering && self.workers.iter().count() >= self.options.workers as usize {
            self.phase = Phase::Working;
            self.enter_ready_tasks(actions);
        }
        if self.phase == Phase::Working {
            self.place_ready_tasks();
            self.steal_for_idle_workers();
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

    /// How the run ends, if nothing is left to do or to wait for.
    fn outcome(&self) -> Option<Outcome> {
        match self.phase {
            Phase::Working if self.tasks.open_count() == 0 => Some(self.outcome_of_ended()),
            Phase::Stopping(reason) if self.tasks.active_count() == 0 => Some(Outcome::Stopped(reason)),
            Phase::Gathering | Phase::Working if self.is_deserted() => Some(Outcome::WorkersLost),
            _ => None,
        }
    }

    /// True if every worker was lost and none will come back.
    fn is_deserted(&self) -> bool {
        let all_seen = self.phase == Phase::Working || self.options.workers == 0;
        all_seen && self.workers.is_empty() && !self.options.workers_come_back
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

    /// Enters every task that waits for nothing, once.
    fn enter_ready_tasks(&mut self, actions: &mut Vec<Action>) {
        for task in self.graph.tasks() {
            if self.tasks.is_ready(task) {
                self.settle(task, actions);
            }
        }
    }

    fn place_ready_tasks(&mut self) {
        let mut blocked = vec![false; self.ready.requests().len()];
        while let Some((class, urgency)) = self.ready.peek(&blocked) {
            let task = self.urgency.task(urgency);
            if !self.tasks.is_ready(task) {
                self.ready.pop(class);
                continue;
            }
            let candidate = Candidate {
                value_inputs: self.graph.value_inputs(task),
                class,
                request: &self.ready.requests()[class.0],
                expected_us: self.durations.expected_us(task),
            };
            match place(&candidate, &self.tasks, &self.workers) {
                Some(worker) => {
                    self.ready.pop(class);
                    self.assign(task, worker, class);
                }
                None => blocked[class.0] = true,
            }
        }
    }

    fn assign(&mut self, task: TaskId, worker: Rank, class: Class) {
        let place = task.index();
        let urgency = self.urgency.of_task(task);
        self.tasks.step(task, TaskState::Assigned);
        self.tasks.attempt[place] = self.tasks.attempt[place].next();
        self.tasks.worker[place] = worker;
        self.tasks.is_kept[place] = self.tasks.consumers[place] > 0;
        let assignment = self.assignment(task, urgency);
        for input in &assignment.inputs {
            self.note_copy(input.task, worker);
        }
        self.workers.assign(worker, urgency, class, self.durations.expected_us(task));
        self.workers.order(worker, Order::Assign(assignment));
    }

    fn assignment(&self, task: TaskId, urgency: u32) -> Assignment {
        let location = |&input: &TaskId| {
            let owner = self.tasks.worker[input.index()];
            let record = self.workers.get(owner).expect("a held output's owner lives");
            let attempt = self.tasks.attempt[input.index()];
            InputLocation { task: input, attempt, owner, incarnation: record.incarnation }
        };
        let sizes = |input: TaskId| Some((input, self.tasks.file_sizes.get(&input)?.clone()));
        let files = match self.tasks.file_sizes.is_empty() {
            true => Vec::new(),
            false => self.graph.inputs(task).filter_map(sizes).collect(),
        };
        Assignment {
            task,
            attempt: self.tasks.attempt[task.index()],
            urgency,
            inputs: self.graph.value_inputs(task).iter().map(location).collect(),
            files,
            keep: self.tasks.is_kept[task.index()],
            persist: self.graph.options(task).keep
                || (self.options.persist_asked && self.tasks.is_asked[task.index()]),
        }
    }

    /// Notes that a worker is about to fetch an output, so that `Release` reaches it too.
    fn note_copy(&mut self, task: TaskId, worker: Rank) {
        if self.tasks.worker[task.index()] != worker {
            let copies = self.tasks.copies.entry(task).or_default();
            if !copies.contains(&worker) {
                copies.push(worker);
            }
        }
    }

    fn steal_for_idle_workers(&mut self) {
        for class in (0..self.ready.requests().len()).map(Class) {
            let loot = |urgency: u32| {
                let task = self.urgency.task(urgency);
                let class = self.ready.class_of(&self.graph, task);
                Loot { class, moving_us: moving_us(self.graph.value_inputs(task), &self.tasks) }
            };
            let stolen = steal(class, self.ready.requests(), &self.workers, loot);
            let Some((victim, tail)) = stolen else { continue };
            for urgency in tail {
                let task = self.urgency.task(urgency);
                if self.state(task) == TaskState::Assigned {
                    let order = Order::Retract(task, self.tasks.attempt[task.index()]);
                    self.workers.retract(victim, urgency, order);
                }
            }
        }
    }

    /// Takes back a task that its worker has not started: this was no attempt, and its number goes to
    /// the next, as users see it in `{attempt}` and in what failed. No word about it is under way, as
    /// giving it back was the worker's last.
    pub(super) fn take_unstarted(&mut self, task: TaskId) {
        self.take_from_worker(task);
        self.tasks.step(task, TaskState::Waiting);
        let attempt = &mut self.tasks.attempt[task.index()];
        *attempt = attempt.previous();
    }

    /// Books a task out of its worker.
    pub(super) fn take_from_worker(&mut self, task: TaskId) {
        let class = self.ready.class_of(&self.graph, task);
        self.workers.unassign(self.tasks.worker[task.index()], self.urgency.of_task(task), class);
    }

    /// A waiting task whose inputs may all be met: queue it, finish it (a join), or abort it.
    pub(super) fn settle(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let cause = self.graph.inputs(task).find(|input| self.state(*input).is_bad_end());
        if let Some(cause) = cause {
            return self.abort(task, cause, actions);
        }
        if self.phase == Phase::Working && self.tasks.is_ready(task) {
            if self.graph.is_join(task) {
                self.tasks.step(task, TaskState::Finished);
                self.meet_dependents(task, actions);
            } else {
                self.ready.push(self.ready.class_of(&self.graph, task), self.urgency.of_task(task));
            }
        }
    }

    /// A task's output is there: one input less is unmet for each dependent. Joins that this
    /// finishes go on at once, without recursion however long a row of them is.
    fn meet_dependents(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        let mut finished = vec![task];
        while let Some(task) = finished.pop() {
            for &dependent in graph.dependents(task) {
                if self.state(dependent).is_ended() {
                    continue;
                }
                self.tasks.unmet[dependent.index()] -= 1;
                if !self.tasks.is_ready(dependent) {
                    continue;
                }
                if graph.is_join(dependent) {
                    self.tasks.step(dependent, TaskState::Finished);
                    finished.push(dependent);
                } else {
                    self.settle(dependent, actions);
                }
            }
        }
    }

    /// A task ended for good: it takes no more values. Outputs that nobody else takes are released.
    pub(super) fn after_end(&mut self, task: TaskId) {
        let graph = Arc::clone(&self.graph);
        for &input in graph.value_inputs(task) {
            let consumers = &mut self.tasks.consumers[input.index()];
            *consumers -= 1;
            if *consumers == 0 {
                self.release(input);
            }
        }
    }

    /// Nobody takes this value any more: whoever holds it may drop it.
    pub(super) fn release(&mut self, task: TaskId) {
        let place = task.index();
        let order = Order::Release(task, self.tasks.attempt[place]);
        if std::mem::take(&mut self.tasks.is_held[place]) {
            self.workers.order(self.tasks.worker[place], order.clone());
        }
        for worker in self.tasks.copies.remove(&task).unwrap_or_default() {
            self.workers.order(worker, order.clone());
        }
    }
}
