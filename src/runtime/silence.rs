//! Which workers have not been heard for so long that they are taken for lost, and whether anything moves at all.
//!
//! MPI does not say: what is sent to a rank that is gone, or that stands still, is taken all the same. A worker
//! with nothing to say says so every second.

use std::env;

use crate::core::id::Rank;
use crate::core::time::{Micros, Timestamp};

/// A worker that was not heard for so long is given up.
const LIMIT: Micros = Micros::from_secs(60);
/// Another limit, in seconds.
const VARIABLE: &str = "DAGMAR_SILENCE";
/// A run in which nothing moves for so long hangs. Longer than `LIMIT`: a worker that stands still is given up first.
const STANDSTILL: Micros = Micros::from_secs(75);
/// Another limit, in seconds.
const STANDSTILL_VARIABLE: &str = "DAGMAR_STANDSTILL";
/// Rank 0 looks every half second. If it did not for so long it was not there itself: a job that is suspended is
/// so on all its nodes.
const GAP: Micros = Micros::from_secs(5);

/// When each worker was heard last, and when anything happened.
#[derive(Debug)]
pub(super) struct Silence {
    /// By rank; none for those that were given up.
    heard: Vec<Option<Timestamp>>,
    looked: Timestamp,
    limit: Micros,
    moved: Timestamp,
    standstill: Micros,
}

impl Silence {
    /// Begins to listen to so many ranks.
    pub fn new(ranks: u32, now: Timestamp) -> Self {
        let asked = |name: &str| env::var(name).ok()?.parse().ok().map(Micros::from_secs);
        let (limit, standstill) = (asked(VARIABLE), asked(STANDSTILL_VARIABLE));
        Silence {
            heard: vec![Some(now); ranks as usize],
            looked: now,
            limit: limit.unwrap_or(LIMIT),
            moved: now,
            standstill: standstill.unwrap_or(STANDSTILL),
        }
    }

    /// A worker has said something.
    pub fn hear(&mut self, worker: Rank, now: Timestamp) {
        if let Some(Some(heard)) = self.heard.get_mut(worker.index()) {
            *heard = now;
        }
    }

    /// Something happened in the run.
    pub fn move_on(&mut self, now: Timestamp) {
        self.moved = now;
    }

    /// For how long nothing has happened, if that is too long for a run in which nothing runs.
    pub fn standstill(&self, now: Timestamp) -> Option<Micros> {
        Some(now.since(self.moved)).filter(|still| *still >= self.standstill)
    }

    /// A worker has left its work: it says nothing more.
    pub fn forget(&mut self, worker: Rank) {
        if let Some(heard) = self.heard.get_mut(worker.index()) {
            *heard = None;
        }
    }

    /// The workers that are given up now, each once. To be asked often.
    pub fn given_up(&mut self, now: Timestamp) -> Vec<Rank> {
        let away = now.since(std::mem::replace(&mut self.looked, now));
        if away >= GAP {
            log::warn!("this rank stood still for {away}");
            self.heard.iter_mut().flatten().for_each(|heard| *heard = *heard + away);
            self.moved = self.moved + away;
        }
        let mut lost = Vec::new();
        for (rank, heard) in (0..).map(Rank).zip(&mut self.heard).skip(1) {
            if heard.is_some_and(|heard| now.since(heard) >= self.limit) {
                *heard = None;
                lost.push(rank);
            }
        }
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    /// Looks every second up to this one.
    fn look_until(silence: &mut Silence, from: u64, to: u64) -> Vec<(u64, Rank)> {
        (from..=to)
            .flat_map(|second| silence.given_up(at(second)).into_iter().map(move |rank| (second, rank)))
            .collect()
    }

    #[test]
    fn a_worker_that_says_nothing_is_given_up_once() {
        let mut silence = Silence::new(3, at(100));
        assert_eq!(look_until(&mut silence, 101, 150), []);
        silence.hear(Rank(2), at(150));
        assert_eq!(look_until(&mut silence, 151, 220), [(160, Rank(1)), (210, Rank(2))]);
        silence.hear(Rank(1), at(221));
        assert_eq!(look_until(&mut silence, 221, 400), []);
    }

    #[test]
    fn who_stood_still_oneself_accuses_nobody() {
        let mut silence = Silence::new(2, at(100));
        assert_eq!(look_until(&mut silence, 101, 130), []);
        assert_eq!(silence.given_up(at(5_000)), []);
        assert_eq!(look_until(&mut silence, 5_001, 5_100), [(5_030, Rank(1))]);
    }
}
