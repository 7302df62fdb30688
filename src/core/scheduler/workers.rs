//! The scheduler's table of workers, and the index that finds the least loaded one.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::id::{Incarnation, Rank};
use crate::core::message::Order;
use crate::core::resources::Resources;

use super::ready::Class;

/// Expected run time that may wait at a worker for each of its cores, in microseconds: some round
/// trips, so that a worker never runs dry while its reports are under way.
const BACKLOG_US: u64 = 4_000;
/// The first task to wait at a worker waits for no longer than this, in microseconds: while it is there,
/// nobody else starts it, however urgent it is.
const FIRST_WAITS_US: u64 = 100_000;
/// Tasks that may wait at a worker for each of its cores, however short they are.
const BACKLOG_TASKS: usize = 256;

/// One worker in its present life.
#[derive(Debug)]
pub struct WorkerRecord {
    /// Which life.
    pub incarnation: Incarnation,
    /// The node it runs on.
    pub host: String,
    /// What it has.
    pub capacity: Resources,
    /// The multi-node task that it is kept for, by urgency: it gets nothing else.
    pub reserved_for: Option<u32>,
    /// What its assigned tasks ask for together; more than it has when some of them wait.
    pub committed: Resources,
    /// The assigned tasks by urgency, with the run time expected of each in microseconds.
    pub assigned: BTreeMap<u32, u32>,
    /// Assigned tasks that it was asked to give back.
    pub retracting: BTreeSet<u32>,
    /// The sum of the expected run times.
    pub expected_us: u64,
    /// Orders for its next message.
    pub outbox: Vec<Order>,
}

impl WorkerRecord {
    /// A worker that just joined.
    pub fn new(incarnation: Incarnation, host: String, capacity: Resources) -> Self {
        WorkerRecord {
            incarnation,
            host,
            capacity,
            reserved_for: None,
            committed: Resources::default(),
            assigned: BTreeMap::new(),
            retracting: BTreeSet::new(),
            expected_us: 0,
            outbox: Vec::new(),
        }
    }

    /// True if a task with this request could start at once.
    pub fn fits_now(&self, request: &Resources) -> bool {
        self.capacity.covers_besides(&self.committed, request)
    }

    /// True if one more task may be given to it: to start at once, or to wait there a short time.
    pub fn has_room(&self, request: &Resources, expected_us: u32) -> bool {
        if self.reserved_for.is_some() {
            return false;
        }
        if self.fits_now(request) {
            return true;
        }
        let cores = self.capacity.cpus.max(1);
        let waiting = self.assigned.len().saturating_sub(cores as usize);
        let backlog_us = self.expected_us + u64::from(expected_us);
        (self.waits_for_nobody() && self.expected_us <= FIRST_WAITS_US * u64::from(cores))
            || (waiting < BACKLOG_TASKS * cores as usize && backlog_us <= BACKLOG_US * u64::from(cores))
    }

    /// The time until a further task would start, in microseconds; 0 if at once.
    pub fn wait_us(&self, request: &Resources) -> u64 {
        match self.fits_now(request) {
            true => 0,
            false => self.expected_us / u64::from(self.capacity.cpus.max(1)),
        }
    }

    /// True if everything assigned runs: a first task to wait is welcome, however long it is, so
    /// that the worker can go on before its report has been answered.
    fn waits_for_nobody(&self) -> bool {
        self.capacity.covers_besides(&Resources::default(), &self.committed)
    }

    /// Committed cores per core, in thousandths.
    fn load(&self) -> u32 {
        let committed = u64::from(self.committed.cpus) * 1000;
        u32::try_from(committed / u64::from(self.capacity.cpus.max(1))).unwrap_or(u32::MAX)
    }
}

/// All living workers.
#[derive(Debug)]
pub struct Workers {
    requests: Vec<Resources>,
    records: BTreeMap<Rank, WorkerRecord>,
    /// For each shape of a request (a request without its memory), the workers that could ever cover
    /// it and are not reserved, least loaded first. Memory is left out, as nearly every task may ask for another amount.
    by_load: Vec<BTreeSet<(u32, Rank)>>,
    shapes: Vec<Resources>,
    /// The shape of each request.
    shape_of: Vec<usize>,
    /// The workers that have orders in their outbox: a turn must not look at all of them.
    addressed: Vec<Rank>,
}

impl Workers {
    /// No workers, for tasks that make these requests.
    pub fn new(requests: &[Resources]) -> Self {
        let mut shapes: Vec<Resources> = Vec::new();
        let mut known: BTreeMap<Resources, usize> = BTreeMap::new();
        let mut shape_of = |request: &Resources| {
            let shape = Resources { memory_bytes: 0, ..request.clone() };
            *known.entry(shape).or_insert_with_key(|shape| {
                shapes.push(shape.clone());
                shapes.len() - 1
            })
        };
        let shape_of = requests.iter().map(&mut shape_of).collect();
        Workers {
            requests: requests.to_vec(),
            records: BTreeMap::new(),
            by_load: vec![BTreeSet::new(); shapes.len()],
            shapes,
            shape_of,
            addressed: Vec::new(),
        }
    }

    /// Adds a worker.
    pub fn insert(&mut self, rank: Rank, record: WorkerRecord) {
        enter(&self.shapes, &mut self.by_load, rank, &record);
        self.records.insert(rank, record);
    }

    /// Takes a worker out.
    pub fn remove(&mut self, rank: Rank) -> Option<WorkerRecord> {
        let record = self.records.remove(&rank)?;
        self.addressed.retain(|addressed| *addressed != rank);
        for candidates in &mut self.by_load {
            candidates.remove(&(record.load(), rank));
        }
        Some(record)
    }

    /// One worker.
    pub fn get(&self, rank: Rank) -> Option<&WorkerRecord> {
        self.records.get(&rank)
    }

    /// All workers in the order of their ranks.
    pub fn iter(&self) -> impl Iterator<Item = (Rank, &WorkerRecord)> {
        self.records.iter().map(|(rank, record)| (*rank, record))
    }

    /// True if none lives.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Gives a task to a worker.
    pub fn assign(&mut self, rank: Rank, urgency: u32, class: Class, expected_us: u32) {
        self.change(rank, class, |record, request| {
            record.assigned.insert(urgency, expected_us);
            record.expected_us += u64::from(expected_us);
            record.committed.give(request);
        });
    }

    /// Takes a task from a worker, however it ended.
    pub fn unassign(&mut self, rank: Rank, urgency: u32, class: Class) {
        self.change(rank, class, |record, request| {
            let expected =
                record.assigned.remove(&urgency).expect("an active task is assigned to its worker");
            record.retracting.remove(&urgency);
            record.expected_us -= u64::from(expected);
            record.committed.take(request);
        });
    }

    /// Gives a worker nothing more but this multi-node task: neither placement nor stealing finds it.
    pub fn reserve(&mut self, rank: Rank, urgency: u32) {
        let record = self.records.get_mut(&rank).expect("only living workers are reserved");
        record.reserved_for = Some(urgency);
        for candidates in &mut self.by_load {
            candidates.remove(&(record.load(), rank));
        }
    }

    /// Ends a reservation; nothing if the worker is gone.
    pub fn unreserve(&mut self, rank: Rank) {
        let Some(record) = self.records.get_mut(&rank) else { return };
        record.reserved_for = None;
        enter(&self.shapes, &mut self.by_load, rank, record);
    }

    /// Adds an order to a worker's next message; nothing if it is gone.
    pub fn order(&mut self, rank: Rank, order: Order) {
        if let Some(record) = self.records.get_mut(&rank) {
            address(&mut self.addressed, rank, record, order);
        }
    }

    /// Adds an order to every worker's next message.
    pub fn order_all(&mut self, order: &Order) {
        for (&rank, record) in &mut self.records {
            address(&mut self.addressed, rank, record, order.clone());
        }
    }

    /// Asks a worker to give a task back, once.
    pub fn retract(&mut self, rank: Rank, urgency: u32, order: Order) {
        let record = self.records.get_mut(&rank).expect("only living workers have tasks");
        if record.retracting.insert(urgency) {
            address(&mut self.addressed, rank, record, order);
        }
    }

    /// Notes that a task will not be given back, as it has started.
    pub fn keeps(&mut self, rank: Rank, urgency: u32) {
        if let Some(record) = self.records.get_mut(&rank) {
            record.retracting.remove(&urgency);
        }
    }

    /// Every waiting message: the worker, its life, and the orders. Empties the outboxes.
    pub fn take_orders(&mut self) -> impl Iterator<Item = (Rank, Incarnation, Vec<Order>)> + '_ {
        let records = &mut self.records;
        self.addressed.sort_unstable();
        self.addressed.drain(..).map(|rank| {
            let record = records.get_mut(&rank).expect("a worker that is gone is addressed no more");
            (rank, record.incarnation, std::mem::take(&mut record.outbox))
        })
    }

    /// Workers that could ever run a class, the least loaded first.
    pub fn least_loaded(&self, class: Class) -> impl Iterator<Item = (Rank, &WorkerRecord)> {
        self.able(class, self.by_load[self.shape_of[class.0]].iter())
    }

    /// Workers that could ever run a class, the most loaded first.
    pub fn most_loaded(&self, class: Class) -> impl Iterator<Item = (Rank, &WorkerRecord)> {
        self.able(class, self.by_load[self.shape_of[class.0]].iter().rev())
    }

    fn able<'a>(
        &'a self,
        class: Class,
        candidates: impl Iterator<Item = &'a (u32, Rank)>,
    ) -> impl Iterator<Item = (Rank, &'a WorkerRecord)> {
        let request = &self.requests[class.0];
        let records = candidates.map(|(_, rank)| (*rank, &self.records[rank]));
        records.filter(|(_, record)| record.capacity.covers(request))
    }

    /// True if a worker could ever run a class, those that are reserved among them.
    pub fn is_any_large_enough(&self, class: Class) -> bool {
        self.records.values().any(|record| record.capacity.covers(&self.requests[class.0]))
    }

    /// False if no worker would take even the smallest task: then nothing needs to be tried.
    pub fn is_any_open(&self) -> bool {
        let smallest = Resources::cores(1);
        let open = |rank: &Rank| self.records[rank].has_room(&smallest, 1);
        self.by_load.iter().any(|candidates| candidates.first().is_some_and(|(_, rank)| open(rank)))
    }

    /// Panics unless the index agrees with the records.
    pub fn check(&self) {
        for (shape, candidates) in self.shapes.iter().zip(&self.by_load) {
            let open = self.records.iter().filter(|(_, record)| record.reserved_for.is_none());
            let able = open.filter(|(_, record)| record.capacity.covers(shape));
            let expected: BTreeSet<_> = able.map(|(rank, record)| (record.load(), *rank)).collect();
            assert_eq!(*candidates, expected, "the index of workers for {shape:?}");
        }
        for (rank, record) in &self.records {
            let sum: u64 = record.assigned.values().map(|&us| u64::from(us)).sum();
            assert_eq!(record.expected_us, sum, "expected time at worker {rank}");
            let unknown = record.retracting.iter().find(|urgency| !record.assigned.contains_key(urgency));
            assert_eq!(unknown, None, "worker {rank} gives back what it does not have");
            let has_orders = !record.outbox.is_empty();
            assert_eq!(has_orders, self.addressed.contains(rank), "orders for worker {rank}");
        }
    }

    /// Changes a record by one task of a class and keeps the index right.
    fn change(&mut self, rank: Rank, class: Class, change: impl FnOnce(&mut WorkerRecord, &Resources)) {
        let record = self.records.get_mut(&rank).expect("only living workers have tasks");
        let before = record.load();
        change(record, &self.requests[class.0]);
        let after = record.load();
        if before != after {
            for candidates in &mut self.by_load {
                if candidates.remove(&(before, rank)) {
                    candidates.insert((after, rank));
                }
            }
        }
    }
}

/// Enters a worker into the index of every shape that it could cover.
fn enter(shapes: &[Resources], by_load: &mut [BTreeSet<(u32, Rank)>], rank: Rank, record: &WorkerRecord) {
    for (shape, candidates) in shapes.iter().zip(by_load) {
        if record.capacity.covers(shape) {
            candidates.insert((record.load(), rank));
        }
    }
}

/// Puts an order into an outbox, and the worker on the list with the first one.
fn address(addressed: &mut Vec<Rank>, rank: Rank, record: &mut WorkerRecord, order: Order) {
    if record.outbox.is_empty() {
        addressed.push(rank);
    }
    record.outbox.push(order);
}
