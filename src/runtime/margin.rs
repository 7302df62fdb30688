//! When a run must be stopped so that what it holds can be saved before its allocation ends.

use std::collections::BTreeMap;
use std::env;

use crate::core::id::Rank;
use crate::core::time::{Micros, Timestamp};

/// The variable that says when everything must be over, in seconds since 1970.
pub const UNTIL: &str = "DAGMAR_UNTIL";

/// Bytes that a run directory takes of one worker in a second, until that was measured: it is on a shared file system that
/// many write to.
pub(super) const WRITES_PER_SECOND: u64 = 100_000_000;

/// How often it is looked at what there is to save, which takes some milliseconds for 10^6 tasks.
const LOOK_EVERY: Micros = Micros::from_secs(2);
/// So many looks in a row must find that it is time.
const LOOKS: u32 = 3;

/// The end, and how fast each worker saves what it holds.
#[derive(Debug)]
pub(super) struct Margin {
    until: Option<Timestamp>,
    writes_per_second: BTreeMap<Rank, u64>,
    looked: Timestamp,
    over: u32,
}

impl Margin {
    /// What the environment says.
    pub fn new() -> Self {
        Margin { until: until(), writes_per_second: BTreeMap::new(), looked: Timestamp::default(), over: 0 }
    }

    /// A worker writes so fast.
    pub fn hear(&mut self, worker: Rank, writes_per_second: u64) {
        self.writes_per_second.insert(worker, writes_per_second);
    }

    /// True if what is to be saved, in bytes by worker, could not be saved in time if the run went on. Workers save side
    /// by side.
    pub fn is_over(&mut self, now: Timestamp, unsaved_bytes: impl Fn() -> BTreeMap<Rank, u64>) -> bool {
        let Some(until) = self.until.filter(|_| now.since(self.looked) >= LOOK_EVERY) else { return false };
        self.looked = now;
        let takes = unsaved_bytes().into_iter().map(|(worker, bytes)| self.takes(worker, bytes));
        let longest = takes.max().unwrap_or(Micros::ZERO);
        let slack = Micros(LOOK_EVERY.0 * u64::from(LOOKS));
        let is_time = longest > Micros::ZERO && now + longest + slack >= until;
        self.over = if is_time { self.over + 1 } else { 0 };
        self.over >= LOOKS
    }

    fn takes(&self, worker: Rank, bytes: u64) -> Micros {
        let rate = self.writes_per_second.get(&worker).copied().unwrap_or(WRITES_PER_SECOND).max(1);
        Micros((bytes as f64 / rate as f64 * 1e6) as u64)
    }
}

/// When everything must be over, if whoever started this process knows.
pub(super) fn until() -> Option<Timestamp> {
    let seconds: u64 = env::var(UNTIL).ok()?.parse().ok()?;
    Some(Timestamp(0) + Micros::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    /// The second in which a run is stopped that must be over in second 1000.
    fn stopped(unsaved: &[(u32, u64)], rates: &[(u32, u64)]) -> Option<u64> {
        let mut margin = Margin { until: Some(at(1000)), ..Margin::new() };
        rates.iter().for_each(|&(worker, rate)| margin.hear(Rank(worker), rate));
        let unsaved: BTreeMap<Rank, u64> =
            unsaved.iter().map(|&(worker, bytes)| (Rank(worker), bytes)).collect();
        (1..1100).find(|&second| margin.is_over(at(second), || unsaved.clone()))
    }

    #[test]
    fn a_run_is_stopped_earlier_if_there_is_more_to_save() {
        assert_eq!(stopped(&[], &[]), None);
        let ten_seconds = stopped(&[(1, 1_000_000_000)], &[]).unwrap();
        assert!((984..=990).contains(&ten_seconds), "{ten_seconds}");
        let longest = stopped(&[(1, 1_000_000_000), (2, 1_000_000_000)], &[(2, 10_000_000)]).unwrap();
        assert!((894..=900).contains(&longest), "{longest}");
    }

    #[test]
    fn what_looks_long_for_a_moment_stops_nothing() {
        let mut margin = Margin { until: Some(at(1000)), ..Margin::new() };
        let much = || BTreeMap::from([(Rank(1), u64::MAX)]);
        assert!(!margin.is_over(at(10), much) && !margin.is_over(at(12), much));
        assert!(!margin.is_over(at(14), BTreeMap::new));
        assert!(!margin.is_over(at(16), much) && !margin.is_over(at(17), much), "the last is no look");
    }
}
