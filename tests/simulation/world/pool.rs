//! The simulated pool of a worker, and what runs at it: light tasks start in any order once their inputs are in
//! the store, and their ends are handed in late and out of order, as slots gather them.

use std::collections::{BTreeMap, BTreeSet};

use dagmar::core::batch::Batch;
use dagmar::core::event::{Cause, Failure};
use dagmar::core::graph::Graph;
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::Assignment;
use dagmar::core::span::Span;
use dagmar::core::time::{Micros, Timestamp};
use dagmar::core::worker;

use super::{Due, World};
use crate::coverage::Happening;
use crate::growing::Who;

/// A task that runs.
#[derive(Clone, Copy)]
pub struct Run {
    pub attempt: Attempt,
    pub value: u64,
    pub is_kept: bool,
    pub is_persisted: bool,
    pub is_light: bool,
    pub started: Timestamp,
}

/// A success that was not handed in yet.
#[derive(Clone, Copy)]
struct End {
    task: TaskId,
    attempt: Attempt,
    started: Timestamp,
    ran: Micros,
    size_bytes: u64,
}

/// How a task is to be run.
#[derive(Clone, Copy)]
pub struct Terms {
    pub attempt: Attempt,
    pub is_kept: bool,
    pub is_persisted: bool,
}

impl Terms {
    pub fn of(assignment: &Assignment) -> Self {
        let &Assignment { attempt, consumers, persist, .. } = assignment;
        Terms { attempt, is_kept: consumers > 0, is_persisted: persist }
    }
}

#[derive(Default)]
pub struct Pool {
    slots: u32,
    /// Slots that it was told to leave and still uses.
    owes: bool,
    /// Tasks that have not started.
    admitted: BTreeMap<TaskId, Terms>,
    busy: u32,
    ended: Vec<End>,
    pub watched: BTreeSet<(TaskId, Attempt)>,
}

impl Pool {
    pub fn admit(&mut self, assignment: &Assignment) {
        for task in assignment.tasks.tasks() {
            let before = self.admitted.insert(task, Terms::of(assignment));
            assert!(before.is_none(), "task {task} is admitted twice");
        }
    }

    pub fn revoke(&mut self, tasks: Span, attempt: Attempt) -> Vec<worker::Input> {
        let mut revoked = Vec::new();
        let mut kept = Vec::new();
        for task in tasks.tasks() {
            if self.admitted.get(&task).is_some_and(|terms| terms.attempt == attempt) {
                self.admitted.remove(&task);
                Span::add_to(&mut revoked, task);
            } else {
                kept.push(worker::Input::Kept(task, attempt));
            }
        }
        let revoked = revoked.into_iter().map(|tasks| worker::Input::Revoked(tasks, attempt));
        revoked.chain(kept).collect()
    }

    pub fn set_slots(&mut self, slots: u32) -> Vec<worker::Input> {
        self.slots = slots;
        self.owes = true;
        self.yielded()
    }

    fn yielded(&mut self) -> Vec<worker::Input> {
        let is_due = self.owes && self.busy <= self.slots;
        self.owes &= !is_due;
        is_due.then_some(worker::Input::Yielded(self.slots)).into_iter().collect()
    }

    pub fn has_ended(&self, task: TaskId, attempt: Attempt) -> bool {
        self.ended.iter().any(|end| (end.task, end.attempt) == (task, attempt))
    }

    /// Those that have not started and whose inputs are all here.
    pub fn ready(&self, graph: &Graph, store: &BTreeMap<TaskId, (Attempt, u64)>) -> Vec<TaskId> {
        let can_start = |task: &TaskId| graph.value_inputs(*task).iter().all(|it| store.contains_key(&it));
        self.admitted.keys().copied().filter(can_start).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.admitted.is_empty() && self.ended.is_empty() && self.busy == 0
    }
}

impl World {
    /// Lets the pool look for work soon.
    pub(super) fn wake_pool(&mut self, rank: Rank) {
        let node = &self.nodes[&rank];
        if node.is_alive && !node.pool.admitted.is_empty() && node.pool.busy < node.pool.slots {
            let life = node.life;
            let delay = self.rng.u64(0..=self.faults.run_us_max.min(60));
            self.plan(delay, Due::Pool(rank, life));
        }
    }

    /// Starts one of the light tasks whose inputs are all in the store.
    pub(super) fn pool_starts(&mut self, rank: Rank, life: Incarnation) {
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        if !node.is_alive || node.life != life || node.pool.busy >= node.pool.slots {
            return;
        }
        let ready = node.pool.ready(&node.graph, &node.store);
        if ready.is_empty() {
            return;
        }
        let (able, is_only) = self.startable(rank, ready);
        if able.is_empty() {
            return;
        }
        let task = able[self.rng.usize(..able.len())];
        if is_only {
            self.set_only(rank, task);
        }
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        let terms = node.pool.admitted.remove(&task).expect("it is among them");
        node.pool.busy += 1;
        self.coverage.happened(Happening::LightTaskStarted);
        self.check_exclusive(rank, task, &[]);
        self.start(rank, task, terms, true);
        self.wake_pool(rank);
    }

    /// Runs a task for real: its value is computed from what the store holds *now*.
    pub(super) fn start(&mut self, rank: Rank, task: TaskId, terms: Terms, is_light: bool) {
        let Terms { attempt, is_kept, is_persisted } = terms;
        self.check_not_promised(task, attempt);
        self.check_not_quarantined(task, attempt);
        self.check_memory(rank, task);
        let node = self.nodes.get_mut(&rank).expect("a machine acts on its own node");
        let input = |id: TaskId| {
            let here = node.store.get(&id).map(|(_, value)| *value);
            here.unwrap_or_else(|| panic!("task {task} starts at {rank} without its input {id}"))
        };
        for before in node.graph.inputs(task).filter(|&input| !self.problem.graph.is_join(input)) {
            assert!(
                self.finished.contains_key(&before) || self.skipped.contains(&before),
                "task {task} starts at {rank} before the end of {before}"
            );
        }
        let who = Who::of(&node.graph, task);
        let inputs: Vec<u64> = node.graph.value_inputs(task).iter().map(input).collect();
        let value = self.problem.growing.value(who, &inputs);
        let addition = self.problem.growing.addition(who, inputs.len());
        let started = Timestamp(self.now);
        let run = Run { attempt, value, is_kept, is_persisted, is_light, started };
        let before = node.running.insert(task, run);
        assert!(before.is_none(), "task {task} runs twice at {rank}");
        let life = node.life;
        let read_us = self.take_inputs(rank, task, attempt);
        let run_us = read_us + self.rng.u64(0..=self.faults.run_us_max);
        if self.kills_its_rank(task) {
            return self.plan(run_us, Due::Kills { worker: rank, life, task, attempt });
        }
        if let Some(place) = self.vanished_input(rank, task) {
            let cause = Some(Cause::LostInput(place));
            return self.plan(run_us, Due::Ended { worker: rank, life, task, attempt, cause });
        }
        let fails = self.rng.u8(..) < self.faults.failures_of_256;
        let cause = match (fails, addition) {
            (true, _) => Some(self.fault_of(task)),
            (false, addition) => addition.map(|addition| Cause::HandedOn(Box::new(addition))),
        };
        self.plan(run_us, Due::Ended { worker: rank, life, task, attempt, cause });
    }

    /// An input, made by this worker, that is gone when the task is to begin.
    fn vanished_input(&mut self, rank: Rank, task: TaskId) -> Option<u32> {
        if self.rng.u8(..) >= self.faults.vanished_of_256 {
            return None;
        }
        let graph = self.problem.graph.clone();
        // What was written into the run directory has left the process that made it, and a copy is in nobody's process.
        let made = &self.nodes[&rank].made;
        let may_vanish = |input: TaskId| {
            let (owner, attempt) = self.scheduler.location(input);
            owner == rank
                && made.contains(&(input, attempt))
                && !self.disk.outputs.contains_key(&(input, attempt))
        };
        let place = graph.value_inputs(task).iter().position(may_vanish)?;
        self.coverage.happened(Happening::OutputVanished);
        Some(place as u32)
    }

    pub(super) fn end(
        &mut self,
        rank: Rank,
        life: Incarnation,
        (task, attempt): (TaskId, Attempt),
        cause: Option<Cause>,
    ) {
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        let is_this_life = node.is_alive && node.life == life;
        let run = node.running.get(&task).filter(|run| is_this_life && run.attempt == attempt).copied();
        let Some(Run { value, is_kept, is_persisted, is_light, started, .. }) = run else { return };
        node.running.remove(&task);
        self.let_go(rank, (task, attempt), is_light);
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        let ran = Timestamp(self.now).since(started);
        if let Some(cause) = cause {
            if self.is_stopping && matches!(cause, Cause::HandedOn(_)) {
                self.coverage.happened(Happening::HandedOnInVain);
            }
            let failure = Failure { started, ran: Micros::ZERO, cause };
            self.worker_takes(rank, worker::Input::Failed { task, attempt, failure });
        } else {
            node.made.insert((task, attempt));
            if is_kept {
                node.store.insert(task, (attempt, value));
                self.keep(rank, task);
            }
            self.finished.insert(task, value);
            if is_persisted {
                self.write_output(rank, task, attempt, value);
            }
            let size_bytes = self.size_of(task);
            let end = End { task, attempt, started, ran, size_bytes };
            self.hand_in(rank, life, end, is_light);
        }
        if is_light {
            let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
            node.pool.busy -= 1;
            for answer in node.pool.yielded() {
                self.coverage.happened(Happening::PoolYielded);
                self.worker_takes(rank, answer);
            }
        }
        self.wake_pool(rank);
    }

    /// Heavy tasks, and those that somebody waits for, at once; others some time later.
    fn hand_in(&mut self, rank: Rank, life: Incarnation, end: End, is_light: bool) {
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        node.pool.ended.push(end);
        if !is_light || node.pool.watched.remove(&(end.task, end.attempt)) {
            return self.flush(rank, life);
        }
        let delay = self.rng.u64(0..=1_000);
        self.plan(delay, Due::Flush(rank, life));
    }

    /// Hands all ends in, in any order.
    pub(super) fn flush(&mut self, rank: Rank, life: Incarnation) {
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        if !node.is_alive || node.life != life {
            return;
        }
        let mut ended = std::mem::take(&mut node.pool.ended);
        self.rng.shuffle(&mut ended);
        let mut batches: Vec<Batch> = Vec::new();
        for end in ended {
            if batches.last().is_none_or(|batch| batch.attempt != end.attempt) {
                batches.push(Batch::new(end.attempt));
            }
            let batch = batches.last_mut().expect("just made");
            batch.push(end.task, end.started, end.ran, end.size_bytes);
        }
        for batch in batches {
            if batch.len() > 1 {
                self.coverage.happened(Happening::EndsGathered);
            }
            self.worker_takes(rank, worker::Input::Finished(batch));
        }
    }
}
