//! Tasks that submit tasks: what the tables learn, and what becomes of the task that did.
//!
//! The attempt is over and its slot free. Its task waits again, under its own name, for the outputs of what
//! it submitted. So nothing that happens to it later is new: it is assigned when its inputs are there,
//! aborted when one of them fails, and made again, with whatever it takes, when its output is lost.

use std::sync::Arc;

use crate::core::addition::{Addition, AdditionError, Grown, NewTask, Numbering};
use crate::core::event::{Cause, Event};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, OperationId, OptionsId, Rank, TaskId};
use crate::core::span::Span;
use crate::core::task::{Body, TaskOptions};
use crate::core::time::{Micros, Timestamp};

use super::machine::{Action, Phase, Scheduler};
use super::tasks::Marks;

/// An attempt that left its output to others.
pub(super) struct HandedOn {
    pub task: TaskId,
    pub attempt: Attempt,
    pub worker: Rank,
    pub started: Timestamp,
    pub ran: Micros,
}

impl Scheduler {
    /// Adds what an attempt submitted. Says why the attempt has failed if that cannot be.
    pub(super) fn grow(
        &mut self,
        by: &HandedOn,
        mut addition: Addition,
        actions: &mut Vec<Action>,
    ) -> Result<(), Cause> {
        if self.phase != Phase::Working {
            return Err(Cause::Stopped);
        }
        let graph = Arc::clone(&self.graph);
        let taken: Vec<TaskId> = graph.value_inputs(by.task).iter().collect();
        let refused = |error: AdditionError| Cause::Function(error.to_string());
        addition.resolve(&taken);
        addition.check(self.task_total(), &taken).map_err(refused)?;
        self.check_room(&addition).map_err(refused)?;
        addition.raise(graph.options(by.task).priority);
        let numbering = self.next_numbering(by.task);
        self.take_from_worker(std::iter::once(by.task));
        self.durations.took(by.task, by.ran);
        self.put_back(by.task);
        self.enter_addition(by.task, numbering, &addition);
        let HandedOn { task, attempt, worker, started, ran } = *by;
        let count = addition.tasks.len() as u32;
        let addition = Box::new(addition);
        actions.push(Action::Record(Event::TasksAdded {
            task,
            attempt,
            worker,
            started,
            ran,
            numbering,
            addition,
        }));
        for task in (Span { first: numbering.task, count }).tasks().chain([task]) {
            self.count_met(task);
            self.settle(task, actions);
        }
        Ok(())
    }

    /// What the tasks that a task submits next are numbered from.
    pub(super) fn next_numbering(&self, by: TaskId) -> Numbering {
        let before = self.graph.grown(by);
        Numbering {
            task: TaskId::from(self.task_total()),
            operation: OperationId(self.ahead.operation_count()),
            options: OptionsId(self.ready.options_count()),
            submitted: before.map_or(0, |row| row.submitted),
            version: before.map_or(0, |row| row.version + 1),
        }
    }

    /// How many tasks the graph has by now.
    pub(super) fn task_total(&self) -> usize {
        self.tasks.state.count()
    }

    /// Adds what a waiting task submitted, which was checked.
    pub(super) fn enter_addition(&mut self, by: TaskId, numbering: Numbering, addition: &Addition) {
        let graph = Arc::clone(&self.graph);
        let (rows, becomes) = addition.rows(numbering, by, graph.grown(by).map(Arc::as_ref));
        self.learn_kinds(&graph, by, addition);
        self.learn_tasks(&graph, (by, becomes), (numbering.task, rows));
    }

    /// Refuses what none of the workers could run: those that will come may be no larger.
    pub(super) fn check_room(&self, addition: &Addition) -> Result<(), AdditionError> {
        let is_too_large = |options: &Arc<TaskOptions>| {
            !self.workers.iter().any(|(_, record)| record.capacity.covers(&options.resources))
        };
        let Some(place) = addition.options.iter().position(is_too_large) else { return Ok(()) };
        let name = |task: &&NewTask| task.work.options as usize == place;
        let task = addition.tasks.iter().find(name);
        let name = task.map_or("what it becomes", |task| addition.name_of(task));
        Err(AdditionError::TooLarge(name.to_owned()))
    }

    /// What can be said once for all tasks of an operation or of a set of options.
    fn learn_kinds(&mut self, graph: &Graph, by: TaskId, addition: &Addition) {
        self.ahead.hands_on(graph, by);
        self.ahead.learn(addition);
        for options in &addition.options {
            self.ready.learn(options);
        }
        self.workers.learn(self.ready.requests());
    }

    /// Enters the new tasks, and what the submitting one becomes. What that took itself and others take on
    /// stays all the while.
    fn learn_tasks(
        &mut self,
        graph: &Graph,
        (by, becomes): (TaskId, Option<Grown>),
        (first, rows): (TaskId, Vec<Grown>),
    ) {
        self.tasks.add(Span { first, count: rows.len() as u32 });
        for &input in rows.iter().chain(&becomes).flat_map(|row| &row.values) {
            match TaskId(input) < first {
                true => self.needed_once_more(TaskId(input)),
                false => self.tasks.consumers.set(TaskId(input), self.tasks.consumers.get(TaskId(input)) + 1),
            }
        }
        if becomes.is_some() {
            self.after_end(by);
            self.tasks.failures.remove(&by);
        }
        let priority = graph.options(by).priority;
        for (task, row) in (first.0..).map(TaskId).zip(rows) {
            self.urgency.learn(task, row.options.priority, (by, priority));
            self.learn_row(graph, task, row);
        }
        if let Some(becomes) = becomes {
            if becomes.options.priority != priority {
                self.urgency.learn(by, becomes.options.priority, (by, priority));
            }
            self.learn_row(graph, by, becomes);
        }
    }

    fn learn_row(&mut self, graph: &Graph, task: TaskId, row: Grown) {
        self.durations.learn(task, &row.operation, &row.options);
        graph.learn(task, Arc::new(row));
        let facts = graph.facts(task);
        if !self.ahead.goes_ahead(&facts) {
            // Not everybody who takes these looks ahead any more.
            for input in facts.values {
                self.tasks.unmark(input, Marks::KNOWN);
            }
        }
    }
}

/// The function that a task calls, if it calls one.
pub(super) fn function_of(body: &Body) -> Option<&str> {
    match body {
        Body::Call(call) => Some(&call.function),
        Body::Command(_) | Body::Python(_) | Body::Pickled(_) | Body::PickledCall(_) | Body::Join => None,
    }
}
