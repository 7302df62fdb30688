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

    /// The entry of a task; zero if the column does not reach so far.
    #[inline]
    pub fn get(&self, task: TaskId) -> T {
        T::of(self.raw.get(task.index()).copied().unwrap_or_default())
    }

    /// Sets the entry of a task. A column that does not reach so far grows.
    #[inline]
    pub fn set(&mut self, task: TaskId, entry: T) {
        match self.raw.get_mut(task.index()) {
            Some(raw) => *raw = entry.raw(),
            None => self.set_behind(task, entry),
        }
    }

    #[cold]
    fn set_behind(&mut self, task: TaskId, entry: T) {
        self.raw.resize(task.index() + 1, T::Raw::default());
        self.raw[task.index()] = entry.raw();
    }

    /// Sets the entries of consecutive tasks. A column that does not reach so far grows.
    #[inline]
    pub fn fill(&mut self, tasks: Span, entry: T) {
        match tasks.count {
            1 => self.set(tasks.first, entry),
            _ => self.fill_several(tasks, entry),
        }
    }

    fn fill_several(&mut self, tasks: Span, entry: T) {
        if tasks.end().index() > self.raw.len() {
            self.raw.resize(tasks.end().index(), T::Raw::default());
        }
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
    fn a_column_reaches_as_far_as_it_was_written() {
        let mut column = Column::<Attempt>::new(2);
        assert_eq!(column.get(TaskId(900)), Attempt(0));
        column.set(TaskId(4), Attempt(3));
        column.fill(Span { first: TaskId(4), count: 3 }, Attempt(5));
        assert_eq!(column.iter().map(|attempt| attempt.0).collect::<Vec<_>>(), [0, 0, 0, 0, 5, 5, 5]);
    }

    #[test]
    fn fractions_survive() {
        let mut column = Column::<f32>::new(1);
        assert_eq!(column.get(TaskId(0)), 0.0);
        column.set(TaskId(0), 0.35);
        assert_eq!(column.get(TaskId(0)), 0.35);
    }
}
