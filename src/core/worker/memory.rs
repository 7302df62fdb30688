//! Which outputs leave a worker's memory for its disk, and which tasks may start meanwhile.
//!
//! The ledger knows sizes and last uses of large outputs, never their bytes. It does not know who holds an
//! output: that is asked of whoever keeps them, for what is held does not go away by being written.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::id::TaskId;

/// Outputs of fewer bytes are neither counted nor written: to look after them would cost more than to make them.
pub const COUNTED_FROM: u64 = 1024;

/// Of so many that were not used for longest, the largest goes first.
const COLDEST: usize = 16;

/// How much there is room for, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Room {
    /// Everything may start.
    #[default]
    Ample,
    /// What has no inputs starts only if nothing else can, one after the other: it only adds to what is held.
    Short,
    /// The disk is full: what has no inputs does not start.
    Full,
    /// Nothing starts: outputs are on their way to the disk, or there is no room at all.
    Closed,
}

/// The large outputs of a worker: those in memory, and those on its disk.
#[derive(Debug)]
pub struct Ledger {
    limit: u64,
    entries: BTreeMap<TaskId, Entry>,
    /// Those in memory that are not on their way out, coldest first.
    by_use: BTreeSet<(u64, TaskId)>,
    /// Counts uses and entries.
    clock: u64,
    /// Bytes in memory, those on their way out included.
    here: u64,
    /// Bytes on their way out.
    leaving: u64,
    /// What was refused by the disk, the least of it, until something was released: smaller outputs may fit.
    refused: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    bytes: u64,
    /// Tells this entry from earlier ones of the same task.
    number: u64,
    used: u64,
    place: Place,
    /// True if the disk has a copy.
    is_written: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Here,
    Leaving,
    Disk,
}

/// An output that is to leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Whose output.
    pub task: TaskId,
    /// Which entry of it.
    pub number: u64,
}

impl Ledger {
    /// Nothing is kept yet, and so much may be.
    pub fn new(limit: u64) -> Self {
        Ledger {
            limit,
            entries: BTreeMap::new(),
            by_use: BTreeSet::new(),
            clock: 0,
            here: 0,
            leaving: 0,
            refused: None,
        }
    }

    /// An output is kept in memory; one of another try makes way.
    pub fn enter(&mut self, task: TaskId, bytes: u64) {
        self.forget(task);
        self.clock += 1;
        let (number, used) = (self.clock, self.clock);
        self.entries.insert(task, Entry { bytes, number, used, place: Place::Here, is_written: false });
        self.by_use.insert((used, task));
        self.here += bytes;
    }

    /// An output is kept no more, neither in memory nor on the disk.
    pub fn forget(&mut self, task: TaskId) {
        let Some(entry) = self.entries.remove(&task) else { return };
        self.by_use.remove(&(entry.used, task));
        if entry.place != Place::Disk {
            self.here -= entry.bytes;
        }
        if entry.place == Place::Leaving {
            self.leaving -= entry.bytes;
        }
    }

    /// Something on the disk was released: what was refused may fit. That may be long after its output was
    /// forgotten, as tasks still read it.
    pub fn on_disk_freed(&mut self) {
        self.refused = None;
    }

    /// A task takes this output that is in memory.
    pub fn on_used(&mut self, task: TaskId) {
        self.clock += 1;
        let Some(entry) = self.entries.get_mut(&task) else { return };
        if self.by_use.remove(&(entry.used, task)) {
            self.by_use.insert((self.clock, task));
        }
        entry.used = self.clock;
    }

    /// The output was read, and is in memory again besides.
    pub fn on_read(&mut self, task: TaskId) {
        self.clock += 1;
        let Some(entry) = self.entries.get_mut(&task).filter(|entry| entry.place == Place::Disk) else {
            return;
        };
        (entry.place, entry.used) = (Place::Here, self.clock);
        self.by_use.insert((entry.used, task));
        self.here += entry.bytes;
    }

    /// What leaves now. `held` bytes are in memory besides what is kept; what `is_held` by somebody stays.
    ///
    /// Begins at seven eighths of the limit and goes on down to three quarters, so that few have to wait.
    pub fn choose(&mut self, held: u64, is_held: impl Fn(TaskId) -> bool) -> Vec<Leaving> {
        let mut chosen = Vec::new();
        if self.staying(held) <= self.limit - self.limit / 8 {
            return chosen;
        }
        while self.staying(held) > self.limit - self.limit / 4
            && let Some(leaving) = self.choose_one(&is_held)
        {
            chosen.push(leaving);
        }
        chosen
    }

    fn choose_one(&mut self, is_held: impl Fn(TaskId) -> bool) -> Option<Leaving> {
        let has_place =
            |entry: &Entry| entry.is_written || self.refused.is_none_or(|bytes| entry.bytes < bytes);
        let can_leave = |task: TaskId| has_place(&self.entries[&task]) && !is_held(task);
        let cold = self.by_use.iter().filter(|(_, task)| can_leave(*task)).take(COLDEST);
        // Of equally large ones the coldest: the last of the greatest, from the end.
        let &(used, task) =
            cold.collect::<Vec<_>>().into_iter().rev().max_by_key(|(_, task)| self.entries[task].bytes)?;
        self.by_use.remove(&(used, task));
        let entry = self.entries.get_mut(&task)?;
        entry.place = Place::Leaving;
        self.leaving += entry.bytes;
        Some(Leaving { task, number: entry.number })
    }

    /// It is on the disk and no longer kept in memory. False if it was forgotten meanwhile.
    pub fn on_left(&mut self, leaving: Leaving) -> bool {
        let Some(entry) = self.entries.get_mut(&leaving.task).filter(|entry| is_the(entry, leaving)) else {
            return false;
        };
        (entry.place, entry.is_written) = (Place::Disk, true);
        self.here -= entry.bytes;
        self.leaving -= entry.bytes;
        true
    }

    /// It stays in memory after all; `is_refused` if the disk has no room for it.
    pub fn on_stayed(&mut self, leaving: Leaving, is_refused: bool) {
        let Some(entry) = self.entries.get_mut(&leaving.task).filter(|entry| is_the(entry, leaving)) else {
            return;
        };
        entry.place = Place::Here;
        self.leaving -= entry.bytes;
        self.by_use.insert((entry.used, leaving.task));
        if is_refused {
            self.refused = Some(self.refused.map_or(entry.bytes, |bytes| bytes.min(entry.bytes)));
        }
    }

    /// What may start, while `held` bytes are in memory besides what is kept.
    pub fn room(&self, held: u64) -> Room {
        let all = self.here + held;
        let is_over = all > self.limit;
        if is_over && (self.leaving > 0 || (self.refused.is_some() && all - self.limit > self.limit / 2)) {
            Room::Closed
        } else if is_over && self.refused.is_some() {
            Room::Full
        } else if all > self.limit / 2 {
            Room::Short
        } else {
            Room::Ample
        }
    }

    /// True while outputs are on their way to the disk.
    pub fn is_waiting(&self) -> bool {
        self.leaving > 0
    }

    /// The bytes of memory that this output takes, if it is on its way out.
    pub fn leaving_bytes(&self, leaving: Leaving) -> Option<u64> {
        let entry = self.entries.get(&leaving.task).filter(|entry| is_the(entry, leaving))?;
        Some(entry.bytes)
    }

    /// Bytes that an output takes in memory, or took before it left.
    pub fn bytes_of(&self, task: TaskId) -> u64 {
        self.entries.get(&task).map_or(0, |entry| entry.bytes)
    }

    /// Bytes that are kept in memory.
    pub fn here_bytes(&self) -> u64 {
        self.here
    }

    /// Bytes that will be in memory once all that leaves has left.
    fn staying(&self, held: u64) -> u64 {
        self.here - self.leaving + held
    }
}

fn is_the(entry: &Entry, leaving: Leaving) -> bool {
    entry.number == leaving.number && entry.place == Place::Leaving
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(limit: u64, sizes: &[u64]) -> Ledger {
        let mut ledger = Ledger::new(limit);
        for (task, &bytes) in sizes.iter().enumerate() {
            ledger.enter(TaskId::from(task), bytes);
        }
        ledger
    }

    fn nobody(_: TaskId) -> bool {
        false
    }

    fn tasks(chosen: &[Leaving]) -> Vec<u32> {
        chosen.iter().map(|leaving| leaving.task.0).collect()
    }

    #[test]
    fn nothing_leaves_below_seven_eighths_of_the_limit() {
        let mut ledger = ledger(800, &[300, 400]);
        assert_eq!(ledger.choose(0, nobody), []);
        assert_eq!(ledger.room(0), Room::Short);
        assert_eq!(tasks(&ledger.choose(1, nobody)), [1]);
    }

    #[test]
    fn of_equal_ones_the_coldest_leave_down_to_three_quarters() {
        let mut ledger = ledger(80, &[10; 8]);
        ledger.on_used(TaskId(0));
        assert_eq!(tasks(&ledger.choose(0, nobody)), [1, 2]);
        assert_eq!(ledger.choose(0, nobody), []);
    }

    #[test]
    fn the_largest_of_the_cold_ones_leaves_first() {
        let mut sizes = vec![1; COLDEST - 1];
        sizes.extend([50, 40]);
        let mut ledger = ledger(100, &sizes);
        assert_eq!(tasks(&ledger.choose(0, nobody)), [COLDEST as u32 - 1]);
    }

    #[test]
    fn what_somebody_holds_stays() {
        let mut ledger = ledger(40, &[20, 20]);
        assert_eq!(tasks(&ledger.choose(0, |task| task == TaskId(0))), [1]);
        assert_eq!(ledger.choose(30, |task| task == TaskId(0)), []);
    }

    #[test]
    fn bytes_are_in_memory_until_they_have_left() {
        let mut ledger = ledger(40, &[20, 20, 20]);
        let chosen = ledger.choose(0, nobody);
        assert_eq!((ledger.here_bytes(), ledger.room(0)), (60, Room::Closed));
        assert!(chosen.iter().all(|&leaving| ledger.on_left(leaving)));
        assert_eq!((ledger.here_bytes(), ledger.room(0)), (20, Room::Ample));
        ledger.on_read(TaskId(0));
        assert_eq!((ledger.here_bytes(), ledger.room(0)), (40, Room::Short));
        (0..3).for_each(|task| ledger.forget(TaskId(task)));
        assert_eq!((ledger.here_bytes(), ledger.room(0)), (0, Room::Ample));
    }

    #[test]
    fn what_was_forgotten_on_its_way_out_is_not_taken_for_its_successor() {
        let mut ledger = ledger(10, &[20]);
        let chosen = ledger.choose(0, nobody);
        ledger.enter(TaskId(0), 5);
        assert!(!ledger.on_left(chosen[0]));
        assert_eq!((ledger.here_bytes(), ledger.room(0)), (5, Room::Ample));
    }

    #[test]
    fn a_full_disk_lets_nothing_new_out_until_something_is_released() {
        let mut ledger = ledger(100, &[40, 40, 40]);
        let chosen = ledger.choose(0, nobody);
        assert_eq!(tasks(&chosen), [0, 1]);
        assert!(ledger.on_left(chosen[0]));
        ledger.on_stayed(chosen[1], true);
        assert_eq!(ledger.room(0), Room::Short);
        assert_eq!((ledger.room(30), ledger.choose(30, nobody)), (Room::Full, vec![]));
        assert_eq!(ledger.room(80), Room::Closed);
        ledger.forget(TaskId(0));
        assert_eq!((ledger.room(70), ledger.choose(70, nobody)), (Room::Full, vec![]), "it is still read");
        ledger.on_disk_freed();
        assert_eq!(tasks(&ledger.choose(30, nobody)), [1]);
    }

    #[test]
    fn what_is_smaller_than_what_the_disk_refused_may_fit() {
        let mut ledger = ledger(100, &[80, 30, 30]);
        let chosen = ledger.choose(0, nobody);
        assert_eq!(tasks(&chosen), [0]);
        ledger.on_stayed(chosen[0], true);
        let chosen = ledger.choose(0, nobody);
        assert_eq!(tasks(&chosen), [1, 2]);
        assert!(ledger.on_left(chosen[0]));
        ledger.on_stayed(chosen[1], true);
        assert_eq!((ledger.choose(0, nobody), ledger.room(0)), (vec![], Room::Full));
    }

    #[test]
    fn what_has_a_copy_on_the_disk_leaves_even_if_that_is_full() {
        let mut ledger = ledger(100, &[60, 60]);
        let chosen = ledger.choose(0, nobody);
        assert!(ledger.on_left(chosen[0]));
        ledger.on_read(chosen[0].task);
        let other = ledger.choose(0, |task| task == chosen[0].task);
        ledger.on_stayed(other[0], true);
        assert_eq!(tasks(&ledger.choose(0, nobody)), [chosen[0].task.0]);
    }
}
