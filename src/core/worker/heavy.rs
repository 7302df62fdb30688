//! Heavy tasks: programs, and calls that ask for more than one core. Each waits for its inputs, then for its
//! resources, and is started alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::message::{Assignment, Report};
use crate::core::resources::Resources;
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};

use super::holding::Holding;
use super::machine::{Action, Worker};
use super::memory::Room;
use super::queue::Queue;

/// What runs longer than this is reported as started; anything shorter only when it ends.
const STARTED_AFTER: Micros = Micros::from_millis(100);

/// A heavy task that was assigned here and has not ended.
#[derive(Debug)]
pub(super) struct Heavy {
    pub assignment: Assignment,
    /// Value inputs that are not here, and what must end before it here.
    pub missing: BTreeSet<TaskId>,
    pub started: Option<Timestamp>,
}

/// The heavy tasks of a worker.
#[derive(Debug)]
pub(super) struct Heavies {
    pub tasks: BTreeMap<TaskId, Heavy>,
    /// Those that miss nothing, until they start.
    pub queue: Queue,
    /// Which of those wait for memory.
    pub holding: Holding,
    /// Who waits for each missing input.
    waiting: BTreeMap<TaskId, Vec<TaskId>>,
    /// Running tasks in the order of their starts, until they are reported as started.
    unreported: VecDeque<(Timestamp, TaskId, Attempt)>,
}

impl Heavies {
    /// None yet. The cores are the pool's until they are given with `give_cpus`.
    pub fn new(capacity: Resources) -> Self {
        Heavies {
            tasks: BTreeMap::new(),
            queue: Queue::new(capacity),
            holding: Holding::default(),
            waiting: BTreeMap::new(),
            unreported: VecDeque::new(),
        }
    }

    /// Every task and its try.
    pub fn ids(&self) -> Vec<(TaskId, Attempt)> {
        self.tasks.iter().map(|(task, heavy)| (*task, heavy.assignment.attempt)).collect()
    }

    /// Cores that the pool does not use any more.
    pub fn give_cpus(&mut self, cpus: u32) {
        self.queue.give_cpus(cpus);
    }

    pub fn insert(&mut self, task: TaskId, assignment: Assignment, missing: BTreeSet<TaskId>) {
        for &input in &missing {
            self.waiting.entry(input).or_default().push(task);
        }
        if missing.is_empty() {
            self.queue.push(assignment.urgency, task);
        }
        self.tasks.insert(task, Heavy { assignment, missing, started: None });
    }

    /// True if a task has not started because this input is missing.
    pub fn waits_for(&self, task: TaskId, input: TaskId) -> bool {
        self.tasks.get(&task).is_some_and(|heavy| heavy.missing.contains(&input))
    }

    /// An input came: who missed nothing else may start.
    pub fn arrived(&mut self, input: TaskId) {
        for task in self.waiting.remove(&input).unwrap_or_default() {
            let Some(heavy) = self.tasks.get_mut(&task) else { continue };
            if heavy.missing.remove(&input) && heavy.missing.is_empty() {
                self.queue.push(heavy.assignment.urgency, task);
            }
        }
    }

    /// A task has run to success here: whoever only follows it may start, and who takes its value if that is here.
    pub fn ended_well(&mut self, input: TaskId, is_here: bool) {
        if is_here {
            return self.arrived(input);
        }
        let Some(waiting) = self.waiting.remove(&input) else { return };
        let follows = |task: &TaskId| {
            let heavy = self.tasks.get(task);
            heavy.and_then(|heavy| heavy.assignment.follows()).is_some_and(|(other, _)| other == input)
        };
        let (following, taking): (Vec<_>, Vec<_>) = waiting.into_iter().partition(follows);
        self.waiting.insert(input, following);
        self.arrived(input);
        if !taking.is_empty() {
            self.waiting.insert(input, taking);
        }
    }

    /// A task that ran is at an end.
    pub fn end(&mut self, graph: &Graph, task: TaskId) {
        let heavy = self.tasks.remove(&task).expect("only assigned tasks run");
        assert!(heavy.started.is_some(), "task {task} ended before it started");
        self.queue.end(graph, task);
        self.holding.end(task);
    }

    /// Starts the next task that may, if there is one.
    fn start_next(&mut self, graph: &Graph, now: Timestamp) -> Option<Assignment> {
        let Heavies { tasks, queue, holding, unreported, .. } = self;
        let task = queue.start_next(graph, |task| holding.may_start(graph, &tasks[&task].assignment))?;
        let heavy = tasks.get_mut(&task).expect("queued tasks are assigned");
        heavy.started = Some(now);
        unreported.push_back((now, task, heavy.assignment.attempt));
        holding.begin(graph, &heavy.assignment);
        Some(heavy.assignment.clone())
    }

    /// Takes a task out that has not started; its assignment.
    fn take_unstarted(&mut self, task: TaskId) -> Option<Assignment> {
        if self.tasks.get(&task).is_none_or(|heavy| heavy.started.is_some()) {
            return None;
        }
        let heavy = self.tasks.remove(&task).expect("looked at just above");
        for input in &heavy.missing {
            if let Some(waiting) = self.waiting.get_mut(input) {
                waiting.retain(|other| *other != task);
                if waiting.is_empty() {
                    self.waiting.remove(input);
                }
            }
        }
        self.queue.remove(heavy.assignment.urgency, task);
        Some(heavy.assignment)
    }

    /// Reports what has been running for a while.
    pub fn report_started(&mut self, now: Timestamp, reports: &mut Vec<Report>) {
        while let Some(&(started, task, attempt)) = self.unreported.front() {
            let runs = self
                .tasks
                .get(&task)
                .is_some_and(|heavy| heavy.assignment.attempt == attempt && heavy.started == Some(started));
            if runs && now.since(started) < STARTED_AFTER {
                return;
            }
            self.unreported.pop_front();
            if runs {
                reports.push(Report::Started(task, attempt, started));
            }
        }
    }
}

impl Worker {
    /// Gives a heavy task back if it has not started. False if it has.
    pub(super) fn give_back_heavy(&mut self, task: TaskId, actions: &mut Vec<Action>) -> bool {
        let Some(Assignment { attempt, .. }) = self.heavies.take_unstarted(task) else { return false };
        match self.lacking.remove(&task) {
            Some(input) => self.reports.push(Report::InputMissing { task, attempt, input }),
            None => self.reports.push(Report::Returned(Span::one(task), attempt)),
        }
        self.forget_unstarted(task, attempt, actions);
        true
    }

    pub(super) fn start_heavies(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        while let Some(assignment) = self.heavies.start_next(&self.graph, now) {
            actions.push(Action::Start(assignment));
        }
        let Heavies { tasks, queue, holding, .. } = &mut self.heavies;
        let may_start = |task| holding.may_start(&self.graph, &tasks[&task].assignment);
        if let Some(slots) = self.sharing.divide(queue, &self.graph, may_start) {
            actions.push(Action::Slots(slots));
        }
    }

    /// The outputs of this worker leave so much room from now on.
    pub(super) fn on_room(&mut self, room: Room) {
        self.heavies.holding.set_room(room);
    }

    /// True if a heavy task could start but for the memory that it might take.
    pub fn waits_for_room(&self) -> bool {
        let Heavies { tasks, queue, holding, .. } = &self.heavies;
        queue.tasks().any(|task| !holding.may_start(&self.graph, &tasks[&task].assignment))
    }
}
