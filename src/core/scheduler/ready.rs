//! The ready tasks, by what they ask for. Tasks with the same request wait in one queue, so that a
//! request nothing has room for holds up nobody else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
}

impl Ready {
    /// Empty queues for the requests of a graph.
    pub fn new(graph: &Graph) -> Self {
        let mut requests: Vec<Resources> = Vec::new();
        let mut class_of_options = Vec::new();
        for options in &graph.columns().options {
            let known = requests.iter().position(|request| *request == options.resources);
            class_of_options.push(Class(known.unwrap_or_else(|| {
                requests.push(options.resources.clone());
                requests.len() - 1
            })));
        }
        let queues = requests.iter().map(|_| BinaryHeap::new()).collect();
        Ready { requests, class_of_options, queues }
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
        self.queues[class.0].push(Reverse(urgency));
    }

    /// The most urgent entry among the classes that are not `blocked`.
    pub fn peek(&self, blocked: &[bool]) -> Option<(Class, u32)> {
        let heads = self.queues.iter().enumerate().filter(|(class, _)| !blocked[*class]);
        let heads = heads.filter_map(|(class, queue)| Some((Class(class), queue.peek()?.0)));
        heads.min_by_key(|(_, urgency)| *urgency)
    }

    /// Takes the most urgent entry of a class out.
    pub fn pop(&mut self, class: Class) {
        self.queues[class.0].pop();
    }

    /// True if a task is queued. Searches the whole queue: for checks.
    pub fn contains(&self, class: Class, urgency: u32) -> bool {
        self.queues[class.0].iter().any(|entry| entry.0 == urgency)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.queues.iter_mut().for_each(BinaryHeap::clear);
    }
}
