//! BEAM. The typed Rust front: functions become tasks, their calls a graph, and a program runs it.
//!
//! `#[dagmar::task]` makes of a function one that returns a `Delayed`: a call that has not happened
//! yet. `main` finds out what the process is: on rank 0, or alone, it runs the program's own body with
//! a `Runtime`, whose `compute` runs whatever a value needs; every other rank serves. The functions are
//! known on all ranks because all run the same binary (`registry`). Nothing here schedules, and nothing
//! here knows MPI.

pub mod argument;
mod assembly;
pub mod collections;
pub mod computable;
pub mod delayed;
mod entry;
pub mod failure;
pub mod registry;
pub mod runtime;
mod watch;

pub use collections::{map, reduce};
pub use computable::Computable;
pub use delayed::Delayed;
pub use entry::main;
pub use failure::Error;
pub use runtime::Runtime;
