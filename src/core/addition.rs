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
    /// What the submitting task becomes; nothing if it is a client's, which goes on.
    pub becomes: Option<Work>,
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
    /// Which of the calls that were pickled together, if the operation is such.
    pub place: u32,
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
    /// Which of the calls that were pickled together, if the operation is such.
    pub place: u32,
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
    /// Some of its tasks need each other: the name of one of them.
    Cyclic(String),
    /// The run is being ended.
    TooLate,
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
            AdditionError::Cyclic(name) => write!(out, "it submitted `{name}`, which depends on itself"),
            AdditionError::TooLate => write!(out, "it submitted tasks to a run that is being ended"),
            AdditionError::Inconsistent(how) => write!(out, "what it submitted is damaged: {how}"),
        }
    }
}

impl std::error::Error for AdditionError {}

impl Addition {
    /// Names the tasks that the submitting task took by id; `taken` are they by position.
    pub fn resolve(&mut self, taken: &[TaskId]) {
        let works = self.tasks.iter_mut().map(|task| &mut task.work).chain(&mut self.becomes);
        for source in works.flat_map(|work| &mut work.values) {
            if let Source::Taken(place) = *source
                && let Some(task) = taken.get(place as usize)
            {
                *source = Source::Known(*task);
            }
        }
    }

    /// Refuses what would be no valid graph together with a task that takes `taken` now, or could not
    /// be numbered from `first` on. It was resolved.
    pub fn check(&self, first: usize, taken: &[TaskId]) -> Result<(), AdditionError> {
        let taken: BTreeSet<TaskId> = taken.iter().copied().collect();
        if self.becomes.is_none() {
            return Err(AdditionError::Inconsistent("a task that becomes nothing"));
        }
        self.check_with(first, |task| taken.contains(&task))
    }

    /// The same for what a client submits, who may take all that was there before `first`.
    pub fn check_of_client(&self, first: usize) -> Result<(), AdditionError> {
        if self.becomes.is_some() {
            return Err(AdditionError::Inconsistent("a client that becomes a task"));
        }
        self.check_with(first, |task| task.index() < first)
    }

    fn check_with(&self, first: usize, is_taken: impl Fn(TaskId) -> bool) -> Result<(), AdditionError> {
        // The greatest number stands for "none" in places.
        if first.saturating_add(self.tasks.len()) >= u32::MAX as usize {
            return Err(AdditionError::TooManyTasks);
        }
        for (place, task) in self.tasks.iter().enumerate() {
            let name = self.names.get(task.name as usize);
            let name = name.ok_or(AdditionError::Inconsistent("a task without a name"))?;
            self.check_work(&task.work, place, name, &is_taken)?;
        }
        match &self.becomes {
            Some(becomes) => self.check_work(becomes, self.tasks.len(), "what it becomes", &is_taken),
            None => Ok(()),
        }
    }

    fn check_work(
        &self,
        work: &Work,
        place: usize,
        name: &str,
        is_taken: &impl Fn(TaskId) -> bool,
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
                Source::Known(task) => (is_taken(task), (false, task.0)),
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

    /// Puts the new tasks into the order of a walk from the exits down, input by input: what follows from
    /// that runs before the next branch is begun, so that few outputs are there at once. Says the place that
    /// each task has then, by its place before. Tasks may stand before those that they take, until then.
    pub fn put_depth_first(&mut self) -> Result<Vec<u32>, AdditionError> {
        let order = self.depth_first()?;
        let mut places = vec![0; order.len()];
        for (place, &task) in (0..).zip(&order) {
            places[task as usize] = place;
        }
        let mut tasks: Vec<Option<NewTask>> = std::mem::take(&mut self.tasks).into_iter().map(Some).collect();
        self.tasks.extend(order.iter().filter_map(|&task| tasks[task as usize].take()));
        for source in self.tasks.iter_mut().flat_map(|task| &mut task.work.values) {
            if let Source::New(number) = source {
                *number = places[*number as usize];
            }
        }
        Ok(places)
    }

    fn depth_first(&self) -> Result<Vec<u32>, AdditionError> {
        let count = self.tasks.len();
        let inputs = |task: u32| {
            self.tasks[task as usize].work.values.iter().filter_map(|source| match *source {
                Source::New(number) => Some(number),
                Source::Known(_) | Source::Taken(_) => None,
            })
        };
        let mut is_taken = vec![false; count];
        for number in (0..count as u32).flat_map(&inputs) {
            let taken = is_taken.get_mut(number as usize);
            *taken.ok_or(AdditionError::Inconsistent("a task takes what is not there"))? = true;
        }
        let mut order = Vec::with_capacity(count);
        // Entered, and behind all that it takes.
        let (mut is_entered, mut is_placed) = (vec![false; count], vec![false; count]);
        for exit in (0..count as u32).filter(|&task| !is_taken[task as usize]) {
            let mut way = vec![exit];
            while let Some(&task) = way.last() {
                if !std::mem::replace(&mut is_entered[task as usize], true) {
                    let first = way.len();
                    way.extend(inputs(task).filter(|&input| !is_placed[input as usize]));
                    way[first..].reverse();
                    if way[first..].iter().any(|&input| is_entered[input as usize]) {
                        return Err(self.cyclic(task));
                    }
                    continue;
                }
                way.pop();
                if !std::mem::replace(&mut is_placed[task as usize], true) {
                    order.push(task);
                }
            }
        }
        match is_placed.iter().position(|is_placed| !is_placed) {
            Some(task) => Err(self.cyclic(task as u32)),
            None => Ok(order),
        }
    }

    fn cyclic(&self, task: u32) -> AdditionError {
        AdditionError::Cyclic(self.name_of(&self.tasks[task as usize]).to_owned())
    }

    /// The name of a new task.
    pub fn name_of(&self, task: &NewTask) -> &str {
        self.names.get(task.name as usize).map_or("", String::as_str)
    }

    /// The rows that follow: those of the new tasks, and that of the submitting task `by`, if it becomes
    /// another; `before` is any earlier row of it.
    pub fn rows(
        &self,
        numbering: Numbering,
        by: TaskId,
        before: Option<&Grown>,
    ) -> (Vec<Grown>, Option<Grown>) {
        let origin = before.and_then(|row| row.origin.clone());
        let root = origin.as_ref().map_or(by, |origin| origin.root);
        let rows = (numbering.submitted..).zip(&self.tasks).map(|(number, task)| {
            let origin = Origin { by, root, name: self.name_of(task).to_owned(), number };
            self.row(numbering, &task.work, Some(origin), (0, 0))
        });
        let submitted = numbering.submitted.saturating_add(self.tasks.len() as u32);
        let becomes = self.becomes.as_ref();
        let becomes = becomes.map(|work| self.row(numbering, work, origin, (numbering.version, submitted)));
        (rows.collect(), becomes)
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
            place: work.place,
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
            becomes: Some(work(becomes)),
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
    fn one_branch_is_done_before_the_next_is_begun() {
        let new = Source::New;
        // A sum of two sums, each of two; the first task is the sum of all.
        let mut sums =
            addition(&[&[new(1), new(2)], &[new(3), new(4)], &[new(5), new(6)], &[], &[], &[], &[]], &[]);
        assert_eq!(sums.put_depth_first(), Ok(vec![6, 2, 5, 0, 1, 3, 4]));
        let values: Vec<&[Source]> = sums.tasks.iter().map(|task| &task.work.values[..]).collect();
        assert_eq!(values[2..], [&[new(0), new(1)][..], &[], &[], &[new(3), new(4)], &[new(2), new(5)]]);
        assert_eq!(sums.put_depth_first(), Ok((0..7).collect()), "what is in order stays as it is");
    }

    #[test]
    fn a_long_chain_is_ordered_and_a_ring_refused() {
        let inputs: Vec<[Source; 1]> = (1..100_000).map(|number| [Source::New(number)]).collect();
        let mut tasks: Vec<&[Source]> = inputs.iter().map(|input| &input[..]).collect();
        tasks.push(&[]);
        assert_eq!(addition(&tasks, &[]).put_depth_first(), Ok((0..100_000).rev().collect()));
        let ring = [Source::New(0)];
        *tasks.last_mut().unwrap() = &ring;
        let refused = Err(AdditionError::Cyclic("part".to_owned()));
        assert_eq!(addition(&tasks, &[]).put_depth_first(), refused);
        tasks.push(&ring);
        assert_eq!(addition(&tasks, &[]).put_depth_first(), refused, "also if something takes from it");
        assert!(addition(&[&[Source::New(3)]], &[]).put_depth_first().is_err());
        let diamond: [&[Source]; 4] =
            [&[Source::New(1), Source::New(2)], &[Source::New(3)], &[Source::New(3)], &[]];
        assert_eq!(addition(&diamond, &[]).put_depth_first(), Ok(vec![3, 1, 2, 0]));
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
        let becomes = becomes.expect("it becomes another");
        assert_eq!((&rows[1].values[..], &becomes.values[..]), (&[10][..], &[11][..]));
        let (again, second) = first.rows(from(12, becomes.submitted, 1), TaskId(3), Some(&becomes));
        let second = second.expect("it becomes another");
        let numbers = |rows: &[Grown]| -> Vec<u32> {
            rows.iter().filter_map(|row| Some(row.origin.as_ref()?.number)).collect()
        };
        assert_eq!((numbers(&rows), numbers(&again)), (vec![0, 1], vec![2, 3]));
        assert_eq!((becomes.version, second.version, second.submitted), (0, 1, 4));
    }
}
