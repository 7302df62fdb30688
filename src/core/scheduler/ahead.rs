//! Who may look ahead: be assigned before its inputs have finished, once each is assigned itself.
//!
//! A task and its input do so together: the input says at its assignment that it will be there
//! (`announce`), and the dependent counts it as met. Files that an input leaves behind cannot be promised: such
//! inputs are met when they have finished. A program that only follows another goes where that is assigned
//! (`bond`), as nobody but its worker knows when it ends.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::core::addition::Addition;
use crate::core::graph::{Facts, Graph};
use crate::core::id::{OptionsId, Rank, TaskId};
use crate::core::task::{Body, Operation, TaskOptions};

use super::growth::function_of;
use super::machine::Scheduler;
use super::placement::look_at;
use super::tasks::{Marks, TaskState};

/// What of it can be said once for all tasks of an operation or of a set of options.
#[derive(Debug)]
pub struct Ahead {
    /// By operation: true if all that it leaves behind is its value.
    gives_value_only: Vec<bool>,
    /// By operation: true if it is run by a worker and looks at no files.
    takes_values_only: Vec<bool>,
    /// By operation: true if it is a program.
    is_program: Vec<bool>,
    /// By options: true if one worker runs it.
    is_of_one_node: Vec<bool>,
    /// Functions that were seen to leave their output to others: who waits for them need not set out early.
    hand_on: BTreeSet<String>,
}

impl Ahead {
    /// What a graph's operations and options allow.
    pub fn of(graph: &Graph) -> Self {
        let columns = graph.columns();
        let runs = |body: &Body| !matches!(body, Body::Join);
        let operations = || columns.operations.iter();
        Ahead {
            gives_value_only: operations().map(|it| runs(&it.body) && it.outputs.is_empty()).collect(),
            takes_values_only: operations().map(|it| runs(&it.body) && it.inputs.is_empty()).collect(),
            is_program: operations().map(is_program).collect(),
            is_of_one_node: columns.options.iter().map(|options| options.several_nodes().is_none()).collect(),
            hand_on: BTreeSet::new(),
        }
    }

    /// How many operations are known.
    pub fn operation_count(&self) -> u32 {
        self.gives_value_only.len() as u32
    }

    /// A task has left its output to others; such tasks often do so again.
    pub fn hands_on(&mut self, graph: &Graph, task: TaskId) {
        self.gives_value_only[graph.operation_id(task).index()] = false;
        if let Some(function) = function_of(&graph.operation(task).body)
            && !self.hand_on.contains(function)
        {
            self.hand_on.insert(function.to_owned());
        }
    }

    /// Adds what submitted tasks do, and how.
    pub fn learn(&mut self, addition: &Addition) {
        for operation in addition.operations.iter().map(Arc::as_ref) {
            let Operation { body, outputs, inputs } = operation;
            let hands_on = function_of(body).is_some_and(|function| self.hand_on.contains(function));
            let runs = !matches!(body, Body::Join);
            self.gives_value_only.push(runs && outputs.is_empty() && !hands_on);
            self.takes_values_only.push(runs && inputs.is_empty());
            self.is_program.push(is_program(operation));
        }
        addition.options.iter().for_each(|options| self.learn_options(options));
    }

    /// Adds a set of options.
    pub fn learn_options(&mut self, options: &TaskOptions) {
        self.is_of_one_node.push(options.several_nodes().is_none());
    }

    /// True if dependents may be assigned before the task has finished.
    pub fn lets_ahead(&self, task: &Facts<'_>) -> bool {
        self.gives_value_only[task.operation.index()]
    }

    /// True if the task may be assigned before its inputs have finished.
    pub fn goes_ahead(&self, task: &Facts<'_>) -> bool {
        let operation = task.operation.index();
        self.takes_values_only[operation]
            && self.is_of_one_node[task.options.index()]
            && (task.orders.is_empty() || (self.is_program[operation] && task.orders.taken_len() == 1))
    }

    /// True if one worker runs tasks with these options.
    pub fn is_of_one_node(&self, options: OptionsId) -> bool {
        self.is_of_one_node[options.index()]
    }
}

/// Only the queue of heavy tasks knows how to wait for an end that gives nothing.
fn is_program(operation: &Operation) -> bool {
    matches!(operation.body, Body::Command(_))
}

/// Where a task must go that only follows another one, as that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// The other one.
    pub input: TaskId,
    /// Its worker.
    pub worker: Rank,
}

impl Scheduler {
    /// What a ready task is bound to.
    #[inline]
    pub(super) fn bond(&self, task: &Facts<'_>) -> Option<Bond> {
        if task.orders.is_empty() { None } else { self.bond_of(task) }
    }

    #[cold]
    fn bond_of(&self, task: &Facts<'_>) -> Option<Bond> {
        if task.orders.taken_len() > 1 {
            return None;
        }
        let input = task.orders.iter().find(|&input| self.state(input).is_active())?;
        Some(Bond { input, worker: self.tasks.worker.get(input) })
    }

    /// A task that is bound to another waits for its end, at that one's worker or here.
    pub(super) fn note_follower(&mut self, task: TaskId, bond: Bond) {
        self.followers.entry(bond.input).or_default().push(task);
    }

    /// A task has ended well: those that followed it may start where they are, and ask for what they take, or go
    /// anywhere.
    #[inline]
    pub(super) fn set_followers_free(&mut self, input: TaskId) {
        if !self.followers.is_empty() {
            self.set_free_behind(input);
        }
    }

    fn set_free_behind(&mut self, input: TaskId) {
        for task in self.followers.remove(&input).unwrap_or_default() {
            let facts = self.graph.facts(task);
            let (options, is_ready) = (facts.options, self.is_ready_by(task, &facts));
            let waits_for_values = look_at(facts.values, &self.tasks).are_ahead;
            if is_ready {
                self.enqueue(task, options);
            } else if self.state(task).is_active()
                && !waits_for_values
                && self.tasks.unmark(task, Marks::AHEAD)
            {
                self.workers.charge(self.tasks.worker.get(task), self.ready.class(options));
            }
        }
    }

    /// True if a waiting task need not wait for this input. An input that nobody needs was there before the
    /// run was resumed.
    pub(super) fn is_met(&self, dependent: TaskId, input: TaskId) -> bool {
        matches!(self.state(input), TaskState::Finished | TaskState::Culled)
            || (self.tasks.has(input, Marks::ANNOUNCED)
                && self.ahead.goes_ahead(&self.graph.facts(dependent)))
    }

    /// A task was assigned: dependents that look ahead need not wait for it any more.
    pub(super) fn announce(&mut self, task: TaskId) {
        let graph = Arc::clone(&self.graph);
        let mut are_all_told = true;
        for dependent in graph.dependents(task) {
            let facts = graph.facts(dependent);
            let goes_ahead = self.ahead.goes_ahead(&facts);
            are_all_told &= goes_ahead;
            if goes_ahead && self.state(dependent) == TaskState::Waiting {
                self.meet(dependent, &facts);
            }
        }
        let known = if are_all_told { Marks::KNOWN } else { Marks::NONE };
        self.tasks.mark(task, Marks::ANNOUNCED | known);
    }

    /// An assigned task goes back: dependents wait for it again. Those that were assigned ahead of it come
    /// back by themselves, as their workers learn of it.
    pub(super) fn revoke_announcement(&mut self, task: TaskId) {
        if !self.tasks.unmark(task, Marks::ANNOUNCED | Marks::KNOWN) {
            return;
        }
        if !self.followers.is_empty() {
            // They are ready again once it is announced again, or come back by themselves.
            self.followers.remove(&task);
        }
        let graph = Arc::clone(&self.graph);
        for dependent in graph.dependents(task) {
            let is_concerned =
                self.state(dependent) == TaskState::Waiting && self.ahead.goes_ahead(&graph.facts(dependent));
            if is_concerned {
                self.tasks.met.set(dependent, self.tasks.met.get(dependent) - 1);
            }
        }
    }

    /// Counts the inputs that a task which came back need not wait for.
    pub(super) fn count_met(&mut self, task: TaskId) {
        let graph = Arc::clone(&self.graph);
        let met = graph.inputs(task).filter(|&input| self.is_met(task, input)).count();
        self.tasks.met.set(task, met as u32);
    }
}
