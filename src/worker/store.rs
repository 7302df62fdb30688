//! The outputs in a worker's memory, and the admitted tasks that wait for them.
//!
//! Which outputs stay, the worker's machine decides. Every task has a cell with a lock of its own, in
//! chunks that come into being on first use: slots meet only where their tasks do, and a graph of ten
//! million tasks costs nothing until it runs.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use crate::core::id::{Attempt, TaskId};

use super::output::Output;

/// Cells that come into being together.
const CHUNK: usize = 1024;

/// Outputs by task, and who waits for those that are not here.
pub struct Store {
    chunks: Box<[OnceLock<Chunk>]>,
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
    /// An empty store for a graph of so many tasks.
    pub fn new(tasks: usize) -> Self {
        Store { chunks: (0..tasks.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect() }
    }

    /// Keeps an output; one of another try makes way. Returns who waited for it: each is to be counted
    /// down.
    pub fn insert(&self, task: TaskId, attempt: Attempt, output: Arc<Output>) -> Waiters {
        let mut cell = self.cell(task);
        let before = cell.output.replace(output);
        cell.attempt = attempt;
        let waiters = Waiters { first: cell.first_consumer.take(), others: cell.consumers.take() };
        drop(cell);
        // A large output takes a while to go: not under the lock.
        drop(before);
        waiters
    }

    /// The output of a task, whichever try made it.
    pub fn get(&self, task: TaskId) -> Option<Arc<Output>> {
        self.existing(task)?.output.clone()
    }

    /// The output of one try of a task.
    pub fn get_of(&self, task: TaskId, attempt: Attempt) -> Option<Arc<Output>> {
        let cell = self.existing(task)?;
        cell.output.clone().filter(|_| cell.attempt == attempt)
    }

    /// Drops the output of one try, if it is here.
    pub fn remove(&self, task: TaskId, attempt: Attempt) {
        let Some(mut cell) = self.existing(task) else { return };
        let output = if cell.attempt == attempt { cell.output.take() } else { None };
        drop(cell);
        drop(output);
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
            if cell.output.is_some() {
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
        let chunk = self.chunks[task.index() / CHUNK].get_or_init(|| {
            let cells = std::iter::repeat_with(Mutex::<Cell>::default);
            cells.take(CHUNK).collect()
        });
        chunk[task.index() % CHUNK].lock().expect("no thread panics holding a cell")
    }

    /// The cell of a task, if anything was ever known of it or its neighbours.
    fn existing(&self, task: TaskId) -> Option<MutexGuard<'_, Cell>> {
        let chunk = self.chunks[task.index() / CHUNK].get()?;
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
        write!(out, "Store of {} chunks", self.chunks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::value::Value;

    const TERMS: Terms = Terms { attempt: Attempt(1), is_kept: true, is_persisted: false };

    fn output(number: i64) -> Arc<Output> {
        Arc::new(Output::Value(Value::Int(number)))
    }

    fn wait(store: &Store, task: u32, inputs: &[u32]) -> Option<Terms> {
        let ticket = store.begin_wait(TaskId(task), TERMS);
        store.wait_for(ticket, inputs.iter().map(|&input| TaskId(input)))
    }

    /// Keeps an output and returns who became ready.
    fn arrive(store: &Store, task: u32, attempt: u32) -> Vec<u32> {
        let waiters = store.insert(TaskId(task), Attempt(attempt), output(i64::from(task)));
        waiters.filter(|&ticket| store.count_down(ticket).is_some()).map(|ticket| ticket.task().0).collect()
    }

    #[test]
    fn a_task_is_ready_with_its_last_input() {
        let store = Store::new(5000);
        assert!(arrive(&store, 4000, 1).is_empty());
        assert_eq!(wait(&store, 7, &[4000, 8, 2000]), None);
        assert!(arrive(&store, 8, 1).is_empty());
        assert_eq!(arrive(&store, 2000, 1), [7]);
        assert_eq!(wait(&store, 9, &[4000, 8, 2000]), Some(TERMS));
    }

    #[test]
    fn every_consumer_is_told_once() {
        let store = Store::new(10);
        for task in 1..6 {
            assert_eq!(wait(&store, task, &[0]), None);
        }
        let mut ready = arrive(&store, 0, 1);
        ready.sort_unstable();
        assert_eq!(ready, [1, 2, 3, 4, 5]);
        assert!(arrive(&store, 0, 2).is_empty());
    }

    #[test]
    fn what_is_left_of_an_earlier_wait_does_not_count() {
        let store = Store::new(10);
        assert_eq!(wait(&store, 5, &[0, 1]), None);
        // 0 comes, but is counted down late.
        let late: Vec<Ticket> = store.insert(TaskId(0), Attempt(1), output(0)).collect();
        store.withdraw(TaskId(5));
        assert_eq!(wait(&store, 5, &[0, 1, 2]), None);
        assert_eq!(store.count_down(late[0]), None);
        assert!(arrive(&store, 1, 1).is_empty());
        assert_eq!(arrive(&store, 2, 1), [5]);
    }

    #[test]
    fn an_output_goes_only_with_its_own_try() {
        let store = Store::new(1);
        assert_eq!(store.get(TaskId(0)), None);
        store.insert(TaskId(0), Attempt(1), output(1));
        store.insert(TaskId(0), Attempt(2), output(2));
        store.remove(TaskId(0), Attempt(1));
        assert_eq!(store.get(TaskId(0)), Some(output(2)));
        assert_eq!(store.get_of(TaskId(0), Attempt(1)), None);
        store.remove(TaskId(0), Attempt(2));
        assert_eq!(store.get(TaskId(0)), None);
    }

    #[test]
    fn a_cell_is_small() {
        assert!(size_of::<Mutex<Cell>>() <= 80, "{}", size_of::<Mutex<Cell>>());
    }
}
