//! What ended at a pool's slots and was not handed in yet.
//!
//! A slot enters an end before anybody can take the output that it made, and all slots' ends are taken in
//! one step: whoever hands in the end of a task has handed in those of its inputs, too.

use std::sync::{Mutex, MutexGuard};

use crate::core::batch::Batch;
use crate::core::event::{Failure, Success};
use crate::core::id::{Attempt, TaskId};
use crate::core::time::{Micros, Timestamp};

/// Ends are handed in at once when they are so many,
const COUNT_MAX: u32 = 256;
/// or so large,
const BYTES_MAX: u64 = 1 << 20;
/// or so old.
const AGE_MAX: Micros = Micros::from_millis(1);

/// The ends of one slot.
#[derive(Debug, Default)]
pub struct Ends {
    /// Successes, in their order.
    pub batches: Vec<Batch>,
    /// What ended badly.
    pub failures: Vec<(TaskId, Attempt, Failure)>,
    count: u32,
    bytes: u64,
    since: Timestamp,
}

/// The ends of all slots.
#[derive(Debug)]
pub struct AllEnds {
    slots: Box<[OneSlot]>,
}

/// Alone in its cache lines: its slot writes to it all the time.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OneSlot(Mutex<Ends>);

impl Ends {
    /// Adds a success.
    pub fn succeed(&mut self, task: TaskId, attempt: Attempt, success: Success) {
        if self.count == 0 {
            self.since = success.started + success.ran;
        }
        if self.batches.last().is_none_or(|batch| batch.attempt != attempt) {
            self.batches.push(Batch::new(attempt));
        }
        let Some(batch) = self.batches.last_mut() else { return };
        if !success.file_sizes.is_empty() {
            batch.file_sizes.push((task, success.file_sizes));
        }
        batch.push(task, success.started, success.ran, success.size_bytes);
        self.count += 1;
        self.bytes += success.size_bytes;
    }

    /// Adds what ended badly.
    pub fn fail(&mut self, task: TaskId, attempt: Attempt, failure: Failure) {
        self.failures.push((task, attempt, failure));
    }

    /// True if they should be handed in now.
    pub fn are_due(&self, now: Timestamp) -> bool {
        self.count >= COUNT_MAX
            || self.bytes > BYTES_MAX
            || !self.failures.is_empty()
            || (self.count > 0 && now.since(self.since) >= AGE_MAX)
    }

    /// How many successes there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0 && self.failures.is_empty()
    }
}

impl AllEnds {
    /// None, of so many slots.
    pub fn new(slots: usize) -> Self {
        AllEnds { slots: (0..slots).map(|_| OneSlot::default()).collect() }
    }

    /// Those of one slot.
    pub fn of(&self, slot: usize) -> MutexGuard<'_, Ends> {
        self.slots[slot].0.lock().expect("no thread panics holding this lock")
    }

    /// Takes all ends of all slots.
    pub fn take(&self) -> Vec<Ends> {
        let mut all: Vec<MutexGuard<'_, Ends>> = (0..self.slots.len()).map(|slot| self.of(slot)).collect();
        let filled = all.iter_mut().filter(|ends| !ends.is_empty());
        filled.map(|ends| std::mem::take(&mut **ends)).collect()
    }
}
