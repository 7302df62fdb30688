//! Rows as a rule: what the elements of an array take of the tasks elsewhere, and the way back.

use std::ops::Range;

use crate::core::id::TaskId;

/// What each of many tasks in a row takes: the n-th of them takes `first + advance * n + step * m`
/// for every `m` below `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progression {
    /// The first input of the first task.
    pub first: TaskId,
    /// How far a task's inputs lie behind those of the task before it. Zero: all have the same.
    pub advance: i32,
    /// Inputs of each task; at least one.
    pub count: u32,
    /// The distance between two inputs of one task.
    pub step: i32,
}

/// Tasks at equal distances.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Strided {
    pub next: i64,
    pub step: i64,
    pub left: u32,
}

impl Progression {
    /// Numbers that a progression takes in a column.
    pub(super) const WORDS: usize = 4;

    /// The same tasks for everybody: `count` of them, side by side.
    pub const fn all(first: TaskId, count: u32) -> Self {
        Progression { first, advance: 0, count, step: 1 }
    }

    /// One task for each: `first` for the first, the next for the second, and so on.
    pub const fn one_each(first: TaskId) -> Self {
        Progression { first, advance: 1, count: 1, step: 1 }
    }

    pub(super) fn from_words(words: &[u32; Self::WORDS]) -> Self {
        let [first, advance, count, step] = *words;
        Progression { first: TaskId(first), advance: advance as i32, count, step: step as i32 }
    }

    pub(super) const fn to_words(self) -> [u32; Self::WORDS] {
        [self.first.0, self.advance as u32, self.count, self.step as u32]
    }

    /// What the n-th task takes.
    pub(super) fn inputs(self, element: u32) -> Strided {
        let next = i64::from(self.first.0) + i64::from(self.advance) * i64::from(element);
        Strided { next, step: i64::from(self.step), left: self.count }
    }

    /// The least and the greatest number that any of `elements` tasks takes.
    pub(super) fn reach(self, elements: u32) -> (i64, i64) {
        let along = i64::from(self.advance) * i64::from(elements.saturating_sub(1));
        let across = i64::from(self.step) * i64::from(self.count.saturating_sub(1));
        let first = i64::from(self.first.0);
        (first + along.min(0) + across.min(0), first + along.max(0) + across.max(0))
    }

    /// The greatest distance by which an input lies behind its task, the first of which is `task`.
    /// Negative if all of them lie before it.
    pub(super) fn greatest_lead(self, task: u32, elements: u32) -> i64 {
        let first = i64::from(self.first.0) - i64::from(task);
        let along = (i64::from(self.advance) - 1) * i64::from(elements.saturating_sub(1));
        let across = i64::from(self.step) * i64::from(self.count.saturating_sub(1));
        first + along.max(0) + across.max(0)
    }

    /// True if the tasks that take one input always lie side by side.
    pub(super) const fn is_invertible(self) -> bool {
        self.count == 1 || (self.step != 0 && self.advance.wrapping_rem(self.step) == 0)
    }

    /// True if what all of `elements` tasks take lies side by side without a gap.
    pub(super) fn is_gapless(self, elements: u32) -> bool {
        let width = if self.count == 1 || self.step.unsigned_abs() == 1 { u64::from(self.count) } else { 0 };
        width > 0 && (elements <= 1 || u64::from(self.advance.unsigned_abs()) <= width)
    }
}

impl Strided {
    /// True if the task is one of them.
    pub fn contains(self, task: TaskId) -> bool {
        let distance = i64::from(task.0) - self.next;
        let place = match self.step {
            0 if distance == 0 => 0,
            0 => return false,
            1 => distance,
            step if distance % step == 0 => distance / step,
            _ => return false,
        };
        (0..i64::from(self.left)).contains(&place)
    }

    /// The least and the greatest.
    pub fn ends(self) -> (i64, i64) {
        let last = self.next + self.step * (i64::from(self.left) - 1);
        (self.next.min(last), self.next.max(last))
    }
}

impl Iterator for Strided {
    type Item = TaskId;

    fn next(&mut self) -> Option<TaskId> {
        self.left = self.left.checked_sub(1)?;
        let task = TaskId(self.next as u32);
        self.next += self.step;
        Some(task)
    }
}

/// A progression turned around: which of the tasks that have it take a given one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inverse {
    /// Its step is positive.
    taken: Progression,
    /// The tasks that take.
    takers: [u32; 2],
}

impl Inverse {
    /// Numbers that it takes in a column.
    pub const WORDS: usize = Progression::WORDS + 2;

    /// What `count` tasks from `first` on take, turned around. The progression is invertible.
    pub fn new(taken: Progression, first: u32, count: u32) -> Self {
        let across = i64::from(taken.step) * i64::from(taken.count - 1);
        let taken = match (taken.count, taken.step < 0) {
            (1, _) => Progression { step: 1, ..taken },
            (_, false) => taken,
            (_, true) => Progression {
                first: TaskId((i64::from(taken.first.0) + across) as u32),
                step: -taken.step,
                ..taken
            },
        };
        Inverse { taken, takers: [first, count] }
    }

    pub fn from_words(words: &[u32; Self::WORDS]) -> Self {
        let [first, advance, count, step, takers @ ..] = *words;
        Inverse { taken: Progression::from_words(&[first, advance, count, step]), takers }
    }

    pub const fn to_words(self) -> [u32; Self::WORDS] {
        let [first, advance, count, step] = self.taken.to_words();
        [first, advance, count, step, self.takers[0], self.takers[1]]
    }

    /// The tasks that take this one.
    pub fn takers(self, task: TaskId) -> Range<u32> {
        let [first, count] = self.takers;
        let places = self.places(task);
        let start = places.0.max(0);
        let end = (places.1 + 1).min(i64::from(count));
        if start >= end {
            return 0..0;
        }
        (i64::from(first) + start) as u32..(i64::from(first) + end) as u32
    }

    /// The n-th task that takes this one by any of several rules.
    pub fn nth_taker(rules: &[[u32; Self::WORDS]], task: TaskId, mut place: usize) -> Option<TaskId> {
        for words in rules {
            let takers = Self::from_words(words).takers(task);
            if place < takers.len() {
                return Some(TaskId(takers.start + place as u32));
            }
            place -= takers.len();
        }
        None
    }

    /// The first and the last of the places, in a row without ends, where the task is taken.
    fn places(self, task: TaskId) -> (i64, i64) {
        const NONE: (i64, i64) = (0, -1);
        let Progression { first, advance, count, step } = self.taken;
        let (advance, count, step) = (i64::from(advance), i64::from(count), i64::from(step));
        let mut distance = i64::from(task.0) - i64::from(first.0);
        let mut advance = advance;
        if step > 1 {
            if distance % step != 0 {
                return NONE;
            }
            (distance, advance) = (distance / step, advance / step);
        }
        // Of the place `n` is asked: `distance - (count - 1) <= advance * n <= distance`.
        let (least, greatest) = (distance - (count - 1), distance);
        match advance {
            0 if least <= 0 && greatest >= 0 => (0, i64::MAX - 1),
            0 => NONE,
            1 => (least, greatest),
            _ if advance > 0 => (ceiling(least, advance), greatest.div_euclid(advance)),
            _ => (ceiling(-greatest, -advance), (-least).div_euclid(-advance)),
        }
    }

    /// True if every task of a range is taken by somebody. May be false although it is so.
    pub fn takes_all(self, tasks: Range<u32>) -> bool {
        let (least, greatest) = self.taken.reach(self.takers[1]);
        let covers = least <= i64::from(tasks.start) && i64::from(tasks.end) <= greatest + 1;
        covers && self.taken.is_gapless(self.takers[1])
    }

    /// The first of the tasks that take.
    pub const fn first_taker(self) -> TaskId {
        TaskId(self.takers[0])
    }
}

fn ceiling(number: i64, divisor: i64) -> i64 {
    -((-number).div_euclid(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_inverse_names_exactly_those_that_take_a_task(
            first in 40..60_u32, advance in -4..5_i32, count in 1..5_u32, step in -3..4_i32, elements in 1..7_u32
        ) {
            let taken = Progression { first: TaskId(first), advance, count, step };
            prop_assume!(taken.is_invertible() && (count == 1 || step != 0));
            let inverse = Inverse::new(taken, 1000, elements);
            prop_assert_eq!(Inverse::from_words(&inverse.to_words()), inverse);
            let takes = |task: u32, element: u32| taken.inputs(element).any(|input| input.0 == task);
            for task in 0..120 {
                let expected: Vec<u32> =
                    (0..elements).filter(|&element| takes(task, element)).map(|element| 1000 + element).collect();
                prop_assert_eq!(inverse.takers(TaskId(task)).collect::<Vec<_>>(), expected);
                for element in 0..elements {
                    prop_assert_eq!(taken.inputs(element).contains(TaskId(task)), takes(task, element));
                }
            }
            let all: Vec<u32> = (0..120).filter(|&task| (0..elements).any(|element| takes(task, element))).collect();
            let (least, greatest) = taken.reach(elements);
            prop_assert_eq!((least, greatest), (all[0].into(), all[all.len() - 1].into()));
            prop_assert!(!taken.is_gapless(elements) || all.len() as i64 == greatest - least + 1);
            for start in 35..70 {
                let is_whole = (start..start + 4).all(|task| all.contains(&task));
                prop_assert!(!inverse.takes_all(start..start + 4) || is_whole);
            }
            let lead = (0..elements).flat_map(|element| {
                taken.inputs(element).map(move |input| i64::from(input.0) - i64::from(50 + element))
            });
            prop_assert_eq!(lead.max(), Some(taken.greatest_lead(50, elements)));
        }
    }
}
