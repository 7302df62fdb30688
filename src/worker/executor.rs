//! What runs tasks: the contract between the worker's loop and the two executors.

use std::path::PathBuf;
use std::sync::Arc;

use crate::core::event::{Cause, Failure, Success};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::record::segment::Fence;

use super::binding::Binding;
use super::output::Output;

/// One attempt, ready to run: its inputs are here and its resources are set aside.
#[derive(Clone, Debug)]
pub struct Job {
    /// The graph that the task is in.
    pub graph: Arc<Graph>,
    /// The task.
    pub task: TaskId,
    /// Which try this is.
    pub attempt: Attempt,
    /// The task's value inputs, by position.
    pub inputs: Vec<Arc<Output>>,
    /// Sizes of files that tasks before this one reported, by path. They must be seen before it
    /// starts, as another node may see a new file late; another size only delays it.
    pub expected_files: Vec<(String, u64)>,
    /// True if other tasks take the output's value, so that it must be kept in memory.
    pub keep_value: bool,
    /// True if the output must be written into the run directory.
    pub persist: bool,
    /// Tells whether the run has been taken over, after which files are put nowhere any more.
    pub fence: Option<Arc<Fence>>,
    /// What it is bound to, if to anything.
    pub binding: Option<Box<Binding>>,
    /// Where its ranks run, if it is an MPI program.
    pub ranks: Option<RankPlaces>,
}

/// Where the ranks of an MPI program run.
#[derive(Clone, Debug)]
pub struct RankPlaces {
    /// Its nodes by name, that of this worker first.
    pub hosts: Vec<String>,
    /// The file to write for it, which names the node of each rank.
    pub hostfile: PathBuf,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The task.
    pub task: TaskId,
    /// Which try it was.
    pub attempt: Attempt,
    /// Its output if it is kept in memory, or why there is none.
    pub ending: Result<(Success, Option<Arc<Output>>), Failure>,
}

/// Something that runs attempts of one kind. It never waits: ends are reported through the
/// `Sender<Ended>` it was made with, followed by a wake-up of the worker's loop.
pub trait Executor: Send {
    /// Starts an attempt. Exactly one `Ended` will follow, whatever happens.
    fn start(&mut self, job: Job);

    /// Ends a running attempt: TERM, grace, KILL for a command, a request to return for a
    /// function. Its `Ended` will carry `cause`. Unknown attempts have ended already.
    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause);
}
