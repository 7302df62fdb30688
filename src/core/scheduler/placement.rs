//! Which worker a task goes to: where it would end first.
//!
//! Placement reads the tables and returns a choice; it changes nothing. Its cost does not grow
//! with the number of workers: it compares the owner of the largest inputs with the least loaded.

use crate::core::graph::{Row, RowTasks};
use crate::core::id::{Rank, TaskId};
use crate::core::resources::Resources;

use super::ahead::Bond;
use super::ready::Class;
use super::tasks::{Marks, TaskState, Tasks};
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
/// Tasks whose inputs are smaller are placed without a closer look.
const LARGE_BYTES: f64 = 65_536.0;
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
    /// Another who has as many, or, after a closer look, the next.
    pub rival: Option<Rank>,
    /// How many the owner has.
    held_bytes: f64,
    /// How many the rival has.
    rival_bytes: f64,
    /// By how many bytes' worth the owner is to be preferred to the rival.
    lead_bytes: f64,
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

    /// True if they are large, and all there.
    pub fn are_worth_a_look(&self) -> bool {
        self.all_bytes >= LARGE_BYTES && !self.are_ahead && self.bond.is_none()
    }

    /// The same where copies count as well, and a sibling: an output that is, or will be, at this worker and has so
    /// many bytes, and that is taken by whoever takes the task's own.
    ///
    /// To fetch an input leaves a copy, which those who take it later find there, so it is worth its part of that;
    /// to have the output and its sibling in two places makes one of them move for nobody else.
    #[must_use]
    pub fn with_copies(self, inputs: Row<'_>, sibling: Option<(Rank, f64)>, tasks: &Tasks) -> Self {
        let mut held = Held::default();
        for input in inputs {
            let (owner, bytes) = held_bytes(input, tasks);
            let worth = bytes / f64::from(tasks.consumers.get(input).max(1));
            held.add(owner, bytes, worth);
            if tasks.has(input, Marks::SHARED) {
                let copies = tasks.copies.of(input).take(OWNERS_LOOKED_AT);
                copies.filter(|&copy| copy != owner).for_each(|copy| held.add(copy, bytes, worth));
            }
        }
        if let Some((worker, bytes)) = sibling {
            // It decides between two who have as much.
            held.add(worker, 0.0, bytes.max(1.0));
        }
        let are_spread = self.are_spread || held.count > 1;
        held.rank(Inputs { are_spread, ..self })
    }
}

/// What each worker has of a task's inputs, copies included.
#[derive(Default)]
struct Held {
    of: [Part; OWNERS_LOOKED_AT],
    count: usize,
}

/// What one worker has.
#[derive(Clone, Copy, Default)]
struct Part {
    worker: Rank,
    bytes: f64,
    /// What it is worth in bytes that this one has it.
    worth: f64,
}

impl Held {
    fn add(&mut self, worker: Rank, bytes: f64, worth: f64) {
        match self.of[..self.count].iter_mut().find(|part| part.worker == worker) {
            Some(part) => (part.bytes, part.worth) = (part.bytes + bytes, part.worth + worth),
            None if self.count < OWNERS_LOOKED_AT => {
                self.of[self.count] = Part { worker, bytes, worth };
                self.count += 1;
            }
            None => {}
        }
    }

    /// Who has what is worth most, and who comes next.
    fn rank(&self, found: Inputs) -> Inputs {
        let (mut best, mut next) = (None::<Part>, None::<Part>);
        for &part in &self.of[..self.count] {
            if best.is_none_or(|best| part.worth > best.worth) {
                next = best.replace(part);
            } else if next.is_none_or(|next| part.worth > next.worth) {
                next = Some(part);
            }
        }
        let (owner, held) = (best.map(|part| part.worker), best.unwrap_or_default());
        let (rival, other) = (next.map(|part| part.worker), next.unwrap_or_default());
        let (held_bytes, rival_bytes, lead_bytes) = (held.bytes, other.bytes, held.worth - other.worth);
        Inputs { owner, rival, held_bytes, rival_bytes, lead_bytes, ..found }
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
    let Some((owner, held_bytes)) = owner(candidate, inputs, workers) else {
        let idlest = idlest(candidate, workers, room);
        return idlest.map_or(Choice::Nowhere, |(rank, record)| Choice::At(rank, room(record)));
    };
    let owner_room = room(owner.1);
    let wait_us = |record: &WorkerRecord| match is_ahead {
        true => record.queue_us(),
        false => record.wait_us(candidate.request),
    };
    let lead_us = if is_ahead { LEAD_US } else { 0.0 };
    let at_owner = wait_us(owner.1) + (inputs.all_bytes - held_bytes) / BYTES_PER_US;
    let to_fetch = inputs.all_bytes / BYTES_PER_US + FETCH_US + lead_us;
    if owner_room > 0 && (at_owner <= to_fetch || workers.len() == 1) {
        // Nobody else could start it before, however idle.
        return Choice::At(owner.0, owner_room);
    }
    let elsewhere = idlest(candidate, workers, room).filter(|(rank, _)| *rank != owner.0);
    // Large inputs move only to who has nothing to do: mostly there are other tasks for the rest.
    let is_large = inputs.all_bytes >= LARGE_BYTES && !is_ahead;
    let may_take = |record: &WorkerRecord| !is_large || record.fits_now(candidate.request);
    match (owner_room > 0, elsewhere) {
        (_, Some((rank, record))) if may_take(record) && wait_us(record) + to_fetch < at_owner => {
            Choice::At(rank, room(record))
        }
        (true, _) => Choice::At(owner.0, owner_room),
        (false, Some(_)) => Choice::Park(owner.0),
        (false, None) if is_ahead => Choice::Park(owner.0),
        (false, None) => Choice::Nowhere,
    }
}

/// Who has most bytes of the inputs and may be given the task, and how many those are; of two that have as many, who
/// has less to do. One that has fewer takes it if it has nothing to do: mostly there are other tasks for it.
fn owner<'a>(
    candidate: &Candidate<'_>,
    inputs: &Inputs,
    workers: &'a Workers,
) -> Option<((Rank, &'a WorkerRecord), f64)> {
    let able = |(rank, bytes): (Rank, f64)| {
        let record = workers.get(rank)?;
        let is_able = record.reserved_for.is_none() && record.capacity.covers(candidate.request);
        is_able.then_some(((rank, record), bytes))
    };
    let owner = inputs.owner.and_then(|rank| able((rank, inputs.held_bytes)));
    let rival = inputs.rival.and_then(|rank| able((rank, inputs.rival_bytes)));
    match (owner, rival) {
        (Some(owner), Some(rival)) => {
            let load = |((rank, record), _): ((Rank, &WorkerRecord), f64)| (record.queue_us(), rank);
            let (rival_us, rival_rank) = load(rival);
            let lead_us = inputs.lead_bytes / BYTES_PER_US;
            let may_take = inputs.lead_bytes <= 0.0 || rival.0.1.fits_now(candidate.request);
            let takes = may_take && (rival_us + lead_us, rival_rank) < load(owner);
            Some(if takes { rival } else { owner })
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
        let (owner, bytes) = held_bytes(input, tasks);
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
fn held_bytes(input: TaskId, tasks: &Tasks) -> (Rank, f64) {
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
            let (owner, bytes) = held_bytes(input, tasks);
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
        self.rival_bytes = self.held_bytes;
        self
    }
}
