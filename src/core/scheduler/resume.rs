//! Begins a run again after its processes ended.
//!
//! What is to do is found backwards from what is asked: the way ends at outputs that are in the run
//! directory. So a task whose output was lost runs again only if somebody who is to run takes it.

use std::sync::Arc;

use crate::core::addition::{Addition, Numbering};
use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::id::{Rank, TaskId};
use crate::core::span::Span;
use crate::core::task::Body;
use crate::core::task_list::TaskList;
use crate::core::task_set::TaskSet;

use super::machine::{Options, Scheduler};
use super::past::{Became, Past, PastError};
use super::tasks::TaskState;

/// How much of a run is left, hidden tasks not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Tasks whose outputs are in the run directory.
    pub durable: u32,
    /// Tasks to run.
    pub to_do: u32,
    /// Those of them that ran to success before.
    pub repeated: u32,
}

impl Scheduler {
    /// A scheduler for what is left of a run. The event says so and is to be recorded first.
    ///
    /// Takes time for each task and each dependency.
    pub fn resume(
        past: &Past,
        asked: impl Into<TaskList>,
        options: Options,
    ) -> Result<(Self, Event, Left), PastError> {
        let asked = asked.into();
        let mut scheduler = Scheduler::new(Arc::clone(past.graph()), asked.clone(), options);
        for (by, numbering, became) in &past.additions {
            match became {
                Became::Another(addition) => scheduler.grow_again(*by, *numbering, addition)?,
                Became::Larger(memory_bytes) => scheduler.set_memory_again(*by, *numbering, *memory_bytes)?,
            }
        }
        scheduler.past_killings = past.killings.clone();
        let to_do = scheduler.find_left(past, &asked);
        let left = scheduler.take_up(past, &to_do);
        let tasks = scheduler.graph.len();
        let mut spans = Vec::new();
        to_do.iter(tasks).for_each(|task| Span::add_to(&mut spans, task));
        Ok((scheduler, Event::RunResumed { life: past.lives() + 1, to_do: spans }, left))
    }

    /// A scheduler for a run that does these tasks only, of those that `asked` needs; what else they need is there.
    ///
    /// Takes time for each task and each dependency.
    pub fn of_tasks(graph: Arc<Graph>, asked: &TaskList, runs: &TaskSet, options: Options) -> Self {
        let mut scheduler = Scheduler::new(Arc::clone(&graph), asked, options);
        for task in graph.tasks().filter(|&task| !runs.contains(task)) {
            if scheduler.state(task) == TaskState::Waiting {
                scheduler.tasks.step(task, TaskState::Culled);
                scheduler.let_go(task, graph.value_inputs(task));
            }
        }
        graph.tasks().filter(|&task| runs.contains(task)).for_each(|task| scheduler.count_met(task));
        scheduler
    }

    /// The tasks that must run: those asked for, and whatever they take, up to what is durable.
    fn find_left(&self, past: &Past, asked: &TaskList) -> TaskSet {
        let mut to_do = TaskSet::new(self.graph.len());
        let is_open = |task: &TaskId| !past.is_durable(*task) && !past.is_skipped(*task);
        let first: Vec<TaskId> = asked.iter().filter(is_open).collect();
        self.go_back(past, first, &mut to_do);
        if past.skipped().next().is_some() {
            self.find_outdated(past, &mut to_do);
        }
        to_do
    }

    /// These tasks must run, and whatever they take. Returns all that were not known to.
    fn go_back(&self, past: &Past, mut ways: Vec<TaskId>, to_do: &mut TaskSet) -> Vec<TaskId> {
        let has_no_value = |task: &TaskId| !past.is_durable(*task);
        let is_open = |task: &TaskId| has_no_value(task) && !past.is_skipped(*task);
        ways.iter().for_each(|&task| to_do.insert(task));
        let mut found = ways.clone();
        while let Some(task) = ways.pop() {
            let values = self.graph.value_inputs(task).iter().filter(has_no_value);
            for input in values.chain(self.graph.order_inputs(task).iter().filter(is_open)) {
                if !to_do.contains(input) {
                    to_do.insert(input);
                    ways.push(input);
                    found.push(input);
                }
            }
        }
        found
    }

    /// Tasks that were skipped must run if something that they depend on does. Outputs that this run made stay as they
    /// are, whatever they were made of.
    fn find_outdated(&self, past: &Past, to_do: &mut TaskSet) {
        let graph = &self.graph;
        // A join does nothing by itself: it passes on what its inputs do.
        let acts = |task: &TaskId| !graph.is_join(*task);
        let mut due: Vec<TaskId> = to_do.iter(graph.len()).filter(acts).collect();
        let mut seen = TaskSet::new(graph.len());
        while let Some(task) = due.pop() {
            if seen.contains(task) {
                continue;
            }
            seen.insert(task);
            if past.is_skipped(task) && !to_do.contains(task) {
                due.extend(self.go_back(past, vec![task], to_do).iter().copied().filter(acts));
            }
            let is_made = |task: TaskId| past.is_durable(task) || past.is_to_be_repeated(task);
            let is_left = |task: &TaskId| self.state(*task) == TaskState::Waiting && !is_made(*task);
            due.extend(graph.dependents(task).iter().filter(is_left));
        }
    }

    /// Enters what is known of each task. What nobody needs any more and was not seen to finish is culled.
    fn take_up(&mut self, past: &Past, to_do: &TaskSet) -> Left {
        let graph = Arc::clone(&self.graph);
        let mut left = Left::default();
        self.tasks.begin_after(past.unseen.clone(), past.last_attempt(TaskId(u32::MAX)));
        for task in graph.tasks().filter(|&task| self.state(task) == TaskState::Waiting).collect::<Vec<_>>() {
            self.tasks.attempt.set(task, past.last_attempt(task));
            let is_shown = !graph.is_join(task) && !graph.group_of(task).hidden;
            left.durable += u32::from(is_shown && past.is_durable(task));
            if to_do.contains(task) {
                left.to_do += u32::from(is_shown);
                left.repeated += u32::from(is_shown && past.is_to_be_repeated(task));
                continue;
            }
            let is_known = past.is_durable(task) || past.is_to_be_repeated(task);
            self.tasks.step(task, if is_known { TaskState::Finished } else { TaskState::Culled });
            self.tasks.worker.set(task, Rank::SCHEDULER);
            self.tasks.size_bytes.set(task, past.size_bytes.get(task));
            if past.is_durable(task) {
                self.tasks.store(task);
            }
            if let Some(sizes) = past.file_sizes.get(&task) {
                self.tasks.file_sizes.insert(task, sizes.clone());
            }
            self.let_go(task, graph.value_inputs(task));
        }
        for task in graph.tasks().filter(|&task| to_do.contains(task)) {
            self.count_met(task);
        }
        left
    }

    /// Adds what a task submitted in an earlier life.
    fn grow_again(&mut self, by: TaskId, numbering: Numbering, addition: &Addition) -> Result<(), PastError> {
        let bad = |why: String| PastError { task: Some(by), why };
        let graph = Arc::clone(&self.graph);
        if self.state(by) != TaskState::Waiting {
            return Err(bad("it submitted tasks, and nobody asked for it".to_owned()));
        }
        if !matches!(graph.operation(by).body, Body::Call(_)) {
            return Err(bad("it submitted tasks, and only calls of functions do".to_owned()));
        }
        let taken: Vec<TaskId> = graph.value_inputs(by).iter().collect();
        addition.check(self.task_total(), &taken).map_err(|error| bad(error.to_string()))?;
        if numbering != self.next_numbering(by) {
            return Err(bad("what it submitted is numbered from elsewhere".to_owned()));
        }
        self.enter_addition(by, numbering, addition);
        Ok(())
    }
}
