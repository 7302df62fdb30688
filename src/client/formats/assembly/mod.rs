//! Fifth stage: from what is said to a `Graph`.
//!
//! It owns names and files as links between tasks, the expansion of every element, and the hidden
//! tasks that keep arrays from needing an edge for each pair. It never looks at the
//! file's text, only carries spans for errors, and it never looks at the disk itself.

mod arguments;
mod declaration;
mod expansion;
mod files;
mod graph;
mod hidden;
mod links;
mod names;
mod operations;
mod refusal;

pub use graph::assemble;
pub use refusal::graph_fault;
