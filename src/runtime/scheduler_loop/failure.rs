//! Why rank 0 cannot go on with a run, and how the program ends then.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::core::event::{Outcome, StopReason};
use crate::core::id::Rank;
use crate::core::scheduler::PastError;
use crate::core::time::Micros;
use crate::record::commit::CommitError;
use crate::record::lease::LeaseError;
use crate::record::pack_reader::PackError;
use crate::record::resume::ResumeError;
use crate::runtime::exit;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::TransportError;

/// Why a run cannot go on.
#[derive(Debug)]
pub enum SchedulerError {
    /// The connection broke.
    Transport(TransportError),
    /// Something was received that is no message of this version: from whom.
    Garbled(Rank, CodecError),
    /// A worker said that it cannot go on: which, and why.
    Worker(Rank, String),
    /// Another process has the run.
    Lease(Box<LeaseError>),
    /// Another process has begun the run meanwhile.
    Begun,
    /// Another process has edited the run meanwhile.
    Edited,
    /// A graph of the run cannot be read, or not be written: which, and why.
    Graph(PathBuf, String),
    /// The run cannot be taken over.
    Resume(Box<ResumeError>),
    /// The journal does not belong to the graph.
    Past(PastError),
    /// Nothing runs, and nothing has happened for so long; why some tasks do not go on.
    Hang(Micros, Vec<String>),
    /// What is recorded is not durable, and will not be.
    Commit(CommitError),
    /// What tasks left cannot be read.
    Packs(PackError),
    /// The run directory cannot be written: what, and why.
    Record(&'static str, io::Error),
    /// The client cannot be served.
    Client(io::Error),
    /// A second signal came: everything is left as it is.
    Urgent(StopReason),
}

impl fmt::Display for SchedulerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SchedulerError::Transport(error) => write!(out, "the run cannot go on: {error}"),
            SchedulerError::Garbled(rank, error) => {
                write!(out, "rank {rank} sent what cannot be read: {error}")
            }
            SchedulerError::Client(error) => write!(out, "cannot serve the client: {error}"),
            SchedulerError::Worker(rank, why) => write!(out, "rank {rank} cannot go on: {why}"),
            SchedulerError::Lease(error) => write!(out, "cannot take the run: {error}"),
            SchedulerError::Begun => write!(out, "cannot begin the run: another process has begun it"),
            SchedulerError::Edited => {
                write!(out, "cannot resume the run: another process has just edited its graph")
            }
            SchedulerError::Graph(path, why) => {
                write!(out, "cannot resume the run: its graph `{}`: {why}", path.display())
            }
            SchedulerError::Resume(error) => write!(out, "cannot resume the run: {error}"),
            SchedulerError::Past(error) => write!(out, "cannot resume the run from its journal: {error}"),
            SchedulerError::Hang(still, reasons) => {
                write!(
                    out,
                    "the run hangs: nothing has happened for {still}, and no task is known to run; {}",
                    reasons.join("; ")
                )
            }
            SchedulerError::Commit(error) => write!(out, "the run cannot go on: {error}"),
            SchedulerError::Packs(error) => write!(out, "cannot resume the run: {error}"),
            SchedulerError::Record(what, error) => write!(out, "cannot write the run's {what}: {error}"),
            SchedulerError::Urgent(_) => write!(out, "stopped at once by a second signal"),
        }
    }
}

impl std::error::Error for SchedulerError {}

impl SchedulerError {
    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            SchedulerError::Urgent(reason) => exit::code_of(Outcome::Stopped(*reason)),
            SchedulerError::Transport(_) => exit::RANK_LOST,
            // This process was taken for dead.
            SchedulerError::Commit(CommitError::Superseded(_)) => exit::RANK_LOST,
            SchedulerError::Lease(error) if !matches!(**error, LeaseError::Io(..)) => exit::USAGE,
            SchedulerError::Begun | SchedulerError::Edited => exit::USAGE,
            // A worker that says so is not lost: what it cannot do, such as write to a full disk, its
            // successor cannot do either.
            SchedulerError::Worker(..)
            | SchedulerError::Client(_)
            | SchedulerError::Garbled(..)
            | SchedulerError::Record(..)
            | SchedulerError::Lease(_)
            | SchedulerError::Resume(_)
            | SchedulerError::Past(_)
            | SchedulerError::Graph(..)
            | SchedulerError::Packs(_)
            | SchedulerError::Hang(..)
            | SchedulerError::Commit(_) => exit::BROKEN,
        }
    }
}

impl From<TransportError> for SchedulerError {
    fn from(error: TransportError) -> Self {
        SchedulerError::Transport(error)
    }
}
