//! The worker's decisions: what to fetch, what to start, whom to serve, what to report.
//!
//! `machine` is the only door, as pure as the scheduler's; it never sees a byte of an output.

mod check;
mod machine;
mod peers;
mod queue;

pub use machine::{Action, Input, Worker};
