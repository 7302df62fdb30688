//! The outputs in a worker's memory, and the admitted tasks that wait for them.
//!
//! Which outputs stay, the worker's machine decides. Every task has a cell with a lock of its own, in
//! chunks that come into being on first use: slots meet only where their tasks do, and a graph of ten
//! million tasks costs nothing until it runs.
//!
//! Large outputs are counted by `memory`, and may be on the disk: they are here all the same, and come back
//! when they are taken.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use crate::core::id::{Attempt, TaskId};
use crate::core::worker::memory::{COUNTED_FROM, Leaving, Room};

use super::growing::Growing;
use super::memory::{self, Memory};
use super::output::Output;
use super::plain;
use super::spilled::Spilled;

/// Cells that come into being together.
const CHUNK: usize = 1024;

/// Outputs by task, and who waits for those that are not here.
pub struct Store {
    chunks: Growing<OnceLock<Chunk>>,
    /// None if there is no limit.
    memory: Option<Memory>,
    own: Weak<Store>,
}

/// Where an output is.
#[derive(Clone, Debug)]
pub enum Found {
    /// In memory.
    Here(Arc<Output>),
    /// On the disk.
    Away(Arc<Spilled>),
}

type Chunk = Box<[Mutex<Cell>]>;

/// How an admitted task is to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which try it is.
    pub attempt: Attempt,
    /// True if other tasks take its value.
    pub is_kept: bool,
    /// True if its value must be written into the run directory.
    pub is_persisted: bool,
}

/// One time that a task waits for its inputs. A task that was taken back and comes again waits anew,
/// and what is left of the first time does not count for the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    task: TaskId,
    number: u32,
}

/// What is known of one task.
#[derive(Debug, Default)]
struct Cell {
    output: Option<Arc<Output>>,
    /// It on the disk; it may be in memory as well.
    spilled: Option<Arc<Spilled>>,
    /// True if the output counts in `memory`.
    is_counted: bool,
    /// Which try made the output.
    attempt: Attempt,
    /// Times that the task has begun to wait.
    waits: u32,
    waiting: Option<Waiting>,
    /// Most outputs have one consumer: it needs no memory of its own.
    first_consumer: Option<Ticket>,
    consumers: Option<Box<Consumers>>,
}

#[derive(Debug)]
struct Waiting {
    terms: Terms,
    /// Inputs that are not here, and one while they are being looked at.
    missing: u32,
}

/// Who waits for an output besides the first.
#[derive(Debug, Default)]
struct Consumers {
    tickets: Vec<Ticket>,
}

/// The tasks that waited for one output.
#[derive(Debug, Default)]
pub struct Waiters {
    first: Option<Ticket>,
    others: Option<Box<Consumers>>,
}

impl Store {
    /// An empty store for a graph of so many tasks, without a limit.
    pub fn new(tasks: usize) -> Self {
        Store { chunks: Growing::new(tasks.div_ceil(CHUNK)), memory: None, own: Weak::new() }
    }

    /// An empty store whose outputs take no more memory than they may.
    pub fn within(tasks: usize, setup: memory::Setup) -> Arc<Self> {
        Arc::new_cyclic(|own| Store {
            memory: Some(Memory::new(setup)),
            own: own.clone(),
            ..Store::new(tasks)
        })
    }

    /// What keeps it within its limit, if it has one.
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// How much room there is for more.
    pub fn room(&self) -> Room {
        self.memory.as_ref().map_or(Room::Ample, Memory::room)
    }

    pub(super) fn own(&self) -> Weak<Store> {
        self.own.clone()
    }

    /// Keeps an output of about `bytes`; one of another try makes way. Returns who waited for it: each is to
    /// be counted down.
    pub fn insert(&self, task: TaskId, attempt: Attempt, output: Arc<Output>, bytes: u64) -> Waiters {
        let is_counted = self.memory.is_some() && bytes >= COUNTED_FROM;
        let bytes_before = if is_counted { self.count(task, plain::memory_of(&output)) } else { 0 };
        let mut cell = self.cell(task);
        let (before, spilled) = (cell.output.replace(output), cell.spilled.take());
        let was_counted = std::mem::replace(&mut cell.is_counted, is_counted);
        cell.attempt = attempt;
        let waiters = Waiters { first: cell.first_consumer.take(), others: cell.consumers.take() };
        drop(cell);
        drop(spilled);
        match is_counted {
            true => self.let_linger(before, bytes_before),
            false if was_counted => self.forget(task, before),
            // A large output takes a while to go: not under the lock.
            false => drop(before),
        }
        waiters
    }

    /// Counts an output; how many bytes counted for it before.
    fn count(&self, task: TaskId, bytes: u64) -> u64 {
        let Some(memory) = &self.memory else { return 0 };
        let mut state = memory.lock();
        let before = state.ledger.bytes_of(task);
        state.ledger.enter(task, bytes);
        before
    }

    /// The store does not keep this output, or not any more; it counts for as long as somebody holds it.
    fn let_linger(&self, output: Option<Arc<Output>>, bytes: u64) {
        let Some(memory) = &self.memory else { return };
        let weak = output.map(|output| Arc::downgrade(&output));
        let mut state = memory.lock();
        weak.into_iter().for_each(|weak| state.linger(weak, bytes));
        memory.settle(state, self);
    }

    /// The output of a task, whichever try made it, in memory. Reads it if it is on the disk: no thread asks
    /// that moves messages.
    pub fn take(&self, task: TaskId) -> io::Result<Option<Arc<Output>>> {
        let Some(cell) = self.existing(task) else { return Ok(None) };
        let (output, spilled, is_counted) = (cell.output.clone(), cell.spilled.clone(), cell.is_counted);
        drop(cell);
        match (output, spilled, &self.memory) {
            (Some(output), _, memory) => {
                if let Some(memory) = memory.as_ref().filter(|_| is_counted) {
                    memory.lock().ledger.on_used(task);
                }
                Ok(Some(output))
            }
            (None, Some(spilled), Some(memory)) => self.read_back(task, &spilled, memory).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads an output, and keeps it in memory again if nobody else does and it was not released meanwhile.
    fn read_back(&self, task: TaskId, spilled: &Arc<Spilled>, memory: &Memory) -> io::Result<Arc<Output>> {
        let output = spilled.read(memory.coding())?;
        memory.on_read(spilled.bytes());
        let mut state = memory.lock();
        let mut cell = self.cell(task);
        let is_same = cell.spilled.as_ref().is_some_and(|other| Arc::ptr_eq(other, spilled));
        if is_same && cell.output.is_none() {
            cell.output = Some(output.clone());
            state.ledger.on_read(task);
            state.linger_no_more(&output);
        }
        drop(cell);
        if !is_same {
            state.linger(Arc::downgrade(&output), plain::memory_of(&output));
        }
        memory.settle(state, self);
        Ok(output)
    }

    /// Reads an output for somebody else: it counts until it is let go.
    pub fn read_for_other(&self, spilled: &Spilled, memory: &Memory) -> io::Result<Arc<Output>> {
        let output = spilled.read(memory.coding())?;
        memory.on_read(spilled.bytes());
        let mut state = memory.lock();
        state.linger(Arc::downgrade(&output), plain::memory_of(&output));
        memory.settle(state, self);
        Ok(output)
    }

    /// Where the output of a task is: of one try, or of whichever made it.
    pub fn find(&self, task: TaskId, attempt: Option<Attempt>) -> Option<Found> {
        let cell = self.existing(task)?;
        if attempt.is_some_and(|attempt| cell.attempt != attempt) {
            return None;
        }
        cell.output.clone().map(Found::Here).or_else(|| cell.spilled.clone().map(Found::Away))
    }

    /// Drops the output of one try, if it is here.
    pub fn remove(&self, task: TaskId, attempt: Attempt) {
        let Some(mut cell) = self.existing(task) else { return };
        if cell.attempt != attempt {
            return;
        }
        let (output, spilled) = (cell.output.take(), cell.spilled.take());
        let was_counted = std::mem::take(&mut cell.is_counted);
        drop(cell);
        drop(spilled);
        match was_counted {
            true => self.forget(task, output),
            false => drop(output),
        }
    }

    /// A counted output is kept no more.
    fn forget(&self, task: TaskId, output: Option<Arc<Output>>) {
        let Some(memory) = &self.memory else { return };
        // A large output takes a while to go: not under the lock.
        let weak = output.map(|output| Arc::downgrade(&output));
        let mut state = memory.lock();
        let bytes = state.ledger.bytes_of(task);
        if let Some(weak) = weak {
            state.linger(weak, bytes);
        }
        state.ledger.forget(task);
        memory.settle(state, self);
    }

    /// Looks what is too much, and what may start: somebody let go of an output, or one was made.
    pub fn settle(&self) {
        if let Some(memory) = &self.memory {
            memory.settle(memory.lock(), self);
        }
    }

    /// True if somebody holds this output besides the store.
    pub(super) fn is_held(&self, task: TaskId) -> bool {
        let cell = self.existing(task);
        cell.is_none_or(|cell| cell.output.as_ref().is_none_or(|output| Arc::strong_count(output) > 1))
    }

    /// Writes an output to the disk, unless it is there, and keeps it in memory no more.
    pub(super) fn write_out(&self, leaving: Leaving) {
        let Some(memory) = &self.memory else { return };
        let cell = self.existing(leaving.task);
        let (output, spilled) = cell.map_or((None, None), |cell| (cell.output.clone(), cell.spilled.clone()));
        let is_wanted = memory.lock().ledger.leaving_bytes(leaving).is_some();
        let Some(output) = output.filter(|_| is_wanted) else {
            let mut state = memory.lock();
            state.ledger.on_stayed(leaving, false);
            return memory.settle(state, self);
        };
        let written = match spilled {
            Some(spilled) => Ok((spilled, 0)),
            None => memory.write(&output).map(|spilled| {
                let bytes = spilled.bytes();
                (Arc::new(spilled), bytes)
            }),
        };
        self.on_written(memory, leaving, output, written);
    }

    fn on_written(
        &self,
        memory: &Memory,
        leaving: Leaving,
        output: Arc<Output>,
        written: Result<(Arc<Spilled>, u64), String>,
    ) {
        let mut state = memory.lock();
        let spilled = match written {
            Ok((spilled, bytes)) => {
                memory.note_write(bytes);
                spilled
            }
            Err(why) => {
                state.refuse(leaving, why);
                return memory.settle(state, self);
            }
        };
        let mut cell = self.cell(leaving.task);
        let is_same = cell.output.as_ref().is_some_and(|other| Arc::ptr_eq(other, &output));
        if is_same && let Some(bytes) = state.ledger.leaving_bytes(leaving) {
            let kept = cell.output.take();
            cell.spilled = Some(spilled);
            drop(cell);
            state.ledger.on_left(leaving);
            drop(state);
            // A large output takes a while to go: not under the lock.
            let weak = Arc::downgrade(&output);
            drop((kept, output));
            state = memory.lock();
            state.linger(weak, bytes);
        } else {
            drop(cell);
            state.ledger.on_stayed(leaving, false);
        }
        memory.settle(state, self);
    }

    /// A task begins to wait. It cannot become ready before `wait_for`.
    pub fn begin_wait(&self, task: TaskId, terms: Terms) -> Ticket {
        let mut cell = self.cell(task);
        cell.waits = cell.waits.wrapping_add(1);
        cell.waiting = Some(Waiting { terms, missing: 1 });
        Ticket { task, number: cell.waits }
    }

    /// Enters a task that began to wait with each of its inputs that is not here. True if it is ready at
    /// once; else the count-down of the last input says so.
    pub fn wait_for(&self, ticket: Ticket, inputs: impl ExactSizeIterator<Item = TaskId>) -> Option<Terms> {
        self.cell(ticket.task).waiting.as_mut()?.missing += inputs.len() as u32;
        let mut here = 1;
        for input in inputs {
            let mut cell = self.cell(input);
            if cell.output.is_some() || cell.spilled.is_some() {
                here += 1;
            } else {
                cell.add_consumer(ticket);
            }
        }
        self.less(ticket, here)
    }

    /// One input that a task waited for is here. Returns its terms if it was the last.
    pub fn count_down(&self, ticket: Ticket) -> Option<Terms> {
        self.less(ticket, 1)
    }

    /// A task waits no longer.
    pub fn withdraw(&self, task: TaskId) {
        if let Some(mut cell) = self.existing(task) {
            cell.waiting = None;
        }
    }

    fn less(&self, ticket: Ticket, count: u32) -> Option<Terms> {
        let mut cell = self.cell(ticket.task);
        if cell.waits != ticket.number {
            return None;
        }
        let waiting = cell.waiting.as_mut()?;
        waiting.missing -= count;
        if waiting.missing > 0 {
            return None;
        }
        cell.waiting.take().map(|waiting| waiting.terms)
    }

    fn cell(&self, task: TaskId) -> MutexGuard<'_, Cell> {
        let chunk = self.chunks.get(task.index() / CHUNK).get_or_init(|| {
            let cells = std::iter::repeat_with(Mutex::<Cell>::default);
            cells.take(CHUNK).collect()
        });
        chunk[task.index() % CHUNK].lock().expect("no thread panics holding a cell")
    }

    /// The cell of a task, if anything was ever known of it or its neighbours.
    fn existing(&self, task: TaskId) -> Option<MutexGuard<'_, Cell>> {
        let chunk = self.chunks.get(task.index() / CHUNK).get()?;
        Some(chunk[task.index() % CHUNK].lock().expect("no thread panics holding a cell"))
    }
}

impl Cell {
    fn add_consumer(&mut self, ticket: Ticket) {
        match self.first_consumer {
            None => self.first_consumer = Some(ticket),
            Some(_) => self.consumers.get_or_insert_default().tickets.push(ticket),
        }
    }
}

impl Ticket {
    /// Whose it is.
    pub fn task(self) -> TaskId {
        self.task
    }
}

impl Iterator for Waiters {
    type Item = Ticket;

    fn next(&mut self) -> Option<Ticket> {
        self.first.take().or_else(|| self.others.as_mut()?.tickets.pop())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Store")
    }
}

#[cfg(test)]
mod tests;
