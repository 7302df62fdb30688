//! Workers besides the owner that were told to fetch an output, and may hold it.
//!
//! When an owner turns out not to have an output, a copy takes its place, on trust: nobody knows whether it
//! arrived. Who is told to fetch it from there has it on hearsay, and is never turned to: otherwise rumours of
//! copies could go around for ever, each worker named because of another that was named before it.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Outputs whose owner is trusted, and the workers besides that may hold them on hearsay.
    hearsay: BTreeMap<TaskId, BTreeSet<Rank>>,
}

impl Copies {
    /// None of so many tasks.
    pub fn new(tasks: usize) -> Self {
        Copies { latest: Column::new(tasks), places: Vec::new(), free: 0, hearsay: BTreeMap::new() }
    }

    /// A worker may hold the output of a task from now on.
    pub fn add(&mut self, task: TaskId, worker: Rank) {
        if self.of(task).any(|other| other == worker) {
            return;
        }
        match self.hearsay.get_mut(&task) {
            Some(told) => drop(told.insert(worker)),
            None => self.push(task, worker),
        }
    }

    fn push(&mut self, task: TaskId, worker: Rank) {
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

    /// Who was told to fetch the output of a task from a known owner, the latest first.
    pub fn of(&self, task: TaskId) -> impl Iterator<Item = Rank> + '_ {
        let mut place = self.latest.get(task);
        std::iter::from_fn(move || {
            let (worker, before) = self.places[place.checked_sub(1)? as usize];
            place = before;
            Some(worker)
        })
    }

    /// Takes the latest copy of an output away, to be its owner on trust.
    pub fn turn_to(&mut self, task: TaskId) -> Option<Rank> {
        let worker = self.take(task)?;
        self.hearsay.entry(task).or_default().remove(&worker);
        Some(worker)
    }

    /// Takes any copy of an output away. After the last one nothing of it is hearsay any more.
    pub fn pop(&mut self, task: TaskId) -> Option<Rank> {
        self.take(task).or_else(|| match self.hearsay.get_mut(&task)?.pop_last() {
            None => {
                self.hearsay.remove(&task);
                None
            }
            worker => worker,
        })
    }

    fn take(&mut self, task: TaskId) -> Option<Rank> {
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
        if let Some(told) = self.hearsay.get_mut(&task) {
            told.remove(&worker);
        }
        let held: Vec<Rank> = self.of(task).collect();
        if held.contains(&worker) {
            while self.take(task).is_some() {}
            held.into_iter().rev().filter(|other| *other != worker).for_each(|other| self.push(task, other));
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

    #[test]
    fn whoever_was_told_by_hearsay_is_reached_and_never_turned_to() {
        let mut copies = Copies::new(1);
        let task = TaskId(0);
        [1, 2].into_iter().for_each(|worker| copies.add(task, Rank(worker)));
        assert_eq!(copies.turn_to(task), Some(Rank(2)));
        [3, 1, 2].into_iter().for_each(|worker| copies.add(task, Rank(worker)));
        assert_eq!((copies.turn_to(task), copies.turn_to(task)), (Some(Rank(1)), None));
        assert_eq!([0; 3].map(|_| copies.pop(task)), [Some(Rank(3)), Some(Rank(2)), None]);
        copies.add(task, Rank(4));
        assert_eq!(copies.turn_to(task), Some(Rank(4)));
    }
}
