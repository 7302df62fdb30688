//! Exit codes: part of the interface, so they have names and one page.

use crate::core::event::{Outcome, StopReason};

/// Everything asked for is finished.
pub const DONE: u8 = 0;
/// A bug of ours, a hang, or a damaged run directory.
pub const BROKEN: u8 = 1;
/// Wrong usage, or a graph that cannot run.
pub const USAGE: u8 = 2;
/// A task failed.
pub const TASK_FAILED: u8 = 3;
/// Stopped by walltime or SIGTERM.
pub const STOPPED: u8 = 4;
/// A rank or node was lost and could not be replaced.
pub const RANK_LOST: u8 = 5;
/// The batch system refused.
pub const REFUSED: u8 = 6;
/// Tasks failed, all of them by running out of memory.
pub const OUT_OF_MEMORY: u8 = 7;
/// Interrupted by a person.
pub const INTERRUPTED: u8 = 130;

/// The exit code of a run that ended like this.
pub const fn code_of(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Done => DONE,
        Outcome::TasksFailed { out_of_memory: true, .. } => OUT_OF_MEMORY,
        Outcome::TasksFailed { .. } | Outcome::Stopped(StopReason::TooManyFailures) => TASK_FAILED,
        Outcome::Stopped(StopReason::Terminated) => STOPPED,
        Outcome::Stopped(StopReason::Interrupted | StopReason::Cancelled) => INTERRUPTED,
        Outcome::WorkersLost => RANK_LOST,
    }
}
