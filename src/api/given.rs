//! What a task was given, both seen and to be handed on.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::runtime::typed::Portable;

use super::argument::{Argument, IntoArgument, Source};
use super::delayed::Delayed;

/// A value that a task reads, and may hand on to calls that it returns as if it had not looked at it: it then
/// goes from worker to worker, and not through rank 0 as a value that the task made would.
///
/// ```
/// use dagmar::{Delayed, Given};
///
/// #[dagmar::task]
/// fn below(numbers: &[u64], limit: u64) -> Vec<u64> {
///     numbers.iter().copied().filter(|number| *number < limit).collect()
/// }
///
/// /// The numbers below half of the largest.
/// #[dagmar::task]
/// fn lower_half(numbers: Given<Vec<u64>>) -> Delayed<Vec<u64>> {
///     match numbers.iter().max() {
///         Some(largest) => below(&numbers, largest / 2),
///         None => numbers.into(),
///     }
/// }
/// ```
pub struct Given<T> {
    value: Arc<T>,
    source: Source,
}

impl<T> Given<T> {
    pub(super) fn new(value: Arc<T>, source: Source) -> Self {
        Given { value, source }
    }
}

impl<T> Deref for Given<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Clone for Given<T> {
    fn clone(&self) -> Self {
        Given { value: self.value.clone(), source: self.source.clone() }
    }
}

impl<T: fmt::Debug> fmt::Debug for Given<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(out)
    }
}

impl<T: Portable> IntoArgument<T> for Given<T> {
    fn into_argument(self) -> Argument {
        Argument(self.source)
    }
}

impl<T: Portable> IntoArgument<T> for &Given<T> {
    fn into_argument(self) -> Argument {
        Argument(self.source.clone())
    }
}

/// What a task was given, as what it gives.
impl<T: Portable + Clone> From<Given<T>> for Delayed<T> {
    fn from(given: Given<T>) -> Self {
        match given.source {
            Source::Output(node) => Delayed::of_node(node),
            Source::Value(_) | Source::Outputs(_) => {
                Delayed::from(Arc::try_unwrap(given.value).unwrap_or_else(|shared| (*shared).clone()))
            }
        }
    }
}
