//! Workers besides the owner that were told to fetch an output, and may hold it.

use crate::core::column::Column;
use crate::core::id::{Rank, TaskId};

/// For each output a short list of workers. The lists lie in one array, whose free places are used again.
#[derive(Debug)]
pub struct Copies {
    /// The place of each output's latest copy, as place + 1; 0 if there is none.
    latest: Column<u32>,
    /// A worker, and the place of the copy before it, in the same way.
    places: Vec<(Rank, u32)>,
    /// The latest free place, in the same way.
    free: u32,
}

impl Copies {
    /// None of so many tasks.
    pub fn new(tasks: usize) -> Self {
        Copies { latest: Column::new(tasks), places: Vec::new(), free: 0 }
    }

    /// A worker may hold the output of a task from now on.
    pub fn add(&mut self, task: TaskId, worker: Rank) {
        if self.of(task).any(|other| other == worker) {
            return;
        }
        let copy = (worker, self.latest.get(task));
        let place = match self.free {
            0 => {
                self.places.push(copy);
                self.places.len() as u32
            }
            place => {
                self.free = std::mem::replace(&mut self.places[place as usize - 1], copy).1;
                place
            }
        };
        self.latest.set(task, place);
    }

    /// Who may hold the output of a task, the latest first.
    pub fn of(&self, task: TaskId) -> impl Iterator<Item = Rank> + '_ {
        let mut place = self.latest.get(task);
        std::iter::from_fn(move || {
            let (worker, before) = self.places[place.checked_sub(1)? as usize];
            place = before;
            Some(worker)
        })
    }

    /// Takes the latest copy of an output away.
    pub fn pop(&mut self, task: TaskId) -> Option<Rank> {
        let place = self.latest.get(task);
        let copy = &mut self.places[place.checked_sub(1)? as usize];
        let (worker, before) = std::mem::replace(copy, (Rank::SCHEDULER, self.free));
        self.free = place;
        self.latest.set(task, before);
        Some(worker)
    }

    /// A worker holds nothing any more. Looks at all tasks: workers are lost rarely.
    pub fn forget_worker(&mut self, worker: Rank) {
        (0..self.latest.count()).map(TaskId::from).for_each(|task| self.remove(task, worker));
    }

    /// A worker does not hold the output of a task after all.
    pub fn remove(&mut self, task: TaskId, worker: Rank) {
        let held: Vec<Rank> = self.of(task).collect();
        if held.contains(&worker) {
            while self.pop(task).is_some() {}
            held.into_iter().rev().filter(|other| *other != worker).for_each(|other| self.add(task, other));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(copies: &Copies, task: u32) -> Vec<u32> {
        copies.of(TaskId(task)).map(|rank| rank.0).collect()
    }

    #[test]
    fn every_copy_is_listed_once_and_its_place_is_used_again() {
        let mut copies = Copies::new(3);
        for (task, worker) in [(0, 1), (1, 2), (0, 3), (0, 1), (1, 1)] {
            copies.add(TaskId(task), Rank(worker));
        }
        assert_eq!((of(&copies, 0), of(&copies, 1), of(&copies, 2)), (vec![3, 1], vec![1, 2], vec![]));
        assert_eq!((copies.pop(TaskId(0)), copies.pop(TaskId(2))), (Some(Rank(3)), None));
        copies.add(TaskId(2), Rank(7));
        assert_eq!((of(&copies, 0), of(&copies, 2), copies.places.len()), (vec![1], vec![7], 4));
    }

    #[test]
    fn a_lost_worker_is_on_no_list() {
        let mut copies = Copies::new(2);
        for (task, worker) in [(0, 1), (0, 2), (0, 3), (1, 2)] {
            copies.add(TaskId(task), Rank(worker));
        }
        copies.forget_worker(Rank(2));
        assert_eq!((of(&copies, 0), of(&copies, 1)), (vec![3, 1], vec![]));
    }
}
