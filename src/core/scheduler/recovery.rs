//! What follows when something is lost: a worker, an output, or all hope for a task.

use std::sync::Arc;

use crate::core::client::ToClient;
use crate::core::event::{Cause, Event, Failure, StopReason};
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{InputLocation, Order};
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};

use super::machine::{Action, Phase, Scheduler};
use super::tasks::{Marks, TaskState};

impl Scheduler {
    /// A worker is given up. Its tasks go back, the outputs it held are found elsewhere or made
    /// again, and tasks that were about to fetch from it are called back.
    pub(super) fn on_worker_lost(
        &mut self,
        worker: Rank,
        incarnation: Incarnation,
        actions: &mut Vec<Action>,
    ) {
        if self.workers.get(worker).is_none_or(|record| record.incarnation != incarnation) {
            return;
        }
        let returned: Vec<TaskId> = self.workers.get(worker).map_or(Vec::new(), |record| {
            let mut tasks: Vec<TaskId> = self.workers.tasks_of(record).collect();
            tasks.sort_unstable();
            tasks
        });
        let record = self.workers.remove(worker).expect("looked at just above");
        actions.push(Action::Record(Event::WorkerLost { worker, incarnation }));
        if !self.options.workers_come_back {
            self.expect_one_worker_less();
        }
        for &task in &returned {
            self.give_back_lost(task, worker, actions);
        }
        self.recall_expectant();
        if let Some(task) = record.reserved_for {
            self.on_team_member_lost(worker, task);
        }
        self.multi_node.look_again();
        self.tasks.copies.forget_worker(worker);
        for task in self.outputs_at(worker) {
            let is_result = self.tasks.count_saved(task) && self.tasks.is_asked(task);
            if self.tasks.has(task, Marks::HELD) {
                self.on_output_lost(task, actions);
            }
            if is_result && self.phase == Phase::Working {
                // It was to be in the run directory, and will never be.
                self.make_again(task, actions);
            }
        }
        for task in returned.into_iter().chain(record.parked.into_tasks()) {
            if self.state(task) == TaskState::Waiting {
                self.settle(task, actions);
            }
        }
    }

    /// What begins once all workers have joined begins without one that will not.
    pub(super) fn expect_one_worker_less(&mut self) {
        if self.phase == Phase::Gathering {
            self.options.workers = self.options.workers.saturating_sub(1);
        }
    }

    /// Calls back whatever was assigned ahead of its inputs. A lost worker may owe an answer for a try that was
    /// given back or failed before, and where promises pointed to is not known any more.
    fn recall_expectant(&mut self) {
        let is_expectant =
            |&task: &TaskId| self.state(task) == TaskState::Assigned && self.tasks.has(task, Marks::AHEAD);
        for task in self.graph.tasks().filter(is_expectant).collect::<Vec<_>>() {
            let worker = self.tasks.worker.get(task);
            if self.workers.get(worker).is_some() {
                let order = Order::Retract(Span::one(task), self.tasks.attempt.get(task));
                self.workers.retract(worker, task, order);
            }
        }
    }

    fn give_back_lost(&mut self, task: TaskId, worker: Rank, actions: &mut Vec<Action>) {
        let attempt = self.tasks.attempt.get(task);
        let cause = Cause::LostRank(worker);
        let failure = Failure { started: Timestamp::default(), ran: Micros::ZERO, cause };
        actions.push(Action::Record(Event::AttemptFailed { task, attempt, worker, failure, retried: true }));
        self.recall_consumers(task);
        self.tasks.mark(task, Marks::SHARED);
        self.put_back(task);
        if self.phase == Phase::Stopping(StopReason::Cancelled) {
            self.cancel(task, actions);
        }
    }

    /// Finished tasks whose value a lost worker held, or was about to make durable. A scan of all tasks: workers
    /// are lost rarely.
    fn outputs_at(&self, worker: Rank) -> Vec<TaskId> {
        let is_there =
            |task: TaskId| self.tasks.has(task, Marks::HELD) || self.tasks.has(task, Marks::UNSAVED);
        let was_there = |task: &TaskId| {
            self.tasks.worker.get(*task) == worker
                && self.state(*task) == TaskState::Finished
                && is_there(*task)
        };
        self.graph.tasks().filter(was_there).collect()
    }

    /// The output at `tasks.worker` is gone. A copy takes its place, or what is in the run directory;
    /// otherwise it is made again, if anybody needs it.
    pub(super) fn on_output_lost(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.recall_consumers(task);
        if !self.tasks.let_go(task) {
            // It was in the run directory alone, and cannot be read there.
            self.tasks.unmark(task, Marks::STORED);
        }
        if let Some(copy) = self.tasks.copies.turn_to(task) {
            // It may not have arrived there; then the next consumer will say so.
            self.tasks.worker.set(task, copy);
            self.tasks.mark(task, Marks::HELD | Marks::SHARED);
        } else if self.tasks.has(task, Marks::STORED) {
            // Whoever needs it reads it there.
        } else if self.tasks.consumers.get(task) > 0 && self.phase == Phase::Working {
            self.make_again(task, actions);
        }
        // The client may have been sent to where it was.
        self.serve_if_wanted(task, actions);
    }

    /// Calls back the tasks that were told to fetch an output from where it no longer is. Those that
    /// have it, or have started, stay. The workers that live are asked; the tasks of others came back.
    pub(super) fn recall_consumers(&mut self, task: TaskId) {
        for dependent in Arc::clone(&self.graph).dependents(task) {
            let worker = self.tasks.worker.get(dependent);
            let may_be_fetching = self.state(dependent) == TaskState::Assigned
                && self.workers.get(worker).is_some()
                && self.graph.takes_value(dependent, task);
            if may_be_fetching {
                let order = Order::Retract(Span::one(dependent), self.tasks.attempt.get(dependent));
                self.workers.retract(worker, dependent, order);
            }
        }
    }

    /// Puts a finished task back, and with it whatever it needs that is gone as well. One that killed its rank too
    /// often does not run again.
    pub(super) fn make_again(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        let mut lost = vec![task];
        let mut again = Vec::new();
        while let Some(task) = lost.pop() {
            if !matches!(self.state(task), TaskState::Finished | TaskState::Culled) {
                continue;
            }
            actions.push(Action::Record(Event::OutputLost { task }));
            self.tasks.count_saved(task);
            self.tasks.mark(task, Marks::SHARED);
            self.release(task);
            for dependent in graph.dependents(task) {
                if self.state(dependent) == TaskState::Waiting {
                    self.tasks.met.set(dependent, self.tasks.met.get(dependent) - 1);
                }
            }
            self.tasks.step(task, TaskState::Waiting);
            self.tasks.begin_after_unseen(task);
            self.count_met(task);
            for input in graph.value_inputs(task) {
                self.needed_once_more(input);
                if !self.is_quarantined(task) && !self.has_or_will_have(input) {
                    lost.push(input);
                }
            }
            again.push(task);
        }
        for task in again {
            if self.state(task) == TaskState::Waiting {
                match self.is_quarantined(task) {
                    true => self.fail_for_killings(task, actions),
                    false => self.settle(task, actions),
                }
            }
        }
    }

    /// One task more takes a value than its worker was told.
    pub(super) fn needed_once_more(&mut self, task: TaskId) {
        self.tasks.consumers.set(task, self.tasks.consumers.get(task) + 1);
        let worker = self.tasks.worker.get(task);
        if self.state(task).is_active() && !self.tasks.has(task, Marks::KEPT) {
            // It may have started, and its value is dropped at its end: then it is made again. So nothing is to
            // be expected of this try.
            return self.revoke_announcement(task);
        }
        if self.tasks.has(task, Marks::HELD) || self.state(task).is_active() {
            self.tasks.mark(task, Marks::SHARED);
            self.workers.order(worker, Order::Hold(task, self.tasks.attempt.get(task)));
        }
    }

    pub(super) fn has_or_will_have(&self, task: TaskId) -> bool {
        self.tasks.has(task, Marks::HELD)
            || self.tasks.has(task, Marks::STORED)
            || !matches!(self.state(task), TaskState::Finished | TaskState::Culled)
    }

    /// A task came back because its input was not where it was said to be.
    pub(super) fn on_input_missing(
        &mut self,
        worker: Rank,
        (task, attempt): (TaskId, Attempt),
        input: InputLocation,
        actions: &mut Vec<Action>,
    ) {
        if !self.tasks.is_current(task, attempt, worker) {
            return;
        }
        self.take_unstarted(task);
        // What was promised ahead and did not come is no loss: its own worker tells what became of it, and
        // the number of a try that never started is used again. A worker that names itself does not know
        // of which try it was told to have a copy.
        let is_same_try = self.tasks.attempt.get(input.task) == input.attempt || input.owner == worker;
        let still_said = self.tasks.worker.get(input.task) == input.owner
            && !input.is_ahead
            && is_same_try
            && self.state(input.task) == TaskState::Finished;
        if still_said {
            let attempt = self.tasks.attempt.get(input.task);
            self.tasks.copies.remove(input.task, worker);
            self.on_output_lost(input.task, actions);
            if self.workers.get(input.owner).is_some() {
                // A copy may have come there since it was asked for.
                self.workers.order(input.owner, Order::Release(input.task, attempt));
            }
        }
        if self.state(task) == TaskState::Waiting {
            self.settle(task, actions);
        }
    }

    /// Aborts everything downstream that has not started.
    pub(super) fn abort_dependents(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        for dependent in Arc::clone(&self.graph).dependents(task) {
            if self.state(dependent) == TaskState::Waiting {
                self.abort(dependent, task, actions);
            }
        }
    }

    /// Aborts a waiting task and everything downstream of it that waits. `because` failed or was
    /// itself aborted; the event names the task that failed.
    pub(super) fn abort(&mut self, task: TaskId, because: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        let root = self.aborted_because.get(&because).copied().unwrap_or(because);
        let mut doomed = vec![task];
        while let Some(task) = doomed.pop() {
            if self.state(task) != TaskState::Waiting {
                continue;
            }
            self.tasks.step(task, TaskState::Aborted);
            self.tasks.worker.set(task, Rank::SCHEDULER);
            self.aborted_because.insert(task, root);
            if !graph.is_join(task) {
                actions.push(Action::Record(Event::TaskAborted { task, because: root }));
            }
            self.after_end(task);
            self.tell_client(task, ToClient::Aborted(task, root), actions);
            doomed.extend(graph.dependents(task));
        }
    }
}
