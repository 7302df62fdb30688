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
/// Most loaded workers looked at for one idle worker.
const VICTIMS_LOOKED_AT: usize = 4;

/// Tasks of one class that `victim` should give back because a worker is idle, by urgency. `None`
/// when nobody who could run them is idle, or nobody has any worth moving.
pub fn steal(
    class: Class,
    requests: &[Resources],
    workers: &Workers,
    class_of: impl Fn(u32) -> Class,
) -> Option<(Rank, Vec<u32>)> {
    let (thief, idle) = workers.least_loaded(class).next()?;
    if !idle.fits_now(&requests[class.0]) {
        return None;
    }
    let victims = workers.most_loaded(class).take(VICTIMS_LOOKED_AT);
    let mut worth = victims.filter(|(rank, record)| *rank != thief && is_worth_robbing(record));
    worth.find_map(|(victim, record)| {
        let waiting = waiting(record, class, requests, &class_of);
        let half = waiting.len().div_ceil(2);
        (half > 0).then(|| (victim, waiting[..half].to_vec()))
    })
}

/// Not while some tasks are being given back already.
fn is_worth_robbing(record: &WorkerRecord) -> bool {
    let cores = u64::from(record.capacity.cpus.max(1));
    record.retracting.is_empty() && record.expected_us / cores >= WORTH_US
}

/// What a worker has of a class beyond what it can run at once, the least urgent first.
fn waiting(
    record: &WorkerRecord,
    class: Class,
    requests: &[Resources],
    class_of: impl Fn(u32) -> Class,
) -> Vec<u32> {
    let mut committed = record.committed.clone();
    let mut waiting = Vec::new();
    for &urgency in record.assigned.keys().rev() {
        if record.capacity.covers(&committed) {
            break;
        }
        let other = class_of(urgency);
        committed.take(&requests[other.0]);
        if other == class {
            waiting.push(urgency);
        }
    }
    waiting
}
