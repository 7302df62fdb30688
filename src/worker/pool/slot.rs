//! One slot: a thread that runs tasks one after the other and takes turns in between.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_deque::Worker as Deque;

use crate::clock::now;
use crate::core::event::{Cause, Failure, Success};
use crate::core::graph::{Graph, Row};
use crate::core::id::{Attempt, OperationId, TaskId};
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};
use crate::core::worker::memory::Room;
use crate::worker::files;
use crate::worker::function::{Attempted, Caller, Returned};
use crate::worker::last_words;
use crate::worker::output::Output;
use crate::worker::store::{Terms, Waiters};

use super::claims::Group;
use super::{Item, Look, Pool, Turns};

/// Tasks shorter than this are taken several at a time.
const SHORT: Micros = Micros(1);
/// The most that are: one word of claims.
const GRAIN_MAX: u32 = 64;
/// Once a slot has been at what it took for so long, others may have the rest.
const CHUNK_MAX: Micros = Micros(100);
/// A slot without work rests for so long before it leaves waiting for news to others.
const RESTS_MAX: Micros = Micros::from_millis(2);
/// What other slots hand in meanwhile is told after a rest.
const REST_MAX: Duration = Duration::from_millis(1);
/// The end of a task that took so long is handed in at once: that takes 1 % of it, and spares the keeper's waking for it.
const LONG: Micros = Micros::from_millis(2);
/// A slot at work looks for news if no slot did for so long.
const LOOK_EVERY: Micros = Micros(75);

/// What a slot is at, for others to see. Alone in its cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Running {
    /// Task and try in one word; 0 if there is none, for tries count from 1.
    attempt: AtomicU64,
    started: AtomicU64,
    told: AtomicU64,
}

/// A slot's own state.
pub struct Slot {
    number: usize,
    pool: Arc<Pool>,
    turns: Arc<dyn Turns>,
    deque: Deque<Item>,
    caller: Caller,
    inputs: Vec<Arc<Output>>,
    /// The end of the last task is the start of the next.
    clock: Timestamp,
    was_idle: bool,
    /// True if an end was entered that was not handed in at once, and nobody was told.
    has_left: bool,
    /// True while it runs what was held back.
    is_at_held: bool,
    /// How many tasks are taken at a time, if they do the same as the last.
    grain: u32,
    last: OperationId,
}

impl Running {
    fn begin(&self, task: TaskId, attempt: Attempt, started: Timestamp) {
        // The start first: whoever sees the attempt sees its start, or a later one.
        self.started.store(started.0, Ordering::Release);
        self.attempt.store(u64::from(task.0) << 32 | u64::from(attempt.0), Ordering::Release);
    }

    fn end(&self) {
        self.attempt.store(0, Ordering::Release);
    }

    /// The attempt, once, if it has been running for longer than `limit`.
    pub fn longer_than(&self, limit: Micros, now: Timestamp) -> Option<(TaskId, Attempt, Timestamp)> {
        let attempt = self.attempt.load(Ordering::Acquire);
        let started = Timestamp(self.started.load(Ordering::Acquire));
        let is_same = self.attempt.load(Ordering::Acquire) == attempt;
        if attempt == 0 || !is_same || now.since(started) < limit {
            return None;
        }
        let is_told = self.told.swap(attempt, Ordering::Relaxed) == attempt;
        (!is_told).then_some((TaskId((attempt >> 32) as u32), Attempt(attempt as u32), started))
    }
}

impl Slot {
    pub fn new(number: usize, pool: Arc<Pool>, turns: Arc<dyn Turns>, deque: Deque<Item>) -> Self {
        let caller =
            Caller::new(pool.setup.functions.clone(), pool.setup.stops.clone(), pool.setup.python.clone());
        let (inputs, clock) = (Vec::new(), Timestamp::default());
        let (was_idle, is_at_held, last) = (true, false, OperationId(0));
        Slot {
            number,
            pool,
            turns,
            deque,
            caller,
            inputs,
            clock,
            was_idle,
            is_at_held,
            grain: 1,
            last,
            has_left: false,
        }
    }

    /// Works until the pool is closed.
    pub fn run(mut self) {
        last_words::work_at(self.pool.setup.place);
        self.pool.crew.join(self.number);
        while !self.pool.is_closing() {
            if self.pool.crew.begin() {
                self.work();
                self.pool.crew.end();
            }
            self.idle();
        }
    }

    /// Runs what there is to run.
    fn work(&mut self) {
        self.clock = now();
        while !self.pool.is_closing() && !self.pool.crew.is_crowded() {
            let Some(item) = self.next() else { return };
            self.run_some(item);
            if std::mem::take(&mut self.is_at_held) {
                self.pool.held.end_one();
            }
        }
    }

    fn next(&mut self) -> Option<Item> {
        let room = self.pool.setup.store.room();
        if room > Room::Ample {
            return self.next_while_short(room);
        }
        if let Some(item) = self.deque.pop() {
            return Some(item);
        }
        let item = self.pool.held.take().or_else(|| self.next_of_others())?;
        self.on_found();
        Some(item)
    }

    /// What takes outputs goes first; what takes none is held back, and one of those starts if nothing else
    /// does.
    fn next_while_short(&mut self, room: Room) -> Option<Item> {
        if room == Room::Closed {
            return None;
        }
        while let Some(item) = self.deque.pop().or_else(|| self.next_of_others()) {
            if !self.pool.setup.graph.value_inputs(item.tasks.first).is_empty() {
                self.on_found();
                return Some(item);
            }
            self.pool.held.push(item);
        }
        let item = if room == Room::Short { self.pool.held.take_one()? } else { return None };
        self.is_at_held = true;
        self.on_found();
        Some(item)
    }

    fn next_of_others(&self) -> Option<Item> {
        self.pool.oldest_admitted().or_else(|| self.pool.steal_for(self.number))
    }

    fn on_found(&mut self) {
        if std::mem::take(&mut self.was_idle) && self.pool.has_work() {
            // Who brought it may have left it to this slot, while it looked for news, to wake others.
            self.pool.crew.wake(1);
        }
        self.clock = now();
    }

    /// Nothing to do: tells what ended, then waits for news for a while, if no other slot does, then sleeps.
    fn idle(&mut self) {
        self.was_idle = true;
        let pool = self.pool.clone();
        let is_wanted = || pool.is_closing() || (pool.has_work() && pool.crew.has_room());
        let has_ends = !pool.ends.of(self.number).is_empty();
        if has_ends || pool.crew.keeps_to_new_limit() {
            self.turns.due();
        }
        if is_wanted() {
            return;
        }
        if pool.attendance.begin() {
            let is_left = self.attend(&is_wanted);
            pool.attendance.end();
            if is_left {
                self.turns.leave();
            }
        }
        pool.crew.sleep(self.number, is_wanted);
    }

    /// Waits for news until there is something to do. True if it gave up: nothing came for a while.
    fn attend(&self, is_wanted: &impl Fn() -> bool) -> bool {
        let mut last_news = now();
        let mut look = Look::Again;
        while !is_wanted() {
            match look {
                Look::News => last_news = now(),
                Look::Again => std::hint::spin_loop(),
                Look::Yield => std::thread::yield_now(),
                Look::Rest(limit) if now().since(last_news) < RESTS_MAX => {
                    let limit = limit.min(REST_MAX);
                    let rest = || self.pool.crew.rest(self.number, is_wanted, || self.turns.rest(limit));
                    if !self.pool.attendance.rest(rest) {
                        std::thread::yield_now();
                    }
                }
                Look::Rest(_) | Look::Quiet => return true,
            }
            look = self.turns.look();
        }
        false
    }

    /// Takes as much of the front of an item as is run without asking again, and leaves the rest to itself
    /// and others.
    fn run_some(&mut self, item: Item) {
        let Item { mut tasks, terms } = item;
        let grain = self.grain_for(tasks.first);
        let mut left = 0;
        while tasks.count > grain {
            let front = tasks.take(tasks.count.div_ceil(2));
            self.deque.push(Item { tasks, terms });
            tasks = front;
            left += 1;
        }
        let (group, count) = Group::front_of(tasks);
        tasks.take(count);
        if tasks.count > 0 {
            self.deque.push(Item { tasks, terms });
            left += 1;
        }
        if left > 0 {
            self.pool.crew.wake(1);
        }
        self.run_group(group, terms);
    }

    /// Short tasks of one kind are taken by ever more.
    fn grain_for(&mut self, task: TaskId) -> u32 {
        let operation = self.pool.setup.graph.operation_id(task);
        if operation != self.last {
            self.grain = 1;
        }
        self.last = operation;
        self.grain
    }

    fn run_group(&mut self, group: Group, terms: Terms) {
        let began = self.clock;
        let mine = self.pool.claims.take(group);
        let mut count = 0;
        for task in mine.tasks() {
            let rest = mine.behind(task);
            self.run_task(task, terms, !rest.is_empty());
            count += 1;
            let is_long = self.clock.since(began) >= CHUNK_MAX || self.pool.crew.is_crowded();
            if is_long && !rest.is_empty() {
                self.leave(rest, terms);
                break;
            }
        }
        if mine != group {
            self.run_again(group);
        }
        if std::mem::take(&mut self.has_left) {
            self.turns.entered();
        }
        let is_short = self.clock.since(began).0 < SHORT.0 * count;
        self.grain = if is_short { (self.grain * 2).min(GRAIN_MAX) } else { 1 };
    }

    /// Others may have the tasks of a group that this slot took and did not come to.
    fn leave(&mut self, rest: Group, terms: Terms) {
        self.pool.claims.give_back(rest);
        let mut spans = Vec::new();
        rest.tasks().for_each(|task| Span::add_to(&mut spans, task));
        let count = spans.len();
        spans.into_iter().for_each(|tasks| self.deque.push(Item { tasks, terms }));
        self.pool.crew.wake(count);
    }

    /// Runs the tasks of a group that came here more than once, on the terms of their last coming.
    fn run_again(&mut self, group: Group) {
        for task in self.pool.claims.came_again(group).tasks() {
            if let Some(terms) = self.pool.claims.take_again(task) {
                self.run_task(task, terms, false);
            }
        }
    }

    fn run_task(&mut self, task: TaskId, terms: Terms, has_more: bool) {
        let started = self.clock;
        let running = &self.pool.running[self.number];
        running.begin(task, terms.attempt, started);
        let graph = &self.pool.setup.graph;
        let facts = graph.facts(task);
        let returned = gather(&self.pool, facts.values, &mut self.inputs).and_then(|()| {
            let returned = self.caller.run(Attempted {
                task,
                operation: graph.operation_with(task, facts.operation),
                number: facts.operation,
                options: graph.options_with(task, facts.options),
                attempt: terms.attempt,
                started,
                inputs: &self.inputs,
                is_wanted: terms.is_kept || terms.is_persisted,
                binding: None,
            })?;
            record(&self.pool, task, terms, returned)
        });
        self.inputs.clear();
        if self.pool.setup.store.room() > Room::Ample {
            // What was released while this task held it is gone only now.
            self.pool.setup.store.settle();
        }
        self.clock = now();
        running.end();
        let is_due = self.enter_end(task, terms, started, returned, has_more);
        if is_due || self.pool.was_watched(task) {
            self.turns.due();
            self.clock = now();
            return;
        }
        self.has_left = true;
        if self.pool.since_look(self.clock) >= LOOK_EVERY {
            self.turns.look();
            self.clock = now();
        }
    }

    /// Enters an end, and with it what waited for it. True if ends should be handed in.
    fn enter_end(
        &mut self,
        task: TaskId,
        terms: Terms,
        started: Timestamp,
        returned: Result<Returned, Cause>,
        has_more: bool,
    ) -> bool {
        let ran = self.clock.since(started);
        let (store, attempt) = (&self.pool.setup.store, terms.attempt);
        // The end before anybody can take the output, and the output before anybody can hand in the end.
        let mut ends = self.pool.ends.of(self.number);
        let waiters = match returned {
            Ok(Returned { output, size_bytes, file_sizes }) => {
                let kept = output.filter(|_| terms.is_kept);
                let waiters = kept.map(|output| store.insert(task, attempt, output, size_bytes));
                ends.succeed(task, attempt, Success { started, ran, size_bytes, file_sizes });
                waiters.unwrap_or_default()
            }
            Err(cause) => {
                ends.fail(task, attempt, Failure { started, ran, cause });
                Waiters::default()
            }
        };
        let is_due = ends.are_due(self.clock) || ran >= LONG;
        drop(ends);
        self.release(waiters, has_more);
        is_due
    }

    /// Tasks whose last input this was are next on this slot, and others may steal them.
    fn release(&mut self, waiters: Waiters, has_more: bool) {
        let mut stealable = usize::from(has_more);
        let mut released = 0;
        for ticket in waiters {
            if let Some(terms) = self.pool.setup.store.count_down(ticket) {
                self.pool.claims.on_ready(ticket);
                self.deque.push(Item { tasks: Span::one(ticket.task()), terms });
                released += 1;
            }
        }
        if released > 0 {
            stealable += released - 1;
            self.pool.crew.wake(stealable);
        }
    }
}

/// Takes the inputs of a task out of the store.
fn gather(pool: &Pool, inputs: Row<'_>, outputs: &mut Vec<Arc<Output>>) -> Result<(), Cause> {
    for input in inputs {
        let taken = pool.setup.store.take(input);
        match taken {
            Ok(Some(output)) => outputs.push(output),
            Ok(None) => return Err(missing(&pool.setup.graph, input, None)),
            Err(error) => return Err(missing(&pool.setup.graph, input, Some(error))),
        }
    }
    Ok(())
}

#[cold]
fn missing(graph: &Graph, input: TaskId, unread: Option<io::Error>) -> Cause {
    let key = graph.key(input);
    Cause::NotStarted(match unread {
        Some(error) => format!("cannot read the output of `{key}` back: {error}"),
        None => format!("the output of `{key}` is gone"),
    })
}

/// Writes a value into the run directory if it belongs there.
fn record(pool: &Pool, task: TaskId, terms: Terms, returned: Returned) -> Result<Returned, Cause> {
    if let Some(output) = returned.output.as_deref().filter(|_| terms.is_persisted) {
        let files = files::output_paths(&pool.setup.graph.operation(task).outputs, terms.attempt);
        pool.setup.recorder.record(task, terms.attempt, output, files)?;
    }
    Ok(returned)
}
