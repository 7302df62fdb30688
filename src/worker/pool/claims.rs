//! Who has a task: the one word that decides between starting it and taking it back.
//!
//! One bit a task says that it is taken: started, ended, or taken back. A task that comes to this worker
//! for a second time has its bit set already, and entries of its first time may still lie in a deque.
//! Such tasks are rare: a locked table knows on which terms they run now, and whether they may.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::core::id::TaskId;
use crate::core::span::Span;
use crate::worker::growing::Growing;
use crate::worker::store::{Terms, Ticket};

/// Bits for all tasks of a graph.
#[derive(Debug)]
pub struct Bits {
    words: Growing<AtomicU64>,
}

/// Tasks whose bits are in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    word: u32,
    mask: u64,
}

/// Which tasks are taken.
#[derive(Debug)]
pub struct Claims {
    taken: Bits,
    /// Tasks that came more than once.
    again: Bits,
    returned: Mutex<HashMap<TaskId, Returned>>,
}

/// A task that came again.
#[derive(Clone, Copy, Debug)]
struct Returned {
    terms: Terms,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It may run once this wait is over.
    Waiting(Ticket),
    /// It may run.
    Ready,
    /// It is taken.
    Taken,
}

impl Bits {
    /// All unset.
    pub fn new(tasks: usize) -> Self {
        Bits { words: Growing::new(tasks.div_ceil(64)) }
    }

    /// Sets bits and returns those of them that were set before.
    pub fn set(&self, group: Group) -> u64 {
        self.words.get(group.word as usize).fetch_or(group.mask, Ordering::AcqRel) & group.mask
    }

    /// Unsets bits and returns those of them that were set before.
    pub fn unset(&self, group: Group) -> u64 {
        self.words.get(group.word as usize).fetch_and(!group.mask, Ordering::AcqRel) & group.mask
    }

    /// Those of the bits that are set.
    pub fn get(&self, group: Group) -> u64 {
        self.words.get(group.word as usize).load(Ordering::Acquire) & group.mask
    }
}

impl Group {
    /// A task alone.
    pub fn one(task: TaskId) -> Self {
        Group { word: task.0 / 64, mask: 1 << (task.0 % 64) }
    }

    /// As many tasks at the front of a span as are in one word, and how many they are.
    pub fn front_of(tasks: Span) -> (Self, u32) {
        let begin = tasks.first.0 % 64;
        let count = tasks.count.min(64 - begin);
        let ones = u64::MAX >> (64 - count);
        (Group { word: tasks.first.0 / 64, mask: ones << begin }, count)
    }

    /// Those of its tasks whose bits are in `mask`.
    pub fn among(self, mask: u64) -> Self {
        Group { mask: self.mask & mask, ..self }
    }

    /// True if there is no task.
    pub fn is_empty(self) -> bool {
        self.mask == 0
    }

    /// Its tasks in order.
    pub fn tasks(self) -> impl Iterator<Item = TaskId> {
        let mut mask = self.mask;
        std::iter::from_fn(move || {
            let bit = (mask != 0).then(|| mask.trailing_zeros())?;
            mask &= mask - 1;
            Some(TaskId(self.word * 64 + bit))
        })
    }

    /// Its tasks behind `task`, which is in the same word.
    pub fn behind(self, task: TaskId) -> Self {
        let passed = u64::MAX >> (63 - task.0 % 64);
        self.among(!passed)
    }
}

impl Claims {
    /// Nothing is taken.
    pub fn new(tasks: usize) -> Self {
        Claims { taken: Bits::new(tasks), again: Bits::new(tasks), returned: Mutex::default() }
    }

    /// True if none of these tasks was here before.
    pub fn are_new(&self, tasks: Span) -> bool {
        let mut rest = tasks;
        while rest.count > 0 {
            let (group, count) = Group::front_of(rest);
            if self.taken.get(group) != 0 {
                return false;
            }
            rest.take(count);
        }
        true
    }

    /// A task that was here before comes again, and may run at once or when its wait is over.
    pub fn enter_again(&self, task: TaskId, terms: Terms, wait: Option<Ticket>) {
        let stage = wait.map_or(Stage::Ready, Stage::Waiting);
        self.returned().insert(task, Returned { terms, stage });
        self.again.set(Group::one(task));
    }

    /// The wait of a task is over.
    pub fn on_ready(&self, ticket: Ticket) {
        if self.again.get(Group::one(ticket.task())) == 0 {
            return;
        }
        if let Some(task) = self.returned().get_mut(&ticket.task())
            && task.stage == Stage::Waiting(ticket)
        {
            task.stage = Stage::Ready;
        }
    }

    /// Takes tasks to run them. Returns those that are the caller's now, on the terms that it knows.
    pub fn take(&self, group: Group) -> Group {
        group.among(!self.taken.set(group))
    }

    /// Gives tasks back that the caller has taken and not begun.
    pub fn give_back(&self, group: Group) {
        self.taken.unset(group);
    }

    /// Those of these tasks that came more than once: `take` does not give them.
    pub fn came_again(&self, group: Group) -> Group {
        group.among(self.again.get(group))
    }

    /// Takes a task that came again, to run it. The terms are those of its last coming.
    pub fn take_again(&self, task: TaskId) -> Option<Terms> {
        let mut returned = self.returned();
        let task = returned.get_mut(&task)?;
        (task.stage == Stage::Ready).then(|| {
            task.stage = Stage::Taken;
            task.terms
        })
    }

    /// Takes a task back. False if it was taken before.
    pub fn revoke(&self, task: TaskId) -> bool {
        let one = Group::one(task);
        if self.taken.set(one) == 0 {
            return true;
        }
        if self.again.get(one) == 0 {
            return false;
        }
        let mut returned = self.returned();
        returned
            .get_mut(&task)
            .is_some_and(|task| std::mem::replace(&mut task.stage, Stage::Taken) != Stage::Taken)
    }

    fn returned(&self) -> MutexGuard<'_, HashMap<TaskId, Returned>> {
        self.returned.lock().expect("no thread panics holding this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::Attempt;

    fn terms(attempt: u32) -> Terms {
        Terms { attempt: Attempt(attempt), is_kept: false, is_persisted: false }
    }

    #[test]
    fn a_span_is_taken_word_by_word() {
        let mut span = Span { first: TaskId(60), count: 70 };
        let mut groups = Vec::new();
        while span.count > 0 {
            let (group, count) = Group::front_of(span);
            groups.push((group.tasks().next().map(|task| task.0), group.tasks().count(), count));
            span.take(count);
        }
        assert_eq!(groups, [(Some(60), 4, 4), (Some(64), 64, 64), (Some(128), 2, 2)]);
    }

    #[test]
    fn what_is_behind_a_task_is_the_rest() {
        let (group, _) = Group::front_of(Span { first: TaskId(64), count: 64 });
        let behind = |task| group.behind(TaskId(task)).tasks().count();
        assert_eq!([64, 65, 126, 127].map(behind), [63, 62, 1, 0]);
    }

    #[test]
    fn a_task_is_taken_once() {
        let claims = Claims::new(128);
        let (group, _) = Group::front_of(Span { first: TaskId(3), count: 5 });
        assert!(claims.revoke(TaskId(4)));
        let mine = claims.take(group);
        assert_eq!(mine.tasks().map(|task| task.0).collect::<Vec<_>>(), [3, 5, 6, 7]);
        assert!(claims.take(group).is_empty() && !claims.revoke(TaskId(4)));
        claims.give_back(mine.behind(TaskId(5)));
        assert!(claims.revoke(TaskId(6)) && !claims.revoke(TaskId(5)));
    }

    #[test]
    fn a_task_that_comes_again_runs_once_on_its_last_terms() {
        let claims = Claims::new(128);
        let one = Group::one(TaskId(9));
        assert!(claims.revoke(TaskId(9)) && !claims.are_new(Span::one(TaskId(9))));
        claims.enter_again(TaskId(9), terms(2), None);
        assert!(claims.revoke(TaskId(9)));
        claims.enter_again(TaskId(9), terms(3), None);
        // Two entries lie in deques: whoever comes first runs it.
        for expected in [Some(terms(3)), None] {
            assert!(claims.take(one).is_empty());
            let again: Vec<TaskId> = claims.came_again(one).tasks().collect();
            assert_eq!(again.first().and_then(|&task| claims.take_again(task)), expected);
        }
        assert!(!claims.revoke(TaskId(9)));
    }
}
