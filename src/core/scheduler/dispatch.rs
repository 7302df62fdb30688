//! Giving tasks to workers, and taking queued ones back for those that are idle.
//!
//! Tasks that need nothing from elsewhere go in spans: as many alike ones as follow each other and as the
//! worker has room for, in one order of a few bytes.

use crate::core::id::{Rank, TaskId};
use crate::core::message::{Assignment, InputLocation, Order, Special};
use crate::core::span::Span;
use crate::core::time::Micros;

use super::machine::Scheduler;
use super::placement::{Candidate, Choice, look_at, moving_us, place};
use super::ready::{Class, Run};
use super::steal::{Loot, steal};
use super::tasks::{Marks, TaskState};

/// Dependents of tasks that are expected to take longer wait until they have finished: what looking ahead
/// saves is nothing beside them, and whoever is bound to a worker early may be missed elsewhere.
const AHEAD_OF_US: f32 = 1_000.0;

/// How the tasks of one run are shared out: consecutive ones to one worker, as neighbours often have
/// dependents in common.
#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    run_end: TaskId,
    each: u32,
}

impl Scheduler {
    pub(super) fn place_ready_tasks(&mut self) {
        self.place_parked_tasks();
        let mut after = None;
        let mut shares = Shares::default();
        while let Some((run, class)) = self.ready.next_head(after) {
            if !self.workers.is_any_open() {
                break;
            }
            let task = run.tasks.first;
            if !self.is_ready(task) {
                self.ready.take(class, 1);
                continue;
            }
            match self.choose(task, class) {
                Choice::At(worker, room) => {
                    let most = room.min(self.share(&mut shares, run));
                    let tasks = self.alike(run.tasks, worker, most);
                    self.ready.take(class, tasks.count);
                    self.assign(tasks, worker, class, None);
                }
                Choice::Park(worker) => {
                    self.ready.take(class, 1);
                    self.workers.park(worker, run.level, task);
                }
                Choice::Nowhere => after = Some((run, class)),
            }
        }
    }

    /// Parked tasks whose worker has room again, and those that a worker with nothing to do could take.
    fn place_parked_tasks(&mut self) {
        let parked: Vec<Rank> = self.workers.with_parked().map(|(rank, _)| rank).collect();
        for rank in parked {
            while let Some(task) = self.workers.get(rank).and_then(|record| record.parked.first()) {
                if !self.is_ready(task) {
                    self.workers.unpark(rank);
                    continue;
                }
                let class = self.ready.class_of(&self.graph, task);
                match self.choose(task, class) {
                    Choice::At(worker, _) => {
                        self.workers.unpark(rank);
                        self.assign(Span::one(task), worker, class, None);
                    }
                    Choice::Park(worker) if worker != rank => {
                        self.workers.unpark(rank);
                        self.workers.park(worker, self.urgency.level(task), task);
                    }
                    Choice::Park(_) | Choice::Nowhere => break,
                }
            }
        }
    }

    fn choose(&self, task: TaskId, class: Class) -> Choice {
        let value_inputs = self.graph.value_inputs(task);
        let candidate = Candidate {
            now: self.now,
            class,
            request: &self.ready.requests()[class.0],
            expected_us: self.durations.expected_us(task),
        };
        place(&candidate, &look_at(value_inputs, &self.tasks), &self.workers)
    }

    /// How many tasks of a run one worker gets at a time: its part of the whole run as it was when this
    /// turn came to it.
    fn share(&self, shares: &mut Shares, run: Run) -> u32 {
        if shares.run_end != run.tasks.end() {
            let each = run.tasks.count.div_ceil(self.workers.len().max(1) as u32);
            *shares = Shares { run_end: run.tasks.end(), each };
        }
        shares.each
    }

    /// The tasks from the first one of a span that can be ordered with it: alike, ready, and with nothing to
    /// fetch. At most so many.
    fn alike(&self, tasks: Span, worker: Rank, most: u32) -> Span {
        let first = tasks.first;
        let is_single = self.graph.options(first).several_nodes().is_some() || !self.is_all_at(first, worker);
        if is_single || !self.tasks.file_sizes.is_empty() {
            return Span::one(first);
        }
        let facts = |task: TaskId| {
            let asked = self.tasks.is_asked(task);
            (self.tasks.attempt.get(task), self.tasks.consumers.get(task), self.graph.options_id(task), asked)
        };
        let like = facts(first);
        let has_inputs = !self.graph.value_inputs(first).is_empty();
        let is_ahead = has_inputs && self.is_ahead(first);
        let fits = |&task: &TaskId| {
            self.is_ready(task)
                && facts(task) == like
                && self.graph.operation_id(task) == self.graph.operation_id(first)
                && self.graph.value_inputs(task).is_empty() != has_inputs
                && (!has_inputs || self.is_all_at(task, worker) && self.is_ahead(task) == is_ahead)
        };
        let more = tasks.tasks().skip(1).take(most.max(1) as usize - 1).take_while(fits);
        Span { first, count: 1 + more.count() as u32 }
    }

    fn is_all_at(&self, task: TaskId, worker: Rank) -> bool {
        self.graph.value_inputs(task).iter().all(|input| self.tasks.worker.get(input) == worker)
    }

    /// True if some input of a ready task has not finished.
    fn is_ahead(&self, task: TaskId) -> bool {
        self.graph.value_inputs(task).iter().any(|input| self.tasks.state.get(input) != TaskState::Finished)
    }

    /// Gives ready tasks to a worker; `hosts` are the nodes of a multi-node task.
    pub(super) fn assign(&mut self, tasks: Span, worker: Rank, class: Class, hosts: Option<Vec<String>>) {
        let first = tasks.first;
        let attempt = self.tasks.attempt.get(first).next();
        let is_ahead = self.is_ahead(first);
        let expected_us = self.durations.expected_us(first);
        let inputs = self.locations(first, worker);
        self.tasks.assign(tasks, worker, attempt);
        self.workers.assign(worker, tasks, class, expected_us, is_ahead);
        let queue_us = self.workers.get(worker).map_or(0.0, |record| record.queue_us());
        let ends_at = self.now + Micros(queue_us as u64);
        self.tasks.expected_us.fill(tasks, expected_us);
        self.tasks.ends_at.fill(tasks, ends_at);
        let consumers = self.tasks.consumers.get(first);
        for task in tasks.tasks() {
            self.tasks.unmark(task, Marks::KEPT | Marks::AHEAD | Marks::SHARED | Marks::ANNOUNCED);
            let kept = if consumers > 0 { Marks::KEPT } else { Marks::NONE };
            let ahead = if is_ahead { Marks::AHEAD } else { Marks::NONE };
            self.tasks.mark(task, kept | ahead);
        }
        for input in &inputs {
            self.note_copy(input.task, worker);
        }
        let persist =
            self.graph.options(first).keep || (self.options.persist_asked && self.tasks.is_asked(first));
        let urgency = self.urgency.level(first);
        let special = self.special(first, hosts);
        let assignment = Assignment { tasks, attempt, urgency, consumers, persist, inputs, special };
        self.workers.order(worker, Order::Assign(assignment));
        if expected_us <= AHEAD_OF_US && self.ahead.lets_ahead(&self.graph, first) {
            tasks.tasks().for_each(|task| self.announce(task));
        }
    }

    /// Where the inputs are that a worker must fetch.
    fn locations(&self, task: TaskId, worker: Rank) -> Vec<InputLocation> {
        let elsewhere = self.graph.value_inputs(task).iter();
        let elsewhere = elsewhere.filter(|&input| self.tasks.worker.get(input) != worker);
        let location = |input: TaskId| {
            let owner = self.tasks.worker.get(input);
            let record = self.workers.get(owner).expect("an input's owner lives");
            let attempt = self.tasks.attempt.get(input);
            let is_ahead = self.tasks.state.get(input) != TaskState::Finished;
            InputLocation { task: input, attempt, owner, incarnation: record.incarnation, is_ahead }
        };
        elsewhere.map(location).collect()
    }

    fn special(&self, task: TaskId, hosts: Option<Vec<String>>) -> Option<Box<Special>> {
        if hosts.is_none() && self.tasks.file_sizes.is_empty() {
            return None;
        }
        let sizes = |input: TaskId| {
            let attempt = self.tasks.attempt.get(input);
            Some((input, attempt, self.tasks.file_sizes.get(&input)?.clone()))
        };
        let files: Vec<_> = self.graph.inputs(task).filter_map(sizes).collect();
        let is_special = hosts.is_some() || !files.is_empty();
        is_special.then(|| Box::new(Special { files, hosts: hosts.unwrap_or_default() }))
    }

    /// Notes that a worker is about to fetch an output, so that `Release` reaches it too.
    fn note_copy(&mut self, task: TaskId, worker: Rank) {
        self.tasks.mark(task, Marks::SHARED);
        let copies = self.tasks.copies.entry(task).or_default();
        if !copies.contains(&worker) {
            copies.push(worker);
        }
    }

    pub(super) fn steal_for_idle_workers(&mut self) {
        if !self.workers.is_any_open() {
            return;
        }
        for class in (0..self.ready.requests().len()).map(Class) {
            let loot = |task: TaskId| Loot {
                class: self.ready.class_of(&self.graph, task),
                expected_us: f64::from(self.tasks.expected_us.get(task)),
                moving_us: moving_us(self.graph.value_inputs(task), &self.tasks),
                is_ahead: self.tasks.has(task, Marks::AHEAD),
                may_be_given_back: self.state(task) == TaskState::Assigned,
            };
            let stolen = steal(class, self.ready.requests(), &self.workers, loot);
            let Some((victim, mut tail)) = stolen else { continue };
            tail.sort_unstable();
            for task in tail {
                let order = Order::Retract(Span::one(task), self.tasks.attempt.get(task));
                self.workers.retract(victim, task, order);
            }
        }
    }
}
