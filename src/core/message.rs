//! What crosses from rank to rank. Messages are leaves: ids, numbers and descriptions only.
//!
//! Every message names the incarnation of the worker it concerns and every task the attempt, so
//! that whatever an abandoned life or an abandoned try still says is recognised and dropped.

use serde::{Deserialize, Serialize};

use super::event::{Cause, Failure, Success, Totals};
use super::id::{Attempt, Incarnation, Rank, TaskId};
use super::resources::Resources;
use super::slot::Slot;
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
    /// Run this.
    Assign(Assignment),
    /// Give this back if it has not started.
    Retract(TaskId, Attempt),
    /// End this even if it runs; what is reported of it then bears this cause.
    End(TaskId, Attempt, Cause),
    /// Nobody needs this output any more.
    Release(TaskId, Attempt),
    /// Start nothing more, end everything that runs (TERM, grace, KILL), and report it.
    Stop,
    /// Everything is done: write what is unwritten, say `Left`, and go.
    Leave,
}

/// A task given to a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The task.
    pub task: TaskId,
    /// Which try this is.
    pub attempt: Attempt,
    /// Its place in the order of all tasks: lower starts first.
    pub urgency: u32,
    /// Where each of its value inputs is to be had, each input once.
    pub inputs: Vec<InputLocation>,
    /// Sizes of the files that the tasks before it reported, by task and try: what a consumer on
    /// another node waits to see.
    pub files: Vec<(TaskId, Attempt, Vec<u64>)>,
    /// True if other tasks take its value, so that the worker must keep it until its `Release`.
    pub keep: bool,
    /// True if the output must be written into the run directory.
    pub persist: bool,
    /// The nodes of a multi-node task by name, that of this worker first; empty for other tasks.
    pub hosts: Vec<String>,
}

/// Who owns an input.
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
    /// This attempt ran to success and the output is here.
    Finished(TaskId, Attempt, Success),
    /// This attempt ended badly.
    Failed(TaskId, Attempt, Failure),
    /// This attempt was given back before it started.
    Retracted(TaskId, Attempt),
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
    /// It is alive.
    Heartbeat,
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
    /// I need it no longer.
    Unwant(TaskId, Attempt),
    /// Here it is; its bytes come with the message.
    Output(TaskId, Attempt),
    /// I have no such output and will not have it.
    Unknown(TaskId, Attempt),
}
