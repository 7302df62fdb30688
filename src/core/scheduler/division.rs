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
use super::ready::Class;
use super::workers::Workers;

/// Tasks that are divided at a time.
const DIVIDED_MAX: u32 = 16_384;
/// Least loaded workers looked at for one that has not got its share.
const WORKERS_LOOKED_AT: usize = 16;

/// What is left of a run that was divided: which worker gets how many of the next tasks, the last first.
#[derive(Debug, Default)]
pub struct Division {
    next: TaskId,
    pieces: Vec<(Rank, u32)>,
}

/// The workers of the tasks of a run, while it is being divided.
struct Shares<'a> {
    workers: &'a Workers,
    count: u32,
    class: Class,
    expected_us: f64,
    given: BTreeMap<Rank, u32>,
}

impl Division {
    /// Divides the first tasks of a run, which ask for `class` and take `expected_us` each, and whose inputs
    /// `inputs` tells of: `None` from the first task on that is not like this.
    pub fn of(
        run: Span,
        (class, expected_us): (Class, f32),
        workers: &Workers,
        inputs: impl Fn(TaskId) -> Option<Inputs>,
    ) -> Self {
        let expected_us = f64::from(expected_us);
        let mut shares = Shares { workers, count: 0, class, expected_us, given: BTreeMap::new() };
        let run = Span { count: run.count.min(DIVIDED_MAX), ..run };
        let mut owners: Vec<Rank> = Vec::new();
        for task in run.tasks() {
            let owner =
                inputs(task).and_then(|inputs| shares.owner(&inputs, owners.last().copied(), run.count));
            let Some(owner) = owner else { break };
            *shares.given.entry(owner).or_default() += 1;
            owners.push(owner);
        }
        shares.count = owners.len() as u32;
        shares.move_excess(&mut owners);
        let mut pieces: Vec<(Rank, u32)> = Vec::new();
        for owner in owners.into_iter().rev() {
            match pieces.last_mut() {
                Some((rank, count)) if *rank == owner => *count += 1,
                _ => pieces.push((owner, 1)),
            }
        }
        Division { next: run.first, pieces }
    }

    /// Who gets the next task, and how many from there on; `None` if it is another one.
    pub fn next(&self, task: TaskId) -> Option<(Rank, u32)> {
        self.pieces.last().copied().filter(|_| self.next == task)
    }

    /// So many tasks were given away.
    pub fn take(&mut self, count: u32) {
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
    fn owner(&self, inputs: &Inputs, before: Option<Rank>, count: u32) -> Option<Rank> {
        let able = |rank: &Rank| self.workers.is_able(*rank, self.class);
        let (owner, rival) = (inputs.owner.filter(able), inputs.rival.filter(able));
        let given = |rank: Rank| self.given.get(&rank).copied().unwrap_or(0);
        match (owner, rival) {
            (Some(owner), Some(rival)) => {
                let goes_on = before.filter(|it| [owner, rival].contains(it));
                let goes_on = goes_on.filter(|&it| given(it) < self.workers.fair_share(it, count));
                goes_on.or_else(|| [owner, rival].into_iter().min_by_key(|&it| (given(it), it)))
            }
            (owner, rival) => owner.or(rival),
        }
    }

    /// Moves what those have too much who would be done sooner without it.
    fn move_excess(&mut self, owners: &mut [Rank]) {
        let mut kept: BTreeMap<Rank, u32> =
            self.given.keys().filter(|&&rank| self.has_excess(rank)).map(|&rank| (rank, 0)).collect();
        if kept.is_empty() {
            return;
        }
        let mut target = None;
        for owner in owners {
            let Some(kept) = kept.get_mut(owner) else { continue };
            if *kept < self.workers.fair_share(*owner, self.count) {
                *kept += 1;
                continue;
            }
            target = target.filter(|&rank| self.lacks(rank)).or_else(|| self.first_lacking());
            let Some(target) = target else { return };
            *self.given.entry(target).or_default() += 1;
            *self.given.entry(*owner).or_default() -= 1;
            *owner = target;
        }
    }

    /// True if a worker has so much more than its share that moving the excess saves more than a fetch.
    fn has_excess(&self, rank: Rank) -> bool {
        let excess = self.given[&rank].saturating_sub(self.workers.fair_share(rank, self.count));
        let Some(record) = self.workers.get(rank).filter(|_| excess > 0) else { return false };
        let saved_us = f64::from(excess) * self.expected_us / f64::from(record.capacity.cpus.max(1));
        let target = self.first_lacking().and_then(|rank| self.workers.get(rank));
        target.is_some_and(|target| saved_us > fetch_us(record, target))
    }

    fn lacks(&self, rank: Rank) -> bool {
        self.given.get(&rank).copied().unwrap_or(0) < self.workers.fair_share(rank, self.count)
    }

    fn first_lacking(&self) -> Option<Rank> {
        let mut idle = self.workers.least_loaded(self.class).take(WORKERS_LOOKED_AT);
        idle.find(|&(rank, _)| self.lacks(rank)).map(|(rank, _)| rank)
    }
}
