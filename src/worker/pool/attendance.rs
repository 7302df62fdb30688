//! Which slot without work waits for news on behalf of the rank: one at a time.
//!
//! It looks for news for a moment and then rests where other ranks ring, so that whoever waits for something
//! from elsewhere is woken by it and by no third thread.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, fence};

/// Who waits for news.
#[derive(Debug, Default)]
pub struct Attendance {
    state: AtomicU8,
    /// Pieces of work brought since somebody looks.
    brought: AtomicU32,
}

const NOBODY: u8 = 0;
const LOOKING: u8 = 1;
const RESTING: u8 = 2;

impl Attendance {
    /// The caller waits for news from now on, if no other slot does.
    pub fn begin(&self) -> bool {
        self.state.compare_exchange(NOBODY, LOOKING, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// It does so no longer.
    pub fn end(&self) {
        self.become_as(NOBODY);
    }

    /// It is about to rest, and looks again afterwards: work that is brought meanwhile wakes it.
    pub fn rest<T>(&self, rest: impl FnOnce() -> T) -> T {
        self.become_as(RESTING);
        let rested = rest();
        self.become_as(LOOKING);
        rested
    }

    /// True while somebody waits for news.
    pub fn is_any(&self) -> bool {
        self.state.load(Ordering::Relaxed) != NOBODY
    }

    /// True while it rests.
    pub fn is_resting(&self) -> bool {
        self.state.load(Ordering::Relaxed) == RESTING
    }

    /// Work was brought, and can be seen. True if somebody is looking who takes it: the first piece since
    /// it does.
    pub fn takes(&self) -> bool {
        // Either this sees that it looks no more, or it sees the work when it has stopped to look.
        fence(Ordering::SeqCst);
        self.state.load(Ordering::Relaxed) == LOOKING && self.brought.fetch_add(1, Ordering::Relaxed) == 0
    }

    fn become_as(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
        self.brought.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_takes_the_first_piece_and_who_rests_none() {
        let attendance = Attendance::default();
        assert!(!attendance.takes());
        assert!(attendance.begin() && !attendance.begin());
        assert!(attendance.takes() && !attendance.takes());
        attendance.rest(|| assert!(attendance.is_resting() && !attendance.takes()));
        assert!(attendance.is_any() && attendance.takes());
        attendance.end();
        assert!(!attendance.is_any());
    }
}
