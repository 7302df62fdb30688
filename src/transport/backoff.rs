//! How an idle rank lets time pass: attentive just after traffic, nearly free when nothing comes.
//!
//! Every blocking call of every MPI library keeps a core busy while it waits, so an idle rank
//! asks, and sleeps between asking. Only traffic makes it attentive again: a wake-up by the own
//! program does not, or a program that wakes often would never let the core go.

use std::time::Duration;

use super::endpoint::Rest;
use crate::core::time::{Micros, Timestamp};

/// The pace at which one endpoint asks for news.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    pace: Pace,
    last_traffic: Timestamp,
    pause: Duration,
    turns: u32,
    /// True if it was asked again since the last sleep.
    asked_again: bool,
}

/// The limits of a pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// How long to keep asking without a pause after a message.
    pub(super) spin: Micros,
    /// The same while transfers are under way, which advance only while somebody asks.
    pub(super) spin_in_transfer: Micros,
    /// How often to ask while spinning before others are let to the core.
    pub(super) turns_per_yield: u32,
    /// The first pause.
    pub(super) pause_min: Duration,
    /// The longest pause at first.
    pub(super) pause_max: Duration,
    /// The longest pause after a long time without traffic.
    pub(super) pause_max_idle: Duration,
}

/// The part of the time without traffic that a pause may take beyond its first limit: what comes
/// after a second of silence may be noticed 1 / 64 s late, if the last limit allows so much.
/// Waking up costs 13 to 20 us. Seven ranks that woke every 0.2 to 1 ms for ever took 15 % of a core.
const IDLE_SHARE: u32 = 64;

/// The longest pause while large parcels are under way.
const IN_TRANSFER_MAX: Duration = Duration::from_micros(200);

/// The first pause, if nobody can end it who sends something.
#[cfg(any(feature = "mpi", test))]
const PAUSE_MIN: Duration = Duration::from_micros(50);

#[cfg(any(feature = "mpi", test))]
impl Pace {
    /// The pace of the scheduler (`answers_all`) or of a worker, on a node with or without a core
    /// for each of its ranks.
    ///
    /// Without one, every turn lets others to the core, but the spin is longer: a message and its
    /// answer then take longer than 100 us, and a rank that sleeps in between finds itself asleep
    /// at every message (a chain over three ranks on two cores: 1.1 ms a link with 100 us, 0.1 with 200).
    pub(super) fn new(answers_all: bool, core_for_each: bool) -> Pace {
        let (spin, in_transfer, turns) = if core_for_each { (80, 5_000, 16) } else { (200, 200, 1) };
        let (pause_max, pause_max_idle) = if answers_all { (200, 2_000) } else { (1_000, 4_000) };
        Pace {
            spin: Micros(spin),
            spin_in_transfer: Micros(in_transfer),
            turns_per_yield: turns,
            pause_min: PAUSE_MIN,
            pause_max: Duration::from_micros(pause_max),
            pause_max_idle: Duration::from_micros(pause_max_idle),
        }
    }

    /// The same where whoever sends something ends the sleep of whom it is sent to. Nobody waits for the
    /// scheduler. A worker that is not at ease stays awake: two threads are woken before its next task runs,
    /// which takes longer than what it waits for.
    pub(super) fn rung(self, answers_all: bool) -> Pace {
        let spin = if answers_all { Micros(10) } else { self.spin };
        let (pause_min, pause_max) = (Duration::from_millis(1), Duration::from_millis(8));
        Pace { spin, pause_min, pause_max, pause_max_idle: pause_max, ..self }
    }
}

impl Backoff {
    pub(super) fn new(pace: Pace, now: Timestamp) -> Self {
        Backoff { pause: pace.pause_min, pace, last_traffic: now, turns: 0, asked_again: false }
    }

    /// Something was sent, came, or advanced.
    pub(super) fn on_traffic(&mut self, now: Timestamp) {
        self.last_traffic = now;
        self.pause = self.pace.pause_min;
        self.asked_again = false;
    }

    /// What to do now that asking brought nothing.
    pub(super) fn rest(&mut self, now: Timestamp, in_transfer: bool) -> Rest {
        self.rest_after(self.pace.spin, now, in_transfer)
    }

    /// The same for who is at ease: only transfers keep it awake.
    pub(super) fn rest_at_ease(&mut self, now: Timestamp, in_transfer: bool) -> Rest {
        self.rest_after(Micros::ZERO, now, in_transfer)
    }

    fn rest_after(&mut self, spin: Micros, now: Timestamp, in_transfer: bool) -> Rest {
        let spin = if in_transfer { self.pace.spin_in_transfer } else { spin };
        if now.since(self.last_traffic) < spin {
            self.turns = (self.turns + 1) % self.pace.turns_per_yield;
            return if self.turns == 0 { Rest::Yield } else { Rest::Again };
        }
        // Open MPI looks first and takes in what came afterwards: who asked only once after a sleep would
        // learn of it after the next one.
        self.asked_again = !self.asked_again;
        if self.asked_again {
            return Rest::Again;
        }
        let silence = Duration::from(now.since(self.last_traffic)) / IDLE_SHARE;
        let pause_max = silence.clamp(self.pace.pause_max, self.pace.pause_max_idle);
        let pause = self.pause;
        self.pause = (pause * 2).min(pause_max);
        // No ring tells how far a transfer is.
        Rest::Sleep(if in_transfer { pause.min(IN_TRANSFER_MAX) } else { pause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Timestamp {
        Timestamp(1_000_000 + micros)
    }

    /// How long it sleeps, having asked twice.
    fn pause(backoff: &mut Backoff, now: Timestamp) -> Duration {
        assert_eq!(backoff.rest(now, false), Rest::Again);
        match backoff.rest(now, false) {
            Rest::Sleep(pause) => pause,
            other => panic!("it does not sleep: {other:?}"),
        }
    }

    fn worker() -> Backoff {
        Backoff::new(Pace::new(false, true), at(0))
    }

    #[test]
    fn it_spins_after_traffic_and_then_sleeps_ever_longer() {
        let mut backoff = worker();
        let turns: Vec<_> = (0..32).map(|_| backoff.rest(at(79), false)).collect();
        assert_eq!((turns[0], turns[15], turns[31]), (Rest::Again, Rest::Yield, Rest::Yield));
        let pauses: Vec<_> = (0..7).map(|_| pause(&mut backoff, at(80))).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_000, 1_000].map(Duration::from_micros));
    }

    #[test]
    fn after_each_sleep_it_asks_twice() {
        let mut backoff = worker();
        for expected in [50, 100, 200] {
            assert_eq!(backoff.rest(at(80), false), Rest::Again);
            assert_eq!(backoff.rest(at(80), false), Rest::Sleep(Duration::from_micros(expected)));
        }
    }

    #[test]
    fn traffic_makes_it_attentive_again() {
        let mut backoff = worker();
        for _ in 0..9 {
            backoff.rest(at(500), false);
        }
        backoff.on_traffic(at(600));
        assert_eq!(backoff.rest(at(650), false), Rest::Again);
        assert_eq!(pause(&mut backoff, at(700)), PAUSE_MIN);
    }

    #[test]
    fn at_ease_it_sleeps_at_once() {
        let mut backoff = worker();
        assert_eq!(backoff.rest_at_ease(at(1), false), Rest::Again);
        assert_eq!(backoff.rest_at_ease(at(1), false), Rest::Sleep(PAUSE_MIN));
        assert_eq!(backoff.rest_at_ease(at(1), true), Rest::Again);
    }

    #[test]
    fn a_transfer_keeps_it_attentive_for_longer_but_not_for_ever() {
        let mut backoff = worker();
        assert_eq!(backoff.rest(at(1_000), true), Rest::Again);
        assert_eq!(backoff.rest(at(6_000), true), Rest::Again);
        assert_eq!(backoff.rest(at(6_000), true), Rest::Sleep(PAUSE_MIN));
    }

    #[test]
    fn whoever_is_woken_by_senders_sleeps_longer() {
        for (answers_all, spin) in [(false, 200), (true, 10)] {
            let mut backoff = Backoff::new(Pace::new(answers_all, false).rung(answers_all), at(0));
            assert_eq!(backoff.rest(at(spin - 1), false), Rest::Yield);
            let pauses: Vec<_> = (0..5).map(|_| pause(&mut backoff, at(spin))).collect();
            assert_eq!(pauses, [1, 2, 4, 8, 8].map(Duration::from_millis));
            assert_eq!(backoff.rest(at(9_000), true), Rest::Again);
            assert_eq!(backoff.rest(at(9_000), true), Rest::Sleep(IN_TRANSFER_MAX), "no ring tells of it");
        }
    }

    #[test]
    fn without_a_core_for_each_rank_every_turn_yields() {
        let mut backoff = Backoff::new(Pace::new(false, false), at(0));
        assert_eq!(backoff.rest(at(199), false), Rest::Yield);
        assert_eq!(pause(&mut backoff, at(200)), PAUSE_MIN);
    }

    #[test]
    fn the_scheduler_sleeps_longer_only_after_a_long_silence() {
        let mut backoff = Backoff::new(Pace::new(true, false), at(0));
        for (silence, expected) in [(9_000, 200), (64_000, 1_000), (9_000_000, 2_000)] {
            let last = (0..9).map(|_| pause(&mut backoff, at(silence))).last();
            assert_eq!(last, Some(Duration::from_micros(expected)));
        }
    }
}
