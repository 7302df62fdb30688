//! The scheduler's decisions: which task runs where and when, and what follows from what happened.
//!
//! `machine` is the only door. The tables (`tasks`, `workers`) keep facts; `placement`, `steal` and
//! `recovery` are policies over them; `check` holds every invariant.

mod check;
mod durations;
mod machine;
mod placement;
mod priority;
mod ready;
mod recovery;
mod steal;
mod tasks;
mod workers;

pub use machine::{Action, Input, Options, Scheduler};
pub use tasks::TaskState;
