//! First stage: from the bytes of a file to a tree of values that know where they stand.
//!
//! It owns the two parsers, the units in which people write, and what can be wrong with a file; a
//! problem keeps its span until the file is named. It never asks what a value is for, and it never
//! opens a file.

mod fault;
pub mod json;
mod nearest;
mod problem;
mod source;
mod toml;
mod tree;
pub mod units;

pub use fault::{Fault, Outcome, uncapitalised};
pub use nearest::{is_near, nearest};
pub use problem::{GraphFileError, Problem};
pub use source::{Kind, Source, without_mark};
pub use tree::{Entry, Node, Span, Tree, find};
