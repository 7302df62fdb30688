//! What a task gives, as it lies in a worker's memory.

use crate::core::value::Value;

/// A task's output. Shared by reference inside a rank; encoded only when it leaves it.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// What a command printed on its standard output, as it is.
    Captured(Vec<u8>),
    /// What a function returned.
    Value(Value),
}
