//! What earlier lives of a run left: its events, folded into what its next life must know.
//!
//! A run whose processes ended is begun again as a scheduler that knows this. What was durable is
//! finished; whatever else is needed waits, as in the beginning.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::core::addition::{Addition, Numbering};
use crate::core::column::{Column, Entry};
use crate::core::edit::Edit;
use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};

use super::culprits::{Killing, PastKillings};

/// No task is tried as often, and no run has as many lives: numbers beyond this were never given out, and
/// behind the last there must be room for further ones.
const ATTEMPT_MAX: Attempt = Attempt(u32::MAX / 2);

/// How far a task was known to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Known {
    /// It has not ended well, or what it gave is lost.
    #[default]
    Open,
    /// It ran to success.
    Finished,
    /// Its output is in the run directory besides.
    Durable,
    /// Its files were there before the run; its value is not.
    Skipped,
}

impl Entry for Known {
    type Raw = u8;

    fn of(raw: u8) -> Self {
        [Known::Open, Known::Finished, Known::Durable, Known::Skipped][usize::from(raw)]
    }

    fn raw(self) -> u8 {
        self as u8
    }
}

/// What a task has become.
#[derive(Clone, Debug)]
pub(super) enum Became {
    /// One that takes what it submitted.
    Another(Box<Addition>),
    /// One with so many bytes of memory.
    Larger(u64),
}

/// What a run did so far. Feed it every event, in the order of the journal.
#[derive(Debug)]
pub struct Past {
    graph: Arc<Graph>,
    lives: u32,
    is_under_way: bool,
    pub(super) known: Column<Known>,
    /// The latest try that may have begun.
    attempt: Column<Attempt>,
    pub(super) size_bytes: Column<f32>,
    pub(super) file_sizes: BTreeMap<TaskId, Vec<u64>>,
    pub(super) additions: Vec<(TaskId, Numbering, Became)>,
    /// Tasks that the graph has after these additions.
    task_count: usize,
    /// True if some of them are joins, of which there is nothing to tell.
    has_joins: bool,
    /// The latest try that left a trace and is not told of by any event: of tasks that were submitted, and are
    /// lost with those events, and of those of which an earlier try is durable.
    pub(super) unseen: BTreeMap<TaskId, Attempt>,
    /// What killed ranks.
    pub(super) killings: PastKillings,
}

/// Why a run cannot go on from its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastError {
    /// The task that the events tell something of that cannot be; none if it is the run as a whole.
    pub task: Option<TaskId>,
    /// What it is.
    pub why: String,
}

impl std::fmt::Display for PastError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.task {
            Some(task) => write!(out, "what it tells of task {task} cannot be: {}", self.why),
            None => write!(out, "what it tells of the run cannot be: {}", self.why),
        }
    }
}

impl std::error::Error for PastError {}

impl Past {
    /// Nothing has happened yet to the tasks of a graph that has not grown.
    pub fn new(graph: Arc<Graph>) -> Self {
        let count = graph.len();
        Past {
            lives: 0,
            is_under_way: false,
            known: Column::new(count),
            attempt: Column::new(count),
            size_bytes: Column::new(count),
            file_sizes: BTreeMap::new(),
            additions: Vec::new(),
            task_count: count,
            unseen: BTreeMap::new(),
            killings: PastKillings::default(),
            has_joins: graph.has_joins(),
            graph,
        }
    }

    /// The graph, as it began.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// How many lives the run has had.
    pub fn lives(&self) -> u32 {
        self.lives
    }

    /// True once a task may have run, or once it was told which ones need not.
    pub fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    /// Takes in one event more. An error says that the events do not belong to the graph.
    pub fn on_event(&mut self, event: &Event) -> Result<(), PastError> {
        self.killings.on_event(event);
        match event {
            Event::RunStarted { .. } => self.lives = 1,
            Event::RunResumed { life, to_do } => {
                if *life > ATTEMPT_MAX.0 {
                    return Err(PastError { task: None, why: format!("it had {life} lives") });
                }
                for task in to_do.iter().flat_map(|span| span.tasks()) {
                    self.check(task)?;
                    self.attempt.set(task, self.last_attempt(task).next());
                    self.known.set(task, Known::Open);
                }
                self.lives = *life;
            }
            Event::TasksFinished { batch, .. } => {
                if !batch.is_whole() {
                    return Err(PastError {
                        task: None,
                        why: "more tasks ended than it has times of".to_owned(),
                    });
                }
                for (task, _, _, size_bytes) in batch.timings() {
                    self.saw(task, batch.attempt)?;
                    self.known.set(task, Known::Finished);
                    self.size_bytes.set(task, size_bytes as f32);
                }
                for (task, sizes) in &batch.file_sizes {
                    self.check(*task)?;
                    self.file_sizes.insert(*task, sizes.clone());
                }
            }
            Event::TasksDurable { attempt, tasks, .. } => {
                for task in tasks.iter().flat_map(|span| span.tasks()) {
                    self.check(task)?;
                    if self.attempt.get(task) == *attempt && self.known.get(task) == Known::Finished {
                        self.known.set(task, Known::Durable);
                    }
                }
            }
            Event::TasksSkipped { tasks } => {
                self.is_under_way = true;
                for task in tasks.iter().flat_map(|span| span.tasks()) {
                    self.check(task)?;
                    self.known.set(task, Known::Skipped);
                }
            }
            Event::OutputLost { task } => {
                self.check(*task)?;
                self.attempt.set(*task, self.attempt.get(*task).next());
                self.known.set(*task, Known::Open);
            }
            Event::AttemptFailed { task, attempt, retried: true, .. } => {
                self.saw(*task, *attempt)?;
                self.saw(*task, attempt.next())?;
            }
            Event::TaskStarted { task, attempt, .. }
            | Event::AttemptFailed { task, attempt, .. }
            | Event::MultiNodeAssigned { task, attempt, .. }
            | Event::TaskBound { task, attempt, .. } => self.saw(*task, *attempt)?,
            Event::TasksAdded { task, attempt, numbering, addition, .. } => {
                self.saw(*task, *attempt)?;
                self.grow(*task, *numbering, addition)?;
            }
            Event::TasksSubmitted { client, numbering, addition } => {
                self.check(*client)?;
                self.is_under_way = true;
                self.grow(*client, *numbering, addition)?;
            }
            Event::MemorySet { task, numbering, memory_bytes } => {
                self.check(*task)?;
                self.additions.push((*task, *numbering, Became::Larger(*memory_bytes)));
            }
            Event::GraphEdited(_) => {
                let why = "it goes on with another graph, which is not at hand".to_owned();
                return Err(PastError { task: None, why });
            }
            Event::WorkerJoined { .. }
            | Event::WorkerLost { .. }
            | Event::WorkerLeft { .. }
            | Event::TaskAborted { .. }
            | Event::TaskCancelled { .. }
            | Event::RunStopping { .. }
            | Event::RunFinished { .. } => {}
        }
        Ok(())
    }

    /// Takes in that the run goes on with another graph, which has not grown: what was carried over keeps all that is
    /// known of it, also what it killed, and of what has changed only the numbers of its tries are taken.
    ///
    /// Tasks that were submitted do not belong to any graph as it began, and are forgotten; so is what tasks were
    /// given of memory.
    pub fn on_edit(&mut self, edit: &Edit, graph: Arc<Graph>) -> Result<(), PastError> {
        let checked = edit.check(self.graph.len(), graph.len());
        checked.map_err(|why| PastError { task: None, why: why.to_owned() })?;
        let killings = self.killings.carried(edit);
        let Past { lives, is_under_way, .. } = *self;
        let mut next = Past { lives, is_under_way, killings, ..Past::new(graph) };
        for (from, to) in edit.carried.iter().flat_map(|tasks| tasks.tasks()) {
            next.known.set(to, self.known.get(from));
            next.attempt.set(to, self.attempt.get(from));
            next.size_bytes.set(to, self.size_bytes.get(from));
            if let Some(sizes) = self.file_sizes.remove(&from) {
                next.file_sizes.insert(to, sizes);
            }
        }
        for (from, to) in edit.changed.iter().flat_map(|tasks| tasks.tasks()) {
            next.attempt.set(to, self.attempt.get(from));
        }
        *self = next;
        Ok(())
    }

    /// The tasks that submitted others, in the order in which they did.
    pub fn submitters(&self) -> impl Iterator<Item = TaskId> + '_ {
        let has_submitted = |(by, _, became): &(TaskId, Numbering, Became)| match became {
            Became::Another(_) => Some(*by),
            Became::Larger(_) => None,
        };
        self.additions.iter().filter_map(has_submitted)
    }

    /// A try has left something in the run directory, whether the events tell of it or not. To be said after
    /// the last event: no number is given out twice.
    pub fn on_trace(&mut self, task: TaskId, attempt: Attempt) {
        if attempt > ATTEMPT_MAX {
            return;
        }
        let is_known = task.index() < self.task_count;
        if is_known && attempt <= self.attempt.get(task) {
            return;
        }
        if is_known && self.known.get(task) != Known::Durable {
            return self.attempt.set(task, attempt);
        }
        let latest = self.unseen.entry(task).or_insert(attempt);
        *latest = attempt.max(*latest);
    }

    /// A rank has left these last words. To be said after the last event. False if the events tell of no such
    /// task: nobody can be blamed then.
    pub fn on_last_words(&mut self, killing: Killing) -> bool {
        let Killing { task, attempt, .. } = killing;
        let is_join = self.has_joins && self.graph.began_with(task) && self.graph.is_join(task);
        let is_known = task.index() < self.task_count && attempt <= ATTEMPT_MAX && !is_join;
        if is_known {
            self.killings.enter(killing, false);
        }
        self.on_trace(task, attempt);
        is_known
    }

    /// The number of the last try before the next life, at least that of the life: a try that left nothing
    /// and was not told of has no trace.
    pub(super) fn last_attempt(&self, task: TaskId) -> Attempt {
        match self.known.get(task) {
            Known::Durable => self.attempt.get(task),
            Known::Open | Known::Finished | Known::Skipped => self.attempt.get(task).max(Attempt(self.lives)),
        }
    }

    /// True if the output of a task is in the run directory.
    pub fn is_durable(&self, task: TaskId) -> bool {
        self.known.get(task) == Known::Durable
    }

    /// True if a task ran to success and must, if it is needed, do so again.
    pub fn is_to_be_repeated(&self, task: TaskId) -> bool {
        self.known.get(task) == Known::Finished
    }

    /// True if a task need not run for the sake of its files, which were there before the run.
    pub fn is_skipped(&self, task: TaskId) -> bool {
        self.known.get(task) == Known::Skipped
    }

    /// The tasks that need not run for the sake of their files.
    pub fn skipped(&self) -> impl Iterator<Item = TaskId> + '_ {
        (0..self.task_count).map(TaskId::from).filter(|&task| self.is_skipped(task))
    }

    /// The tasks whose outputs are in the run directory, each with its try.
    pub fn durable(&self) -> impl Iterator<Item = (TaskId, Attempt)> + '_ {
        let tasks = (0..self.task_count).map(TaskId::from);
        tasks.filter(|&task| self.is_durable(task)).map(|task| (task, self.attempt.get(task)))
    }

    /// Bytes of each file that a task declared, as they were when it ended.
    pub fn file_sizes(&self, task: TaskId) -> &[u64] {
        self.file_sizes.get(&task).map_or(&[], Vec::as_slice)
    }

    /// The output of a task is gone from the run directory.
    pub fn forget(&mut self, task: TaskId) {
        self.known.set(task, Known::Open);
        if let Some(attempt) = self.unseen.remove(&task) {
            self.attempt.set(task, attempt);
        }
    }

    fn grow(&mut self, by: TaskId, numbering: Numbering, addition: &Addition) -> Result<(), PastError> {
        let bad = |why: &str| PastError { task: Some(by), why: why.to_owned() };
        if numbering.task.index() != self.task_count {
            return Err(bad("the tasks that it submitted are numbered from elsewhere"));
        }
        self.task_count += addition.tasks.len();
        self.additions.push((by, numbering, Became::Another(Box::new(addition.clone()))));
        Ok(())
    }

    fn saw(&mut self, task: TaskId, attempt: Attempt) -> Result<(), PastError> {
        self.check(task)?;
        self.is_under_way = true;
        if attempt > ATTEMPT_MAX {
            return Err(PastError { task: Some(task), why: format!("it was tried {attempt} times") });
        }
        if self.has_joins && self.graph.began_with(task) && self.graph.is_join(task) {
            return Err(PastError { task: Some(task), why: "no worker runs it".to_owned() });
        }
        if attempt > self.attempt.get(task) {
            self.attempt.set(task, attempt);
        }
        Ok(())
    }

    fn check(&self, task: TaskId) -> Result<(), PastError> {
        match task.index() < self.task_count {
            true => Ok(()),
            false => Err(PastError { task: Some(task), why: "the graph has no such task".to_owned() }),
        }
    }
}
