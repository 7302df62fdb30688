//! A worker as one state machine: what came in, what must be done.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::batch::Batch;
use crate::core::column::{Column, Entry};
use crate::core::event::{Cause, Failure};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, FromWorker, InputLocation, Order, PeerMessage, Report, ToWorker};
use crate::core::resources::Resources;
use crate::core::slot::Slot;
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};

use super::ends::COPY;
use super::heavy::Heavies;
use super::memory::Room;
use super::peers::{Fetches, Subscribers};
use super::sharing::Sharing;

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
    /// These ran to success; the outputs that are kept are in the store already.
    Finished(Batch),
    /// The outputs of these, which were to be persisted, are on the disk and synced.
    Durable(Vec<Span>, Attempt),
    /// Those of these cannot be: files of theirs are gone.
    Volatile(Vec<Span>, Attempt),
    /// Whether outputs move or wait for room, for the next heartbeat.
    Moves(bool),
    /// The run directory takes so many bytes in a second.
    WritesPerSecond(u64),
    /// An attempt ended badly.
    Failed {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// Why.
        failure: Failure,
    },
    /// The answer to `Revoke` for tasks that had not started and never will.
    Revoked(Span, Attempt),
    /// The answer to `Revoke` for one that has started, or has ended: its end is handed in as any other.
    Kept(TaskId, Attempt),
    /// An admitted attempt has been running for a while. Said once.
    Runs {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// Since when.
        started: Timestamp,
    },
    /// The answer to `Slots`: the pool runs at most this many at once.
    Yielded(u32),
    /// The outputs of this worker leave so much room.
    Room(Room),
    /// An attempt that was started holds these things until it ends.
    Bound {
        /// The task.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// What it holds.
        slot: Box<Slot>,
    },
    /// Heavy tasks have ended: give their cores to others, and say nothing of it yet.
    Refill,
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
    /// Give these light tasks to the pool: it runs each as soon as all its value inputs are in the store.
    Admit(Assignment),
    /// Take those of these admitted tasks back that have not started. Each is answered.
    Revoke(Span, Attempt),
    /// The pool may run this many at once from now on. Answered by `Yielded` once it is so.
    Slots(u32),
    /// Another rank waits for this admitted task: its end must be handed in at once.
    Watch(TaskId, Attempt),
    /// Run this heavy task; its inputs are in the store and its resources are set aside.
    Start(Assignment),
    /// End this attempt, which runs. Its ending will name the cause.
    Stop(TaskId, Attempt, Cause),
    /// Write this output out of the store into the run directory, as if it had been asked for from the
    /// beginning: `Durable` follows.
    Persist(TaskId, Attempt),
    /// Drop this output out of the store.
    Drop(TaskId, Attempt),
    /// Write what is unwritten, say `Left`, and go.
    Leave,
}

/// Where a task stands at this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    /// It was never here, or nothing of it is here any more.
    Absent,
    /// A light task that the pool has.
    Admitted,
    /// A heavy task that waits, for inputs or to start, or runs: see `Heavies`.
    Heavy,
    /// Its output is in the store.
    Here,
}

impl Entry for Stage {
    type Raw = u8;

    fn of(raw: u8) -> Self {
        [Stage::Absent, Stage::Admitted, Stage::Heavy, Stage::Here][usize::from(raw)]
    }

    fn raw(self) -> u8 {
        self as u8
    }
}

impl Stage {
    /// True if an output is still to come.
    pub fn is_in_progress(self) -> bool {
        matches!(self, Stage::Admitted | Stage::Heavy)
    }
}

/// Decides what one worker does, in one of its lives. Pure: the same inputs give the same actions.
#[derive(Debug)]
pub struct Worker {
    pub(super) graph: Arc<Graph>,
    pub(super) rank: Rank,
    pub(super) incarnation: Incarnation,
    pub(super) stage: Column<Stage>,
    /// The latest try of each task that was here.
    pub(super) attempt: Column<Attempt>,
    /// What is still to come of the consumers of each task, see `ends`.
    pub(super) left: Column<u32>,
    pub(super) heavies: Heavies,
    pub(super) sharing: Sharing,
    pub(super) fetches: Fetches,
    pub(super) subscribers: Subscribers,
    /// Revoked tasks that cannot start here, and the input that proved wrong.
    pub(super) lacking: BTreeMap<TaskId, InputLocation>,
    /// Revoked tasks that must be ended if they have started.
    pub(super) ending: BTreeMap<TaskId, Cause>,
    /// Tasks in progress of whose output it is known already whether it is durable: nobody hears so before they
    /// have ended.
    pub(super) synced_early: BTreeMap<TaskId, bool>,
    /// Outputs of other tries that came while a task is here: in the store until it ends.
    pub(super) strays: BTreeMap<TaskId, Attempt>,
    pub(super) reports: Vec<Report>,
    last_spoke: Timestamp,
    moves: bool,
    pub(super) is_stopping: bool,
    is_leaving: bool,
}

impl Worker {
    /// A worker at the beginning of a life. It joins with its first message.
    pub fn new(
        graph: Arc<Graph>,
        rank: Rank,
        incarnation: Incarnation,
        host: String,
        capacity: Resources,
    ) -> Self {
        let tasks = graph.len();
        Worker {
            graph,
            rank,
            incarnation,
            stage: Column::new(tasks),
            attempt: Column::new(tasks),
            left: Column::new(tasks),
            sharing: Sharing::new(capacity.cpus),
            heavies: Heavies::new(capacity.clone()),
            fetches: Fetches::default(),
            subscribers: Subscribers::default(),
            lacking: BTreeMap::new(),
            ending: BTreeMap::new(),
            synced_early: BTreeMap::new(),
            strays: BTreeMap::new(),
            reports: vec![Report::Joined { host, capacity }],
            last_spoke: Timestamp::default(),
            moves: false,
            is_stopping: false,
            is_leaving: false,
        }
    }

    /// What waits here and for what, for whoever looks into a run that does not go on.
    pub fn describe(&self) -> String {
        let (sharing, heavies, fetches) = (&self.sharing, &self.heavies.tasks, &self.fetches);
        format!("{sharing:?} {:?} {heavies:?} {fetches:?}", self.heavies.queue)
    }

    /// Heavy tasks that run or wait here.
    pub fn heavy_count(&self) -> usize {
        self.heavies.tasks.len()
    }

    /// True if a task that is not here may wait for the end of this one.
    pub fn is_waited_for_elsewhere(&self, task: TaskId) -> bool {
        let is_elsewhere = |dependent| self.stage.get(dependent) == Stage::Absent;
        self.graph.has_grown() || self.graph.dependents(task).iter().any(is_elsewhere)
    }

    /// True if heavy tasks have all cores, so that nothing that comes could start.
    pub fn is_full(&self) -> bool {
        self.heavies.queue.free().cpus == 0 && self.sharing.granted() == 0
    }

    /// True if a turn would do more than tell the scheduler of ends, which it hears of soon enough.
    pub fn is_turn_pressing(&self) -> bool {
        let (queue, sharing) = (&self.heavies.queue, &self.sharing);
        let has_free_cores = self.free_cores() > 0;
        let could_start = !queue.is_empty() && (has_free_cores || sharing.granted() > 0);
        could_start || (has_free_cores && sharing.light_count > 0) || self.has_pressing_reports()
    }

    /// True if there is more to tell the scheduler than what started and ended well.
    pub fn has_pressing_reports(&self) -> bool {
        let can_wait = |report: &Report| {
            matches!(
                report,
                Report::Finished(_) | Report::Durable(..) | Report::Volatile(..) | Report::Bound(..)
            )
        };
        !self.reports.iter().all(can_wait)
    }

    /// True if a heavy task waits for nothing, and some cores are free.
    pub fn could_start(&self) -> bool {
        !self.heavies.queue.is_empty() && self.free_cores() > 0
    }

    /// Cores that neither heavy tasks nor the pool have.
    pub fn free_cores(&self) -> u32 {
        self.heavies.queue.free().cpus
    }

    /// Takes one input in and appends what must be done.
    pub fn handle(&mut self, now: Timestamp, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::FromScheduler(message) => self.on_message(message, actions),
            Input::FromPeer { peer, message } => self.on_peer(peer, message, actions),
            Input::Finished(batch) => self.on_finished(batch, actions),
            Input::Durable(tasks, attempt) => self.on_synced(&tasks, attempt, true),
            Input::Volatile(tasks, attempt) => self.on_synced(&tasks, attempt, false),
            Input::Moves(moves) => self.moves = moves,
            Input::WritesPerSecond(bytes) => self.reports.push(Report::WritesPerSecond(bytes)),
            Input::Failed { task, attempt, failure } => self.on_failed(task, attempt, failure, actions),
            Input::Revoked(tasks, attempt) => self.on_revoked(tasks, attempt, actions),
            Input::Kept(task, attempt) => self.on_kept(task, attempt, actions),
            Input::Runs { task, attempt, started } => {
                self.reports.push(Report::Started(task, attempt, started));
            }
            Input::Yielded(slots) => self.heavies.give_cpus(self.sharing.on_yielded(slots)),
            Input::Room(room) => self.on_room(room),
            Input::Bound { task, attempt, slot } => self.reports.push(Report::Bound(task, attempt, slot)),
            Input::Refill => self.start_heavies(now, actions),
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
                Order::Retract(tasks, attempt) => self.on_retract(tasks, attempt, actions),
                Order::End(task, attempt, cause) => self.on_end(task, attempt, cause, actions),
                Order::Release(task, attempt) => self.on_release(task, attempt, actions),
                Order::Hold(task, attempt) => self.on_hold(task, attempt),
                Order::Persist(task, attempt) => {
                    if self.attempt.get(task) == attempt && self.stage.get(task) == Stage::Here {
                        actions.push(Action::Persist(task, attempt));
                    }
                }
                Order::Stop => self.on_stop(actions),
                Order::Leave => {
                    self.is_leaving = true;
                    actions.push(Action::Leave);
                }
            }
        }
    }

    fn on_retract(&mut self, tasks: Span, attempt: Attempt, actions: &mut Vec<Action>) {
        let mut admitted = Vec::new();
        for task in tasks.tasks() {
            if self.attempt.get(task) != attempt {
                continue;
            }
            match self.stage.get(task) {
                Stage::Admitted => Span::add_to(&mut admitted, task),
                Stage::Heavy => {
                    self.give_back_heavy(task, actions);
                }
                Stage::Absent | Stage::Here => {}
            }
        }
        actions.extend(admitted.into_iter().map(|tasks| Action::Revoke(tasks, attempt)));
    }

    fn on_end(&mut self, task: TaskId, attempt: Attempt, cause: Cause, actions: &mut Vec<Action>) {
        if self.attempt.get(task) != attempt {
            return;
        }
        match self.stage.get(task) {
            Stage::Admitted => {
                self.ending.insert(task, cause);
                actions.push(Action::Revoke(Span::one(task), attempt));
            }
            Stage::Heavy if !self.give_back_heavy(task, actions) => {
                actions.push(Action::Stop(task, attempt, cause));
            }
            _ => {}
        }
    }

    /// Nobody takes the output of this try any more, nor of an earlier one, of which a copy may be here.
    fn on_release(&mut self, task: TaskId, attempt: Attempt, actions: &mut Vec<Action>) {
        if self.attempt.get(task) <= attempt && self.stage.get(task) == Stage::Here {
            self.drop_output(task, actions);
        }
    }

    /// More tasks take this value than was said with the assignment: it stays until its release.
    fn on_hold(&mut self, task: TaskId, attempt: Attempt) {
        if self.attempt.get(task) == attempt && self.stage.get(task) != Stage::Absent {
            self.left.set(task, COPY);
        }
    }

    /// Revokes everything that waits and ends everything that runs. Looks at all tasks: it comes once.
    fn on_stop(&mut self, actions: &mut Vec<Action>) {
        self.is_stopping = true;
        for (task, attempt) in self.heavies.ids() {
            if !self.give_back_heavy(task, actions) {
                actions.push(Action::Stop(task, attempt, Cause::Stopped));
            }
        }
        let mut admitted: BTreeMap<Attempt, Vec<Span>> = BTreeMap::new();
        let tasks = (0..self.stage.count()).map(TaskId::from);
        for task in tasks.filter(|&task| self.stage.get(task) == Stage::Admitted) {
            Span::add_to(admitted.entry(self.attempt.get(task)).or_default(), task);
        }
        for (attempt, spans) in admitted {
            actions.extend(spans.into_iter().map(|tasks| Action::Revoke(tasks, attempt)));
        }
    }

    fn on_turn(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        self.start_heavies(now, actions);
        self.heavies.report_started(now, &mut self.reports);
        let is_silent = now.since(self.last_spoke) >= HEARTBEAT_EVERY && !self.is_leaving;
        if self.reports.is_empty() && is_silent {
            self.reports.push(Report::Heartbeat(self.moves));
        }
        if !self.reports.is_empty() {
            self.last_spoke = now;
            let reports = std::mem::take(&mut self.reports);
            actions.push(Action::ToScheduler(FromWorker { incarnation: self.incarnation, reports }));
        }
    }
}
