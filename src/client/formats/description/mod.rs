//! Third stage: what a graph file says, before there are elements.
//!
//! It owns the parts that tasks are described with: texts with `{identifiers}`, references to other
//! tasks, variables, and one `TaskSpec` for each task or array. It never sees how they were written
//! down, and it never expands anything: an array of a million elements is one entry here.

mod axes;
mod functions;
mod reference;
mod shell;
mod task;
mod template;
mod vocabulary;

pub use axes::{VARIABLES_MAX, Variable, parse_range};
pub use functions::Functions;
pub use reference::{Reference, Target};
pub use shell::quote;
pub use task::{
    ArgumentSpec, CAPTURE_LIMIT_BYTES, GraphSpec, LineSpec, PythonSpec, RunSpec, StreamSpec, TASKS_MAX,
    TaskSpec, Work,
};
pub use template::{Piece, Template};
pub use vocabulary::{Form, Hole, Vocabulary, is_identifier};
