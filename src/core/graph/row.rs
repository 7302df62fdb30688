//! A list of tasks that belongs to one task: its inputs, or the tasks that wait for it.
//!
//! A row need not lie in memory as a list; whoever reads one asks for its tasks one by one.

use std::fmt;

use crate::core::id::TaskId;

use super::Graph;
use super::progression::{Inverse, Progression, Strided};

/// Some tasks, each once. Small and cheap to copy.
#[derive(Clone, Copy)]
pub struct Row<'a>(Form<'a>);

#[derive(Clone, Copy)]
enum Form<'a> {
    Listed(&'a [u32]),
    /// What the n-th task of an array takes.
    Taken(&'a [[u32; Progression::WORDS]], u32),
    /// Who takes a task: some of them listed, the others by rules.
    Takers(&'a [u32], &'a [[u32; Inverse::WORDS]], TaskId),
    /// Who takes a task of a graph that has grown, from this place on.
    Grown(&'a Graph, TaskId, u32),
}

/// The tasks of a row, one by one.
#[derive(Clone)]
pub struct RowTasks<'a> {
    now: Strided,
    rest: Form<'a>,
}

impl<'a> Row<'a> {
    /// The tasks of a list.
    pub(super) const fn listed(tasks: &'a [u32]) -> Self {
        Row(Form::Listed(tasks))
    }

    /// What the n-th task of an array takes.
    pub(super) const fn taken(rules: &'a [[u32; Progression::WORDS]], element: u32) -> Self {
        Row(Form::Taken(rules, element))
    }

    /// Who takes a task: those of a list, and whom rules name.
    pub(super) const fn takers(tasks: &'a [u32], rules: &'a [[u32; Inverse::WORDS]], task: TaskId) -> Self {
        Row(Form::Takers(tasks, rules, task))
    }

    /// Who takes a task of a graph that has grown.
    pub(super) const fn grown(graph: &'a Graph, task: TaskId) -> Self {
        Row(Form::Grown(graph, task, 0))
    }

    /// The tasks, one by one.
    pub fn iter(self) -> RowTasks<'a> {
        RowTasks { now: Strided::default(), rest: self.0 }
    }

    /// How many there are, of a row of inputs: few rules, and quickly told.
    #[inline]
    pub fn taken_len(self) -> usize {
        match self.0 {
            Form::Listed(tasks) => tasks.len(),
            Form::Taken([], _) => 0,
            Form::Taken([[_, _, count, _]], _) => *count as usize,
            Form::Taken(..) | Form::Takers(..) | Form::Grown(..) => self.len(),
        }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        match self.0 {
            Form::Listed(tasks) => tasks.len(),
            Form::Taken(rules, _) => rules.iter().map(|[_, _, count, _]| *count as usize).sum(),
            Form::Takers(tasks, rules, task) => {
                let by_rule = |words| Inverse::from_words(words).takers(task).len();
                tasks.len() + rules.iter().map(by_rule).sum::<usize>()
            }
            Form::Grown(graph, task, mut at) => {
                std::iter::from_fn(|| graph.next_taker(task, &mut at)).count()
            }
        }
    }

    /// True if there is none.
    pub fn is_empty(self) -> bool {
        match self.0 {
            Form::Listed(tasks) => tasks.is_empty(),
            Form::Taken(rules, _) => rules.is_empty(),
            Form::Takers(tasks, rules, task) => {
                let is_empty = |words| Inverse::from_words(words).takers(task).is_empty();
                tasks.is_empty() && rules.iter().all(is_empty)
            }
            Form::Grown(graph, task, mut at) => graph.next_taker(task, &mut at).is_none(),
        }
    }

    /// True if the task is among them.
    pub fn contains(self, task: TaskId) -> bool {
        match self.0 {
            Form::Listed(tasks) => tasks.contains(&task.0),
            Form::Taken(rules, element) => {
                rules.iter().any(|words| Progression::from_words(words).inputs(element).contains(task))
            }
            Form::Takers(tasks, rules, taken) => {
                let takes = |words| Inverse::from_words(words).takers(taken).contains(&task.0);
                tasks.contains(&task.0) || rules.iter().any(takes)
            }
            Form::Grown(graph, taken, mut at) => {
                std::iter::from_fn(|| graph.next_taker(taken, &mut at)).any(|taker| taker == task)
            }
        }
    }

    /// The task at a place.
    pub fn get(self, place: usize) -> Option<TaskId> {
        match self.0 {
            Form::Listed(tasks) => tasks.get(place).copied().map(TaskId),
            Form::Takers(tasks, rules, task) => match tasks.get(place) {
                Some(taker) => Some(TaskId(*taker)),
                None => Inverse::nth_taker(rules, task, place - tasks.len()),
            },
            _ => self.iter().nth(place),
        }
    }

    /// The first task.
    pub fn first(self) -> Option<TaskId> {
        self.get(0)
    }
}

impl RowTasks<'_> {
    /// The next tasks that lie at equal distances, if there are any.
    fn refill(&mut self) -> Option<Strided> {
        match &mut self.rest {
            Form::Listed(_) | Form::Grown(..) => None,
            Form::Taken(rules, element) => {
                let (words, rest) = rules.split_first()?;
                *rules = rest;
                Some(Progression::from_words(words).inputs(*element))
            }
            Form::Takers(_, rules, task) => {
                let (words, rest) = rules.split_first()?;
                *rules = rest;
                let takers = Inverse::from_words(words).takers(*task);
                Some(Strided { next: takers.start.into(), step: 1, left: takers.end - takers.start })
            }
        }
    }
}

impl Iterator for RowTasks<'_> {
    type Item = TaskId;

    #[inline]
    fn next(&mut self) -> Option<TaskId> {
        match &mut self.rest {
            Form::Listed(tasks) => return take_first(tasks),
            Form::Takers(tasks, ..) if !tasks.is_empty() => return take_first(tasks),
            Form::Grown(graph, task, at) => return graph.next_taker(*task, at),
            _ => (),
        }
        while self.now.left == 0 {
            self.now = self.refill()?;
        }
        self.now.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.now.left as usize + Row(self.rest).len();
        (left, Some(left))
    }
}

fn take_first(tasks: &mut &[u32]) -> Option<TaskId> {
    let (task, rest) = tasks.split_first()?;
    *tasks = rest;
    Some(TaskId(*task))
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
        self.iter().eq(*other)
    }
}

impl Eq for Row<'_> {}

impl PartialEq<[TaskId]> for Row<'_> {
    fn eq(&self, other: &[TaskId]) -> bool {
        self.iter().eq(other.iter().copied())
    }
}

impl<const N: usize> PartialEq<[TaskId; N]> for Row<'_> {
    fn eq(&self, other: &[TaskId; N]) -> bool {
        *self == other[..]
    }
}
