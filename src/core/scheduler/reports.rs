//! What workers report, and what the tables learn from it.

use crate::core::event::{Cause, Event, Failure, StopReason, Success, Totals};
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{FromWorker, Order, Report};
use crate::core::resources::Resources;
use crate::core::slot::Slot;
use crate::core::time::Timestamp;

use super::machine::{Action, Phase, Scheduler};
use super::tasks::TaskState;
use super::workers::WorkerRecord;

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
            self.workers.keeps(worker, self.urgency.of_task(task));
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
}
