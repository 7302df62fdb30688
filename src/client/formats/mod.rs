//! Graph files and everything else that a graph is made from.
//!
//! TOML and JSON have one schema and go through one tree of values that know where they stand, so
//! that every error names a line. Reading ends in a `Graph`; nothing here runs anything. Packed
//! graphs belong to `record`: `Kind::of` tells them apart and the caller reads them.

mod arguments;
mod assembly;
mod axes;
mod commands;
mod fault;
mod files;
mod hidden;
mod json;
mod links;
pub mod make;
mod names;
mod nearest;
mod operations;
mod options;
pub mod outline;
mod problem;
pub mod quick;
mod reader;
mod reference;
mod request;
mod schema;
mod shell;
mod spec;
mod template;
#[cfg(test)]
mod tests;
mod toml;
mod tree;
pub mod units;
mod vocabulary;

pub use problem::{GraphFileError, Problem};
pub use reader::{FILE_BYTES_MAX, Functions, Kind, read, read_bytes};
pub use request::{RequestError, resolve};
pub use shell::quote;
