//! Fourth stage: from the tree of values to what they say.
//!
//! It owns the fields: which there are, what each may be, and what `defaults` add. What `each` finds
//! on disk is looked up here. It never resolves a reference: whether the tasks that a task
//! needs exist is asked by the next stage.

mod arguments;
mod commands;
mod each;
mod fields;
mod graph;
mod options;
mod resources;
mod task;

pub use graph::read_graph;
pub use task::check_name;
