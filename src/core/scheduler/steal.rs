//! Who gives queued tasks back so that idle workers get some.
//!
//! Only tails are taken: the least urgent tasks, which the victim would start last. A victim that
//! has started one meanwhile keeps it.

use crate::core::id::Rank;
use crate::core::resources::Resources;

use super::ready::Class;
use super::workers::{WorkerRecord, Workers};

/// A queue that is done within this time is left alone: giving back costs about as much.
const WORTH_US: u64 = 2_000;
/// Workers looked at to find one that could start a task at once, and to find one to take it from.
const WORKERS_LOOKED_AT: usize = 4;

/// What stealing must know of an assigned task.
pub struct Loot {
    /// What it asks for.
    pub class: Class,
    /// What having its inputs elsewhere costs, in microseconds.
    pub moving_us: u64,
}

/// Tasks of one class that `victim` should give back because a worker is idle, by urgency. `None`
/// when nobody who could run them is idle, or nobody has any worth moving.
pub fn steal(
    class: Class,
    requests: &[Resources],
    workers: &Workers,
    loot: impl Fn(u32) -> Loot,
) -> Option<(Rank, Vec<u32>)> {
    let mut thieves = workers.least_loaded(class).take(WORKERS_LOOKED_AT);
    let (thief, _) = thieves.find(|(_, record)| record.fits_now(&requests[class.0]))?;
    let victims = workers.most_loaded(class).take(WORKERS_LOOKED_AT);
    // A victim that is giving tasks back already is left alone.
    let mut others = victims.filter(|(rank, record)| *rank != thief && record.retracting.is_empty());
    others.find_map(|(victim, record)| {
        let waiting = waiting(record, class, requests, &loot);
        let half = waiting.len().div_ceil(2);
        (half > 0).then(|| (victim, waiting[..half].to_vec()))
    })
}

/// What a worker has of a class beyond what it can run at once, the least urgent first. What would
/// start there sooner than its inputs can be elsewhere stays, or placement would send it back.
fn waiting(
    record: &WorkerRecord,
    class: Class,
    requests: &[Resources],
    loot: impl Fn(u32) -> Loot,
) -> Vec<u32> {
    let cores = u64::from(record.capacity.cpus.max(1));
    let mut committed = record.committed.clone();
    let mut before_us = record.expected_us;
    let mut waiting = Vec::new();
    for (&urgency, &expected_us) in record.assigned.iter().rev() {
        if record.capacity.covers(&committed) {
            break;
        }
        let task = loot(urgency);
        committed.take(&requests[task.class.0]);
        before_us -= u64::from(expected_us);
        if task.class == class && before_us / cores >= WORTH_US + task.moving_us {
            waiting.push(urgency);
        }
    }
    waiting
}
