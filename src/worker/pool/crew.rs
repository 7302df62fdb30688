//! Which slots work, and which sleep.
//!
//! A slot works only with a permit, so that not more than the limit are at work at any moment. Whoever
//! has nothing to do sleeps, and whoever brings work wakes one. No wake-up is lost: a sleeper is on the list
//! before it looks for work for the last time, and work is to be seen before its bringer looks at the list.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::thread::Thread;

/// The slots of a pool.
#[derive(Debug)]
pub struct Crew {
    /// The limit in the upper half, how many work in the lower: both change in one step.
    permits: AtomicU64,
    /// True from a change of the limit until it was seen that it is kept.
    is_changed: AtomicBool,
    /// The one that is woken last comes first.
    asleep: Mutex<Vec<usize>>,
    asleep_count: AtomicUsize,
    threads: Box<[OnceLock<Thread>]>,
    /// The slot that rests where `rouse` reaches it.
    resting: AtomicUsize,
    rouse: OnceLock<Rouse>,
}

/// Ends the rest of a slot.
struct Rouse(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for Rouse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Rouse")
    }
}

const NONE: usize = usize::MAX;

const WORKING: u64 = 0xffff_ffff;

impl Crew {
    /// So many slots, none of which may work yet.
    pub fn new(slots: usize) -> Self {
        Crew {
            permits: AtomicU64::new(0),
            is_changed: AtomicBool::new(false),
            asleep: Mutex::default(),
            asleep_count: AtomicUsize::new(0),
            threads: (0..slots).map(|_| OnceLock::new()).collect(),
            resting: AtomicUsize::new(NONE),
            rouse: OnceLock::new(),
        }
    }

    /// What ends the rest of a slot.
    pub fn on_rouse(&self, rouse: Box<dyn Fn() + Send + Sync>) {
        let told = self.rouse.set(Rouse(rouse));
        told.unwrap_or_else(|_| panic!("slots rest in one place"));
    }

    /// Makes a slot known that this thread is.
    pub fn join(&self, slot: usize) {
        let _ = self.threads[slot].set(std::thread::current());
    }

    /// How many may work from now on. Those above it stop after their present task.
    pub fn set_limit(&self, slots: u32) {
        let set = |permits: u64| Some((permits & WORKING) | (u64::from(slots) << 32));
        // First: a slot that stops after the limit is set sees it, and whoever sets it sees those before.
        self.is_changed.store(true, Ordering::SeqCst);
        let _ = self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, set);
    }

    /// How many work.
    pub fn working(&self) -> u32 {
        (self.permits.load(Ordering::SeqCst) & WORKING) as u32
    }

    /// Begins to work, if one more may.
    pub fn begin(&self) -> bool {
        let begin = |permits: u64| (permits & WORKING < permits >> 32).then(|| permits + 1);
        self.permits.fetch_update(Ordering::SeqCst, Ordering::SeqCst, begin).is_ok()
    }

    /// Ends working.
    pub fn end(&self) {
        self.permits.fetch_sub(1, Ordering::SeqCst);
    }

    /// True if one more may work.
    pub fn has_room(&self) -> bool {
        let permits = self.permits.load(Ordering::SeqCst);
        permits & WORKING < permits >> 32
    }

    /// True, once after each change of the limit, as soon as no more work than may.
    pub fn keeps_to_new_limit(&self) -> bool {
        self.is_changed.load(Ordering::SeqCst)
            && !self.is_crowded()
            && self.is_changed.swap(false, Ordering::SeqCst)
    }

    /// True if more work than may.
    pub fn is_crowded(&self) -> bool {
        let permits = self.permits.load(Ordering::Relaxed);
        permits & WORKING > permits >> 32
    }

    /// Sleeps until somebody wakes this slot, or not at all if `is_wanted` says so. May return early.
    pub fn sleep(&self, slot: usize, is_wanted: impl FnOnce() -> bool) {
        self.list(|asleep| asleep.push(slot));
        fence(Ordering::SeqCst);
        if !is_wanted() {
            std::thread::park();
        }
        self.list(|asleep| asleep.retain(|other| *other != slot));
    }

    /// Rests in a place of its own until somebody rouses this slot, or not at all if `is_wanted` says so. One
    /// slot at a time does so; others are woken before it. False if it could not rest there yet.
    pub fn rest(&self, slot: usize, is_wanted: impl FnOnce() -> bool, rest: impl FnOnce() -> bool) -> bool {
        self.resting.store(slot, Ordering::SeqCst);
        self.list(|asleep| asleep.insert(0, slot));
        fence(Ordering::SeqCst);
        let could_rest = is_wanted() || rest();
        self.list(|asleep| asleep.retain(|other| *other != slot));
        self.resting.store(NONE, Ordering::SeqCst);
        could_rest
    }

    /// Work for so many was brought: wakes sleepers that may do it, if there are any. Cheap when nobody
    /// sleeps.
    pub fn wake(&self, count: usize) {
        if count == 0 {
            return;
        }
        fence(Ordering::SeqCst);
        for _ in 0..count {
            if self.asleep_count.load(Ordering::Relaxed) == 0 || !self.has_room() {
                return;
            }
            if let Some(slot) = self.list(Vec::pop) {
                self.wake_slot(slot);
            }
        }
    }

    /// Wakes all.
    pub fn wake_all(&self) {
        fence(Ordering::SeqCst);
        for slot in self.list(std::mem::take) {
            self.wake_slot(slot);
        }
    }

    /// A slot that was on the list. It may have woken by itself: then it looks for work, and the next sleep
    /// ends early.
    fn wake_slot(&self, slot: usize) {
        if self.resting.load(Ordering::SeqCst) == slot {
            self.rouse.get().into_iter().for_each(|Rouse(rouse)| rouse());
        } else if let Some(thread) = self.threads[slot].get() {
            thread.unpark();
        }
    }

    fn list<T>(&self, change: impl FnOnce(&mut Vec<usize>) -> T) -> T {
        let mut asleep: MutexGuard<'_, Vec<usize>> =
            self.asleep.lock().expect("no thread panics holding this lock");
        let result = change(&mut asleep);
        self.asleep_count.store(asleep.len(), Ordering::SeqCst);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_more_work_than_may() {
        let crew = Crew::new(3);
        assert!(!crew.begin());
        crew.set_limit(2);
        assert!(crew.begin() && crew.begin() && !crew.begin());
        crew.set_limit(1);
        assert!(crew.is_crowded() && crew.working() == 2);
        crew.end();
        assert!(!crew.is_crowded() && !crew.has_room());
    }

    /// Hands work over 5,000 times to a slot that sleeps by `sleep` until its argument is true.
    fn hand_over(crew: &Crew, sleep: impl Fn(&dyn Fn() -> bool) + Sync) {
        crew.set_limit(1);
        let (work, done) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                crew.join(0);
                while done.load(Ordering::SeqCst) < 5_000 {
                    if work.swap(false, Ordering::SeqCst) {
                        done.fetch_add(1, Ordering::SeqCst);
                    } else {
                        sleep(&|| work.load(Ordering::SeqCst));
                    }
                }
            });
            for number in 1..=5_000 {
                work.store(true, Ordering::SeqCst);
                crew.wake(1);
                while done.load(Ordering::SeqCst) < number {
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(done.into_inner(), 5_000);
    }

    #[test]
    fn no_wake_is_lost_between_two_threads() {
        let crew = Crew::new(1);
        hand_over(&crew, |is_wanted| crew.sleep(0, is_wanted));
    }

    #[test]
    fn no_rouse_is_lost_by_one_who_rests_elsewhere() {
        let crew = Crew::new(1);
        let (rouse, roused) = crossbeam_channel::unbounded();
        crew.on_rouse(Box::new(move || rouse.send(()).expect("it is received to the end")));
        hand_over(&crew, |is_wanted| {
            crew.rest(0, is_wanted, || roused.recv().is_ok());
        });
    }

    #[test]
    fn who_rests_elsewhere_is_woken_last() {
        let crew = Crew::new(2);
        crew.set_limit(2);
        let (rouse, roused) = crossbeam_channel::unbounded();
        crew.on_rouse(Box::new(move || rouse.send(()).expect("it is received to the end")));
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                crew.join(0);
                while crew.asleep_count.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
                crew.sleep(0, || false);
            });
            scope.spawn(|| crew.rest(1, || false, || roused.recv().is_ok()));
            while crew.asleep_count.load(Ordering::SeqCst) < 2 {
                std::thread::yield_now();
            }
            crew.wake(1);
            sleeper.join().expect("it is woken");
            crew.wake(1);
        });
    }
}
