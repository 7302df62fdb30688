//! How far the keeper leaves the ends of tasks to the slots.
//!
//! Slots hand in the ends of long tasks by themselves and wake the keeper for any other, so while tasks are long it
//! sleeps until something comes from elsewhere. Where they are short it looks from time to time instead: to wake
//! it for each of them costs more than that.

/// Long pauses without news after which slots are trusted,
const PAUSES_MIN: u32 = 2;
/// and where it was wrong again and again.
const PAUSES_MAX: u32 = 256;

/// The keeper's trust in the slots.
#[derive(Debug)]
pub struct Trust {
    /// Long pauses since a short task ended.
    pauses: u32,
    wanted: u32,
    is_shown: bool,
}

impl Trust {
    /// None yet.
    pub fn new() -> Self {
        Trust { pauses: 0, wanted: PAUSES_MIN, is_shown: false }
    }

    /// Whether slots are trusted from now on, which they are told.
    pub fn show(&mut self) -> bool {
        self.is_shown = self.pauses >= self.wanted;
        self.is_shown
    }

    /// Whether they were told so.
    pub fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// A long pause, without news.
    pub fn on_pause(&mut self) {
        self.pauses += 1;
    }

    /// A short task ended while slots were trusted. The next time it takes longer.
    pub fn on_short_task(&mut self) {
        *self = Trust { pauses: 0, wanted: (self.wanted * 2).min(PAUSES_MAX), is_shown: false };
    }

    /// They were trusted for a whole sleep, and it was right.
    pub fn on_kept(&mut self) {
        self.wanted = PAUSES_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses until slots are trusted, after which a short task ends.
    fn pauses(trust: &mut Trust) -> u32 {
        let mut pauses = 0;
        while !trust.show() {
            trust.on_pause();
            pauses += 1;
        }
        trust.on_short_task();
        assert!(!trust.is_shown());
        pauses
    }

    #[test]
    fn trust_takes_longer_each_time_it_was_wrong() {
        let mut trust = Trust::new();
        let taken: Vec<_> = (0..9).map(|_| pauses(&mut trust)).collect();
        assert_eq!(taken, [2, 4, 8, 16, 32, 64, 128, PAUSES_MAX, PAUSES_MAX]);
    }

    #[test]
    fn trust_comes_sooner_once_it_was_right() {
        let mut trust = Trust::new();
        (0..5).for_each(|_| assert!(pauses(&mut trust) > 0));
        while !trust.show() {
            trust.on_pause();
        }
        trust.on_kept();
        assert!(trust.show());
        assert_eq!((pauses(&mut trust), pauses(&mut trust)), (0, 2 * PAUSES_MIN));
    }
}
