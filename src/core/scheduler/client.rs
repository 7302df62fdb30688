//! A client beside the scheduler: it submits tasks while the run goes on, and holds outputs.
//!
//! It stands in the graph as a hidden task that waits until the client is gone, so the run is not over before.
//! An output that it holds has one consumer more, so whatever happens to outputs that somebody takes (loss,
//! repetition, release) happens to it as well.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::addition::{AdditionError, Numbering, Source};
use crate::core::client::{FromClient, Submission, ToClient};
use crate::core::event::{Event, StopReason};
use crate::core::id::{Attempt, OperationId, OptionsId, Rank, TaskId};
use crate::core::message::Order;
use crate::core::span::Span;

use super::machine::{Action, Phase, Scheduler};
use super::tasks::{Marks, TaskState};

/// What is known of the client.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// Its place in the graph, while it is there.
    task: Option<TaskId>,
    /// How many tasks it has submitted.
    submitted: u32,
    held: BTreeSet<TaskId>,
    /// Outputs that it waits for.
    wanted: BTreeSet<TaskId>,
    /// Of those that it holds, what an earlier client left behind: nobody holds them any more once they are there.
    left: BTreeSet<TaskId>,
}

impl Client {
    /// True while there is one.
    pub fn is_there(&self) -> bool {
        self.task.is_some()
    }

    /// True if something is to be done once an output is there.
    pub fn is_concerned(&self) -> bool {
        self.is_there() || !self.left.is_empty()
    }

    /// True if it holds the output of a task.
    pub fn holds(&self, task: TaskId) -> bool {
        self.held.contains(&task)
    }

    /// True if it left this task behind, which is not at its end.
    pub fn has_left(&self, task: TaskId) -> bool {
        self.left.contains(&task)
    }

    /// True for what waits until it is gone.
    pub fn is(&self, task: TaskId) -> bool {
        self.task == Some(task)
    }
}

impl Scheduler {
    /// This scheduler, but with a client, which stands in the graph as `task`: a join that takes nothing.
    pub fn with_client(mut self, task: TaskId) -> Self {
        self.client.task = Some(task);
        // One more than it has inputs: it is not ready before the client is gone.
        self.tasks.met.set(task, 1);
        self
    }

    /// True once what a client says can be taken in: all workers that are waited for are there.
    pub fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    /// How many tasks the graph has by now: what is submitted next is numbered from there.
    pub fn next_task(&self) -> TaskId {
        TaskId::from(self.task_total())
    }

    pub(super) fn on_client(&mut self, word: FromClient, actions: &mut Vec<Action>) {
        if !self.client.is_there() {
            return;
        }
        match word {
            FromClient::Submit(submission) => {
                if let Err(error) = self.submit(*submission, actions) {
                    actions.push(Action::ToClient(ToClient::Refused(error)));
                }
            }
            FromClient::Fetch(task) if self.client.holds(task) => {
                self.client.wanted.insert(task);
                self.serve(task, actions);
            }
            FromClient::Fetch(_) => {}
            FromClient::Fetched(task) => drop(self.client.wanted.remove(&task)),
            FromClient::NotThere(task, attempt, worker) => {
                self.on_not_there((task, attempt), worker, actions)
            }
            FromClient::Release(tasks) => {
                tasks.into_iter().for_each(|task| self.let_client_go(task, actions))
            }
            FromClient::Hold(tasks) => self.hold_only(&tasks, actions),
            FromClient::Ask(task) => {
                if self.client.holds(task) && self.state(task) == TaskState::Finished {
                    actions.push(Action::ToClient(ToClient::Finished(task)));
                }
            }
            FromClient::Leave => {
                self.hold_only(&[], actions);
                self.let_client_leave(actions);
            }
            FromClient::Close => self.close_client(actions),
            FromClient::Vanish => {
                self.close_client(actions);
                if self.tasks.active_count() > 0 {
                    self.on_stop(StopReason::Cancelled, actions);
                }
            }
        }
    }

    fn submit(&mut self, submission: Submission, actions: &mut Vec<Action>) -> Result<(), AdditionError> {
        let Submission { addition, held } = submission;
        let Some(by) = self.client.task.filter(|_| self.phase == Phase::Working) else {
            return Err(AdditionError::TooLate);
        };
        addition.check_of_client(self.task_total())?;
        self.check_room(&addition)?;
        let numbering = Numbering {
            task: self.next_task(),
            operation: OperationId(self.ahead.operation_count()),
            options: OptionsId(self.ready.options_count()),
            submitted: self.client.submitted,
            version: 0,
        };
        let count = addition.tasks.len() as u32;
        self.enter_addition(by, numbering, &addition);
        self.client.submitted += count;
        for task in held.into_iter().filter(|&place| place < count).map(|place| numbering.task.0 + place) {
            let task = TaskId(task);
            self.client.held.insert(task);
            self.tasks.consumers.set(task, self.tasks.consumers.get(task) + 1);
        }
        let known =
            addition.tasks.iter().flat_map(|task| &task.work.values).filter_map(|source| match *source {
                Source::Known(task) => Some(task),
                Source::New(_) | Source::Taken(_) => None,
            });
        let gone: BTreeSet<TaskId> = known.filter(|&task| !self.has_or_will_have(task)).collect();
        let addition = Box::new(addition);
        actions.push(Action::Record(Event::TasksSubmitted { client: by, numbering, addition }));
        let new = Span { first: numbering.task, count };
        new.tasks().for_each(|task| self.count_met(task));
        gone.into_iter().for_each(|task| self.make_again(task, actions));
        for task in new.tasks() {
            if self.state(task) == TaskState::Waiting {
                self.settle(task, actions);
            }
        }
        Ok(())
    }

    /// Says where an output is that the client waits for, if it is anywhere.
    fn serve(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let (worker, attempt) = self.location(task);
        if self.state(task) != TaskState::Finished {
            return;
        }
        if self.tasks.has(task, Marks::HELD) {
            let record = self.workers.get(worker).expect("who holds an output lives");
            actions.push(Action::Fetch { worker, incarnation: record.incarnation, task, attempt });
        } else if self.tasks.has(task, Marks::STORED) {
            actions.push(Action::ToClient(ToClient::Stored(task, attempt)));
        } else if self.phase == Phase::Working {
            self.make_again(task, actions);
        }
    }

    fn on_not_there(&mut self, (task, attempt): (TaskId, Attempt), worker: Rank, actions: &mut Vec<Action>) {
        let is_news = self.tasks.is_of_try(task, attempt)
            && self.tasks.worker.get(task) == worker
            && self.state(task) == TaskState::Finished;
        if is_news {
            self.on_output_lost(task, actions);
            if self.workers.get(worker).is_some() {
                self.workers.order(worker, Order::Release(task, attempt));
            }
            return;
        }
        self.serve_if_wanted(task, actions);
    }

    pub(super) fn serve_if_wanted(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        if self.client.wanted.contains(&task) {
            self.serve(task, actions);
        }
    }

    /// A task has finished, and its output is there.
    pub(super) fn tell_client_of_output(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.tell_client(task, ToClient::Finished(task), actions);
        self.serve_if_wanted(task, actions);
    }

    /// A task is at its end, well or badly. Whoever left it behind need not hear that.
    pub(super) fn tell_client(&mut self, task: TaskId, word: ToClient, actions: &mut Vec<Action>) {
        if !self.let_go_if_left(task, actions) && self.client.holds(task) {
            actions.push(Action::ToClient(word));
        }
    }

    /// True if a client that is gone had left this task behind, which is at its end: then nobody holds it any more.
    pub(super) fn let_go_if_left(&mut self, task: TaskId, actions: &mut Vec<Action>) -> bool {
        let was_left = self.client.has_left(task);
        if was_left {
            self.let_client_go(task, actions);
        }
        was_left
    }

    /// Another client is there. What the one before waited for, and held besides these, is nobody's.
    fn hold_only(&mut self, tasks: &[TaskId], actions: &mut Vec<Action>) {
        self.client.wanted.clear();
        for task in self.client.held.clone() {
            if tasks.contains(&task) {
                continue;
            }
            if self.state(task).is_ended() {
                self.let_client_go(task, actions);
            } else {
                self.client.left.insert(task);
            }
        }
    }

    /// The client holds an output no longer.
    fn let_client_go(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        if !self.client.held.remove(&task) {
            return;
        }
        self.client.wanted.remove(&task);
        self.client.left.remove(&task);
        self.tasks.mark(task, Marks::SHARED);
        let consumers = self.tasks.consumers.get(task) - 1;
        self.tasks.consumers.set(task, consumers);
        if consumers > 0 {
            return;
        }
        self.release(task);
        // What nobody needs any more and has not begun is not done, nor what only that would have taken. But what
        // is made again, and was taken with success before, would be missed if that success were lost, too.
        let graph = Arc::clone(&self.graph);
        let was_taken = |task: TaskId, scheduler: &Self| {
            let is_success = |it| matches!(scheduler.state(it), TaskState::Finished | TaskState::Culled);
            graph.dependents(task).into_iter().any(is_success)
        };
        let mut unneeded = vec![task];
        while let Some(task) = unneeded.pop() {
            let is_unneeded = self.state(task) == TaskState::Waiting && self.tasks.consumers.get(task) == 0;
            if is_unneeded && !was_taken(task, self) {
                self.cancel(task, actions);
                unneeded.extend(graph.value_inputs(task));
            }
        }
    }

    fn close_client(&mut self, actions: &mut Vec<Action>) {
        for task in self.client.held.clone() {
            self.let_client_go(task, actions);
        }
        self.let_client_leave(actions);
    }

    fn let_client_leave(&mut self, actions: &mut Vec<Action>) {
        self.client.wanted.clear();
        let Some(task) = self.client.task.take() else { return };
        self.tasks.met.set(task, 0);
        if self.state(task) == TaskState::Waiting {
            self.settle(task, actions);
        }
    }
}
