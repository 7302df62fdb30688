//! What crosses from rank to rank. Messages are leaves: ids, numbers and descriptions only.
//!
//! Every message names the incarnation of the worker it concerns and every task the attempt, so
//! that whatever an abandoned life or an abandoned try still says is recognised and dropped.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::addition::Grown;
use super::batch::Batch;
use super::event::{Cause, Failure, Totals};
use super::id::{Attempt, Incarnation, Rank, TaskId};
use super::resources::Resources;
use super::slot::Slot;
use super::span::Span;
use super::time::Timestamp;

/// What the scheduler says to a worker. One message per worker and turn carries all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ToWorker {
    /// The life of the worker that is meant; another one drops the message.
    pub incarnation: Incarnation,
    /// The orders, to be followed one after the other.
    pub orders: Vec<Order>,
}

/// One thing the scheduler wants of a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Run these.
    Assign(Assignment),
    /// Give back those of these that have not started.
    Retract(Span, Attempt),
    /// End this even if it runs; what is reported of it then bears this cause.
    End(TaskId, Attempt, Cause),
    /// Nobody needs this output any more.
    Release(TaskId, Attempt),
    /// More tasks take this output than its assignment said: keep it until its release.
    Hold(TaskId, Attempt),
    /// The run is about to be cut off: write this output, which is in memory only, into the run directory.
    Persist(TaskId, Attempt),
    /// Start nothing more, end everything that runs (TERM, grace, KILL), and report it.
    Stop,
    /// Everything is done: write what is unwritten, say `Left`, and go.
    Leave,
}

/// Tasks given to a worker: several only if they are alike and need nothing from elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The tasks.
    pub tasks: Span,
    /// Which try this is of each.
    pub attempt: Attempt,
    /// Their place in the order of all tasks: lower starts first; lower ids first where it is equal.
    pub urgency: u32,
    /// How many tasks take the value of each, so that the worker keeps it: until all of them ran to
    /// success there, or until its `Release`. 0: it is not kept.
    pub consumers: u32,
    /// True if the output must be written into the run directory and be durable.
    pub persist: bool,
    /// Where to get the value inputs that other workers own; of one task only. Every other input is
    /// the worker's own: it is there, or its task was assigned to this worker before.
    pub inputs: Vec<InputLocation>,
    /// What few tasks need besides.
    pub special: Option<Box<Special>>,
}

/// What is said of tasks with files, and of those of several nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Special {
    /// Sizes of the files that the tasks before it reported, by task and try: what a consumer on
    /// another node waits to see.
    pub files: Vec<(TaskId, Attempt, Vec<u64>)>,
    /// The task, with its try, that must have ended well before this one starts and is assigned to the same
    /// worker, if the scheduler has not heard of its end; of one task only.
    pub follows: Option<(TaskId, Attempt)>,
    /// The nodes of a multi-node task by name, that of this worker first; empty for other tasks.
    pub hosts: Vec<String>,
    /// What a task is that did not stand so in the graph from the beginning; of one task only.
    pub row: Option<Arc<Grown>>,
}

impl Assignment {
    /// The nodes of a multi-node task by name; empty for other tasks.
    pub fn hosts(&self) -> &[String] {
        self.special.as_ref().map_or(&[], |special| &special.hosts)
    }

    /// What the task must wait for although it takes nothing from it.
    pub fn follows(&self) -> Option<(TaskId, Attempt)> {
        self.special.as_ref().and_then(|special| special.follows)
    }

    /// True if nothing but its task must be looked at before it starts.
    pub fn is_plain(&self) -> bool {
        self.special.as_ref().is_none_or(|special| special.files.is_empty() && special.hosts.is_empty())
    }
}

/// Who owns an input. Rank 0 stands for the run directory, where any worker can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputLocation {
    /// The task whose output it is.
    pub task: TaskId,
    /// The try that makes it or made it.
    pub attempt: Attempt,
    /// The worker that has it or will have it.
    pub owner: Rank,
    /// Which life of that worker.
    pub incarnation: Incarnation,
    /// True if the task has not finished as far as the scheduler knows: the output will come, and the
    /// owner may not even have been given the task yet.
    pub is_ahead: bool,
}

/// What a worker says to the scheduler. One message per turn carries all of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FromWorker {
    /// Which life of the worker speaks.
    pub incarnation: Incarnation,
    /// What it has to say, in the order in which it happened.
    pub reports: Vec<Report>,
}

/// One thing a worker tells the scheduler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// It is here and has this.
    Joined {
        /// The node it runs on.
        host: String,
        /// What it has.
        capacity: Resources,
    },
    /// This attempt has been running since then.
    Started(TaskId, Attempt, Timestamp),
    /// These ran to success and the outputs that are kept are here.
    Finished(Batch),
    /// The outputs of these are on the disk and synced: their ends were told before.
    Durable(Vec<Span>, Attempt),
    /// The outputs of these were to be durable and cannot be: a file of theirs is gone.
    Volatile(Vec<Span>, Attempt),
    /// This attempt ended badly.
    Failed(TaskId, Attempt, Failure),
    /// These were given back before they started.
    Returned(Span, Attempt),
    /// This attempt cannot start because its input is not at the location given with it. It has
    /// been given back.
    InputMissing {
        /// The attempt that waits.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// The location that proved wrong.
        input: InputLocation,
    },
    /// It is alive. True if outputs move, or wait for room: then it is at work although nothing runs.
    Heartbeat(bool),
    /// The run directory takes so many bytes of this worker in a second. Told when that has changed much.
    WritesPerSecond(u64),
    /// It has written everything and goes.
    Left(Totals),
    /// This attempt starts and holds these things until its end. Only said if there are any.
    Bound(TaskId, Attempt, Box<Slot>),
}

/// What a worker says to another worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMessage {
    /// Which life of the sender speaks.
    pub from: Incarnation,
    /// Which life of the receiver is meant.
    pub to: Incarnation,
    /// What it says.
    pub word: PeerWord,
}

/// One word between workers, always about one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerWord {
    /// Send me this output, now or once it is there.
    Want(TaskId, Attempt),
    /// The same of a task that may still be on its way to you.
    Await(TaskId, Attempt),
    /// I need it no longer.
    Unwant(TaskId, Attempt),
    /// Here it is; its bytes come with the message.
    Output(TaskId, Attempt),
    /// I have no such output and will not have it.
    Unknown(TaskId, Attempt),
}
