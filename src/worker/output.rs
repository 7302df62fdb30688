//! What a task gives, as it lies in a worker's memory.

use crate::core::value::Value;

use super::typed::Typed;

/// A task's output. Shared by reference inside a rank; encoded only when it leaves it.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// What a command printed on its standard output, as it is.
    Captured(Vec<u8>),
    /// What a function returned.
    Value(Value),
    /// What a function of the program itself returned: a value of a Rust type.
    Typed(Typed),
}
