//! Which worker a task goes to: where it would end first.
//!
//! Placement reads the tables and returns a choice; it changes nothing. Its cost does not grow
//! with the number of workers: it compares the owner of the largest inputs with the least loaded.

use crate::core::graph::{Row, RowTasks};
use crate::core::id::{Rank, TaskId};
use crate::core::resources::Resources;
use crate::core::time::Timestamp;

use super::ready::Class;
use super::tasks::{TaskState, Tasks};
use super::workers::{WorkerRecord, Workers};

/// Owners whose bytes are added up; what others have is taken to be nobody's.
const OWNERS_LOOKED_AT: usize = 16;
/// Least loaded workers looked at until one has room.
const WORKERS_LOOKED_AT: usize = 16;
/// What fetching anything costs before its first byte arrives, in microseconds.
const FETCH_US: f64 = 30.0;
/// Bytes that arrive in a microsecond: about what one stream over a common network moves.
const BYTES_PER_US: f64 = 1_000.0;

/// A task in search of a worker.
pub struct Candidate<'a> {
    /// Now.
    pub now: Timestamp,
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
    /// Nobody has room for what it asks.
    Nowhere,
}

/// What is known of a task's inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs {
    /// Who has most bytes of them.
    pub owner: Option<Rank>,
    /// How many that are.
    held_bytes: f64,
    /// The bytes of all.
    all_bytes: f64,
    /// When the last of those that are still to come is expected, if any is.
    pub ready_at: Option<Timestamp>,
    /// True if some are elsewhere than at `owner`.
    pub are_spread: bool,
}

impl Inputs {
    /// True if all are at this worker, or come into being there.
    pub fn are_all_at(&self, worker: Rank) -> bool {
        !self.are_spread && self.owner.is_none_or(|owner| owner == worker)
    }

    /// True if some are still to come.
    pub fn is_ahead(&self) -> bool {
        self.ready_at.is_some()
    }
}

/// Compares the owner of most bytes with the least loaded workers: the first of those that can start the
/// task at once, else the first that has room.
pub fn place(candidate: &Candidate<'_>, inputs: &Inputs, workers: &Workers) -> Choice {
    let is_ahead = inputs.is_ahead();
    let room = |record: &WorkerRecord| record.room(candidate.request, candidate.expected_us, is_ahead);
    let owner = inputs.owner.and_then(|rank| Some((rank, workers.get(rank)?)));
    let owner = owner
        .filter(|(_, record)| record.reserved_for.is_none() && record.capacity.covers(candidate.request));
    let Some(owner) = owner else {
        let idlest = idlest(candidate, workers, room);
        return idlest.map_or(Choice::Nowhere, |(rank, record)| Choice::At(rank, room(record)));
    };
    let owner_room = room(owner.1);
    let inputs_in = inputs.ready_at.map_or(0.0, |at| at.since(candidate.now).0 as f64);
    let wait_us = |record: &WorkerRecord| record.wait_us(candidate.request).max(inputs_in);
    let at_owner = wait_us(owner.1) + (inputs.all_bytes - inputs.held_bytes) / BYTES_PER_US;
    let to_fetch = inputs.all_bytes / BYTES_PER_US + FETCH_US;
    if owner_room > 0 && at_owner <= inputs_in + to_fetch {
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
        found.see_when(input, tasks);
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
    fn see_when(&mut self, input: TaskId, tasks: &Tasks) {
        if tasks.state.get(input) != TaskState::Finished {
            self.ready_at = self.ready_at.max(Some(tasks.ends_at.get(input)));
        }
    }

    /// Goes on with the rest after the first input that another worker has: adds up what each has.
    fn spread(mut self, other: Rank, bytes: f64, rest: RowTasks<'_>, tasks: &Tasks) -> Self {
        let mut owners = [(Rank::SCHEDULER, 0.0); OWNERS_LOOKED_AT];
        owners[0] = (self.owner.unwrap_or(other), self.held_bytes);
        owners[1] = (other, bytes);
        let mut count = 2;
        for input in rest {
            let (owner, bytes) = held(input, tasks);
            self.see_when(input, tasks);
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
            let is_more = bytes > self.held_bytes
                || bytes == self.held_bytes && self.owner.is_none_or(|other| rank < other);
            if is_more {
                (self.owner, self.held_bytes) = (Some(rank), bytes);
            }
        }
        self
    }
}
