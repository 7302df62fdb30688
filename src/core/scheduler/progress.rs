//! What follows for others when one task moves: dependents become ready, inputs are released.

use std::sync::Arc;

use crate::core::event::Event;
use crate::core::id::TaskId;
use crate::core::message::Order;

use super::machine::{Action, Phase, Scheduler};
use super::tasks::TaskState;

impl Scheduler {
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
        let urgency = self.urgency.of_task(task);
        self.workers.unassign(self.tasks.worker[task.index()], urgency, class);
        self.disband(urgency);
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
            } else if self.graph.options(task).several_nodes().is_some() {
                self.multi_node.push(self.urgency.of_task(task));
            } else {
                self.ready.push(self.ready.class_of(&self.graph, task), self.urgency.of_task(task));
            }
        }
    }

    /// A task's output is there: one input less is unmet for each dependent. Joins that this
    /// finishes go on at once, without recursion however long a row of them is.
    pub(super) fn meet_dependents(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        let mut finished = vec![task];
        while let Some(task) = finished.pop() {
            for dependent in graph.dependents(task) {
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
        for input in graph.value_inputs(task) {
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

    /// A person said that a waiting task shall not run.
    pub(super) fn cancel(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.tasks.step(task, TaskState::Cancelled);
        self.after_end(task);
        if !self.graph.is_join(task) {
            actions.push(Action::Record(Event::TaskCancelled { task }));
        }
    }
}
