//! dagmar runs a graph of tasks on the nodes of a batch allocation, over MPI.
//!
//! Rank 0 schedules, every other rank works, and outputs flow from worker to worker. Both roles
//! decide in pure state machines (`core`); the pillars around it are their hands: `transport`
//! moves bytes between ranks, `worker` runs tasks, `record` keeps what is on disk, `launch` knows
//! batch systems, `observe` reads events. `runtime` makes a running cluster of machines and
//! pillars, `client` is the user's side, `cli` the command. `tests/layers.rs` refuses every
//! import that does not point down this list.
//!
//! Programs that have Rust functions for tasks use what stands at the root of this crate: the attribute
//! `task`, `main`, and what it hands to its body, the [`Runtime`]. [`api`] tells how.

extern crate self as dagmar;

pub mod api;
pub mod cli;
pub mod client;
pub mod clock;
pub mod core;
pub mod launch;
pub mod observe;
pub mod record;
pub mod runtime;
pub mod transport;
pub mod worker;

pub use std::process::ExitCode;

pub use dagmar_macros::task;

pub use api::{Computable, Delayed, Error, Given, Runtime, main, map, reduce};
pub use runtime::typed::{Context, Portable, bulk};

/// What the code that `#[task]` writes calls. Not for anybody else.
#[doc(hidden)]
pub mod expansion {
    pub use crate::api::argument::IntoArgument;
    pub use crate::api::registry::{Entry, Inputs, Returned, Task};
    pub use crate::runtime::typed::Context;
    pub use inventory;
}
