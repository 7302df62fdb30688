//! What workers report, and what the tables learn from it.

use std::sync::Arc;

use crate::core::batch::Batch;
use crate::core::client::ToClient;
use crate::core::event::{Cause, Event, Failure, StopReason, Totals};
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{FromWorker, Order, Report};
use crate::core::resources::Resources;
use crate::core::slot::Slot;
use crate::core::span::Span;
use crate::core::time::Timestamp;

use super::growth::HandedOn;
use super::machine::{Action, Phase, Scheduler};
use super::tasks::{Marks, TaskState};
use super::workers::WorkerRecord;

/// The signal that no process sends itself by mistake.
const KILL: i32 = 9;
/// How often a client's call may be ended by it.
const KILLED_MAX: u32 = 10;

impl Scheduler {
    pub(super) fn on_message(&mut self, worker: Rank, message: FromWorker, actions: &mut Vec<Action>) {
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
            Report::Finished(batch) => self.on_finished(worker, batch, actions),
            Report::Durable(tasks, attempt) => self.on_durable(worker, &tasks, attempt, actions),
            Report::Volatile(tasks, attempt) => self.on_volatile(&tasks, attempt),
            Report::Failed(task, attempt, failure) => self.on_failed(worker, task, attempt, failure, actions),
            Report::Returned(tasks, attempt) => self.on_returned(worker, tasks, attempt, actions),
            Report::InputMissing { task, attempt, input } => {
                self.on_input_missing(worker, (task, attempt), input, actions);
            }
            Report::Heartbeat(_) | Report::WritesPerSecond(_) => {}
            Report::Left(totals) => self.on_left(worker, totals, actions),
            Report::Bound(task, attempt, slot) => self.on_bound(worker, (task, attempt), slot, actions),
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
        self.workers.insert(worker, WorkerRecord::new(incarnation, host.clone(), capacity.clone()));
        self.multi_node.look_again();
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
            self.workers.keeps(worker, task);
            actions.push(Action::Record(Event::TaskStarted { task, attempt, worker, started }));
        }
    }

    /// Nothing is decided by what a task holds; it is recorded.
    fn on_bound(
        &mut self,
        worker: Rank,
        (task, attempt): (TaskId, Attempt),
        slot: Box<Slot>,
        actions: &mut Vec<Action>,
    ) {
        if self.tasks.is_current(task, attempt, worker) {
            actions.push(Action::Record(Event::TaskBound { task, attempt, worker, slot }));
        }
    }

    fn on_finished(&mut self, worker: Rank, batch: Batch, actions: &mut Vec<Action>) {
        let attempt = batch.attempt;
        let are_current = batch.tasks().all(|task| self.tasks.is_current(task, attempt, worker));
        let batch = match are_current {
            true => batch,
            false => self.without_abandoned(worker, batch),
        };
        if batch.is_empty() {
            return;
        }
        let graph = Arc::clone(&self.graph);
        self.take_from_worker(batch.tasks());
        for (task, sizes) in &batch.file_sizes {
            self.tasks.file_sizes.insert(*task, sizes.clone());
        }
        let mut bytes = 0_u64;
        for (task, _, _, size_bytes) in batch.timings() {
            bytes = bytes.saturating_add(size_bytes);
            self.tasks.step(task, TaskState::Finished);
            self.tasks.count_unsaved(task);
            if self.tasks.has(task, Marks::KEPT) {
                self.tasks.mark(task, Marks::HELD);
                self.tasks.size_bytes.set(task, size_bytes as f32);
            }
        }
        self.durations.measured(&batch, bytes);
        let mut unkept = Vec::new();
        let spans = batch.spans.clone();
        actions.push(Action::Record(Event::TasksFinished { worker, batch }));
        let ended = spans.clone();
        for span in spans {
            let sources_end = graph.sources_end(span.first);
            for task in span.tasks() {
                if task >= sources_end {
                    self.let_go(task, graph.value_inputs(task));
                }
                self.after_success(task, &mut unkept, actions);
            }
        }
        if matches!(self.phase, Phase::Stopping(reason) if reason != StopReason::Cancelled) {
            self.save_outputs(&ended);
        }
        // Only now: what is made again counts the inputs that are met, and all of this batch are by now.
        for task in unkept {
            if self.phase == Phase::Working && self.tasks.consumers.get(task) > 0 {
                self.make_again(task, actions);
            }
        }
    }

    /// Outputs are in the run directory: what is left of a run that is cut off begins there.
    fn on_durable(&mut self, worker: Rank, tasks: &[Span], attempt: Attempt, actions: &mut Vec<Action>) {
        let mut durable = Vec::new();
        for task in tasks.iter().flat_map(|span| span.tasks()) {
            if self.tasks.is_of_try(task, attempt) && self.state(task) == TaskState::Finished {
                self.tasks.count_saved(task);
                self.tasks.store(task);
                Span::add_to(&mut durable, task);
            }
        }
        if !durable.is_empty() {
            actions.push(Action::Record(Event::TasksDurable { worker, attempt, tasks: durable }));
        }
    }

    /// Outputs will not be durable: nobody waits for that any more.
    fn on_volatile(&mut self, tasks: &[Span], attempt: Attempt) {
        for task in tasks.iter().flat_map(|span| span.tasks()) {
            if self.tasks.is_of_try(task, attempt) && self.state(task) == TaskState::Finished {
                self.tasks.count_saved(task);
            }
        }
    }

    fn after_success(&mut self, task: TaskId, unkept: &mut Vec<TaskId>, actions: &mut Vec<Action>) {
        self.meet_dependents(task, actions);
        match (self.tasks.has(task, Marks::KEPT), self.tasks.consumers.get(task) > 0) {
            (true, true) if self.client.is_concerned() => self.tell_client_of_output(task, actions),
            (true, false) => self.release(task),
            // Someone came to need the value after the worker was told that nobody does.
            (false, true) => unkept.push(task),
            _ => {}
        }
    }

    /// What is left of a batch without abandoned tries: whatever those left at their worker is of no use.
    fn without_abandoned(&mut self, worker: Rank, batch: Batch) -> Batch {
        let mut left = Batch::new(batch.attempt);
        for (task, success) in batch.iter() {
            if self.tasks.is_current(task, batch.attempt, worker) {
                left.push(task, success.started, success.ran, success.size_bytes);
                if !success.file_sizes.is_empty() {
                    left.file_sizes.push((task, success.file_sizes));
                }
            } else {
                self.workers.order(worker, Order::Release(task, batch.attempt));
            }
        }
        left
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
        let Failure { started, ran, cause } = failure;
        let cause = match cause {
            Cause::HandedOn(addition) => {
                match self.grow(&HandedOn { task, attempt, worker, started, ran }, *addition, actions) {
                    Ok(()) => return,
                    Err(cause) => cause,
                }
            }
            cause => cause,
        };
        let failure = Failure { started, ran, cause };
        self.take_from_worker(std::iter::once(task));
        if let Phase::Stopping(_) = self.phase {
            return self.on_ended_by_stop((task, attempt, worker), failure, actions);
        }
        let mut failure = failure;
        if let Cause::OutOfMemory(shortage) = &mut failure.cause
            && let Some(memory_bytes) = self.more_memory(task, shortage)
        {
            actions.push(Action::Record(Event::AttemptFailed {
                task,
                attempt,
                worker,
                failure,
                retried: true,
            }));
            self.set_memory(task, memory_bytes, actions);
            self.put_back(task);
            return self.settle(task, actions);
        }
        let failures = self.tasks.failures.entry(task).or_default();
        *failures += u32::from(!failure.cause.is_infrastructure());
        let failures = *failures;
        let retried = failures <= self.retries(task, &failure.cause);
        let by_memory = matches!(failure.cause, Cause::OutOfMemory(_));
        self.record_failure((task, attempt, worker), failure, retried, actions);
        if retried {
            self.put_back(task);
            return self.settle(task, actions);
        }
        self.out_of_memory_failures += u32::from(by_memory);
        self.fail(task, actions);
    }

    /// An attempt has failed, by the fault of its task. If that was the last one, the client is told: outputs that it
    /// holds may not be made because of any.
    pub(super) fn record_failure(
        &self,
        (task, attempt, worker): (TaskId, Attempt, Rank),
        failure: Failure,
        retried: bool,
        actions: &mut Vec<Action>,
    ) {
        if !retried && self.client.is_there() {
            actions.push(Action::ToClient(ToClient::Failed(task, failure.cause.clone())));
        }
        actions.push(Action::Record(Event::AttemptFailed { task, attempt, worker, failure, retried }));
    }

    /// How often a task is tried again after this. That its process was killed may be no fault of a client's call, as
    /// long as it does not happen each time; least of all if somebody else killed it.
    fn retries(&self, task: TaskId, cause: &Cause) -> u32 {
        let retries = self.graph.options(task).retries;
        if !self.graph.operation(task).body.is_pickled() {
            return retries;
        }
        retries.max(match cause {
            Cause::Signal(KILL) => KILLED_MAX,
            Cause::Signal(_) | Cause::NotStarted(_) => self.crash_limit.saturating_sub(1),
            _ => 0,
        })
    }

    /// A task has failed for good.
    pub(super) fn fail(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.tasks.step(task, TaskState::Failed);
        self.revoke_announcement(task);
        self.after_end(task);
        self.abort_dependents(task, actions);
        self.let_go_if_left(task, actions);
        self.stop_if_too_many_failed(actions);
    }

    /// An attempt that ended because the run is being stopped: no fault of the task.
    pub(super) fn on_ended_by_stop(
        &mut self,
        (task, attempt, worker): (TaskId, Attempt, Rank),
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Record(Event::AttemptFailed { task, attempt, worker, failure, retried: false }));
        self.put_back(task);
        // An input may have been lost since it began, and have failed when it was made again.
        self.settle(task, actions);
    }

    /// A worker gave tasks back before they started.
    fn on_returned(&mut self, worker: Rank, tasks: Span, attempt: Attempt, actions: &mut Vec<Action>) {
        let returned = tasks.tasks().filter(|&task| self.tasks.is_current(task, attempt, worker));
        let returned: Vec<TaskId> = returned.collect();
        for &task in &returned {
            self.take_unstarted(task);
        }
        for task in returned {
            if self.state(task) == TaskState::Waiting {
                self.settle(task, actions);
            }
        }
    }

    fn on_left(&mut self, worker: Rank, totals: Totals, actions: &mut Vec<Action>) {
        let known = self.workers.remove(worker);
        let idle = known.is_some_and(|record| record.assigned == 0);
        assert!(idle, "worker {worker} left with tasks");
        actions.push(Action::Record(Event::WorkerLeft { worker, totals }));
    }
}
