//! BEAM. The typed Rust front: functions become tasks, their calls a graph, and a program runs it.
//!
//! `#[dagmar::task]` makes of a function one that returns a `Delayed`: a call that has not happened
//! yet. `main` finds out what the process is: on rank 0, or alone, it runs the program's own body with
//! a `Runtime`, whose `compute` runs whatever a value needs; every other rank serves. The functions are
//! known on all ranks because all run the same binary (`registry`). Nothing here schedules, and nothing
//! here knows MPI.
//!
//! ```no_run
//! #[dagmar::task]
//! fn add(a: i64, b: i64) -> i64 {
//!     a + b
//! }
//!
//! fn main() -> dagmar::ExitCode {
//!     dagmar::main(|run| {
//!         let x = add(1, 2);
//!         let y = add(&x, 3);
//!         println!("{}", run.compute(&y)?);
//!         Ok(())
//!     })
//! }
//! ```
//!
//! What could not be called on another rank is refused by the compiler, and so is an argument of a wrong type:
//!
//! ```compile_fail
//! #[dagmar::task]
//! fn first<T>(items: Vec<T>) -> T {
//!     items.into_iter().next().unwrap()
//! }
//! ```
//!
//! ```compile_fail
//! #[dagmar::task]
//! fn length(text: &str) -> usize {
//!     text.len()
//! }
//!
//! let wrong = length(1.5);
//! ```

pub mod argument;
mod assembly;
pub mod collections;
pub mod computable;
pub mod delayed;
mod entry;
pub mod failure;
pub mod given;
pub mod registry;
pub mod runtime;
mod submission;
mod watch;

pub use collections::{map, reduce};
pub use computable::Computable;
pub use delayed::Delayed;
pub use entry::main;
pub use failure::Error;
pub use given::Given;
pub use runtime::Runtime;
