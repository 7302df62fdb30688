//! PILLAR. The worker's hands: running functions and commands, keeping outputs.

pub mod executor;
pub mod hardware;
pub mod output;
pub mod store;
