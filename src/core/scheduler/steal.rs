//! Who gives queued tasks back so that idle workers get some.
//!
//! Only tails are taken: the least urgent tasks, which the victim would start last. A victim that
//! has started one meanwhile keeps it.

use crate::core::id::{Rank, TaskId};
use crate::core::resources::Resources;

use super::ready::Class;
use super::workers::{WorkerRecord, Workers};

/// A queue that is done within this time is left alone: giving back costs about as much.
const WORTH_US: f64 = 2_000.0;
/// Workers looked at to find one that could start a task at once, and to find one to take it from.
const WORKERS_LOOKED_AT: usize = 4;

/// What stealing must know of an assigned task.
pub struct Loot {
    /// What it asks for.
    pub class: Class,
    /// What it is expected to take, in microseconds.
    pub expected_us: f64,
    /// What having its inputs elsewhere costs, in microseconds.
    pub moving_us: f64,
    /// True if it was assigned before its inputs had finished: it goes where they go.
    pub is_ahead: bool,
    /// False if it has started.
    pub may_be_given_back: bool,
}

/// Tasks of one class that `victim` should give back because a worker is idle, the last assigned first.
/// `None` when nobody who could run them is idle, or nobody has any worth moving.
pub fn steal(
    class: Class,
    requests: &[Resources],
    workers: &Workers,
    loot: impl Fn(TaskId) -> Loot,
) -> Option<(Rank, Vec<TaskId>)> {
    let mut thieves = workers.least_loaded(class).take(WORKERS_LOOKED_AT);
    let (thief, _) = thieves.find(|(_, record)| record.fits_now(&requests[class.0]))?;
    let victims = workers.most_loaded(class).take(WORKERS_LOOKED_AT);
    // A victim that is giving tasks back already is left alone.
    let mut others = victims.filter(|(rank, record)| *rank != thief && record.retracting.is_empty());
    others.find_map(|(victim, record)| {
        let mut waiting = waiting(workers, record, class, requests, &loot);
        waiting.truncate(waiting.len().div_ceil(2));
        (!waiting.is_empty()).then_some((victim, waiting))
    })
}

/// What a worker has of a class beyond what it can run at once, the last assigned first. What would
/// start there sooner than its inputs can be elsewhere stays, or placement would send it back.
fn waiting(
    workers: &Workers,
    record: &WorkerRecord,
    class: Class,
    requests: &[Resources],
    loot: impl Fn(TaskId) -> Loot,
) -> Vec<TaskId> {
    let cores = f64::from(record.capacity.cpus.max(1));
    let mut committed = record.committed.clone();
    let mut before_us = record.expected_us;
    let mut waiting = Vec::new();
    for task in workers.tasks_of(record) {
        let it = loot(task);
        before_us -= it.expected_us;
        if record.capacity.covers(&committed) || before_us / cores < WORTH_US {
            break;
        }
        if it.is_ahead {
            continue;
        }
        committed.take(&requests[it.class.0]);
        if it.may_be_given_back && it.class == class && before_us / cores >= WORTH_US + it.moving_us {
            waiting.push(task);
        }
    }
    waiting
}
