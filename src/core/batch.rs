//! Tasks that ran to success, reported together in a few bytes each.

use serde::{Deserialize, Serialize};

use super::event::Success;
use super::id::{Attempt, TaskId};
use super::span::Span;
use super::time::{Micros, Timestamp};

/// Successes of tasks that were all at the same try, in the order in which they were added.
///
/// Takes about three bytes for a task of some microseconds that follows the one before. Damaged
/// batches read as zeros; they lead to no panic.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Batch {
    /// Which try it was of each.
    pub attempt: Attempt,
    /// The tasks.
    pub spans: Vec<Span>,
    /// What all attempts took together.
    pub ran: Micros,
    /// Bytes of each file that a task declared as an output, for the tasks that did.
    pub file_sizes: Vec<(TaskId, Vec<u64>)>,
    /// Start of the first.
    began: Timestamp,
    /// For each task: its start after the end of the one before (zigzag), its run time, its size.
    #[serde(with = "super::octets")]
    packed: Vec<u8>,
    /// End of the last, for the next to be added.
    #[serde(skip)]
    ended: Timestamp,
}

/// The end of the last, which is there only to add to it, tells no batches apart.
impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        let facts = |it: &Batch| (it.attempt, it.ran, it.began);
        facts(self) == facts(other)
            && (&self.spans, &self.file_sizes, &self.packed)
                == (&other.spans, &other.file_sizes, &other.packed)
    }
}

impl Eq for Batch {}

impl Batch {
    /// No successes yet of tasks at this try.
    pub fn new(attempt: Attempt) -> Self {
        Batch { attempt, ..Batch::default() }
    }

    /// One success alone.
    pub fn one(task: TaskId, attempt: Attempt, success: Success) -> Self {
        let mut batch = Batch::new(attempt);
        if !success.file_sizes.is_empty() {
            batch.file_sizes.push((task, success.file_sizes));
        }
        batch.push(task, success.started, success.ran, success.size_bytes);
        batch
    }

    /// Adds a success.
    pub fn push(&mut self, task: TaskId, started: Timestamp, ran: Micros, size_bytes: u64) {
        if self.spans.is_empty() {
            (self.began, self.ended) = (started, started);
        }
        Span::add_to(&mut self.spans, task);
        let gap = started.0.wrapping_sub(self.ended.0) as i64;
        put(&mut self.packed, ((gap << 1) ^ (gap >> 63)) as u64);
        put(&mut self.packed, ran.0);
        put(&mut self.packed, size_bytes);
        self.ended = started + ran;
        self.ran = Micros(self.ran.0.saturating_add(ran.0));
    }

    /// How many tasks there are.
    pub fn len(&self) -> u32 {
        self.spans.iter().fold(0, |sum, span| sum.saturating_add(span.count))
    }

    /// False if something is missing: no worker reports so, and the tasks may be more than there is time for.
    pub fn is_whole(&self) -> bool {
        let tasks: u64 = self.spans.iter().map(|span| u64::from(span.count)).sum();
        // Each number takes a byte at least.
        3 * tasks <= self.packed.len() as u64
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The tasks, one after the other.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> + Clone + '_ {
        self.spans.iter().flat_map(|span| span.tasks())
    }

    /// Every task with its success. File sizes are those of `file_sizes`.
    pub fn iter(&self) -> impl Iterator<Item = (TaskId, Success)> + '_ {
        let mut files = self.file_sizes.iter().peekable();
        self.timings().map(move |(task, started, ran, size_bytes)| {
            let file_sizes =
                files.next_if(|(of, _)| *of == task).map_or(Vec::new(), |(_, sizes)| sizes.clone());
            (task, Success { started, ran, size_bytes, file_sizes })
        })
    }

    /// Every task with its start, its run time and the size of its value: `iter` without the files.
    pub fn timings(&self) -> impl Iterator<Item = (TaskId, Timestamp, Micros, u64)> + '_ {
        let (mut rest, mut ended) = (&self.packed[..], self.began.0);
        self.tasks().map(move |task| {
            let gap = get(&mut rest);
            let gap = ((gap >> 1) as i64) ^ -((gap & 1) as i64);
            let started = ended.wrapping_add(gap as u64);
            let ran = get(&mut rest);
            ended = started.wrapping_add(ran);
            (task, Timestamp(started), Micros(ran), get(&mut rest))
        })
    }
}

/// Adds a number, seven bits a byte, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Takes a number off the front; 0 if there is none.
fn get(bytes: &mut &[u8]) -> u64 {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let Some((&byte, rest)) = bytes.split_first() else { return 0 };
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(started: u64, ran: u64, size_bytes: u64, file_sizes: &[u64]) -> Success {
        let (started, ran) = (Timestamp(started), Micros(ran));
        Success { started, ran, size_bytes, file_sizes: file_sizes.to_vec() }
    }

    #[test]
    fn what_was_pushed_comes_out() {
        let all = [
            (TaskId(4), success(1_800_000_000_000_000, 0, 8, &[])),
            (TaskId(5), success(1_800_000_000_000_000, 3_600_000_000, u64::MAX, &[])),
            // Another slot's clock may be behind the end of the task before.
            (TaskId(9), success(1_800_000_000_000_007, 300, 0, &[])),
        ];
        let mut batch = Batch::new(Attempt(2));
        for (task, it) in &all {
            batch.push(*task, it.started, it.ran, it.size_bytes);
        }
        assert_eq!((batch.len(), batch.ran), (3, Micros(3_600_000_300)));
        assert_eq!(batch.iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn files_stay_with_their_task() {
        let it = success(1, 2, 3, &[10, 20]);
        let batch = Batch::one(TaskId(1), Attempt(1), it.clone());
        assert_eq!(batch.iter().collect::<Vec<_>>(), [(TaskId(1), it)]);
        assert!(batch.is_whole());
    }

    #[test]
    fn a_short_task_takes_three_bytes() {
        let mut batch = Batch::new(Attempt(1));
        for task in 0..1000 {
            batch.push(TaskId(task), Timestamp(1 << 50), Micros(0), 8);
        }
        assert_eq!((batch.packed.len(), batch.spans.len()), (3000, 1));
    }

    #[test]
    fn a_batch_cut_short_reads_as_zeros() {
        let mut batch = Batch::one(TaskId(1), Attempt(1), success(500, 500, 500, &[]));
        batch.packed.truncate(1);
        batch.spans[0].count = 3;
        assert_eq!(batch.iter().count(), 3);
        assert!(!batch.is_whole());
    }
}
