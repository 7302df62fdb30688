//! When a run is asked to stop, and when its launcher is told to end and is ended.

use signal_hook::consts::{SIGINT, SIGUSR1, SIGUSR2};

use super::StopCause;
use crate::core::time::{Micros, Timestamp};

/// The time a run has to stop after a signal: batch systems kill 30 s after theirs, some after 10.
const PATIENCE: Micros = Micros::from_secs(20);
/// The time between the last signal and the end of the allocation, and between TERM and KILL.
const LAST_BREATH: Micros = Micros::from_secs(5);

/// What is to be done next. Each step comes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the run to stop.
    Drain,
    /// Tell the launcher to end.
    Terminate,
    /// End it.
    Kill,
}

/// When which step is due.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the allocation ends, and how long before that the run is asked to stop.
    ends: Option<(Timestamp, Micros)>,
    cause: Option<StopCause>,
    /// True if the run is to be asked to stop next.
    drains: bool,
    /// Until when the ranks must have begun, as long as they have not.
    starting: Option<Timestamp>,
    /// When TERM is due, and when KILL, if anything calls for them and they were not sent.
    terminate: Option<Timestamp>,
    kill: Option<Timestamp>,
    /// True once TERM was sent, or is of no use any more.
    is_told: bool,
    /// True once they are ended for that.
    pub(super) is_overdue: bool,
    is_over: bool,
    /// True if there is nothing to drain.
    is_short: bool,
}

impl Watch {
    pub(super) fn new(ends: Option<(Timestamp, Micros)>) -> Self {
        Watch {
            ends,
            cause: None,
            drains: false,
            starting: None,
            terminate: None,
            kill: None,
            is_told: false,
            is_overdue: false,
            is_over: false,
            is_short: false,
        }
    }

    /// Over something short, which may take so long and no longer.
    pub(super) fn short(now: Timestamp, limit: Micros) -> Self {
        let mut watch = Watch { is_short: true, ..Watch::new(None) };
        watch.end_by(now + limit);
        watch
    }

    pub(super) fn cause(&self) -> Option<StopCause> {
        self.cause
    }

    pub(super) fn on_signal(&mut self, now: Timestamp, signal: i32) {
        // Sites have USR1 and USR2 sent ahead of the end, as a warning: there is time until then.
        let is_warning = [SIGUSR1, SIGUSR2].contains(&signal);
        let terminate = match self.ends {
            _ if self.is_short => now,
            Some((end, _)) if is_warning => last_call(end).max(now + LAST_BREATH),
            _ => now + PATIENCE,
        };
        if self.cause.is_none() {
            self.begin(StopCause::Signal(signal), terminate);
        } else if signal == SIGINT {
            // A person who says it again means now. Batch systems repeat TERM by themselves.
            self.is_told = true;
            (self.drains, self.terminate, self.kill) = (false, None, Some(now));
        } else if !is_warning {
            // It is meant after a warning, and after the run was asked to stop because of the time.
            self.end_by(terminate);
        }
    }

    /// The ranks have so long to begin.
    pub(super) fn await_beginning(&mut self, now: Timestamp, limit: Micros) {
        self.starting = Some(now + limit);
    }

    /// True if the ranks are about to be ended because they have not begun.
    pub(super) fn is_late(&self, now: Timestamp) -> bool {
        self.starting.is_some_and(|limit| limit <= now)
    }

    pub(super) fn on_begun(&mut self) {
        self.starting = None;
    }

    /// The run is finished, or its scheduler dead: the launcher has no reason to stay beyond this time.
    pub(super) fn on_over(&mut self, limit: Timestamp) {
        self.is_over = true;
        self.starting = None;
        let end = self.ends.map_or(limit, |(end, _)| last_call(end));
        self.end_by(limit.min(end));
    }

    pub(super) fn step(&mut self, now: Timestamp) -> Option<Step> {
        if let (Some((end, margin)), None, false) = (self.ends, self.cause, self.is_over)
            && now + margin >= end
        {
            self.begin(StopCause::Walltime, last_call(end).max(now + LAST_BREATH));
        }
        if std::mem::take(&mut self.drains) {
            return Some(Step::Drain);
        }
        if self.is_late(now) {
            (self.starting, self.is_overdue) = (None, true);
            self.end_by(now);
        }
        if self.terminate.take_if(|due| *due <= now).is_some() {
            self.is_told = true;
            return Some(Step::Terminate);
        }
        self.kill.take_if(|due| *due <= now).map(|_| Step::Kill)
    }

    /// From here on the steps follow each other.
    fn begin(&mut self, cause: StopCause, terminate: Timestamp) {
        self.cause = Some(cause);
        self.starting = None;
        self.drains = !self.is_over && !self.is_short;
        self.end_by(terminate);
    }

    /// TERM at this time, unless it is due earlier or was sent, and KILL after it.
    fn end_by(&mut self, terminate: Timestamp) {
        if !self.is_told && self.terminate.is_none_or(|due| terminate < due) {
            self.terminate = Some(terminate);
            self.kill = Some(terminate + LAST_BREATH);
        }
    }
}

/// When TERM is due before the end of the allocation: TERM, then KILL, then the end.
fn last_call(end: Timestamp) -> Timestamp {
    Timestamp(end.0.saturating_sub(2 * LAST_BREATH.0))
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGTERM;

    use super::super::{LINGERING, PRINTING, SHORT};
    use super::*;

    const fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    type Occurrence = fn(&mut Watch, Timestamp);

    /// Every step of the first 200 seconds and the second in which it comes.
    fn steps(watch: &mut Watch, occurrences: &[(u64, Occurrence)]) -> Vec<(u64, Step)> {
        let mut steps = Vec::new();
        for second in 0..200 {
            for (_, occur) in occurrences.iter().filter(|(when, _)| *when == second) {
                occur(watch, at(second));
            }
            while let Some(step) = watch.step(at(second)) {
                steps.push((second, step));
            }
        }
        steps
    }

    fn term(watch: &mut Watch, now: Timestamp) {
        watch.on_signal(now, SIGTERM);
    }

    #[test]
    fn nothing_is_done_without_an_occasion() {
        assert_eq!(steps(&mut Watch::new(None), &[]), []);
    }

    #[test]
    fn a_signal_drains_first_and_kills_last() {
        let mut watch = Watch::new(None);
        let steps = steps(&mut watch, &[(10, term), (12, term)]);
        assert_eq!(steps, [(10, Step::Drain), (30, Step::Terminate), (35, Step::Kill)]);
        assert_eq!(watch.cause(), Some(StopCause::Signal(SIGTERM)));
    }

    #[test]
    fn the_end_of_the_allocation_is_met_in_order() {
        let mut watch = Watch::new(Some((at(100), Micros::from_secs(60))));
        let steps = steps(&mut watch, &[]);
        assert_eq!(steps, [(40, Step::Drain), (90, Step::Terminate), (95, Step::Kill)]);
        assert_eq!(watch.cause(), Some(StopCause::Walltime));
    }

    #[test]
    fn a_margin_longer_than_the_allocation_still_gives_the_run_a_moment() {
        let mut watch = Watch::new(Some((at(8), Micros::from_secs(60))));
        assert_eq!(steps(&mut watch, &[]), [(0, Step::Drain), (5, Step::Terminate), (10, Step::Kill)]);
    }

    #[test]
    fn a_launcher_that_stays_after_the_run_is_ended() {
        let mut watch = Watch::new(Some((at(100), Micros::from_secs(60))));
        let finished: Occurrence = |watch, now| watch.on_over(now + LINGERING);
        let steps = steps(&mut watch, &[(10, finished), (20, finished), (25, term)]);
        assert_eq!(steps, [(30, Step::Terminate), (35, Step::Kill)]);
    }

    #[test]
    fn ranks_that_never_begin_are_ended() {
        let mut watch = Watch::new(None);
        watch.await_beginning(at(0), Micros::from_secs(50));
        assert_eq!(steps(&mut watch, &[]), [(50, Step::Terminate), (55, Step::Kill)]);
        let begun: Occurrence = |watch, _| watch.on_begun();
        let mut watch = Watch::new(None);
        watch.await_beginning(at(0), Micros::from_secs(50));
        let steps = steps(&mut watch, &[(49, begun), (60, term), (61, begun)]);
        assert_eq!(steps, [(60, Step::Drain), (80, Step::Terminate), (85, Step::Kill)]);
    }

    #[test]
    fn ranks_that_begin_too_late_are_ended_all_the_same() {
        let begun: Occurrence = |watch, _| watch.on_begun();
        let mut watch = Watch::new(None);
        watch.await_beginning(at(0), Micros::from_secs(50));
        assert!(!watch.is_late(at(49)) && watch.is_late(at(50)));
        assert_eq!(steps(&mut watch, &[(51, begun)]), [(50, Step::Terminate), (55, Step::Kill)]);
        assert!(watch.is_overdue && watch.cause().is_none());
    }

    #[test]
    fn nothing_that_is_due_is_put_off() {
        let ends = Some((at(100), Micros::from_secs(60)));
        let finished: Occurrence = |watch, now| watch.on_over(now + PRINTING);
        let at_the_end = [(40, Step::Drain), (90, Step::Terminate), (95, Step::Kill)];
        assert_eq!(steps(&mut Watch::new(ends), &[(88, finished)]), at_the_end);
        assert_eq!(steps(&mut Watch::new(ends), &[(10, finished)]), at_the_end[1..]);
        // A batch system that ends the job has less patience than the walltime leaves.
        let after_term = [(40, Step::Drain), (65, Step::Terminate), (70, Step::Kill)];
        assert_eq!(steps(&mut Watch::new(ends), &[(45, term), (50, term)]), after_term);
        let interrupt: Occurrence = |watch, now| watch.on_signal(now, SIGINT);
        let steps =
            steps(&mut Watch::new(None), &[(10, interrupt), (11, finished), (12, interrupt), (13, finished)]);
        assert_eq!(steps, [(10, Step::Drain), (12, Step::Kill)]);
    }

    #[test]
    fn a_launcher_whose_run_is_finished_may_print_until_its_scheduler_ends() {
        let finished: Occurrence = |watch, now| watch.on_over(now + PRINTING);
        let gone: Occurrence = |watch, now| watch.on_over(now + LINGERING);
        let steps = steps(&mut Watch::new(None), &[(10, finished), (100, gone), (101, gone)]);
        assert_eq!(steps, [(120, Step::Terminate), (125, Step::Kill)]);
    }

    #[test]
    fn a_warning_leaves_the_time_until_the_end() {
        let warning: Occurrence = |watch, now| watch.on_signal(now, SIGUSR1);
        let mut watch = Watch::new(Some((at(150), Micros::from_secs(60))));
        let steps = steps(&mut watch, &[(50, warning)]);
        assert_eq!(steps, [(50, Step::Drain), (140, Step::Terminate), (145, Step::Kill)]);
    }

    #[test]
    fn something_short_is_ended_by_a_signal_and_by_its_time() {
        assert_eq!(
            steps(&mut Watch::short(at(0), SHORT), &[(10, term)]),
            [(10, Step::Terminate), (15, Step::Kill)]
        );
        let mut watch = Watch::short(at(0), SHORT);
        assert_eq!((watch.step(at(299)), watch.step(at(300))), (None, Some(Step::Terminate)));
    }

    #[test]
    fn a_second_interrupt_ends_it_at_once() {
        let interrupt: Occurrence = |watch, now| watch.on_signal(now, SIGINT);
        let steps = steps(&mut Watch::new(None), &[(10, interrupt), (11, interrupt)]);
        assert_eq!(steps, [(10, Step::Drain), (11, Step::Kill)]);
    }
}
