//! Tasks that killed their rank: known by the last words of the rank, and by nothing else.
//!
//! A function that ends the process it runs in takes the rank with it, and maybe the whole job. Before it ends, the
//! process says which attempt that was. Such an attempt costs no retry; a task that did so too often has failed.
//! A rank that ended without a word accuses nobody.

use std::collections::BTreeMap;

use crate::core::edit::Edit;
use crate::core::event::{Cause, Death, Event, Failure};
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::time::{Micros, Timestamp};

use super::machine::{Action, Phase, Scheduler};
use super::tasks::{Marks, TaskState};

/// How often a task may kill its rank, if nothing else is said.
pub const CRASH_LIMIT: u32 = 3;

/// An attempt that ended the rank it ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killing {
    /// The rank.
    pub worker: Rank,
    /// The task.
    pub task: TaskId,
    /// Which try.
    pub attempt: Attempt,
    /// How.
    pub death: Death,
}

/// All killings of a run so far, each with whether it is recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct PastKillings {
    of_tasks: BTreeMap<TaskId, BTreeMap<Attempt, (Killing, bool)>>,
}

impl PastKillings {
    /// Takes in those that are recorded.
    pub fn on_event(&mut self, event: &Event) {
        if let Event::AttemptFailed { task, attempt, worker, failure, .. } = event
            && let Cause::KilledRank { death, .. } = failure.cause
        {
            self.enter(Killing { worker: *worker, task: *task, attempt: *attempt, death }, true);
        }
    }

    /// Those of tasks that an edit took over, under their new numbers.
    pub fn carried(&self, edit: &Edit) -> Self {
        let now = |(task, killings): (&TaskId, &BTreeMap<Attempt, (Killing, bool)>)| {
            let task = edit.now(*task)?;
            let killings = killings.iter().map(|(&attempt, &(killing, is_recorded))| {
                (attempt, (Killing { task, ..killing }, is_recorded))
            });
            Some((task, killings.collect()))
        };
        PastKillings { of_tasks: self.of_tasks.iter().filter_map(now).collect() }
    }

    /// Takes one in, once.
    pub fn enter(&mut self, killing: Killing, is_recorded: bool) {
        let of_task = self.of_tasks.entry(killing.task).or_default();
        of_task.entry(killing.attempt).or_insert((killing, is_recorded)).1 |= is_recorded;
    }
}

impl Scheduler {
    /// This scheduler, but one that lets a task kill its rank so often; more than that is a failure.
    #[must_use]
    pub fn with_crash_limit(mut self, times: u32) -> Self {
        self.crash_limit = times.max(1);
        self
    }

    /// The last words of a worker, which is lost next.
    pub(super) fn on_killed_rank(&mut self, killing: Killing, actions: &mut Vec<Action>) {
        let Killing { worker, task, attempt, .. } = killing;
        if !self.tasks.is_current(task, attempt, worker) {
            return;
        }
        self.take_from_worker(std::iter::once(task));
        // Nobody is left there to answer those that wait for the output.
        self.recall_consumers(task);
        self.tasks.mark(task, Marks::SHARED);
        let failure = self.count_killing(killing);
        if let Phase::Stopping(_) = self.phase {
            return self.on_ended_by_stop((task, attempt, worker), failure, actions);
        }
        let retried = !self.is_quarantined(task);
        self.record_failure((task, attempt, worker), failure, retried, actions);
        match retried {
            true => {
                self.put_back(task);
                self.settle(task, actions);
            }
            false => self.fail(task, actions),
        }
    }

    /// Records what killed ranks in earlier lives and was not recorded then. Tasks that did so too often never start.
    pub(super) fn take_up_killings(&mut self, actions: &mut Vec<Action>) {
        for (task, killings) in std::mem::take(&mut self.past_killings).of_tasks {
            let latest = killings.keys().next_back().copied();
            for (attempt, (killing, is_recorded)) in killings {
                let failure = self.count_killing(killing);
                let retried = !self.is_quarantined(task) || Some(attempt) != latest;
                if self.state(task) == TaskState::Waiting && !(is_recorded && retried) {
                    let worker = killing.worker;
                    let event = Event::AttemptFailed { task, attempt, worker, failure, retried };
                    actions.push(Action::Record(event));
                }
            }
            if self.state(task) == TaskState::Waiting && self.is_quarantined(task) {
                // It would stop each further life of a run with `--max-fails` before its first task.
                self.failed_before += 1;
                self.fail(task, actions);
            }
        }
    }

    /// The output of a task was lost and is needed, and a try of it that was not told of then killed its rank once
    /// too often: it has failed, as it would have if that had been known in time.
    pub(super) fn fail_for_killings(&mut self, task: TaskId, actions: &mut Vec<Action>) {
        let (times, Killing { worker, attempt, death, .. }) = self.tasks.killings[&task];
        let failure = self.failure_of(death, times);
        self.record_failure((task, attempt, worker), failure, false, actions);
        self.fail(task, actions);
    }

    fn count_killing(&mut self, killing: Killing) -> Failure {
        let (times, latest) = self.tasks.killings.entry(killing.task).or_insert((0, killing));
        (*times, *latest) = (*times + 1, killing);
        let times = *times;
        self.failure_of(killing.death, times)
    }

    fn failure_of(&self, death: Death, times: u32) -> Failure {
        let cause = Cause::KilledRank { death, times, limit: self.crash_limit };
        Failure { started: Timestamp::default(), ran: Micros::ZERO, cause }
    }

    /// True if a task has killed its rank too often to be started again.
    pub(super) fn is_quarantined(&self, task: TaskId) -> bool {
        self.tasks.killings.get(&task).is_some_and(|&(times, _)| times >= self.crash_limit)
    }
}
