//! The ready tasks, by what they ask for. Tasks with the same request wait in one queue, so that a
//! request nothing has room for holds up nobody else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound::{Excluded, Unbounded};

use crate::core::graph::Graph;
use crate::core::id::{OptionsId, TaskId};
use crate::core::resources::Resources;
use crate::core::span::Span;
use crate::core::task::TaskOptions;

/// Which request a task makes: a place in the list of distinct requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class(pub usize);

/// Consecutive tasks of one level; they start in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Their level; lower starts first.
    pub level: u32,
    /// The tasks.
    pub tasks: Span,
}

/// One queue of runs for each distinct request.
///
/// Entries are only taken off the front. What stopped being ready is skipped by the reader,
/// and a task that became ready twice may stand in a queue twice.
#[derive(Debug)]
pub struct Ready {
    requests: Vec<Resources>,
    class_of_options: Vec<Class>,
    queues: Vec<Queue>,
    /// The most urgent run of each queue that is not empty, and its class. Unused if there is one queue.
    heads: BTreeSet<(u32, TaskId, Class)>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The most urgent run, unless a more urgent one was pushed since.
    front: Option<Run>,
    runs: BinaryHeap<Reverse<Run>>,
    /// The last one pushed, as long as further tasks may continue it.
    open: Option<Run>,
    /// What stands in `heads`.
    head: Option<(u32, TaskId)>,
}

impl Queue {
    /// The most urgent run, put together of those that were pushed in pieces: tasks that became ready one by
    /// one are one run by the time they are placed.
    fn front(&mut self) -> Option<Run> {
        if self.runs.is_empty() && (self.front.is_none() || self.open.is_none()) {
            // One run at most, as in a graph that is no wider than its workers: nothing to put together.
            self.front = self.front.or(self.open.take());
            return self.front;
        }
        self.runs.extend(self.open.take().map(Reverse));
        if let (Some(front), Some(first)) = (self.front, self.runs.peek())
            && first.0 < front
        {
            self.runs.push(Reverse(front));
            self.front = None;
        }
        let mut front = self.front.or_else(|| self.runs.pop().map(|run| run.0))?;
        while let Some(next) = self.runs.peek()
            && (next.0.level, next.0.tasks.first) == (front.level, front.tasks.end())
        {
            front.tasks.count += next.0.tasks.count;
            self.runs.pop();
        }
        self.front = Some(front);
        self.front
    }
}

impl Ready {
    /// Empty queues for the requests of a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut requests: Vec<Resources> = Vec::new();
        let mut known: BTreeMap<&Resources, Class> = BTreeMap::new();
        let mut class_of_options = Vec::new();
        for options in &graph.columns().options {
            let class = known.entry(&options.resources).or_insert_with_key(|request| {
                requests.push((*request).clone());
                Class(requests.len() - 1)
            });
            class_of_options.push(*class);
        }
        let queues = requests.iter().map(|_| Queue::default()).collect();
        Ready { requests, class_of_options, queues, heads: BTreeSet::new() }
    }

    /// How many sets of options are known.
    pub fn options_count(&self) -> u32 {
        self.class_of_options.len() as u32
    }

    /// Adds a set of options behind the others, and a queue if its request is new.
    pub fn learn(&mut self, options: &TaskOptions) {
        let known = self.requests.iter().position(|request| *request == options.resources);
        let class = known.unwrap_or_else(|| {
            self.requests.push(options.resources.clone());
            self.queues.push(Queue::default());
            if let ([only, _], true) = (&self.queues[..], self.heads.is_empty()) {
                // While it was alone, nobody asked which head is the first.
                self.heads.extend(only.head.map(|(level, task)| (level, task, Class(0))));
            }
            self.requests.len() - 1
        });
        self.class_of_options.push(Class(class));
    }

    /// The distinct requests.
    pub fn requests(&self) -> &[Resources] {
        &self.requests
    }

    /// Which request tasks with these options make.
    pub fn class(&self, options: OptionsId) -> Class {
        self.class_of_options[options.index()]
    }

    /// Enters tasks that follow each other.
    pub fn push(&mut self, class: Class, level: u32, tasks: Span) {
        let queue = &mut self.queues[class.0];
        match &mut queue.open {
            Some(run) if run.level == level && run.tasks.end() == tasks.first => {
                run.tasks.count += tasks.count;
            }
            _ => {
                let closed = queue.open.replace(Run { level, tasks });
                queue.runs.extend(closed.map(Reverse));
                let is_first = queue.head.is_none_or(|head| (level, tasks.first) < head);
                if is_first {
                    self.set_head(class, Some((level, tasks.first)));
                }
            }
        }
    }

    /// The most urgent run behind `after`, over all classes. A class that nothing has room for is left
    /// behind by going on from its head: its other entries are less urgent still.
    pub fn next_head(&mut self, after: Option<(Run, Class)>) -> Option<(Run, Class)> {
        let after = after.map(|(run, class)| (run.level, run.tasks.first, class));
        let class = match &self.queues[..] {
            [only] => only.head.filter(|_| after.is_none()).map(|_| Class(0)),
            _ => self.heads.range((after.map_or(Unbounded, Excluded), Unbounded)).next().map(|head| head.2),
        }?;
        self.queues[class.0].front().map(|run| (run, class))
    }

    /// Takes tasks off the front of the most urgent run of a class, which `next_head` gave.
    pub fn take(&mut self, class: Class, count: u32) {
        let queue = &mut self.queues[class.0];
        let Some(front) = &mut queue.front else { return };
        front.tasks.take(count);
        if front.tasks.count == 0 {
            queue.front = None;
        }
        let head = queue.front().map(|run| (run.level, run.tasks.first));
        self.set_head(class, head);
    }

    fn set_head(&mut self, class: Class, head: Option<(u32, TaskId)>) {
        let before = std::mem::replace(&mut self.queues[class.0].head, head);
        if before != head && self.queues.len() > 1 {
            before.map(|(level, task)| self.heads.remove(&(level, task, class)));
            head.map(|(level, task)| self.heads.insert((level, task, class)));
        }
    }

    /// True if a task is queued. Searches the whole queue: for checks.
    pub fn contains(&self, class: Class, level: u32, task: TaskId) -> bool {
        let queue = &self.queues[class.0];
        let runs = queue.runs.iter().map(|run| &run.0).chain(&queue.front).chain(&queue.open);
        let mut of_level = runs.filter(|run| run.level == level);
        of_level.any(|run| run.tasks.first <= task && task < run.tasks.end())
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queues.iter_mut().for_each(|queue| *queue = Queue::default());
        self.heads.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Ready {
        let (requests, class_of_options) = (vec![Resources::cores(1)], vec![Class(0)]);
        Ready { requests, class_of_options, queues: vec![Queue::default()], heads: BTreeSet::new() }
    }

    fn next(ready: &mut Ready) -> Option<(u32, u32, u32)> {
        let (run, class) = ready.next_head(None)?;
        ready.take(class, run.tasks.count);
        Some((run.level, run.tasks.first.0, run.tasks.count))
    }

    #[test]
    fn tasks_that_follow_each_other_are_one_entry() {
        let mut ready = empty();
        for (level, task) in [(1, 4), (1, 5), (1, 6), (0, 7), (1, 2)] {
            ready.push(Class(0), level, Span::one(TaskId(task)));
        }
        let all: Vec<_> = std::iter::from_fn(|| next(&mut ready)).collect();
        assert_eq!(all, [(0, 7, 1), (1, 2, 1), (1, 4, 3)]);
    }

    #[test]
    fn tasks_that_came_one_by_one_are_placed_together() {
        let mut ready = empty();
        for task in [4, 9, 2, 3, 5] {
            ready.push(Class(0), 1, Span::one(TaskId(task)));
            ready.next_head(None);
        }
        assert_eq!(next(&mut ready), Some((1, 2, 4)));
        ready.push(Class(0), 0, Span::one(TaskId(7)));
        assert_eq!((next(&mut ready), next(&mut ready)), (Some((0, 7, 1)), Some((1, 9, 1))));
    }

    #[test]
    fn what_is_taken_leaves_the_rest_at_the_front() {
        let mut ready = empty();
        (0..10).for_each(|task| ready.push(Class(0), 3, Span::one(TaskId(task))));
        ready.next_head(None);
        ready.take(Class(0), 4);
        assert_eq!(next(&mut ready), Some((3, 4, 6)));
        assert_eq!(next(&mut ready), None);
    }
}
