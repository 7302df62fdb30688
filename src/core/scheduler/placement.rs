//! Which worker a task goes to: where it would end first.
//!
//! Placement reads the tables and returns a choice; it changes nothing. Its cost does not grow
//! with the number of workers: it compares the owner of the largest inputs with the least loaded.

use crate::core::graph::{Row, RowTasks};
use crate::core::id::{Rank, TaskId};
use crate::core::resources::Resources;

use super::ahead::Bond;
use super::ready::Class;
use super::tasks::{TaskState, Tasks};
use super::workers::{WorkerRecord, Workers};

/// Owners whose bytes are added up; what others have is taken to be nobody's.
const OWNERS_LOOKED_AT: usize = 16;
/// Least loaded workers looked at until one has room.
const WORKERS_LOOKED_AT: usize = 16;
/// What fetching anything costs before its first byte arrives, in microseconds.
const FETCH_US: f64 = 30.0;
/// The same within a node.
const NEAR_FETCH_US: f64 = 5.0;
/// A task whose inputs are still to come leaves their worker if that has so many microseconds more to do than
/// another. When they come is known to nobody, as queues are only known as they were a while ago: less
/// than that says nothing, and following it would scatter neighbours.
const LEAD_US: f64 = 1_000.0;
/// Bytes that arrive in a microsecond: about what one stream over a common network moves.
const BYTES_PER_US: f64 = 1_000.0;

/// A task in search of a worker.
pub struct Candidate<'a> {
    /// What it asks for, as a class and in full.
    pub class: Class,
    /// See `class`.
    pub request: &'a Resources,
    /// What it is expected to take, in microseconds.
    pub expected_us: f32,
}

/// Where a task goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// There, at once, and with it up to so many more that are like it.
    At(Rank, u32),
    /// There, once it has room: anywhere else it would start no sooner.
    Park(Rank),
    /// Nowhere before the end of the one that it is bound to.
    Follow(Bond),
    /// Nobody has room for what it asks.
    Nowhere,
}

/// What is known of a task's inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs {
    /// Who has most bytes of them.
    pub owner: Option<Rank>,
    /// Another who has as many.
    pub rival: Option<Rank>,
    /// How many that are.
    held_bytes: f64,
    /// The bytes of all.
    all_bytes: f64,
    /// True if some are still to come.
    pub are_ahead: bool,
    /// Where the task must wait for the end of one that gives it nothing.
    pub bond: Option<Bond>,
    /// True if some are elsewhere than at `owner`.
    pub are_spread: bool,
}

impl Inputs {
    /// True if all are at this worker, or come into being there.
    pub fn are_all_at(&self, worker: Rank) -> bool {
        !self.are_spread && self.owner.is_none_or(|owner| owner == worker)
    }
}

/// Compares the owner of most bytes with the least loaded workers: the first of those that can start the
/// task at once, else the first that has room.
pub fn place(candidate: &Candidate<'_>, inputs: &Inputs, workers: &Workers) -> Choice {
    let is_ahead = inputs.are_ahead;
    let room = |record: &WorkerRecord| record.room(candidate.request, candidate.expected_us, is_ahead);
    if let Some(bond) = inputs.bond {
        return match workers.get(bond.worker).map_or(0, room) {
            0 => Choice::Follow(bond),
            _ => Choice::At(bond.worker, 1),
        };
    }
    let Some(owner) = owner(candidate, inputs, workers) else {
        let idlest = idlest(candidate, workers, room);
        return idlest.map_or(Choice::Nowhere, |(rank, record)| Choice::At(rank, room(record)));
    };
    let owner_room = room(owner.1);
    let wait_us = |record: &WorkerRecord| match is_ahead {
        true => record.queue_us(),
        false => record.wait_us(candidate.request),
    };
    let lead_us = if is_ahead { LEAD_US } else { 0.0 };
    let at_owner = wait_us(owner.1) + (inputs.all_bytes - inputs.held_bytes) / BYTES_PER_US;
    let to_fetch = inputs.all_bytes / BYTES_PER_US + FETCH_US + lead_us;
    if owner_room > 0 && (at_owner <= to_fetch || workers.len() == 1) {
        // Nobody else could start it before, however idle.
        return Choice::At(owner.0, owner_room);
    }
    let elsewhere = idlest(candidate, workers, room).filter(|(rank, _)| *rank != owner.0);
    match (owner_room > 0, elsewhere) {
        (_, Some((rank, record))) if wait_us(record) + to_fetch < at_owner => Choice::At(rank, room(record)),
        (true, _) => Choice::At(owner.0, owner_room),
        (false, Some(_)) => Choice::Park(owner.0),
        (false, None) if is_ahead => Choice::Park(owner.0),
        (false, None) => Choice::Nowhere,
    }
}

/// Who has most bytes of the inputs and may be given the task; of two that have as many, who has less to do.
fn owner<'a>(
    candidate: &Candidate<'_>,
    inputs: &Inputs,
    workers: &'a Workers,
) -> Option<(Rank, &'a WorkerRecord)> {
    let able = |rank: Rank| {
        let record = workers.get(rank)?;
        let is_able = record.reserved_for.is_none() && record.capacity.covers(candidate.request);
        is_able.then_some((rank, record))
    };
    let (owner, rival) = (inputs.owner.and_then(able), inputs.rival.and_then(able));
    match (owner, rival) {
        (Some(owner), Some(rival)) => {
            let load = |(rank, record): (Rank, &WorkerRecord)| (record.queue_us(), rank);
            Some(if load(rival) < load(owner) { rival } else { owner })
        }
        (owner, rival) => owner.or(rival),
    }
}

/// What it costs before the first byte arrives to fetch an output of one worker to another, in microseconds.
pub fn fetch_us(from: &WorkerRecord, to: &WorkerRecord) -> f64 {
    if from.host == to.host { NEAR_FETCH_US } else { FETCH_US }
}

/// The first of the least loaded workers that can start the task at once, else the first that has room.
fn idlest<'a>(
    candidate: &Candidate<'_>,
    workers: &'a Workers,
    room: impl Fn(&WorkerRecord) -> u32,
) -> Option<(Rank, &'a WorkerRecord)> {
    let mut first = None;
    for (rank, record) in workers.least_loaded(candidate.class).take(WORKERS_LOOKED_AT) {
        if first.is_some() && !record.has_free_core() {
            // Nor has anyone behind it.
            break;
        }
        if room(record) > 0 {
            if record.fits_now(candidate.request) {
                return Some((rank, record));
            }
            first = first.or(Some((rank, record)));
        }
    }
    first
}

/// What it costs at most to have a task's inputs somewhere else, in microseconds.
pub fn moving_us(value_inputs: Row<'_>, tasks: &Tasks) -> f64 {
    match value_inputs.is_empty() {
        true => 0.0,
        false => FETCH_US + look_at(value_inputs, tasks).all_bytes / BYTES_PER_US,
    }
}

/// Where the inputs of a task are, and when they will be there.
pub fn look_at(inputs: Row<'_>, tasks: &Tasks) -> Inputs {
    let mut found = Inputs::default();
    let mut inputs = inputs.iter();
    while let Some(input) = inputs.next() {
        let (owner, bytes) = held(input, tasks);
        found.are_ahead |= tasks.state.get(input) != TaskState::Finished;
        found.all_bytes += bytes;
        if found.owner.is_some_and(|other| other != owner) {
            return found.spread(owner, bytes, inputs, tasks);
        }
        found.owner = Some(owner);
        found.held_bytes = found.all_bytes;
    }
    found
}

/// Who has an output, and how many bytes it has. An empty one counts a byte, so that its owner is preferred to
/// nobody.
fn held(input: TaskId, tasks: &Tasks) -> (Rank, f64) {
    (tasks.worker.get(input), f64::from(tasks.size_bytes.get(input)).max(1.0))
}

impl Inputs {
    /// Goes on with the rest after the first input that another worker has: adds up what each has.
    fn spread(mut self, other: Rank, bytes: f64, rest: RowTasks<'_>, tasks: &Tasks) -> Self {
        let mut owners = [(Rank::SCHEDULER, 0.0); OWNERS_LOOKED_AT];
        owners[0] = (self.owner.unwrap_or(other), self.held_bytes);
        owners[1] = (other, bytes);
        let mut count = 2;
        for input in rest {
            let (owner, bytes) = held(input, tasks);
            self.are_ahead |= tasks.state.get(input) != TaskState::Finished;
            self.all_bytes += bytes;
            match owners[..count].iter_mut().find(|(rank, _)| *rank == owner) {
                Some((_, sum)) => *sum += bytes,
                None if count < OWNERS_LOOKED_AT => {
                    owners[count] = (owner, bytes);
                    count += 1;
                }
                None => {}
            }
        }
        (self.owner, self.held_bytes, self.are_spread) = (None, 0.0, true);
        for &(rank, bytes) in &owners[..count] {
            if bytes > self.held_bytes {
                (self.owner, self.rival, self.held_bytes) = (Some(rank), None, bytes);
            } else if bytes == self.held_bytes {
                self.rival = Some(rank);
            }
        }
        self
    }
}
