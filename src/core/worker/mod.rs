//! The worker's decisions: what to fetch, what to start, whom to serve, what to report.
//!
//! `machine` is the only door, as pure as the scheduler's; it never sees a byte of an output. Light
//! tasks, calls that ask for one core and nothing else, it admits to a pool at once (`assigned`), which runs each
//! as soon as its inputs are there; the others are heavy and start one by one (`heavy`, `queue`). `ends` says
//! what follows from an end, `peers` fetches and serves outputs, `sharing` divides the cores between both. `memory` says which outputs
//! leave memory for the disk: it is asked by who keeps them; `holding` which heavy tasks wait while it is short.

mod assigned;
mod check;
mod ends;
mod heavy;
mod holding;
mod machine;
pub mod memory;
mod peers;
mod queue;
mod sharing;

pub use machine::{Action, Input, Worker};
