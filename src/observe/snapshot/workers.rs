//! The workers of a run, as its events tell of them.

use std::collections::BTreeMap;

use crate::core::event::Totals;
use crate::core::id::{Incarnation, Rank};
use crate::core::resources::Resources;
use crate::core::time::{Micros, Timestamp};

/// One worker over all its lives since the run began or was resumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkerView {
    /// Its rank.
    pub rank: Rank,
    /// Which life this is.
    pub incarnation: Incarnation,
    /// The node it runs on.
    pub host: String,
    /// What it has.
    pub capacity: Resources,
    /// Whether it is there.
    pub presence: Presence,
    /// Tasks that ran to success on it.
    pub tasks_finished: u32,
    /// Attempts that ended badly on it.
    pub attempts_failed: u32,
    /// Time that its attempts ran, summed over them: two at once count twice.
    pub busy: Micros,
    /// Cores times time: `busy` with each attempt times its cores.
    pub busy_cpus: Micros,
    /// Cores times the time it was there in earlier lives.
    pub past_cpus: Micros,
    /// When its present life began.
    pub joined: Timestamp,
    /// What it moved, known once it has left.
    pub totals: Totals,
}

impl WorkerView {
    /// Cores times the time of its present life that falls into the run.
    fn present_cpus(&self, began: Timestamp, until: Timestamp) -> Micros {
        match self.presence {
            Presence::Here => super::times(until.since(self.joined.max(began)), self.capacity.cpus),
            Presence::Lost | Presence::Left => Micros::ZERO,
        }
    }

    fn end(&mut self, began: Timestamp, time: Timestamp, presence: Presence) {
        if self.presence == Presence::Here {
            self.past_cpus = self.past_cpus + self.present_cpus(began, time);
            self.presence = presence;
        }
    }
}

/// Whether a worker is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    #[default]
    Here,
    /// It was given up.
    Lost,
    /// It left in order.
    Left,
}

/// All of them, and what those did that were there before the run was resumed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Workers {
    here: BTreeMap<Rank, WorkerView>,
    /// When the run began.
    began: Timestamp,
    offered_before: Micros,
    busy_before: Micros,
    totals_before: Totals,
}

impl Workers {
    /// Nothing counts before this.
    pub fn on_run_started(&mut self, time: Timestamp) {
        self.began = time;
    }

    /// The ranks are others from now on. The last event before was at `last`.
    pub fn on_run_resumed(&mut self, last: Timestamp) {
        for (_, mut worker) in std::mem::take(&mut self.here) {
            worker.end(self.began, last, Presence::Lost);
            self.offered_before = self.offered_before + worker.past_cpus;
            self.busy_before = self.busy_before + worker.busy_cpus;
            add(&mut self.totals_before, worker.totals);
        }
    }

    pub fn on_joined(&mut self, life: WorkerView) {
        self.on_gone(life.joined, life.rank, Presence::Lost);
        let worker = self.here.entry(life.rank).or_default();
        let WorkerView { rank, incarnation, host, capacity, presence, joined, .. } = life;
        *worker = WorkerView { rank, incarnation, host, capacity, presence, joined, ..worker.clone() };
    }

    pub fn on_left(&mut self, time: Timestamp, rank: Rank, totals: Totals) {
        self.on_gone(time, rank, Presence::Left);
        if let Some(worker) = self.here.get_mut(&rank) {
            add(&mut worker.totals, totals);
        }
    }

    pub fn on_gone(&mut self, time: Timestamp, rank: Rank, presence: Presence) {
        if let Some(worker) = self.here.get_mut(&rank) {
            worker.end(self.began, time, presence);
        }
    }

    pub fn get_mut(&mut self, rank: Rank) -> Option<&mut WorkerView> {
        self.here.get_mut(&rank)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &WorkerView> {
        self.here.values()
    }

    pub fn offered_cpus(&self, until: Timestamp) -> Micros {
        let here = self.iter().map(|worker| worker.past_cpus + worker.present_cpus(self.began, until));
        here.fold(self.offered_before, |sum, cpus| sum + cpus)
    }

    pub fn busy_cpus(&self) -> Micros {
        self.iter().fold(self.busy_before, |sum, worker| sum + worker.busy_cpus)
    }

    /// What all moved that have left.
    pub fn totals(&self) -> Totals {
        self.iter().fold(self.totals_before, |mut sum, worker| {
            add(&mut sum, worker.totals);
            sum
        })
    }
}

/// Saturates: what a journal tells may be wrong.
fn add(sum: &mut Totals, more: Totals) {
    sum.sent_bytes = sum.sent_bytes.saturating_add(more.sent_bytes);
    sum.received_bytes = sum.received_bytes.saturating_add(more.received_bytes);
    sum.spilled_bytes = sum.spilled_bytes.saturating_add(more.spilled_bytes);
    sum.read_back_bytes = sum.read_back_bytes.saturating_add(more.read_back_bytes);
}
