//! The ready tasks, by what they ask for. Tasks with the same request wait in one queue, so that a
//! request nothing has room for holds up nobody else.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound::{Excluded, Unbounded};

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::resources::Resources;

/// Which request a task makes: a place in the list of distinct requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub usize);

/// One queue of urgencies for each distinct request.
///
/// Entries are never taken out of the middle. What stopped being ready is skipped by the reader,
/// and a task that became ready twice may stand in a queue twice.
#[derive(Debug)]
pub struct Ready {
    requests: Vec<Resources>,
    class_of_options: Vec<Class>,
    queues: Vec<BinaryHeap<Reverse<u32>>>,
    /// The most urgent entry of each queue that is not empty, and its class.
    heads: BTreeSet<(u32, usize)>,
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
        let queues = requests.iter().map(|_| BinaryHeap::new()).collect();
        Ready { requests, class_of_options, queues, heads: BTreeSet::new() }
    }

    /// The distinct requests.
    pub fn requests(&self) -> &[Resources] {
        &self.requests
    }

    /// Which request a task makes.
    pub fn class_of(&self, graph: &Graph, task: TaskId) -> Class {
        self.class_of_options[graph.options_id(task).index()]
    }

    /// Enters a task by its urgency.
    pub fn push(&mut self, class: Class, urgency: u32) {
        self.change(class, |queue| queue.push(Reverse(urgency)));
    }

    /// The most urgent entry behind `head`, over all classes. A class that nothing has room for is left
    /// behind by going on from its head: its other entries are less urgent still.
    pub fn next_head(&self, head: Option<(u32, Class)>) -> Option<(u32, Class)> {
        let from = head.map_or(Unbounded, |(urgency, class)| Excluded((urgency, class.0)));
        self.heads.range((from, Unbounded)).next().map(|&(urgency, class)| (urgency, Class(class)))
    }

    /// Takes the most urgent entry of a class out.
    pub fn pop(&mut self, class: Class) {
        self.change(class, |queue| {
            queue.pop();
        });
    }

    fn change(&mut self, class: Class, change: impl FnOnce(&mut BinaryHeap<Reverse<u32>>)) {
        let queue = &mut self.queues[class.0];
        let before = queue.peek().map(|head| head.0);
        change(queue);
        let after = queue.peek().map(|head| head.0);
        if before != after {
            before.map(|urgency| self.heads.remove(&(urgency, class.0)));
            after.map(|urgency| self.heads.insert((urgency, class.0)));
        }
    }

    /// True if a task is queued. Searches the whole queue: for checks.
    pub fn contains(&self, class: Class, urgency: u32) -> bool {
        self.queues[class.0].iter().any(|entry| entry.0 == urgency)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queues.iter_mut().for_each(BinaryHeap::clear);
        self.heads.clear();
    }
}
