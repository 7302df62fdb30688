//! A fact about every task, in one array that costs memory only where it was written.
//!
//! Entries begin as zeros, which the system hands out page by page on the first write: a column for
//! ten million tasks of which a thousand are under way takes a few pages.

use super::id::{Attempt, Rank, TaskId};
use super::span::Span;
use super::time::Timestamp;

/// What can stand in a column: something with a plain number behind it, and a meaning for zero.
pub trait Entry: Copy {
    /// The number.
    type Raw: Copy + Default;

    /// What the number means.
    fn of(raw: Self::Raw) -> Self;

    /// The number of it.
    fn raw(self) -> Self::Raw;
}

/// One entry for each task.
#[derive(Clone, Debug)]
pub struct Column<T: Entry> {
    raw: Vec<T::Raw>,
}

impl<T: Entry> Column<T> {
    /// Zeros for this many tasks.
    pub fn new(tasks: usize) -> Self {
        // Not filled: `vec!` of zeros asks the system for zeroed memory.
        Column { raw: vec![T::Raw::default(); tasks] }
    }

    /// How many tasks it has.
    pub fn count(&self) -> usize {
        self.raw.len()
    }

    /// The entry of a task.
    pub fn get(&self, task: TaskId) -> T {
        T::of(self.raw[task.index()])
    }

    /// Sets the entry of a task.
    pub fn set(&mut self, task: TaskId, entry: T) {
        self.raw[task.index()] = entry.raw();
    }

    /// Sets the entries of consecutive tasks.
    pub fn fill(&mut self, tasks: Span, entry: T) {
        self.raw[tasks.first.index()..tasks.end().index()].fill(entry.raw());
    }

    /// The entries in the order of tasks.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.raw.iter().map(|&raw| T::of(raw))
    }
}

impl Entry for u32 {
    type Raw = u32;

    fn of(raw: u32) -> Self {
        raw
    }

    fn raw(self) -> u32 {
        self
    }
}

impl Entry for f32 {
    type Raw = u32;

    fn of(raw: u32) -> Self {
        f32::from_bits(raw)
    }

    fn raw(self) -> u32 {
        self.to_bits()
    }
}

/// Types that are a number with a meaning.
macro_rules! entries {
    ($($name:ident($raw:ty)),*) => {$(
        impl Entry for $name {
            type Raw = $raw;

            fn of(raw: $raw) -> Self {
                $name(raw)
            }

            fn raw(self) -> $raw {
                self.0
            }
        }
    )*};
}

entries!(Timestamp(u64), Attempt(u32), Rank(u32));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_begins_with_zeros_and_keeps_what_is_set() {
        let mut column = Column::<Attempt>::new(9);
        column.fill(Span { first: TaskId(2), count: 3 }, Attempt(7));
        column.set(TaskId(8), Attempt(1));
        assert_eq!(column.iter().map(|attempt| attempt.0).collect::<Vec<_>>(), [0, 0, 7, 7, 7, 0, 0, 0, 1]);
    }

    #[test]
    fn fractions_survive() {
        let mut column = Column::<f32>::new(1);
        assert_eq!(column.get(TaskId(0)), 0.0);
        column.set(TaskId(0), 0.35);
        assert_eq!(column.get(TaskId(0)), 0.35);
    }
}
