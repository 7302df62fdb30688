//! The scheduler's table of tasks: one column for each fact, indexed by task.

use std::collections::BTreeMap;

use crate::core::graph::Graph;
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::task_list::TaskList;

/// Where a task stands, in the words that users see.
///
/// Readiness is not a state: a `Waiting` task with no unmet input is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskState {
    /// Nobody asked for it, directly or indirectly.
    Culled,
    /// Not given to a worker.
    Waiting,
    /// Given to a worker, not known to have started.
    Assigned,
    /// Known to have started.
    Running,
    /// Ran to success.
    Finished,
    /// Ended by its own fault after all retries.
    Failed,
    /// Will not run, as a task upstream failed.
    Aborted,
    /// Will not run, or was ended, as a person said so.
    Cancelled,
}

impl TaskState {
    /// True while a worker has it.
    pub const fn is_active(self) -> bool {
        matches!(self, TaskState::Assigned | TaskState::Running)
    }

    /// True once nothing more will happen to it, unless a finished output is lost.
    pub const fn is_ended(self) -> bool {
        !matches!(self, TaskState::Waiting | TaskState::Assigned | TaskState::Running)
    }

    /// True if its dependents can never run.
    pub const fn is_bad_end(self) -> bool {
        matches!(self, TaskState::Failed | TaskState::Aborted | TaskState::Cancelled)
    }
}

/// All that the scheduler knows about tasks. Columns are public to the scheduler's own files; the
/// invariants between them stand in `check`.
#[derive(Debug)]
pub struct Tasks {
    /// Where each task stands.
    pub state: Vec<TaskState>,
    /// Inputs that are not finished, or whose output must be made again. Meaningless once ended.
    pub unmet: Vec<u32>,
    /// The latest try; 0 before the first.
    pub attempt: Vec<Attempt>,
    /// Who has the task, or has its output.
    pub worker: Vec<Rank>,
    /// Dependents that take the value and have not ended.
    pub consumers: Vec<u32>,
    /// True if the latest try was given out with the request to keep its value.
    pub is_kept: Vec<bool>,
    /// True while `worker` holds the value.
    pub is_held: Vec<bool>,
    /// Bytes of the value, once finished.
    pub size_bytes: Vec<u64>,
    /// Further workers that were told to fetch the value and may hold it.
    pub copies: BTreeMap<TaskId, Vec<Rank>>,
    /// Sizes of declared output files, of the tasks that have any.
    pub file_sizes: BTreeMap<TaskId, Vec<u64>>,
    /// Attempts that failed by their own fault, of the tasks that had any.
    pub failures: BTreeMap<TaskId, u32>,
    /// True for tasks whose output the user wants.
    pub is_asked: Vec<bool>,
    /// How many tasks are in each state, hidden joins included.
    counts: [u32; 8],
}

impl Tasks {
    /// The table for what `asked` needs of a graph; everything else is culled.
    pub fn new(graph: &Graph, asked: &TaskList) -> Self {
        let needed = graph.needed_by(asked);
        let count = graph.len();
        let state = |task: TaskId| match needed.contains(task) {
            true => TaskState::Waiting,
            false => TaskState::Culled,
        };
        let mut tasks = Tasks {
            state: graph.tasks().map(state).collect(),
            unmet: graph.tasks().map(|task| graph.input_count(task) as u32).collect(),
            attempt: vec![Attempt(0); count],
            worker: vec![Rank::SCHEDULER; count],
            consumers: vec![0; count],
            is_kept: vec![false; count],
            is_held: vec![false; count],
            size_bytes: vec![0; count],
            copies: BTreeMap::new(),
            file_sizes: BTreeMap::new(),
            failures: BTreeMap::new(),
            is_asked: vec![false; count],
            counts: [0; 8],
        };
        for task in asked.iter() {
            tasks.is_asked[task.index()] = true;
        }
        for task in graph.tasks().filter(|task| needed.contains(*task)) {
            for input in graph.value_inputs(task) {
                tasks.consumers[input.index()] += 1;
            }
        }
        for state in &tasks.state {
            tasks.counts[*state as usize] += 1;
        }
        tasks
    }

    /// How many tasks are in a state.
    pub fn count(&self, state: TaskState) -> u32 {
        self.counts[state as usize]
    }

    /// Tasks that a worker has.
    pub fn active_count(&self) -> u32 {
        self.count(TaskState::Assigned) + self.count(TaskState::Running)
    }

    /// Tasks that have not ended.
    pub fn open_count(&self) -> u32 {
        self.active_count() + self.count(TaskState::Waiting)
    }

    /// Moves a task to another state. Steps that the table of legal steps does not have are bugs.
    pub fn step(&mut self, task: TaskId, to: TaskState) {
        let state = &mut self.state[task.index()];
        assert!(is_legal_step(*state, to), "task {task} cannot go from {state:?} to {to:?}");
        self.counts[*state as usize] -= 1;
        self.counts[to as usize] += 1;
        *state = to;
    }

    /// True if a task may be given to a worker now.
    pub fn is_ready(&self, task: TaskId) -> bool {
        self.state[task.index()] == TaskState::Waiting && self.unmet[task.index()] == 0
    }

    /// True if the try is the one a worker is at.
    pub fn is_current(&self, task: TaskId, attempt: Attempt, worker: Rank) -> bool {
        let place = task.index();
        place < self.state.len()
            && self.state[place].is_active()
            && self.attempt[place] == attempt
            && self.worker[place] == worker
    }
}

/// The legal steps; everything else is a bug, not a branch.
fn is_legal_step(from: TaskState, to: TaskState) -> bool {
    use TaskState::{Aborted, Assigned, Cancelled, Failed, Finished, Running, Waiting};
    match (from, to) {
        // The usual way; joins finish without a worker, short tasks without `Running` in between.
        (Waiting, Assigned | Finished) | (Assigned, Running | Finished) | (Running, Finished) => true,
        // Given back, lost with its worker, or to be tried again; or its output was lost.
        (Assigned | Running | Finished, Waiting) => true,
        (Assigned | Running, Failed) => true,
        (Waiting, Aborted | Cancelled) => true,
        _ => false,
    }
}
