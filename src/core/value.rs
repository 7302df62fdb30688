//! What functions take and give.

use serde::{Deserialize, Serialize};

/// A value as functions, arguments and JSON know it.
///
/// Integers are 64 bits wide and never wrap; a number that does not fit is a failure of the task
/// that computed it. Maps keep the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Nothing: what `noop` gives.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text in UTF-8.
    Text(String),
    /// Bytes that need not be text, such as a command's captured output.
    Bytes(#[serde(with = "super::octets")] Vec<u8>),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name, in the order in which they were written.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The type in a user's words, for messages such as "`add` takes numbers, not text".
    pub const fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}
