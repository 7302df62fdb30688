//! Which heavy tasks are held back while memory is short.
//!
//! What takes outputs may release some by its end: it goes on as long as anything does. What takes none and gives
//! one only adds to what is held, so those start one after the other, and calls not at all once the disk is full, as in
//! the pool. What a program prints is small most of the time, and nobody knows before: what its kind gave here tells,
//! and until then one finds out, even with a full disk. What neither takes nor gives is none of memory's business.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::graph::Graph;
use crate::core::id::{OperationId, TaskId};
use crate::core::message::Assignment;

use super::memory::{COUNTED_FROM, Room};

/// The room there is, and what is known of those that need some.
#[derive(Debug, Default)]
pub(super) struct Holding {
    room: Room,
    /// The most bytes that a task of each kind has given here.
    given: BTreeMap<OperationId, u64>,
    /// Those that run and only add to what is held.
    adding: BTreeSet<TaskId>,
}

impl Holding {
    /// There is so much room from now on.
    pub fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    /// True if a task with all inputs here may start.
    pub fn may_start(&self, graph: &Graph, assignment: &Assignment) -> bool {
        if self.room == Room::Ample {
            return true;
        }
        let task = assignment.tasks.first;
        let (takes, gives) = (takes(graph, task), self.gives(graph, assignment));
        let is_function = graph.operation(task).body.is_function();
        match self.room {
            _ if !takes && !gives => true,
            Room::Closed => false,
            _ if takes => true,
            Room::Full if is_function => false,
            _ => self.adding.is_empty(),
        }
    }

    /// A task starts.
    pub fn begin(&mut self, graph: &Graph, assignment: &Assignment) {
        let task = assignment.tasks.first;
        if !takes(graph, task) && self.gives(graph, assignment) {
            self.adding.insert(task);
        }
    }

    /// A task that was started is at an end.
    pub fn end(&mut self, task: TaskId) {
        self.adding.remove(&task);
    }

    /// So much was given by a task.
    pub fn on_given(&mut self, graph: &Graph, task: TaskId, bytes: u64) {
        let most = self.given.entry(graph.operation_id(task)).or_default();
        *most = bytes.max(*most);
    }

    /// True if its output may be large enough to be counted.
    fn gives(&self, graph: &Graph, assignment: &Assignment) -> bool {
        let given = self.given.get(&graph.operation_id(assignment.tasks.first));
        assignment.consumers > 0 && given.is_none_or(|&bytes| bytes >= COUNTED_FROM)
    }
}

fn takes(graph: &Graph, task: TaskId) -> bool {
    !graph.value_inputs(task).is_empty()
}
