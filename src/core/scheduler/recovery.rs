//! What follows when something is lost: a worker, an output, or all hope for a task.

use std::sync::Arc;

use crate::core::event::{Cause, Event, Failure, StopReason};
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{InputLocation, Order};
use crate::core::time::{Micros, Timestamp};

use super::machine::{Action, Phase, Scheduler};
use super::tasks::TaskState;

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
        let record = self.workers.remove(worker).expect("looked at just above");
        actions.push(Action::Record(Event::WorkerLost { worker, incarnation }));
        if self.phase == Phase::Gathering && !self.options.workers_come_back {
            self.options.workers = self.options.workers.saturating_sub(1);
        }
        let returned: Vec<TaskId> =
            record.assigned.keys().map(|&urgency| self.urgency.task(urgency)).collect();
        for &task in &returned {
            self.give_back_lost(task, worker, actions);
        }
        if let Some(urgency) = record.reserved_for {
            self.on_team_member_lost(worker, urgency);
        }
        self.multi_node.look_again();
        self.forget_copies_at(worker);
        for task in self.outputs_at(worker) {
            self.on_output_lost(task, actions);
        }
        for task in returned {
            if self.state(task) == TaskState::Waiting {
                self.settle(task, actions);
            }
        }
    }

    fn give_back_lost(&mut self, task: TaskId, worker: Rank, actions: &mut Vec<Action>) {
        let attempt = self.tasks.attempt[task.index()];
        let cause = Cause::LostRank(worker);
        let failure = Failure { started: Timestamp::default(), ran: Micros::ZERO, cause };
        actions.push(Action::Record(Event::AttemptFailed { task, attempt, worker, failure, retried: true }));
        self.tasks.step(task, TaskState::Waiting);
        if self.phase == Phase::Stopping(StopReason::Cancelled) {
            self.cancel(task, actions);
        }
    }

    fn forget_copies_at(&mut self, worker: Rank) {
        self.tasks.copies.retain(|_, copies| {
            copies.retain(|&rank| rank != worker);
            !copies.is_empty()
        });
    }

    /// Finished tasks whose value a lost worker held. What was persisted is safe on disk. A scan of
    /// all tasks: workers are lost rarely.
    fn outputs_at(&self, worker: Rank) -> Vec<TaskId> {
        let was_there =
            |task: &TaskId| self.tasks.is_held[task.index()] && self.tasks.worker[task.index()] == worker;
        self.graph.tasks().filter(was_there).collect()
    }

    /// The output at `tasks.worker` is gone. A copy takes its place; otherwise it is made again, if
    /// anybody needs it.
    fn on_output_lost(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let place = task.index();
        self.recall_consumers(task);
        self.tasks.is_held[place] = false;
        if let Some(copy) = self.tasks.copies.get_mut(&task).and_then(Vec::pop) {
            // It may not have arrived there; then the next consumer will say so.
            self.tasks.worker[place] = copy;
            self.tasks.is_held[place] = true;
        } else if self.tasks.consumers[place] > 0 && self.phase == Phase::Working {
            self.make_again(task, actions);
        }
    }

    /// Calls back the tasks that were told to fetch an output from where it no longer is. Those that
    /// have it, or have started, stay.
    fn recall_consumers(&mut self, task: TaskId) {
        for dependent in Arc::clone(&self.graph).dependents(task) {
            let is_fetching =
                self.state(dependent) == TaskState::Assigned && self.graph.takes_value(dependent, task);
            if is_fetching {
                let order = Order::Retract(dependent, self.tasks.attempt[dependent.index()]);
                let worker = self.tasks.worker[dependent.index()];
                self.workers.retract(worker, self.urgency.of_task(dependent), order);
            }
        }
    }

    /// Puts a finished task back, and with it whatever it needs that is gone as well.
    pub(super) fn make_again(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        let mut lost = vec![task];
        let mut again = Vec::new();
        while let Some(task) = lost.pop() {
            if self.state(task) != TaskState::Finished {
                continue;
            }
            actions.push(Action::Record(Event::OutputLost { task }));
            self.release(task);
            self.tasks.step(task, TaskState::Waiting);
            let unmet = graph.inputs(task).filter(|input| self.state(*input) != TaskState::Finished).count();
            self.tasks.unmet[task.index()] = unmet as u32;
            for dependent in graph.dependents(task) {
                if !self.state(dependent).is_ended() {
                    self.tasks.unmet[dependent.index()] += 1;
                }
            }
            for input in graph.value_inputs(task) {
                self.tasks.consumers[input.index()] += 1;
                if !self.tasks.is_held[input.index()] {
                    lost.push(input);
                }
            }
            again.push(task);
        }
        for task in again {
            if self.state(task) == TaskState::Waiting {
                self.settle(task, actions);
            }
        }
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
        let place = input.task.index();
        let still_said = self.tasks.worker[place] == input.owner
            && self.tasks.attempt[place] == input.attempt
            && self.tasks.state[place] == TaskState::Finished;
        if still_said {
            self.on_output_lost(input.task, actions);
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
            self.tasks.worker[task.index()] = Rank::SCHEDULER;
            self.aborted_because.insert(task, root);
            if !graph.is_join(task) {
                actions.push(Action::Record(Event::TaskAborted { task, because: root }));
            }
            self.after_end(task);
            doomed.extend(graph.dependents(task));
        }
    }
}
