//! How a run of tasks whose inputs are still to come is divided among workers.
//!
//! Each of them by itself is best done where its inputs will be: there it waits for nobody. So whatever
//! once came to one worker would stay there for ever, as every task finds the inputs of its neighbours where
//! they are. A run takes as long as its largest share; what is beyond a fair share of it goes elsewhere
//! if that saves more time than a fetch costs. Nothing else is looked at, least of all how long queues are:
//! they are known as they were a while ago.

use std::collections::BTreeMap;

use crate::core::id::{Rank, TaskId};
use crate::core::span::Span;

use super::placement::{Inputs, fetch_us};
use super::ready::{Class, Run};
use super::workers::Workers;

/// Tasks that are divided at a time.
const DIVIDED_MAX: u32 = 16_384;
/// Least loaded workers looked at for one that has not got its share.
const WORKERS_LOOKED_AT: usize = 16;

/// The run that was divided last: which worker gets how many of the next tasks.
#[derive(Debug, Default)]
pub struct Division {
    next: TaskId,
    /// The last piece first.
    pieces: Vec<(Rank, u32)>,
    /// Tasks of one level may come in several runs: what each worker has got of it so far.
    level: u32,
    given: BTreeMap<Rank, u32>,
    /// Tasks of the level so far, and of the one before: as many are likely to come again.
    count: u32,
    count_before: u32,
}

/// The workers of the tasks of a run, while it is being divided.
struct Shares<'a> {
    workers: &'a Workers,
    class: Class,
    expected_us: f64,
    /// Tasks that are taken to be in the level.
    count: u32,
    given: &'a mut BTreeMap<Rank, u32>,
}

impl Division {
    /// Divides the first tasks of a run, which ask for `class` and take `expected_us` each, and whose inputs
    /// `inputs` tells of: `None` from the first task on that is not like this.
    pub fn divide(
        &mut self,
        run: Run,
        (class, expected_us): (Class, f32),
        workers: &Workers,
        inputs: impl Fn(TaskId) -> Option<Inputs>,
    ) {
        let tasks = Span { count: run.tasks.count.min(DIVIDED_MAX), ..run.tasks };
        if self.level != run.level {
            (self.level, self.count_before, self.count) = (run.level, self.count, 0);
            self.given.clear();
        }
        let count = (self.count + tasks.count).max(self.count_before);
        let expected_us = f64::from(expected_us);
        let mut shares = Shares { workers, class, expected_us, count, given: &mut self.given };
        let mut owners: Vec<Rank> = Vec::new();
        for task in tasks.tasks() {
            let owner = inputs(task).and_then(|inputs| shares.owner(&inputs, owners.last().copied()));
            let Some(owner) = owner else { break };
            *shares.given.entry(owner).or_default() += 1;
            owners.push(owner);
        }
        shares.move_excess(&mut owners);
        self.count += owners.len() as u32;
        (self.next, self.pieces) = (tasks.first, Vec::new());
        for owner in owners.into_iter().rev() {
            match self.pieces.last_mut() {
                Some((rank, count)) if *rank == owner => *count += 1,
                _ => self.pieces.push((owner, 1)),
            }
        }
    }

    /// True if tasks of this level were divided last.
    pub fn is_at(&self, level: u32) -> bool {
        self.level == level
    }

    /// Who gets the next task, and how many from there on; `None` if it is another one.
    pub fn next(&self, task: TaskId) -> Option<(Rank, u32)> {
        self.pieces.last().copied().filter(|_| self.next == task)
    }

    /// So many tasks from this one on were given away; nothing if another one is next.
    pub fn take(&mut self, first: TaskId, count: u32) {
        if self.next != first {
            return;
        }
        self.next = TaskId(self.next.0 + count);
        let Some((_, left)) = self.pieces.last_mut() else { return };
        *left = left.saturating_sub(count);
        if *left == 0 {
            self.pieces.pop();
        }
    }
}

impl Shares<'_> {
    /// Who has most of the inputs; of two that have as many, who got the task before this one, until it has
    /// its share.
    fn owner(&self, inputs: &Inputs, before: Option<Rank>) -> Option<Rank> {
        let able = |rank: &Rank| self.workers.is_able(*rank, self.class);
        let (owner, rival) = (inputs.owner.filter(able), inputs.rival.filter(able));
        match (owner, rival) {
            (Some(owner), Some(rival)) => {
                let goes_on = before.filter(|it| [owner, rival].contains(it));
                let goes_on = goes_on.filter(|&it| self.lacks(it));
                goes_on.or_else(|| [owner, rival].into_iter().min_by_key(|&it| (self.given_to(it), it)))
            }
            (owner, rival) => owner.or(rival),
        }
    }

    /// Moves what those have too much who would be done sooner without it: their last tasks.
    fn move_excess(&mut self, owners: &mut [Rank]) {
        let mut excess: BTreeMap<Rank, u32> = BTreeMap::new();
        for &owner in &*owners {
            excess.entry(owner).or_insert_with(|| self.excess_worth_moving(owner));
        }
        let mut target = None;
        for owner in owners.iter_mut().rev() {
            let Some(excess) = excess.get_mut(owner).filter(|excess| **excess > 0) else { continue };
            target = target.filter(|&rank| self.lacks(rank)).or_else(|| self.first_lacking());
            let Some(target) = target else { return };
            *self.given.entry(target).or_default() += 1;
            *self.given.entry(*owner).or_default() -= 1;
            *excess -= 1;
            *owner = target;
        }
    }

    /// What a worker has got beyond its share, if to move that saves more than a fetch.
    fn excess_worth_moving(&self, rank: Rank) -> u32 {
        let excess = self.given_to(rank).saturating_sub(self.fair_share(rank));
        let Some(record) = self.workers.get(rank).filter(|_| excess > 0) else { return 0 };
        let saved_us = f64::from(excess) * self.expected_us / f64::from(record.capacity.cpus.max(1));
        let target = self.first_lacking().and_then(|rank| self.workers.get(rank));
        let is_worth = target.is_some_and(|target| saved_us > fetch_us(record, target));
        if is_worth { excess } else { 0 }
    }

    fn given_to(&self, rank: Rank) -> u32 {
        self.given.get(&rank).copied().unwrap_or(0)
    }

    fn fair_share(&self, rank: Rank) -> u32 {
        self.workers.fair_share(rank, self.count)
    }

    fn lacks(&self, rank: Rank) -> bool {
        self.given_to(rank) < self.fair_share(rank)
    }

    fn first_lacking(&self) -> Option<Rank> {
        let mut idle = self.workers.least_loaded(self.class).take(WORKERS_LOOKED_AT);
        idle.find(|&(rank, _)| self.lacks(rank)).map(|(rank, _)| rank)
    }
}
