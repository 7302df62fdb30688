//! A worker as one state machine: what came in, what must be done.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::core::event::{Cause, Failure, Success};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, FromWorker, Order, PeerMessage, Report, ToWorker};
use crate::core::resources::Resources;
use crate::core::slot::Slot;
use crate::core::time::{Micros, Timestamp};

use super::peers::{Fetches, Subscribers};
use super::queue::Queue;

/// What runs longer than this is reported as started; anything shorter only when it ends.
const STARTED_AFTER: Micros = Micros::from_millis(100);
/// A worker with nothing to say says that it is alive this often.
const HEARTBEAT_EVERY: Micros = Micros::from_secs(1);

/// Something that came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The scheduler said something.
    FromScheduler(ToWorker),
    /// Another worker said something. An `Output`'s bytes are in the store already.
    FromPeer {
        /// Who.
        peer: Rank,
        /// What.
        message: PeerMessage,
    },
    /// An attempt ended; its output, if it is kept, is in the store already.
    Ended {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// How.
        ending: Result<Success, Failure>,
    },
    /// An attempt that was started holds these things until it ends.
    Bound {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// What it holds.
        slot: Box<Slot>,
    },
    /// Everything that came has been handed in: decide.
    Turn,
}

/// Something that must be done. Actions are performed in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this to the scheduler.
    ToScheduler(FromWorker),
    /// Send this to another worker; with `PeerWord::Output` goes the output out of the store.
    ToPeer {
        /// To whom.
        peer: Rank,
        /// What.
        message: PeerMessage,
    },
    /// Run this; its inputs are in the store.
    Start(Assignment),
    /// End this attempt, which runs. Its ending will name the cause.
    Stop(TaskId, Attempt, Cause),
    /// Drop this output out of the store.
    Drop(TaskId, Attempt),
    /// Write what is unwritten, say `Left`, and go.
    Leave,
}

/// A task that was assigned here and has not ended.
#[derive(Debug)]
pub(super) struct LocalTask {
    pub assignment: Assignment,
    pub stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// This many inputs are still to come.
    Fetching(u32),
    /// In the queue.
    Queued,
    /// Started then.
    Running(Timestamp),
}

/// Decides what one worker does, in one of its lives. Pure: the same inputs give the same actions.
#[derive(Debug)]
pub struct Worker {
    pub(super) graph: Arc<Graph>,
    pub(super) incarnation: Incarnation,
    pub(super) tasks: BTreeMap<TaskId, LocalTask>,
    pub(super) queue: Queue,
    /// Which try's output of a task is in the store.
    pub(super) outputs: BTreeMap<TaskId, Attempt>,
    pub(super) fetches: Fetches,
    pub(super) subscribers: Subscribers,
    /// Running tasks in the order of their starts, until they are reported as started.
    unreported: VecDeque<(Timestamp, TaskId, Attempt)>,
    reports: Vec<Report>,
    last_spoke: Timestamp,
    pub(super) is_stopping: bool,
    is_leaving: bool,
}

impl Worker {
    /// A worker at the beginning of a life. It joins with its first message.
    pub fn new(graph: Arc<Graph>, incarnation: Incarnation, host: String, capacity: Resources) -> Self {
        let joined = Report::Joined { host, capacity: capacity.clone() };
        Worker {
            graph,
            incarnation,
            tasks: BTreeMap::new(),
            queue: Queue::new(capacity),
            outputs: BTreeMap::new(),
            fetches: Fetches::default(),
            subscribers: Subscribers::default(),
            unreported: VecDeque::new(),
            reports: vec![joined],
            last_spoke: Timestamp::default(),
            is_stopping: false,
            is_leaving: false,
        }
    }

    /// Takes one input in and appends what must be done.
    pub fn handle(&mut self, now: Timestamp, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::FromScheduler(message) => self.on_message(message, actions),
            Input::FromPeer { peer, message } => self.on_peer(peer, message, actions),
            Input::Ended { task, attempt, ending } => self.on_ended(task, attempt, ending, actions),
            Input::Bound { task, attempt, slot } => self.reports.push(Report::Bound(task, attempt, slot)),
            Input::Turn => self.on_turn(now, actions),
        }
    }

    fn on_message(&mut self, message: ToWorker, actions: &mut Vec<Action>) {
        if message.incarnation != self.incarnation {
            return;
        }
        for order in message.orders {
            match order {
                Order::Assign(assignment) => self.on_assigned(assignment, actions),
                Order::Retract(task, attempt) => self.on_retract(task, attempt, actions),
                Order::End(task, attempt, cause) => self.on_end(task, attempt, cause, actions),
                Order::Release(task, attempt) => self.on_release(task, attempt, actions),
                Order::Stop => self.on_stop(actions),
                Order::Leave => {
                    self.is_leaving = true;
                    actions.push(Action::Leave);
                }
            }
        }
    }

    fn on_assigned(&mut self, assignment: Assignment, actions: &mut Vec<Action>) {
        let (task, attempt) = (assignment.task, assignment.attempt);
        assert!(!self.tasks.contains_key(&task), "task {task} is assigned to this worker twice");
        if self.is_stopping {
            self.reports.push(Report::Retracted(task, attempt));
            return;
        }
        let mut missing = 0;
        for input in &assignment.inputs {
            if self.outputs.get(&input.task) != Some(&input.attempt) {
                missing += 1;
                let is_new = self.fetches.wait_for(input, task);
                if is_new {
                    actions.push(self.want(input));
                }
            }
        }
        let stage = if missing == 0 { Stage::Queued } else { Stage::Fetching(missing) };
        if missing == 0 {
            self.queue.push(assignment.urgency, task);
        }
        self.tasks.insert(task, LocalTask { assignment, stage });
    }

    fn on_retract(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.give_back(task, attempt, actions) {
            self.reports.push(Report::Retracted(task, attempt));
        }
    }

    fn on_end(&mut self, task: TaskId, attempt: Attempt, cause: Cause, actions: &mut Vec<Action>) {
        let is_here = self.tasks.get(&task).is_some_and(|local| local.assignment.attempt == attempt);
        if self.give_back(task, attempt, actions) {
            self.reports.push(Report::Retracted(task, attempt));
        } else if is_here {
            actions.push(Action::Stop(task, attempt, cause));
        }
    }

    /// Takes a task out that has not started, and everything done for it. False if it is not here or
    /// has started.
    pub(super) fn give_back(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) -> bool {
        let Some(local) = self.tasks.get(&task).filter(|local| local.assignment.attempt == attempt) else {
            return false;
        };
        match local.stage {
            Stage::Running(_) => return false,
            Stage::Queued => {
                self.queue.remove(local.assignment.urgency, task);
            }
            Stage::Fetching(_) => {
                for location in self.fetches.give_up(task) {
                    actions.push(self.unwant(&location));
                }
            }
        }
        self.tasks.remove(&task);
        self.tell_subscribers_unknown(task, attempt, actions);
        true
    }

    fn on_release(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.outputs.get(&task) == Some(&attempt) {
            self.outputs.remove(&task);
            actions.push(Action::Drop(task, attempt));
        }
    }

    fn on_stop(&mut self, actions: &mut Vec<Action>) {
        self.is_stopping = true;
        let here: Vec<(TaskId, Attempt)> =
            self.tasks.iter().map(|(task, local)| (*task, local.assignment.attempt)).collect();
        for (task, attempt) in here {
            if self.give_back(task, attempt, actions) {
                self.reports.push(Report::Retracted(task, attempt));
            } else {
                actions.push(Action::Stop(task, attempt, Cause::Stopped));
            }
        }
    }

    fn on_ended(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        ending: Result<Success, Failure>,
        actions: &mut Vec<Action>,
    ) {
        let local = self.tasks.remove(&task).expect("only assigned tasks run");
        assert_eq!(local.assignment.attempt, attempt, "only the assigned try of task {task} runs");
        self.queue.end(&self.graph, task);
        match ending {
            Ok(success) => {
                if local.assignment.keep {
                    self.enter_output(task, attempt, actions);
                }
                self.serve_subscribers(task, attempt, actions);
                self.reports.push(Report::Finished(task, attempt, success));
            }
            Err(failure) => {
                self.tell_subscribers_unknown(task, attempt, actions);
                self.reports.push(Report::Failed(task, attempt, failure));
            }
        }
    }

    /// Notes that an output is in the store. One of an older try makes way.
    pub(super) fn enter_output(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if let Some(old) = self.outputs.insert(task, attempt).filter(|old| *old != attempt) {
            actions.push(Action::Drop(task, old));
        }
    }

    fn on_turn(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(task) = self.queue.start_next(&self.graph) {
            let local = self.tasks.get_mut(&task).expect("queued tasks are assigned");
            local.stage = Stage::Running(now);
            self.unreported.push_back((now, task, local.assignment.attempt));
            actions.push(Action::Start(local.assignment.clone()));
        }
        self.report_started(now);
        let is_silent = now.since(self.last_spoke) >= HEARTBEAT_EVERY && !self.is_leaving;
        if self.reports.is_empty() && is_silent {
            self.reports.push(Report::Heartbeat);
        }
        if !self.reports.is_empty() {
            self.last_spoke = now;
            let reports = std::mem::take(&mut self.reports);
            actions.push(Action::ToScheduler(FromWorker { incarnation: self.incarnation, reports }));
        }
    }

    fn report_started(&mut self, now: Timestamp) {
        while let Some(&(started, task, attempt)) = self.unreported.front() {
            let runs = self.tasks.get(&task).is_some_and(|local| {
                local.assignment.attempt == attempt && matches!(local.stage, Stage::Running(_))
            });
            if runs && now.since(started) < STARTED_AFTER {
                return;
            }
            self.unreported.pop_front();
            if runs {
                self.reports.push(Report::Started(task, attempt, started));
            }
        }
    }

    /// Adds something to the next message to the scheduler.
    pub(super) fn push_report(&mut self, report: Report) {
        self.reports.push(report);
    }
}
