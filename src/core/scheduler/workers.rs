//! The scheduler's table of workers, and the index that finds the least loaded one.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::column::Column;
use crate::core::id::{Incarnation, Rank, TaskId};
use crate::core::message::Order;
use crate::core::resources::Resources;
use crate::core::span::Span;

use super::parked::Parked;
use super::ready::Class;

/// Expected run time that may wait at a worker for each of its cores, in microseconds: some round
/// trips, so that a worker never runs dry while its reports are under way.
const BACKLOG_US: f64 = 4_000.0;
/// The first task to wait at a worker waits for no longer than this, in microseconds: while it is there,
/// nobody else starts it, however urgent it is.
const FIRST_WAITS_US: f64 = 100_000.0;
/// Tasks that may wait at a worker for each of its cores, however short they are.
const BACKLOG_TASKS: u32 = 16_384;
/// Waiting time is told apart in steps of this, in microseconds, so that the index need not follow every task.
const LOAD_STEP_US: f64 = 32.0;

/// One worker in its present life.
#[derive(Debug)]
pub struct WorkerRecord {
    /// Which life.
    pub incarnation: Incarnation,
    /// The node it runs on.
    pub host: String,
    /// What it has.
    pub capacity: Resources,
    /// The multi-node task that it is kept for: it gets nothing else.
    pub reserved_for: Option<TaskId>,
    /// What its assigned tasks ask for together; more than it has when some of them wait. Those that were
    /// assigned ahead of their inputs ask for nothing.
    pub committed: Resources,
    /// How many tasks are assigned to it.
    pub assigned: u32,
    /// Assigned tasks that it was asked to give back.
    pub retracting: BTreeSet<TaskId>,
    /// The sum of the run times expected of its tasks, in microseconds.
    pub expected_us: f64,
    /// Ready tasks that are best done here, where nothing has room for them now.
    pub parked: Parked,
    /// Orders for its next message.
    pub outbox: Vec<Order>,
    /// The first and the last of its tasks in the order in which they were assigned.
    list: Option<(TaskId, TaskId)>,
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
            assigned: 0,
            retracting: BTreeSet::new(),
            expected_us: 0.0,
            parked: Parked::default(),
            outbox: Vec::new(),
            list: None,
        }
    }

    /// True if a task with this request could start at once.
    pub fn fits_now(&self, request: &Resources) -> bool {
        self.capacity.covers_besides(&self.committed, request)
    }

    /// How many more tasks of a kind may be given to it, to start at once or to wait there a short time:
    /// only to wait, if their inputs are still to come. At most one at a time if they ask for more than cores.
    pub fn room(&self, request: &Resources, expected_us: f32, is_ahead: bool) -> u32 {
        if self.reserved_for.is_some() || !self.capacity.covers(request) {
            return 0;
        }
        let cores = self.capacity.cpus.max(1);
        let asks_for_cores_only = request.memory_bytes == 0 && request.gpus == 0 && request.custom.is_empty();
        let waiting = self.assigned.saturating_sub(cores);
        let by_time = (BACKLOG_US * f64::from(cores) - self.expected_us) / f64::from(expected_us);
        let by_count = (BACKLOG_TASKS * cores).saturating_sub(waiting);
        let backlog = (by_time.max(0.0) as u32).min(by_count);
        if is_ahead {
            return backlog;
        }
        let room = match asks_for_cores_only {
            true => {
                let free = self.capacity.cpus.saturating_sub(self.committed.cpus);
                backlog.max(free / request.cpus.max(1))
            }
            false => backlog.min(1).max(u32::from(self.fits_now(request))),
        };
        room.max(u32::from(self.welcomes_a_first()))
    }

    /// The time until a further task would start, in microseconds; 0 if at once.
    pub fn wait_us(&self, request: &Resources) -> f64 {
        match self.fits_now(request) {
            true => 0.0,
            false => self.queue_us(),
        }
    }

    /// The time in which all that was assigned to it is done, in microseconds.
    pub fn queue_us(&self) -> f64 {
        self.expected_us / f64::from(self.capacity.cpus.max(1))
    }

    /// True if everything assigned runs, and not for long: a first task to wait is welcome, however long
    /// it is itself, so that the worker can go on before its report has been answered.
    fn welcomes_a_first(&self) -> bool {
        self.queue_us() <= FIRST_WAITS_US
            && self.capacity.covers_besides(&Resources::default(), &self.committed)
    }

    /// True if its tasks ask for fewer cores than it has. The least loaded workers have one if any has.
    pub fn has_free_core(&self) -> bool {
        self.load() < 1000
    }

    /// Committed cores per core in thousandths while one is free, then the waiting time.
    fn load(&self) -> u32 {
        let committed = u64::from(self.committed.cpus) * 1000 / u64::from(self.capacity.cpus.max(1));
        match committed < 1000 {
            true => committed as u32,
            false => 1000 + (self.queue_us() / LOAD_STEP_US).min(1e9) as u32,
        }
    }
}

/// All living workers.
#[derive(Debug)]
pub struct Workers {
    requests: Vec<Resources>,
    /// By rank. Boxed, as a table of ten thousand grows as they join.
    records: Vec<Option<Box<WorkerRecord>>>,
    living: usize,
    /// The cores of all of them.
    cpus: u64,
    /// For each shape of a request (a request without its memory), the workers that could ever cover
    /// it and are not reserved, least loaded first. Memory is left out, as nearly every task may ask for another amount.
    by_load: Vec<BTreeSet<(u32, Rank)>>,
    shapes: Vec<Resources>,
    /// The shape of each request.
    shape_of: Vec<usize>,
    /// The workers that have orders in their outbox: a turn must not look at all of them.
    addressed: Vec<Rank>,
    /// The workers that have parked tasks.
    with_parked: BTreeSet<Rank>,
    /// The lists of assigned tasks: of each the one before and the one behind it, as id + 1.
    before: Column<u32>,
    behind: Column<u32>,
}

impl Workers {
    /// No workers, for a graph of this many tasks that make these requests.
    pub fn new(tasks: usize, requests: &[Resources]) -> Self {
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
            records: Vec::new(),
            living: 0,
            cpus: 0,
            by_load: vec![BTreeSet::new(); shapes.len()],
            shapes,
            shape_of,
            addressed: Vec::new(),
            with_parked: BTreeSet::new(),
            before: Column::new(tasks),
            behind: Column::new(tasks),
        }
    }

    /// Learns of requests behind those that are known.
    pub fn learn(&mut self, requests: &[Resources]) {
        for request in &requests[self.requests.len()..] {
            let shape = Resources { memory_bytes: 0, ..request.clone() };
            let known = self.shapes.iter().position(|other| *other == shape);
            self.shape_of.push(known.unwrap_or(self.shapes.len()));
            self.requests.push(request.clone());
            if known.is_none() {
                let open = self.iter().filter(|(_, record)| record.reserved_for.is_none());
                let able = open.filter(|(_, record)| record.capacity.covers(&shape));
                let by_load = able.map(|(rank, record)| (record.load(), rank)).collect();
                self.by_load.push(by_load);
                self.shapes.push(shape);
            }
        }
    }

    /// Adds a worker.
    pub fn insert(&mut self, rank: Rank, record: WorkerRecord) {
        enter(&self.shapes, &mut self.by_load, rank, &record);
        if self.records.len() <= rank.index() {
            self.records.resize_with(rank.index() + 1, || None);
        }
        self.living += 1;
        self.cpus += u64::from(record.capacity.cpus);
        let before = self.records[rank.index()].replace(Box::new(record));
        assert!(before.is_none(), "worker {rank} joins while it is known");
    }

    /// Takes a worker out.
    pub fn remove(&mut self, rank: Rank) -> Option<WorkerRecord> {
        let record = self.records.get_mut(rank.index())?.take()?;
        self.living -= 1;
        self.cpus -= u64::from(record.capacity.cpus);
        self.addressed.retain(|addressed| *addressed != rank);
        self.with_parked.remove(&rank);
        let load = record.load();
        for candidates in &mut self.by_load {
            candidates.remove(&(load, rank));
        }
        Some(*record)
    }

    /// One worker.
    pub fn get(&self, rank: Rank) -> Option<&WorkerRecord> {
        self.records.get(rank.index())?.as_deref()
    }

    fn get_mut(&mut self, rank: Rank) -> Option<&mut WorkerRecord> {
        self.records.get_mut(rank.index())?.as_deref_mut()
    }

    /// All workers in the order of their ranks.
    pub fn iter(&self) -> impl Iterator<Item = (Rank, &WorkerRecord)> {
        let records = (0..).map(Rank).zip(&self.records);
        records.filter_map(|(rank, record)| Some((rank, record.as_deref()?)))
    }

    /// How many live.
    pub fn len(&self) -> usize {
        self.living
    }

    /// True if none lives.
    pub fn is_empty(&self) -> bool {
        self.living == 0
    }

    /// The tasks of a worker, those that were assigned last first.
    pub fn tasks_of<'a>(&'a self, record: &WorkerRecord) -> impl Iterator<Item = TaskId> + use<'a> {
        let mut next = record.list.map_or(0, |(_, last)| last.0 + 1);
        std::iter::from_fn(move || {
            let task = TaskId(next.checked_sub(1)?);
            next = self.before.get(task);
            Some(task)
        })
    }

    /// Gives tasks of one class to a worker. They ask for nothing yet if they were assigned ahead.
    pub fn assign(&mut self, rank: Rank, tasks: Span, class: Class, expected_us: f32, is_ahead: bool) {
        let record = living(&mut self.records, rank);
        let load = record.load();
        for task in tasks.tasks() {
            let last = record.list.map_or(0, |(_, last)| last.0 + 1);
            self.before.set(task, last);
            self.behind.set(task, 0);
            if let Some((_, last)) = record.list {
                self.behind.set(last, task.0 + 1);
            }
            record.list = Some((record.list.map_or(task, |(first, _)| first), task));
        }
        record.assigned += tasks.count;
        record.expected_us += f64::from(expected_us) * f64::from(tasks.count);
        if !is_ahead {
            record.committed.give_times(&self.requests[class.0], tasks.count);
        }
        let after = record.load();
        self.follow_load(rank, load, after);
    }

    /// A task that was assigned ahead may start now: it asks for what it takes.
    pub fn charge(&mut self, rank: Rank, class: Class) {
        let record = living(&mut self.records, rank);
        let load = record.load();
        record.committed.give(&self.requests[class.0]);
        let after = record.load();
        self.follow_load(rank, load, after);
    }

    /// Takes tasks from a worker, however they ended: each with its class, its expected run time, and
    /// whether it was assigned ahead.
    pub fn unassign(&mut self, rank: Rank, tasks: impl Iterator<Item = (TaskId, Class, f32, bool)>) {
        let record = living(&mut self.records, rank);
        let load = record.load();
        for (task, class, expected_us, is_ahead) in tasks {
            let (before, behind) = (self.before.get(task), self.behind.get(task));
            if let Some(before) = before.checked_sub(1) {
                self.behind.set(TaskId(before), behind);
            }
            if let Some(behind) = behind.checked_sub(1) {
                self.before.set(TaskId(behind), before);
            }
            let (first, last) = record.list.expect("an assigned task is in its worker's list");
            let first = if before == 0 { behind.checked_sub(1).map(TaskId) } else { Some(first) };
            let last = if behind == 0 { before.checked_sub(1).map(TaskId) } else { Some(last) };
            record.list = first.zip(last);
            if !record.retracting.is_empty() {
                record.retracting.remove(&task);
            }
            record.assigned -= 1;
            record.expected_us -= f64::from(expected_us);
            if !is_ahead {
                record.committed.take(&self.requests[class.0]);
            }
        }
        if record.assigned == 0 {
            // Rounding errors end here.
            record.expected_us = 0.0;
        }
        let after = record.load();
        self.follow_load(rank, load, after);
    }

    /// Gives a worker nothing more but this multi-node task: neither placement nor stealing finds it.
    pub fn reserve(&mut self, rank: Rank, task: TaskId) {
        let record = self.get_mut(rank).expect("only living workers are reserved");
        record.reserved_for = Some(task);
        let load = record.load();
        for candidates in &mut self.by_load {
            candidates.remove(&(load, rank));
        }
    }

    /// Ends a reservation; nothing if the worker is gone.
    pub fn unreserve(&mut self, rank: Rank) {
        let Some(Some(record)) = self.records.get_mut(rank.index()) else { return };
        record.reserved_for = None;
        enter(&self.shapes, &mut self.by_load, rank, record);
    }

    /// Parks a ready task at a worker.
    pub fn park(&mut self, rank: Rank, level: u32, task: TaskId) {
        if let Some(record) = self.get_mut(rank) {
            record.parked.push(level, task);
            self.with_parked.insert(rank);
        }
    }

    /// Takes the most urgent parked task of a worker.
    pub fn unpark(&mut self, rank: Rank) -> Option<TaskId> {
        let record = self.get_mut(rank)?;
        let task = record.parked.pop();
        if record.parked.is_empty() {
            self.with_parked.remove(&rank);
        }
        task
    }

    /// The workers that have parked tasks.
    pub fn with_parked(&self) -> impl Iterator<Item = (Rank, &WorkerRecord)> {
        self.with_parked.iter().filter_map(|&rank| Some((rank, self.get(rank)?)))
    }

    /// Forgets all that is parked.
    pub fn clear_parked(&mut self) {
        for rank in std::mem::take(&mut self.with_parked) {
            if let Some(record) = self.get_mut(rank) {
                record.parked = Parked::default();
            }
        }
    }

    /// Adds an order to a worker's next message; nothing if it is gone.
    pub fn order(&mut self, rank: Rank, order: Order) {
        if let Some(Some(record)) = self.records.get_mut(rank.index()) {
            address(&mut self.addressed, rank, record, order);
        }
    }

    /// Adds an order to every worker's next message.
    pub fn order_all(&mut self, order: &Order) {
        for (rank, record) in (0..).map(Rank).zip(&mut self.records) {
            if let Some(record) = record {
                address(&mut self.addressed, rank, record, order.clone());
            }
        }
    }

    /// Asks a worker to give a task back, once.
    pub fn retract(&mut self, rank: Rank, task: TaskId, order: Order) {
        let record = living(&mut self.records, rank);
        if record.retracting.insert(task) {
            address(&mut self.addressed, rank, record, order);
        }
    }

    /// Notes that a task will not be given back, as it has started.
    pub fn keeps(&mut self, rank: Rank, task: TaskId) {
        if let Some(record) = self.get_mut(rank) {
            record.retracting.remove(&task);
        }
    }

    /// Every waiting message: the worker, its life, and the orders. Empties the outboxes.
    pub fn take_orders(&mut self) -> impl Iterator<Item = (Rank, Incarnation, Vec<Order>)> + '_ {
        let records = &mut self.records;
        self.addressed.sort_unstable();
        self.addressed.drain(..).map(|rank| {
            let record = living(records, rank);
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
        let records = candidates.filter_map(|&(_, rank)| Some((rank, self.get(rank)?)));
        records.filter(|(_, record)| record.capacity.covers(request))
    }

    /// True if a worker may be given tasks of a class, now or when it has room.
    pub fn is_able(&self, rank: Rank, class: Class) -> bool {
        let request = &self.requests[class.0];
        self.get(rank).is_some_and(|record| record.reserved_for.is_none() && record.capacity.covers(request))
    }

    /// How many of `count` tasks a worker gets if each core gets as many.
    pub fn fair_share(&self, rank: Rank, count: u32) -> u32 {
        let cpus = self.get(rank).map_or(0, |record| u64::from(record.capacity.cpus));
        (u64::from(count) * cpus).div_ceil(self.cpus.max(1)) as u32
    }

    /// True if a worker could ever run a class, those that are reserved among them.
    pub fn is_any_large_enough(&self, class: Class) -> bool {
        self.iter().any(|(_, record)| record.capacity.covers(&self.requests[class.0]))
    }

    /// False if no worker would take even the smallest task: then nothing needs to be tried.
    pub fn is_any_open(&self) -> bool {
        let smallest = Resources::cores(1);
        let open = |rank: Rank| self.get(rank).is_some_and(|record| record.room(&smallest, 0.05, false) > 0);
        self.by_load.iter().any(|candidates| candidates.first().is_some_and(|&(_, rank)| open(rank)))
    }

    /// Panics unless the index and the lists agree with the records.
    pub fn check(&self, expected_us: impl Fn(TaskId) -> f32) {
        for (shape, candidates) in self.shapes.iter().zip(&self.by_load) {
            let open = self.iter().filter(|(_, record)| record.reserved_for.is_none());
            let able = open.filter(|(_, record)| record.capacity.covers(shape));
            let expected: BTreeSet<_> = able.map(|(rank, record)| (record.load(), rank)).collect();
            assert_eq!(*candidates, expected, "the index of workers for {shape:?}");
        }
        for (rank, record) in self.iter() {
            let tasks: BTreeSet<TaskId> = self.tasks_of(record).collect();
            assert_eq!(tasks.len(), record.assigned as usize, "the list of worker {rank}");
            let sum: f64 = tasks.iter().map(|&task| f64::from(expected_us(task))).sum();
            assert!((record.expected_us - sum).abs() <= 1.0 + sum * 1e-6, "expected time at worker {rank}");
            assert!(record.retracting.is_subset(&tasks), "worker {rank} gives back what it does not have");
            let has_orders = !record.outbox.is_empty();
            assert_eq!(has_orders, self.addressed.contains(&rank), "orders for worker {rank}");
            assert_eq!(!record.parked.is_empty(), self.with_parked.contains(&rank), "parked at {rank}");
        }
    }

    /// Keeps the index right after a record has changed.
    fn follow_load(&mut self, rank: Rank, before: u32, after: u32) {
        if before != after {
            for candidates in &mut self.by_load {
                if candidates.remove(&(before, rank)) {
                    candidates.insert((after, rank));
                }
            }
        }
    }
}

/// The record of a worker that is known to live: tasks are only given to those, and orders go with them.
fn living(records: &mut [Option<Box<WorkerRecord>>], rank: Rank) -> &mut WorkerRecord {
    records[rank.index()].as_deref_mut().expect("the worker lives")
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
