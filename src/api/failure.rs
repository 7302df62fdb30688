//! Why a program's computation did not end well.

use std::fmt;

use crate::core::event::{Cause, Outcome, StopReason};
use crate::core::graph::GraphError;
use crate::core::key::KeyError;
use crate::runtime::exit;
use crate::runtime::start::StartError;
use crate::runtime::typed::TypedError;

/// Why a computation did not end well.
#[derive(Debug)]
pub enum Error {
    /// The ranks cannot be brought up or cannot go on.
    Start(StartError),
    /// The calls make no graph: there are too many.
    Graph(GraphError),
    /// Tasks failed.
    Failed(Failed),
    /// The run was stopped from outside.
    Stopped(StopReason),
    /// So many workers were lost that nobody could run what was left.
    WorkersLost,
    /// An output is not what its task's type says.
    Output(TypedError),
}

/// Tasks that failed, told by the first of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Failed {
    /// The key of the first that failed.
    pub key: String,
    /// Why its last attempt failed.
    pub cause: Cause,
    /// How often it was tried.
    pub attempts: u32,
    /// How many tasks failed.
    pub failed: u32,
    /// How many were not run because of them.
    pub aborted: u32,
    /// True if all of them failed by running out of memory.
    pub out_of_memory: bool,
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Start(error) => write!(out, "{error}"),
            Error::Graph(GraphError::TooManyDependencies) => {
                write!(out, "there are more than 2^32 - 1 dependencies")
            }
            Error::Graph(GraphError::Key(KeyError::Duplicate(name))) => {
                write!(out, "two names of tasks become the same one: `{name}`")
            }
            Error::Graph(error) => write!(out, "the calls make no graph: {error:?}"),
            Error::Failed(failed) => write!(out, "{failed}"),
            Error::Stopped(StopReason::Interrupted) => write!(out, "interrupted"),
            Error::Stopped(StopReason::Terminated) => write!(out, "stopped by a signal or the batch system"),
            Error::Stopped(StopReason::Cancelled) => write!(out, "cancelled"),
            Error::Stopped(StopReason::TooManyFailures) => write!(out, "stopped, as too many tasks failed"),
            Error::WorkersLost => write!(out, "too many workers were lost to go on"),
            Error::Output(error) => write!(out, "an output is not what its task promised: {error}"),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "`{}` {}", self.key, self.cause)?;
        if self.attempts > 1 {
            write!(out, " after {} attempts", self.attempts)?;
        }
        if self.failed > 1 {
            write!(out, "; {} tasks failed in all", self.failed)?;
        }
        if self.aborted > 0 {
            write!(out, "; {} that need them did not run", self.aborted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl Error {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Start(error) => error.hint(),
            _ => None,
        }
    }

    /// The exit code of a program that ends because of it.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Start(error) => error.exit_code(),
            Error::Graph(_) => exit::USAGE,
            Error::Failed(failed) => exit::code_of(failed.outcome()),
            Error::Stopped(reason) => exit::code_of(Outcome::Stopped(*reason)),
            Error::WorkersLost => exit::code_of(Outcome::WorkersLost),
            Error::Output(_) => exit::BROKEN,
        }
    }
}

impl Failed {
    fn outcome(&self) -> Outcome {
        let Failed { failed, aborted, out_of_memory, .. } = *self;
        Outcome::TasksFailed { failed, aborted, out_of_memory }
    }
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Stopped(reason) => Error::Stopped(reason),
            other => Error::Start(other),
        }
    }
}

impl From<GraphError> for Error {
    fn from(error: GraphError) -> Self {
        Error::Graph(error)
    }
}

impl From<TypedError> for Error {
    fn from(error: TypedError) -> Self {
        Error::Output(error)
    }
}
