//! A list of tasks that is short where they lie side by side.

use std::ops::Range;

use super::id::TaskId;

/// Tasks in some order. A stretch of an array costs as much as one task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskList {
    stretches: Vec<Range<u32>>,
}

impl TaskList {
    /// Adds a task behind the others.
    pub fn push(&mut self, task: TaskId) {
        self.push_all(task.0..task.0 + 1);
    }

    /// Adds tasks that lie side by side behind the others.
    pub fn push_all(&mut self, tasks: Range<u32>) {
        match self.stretches.last_mut() {
            Some(last) if last.end == tasks.start => last.end = tasks.end,
            _ if tasks.is_empty() => (),
            _ => self.stretches.push(tasks),
        }
    }

    /// How many tasks there are.
    pub fn len(&self) -> usize {
        self.stretches.iter().map(|stretch| stretch.len()).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// The tasks, one by one.
    pub fn iter(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.stretches.iter().cloned().flatten().map(TaskId)
    }

    /// The tasks in stretches of those that lie side by side.
    pub fn stretches(&self) -> &[Range<u32>] {
        &self.stretches
    }
}

impl FromIterator<TaskId> for TaskList {
    fn from_iter<I: IntoIterator<Item = TaskId>>(tasks: I) -> Self {
        let mut list = TaskList::default();
        tasks.into_iter().for_each(|task| list.push(task));
        list
    }
}

impl FromIterator<Range<u32>> for TaskList {
    fn from_iter<I: IntoIterator<Item = Range<u32>>>(stretches: I) -> Self {
        let mut list = TaskList::default();
        stretches.into_iter().for_each(|stretch| list.push_all(stretch));
        list
    }
}

impl From<&[TaskId]> for TaskList {
    fn from(tasks: &[TaskId]) -> Self {
        tasks.iter().copied().collect()
    }
}

impl<const N: usize> From<&[TaskId; N]> for TaskList {
    fn from(tasks: &[TaskId; N]) -> Self {
        tasks[..].into()
    }
}

impl From<&Vec<TaskId>> for TaskList {
    fn from(tasks: &Vec<TaskId>) -> Self {
        tasks[..].into()
    }
}

impl From<&TaskList> for TaskList {
    fn from(list: &TaskList) -> Self {
        list.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_keep_their_order_and_neighbours_share_a_stretch() {
        let tasks = [4, 5, 6, 2, 3, 9].map(TaskId);
        let mut list = TaskList::from(&tasks);
        assert_eq!((list.len(), list.stretches().len()), (6, 3));
        assert!(list.iter().eq(tasks));
        list.push_all(10..10);
        list.push_all(10..1_000_000);
        assert_eq!((list.len(), list.stretches().len(), list.is_empty()), (999_996, 3, false));
    }
}
