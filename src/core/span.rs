//! Tasks that follow each other in their graph, named together.

use serde::{Deserialize, Serialize};

use super::id::TaskId;

/// Consecutive tasks; at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first of them.
    pub first: TaskId,
    /// How many.
    pub count: u32,
}

impl Span {
    /// One task alone.
    pub const fn one(task: TaskId) -> Self {
        Span { first: task, count: 1 }
    }

    /// The id behind the last one.
    pub const fn end(self) -> TaskId {
        TaskId(self.first.0.saturating_add(self.count))
    }

    /// Its tasks in order.
    pub fn tasks(self) -> impl DoubleEndedIterator<Item = TaskId> + Clone {
        (self.first.0..self.end().0).map(TaskId)
    }

    /// Takes the first `count` tasks away and returns them; all of them if there are not more.
    ///
    /// What is left may be empty.
    pub fn take(&mut self, count: u32) -> Span {
        let taken = Span { first: self.first, count: count.min(self.count) };
        *self = Span { first: taken.end(), count: self.count - taken.count };
        taken
    }

    /// Adds a task to a list of spans: to the last one if it follows it.
    pub fn add_to(spans: &mut Vec<Span>, task: TaskId) {
        match spans.last_mut() {
            Some(last) if last.end() == task => last.count += 1,
            _ => spans.push(Span::one(task)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_that_follow_each_other_make_one_span() {
        let mut spans = Vec::new();
        [3, 4, 5, 9, 8].into_iter().for_each(|task| Span::add_to(&mut spans, TaskId(task)));
        let expected = [(3, 3), (9, 1), (8, 1)].map(|(first, count)| Span { first: TaskId(first), count });
        assert_eq!(spans, expected);
    }

    #[test]
    fn a_span_is_taken_from_its_front() {
        let mut span = Span { first: TaskId(7), count: 5 };
        assert_eq!(span.take(2), Span { first: TaskId(7), count: 2 });
        assert_eq!(span.take(9), Span { first: TaskId(9), count: 3 });
        assert_eq!(span.count, 0);
    }
}
