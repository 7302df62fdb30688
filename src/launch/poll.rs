//! When to ask a batch system again: rarely, more rarely, and not for ever in vain.
//!
//! Pure: time is an argument, and nothing here asks anything. Every question costs the whole site
//! something, so a job that does not change is asked about less and less often.

use crate::core::time::{Micros, Timestamp};

use super::batch::BatchError;

/// The shortest time between two questions.
pub const PAUSE_MIN: Micros = Micros::from_secs(2);
/// The longest.
pub const PAUSE_MAX: Micros = Micros::from_secs(60);
/// How many answers in a row may fail to come before nobody hopes any more.
pub const FAILURES_MAX: u32 = 10;

/// When to ask a batch system again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poller {
    next: Timestamp,
    pause: Micros,
    failures: u32,
}

/// What follows from a failed question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again when it is time.
    Later,
    /// This will not get better: tell the error.
    GiveUp,
}

impl Poller {
    /// Asks at once, and then as the answers say.
    pub fn new(now: Timestamp) -> Poller {
        Poller { next: now, pause: PAUSE_MIN, failures: 0 }
    }

    /// The moment of the next question.
    pub fn next(&self) -> Timestamp {
        self.next
    }

    /// True if it is time to ask.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next
    }

    /// An answer came. After one that brought something new more may follow soon; otherwise each pause
    /// is twice the one before.
    pub fn on_answer(&mut self, now: Timestamp, is_new: bool) {
        self.failures = 0;
        if is_new {
            self.pause = PAUSE_MIN;
        }
        self.schedule(now);
    }

    /// No answer came.
    pub fn on_failure(&mut self, now: Timestamp, error: &BatchError) -> Verdict {
        self.failures += 1;
        self.schedule(now);
        let is_hopeless = !error.is_transient() || self.failures >= FAILURES_MAX;
        if is_hopeless { Verdict::GiveUp } else { Verdict::Later }
    }

    fn schedule(&mut self, now: Timestamp) {
        self.next = now + self.pause;
        self.pause = (self.pause + self.pause).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::batch::System;

    fn unreachable() -> BatchError {
        let words = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)".to_owned();
        BatchError::Unreachable { system: System::Slurm, command: "squeue".into(), words }
    }

    /// Asks as often as it may for `length`, and returns the pauses in seconds.
    fn pauses(poller: &mut Poller, length: Micros, mut is_new: impl FnMut(usize) -> bool) -> Vec<u64> {
        let begin = poller.next();
        let mut pauses = Vec::new();
        while poller.next().since(begin) < length {
            let now = poller.next();
            poller.on_answer(now, is_new(pauses.len()));
            pauses.push(poller.next().since(now).0 / 1_000_000);
        }
        pauses
    }

    #[test]
    fn a_job_that_does_not_change_is_asked_about_less_and_less() {
        let mut poller = Poller::new(Timestamp(5));
        assert!(poller.is_due(Timestamp(5)));
        assert_eq!(pauses(&mut poller, Micros::from_secs(200), |_| false), [2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!poller.is_due(Timestamp(5)));
    }

    #[test]
    fn a_change_makes_it_ask_sooner_but_never_faster_than_every_two_seconds() {
        let found = pauses(&mut Poller::new(Timestamp(0)), Micros::from_secs(60), |count| count == 4);
        assert_eq!(found, [2, 4, 8, 16, 2, 4, 8, 16]);
        assert!(
            pauses(&mut Poller::new(Timestamp(0)), Micros::from_secs(20), |_| true).iter().all(|s| *s == 2)
        );
    }

    #[test]
    fn a_hiccup_is_waited_out_and_silence_is_not() {
        let mut poller = Poller::new(Timestamp(0));
        for _ in 1..FAILURES_MAX {
            assert_eq!(poller.on_failure(poller.next(), &unreachable()), Verdict::Later);
        }
        poller.on_answer(poller.next(), false);
        for _ in 1..FAILURES_MAX {
            assert_eq!(poller.on_failure(poller.next(), &unreachable()), Verdict::Later);
        }
        assert_eq!(poller.on_failure(poller.next(), &unreachable()), Verdict::GiveUp);
    }

    #[test]
    fn a_refusal_is_told_at_once() {
        let missing =
            BatchError::NoCommand { system: System::Pbs, command: "qstat".into(), why: String::new() };
        assert_eq!(Poller::new(Timestamp(0)).on_failure(Timestamp(0), &missing), Verdict::GiveUp);
    }
}
