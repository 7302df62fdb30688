//! The scheduler's decisions: which task runs where and when, and what follows from what happened.
//!
//! `machine` is the only door. The tables (`tasks`, `workers`, `ready`) keep facts. `reports` changes
//! them by what workers say, `progress` by what follows for other tasks, `recovery` by what is lost, `culprits` by what
//! killed ranks, `shortage` by want of memory, `client` by what a client wants;
//! `dispatch` acts on them through the policies `priority`, `placement`, `division` and `steal`, `multi_node` for
//! tasks that take several workers; `check` holds every invariant.

mod ahead;
mod check;
mod client;
mod copies;
mod culprits;
mod dispatch;
mod division;
mod durations;
mod growth;
mod machine;
mod multi_node;
mod parked;
mod past;
mod placement;
mod precedence;
mod priority;
mod progress;
mod ready;
mod recovery;
mod reports;
mod resume;
mod shortage;
mod skipping;
mod steal;
mod stuck;
mod tasks;
mod workers;

pub use culprits::{CRASH_LIMIT, Killing};
pub use machine::{Action, Input, Options, Persist, Scheduler};
pub use past::{Past, PastError};
pub use precedence::Precedence;
pub use priority::Urgency;
pub use resume::Left;
pub use skipping::{Files, Skipping};
pub use tasks::TaskState;
