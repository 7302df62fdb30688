//! What a running function may ask, and how it is told to return.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use crate::clock::now;
use crate::core::event::Cause;
use crate::core::id::{Attempt, TaskId};
use crate::core::slot::Slot;
use crate::core::time::Timestamp;

/// A running function's view of its attempt.
pub struct Context<'a> {
    task: TaskId,
    attempt: Attempt,
    deadline: Option<Timestamp>,
    slot: Option<&'a Slot>,
    stops: &'a Stops,
}

impl<'a> Context<'a> {
    pub(super) fn new(task: TaskId, attempt: Attempt, deadline: Option<Timestamp>, stops: &'a Stops) -> Self {
        Context { task, attempt, deadline, slot: None, stops }
    }

    /// The same attempt with what it is bound to.
    pub(super) fn bound_to(self, slot: Option<&'a Slot>) -> Self {
        Context { slot, ..self }
    }

    /// The task.
    pub fn task(&self) -> TaskId {
        self.task
    }

    /// Which try this is.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The GPUs that the task holds, as they are called on the node.
    pub fn gpus(&self) -> &[String] {
        self.slot.map_or(&[], |slot| &slot.gpus)
    }

    /// Which instances of a named resource the task holds.
    pub fn instances(&self, resource: &str) -> &[u32] {
        self.slot.and_then(|slot| slot.custom.get(resource)).map_or(&[], Vec::as_slice)
    }

    /// True once the function should return; what it returns is then ignored. Cheap.
    pub fn is_stopped(&self) -> bool {
        self.check().is_err() || self.deadline.is_some_and(|deadline| now() >= deadline)
    }

    /// Waits for `time`, or less if the function should return.
    pub fn sleep(&self, time: Duration) {
        let wanted = now() + time.into();
        let until = self.deadline.map_or(wanted, |deadline| deadline.min(wanted));
        self.stops.wait(self.task, self.attempt, until);
    }

    /// Why the function should return, its timeout apart.
    pub(super) fn check(&self) -> Result<(), Cause> {
        self.stops.cause(self.task, self.attempt).map_or(Ok(()), Err)
    }
}

/// The attempts that were told to end. Empty nearly always, which one atomic number tells.
///
/// An attempt that had ended already when it was told stays in the table: attempts are numbered
/// and never come again, so that does no harm.
#[derive(Default)]
pub struct Stops {
    count: AtomicUsize,
    table: Mutex<Table>,
    changed: Condvar,
}

#[derive(Default)]
struct Table {
    causes: HashMap<(TaskId, Attempt), Cause>,
    all: bool,
}

impl Table {
    fn cause(&self, task: TaskId, attempt: Attempt) -> Option<Cause> {
        self.causes.get(&(task, attempt)).cloned().or(self.all.then_some(Cause::Stopped))
    }
}

impl Stops {
    /// Tells an attempt to end.
    pub fn stop(&self, task: TaskId, attempt: Attempt, cause: Cause) {
        if self.lock().causes.insert((task, attempt), cause).is_none() {
            self.count.fetch_add(1, Ordering::Release);
        }
        self.changed.notify_all();
    }

    /// Tells every attempt to end, those to come included.
    pub fn stop_all(&self) {
        self.lock().all = true;
        self.count.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Why an attempt should end, if it should.
    pub fn cause(&self, task: TaskId, attempt: Attempt) -> Option<Cause> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.lock().cause(task, attempt)
    }

    /// The attempt has ended.
    pub fn forget(&self, task: TaskId, attempt: Attempt) {
        if self.count.load(Ordering::Acquire) > 0 && self.lock().causes.remove(&(task, attempt)).is_some() {
            self.count.fetch_sub(1, Ordering::Release);
        }
    }

    fn wait(&self, task: TaskId, attempt: Attempt, until: Timestamp) {
        let mut table = self.lock();
        while table.cause(task, attempt).is_none() && now() < until {
            let rest = Duration::from(until.since(now()));
            let waited = self.changed.wait_timeout(table, rest);
            table = waited.expect("no thread panics holding this lock").0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no thread panics holding this lock")
    }
}
