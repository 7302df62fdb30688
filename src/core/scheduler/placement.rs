//! Which worker a ready task goes to.
//!
//! Placement reads the tables and returns a choice; it changes nothing. Its cost does not grow
//! with the number of workers: it compares the owner of the largest inputs with the least loaded.

use crate::core::graph::Row;
use crate::core::id::Rank;
use crate::core::resources::Resources;

use super::ready::Class;
use super::tasks::Tasks;
use super::workers::Workers;

/// Inputs looked at when the bytes of each owner are added up.
const INPUTS_LOOKED_AT: usize = 16;
/// Least loaded workers looked at until one has room.
const WORKERS_LOOKED_AT: usize = 16;
/// What fetching anything costs before its first byte arrives, in microseconds.
const FETCH_US: u64 = 100;
/// Bytes that arrive in a microsecond: about what one stream over a common network moves.
const BYTES_PER_US: u64 = 1_000;

/// A ready task in search of a worker.
pub struct Candidate<'a> {
    /// The tasks whose values it takes.
    pub value_inputs: Row<'a>,
    /// What it asks for, as a class and in full.
    pub class: Class,
    /// See `class`.
    pub request: &'a Resources,
    /// What it is expected to take, in microseconds.
    pub expected_us: u32,
}

/// The worker with room where the task would start first, its inputs fetched: the owner of most bytes,
/// or among the least loaded the first that can start it at once, else the first that has room. `None` if nobody has room.
pub fn place(candidate: &Candidate<'_>, tasks: &Tasks, workers: &Workers) -> Option<Rank> {
    let room = |rank: &Rank| {
        workers.get(*rank).is_some_and(|record| {
            record.capacity.covers(candidate.request)
                && record.has_room(candidate.request, candidate.expected_us)
        })
    };
    let (owner, held_bytes, all_bytes) = largest_owner(candidate.value_inputs, tasks);
    let owner = owner.filter(room);
    let by_load = || workers.least_loaded(candidate.class).take(WORKERS_LOOKED_AT);
    let starts_now = by_load().find(|(_, record)| record.fits_now(candidate.request));
    let idlest = starts_now.map(|(rank, _)| rank).or_else(|| by_load().map(|(rank, _)| rank).find(room));
    let (Some(owner), Some(idlest)) = (owner, idlest) else { return owner.or(idlest) };
    let starts_in = |rank: Rank, missing_bytes: u64, fetches: bool| {
        let wait = workers.get(rank).map_or(0, |record| record.wait_us(candidate.request));
        wait + missing_bytes / BYTES_PER_US + if fetches { FETCH_US } else { 0 }
    };
    let at_owner = starts_in(owner, all_bytes - held_bytes, false);
    let at_idlest = starts_in(idlest, all_bytes, true);
    Some(if at_owner <= at_idlest { owner } else { idlest })
}

/// What it costs at most to have a task's inputs somewhere else, in microseconds.
pub fn moving_us(value_inputs: Row<'_>, tasks: &Tasks) -> u64 {
    match value_inputs.is_empty() {
        true => 0,
        false => FETCH_US + largest_owner(value_inputs, tasks).2 / BYTES_PER_US,
    }
}

/// The worker that holds the most bytes of the inputs, how many, and the bytes of all.
fn largest_owner(inputs: Row<'_>, tasks: &Tasks) -> (Option<Rank>, u64, u64) {
    let mut owners: [(Rank, u64); INPUTS_LOOKED_AT] = [(Rank::SCHEDULER, 0); INPUTS_LOOKED_AT];
    let mut count = 0;
    let mut all_bytes = 0;
    for input in inputs.iter().take(INPUTS_LOOKED_AT) {
        // An empty output counts a byte, so that its owner is preferred to nobody.
        let bytes = tasks.size_bytes[input.index()].max(1);
        let owner = tasks.worker[input.index()];
        all_bytes += bytes;
        match owners[..count].iter_mut().find(|(rank, _)| *rank == owner) {
            Some((_, sum)) => *sum += bytes,
            None => {
                owners[count] = (owner, bytes);
                count += 1;
            }
        }
    }
    let largest = owners[..count].iter().min_by_key(|(rank, bytes)| (std::cmp::Reverse(*bytes), *rank));
    largest.map_or((None, 0, 0), |&(rank, bytes)| (Some(rank), bytes, all_bytes))
}
