//! A simulated cluster, and what is measured of a run on it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::network::Links;

/// Workers that are all alike, each on a node of its own.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    pub workers: usize,
    /// Cores of each worker.
    pub cores: u32,
    pub links: Links,
}

impl Cluster {
    pub fn cores_in_all(&self) -> u64 {
        self.workers as u64 * u64::from(self.cores)
    }
}

/// How a run went.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    /// From the first message to the end of the last task.
    pub makespan_us: u64,
    /// Where and when each task ran.
    pub runs: Vec<Run>,
    /// Bytes that went from worker to worker.
    pub moved_bytes: u64,
    /// The most bytes of outputs, copies included, that all workers held at once.
    pub live_bytes_max: u64,
    /// Processor time of the real scheduler's decisions; none for the others.
    pub deciding: Duration,
}

/// One task's run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Run {
    pub worker: usize,
    /// When the worker was given it.
    pub assigned_us: u64,
    pub started_us: u64,
}

/// Occurrences by time; those of one time in the order in which they were entered.
pub struct Agenda<E> {
    entries: BinaryHeap<Reverse<Entry<E>>>,
    entered: u64,
}

struct Entry<E> {
    at_us: u64,
    number: u64,
    event: E,
}

impl<E> Agenda<E> {
    pub fn new() -> Self {
        Agenda { entries: BinaryHeap::new(), entered: 0 }
    }

    pub fn enter(&mut self, at_us: u64, event: E) {
        self.entered += 1;
        self.entries.push(Reverse(Entry { at_us, number: self.entered, event }));
    }

    pub fn next_us(&self) -> Option<u64> {
        self.entries.peek().map(|entry| entry.0.at_us)
    }

    /// What happens at this time, if anything is left of it.
    pub fn take_at(&mut self, now_us: u64) -> Option<E> {
        match self.next_us() == Some(now_us) {
            true => self.entries.pop().map(|entry| entry.0.event),
            false => None,
        }
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at_us, self.number).cmp(&(other.at_us, other.number))
    }
}
