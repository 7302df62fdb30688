//! What follows for others when one task moves: dependents become ready, inputs are released.

use std::sync::Arc;

use crate::core::client::ToClient;
use crate::core::event::{Event, StopReason};
use crate::core::graph::{Facts, Row};
use crate::core::id::{OptionsId, TaskId};
use crate::core::message::Order;
use crate::core::span::Span;

use super::machine::{Action, Phase, Scheduler};
use super::ready::Class;
use super::tasks::{Marks, TaskState};

impl Scheduler {
    /// True if a task may be given to a worker now.
    pub(super) fn is_ready(&self, task: TaskId) -> bool {
        self.is_ready_by(task, &self.graph.facts(task))
    }

    /// The same for whoever knows the task's facts.
    pub(super) fn is_ready_by(&self, task: TaskId, facts: &Facts<'_>) -> bool {
        self.state(task) == TaskState::Waiting && self.tasks.met.get(task) as usize == facts.input_count()
    }

    /// Takes back a task that its worker has not started: this was no attempt, and its number goes to
    /// the next, as users see it in `{attempt}` and in what failed. No word about it is under way, as
    /// giving it back was the worker's last.
    pub(super) fn take_unstarted(&mut self, task: TaskId) {
        self.take_from_worker(std::iter::once(task));
        self.put_back(task);
        self.tasks.attempt.set(task, self.tasks.attempt.get(task).previous());
    }

    /// Books tasks of one worker out of it.
    pub(super) fn take_from_worker(&mut self, tasks: impl Iterator<Item = TaskId> + Clone) {
        let Some(first) = tasks.clone().next() else { return };
        let worker = self.tasks.worker.get(first);
        let mut known = (TaskId(0)..TaskId(0), Class(0));
        let booked = tasks.clone().map(|task| {
            if !known.0.contains(&task) {
                let class = self.ready.class(self.graph.options_id(task));
                known = (task..self.graph.sources_end(task), class);
            }
            (task, known.1, self.tasks.expected_us.get(task), self.tasks.has(task, Marks::AHEAD))
        });
        self.workers.unassign(worker, booked);
        if self.multi_node.has_teams() {
            tasks.for_each(|task| self.disband(task));
        }
    }

    /// An active task waits again; it is at no worker any more.
    pub(super) fn put_back(&mut self, task: TaskId) {
        self.tasks.step(task, TaskState::Waiting);
        self.revoke_announcement(task);
        self.count_met(task);
    }

    /// A waiting task whose inputs may all be met: queue it, finish it (a join), abort or cancel it.
    pub(super) fn settle(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        if self.phase == Phase::Stopping(StopReason::Cancelled) {
            return self.cancel(task, actions);
        }
        if self.tasks.has_bad_ends() {
            let cause = self.graph.inputs(task).find(|input| self.state(*input).is_bad_end());
            if let Some(cause) = cause {
                return self.abort(task, cause, actions);
            }
        }
        if self.phase != Phase::Working || !self.is_ready(task) {
            return;
        }
        match self.graph.is_join(task) {
            true => {
                self.tasks.step(task, TaskState::Finished);
                self.meet_dependents(task, actions);
            }
            false => self.enqueue(task, self.graph.options_id(task)),
        }
    }

    /// A ready task waits for a worker.
    pub(super) fn enqueue(&mut self, task: TaskId, options: OptionsId) {
        let level = self.urgency.level(task);
        match self.ahead.is_of_one_node(options) {
            true => self.ready.push(self.ready.class(options), level, Span::one(task)),
            false => self.multi_node.push(level, task),
        }
    }

    /// A waiting task need not wait for one of its inputs any more. It is no join.
    pub(super) fn meet(&mut self, task: TaskId, facts: &Facts<'_>) {
        let met = self.tasks.met.get(task) + 1;
        self.tasks.met.set(task, met);
        if self.phase == Phase::Working && met as usize == facts.input_count() {
            self.enqueue(task, facts.options);
        }
    }

    /// A task has finished: dependents that did not look ahead need not wait for it any more. Joins that
    /// this finishes go on at once, without recursion however long a row of them is.
    pub(super) fn meet_dependents(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.set_followers_free(task);
        if self.tasks.has(task, Marks::ANNOUNCED | Marks::KNOWN) {
            self.tasks.unmark(task, Marks::ANNOUNCED | Marks::KNOWN);
            return;
        }
        let graph = Arc::clone(&self.graph);
        let mut finished = vec![task];
        while let Some(task) = finished.pop() {
            let was_announced = self.tasks.unmark(task, Marks::ANNOUNCED);
            for dependent in graph.dependents(task) {
                let knows = was_announced && self.ahead.goes_ahead(&graph.facts(dependent));
                if knows || self.state(dependent) != TaskState::Waiting {
                    continue;
                }
                self.tasks.met.set(dependent, self.tasks.met.get(dependent) + 1);
                if !self.is_ready(dependent) {
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
        self.let_go(task, graph.value_inputs(task));
    }

    /// The same for whoever knows the task's inputs.
    pub(super) fn let_go(&mut self, task: TaskId, inputs: Row<'_>) {
        let finished_at = (self.state(task) == TaskState::Finished).then(|| self.tasks.worker.get(task));
        for input in inputs {
            if finished_at != Some(self.tasks.worker.get(input)) {
                self.tasks.mark(input, Marks::SHARED);
            }
            let consumers = self.tasks.consumers.get(input) - 1;
            self.tasks.consumers.set(input, consumers);
            if consumers == 0 {
                self.release(input);
            }
        }
    }

    /// Nobody takes this value any more: whoever holds it may drop it. A worker where all consumers ran
    /// to success has done so by itself.
    pub(super) fn release(&mut self, task: TaskId) {
        let order = Order::Release(task, self.tasks.attempt.get(task));
        let holder = self.tasks.worker.get(task);
        if self.tasks.let_go(task) && self.tasks.has(task, Marks::SHARED) {
            self.workers.order(holder, order.clone());
        }
        while let Some(worker) = self.tasks.copies.pop(task) {
            self.workers.order(worker, order.clone());
        }
    }

    /// A person said that a waiting task shall not run.
    pub(super) fn cancel(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.tasks.step(task, TaskState::Cancelled);
        self.after_end(task);
        self.tell_client(task, ToClient::Cancelled(task), actions);
        if !self.graph.is_join(task) {
            actions.push(Action::Record(Event::TaskCancelled { task }));
        }
    }
}
