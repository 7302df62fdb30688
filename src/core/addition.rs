//! Tasks that a running task submits, and what it becomes itself: how a graph grows.
//!
//! A task may end without an output and leave it to others: it becomes another task, under its own name,
//! that takes the outputs of those. Whoever needs its output waits for that, and everything that can happen
//! to tasks (loss, retries, failures upstream) happens to it as to any other.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::{OperationId, OptionsId, TaskId};
use super::task::{Body, Operation, TaskOptions};

/// What a task leaves its output to. Operations, options and names are shared by tasks that have the same.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Addition {
    /// The distinct operations.
    pub operations: Vec<Arc<Operation>>,
    /// The distinct options.
    pub options: Vec<Arc<TaskOptions>>,
    /// The distinct names of new tasks, without the number that tells those of one name apart.
    pub names: Vec<String>,
    /// The new tasks, each behind those that it takes.
    pub tasks: Vec<NewTask>,
    /// What the submitting task becomes.
    pub becomes: Work,
}

/// A task that is submitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTask {
    /// Which of the names it has.
    pub name: u32,
    /// What it does.
    pub work: Work,
}

/// What a task does, under which options, with whose outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Which of the operations.
    pub operation: u32,
    /// Which of the options.
    pub options: u32,
    /// The tasks whose values it takes, by position, each once.
    pub values: Vec<Source>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// From the n-th new task.
    New(u32),
    /// From the n-th task whose value the submitting task took itself. So does who submits say it, who
    /// need not know of ids.
    Taken(u32),
    /// The same by id, as it is recorded.
    Known(TaskId),
}

/// A task as it was submitted, or has become: a row that its graph did not begin with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grown {
    /// Which of the task's rows it is: a later one takes the place of an earlier one.
    pub version: u32,
    /// Who submitted it; none if it stood in the graph from the beginning.
    pub origin: Option<Origin>,
    /// How many tasks it has submitted so far.
    pub submitted: u32,
    /// What it does.
    pub operation: Arc<Operation>,
    /// The number of that, behind those of the operations that the graph began with.
    pub operation_id: OperationId,
    /// How it runs.
    pub options: Arc<TaskOptions>,
    /// The number of that, likewise.
    pub options_id: OptionsId,
    /// The tasks whose values it takes, by position.
    pub values: Vec<u32>,
    /// The tasks that it waits for besides, if it stood in the graph and only its options have changed.
    pub orders: Vec<u32>,
}

/// The numbers from which on new things are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbering {
    /// New tasks.
    pub task: TaskId,
    /// New operations.
    pub operation: OperationId,
    /// New options.
    pub options: OptionsId,
    /// The tasks that were submitted by the same task before.
    pub submitted: u32,
    /// The row that the submitting task gets.
    pub version: u32,
}

/// Where a submitted task comes from, which gives it its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Who submitted it.
    pub by: TaskId,
    /// The task of the graph as it began that this leads back to.
    pub root: TaskId,
    /// What it is called there.
    pub name: String,
    /// Which of all tasks it is that were submitted there.
    pub number: u32,
}

/// Why tasks cannot be submitted. Completes "`task` failed: ".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdditionError {
    /// The graph would have more tasks than can be numbered.
    TooManyTasks,
    /// A task that no worker is large enough for: its name.
    TooLarge(String),
    /// A task that asks for several nodes, or is none that workers run: its name.
    Unfit(String),
    /// The addition contradicts itself; only damaged data does that. Says how.
    Inconsistent(&'static str),
}

impl fmt::Display for AdditionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdditionError::TooManyTasks => write!(out, "it submitted more tasks than a graph can have"),
            AdditionError::TooLarge(name) => {
                write!(out, "it submitted `{name}`, which asks for more than any worker has")
            }
            AdditionError::Unfit(name) => {
                write!(out, "it submitted `{name}`, which is not run by one worker: only such tasks can be")
            }
            AdditionError::Inconsistent(how) => write!(out, "what it submitted is damaged: {how}"),
        }
    }
}

impl std::error::Error for AdditionError {}

impl Addition {
    /// Names the tasks that the submitting task took by id; `taken` are they by position.
    pub fn resolve(&mut self, taken: &[TaskId]) {
        let works = self.tasks.iter_mut().map(|task| &mut task.work).chain([&mut self.becomes]);
        for source in works.flat_map(|work| &mut work.values) {
            if let Source::Taken(place) = *source
                && let Some(task) = taken.get(place as usize)
            {
                *source = Source::Known(*task);
            }
        }
    }

    /// Refuses what would be no valid graph together with the task that takes `taken` now, or could not
    /// be numbered from `first` on. It was resolved.
    pub fn check(&self, first: usize, taken: &[TaskId]) -> Result<(), AdditionError> {
        let taken: BTreeSet<TaskId> = taken.iter().copied().collect();
        // The greatest number stands for "none" in places.
        if first.saturating_add(self.tasks.len()) >= u32::MAX as usize {
            return Err(AdditionError::TooManyTasks);
        }
        for (place, task) in self.tasks.iter().enumerate() {
            let name = self.names.get(task.name as usize);
            let name = name.ok_or(AdditionError::Inconsistent("a task without a name"))?;
            self.check_work(&task.work, place, name, &taken)?;
        }
        self.check_work(&self.becomes, self.tasks.len(), "what it becomes", &taken)
    }

    fn check_work(
        &self,
        work: &Work,
        place: usize,
        name: &str,
        taken: &BTreeSet<TaskId>,
    ) -> Result<(), AdditionError> {
        let operation = self.operations.get(work.operation as usize);
        let operation = operation.ok_or(AdditionError::Inconsistent("a task without an operation"))?;
        let options = self.options.get(work.options as usize);
        let options = options.ok_or(AdditionError::Inconsistent("a task without options"))?;
        if matches!(operation.body, Body::Join) || options.several_nodes().is_some() {
            return Err(AdditionError::Unfit(name.to_owned()));
        }
        let mut seen = BTreeSet::new();
        for source in &work.values {
            let (is_there, key) = match *source {
                Source::New(number) => ((number as usize) < place, (true, number)),
                Source::Known(task) => (taken.contains(&task), (false, task.0)),
                Source::Taken(_) => (false, (false, 0)),
            };
            if !is_there {
                return Err(AdditionError::Inconsistent("a task takes what is not there before it"));
            }
            if !seen.insert(key) {
                return Err(AdditionError::Inconsistent("a task takes a value twice"));
            }
        }
        Ok(())
    }

    /// Adds the priority of the submitting task to those of all that it submits: theirs count among
    /// themselves.
    pub fn raise(&mut self, priority: i32) {
        for options in self.options.iter_mut().filter(|_| priority != 0) {
            let options = Arc::make_mut(options);
            options.priority = options.priority.saturating_add(priority);
        }
    }

    /// The name of a new task.
    pub fn name_of(&self, task: &NewTask) -> &str {
        self.names.get(task.name as usize).map_or("", String::as_str)
    }

    /// The rows that follow: those of the new tasks, and that of the submitting task `by`, of which
    /// `before` is any earlier row.
    pub fn rows(&self, numbering: Numbering, by: TaskId, before: Option<&Grown>) -> (Vec<Grown>, Grown) {
        let origin = before.and_then(|row| row.origin.clone());
        let root = origin.as_ref().map_or(by, |origin| origin.root);
        let rows = (numbering.submitted..).zip(&self.tasks).map(|(number, task)| {
            let origin = Origin { by, root, name: self.name_of(task).to_owned(), number };
            self.row(numbering, &task.work, Some(origin), (0, 0))
        });
        let submitted = numbering.submitted.saturating_add(self.tasks.len() as u32);
        (rows.collect(), self.row(numbering, &self.becomes, origin, (numbering.version, submitted)))
    }

    fn row(
        &self,
        numbering: Numbering,
        work: &Work,
        origin: Option<Origin>,
        (version, submitted): (u32, u32),
    ) -> Grown {
        let id = |source: &Source| match *source {
            Source::New(number) => numbering.task.0 + number,
            Source::Known(task) => task.0,
            Source::Taken(_) => unreachable!("additions are resolved before they are checked"),
        };
        Grown {
            version,
            origin,
            submitted,
            operation: self.operations[work.operation as usize].clone(),
            operation_id: OperationId(numbering.operation.0 + work.operation),
            options: self.options[work.options as usize].clone(),
            options_id: OptionsId(numbering.options.0 + work.options),
            values: work.values.iter().map(id).collect(),
            orders: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::task::Call;

    fn addition(tasks: &[&[Source]], becomes: &[Source]) -> Addition {
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let work = |values: &[Source]| Work { values: values.to_vec(), ..Work::default() };
        Addition {
            operations: vec![Arc::new(Operation { body, inputs: vec![], outputs: vec![] })],
            options: vec![Arc::default()],
            names: vec!["part".to_owned()],
            tasks: tasks.iter().map(|values| NewTask { name: 0, work: work(values) }).collect(),
            becomes: work(becomes),
        }
    }

    #[test]
    fn a_task_takes_only_what_stands_before_it() {
        let known = Source::Known(TaskId(3));
        let check = |addition: Addition| addition.check(10, &[TaskId(3)]);
        assert_eq!(check(addition(&[&[], &[Source::New(0), known]], &[Source::New(1)])), Ok(()));
        let not_there = Err(AdditionError::Inconsistent("a task takes what is not there before it"));
        assert_eq!(check(addition(&[&[Source::New(0)]], &[])), not_there);
        assert_eq!(check(addition(&[], &[Source::New(0)])), not_there);
        assert_eq!(check(addition(&[], &[Source::Known(TaskId(4))])), not_there);
        let twice = Err(AdditionError::Inconsistent("a task takes a value twice"));
        assert_eq!(check(addition(&[], &[known, known])), twice);
    }

    #[test]
    fn tasks_that_cannot_be_numbered_are_refused() {
        let two = addition(&[&[], &[]], &[]);
        assert_eq!(two.check(u32::MAX as usize - 3, &[]), Ok(()));
        assert_eq!(two.check(u32::MAX as usize - 2, &[]), Err(AdditionError::TooManyTasks));
    }

    #[test]
    fn what_a_task_submits_is_numbered_on_when_it_submits_again() {
        let first = addition(&[&[], &[Source::New(0)]], &[Source::New(1)]);
        let (operation, options) = (OperationId(7), OptionsId(5));
        let from = |task, submitted, version| {
            let task = TaskId(task);
            Numbering { task, operation, options, submitted, version }
        };
        let (rows, becomes) = first.rows(from(10, 0, 0), TaskId(3), None);
        assert_eq!((&rows[1].values[..], &becomes.values[..]), (&[10][..], &[11][..]));
        let (again, second) = first.rows(from(12, becomes.submitted, 1), TaskId(3), Some(&becomes));
        let numbers = |rows: &[Grown]| -> Vec<u32> {
            rows.iter().filter_map(|row| Some(row.origin.as_ref()?.number)).collect()
        };
        assert_eq!((numbers(&rows), numbers(&again)), (vec![0, 1], vec![2, 3]));
        assert_eq!((becomes.version, second.version, second.submitted), (0, 1, 4));
    }
}
