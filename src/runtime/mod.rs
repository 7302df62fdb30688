//! BEAM. Machines and pillars together: a running cluster.
//!
//! `start` finds out what this process is; `cluster` is the ranks that are up, `threads` or
//! `processes`; `scheduler_loop` and `worker_loop` feed their machine with what came in and perform what it answers.

pub mod beginning;
pub mod cluster;
pub mod edited;
pub mod envelope;
pub mod exit;
pub mod fault;
pub mod fit;
pub mod geometry;
pub mod isolation;
#[cfg(feature = "mpi")]
mod launcher_watch;
pub mod left_outputs;
pub mod logger;
mod looks;
pub mod margin;
pub mod panic;
#[cfg(feature = "mpi")]
pub mod processes;
pub mod program;
pub mod scheduler_loop;
pub mod script;
pub mod serving;
pub mod signals;
mod silence;
pub mod sink;
pub mod start;
pub mod syncing;
pub mod threads;
pub mod typed;
mod up_to_date;
pub mod worker_loop;
