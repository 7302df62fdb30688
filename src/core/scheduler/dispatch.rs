//! Giving ready tasks to workers, and taking queued ones back for those that are idle.

use crate::core::id::{Rank, TaskId};
use crate::core::message::{Assignment, InputLocation, Order};

use super::machine::Scheduler;
use super::placement::{Candidate, moving_us, place};
use super::ready::Class;
use super::steal::{Loot, steal};
use super::tasks::TaskState;

impl Scheduler {
    pub(super) fn place_ready_tasks(&mut self) {
        let mut head = None;
        while let Some((urgency, class)) = self.ready.next_head(head) {
            if !self.workers.is_any_open() {
                break;
            }
            let task = self.urgency.task(urgency);
            if !self.tasks.is_ready(task) {
                self.ready.pop(class);
                continue;
            }
            let candidate = Candidate {
                value_inputs: self.graph.value_inputs(task),
                class,
                request: &self.ready.requests()[class.0],
                expected_us: self.durations.expected_us(task),
            };
            match place(&candidate, &self.tasks, &self.workers) {
                Some(worker) => {
                    self.ready.pop(class);
                    self.assign(task, worker, class, Vec::new());
                }
                None => head = Some((urgency, class)),
            }
        }
    }

    /// Gives a ready task to a worker; `hosts` are the nodes of a multi-node task.
    pub(super) fn assign(&mut self, task: TaskId, worker: Rank, class: Class, hosts: Vec<String>) {
        let place = task.index();
        let urgency = self.urgency.of_task(task);
        self.tasks.step(task, TaskState::Assigned);
        self.tasks.attempt[place] = self.tasks.attempt[place].next();
        self.tasks.worker[place] = worker;
        self.tasks.is_kept[place] = self.tasks.consumers[place] > 0;
        let assignment = Assignment { hosts, ..self.assignment(task, urgency) };
        for input in &assignment.inputs {
            self.note_copy(input.task, worker);
        }
        self.workers.assign(worker, urgency, class, self.durations.expected_us(task));
        self.workers.order(worker, Order::Assign(assignment));
    }

    fn assignment(&self, task: TaskId, urgency: u32) -> Assignment {
        let location = |input: TaskId| {
            let owner = self.tasks.worker[input.index()];
            let record = self.workers.get(owner).expect("a held output's owner lives");
            let attempt = self.tasks.attempt[input.index()];
            InputLocation { task: input, attempt, owner, incarnation: record.incarnation }
        };
        let attempt = |input: TaskId| self.tasks.attempt[input.index()];
        let sizes = |input: TaskId| Some((input, attempt(input), self.tasks.file_sizes.get(&input)?.clone()));
        let files = match self.tasks.file_sizes.is_empty() {
            true => Vec::new(),
            false => self.graph.inputs(task).filter_map(sizes).collect(),
        };
        Assignment {
            task,
            attempt: self.tasks.attempt[task.index()],
            urgency,
            inputs: self.graph.value_inputs(task).iter().map(location).collect(),
            files,
            keep: self.tasks.is_kept[task.index()],
            persist: self.graph.options(task).keep
                || (self.options.persist_asked && self.tasks.is_asked[task.index()]),
            hosts: Vec::new(),
        }
    }

    /// Notes that a worker is about to fetch an output, so that `Release` reaches it too.
    fn note_copy(&mut self, task: TaskId, worker: Rank) {
        if self.tasks.worker[task.index()] != worker {
            let copies = self.tasks.copies.entry(task).or_default();
            if !copies.contains(&worker) {
                copies.push(worker);
            }
        }
    }

    pub(super) fn steal_for_idle_workers(&mut self) {
        if !self.workers.is_any_open() {
            return;
        }
        for class in (0..self.ready.requests().len()).map(Class) {
            let loot = |urgency: u32| {
                let task = self.urgency.task(urgency);
                let class = self.ready.class_of(&self.graph, task);
                Loot { class, moving_us: moving_us(self.graph.value_inputs(task), &self.tasks) }
            };
            let stolen = steal(class, self.ready.requests(), &self.workers, loot);
            let Some((victim, tail)) = stolen else { continue };
            for urgency in tail {
                let task = self.urgency.task(urgency);
                if self.state(task) == TaskState::Assigned {
                    let order = Order::Retract(task, self.tasks.attempt[task.index()]);
                    self.workers.retract(victim, urgency, order);
                }
            }
        }
    }
}
