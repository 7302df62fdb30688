//! What may be handed to a task: values, and the outputs of other tasks.

use std::sync::Arc;

use crate::core::task;
use crate::core::value::Value;
use crate::runtime::typed::{self, Portable};

use super::delayed::{Delayed, Node};

/// An argument of a call that has not happened yet.
pub struct Argument(pub(super) Source);

/// Where an argument's value comes from.
#[derive(Clone)]
pub(super) enum Source {
    /// It was there when the call was written down: its bytes.
    Value(Vec<u8>),
    /// The output of a task.
    Output(Arc<Node>),
    /// The outputs of several tasks, as a vector.
    Outputs(Vec<Arc<Node>>),
}

/// A value as an argument in a graph.
pub(super) fn value(bytes: Vec<u8>) -> task::Argument {
    task::Argument::Value(Value::Bytes(bytes))
}

/// Several arguments as one, in little where they are inputs side by side.
pub(super) fn in_a_row(arguments: Vec<task::Argument>) -> task::Argument {
    let first = match arguments.first() {
        Some(task::Argument::Input(first)) => *first,
        _ => 0,
    };
    let is_next = |(place, argument): (u32, &task::Argument)| *argument == task::Argument::Input(place);
    match (first..).zip(&arguments).all(is_next) {
        true => task::Argument::Inputs { first, count: arguments.len() as u32 },
        false => task::Argument::List(arguments),
    }
}

/// Whatever can be handed to a task's parameter of type `T`: a `T`, a call that will give one, or, for
/// a vector, calls that will each give an element.
#[diagnostic::on_unimplemented(
    message = "a task's parameter of type `{T}` cannot be given a `{Self}`",
    note = "it takes a `{T}`, a `Delayed<{T}>`, or a reference to either"
)]
pub trait IntoArgument<T> {
    /// The argument.
    fn into_argument(self) -> Argument;
}

impl<T: Portable> IntoArgument<T> for T {
    fn into_argument(self) -> Argument {
        (&self).into_argument()
    }
}

impl<T: Portable> IntoArgument<T> for &T {
    fn into_argument(self) -> Argument {
        let mut bytes = Vec::new();
        typed::encode_into(self, &mut bytes);
        Argument(Source::Value(bytes))
    }
}

impl<T: Portable + Clone> IntoArgument<Vec<T>> for &[T] {
    fn into_argument(self) -> Argument {
        self.to_vec().into_argument()
    }
}

impl IntoArgument<String> for &str {
    fn into_argument(self) -> Argument {
        self.to_owned().into_argument()
    }
}

impl<T: Portable> IntoArgument<T> for Delayed<T> {
    fn into_argument(self) -> Argument {
        Argument(Source::Output(self.node))
    }
}

impl<T: Portable> IntoArgument<T> for &Delayed<T> {
    fn into_argument(self) -> Argument {
        Argument(Source::Output(self.node.clone()))
    }
}

impl<T: Portable> IntoArgument<Vec<T>> for Vec<Delayed<T>> {
    fn into_argument(self) -> Argument {
        Argument(Source::Outputs(self.into_iter().map(|delayed| delayed.node).collect()))
    }
}

impl<T: Portable> IntoArgument<Vec<T>> for &[Delayed<T>] {
    fn into_argument(self) -> Argument {
        Argument(Source::Outputs(self.iter().map(|delayed| delayed.node.clone()).collect()))
    }
}

impl<T: Portable> IntoArgument<Vec<T>> for &Vec<Delayed<T>> {
    fn into_argument(self) -> Argument {
        self.as_slice().into_argument()
    }
}

impl<T: Portable, const N: usize> IntoArgument<Vec<T>> for [Delayed<T>; N] {
    fn into_argument(self) -> Argument {
        Vec::from(self).into_argument()
    }
}
