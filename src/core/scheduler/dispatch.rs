//! Giving tasks to workers, and taking queued ones back for those that are idle.
//!
//! Tasks that need nothing from elsewhere go in spans: as many alike ones as follow each other and as the
//! worker has room for, in one order of a few bytes.

use std::sync::Arc;

use crate::core::graph::{Facts, Row};
use crate::core::id::{Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, InputLocation, Order, Special};
use crate::core::span::Span;
use crate::core::task::Body;

use super::machine::{Persist, Scheduler};
use super::placement::{Candidate, Choice, Inputs, look_at, moving_us, place};
use super::ready::{Class, Run};
use super::steal::{Loot, steal};
use super::tasks::{Marks, TaskState};

/// Dependents of tasks that are expected to take longer wait until they have finished: what looking ahead
/// saves is nothing beside them, and whoever is bound to a worker early may be missed elsewhere.
const AHEAD_OF_US: f32 = 2_000.0;

/// Among so many tasks before it a task's siblings are looked for.
const SIBLINGS_LOOKED_AT: u32 = 16;

/// How ready tasks are dealt out over turns.
#[derive(Debug)]
pub struct Dealing {
    /// The most orders that place tasks in a turn.
    pub pace: u32,
    /// True if the last turn gave that many.
    pub is_unfinished: bool,
    /// What it came to.
    shares: Shares,
}

impl Default for Dealing {
    fn default() -> Self {
        Dealing { pace: u32::MAX, is_unfinished: false, shares: Shares::default() }
    }
}

/// How the tasks of one run are shared out: consecutive ones to one worker, as neighbours often have
/// dependents in common.
#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    run_end: TaskId,
    each: u32,
    /// Whose turn it is, and what is left of its share, if that was cut as tasks are not alike.
    worker: Rank,
    left: u32,
}

impl Scheduler {
    pub(super) fn place_ready_tasks(&mut self) {
        let mut shares = std::mem::take(&mut self.dealing.shares);
        self.dealing.is_unfinished = false;
        if !self.workers.is_any_open() {
            return;
        }
        self.place_parked_tasks();
        let graph = Arc::clone(&self.graph);
        let mut after = None;
        let mut left = self.dealing.pace;
        while let Some((run, class)) = self.ready.next_head(after) {
            if left == 0 {
                (self.dealing.is_unfinished, self.dealing.shares) = (true, shares);
                return;
            }
            let task = run.tasks.first;
            let facts = graph.facts(task);
            let is_other = graph.has_grown() && self.ready.class(facts.options) != class;
            if is_other || !self.is_ready_by(task, &facts) {
                self.ready.take(class, 1);
                continue;
            }
            if self.would_end_late(task) {
                self.ready.take(class, 1);
                self.division.take(task, 1);
                self.held_back.insert(task);
                continue;
            }
            let inputs = self.look_closer(task, &facts);
            let choice = self.go_on(&shares, (task, run), &inputs, class);
            let choice = choice.or_else(|| self.divide(run, &inputs, class));
            match choice.unwrap_or_else(|| self.choose(task, &inputs, class)) {
                Choice::At(worker, room) => {
                    let share = if inputs.are_ahead { room } else { self.share(&mut shares, run, worker) };
                    let most = Span { count: run.tasks.count.min(room).min(share).max(1), ..run.tasks };
                    let tasks = self.alike(most, worker, (&facts, &inputs));
                    self.ready.take(class, tasks.count);
                    self.division.take(tasks.first, tasks.count);
                    let is_cut = tasks.count < most.count;
                    shares.left = if is_cut { shares.left.saturating_sub(tasks.count) } else { 0 };
                    self.assign(tasks, worker, (&facts, &inputs), None);
                    left -= 1;
                }
                _ if !self.workers.is_any_open() => return,
                Choice::Park(worker) => {
                    self.ready.take(class, 1);
                    self.division.take(task, 1);
                    self.workers.park(worker, run.level, task);
                }
                Choice::Follow(bond) => {
                    self.ready.take(class, 1);
                    self.division.take(task, 1);
                    self.note_follower(task, bond);
                    left -= 1;
                }
                Choice::Nowhere => after = Some((run, class)),
            }
        }
    }

    /// Parked tasks whose worker has room again, and those that a worker with nothing to do could take.
    fn place_parked_tasks(&mut self) {
        let graph = Arc::clone(&self.graph);
        let parked: Vec<Rank> = self.workers.with_parked().map(|(rank, _)| rank).collect();
        for rank in parked {
            while let Some(task) = self.workers.get(rank).and_then(|record| record.parked.first()) {
                let facts = graph.facts(task);
                if !self.is_ready_by(task, &facts) {
                    self.workers.unpark(rank);
                    continue;
                }
                if self.would_end_late(task) {
                    self.workers.unpark(rank);
                    self.held_back.insert(task);
                    continue;
                }
                let inputs = self.look_closer(task, &facts);
                match self.choose(task, &inputs, self.ready.class(facts.options)) {
                    Choice::At(worker, _) => {
                        self.workers.unpark(rank);
                        self.assign(Span::one(task), worker, (&facts, &inputs), None);
                    }
                    Choice::Park(worker) if worker != rank => {
                        self.workers.unpark(rank);
                        self.workers.park(worker, self.urgency.level(task), task);
                    }
                    Choice::Follow(bond) => {
                        self.workers.unpark(rank);
                        self.note_follower(task, bond);
                    }
                    Choice::Park(_) | Choice::Nowhere => break,
                }
            }
        }
    }

    /// Where the inputs are, of both kinds.
    #[inline]
    fn look_at_inputs(&self, facts: &Facts<'_>) -> Inputs {
        let mut inputs = look_at(facts.values, &self.tasks);
        inputs.bond = self.bond(facts);
        inputs.are_ahead |= inputs.bond.is_some();
        inputs
    }

    /// The same of a task that is about to be placed, with what speaks for a worker besides who has its inputs.
    #[inline]
    fn look_closer(&self, task: TaskId, facts: &Facts<'_>) -> Inputs {
        let inputs = self.look_at_inputs(facts);
        match inputs.are_worth_a_look() && self.workers.len() > 1 {
            true => inputs.with_copies(facts.values, self.sibling(task), &self.tasks),
            false => inputs,
        }
    }

    /// The last task before this one that has been given out and whose output is taken by the same dependent: where
    /// it is, and how large it is or may be.
    fn sibling(&self, task: TaskId) -> Option<(Rank, f64)> {
        let dependent = self.graph.dependents(task).iter().next()?;
        let before = (task.0.saturating_sub(SIBLINGS_LOOKED_AT)..task.0).rev().map(TaskId);
        let mut siblings =
            before.take_while(|&other| self.graph.dependents(other).iter().next() == Some(dependent));
        siblings.find_map(|sibling| {
            let bytes = match self.state(sibling) {
                TaskState::Finished => self.tasks.size_bytes.get(sibling),
                TaskState::Assigned | TaskState::Running => self.durations.expected_bytes(sibling),
                _ => return None,
            };
            Some((self.tasks.worker.get(sibling), f64::from(bytes)))
        })
    }

    fn choose(&self, task: TaskId, inputs: &Inputs, class: Class) -> Choice {
        let expected_us = self.durations.expected_us(task);
        if let Some(bond) = inputs.bond.filter(|_| expected_us > AHEAD_OF_US) {
            return Choice::Follow(bond);
        }
        let candidate = Candidate { class, request: &self.ready.requests()[class.0], expected_us };
        place(&candidate, inputs, &self.workers)
    }

    /// Tasks that take nothing go where their neighbours went, as long as there is room and a share left, even
    /// if they are not alike.
    fn go_on(
        &self,
        shares: &Shares,
        (task, run): (TaskId, Run),
        inputs: &Inputs,
        class: Class,
    ) -> Option<Choice> {
        if shares.left == 0
            || shares.run_end != run.tasks.end()
            || inputs.owner.is_some()
            || inputs.bond.is_some()
        {
            return None;
        }
        let record = self.workers.get(shares.worker)?;
        let room = record.room(&self.ready.requests()[class.0], self.durations.expected_us(task), false);
        (room > 0).then_some(Choice::At(shares.worker, room))
    }

    /// Where a task of a run goes whose inputs are still to come.
    fn divide(&mut self, run: Run, inputs: &Inputs, class: Class) -> Option<Choice> {
        let task = run.tasks.first;
        if !inputs.are_ahead || inputs.bond.is_some() || self.workers.len() == 1 {
            return None;
        }
        let expected_us = self.durations.expected_us(task);
        if self.division.next(task).is_none() && (run.tasks.count > 1 || self.division.is_at(run.level)) {
            let mut division = std::mem::take(&mut self.division);
            let inputs = |task: TaskId| {
                let facts = self.graph.facts(task);
                let inputs = self.look_at_inputs(&facts);
                let is_like = inputs.are_ahead && inputs.bond.is_none();
                (is_like && self.is_ready_by(task, &facts)).then_some(inputs)
            };
            division.divide(run, (class, expected_us), &self.workers, inputs);
            self.division = division;
        }
        let (worker, count) = self.division.next(task)?;
        let room = self.workers.get(worker)?.room(&self.ready.requests()[class.0], expected_us, true);
        Some(if room > 0 { Choice::At(worker, room.min(count)) } else { Choice::Park(worker) })
    }

    /// How many tasks of a run one worker gets at a time: its part of the whole run as it was when this
    /// turn came to it.
    fn share(&self, shares: &mut Shares, run: Run, worker: Rank) -> u32 {
        if shares.run_end != run.tasks.end() {
            let each = run.tasks.count.div_ceil(self.workers.len().max(1) as u32);
            *shares = Shares { run_end: run.tasks.end(), each, ..Shares::default() };
        }
        if shares.left == 0 || shares.worker != worker {
            (shares.worker, shares.left) = (worker, shares.each);
        }
        shares.left
    }

    /// The tasks from the first one of a span that can be ordered with it: alike, ready, and with nothing to
    /// fetch.
    fn alike(&self, tasks: Span, worker: Rank, (first, inputs): (&Facts<'_>, &Inputs)) -> Span {
        let alone = Span::one(tasks.first);
        let has_inputs = !first.values.is_empty();
        let is_single = tasks.count == 1
            || inputs.bond.is_some()
            || !self.ahead.is_of_one_node(first.options)
            || !self.tasks.file_sizes.is_empty()
            || self.graph.grown(tasks.first).is_some()
            || !inputs.are_all_at(worker);
        if is_single {
            return alone;
        }
        let noted = |task: TaskId| {
            (self.tasks.attempt.get(task), self.tasks.consumers.get(task), self.tasks.is_asked(task))
        };
        let like = noted(tasks.first);
        let sources_end = self.graph.sources_end(tasks.first);
        let fits = |&task: &TaskId| {
            if task < sources_end {
                return self.state(task) == TaskState::Waiting && noted(task) == like;
            }
            let facts = self.graph.facts(task);
            self.is_ready_by(task, &facts)
                && noted(task) == like
                && (facts.operation, facts.options) == (first.operation, first.options)
                && facts.values.is_empty() != has_inputs
                && self.goes_with(inputs, facts.values, worker)
                && self.bond(&facts).is_none()
        };
        let more = tasks.tasks().skip(1).take_while(fits);
        Span { count: 1 + more.count() as u32, ..alone }
    }

    /// True if these inputs are all at a worker, too, and are all there or not like the others.
    fn goes_with(&self, others: &Inputs, inputs: Row<'_>, worker: Rank) -> bool {
        let inputs = look_at(inputs, &self.tasks);
        inputs.are_all_at(worker) && inputs.are_ahead == others.are_ahead
    }

    /// Gives ready tasks to a worker, which are like the first; `hosts` are the nodes of a multi-node task.
    pub(super) fn assign(
        &mut self,
        tasks: Span,
        worker: Rank,
        (facts, its_inputs): (&Facts<'_>, &Inputs),
        hosts: Option<Vec<String>>,
    ) {
        let first = tasks.first;
        let class = self.ready.class(facts.options);
        let attempt = self.tasks.attempt.get(first).next();
        let is_ahead = its_inputs.are_ahead;
        let expected_us = self.durations.expected_us(first);
        let inputs = match its_inputs.are_all_at(worker) {
            true => Vec::new(),
            false => self.locations(facts.values, worker),
        };
        self.tasks.assign(tasks, worker, attempt);
        self.workers.assign(worker, tasks, class, expected_us, is_ahead);
        let consumers = self.tasks.consumers.get(first);
        self.tasks.expected_us.fill(tasks, expected_us);
        let kept = if consumers > 0 { Marks::KEPT } else { Marks::NONE };
        let persist = self.is_persisted(first, facts);
        let unsaved = if persist { Marks::UNSAVED } else { Marks::NONE };
        let ahead = if is_ahead { Marks::AHEAD } else { Marks::NONE };
        self.tasks.mark_afresh(tasks, kept | ahead | unsaved);
        its_inputs.bond.into_iter().for_each(|bond| self.note_follower(first, bond));
        for input in &inputs {
            self.note_copy(input.task, worker);
        }
        let urgency = self.urgency.level(first);
        let special = self.special(first, its_inputs, hosts);
        let assignment = Assignment { tasks, attempt, urgency, consumers, persist, inputs, special };
        self.workers.order(worker, Order::Assign(assignment));
        if expected_us <= AHEAD_OF_US && self.ahead.lets_ahead(facts) {
            tasks.tasks().for_each(|task| self.announce(task));
        }
    }

    /// True if a task's output is written into the run directory.
    pub(super) fn is_persisted(&self, task: TaskId, facts: &Facts<'_>) -> bool {
        let is_kept = || {
            let operation = self.graph.operation_with(task, facts.operation);
            matches!(operation.body, Body::Command(_)) || self.graph.options_with(task, facts.options).keep
        };
        match self.options.persist {
            Persist::None => false,
            Persist::Kept => is_kept(),
            Persist::Asked => is_kept() || self.tasks.is_asked(task),
            Persist::All => true,
        }
    }

    /// Where the inputs are that a worker must fetch.
    fn locations(&self, inputs: Row<'_>, worker: Rank) -> Vec<InputLocation> {
        let mut locations = Vec::with_capacity(2);
        for input in inputs {
            let owner = self.tasks.worker.get(input);
            if owner == worker {
                continue;
            }
            let incarnation = match owner {
                // It is in the run directory.
                Rank::SCHEDULER => Incarnation::default(),
                _ => self.workers.get(owner).expect("an input's owner lives").incarnation,
            };
            let attempt = self.tasks.attempt.get(input);
            let is_ahead = self.tasks.state.get(input) != TaskState::Finished;
            locations.push(InputLocation { task: input, attempt, owner, incarnation, is_ahead });
        }
        locations
    }

    fn special(&self, task: TaskId, inputs: &Inputs, hosts: Option<Vec<String>>) -> Option<Box<Special>> {
        let row = self.graph.grown(task).cloned();
        let follows = inputs.bond.map(|bond| (bond.input, self.tasks.attempt.get(bond.input)));
        if hosts.is_none() && self.tasks.file_sizes.is_empty() && row.is_none() && follows.is_none() {
            return None;
        }
        let sizes = |input: TaskId| {
            let attempt = self.tasks.attempt.get(input);
            Some((input, attempt, self.tasks.file_sizes.get(&input)?.clone()))
        };
        let files: Vec<_> = self.graph.inputs(task).filter_map(sizes).collect();
        let is_special = hosts.is_some() || !files.is_empty() || row.is_some() || follows.is_some();
        is_special.then(|| Box::new(Special { files, follows, hosts: hosts.unwrap_or_default(), row }))
    }

    /// Notes that a worker is about to fetch an output, so that `Release` reaches it too.
    fn note_copy(&mut self, task: TaskId, worker: Rank) {
        self.tasks.mark(task, Marks::SHARED);
        self.tasks.copies.add(task, worker);
    }

    pub(super) fn steal_for_idle_workers(&mut self) {
        if !self.workers.is_any_open() {
            return;
        }
        for class in (0..self.ready.requests().len()).map(Class) {
            let loot = |task: TaskId| Loot {
                class: self.ready.class(self.graph.options_id(task)),
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
