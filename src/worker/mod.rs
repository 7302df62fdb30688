//! PILLAR. The worker's hands: running functions and commands, keeping outputs.

pub mod allocator;
pub mod binding;
pub mod command;
pub mod executor;
pub mod files;
pub mod function;
mod growing;
pub mod hardware;
pub mod json;
pub mod keep;
pub mod last_words;
mod lines;
pub mod memory;
mod memory_events;
pub mod output;
pub mod packet;
pub mod plain;
pub mod pool;
pub mod python;
pub mod scratch;
pub mod share;
pub mod sink;
pub mod spawner;
pub mod spilled;
pub mod store;
pub mod typed;
