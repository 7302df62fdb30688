//! BEAM. Machines and pillars together: a running cluster.
//!
//! `start` decides what this process is and brings the ranks up; `scheduler_loop` and
//! `worker_loop` feed their machine with what came in and perform what it answers.

pub mod envelope;
pub mod exit;
pub mod fault;
pub mod geometry;
pub mod logger;
pub mod panic;
pub mod scheduler_loop;
pub mod signals;
pub mod sink;
pub mod start;
pub mod worker_loop;
