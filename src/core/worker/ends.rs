//! What follows at a worker when tasks end: outputs to keep, to serve and to drop, and what cannot go on.
//!
//! `left` counts, for a task whose value is kept, the consumers that have not run to success here, and
//! one: so 1 says "kept, and all of them did", and 0 "not kept". What was fetched from elsewhere counts
//! `COPY`: the scheduler alone knows when nobody takes it any more.

use std::sync::Arc;

use crate::core::batch::Batch;
use crate::core::event::{Cause, Failure};
use crate::core::id::{Attempt, TaskId};
use crate::core::message::{InputLocation, Report};
use crate::core::span::Span;

use super::machine::{Action, Stage, Worker};

/// In `left`: the output was fetched.
pub(super) const COPY: u32 = u32::MAX;

impl Worker {
    pub(super) fn on_finished(&mut self, batch: Batch, actions: &mut Vec<Action>) {
        // Heavy tasks are handed in alone, or first.
        if let Some((task, .., bytes)) = batch.timings().next()
            && self.stage.get(task) == Stage::Heavy
        {
            self.heavies.holding.on_given(&self.graph, task, bytes);
        }
        let (mut durable, mut volatile) = (Vec::new(), Vec::new());
        for task in batch.tasks() {
            if !self.synced_early.is_empty()
                && let Some(is_durable) = self.synced_early.remove(&task)
            {
                Span::add_to(if is_durable { &mut durable } else { &mut volatile }, task);
            }
            self.on_success(task, batch.attempt, actions);
        }
        let attempt = batch.attempt;
        self.reports.push(Report::Finished(batch));
        self.report_synced(durable, attempt, true);
        self.report_synced(volatile, attempt, false);
    }

    /// Outputs are on the disk, or cannot be. That may be known before their tasks' ends are handed in, and is
    /// told after.
    pub(super) fn on_synced(&mut self, tasks: &[Span], attempt: Attempt, is_durable: bool) {
        let mut ended = Vec::new();
        for task in tasks.iter().flat_map(|span| span.tasks()) {
            match self.stage.get(task).is_in_progress() && self.attempt.get(task) == attempt {
                true => drop(self.synced_early.insert(task, is_durable)),
                false => Span::add_to(&mut ended, task),
            }
        }
        self.report_synced(ended, attempt, is_durable);
    }

    fn report_synced(&mut self, tasks: Vec<Span>, attempt: Attempt, is_durable: bool) {
        if !tasks.is_empty() {
            self.reports.push(match is_durable {
                true => Report::Durable(tasks, attempt),
                false => Report::Volatile(tasks, attempt),
            });
        }
    }

    fn on_success(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        assert_eq!(self.attempt.get(task), attempt, "only the assigned try of task {task} runs");
        self.end_attempt(task);
        self.stop_fetching_for(task, actions);
        self.drop_stray(task, actions);
        match self.left.get(task) {
            0 => {}
            1 => self.drop_output(task, actions),
            _ => self.stage.set(task, Stage::Here),
        }
        self.serve_subscribers(task, attempt, actions);
        self.heavies.ended_well(task, self.stage.get(task) == Stage::Here);
        self.count_inputs_down(task, actions);
    }

    /// The task took its inputs for the last time, if it is not run again elsewhere.
    fn count_inputs_down(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        for input in graph.value_inputs(task) {
            let left = self.left.get(input);
            if left < 2 || left == COPY {
                continue;
            }
            self.left.set(input, left - 1);
            if left == 2 && self.stage.get(input) == Stage::Here {
                self.drop_output(input, actions);
            }
        }
    }

    pub(super) fn on_failed(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        failure: Failure,
        actions: &mut Vec<Action>,
    ) {
        assert_eq!(self.attempt.get(task), attempt, "only the assigned try of task {task} runs");
        self.end_attempt(task);
        self.stop_fetching_for(task, actions);
        self.left.set(task, 0);
        let report = match failure.cause {
            Cause::LostInput(place) => self.lost_input((task, attempt), place),
            _ => Report::Failed(task, attempt, failure),
        };
        self.reports.push(report);
        self.tell_subscribers_unknown(task, attempt, actions);
        self.call_back_dependents(task, actions);
        self.drop_stray(task, actions);
    }

    /// An output that was here turned out to be lost when a task was to start with it. Others may be about to start
    /// with it, too: it stays until rank 0 has called those back.
    fn lost_input(&self, (task, attempt): (TaskId, Attempt), place: u32) -> Report {
        let lost =
            self.graph.value_inputs(task).get(place as usize).expect("tasks lose inputs that they have");
        let input = InputLocation {
            task: lost,
            attempt: self.attempt.get(lost),
            owner: self.rank,
            incarnation: self.incarnation,
            is_ahead: false,
        };
        Report::InputMissing { task, attempt, input }
    }

    /// The attempt is at an end: its resources are free.
    fn end_attempt(&mut self, task: TaskId) {
        match self.stage.get(task) {
            Stage::Admitted => self.sharing.light_count -= 1,
            Stage::Heavy => self.heavies.end(&self.graph, task),
            other => panic!("task {task} ended but is {other:?}"),
        }
        self.stage.set(task, Stage::Absent);
        self.ending.remove(&task);
        self.lacking.remove(&task);
        self.synced_early.remove(&task);
    }

    /// An input may have come from another try than the one that is being fetched.
    fn stop_fetching_for(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        for location in self.fetches.give_up(&self.graph, task) {
            actions.push(self.unwant(&location));
        }
    }

    /// Drops what another worker's try left here, now that nobody can start with it any more.
    fn drop_stray(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        if let Some(attempt) = self.strays.remove(&task) {
            actions.push(Action::Drop(task, attempt));
        }
    }

    /// The output of a task will not come here: what waits for it at this worker cannot start.
    pub(super) fn call_back_dependents(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let graph = Arc::clone(&self.graph);
        for dependent in graph.dependents(task) {
            match self.stage.get(dependent) {
                Stage::Admitted => {
                    actions.push(Action::Revoke(Span::one(dependent), self.attempt.get(dependent)));
                }
                Stage::Heavy if self.heavies.waits_for(dependent, task) => {
                    self.give_back_heavy(dependent, actions);
                }
                _ => {}
            }
        }
    }

    /// The pool took tasks back: they were never started.
    pub(super) fn on_revoked(&mut self, tasks: Span, attempt: Attempt, actions: &mut Vec<Action>) {
        let mut returned = Vec::new();
        for task in tasks.tasks() {
            if self.stage.get(task) != Stage::Admitted || self.attempt.get(task) != attempt {
                continue;
            }
            self.sharing.light_count -= 1;
            match self.lacking.remove(&task) {
                Some(input) => self.reports.push(Report::InputMissing { task, attempt, input }),
                None => Span::add_to(&mut returned, task),
            }
            self.forget_unstarted(task, attempt, actions);
        }
        self.reports.extend(returned.into_iter().map(|tasks| Report::Returned(tasks, attempt)));
    }

    /// Takes out what was done for a task that goes back unstarted.
    pub(super) fn forget_unstarted(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        self.stage.set(task, Stage::Absent);
        self.left.set(task, 0);
        self.ending.remove(&task);
        self.stop_fetching_for(task, actions);
        self.tell_subscribers_unknown(task, attempt, actions);
        self.call_back_dependents(task, actions);
        self.drop_stray(task, actions);
    }

    /// A task that was to be taken back has started.
    pub(super) fn on_kept(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.stage.get(task) != Stage::Admitted || self.attempt.get(task) != attempt {
            return;
        }
        self.lacking.remove(&task);
        let cause = self.ending.remove(&task).or(self.is_stopping.then_some(Cause::Stopped));
        if let Some(cause) = cause {
            actions.push(Action::Stop(task, attempt, cause));
        }
    }

    /// Drops an output that is here, or was put into the store just now.
    pub(super) fn drop_output(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        self.stage.set(task, Stage::Absent);
        self.left.set(task, 0);
        actions.push(Action::Drop(task, self.attempt.get(task)));
    }
}
