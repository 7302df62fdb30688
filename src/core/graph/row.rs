//! A list of tasks that belongs to one task: its inputs, or the tasks that wait for it.
//!
//! A row need not lie in memory as a list; whoever reads one asks for its tasks one by one.

use std::fmt;

use crate::core::id::TaskId;

/// Some tasks, each once. Small and cheap to copy.
#[derive(Clone, Copy)]
pub struct Row<'a>(&'a [TaskId]);

/// The tasks of a row, one by one.
#[derive(Clone, Debug)]
pub struct RowTasks<'a>(std::slice::Iter<'a, TaskId>);

impl<'a> Row<'a> {
    /// The tasks of a list.
    pub(super) const fn listed(tasks: &'a [TaskId]) -> Self {
        Row(tasks)
    }

    /// The tasks, one by one.
    pub fn iter(self) -> RowTasks<'a> {
        RowTasks(self.0.iter())
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.0.len()
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// True if the task is among them.
    pub fn contains(self, task: TaskId) -> bool {
        self.0.contains(&task)
    }

    /// The task at a place.
    pub fn get(self, place: usize) -> Option<TaskId> {
        self.0.get(place).copied()
    }

    /// The first task.
    pub fn first(self) -> Option<TaskId> {
        self.get(0)
    }
}

impl Iterator for RowTasks<'_> {
    type Item = TaskId;

    fn next(&mut self) -> Option<TaskId> {
        self.0.next().copied()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for RowTasks<'_> {}

impl<'a> IntoIterator for Row<'a> {
    type Item = TaskId;
    type IntoIter = RowTasks<'a>;

    fn into_iter(self) -> RowTasks<'a> {
        self.iter()
    }
}

impl fmt::Debug for Row<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Row<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(*other)
    }
}

impl Eq for Row<'_> {}

impl PartialEq<[TaskId]> for Row<'_> {
    fn eq(&self, other: &[TaskId]) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter().copied())
    }
}

impl<const N: usize> PartialEq<[TaskId; N]> for Row<'_> {
    fn eq(&self, other: &[TaskId; N]) -> bool {
        *self == other[..]
    }
}
