//! What the scheduler has not been told yet, and when it must be.
//!
//! Every message to it wakes it, and on a node without a core for each rank that takes a core from a task.
//! The limits are those of whoever looks; threads that sleep are not woken for them.

use std::time::Duration;

use crate::core::time::{Micros, Timestamp};
use crate::transport::endpoint::Rest;

/// What was handed in waits so long for more of it, if nothing follows.
const AFTER_SILENCE: Micros = Micros(200);
/// What was handed in waits no longer than this.
const AFTER: Micros = Micros::from_millis(1);
/// So many ends of light tasks do not wait.
const AT: u32 = 1024;
/// Ends that no task waits for wait no longer than this.
const IDLE_AFTER: Micros = Micros::from_millis(10);

/// Sleeps are not shortened to less.
const SLEEP_MIN: Duration = Duration::from_micros(50);

/// What the machine heard since its last turn.
#[derive(Debug, Default)]
pub struct Untold {
    /// When for the first and for the last time.
    heard: Option<(Timestamp, Timestamp)>,
    /// Ends of light tasks among it.
    light: u32,
    /// Ends of heavy tasks that no task waits for, and when the first of them came, or word of what is durable.
    idle: u32,
    idle_since: Option<Timestamp>,
}

impl Untold {
    /// Something that the scheduler may wait for.
    pub fn on_heard(&mut self, now: Timestamp) {
        self.heard = Some((self.heard.map_or(now, |(first, _)| first), now));
    }

    /// Some of it is ends of light tasks.
    pub fn on_light_ends(&mut self, count: u32) {
        self.light += count;
    }

    /// An end that no task waits for.
    pub fn on_idle_end(&mut self, now: Timestamp) {
        self.idle += 1;
        self.idle_since.get_or_insert(now);
    }

    /// Outputs are durable.
    pub fn on_durable(&mut self, now: Timestamp) {
        self.idle_since.get_or_insert(now);
    }

    /// Everything was told.
    pub fn forget(&mut self) {
        *self = Untold::default();
    }

    /// True if there is something that the scheduler may wait for.
    pub fn is_awaited(&self) -> bool {
        self.heard.is_some()
    }

    /// True if it has waited for long enough.
    pub fn is_due(&self, now: Timestamp) -> bool {
        let heard = |(first, last)| now.since(first) >= AFTER || now.since(last) >= AFTER_SILENCE;
        self.heard.is_some_and(heard) || self.idle_since.is_some_and(|since| now.since(since) >= IDLE_AFTER)
    }

    /// A sleep that ends in time for ends that no task waits for. Anything else is told before a sleep.
    pub fn shorten(&self, rest: Rest, now: Timestamp) -> Rest {
        match (rest, self.idle_since) {
            (Rest::Sleep(limit), Some(since)) => {
                let left = IDLE_AFTER - now.since(since);
                Rest::Sleep(limit.min(Duration::from(left).max(SLEEP_MIN)))
            }
            (rest, _) => rest,
        }
    }

    /// True if it is so much that the worker, with so many tasks left, might run out of them: the scheduler
    /// gives more while half of them are still to do.
    pub fn is_much(&self, light_left: u32, heavy_left: usize) -> bool {
        let is_light = self.light > 0 || self.heard.is_some();
        (is_light && self.light >= light_left.min(AT)) || (self.idle > 0 && self.idle as usize >= heavy_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp(1_000_000 + micros)
    }

    #[test]
    fn what_is_heard_waits_for_more_but_not_for_long() {
        let mut untold = Untold::default();
        assert!(!untold.is_due(at(9_000_000)) && !untold.is_awaited());
        for micros in [0, 150, 300, 450, 600, 750, 900] {
            untold.on_heard(at(micros));
            assert!(!untold.is_due(at(micros + 90)));
        }
        assert!(untold.is_due(at(1_000)));
        untold.forget();
        untold.on_heard(at(0));
        assert!(!untold.is_due(at(199)) && untold.is_due(at(200)));
    }

    #[test]
    fn ends_that_nobody_waits_for_wait_longer() {
        let mut untold = Untold::default();
        untold.on_idle_end(at(0));
        untold.on_idle_end(at(9_000));
        assert!(!untold.is_awaited() && !untold.is_due(at(9_999)) && untold.is_due(at(10_000)));
        let long = Rest::Sleep(Duration::from_secs(1));
        assert_eq!(untold.shorten(long, at(4_000)), Rest::Sleep(Duration::from_millis(6)));
        assert_eq!(untold.shorten(Rest::Yield, at(4_000)), Rest::Yield);
        assert_eq!(Untold::default().shorten(long, at(4_000)), long);
    }

    #[test]
    fn half_of_the_work_is_much() {
        let mut untold = Untold::default();
        assert!(!untold.is_much(0, 0));
        untold.on_heard(at(0));
        untold.on_light_ends(10);
        assert!(!untold.is_much(11, 0) && untold.is_much(10, 0));
        untold.on_light_ends(AT);
        assert!(untold.is_much(1_000_000, 0));
        untold.forget();
        untold.on_idle_end(at(0));
        untold.on_idle_end(at(0));
        assert!(!untold.is_much(0, 3) && untold.is_much(0, 2));
    }
}
