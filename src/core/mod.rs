//! FOUNDATION. What dagmar knows and decides, as pure data and pure functions.
//!
//! Nothing here touches a file, a socket, a clock, a thread, randomness, MPI or a log:
//! time comes in as an argument, and what must be done goes out as data. `tests/layers.rs`
//! refuses everything else. The simulator and the real runtime therefore run the same code.

pub mod addition;
pub mod batch;
pub mod client;
pub mod column;
pub mod edit;
pub mod event;
pub mod graph;
pub mod id;
pub mod key;
pub mod launch_variables;
pub mod message;
pub mod octets;
pub mod resources;
pub mod scheduler;
pub mod slot;
pub mod span;
pub mod task;
pub mod task_list;
pub mod task_set;
pub mod time;
pub mod value;
pub mod worker;
