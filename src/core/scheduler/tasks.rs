//! The scheduler's table of tasks: one column for each fact, indexed by task.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::BitOr;

use crate::core::column::{Column, Entry};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::span::Span;
use crate::core::task_list::TaskList;
use crate::core::task_set::TaskSet;

use super::copies::Copies;
use super::culprits::Killing;

/// Where a task stands, in the words that users see.
///
/// Readiness is not a state: a `Waiting` task whose inputs are all met is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TaskState {
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
    /// Nobody needs it: nobody asked for it, directly or indirectly, or all who take it are durable.
    Culled,
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

impl Entry for TaskState {
    type Raw = u8;

    fn of(raw: u8) -> Self {
        use TaskState::{Aborted, Assigned, Cancelled, Culled, Failed, Finished, Running, Waiting};
        [Waiting, Assigned, Running, Finished, Failed, Aborted, Cancelled, Culled][usize::from(raw)]
    }

    fn raw(self) -> u8 {
        self as u8
    }
}

/// Facts about a task that are true or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks(u8);

impl Marks {
    /// Nothing.
    pub const NONE: Marks = Marks(0);
    /// The latest try was given out with the request to keep its value.
    pub const KEPT: Marks = Marks(1);
    /// `worker` holds the value.
    pub const HELD: Marks = Marks(2);
    /// All its dependents look ahead: once it is announced, its end is no news to any of them.
    pub const KNOWN: Marks = Marks(4);
    /// Its dependents count it as met although it has not finished: they look ahead.
    pub const ANNOUNCED: Marks = Marks(8);
    /// A consumer of the value ends otherwise than by success at `worker`, or may have taken it from another
    /// try: so the worker cannot know by itself when nobody takes the value any more.
    pub const SHARED: Marks = Marks(16);
    /// It was assigned before its inputs were finished, so that it asks for nothing yet.
    pub const AHEAD: Marks = Marks(32);
    /// The output is in the run directory, too: it is never made again, unless it cannot be read there.
    pub const STORED: Marks = Marks(64);
    /// The output is to be durable, and its worker has not said yet that it is.
    pub const UNSAVED: Marks = Marks(128);
}

impl BitOr for Marks {
    type Output = Marks;

    fn bitor(self, other: Marks) -> Marks {
        Marks(self.0 | other.0)
    }
}

impl Entry for Marks {
    type Raw = u8;

    fn of(raw: u8) -> Self {
        Marks(raw)
    }

    fn raw(self) -> u8 {
        self.0
    }
}

/// All that the scheduler knows about tasks. Columns are public to the scheduler's own files; the
/// invariants between them stand in `check`.
#[derive(Debug)]
pub struct Tasks {
    /// Where each task stands.
    pub state: Column<TaskState>,
    /// Of a waiting task: inputs that it need not wait for, because they are finished or, if both look
    /// ahead, assigned. Meaningless otherwise.
    pub met: Column<u32>,
    /// The latest try; 0 before the first.
    pub attempt: Column<Attempt>,
    /// Who has the task, or has its output; rank 0 if that is only in the run directory.
    pub worker: Column<Rank>,
    /// Dependents that take the value and have not ended.
    pub consumers: Column<u32>,
    /// Bytes of the value, once finished.
    pub size_bytes: Column<f32>,
    /// Of an active task: the run time it is expected to take, in microseconds.
    pub expected_us: Column<f32>,
    marks: Column<Marks>,
    /// The tasks whose output the user wants.
    asked: TaskSet,
    /// Further workers that were told to fetch the value and may hold it.
    pub copies: Copies,
    /// Sizes of declared output files, of the tasks that have any.
    pub file_sizes: BTreeMap<TaskId, Vec<u64>>,
    /// Attempts that failed by their own fault, of the tasks that had any.
    pub failures: BTreeMap<TaskId, u32>,
    /// Tasks that ask for another amount of memory than they began with.
    pub resized: BTreeSet<TaskId>,
    /// How often a task has killed its rank, and the last time, of those that did.
    pub killings: BTreeMap<TaskId, (u32, Killing)>,
    /// Tries of an earlier life that left something, of tasks that are not known any more, and the number
    /// after which those that are added begin.
    begin_after: (BTreeMap<TaskId, Attempt>, Attempt),
    /// How many finished tasks are `UNSAVED`.
    unsaved: u32,
    /// How many tasks are in each state, hidden joins included.
    counts: [u32; 8],
}

impl Tasks {
    /// The table for what `asked` needs of a graph; everything else is culled.
    pub fn new(graph: &Graph, asked: TaskList) -> Self {
        let count = graph.len();
        let mut tasks = Tasks {
            state: Column::new(count),
            met: Column::new(count),
            attempt: Column::new(count),
            worker: Column::new(count),
            consumers: Column::new(count),
            size_bytes: Column::new(count),
            expected_us: Column::new(count),
            marks: Column::new(count),
            asked: TaskSet::new(count),
            copies: Copies::new(count),
            file_sizes: BTreeMap::new(),
            failures: BTreeMap::new(),
            resized: BTreeSet::new(),
            killings: BTreeMap::new(),
            begin_after: Default::default(),
            unsaved: 0,
            counts: [0; 8],
        };
        tasks.counts[TaskState::Waiting as usize] = count as u32;
        let needed = graph.needed_by(&asked);
        for stretch in asked.stretches() {
            tasks.asked.insert_all(stretch.clone());
        }
        tasks.cull(graph, &needed);
        tasks.count_consumers(graph, &needed);
        tasks
    }

    fn cull(&mut self, graph: &Graph, needed: &TaskSet) {
        for task in graph.tasks().filter(|task| !needed.contains(*task)) {
            self.set_state(task, TaskState::Culled);
        }
    }

    /// Counts who takes each value. Arrays without inputs are passed over at once.
    fn count_consumers(&mut self, graph: &Graph, needed: &TaskSet) {
        for stretch in graph.stretches().filter(|stretch| !stretch.is_source) {
            for task in stretch.tasks.map(TaskId).filter(|task| needed.contains(*task)) {
                for input in graph.value_inputs(task) {
                    self.consumers.set(input, self.consumers.get(input) + 1);
                }
            }
        }
    }

    /// A task whose output is lost goes on behind a try that the events do not tell of.
    pub fn begin_after_unseen(&mut self, task: TaskId) {
        if let Some(&unseen) = self.begin_after.0.get(&task) {
            self.attempt.set(task, unseen.max(self.attempt.get(task)));
        }
    }

    /// Tasks that are added from now on, or whose outputs are lost, begin after these tries; those that are added
    /// with no smaller number than this.
    pub fn begin_after(&mut self, tries: BTreeMap<TaskId, Attempt>, least: Attempt) {
        self.begin_after = (tries, least);
    }

    /// Adds tasks that wait, behind all others.
    pub fn add(&mut self, tasks: Span) {
        self.state.fill(tasks, TaskState::Waiting);
        let (tries, least) = &self.begin_after;
        if *least > Attempt::default() {
            self.attempt.fill(tasks, *least);
        }
        for (&task, &attempt) in tries.range(tasks.first..tasks.end()) {
            self.attempt.set(task, attempt.max(*least));
        }
        self.counts[TaskState::Waiting as usize] += tasks.count;
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

    /// True if some task ended otherwise than by success.
    pub fn has_bad_ends(&self) -> bool {
        use TaskState::{Aborted, Cancelled, Failed};
        [Failed, Aborted, Cancelled].into_iter().any(|state| self.count(state) > 0)
    }

    /// Moves a task to another state. Steps that the table of legal steps does not have are bugs.
    pub fn step(&mut self, task: TaskId, to: TaskState) {
        let from = self.state.get(task);
        assert!(is_legal_step(from, to), "task {task} cannot go from {from:?} to {to:?}");
        self.set_state(task, to);
    }

    fn set_state(&mut self, task: TaskId, to: TaskState) {
        self.counts[self.state.get(task) as usize] -= 1;
        self.counts[to as usize] += 1;
        self.state.set(task, to);
    }

    /// Moves waiting tasks, which their caller looked at, to a worker.
    pub fn assign(&mut self, tasks: Span, worker: Rank, attempt: Attempt) {
        self.state.fill(tasks, TaskState::Assigned);
        self.worker.fill(tasks, worker);
        self.attempt.fill(tasks, attempt);
        self.counts[TaskState::Waiting as usize] -= tasks.count;
        self.counts[TaskState::Assigned as usize] += tasks.count;
    }

    /// True if the user wants its output.
    pub fn is_asked(&self, task: TaskId) -> bool {
        self.asked.contains(task)
    }

    /// True if all of these marks are set.
    pub fn has(&self, task: TaskId, marks: Marks) -> bool {
        self.marks.get(task).0 & marks.0 == marks.0
    }

    /// Sets marks.
    pub fn mark(&mut self, task: TaskId, marks: Marks) {
        self.marks.set(task, Marks(self.marks.get(task).0 | marks.0));
    }

    /// Gives tasks these marks in the place of those they had, but for what is said of an output of theirs.
    pub fn mark_afresh(&mut self, tasks: Span, marks: Marks) {
        for task in tasks.tasks() {
            self.marks.set(task, Marks(self.marks.get(task).0 & (Marks::HELD | Marks::SHARED).0 | marks.0));
        }
    }

    /// Clears marks. True if any of them was set.
    pub fn unmark(&mut self, task: TaskId, marks: Marks) -> bool {
        let before = self.marks.get(task).0;
        self.marks.set(task, Marks(before & !marks.0));
        before & marks.0 != 0
    }

    /// A task has finished: if its output is to be durable, that is waited for.
    pub fn count_unsaved(&mut self, task: TaskId) {
        self.unsaved += u32::from(self.has(task, Marks::UNSAVED));
    }

    /// Nobody waits any more for the output of a finished task to be durable. True if somebody did.
    pub fn count_saved(&mut self, task: TaskId) -> bool {
        let was_unsaved = self.unmark(task, Marks::UNSAVED);
        self.unsaved -= u32::from(was_unsaved);
        was_unsaved
    }

    /// How many outputs are still to be durable.
    pub fn unsaved_count(&self) -> u32 {
        self.unsaved
    }

    /// The output of a finished task is in the run directory, too.
    pub fn store(&mut self, task: TaskId) {
        self.mark(task, Marks::STORED);
        if !self.has(task, Marks::HELD) {
            self.worker.set(task, Rank::SCHEDULER);
        }
    }

    /// Its worker holds the output no longer. True if it did.
    pub fn let_go(&mut self, task: TaskId) -> bool {
        let was_held = self.unmark(task, Marks::HELD);
        if was_held && self.has(task, Marks::STORED) {
            self.worker.set(task, Rank::SCHEDULER);
        }
        was_held
    }

    /// True if the task exists and this is its latest try.
    pub fn is_of_try(&self, task: TaskId, attempt: Attempt) -> bool {
        task.index() < self.state.count() && self.attempt.get(task) == attempt
    }

    /// True if the try is the one a worker is at.
    pub fn is_current(&self, task: TaskId, attempt: Attempt, worker: Rank) -> bool {
        self.is_of_try(task, attempt) && self.state.get(task).is_active() && self.worker.get(task) == worker
    }
}

/// The legal steps; everything else is a bug, not a branch.
fn is_legal_step(from: TaskState, to: TaskState) -> bool {
    use TaskState::{Aborted, Assigned, Cancelled, Culled, Failed, Finished, Running, Waiting};
    match (from, to) {
        // The usual way; joins finish without a worker, short tasks without `Running` in between.
        (Waiting, Assigned | Finished) | (Assigned, Running | Finished) | (Running, Finished) => true,
        // Given back, lost with its worker, or to be tried again; or its output was lost.
        (Assigned | Running | Finished, Waiting) => true,
        // When a run is resumed; and back, when an output that was durable cannot be read.
        (Waiting, Culled) | (Culled, Waiting) => true,
        (Assigned | Running, Failed) => true,
        // It killed its rank too often in earlier lives of the run.
        (Waiting, Failed) => true,
        (Waiting, Aborted | Cancelled) => true,
        _ => false,
    }
}
