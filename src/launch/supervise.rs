//! What `launch` does while its programs run: it keeps the clock of the allocation, passes on what the
//! batch system signals, and sees to it that the launcher ends.
//!
//! A launcher gives its ranks about a second after it was told to end, so the run is first asked to
//! stop through its mailbox; signals come after that, and KILL last. A launcher whose ranks never begin, or that stays
//! although the scheduler is dead, is ended: some wait for ever for ranks that died at the wrong moment.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::record::layout::RunDirectory;
use crate::record::lease::Lease;
use crate::record::mailbox::{Mailbox, Order};

/// How often the launcher, the clock and the signals are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PROBE_LOOK_EVERY: Duration = Duration::from_millis(20);
/// The time a run has to stop after a signal: batch systems kill 30 s after theirs, some after 10.
const PATIENCE: Micros = Micros::from_secs(20);
/// The time between the last signal and the end of the allocation, and between TERM and KILL.
const LAST_BREATH: Micros = Micros::from_secs(5);
/// The time that a command for every node may take.
const SHORT: Micros = Micros::from_secs(300);
/// The time that a look at a node may take, and how many are looked at side by side.
const PROBE: Micros = Micros::from_secs(20);
const PROBES: usize = 16;
/// The time a launcher may take to end once the run is over, or its scheduler dead: a damaged one never does.
const LINGERING: Micros = Micros::from_secs(20);
/// The time that ranks may take to begin, unless the variable says otherwise. MPI takes minutes on whole machines.
const STARTING: Micros = Micros::from_secs(600);
const STARTING_VARIABLE: &str = "DAGMAR_STARTING";
/// How often it is looked who schedules the run.
const LEASE_LOOK_EVERY: Micros = Micros::from_secs(2);

/// How a supervised launcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The launcher's status. Of a damaged job it lies: the run directory knows.
    pub status: ExitStatus,
    /// Why the run was asked to stop, if it was.
    pub stopped: Option<StopCause>,
}

impl Ended {
    /// The launcher's exit code, in a shell's way if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }
}

/// Why a run is asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The allocation is about to end.
    Walltime,
    /// The batch system, or somebody, sent this signal.
    Signal(i32),
}

/// Starts programs in an allocation and sees them to their end. From its beginning on, signals are
/// heeded and do not end this process.
#[derive(Debug)]
pub struct Supervisor {
    signals: Signals,
    /// When the allocation ends, and how long before that the run is asked to stop.
    ends: Option<(Timestamp, Micros)>,
    stopped: Option<StopCause>,
}

impl Supervisor {
    /// Heeds signals from now on.
    pub fn new(ends: Option<(Timestamp, Micros)>) -> io::Result<Self> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        Ok(Supervisor { signals, ends, stopped: None })
    }

    /// Why nothing more shall be begun, if a signal came.
    pub fn stopped(&self) -> Option<StopCause> {
        self.stopped
    }

    /// Runs a launcher, and with it the ranks of `run`, to its end. `must_begin` is true if they do nothing else: a
    /// user's own program may do anything before its first run and after it.
    ///
    /// # Errors
    /// When it cannot be started or waited for; nothing of it is left then.
    pub fn run_ranks(&mut self, command: Command, run: &RunDirectory, must_begin: bool) -> io::Result<Ended> {
        let mailbox = Mailbox::new(run.control());
        let mut watch = Watch::new(self.ends);
        if must_begin {
            watch.await_beginning(clock::now(), seconds(STARTING_VARIABLE).unwrap_or(STARTING));
        }
        let mut scheduler = SchedulerWatch::new(run);
        let mut look = |watch: &mut Watch| {
            let now = clock::now();
            match scheduler.look(now) {
                Sight::Nobody => {}
                Sight::AtWork => watch.on_begun(),
                // A user's own program may go on with something else.
                Sight::Dead if !must_begin => {}
                Sight::Dead | Sight::Finished => watch.on_over(now),
            }
        };
        let drain = || {
            if let Err(error) = mailbox.post(Order::Drain) {
                // TERM and KILL still follow.
                log::error!("cannot ask the run to stop: {error}");
            }
        };
        let status = self.see_to_its_end(command, &mut watch, &mut look, &drain)?;
        self.stopped = self.stopped.or(watch.cause());
        Ok(Ended { status, stopped: watch.cause() })
    }

    /// Runs something short that prepares nodes or tidies them up. A signal ends it, and so does the time
    /// that such a thing may take.
    ///
    /// # Errors
    /// When it cannot be started or waited for.
    pub fn run_short(&mut self, command: Command) -> io::Result<ExitStatus> {
        let mut watch = Watch::short(clock::now(), SHORT);
        let status = self.see_to_its_end(command, &mut watch, &mut |_| {}, &|| {})?;
        self.stopped = self.stopped.or(watch.cause());
        Ok(status)
    }

    /// Which of these, which take no time, end well. After a signal none does.
    pub fn probe(&mut self, commands: Vec<Command>) -> Vec<bool> {
        let mut commands = commands.into_iter();
        let mut ended_well = Vec::new();
        loop {
            let some: Vec<Command> = commands.by_ref().take(PROBES).collect();
            if some.is_empty() {
                return ended_well;
            }
            match self.stopped {
                None => ended_well.extend(self.probe_some(some)),
                Some(_) => ended_well.extend(some.iter().map(|_| false)),
            }
        }
    }

    fn probe_some(&mut self, commands: Vec<Command>) -> Vec<bool> {
        let started = commands.into_iter().map(|mut command| command.process_group(0).spawn());
        let mut running: Vec<Option<Child>> = started.map(Result::ok).collect();
        let mut ended_well = vec![false; running.len()];
        let mut watch = Watch::short(clock::now(), PROBE);
        while running.iter().any(Option::is_some) {
            for (place, ended_well) in running.iter_mut().zip(&mut ended_well) {
                let Some(child) = place else { continue };
                let ended = child.try_wait().unwrap_or(None);
                if let Some(status) = ended {
                    end_rest(child);
                    *ended_well = status.success();
                    *place = None;
                }
            }
            self.heed_signals(&mut watch);
            let signal = match watch.step(clock::now()) {
                Some(Step::Terminate) => Signal::SIGTERM,
                Some(Step::Kill) => Signal::SIGKILL,
                Some(Step::Drain) | None => {
                    thread::sleep(PROBE_LOOK_EVERY);
                    continue;
                }
            };
            running.iter().flatten().for_each(|child| send(child, signal));
        }
        self.stopped = self.stopped.or(watch.cause());
        ended_well
    }

    fn see_to_its_end(
        &mut self,
        mut command: Command,
        watch: &mut Watch,
        look: &mut dyn FnMut(&mut Watch),
        drain: &dyn Fn(),
    ) -> io::Result<ExitStatus> {
        // A group of its own: what is sent to the job script's group must not reach ranks first.
        let mut child = command.process_group(0).spawn()?;
        loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    end_rest(&child);
                    return Ok(status);
                }
                Err(error) => {
                    send(&child, Signal::SIGKILL);
                    return Err(error);
                }
            }
            self.heed_signals(watch);
            look(watch);
            match watch.step(clock::now()) {
                Some(Step::Drain) => {
                    log::warn!("asking the run to stop: {:?}", watch.cause());
                    drain();
                }
                Some(Step::Terminate) => send(&child, Signal::SIGTERM),
                Some(Step::Kill) => send(&child, Signal::SIGKILL),
                None => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn heed_signals(&mut self, watch: &mut Watch) {
        for signal in self.signals.pending() {
            log::warn!("signal {signal} came");
            watch.on_signal(clock::now(), signal);
        }
    }
}

/// Who schedules a run that is being launched, as far as its directory tells.
struct SchedulerWatch<'a> {
    run: &'a RunDirectory,
    /// The number of whoever had the run before.
    earlier: Option<u32>,
    sight: Sight,
    next_look: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// No rank has taken the run yet.
    Nobody,
    AtWork,
    /// The one that has taken it has died since.
    Dead,
    Finished,
}

impl<'a> SchedulerWatch<'a> {
    fn new(run: &'a RunDirectory) -> Self {
        let earlier = Lease::last(&run.lease()).ok().flatten().map(|(number, _)| number);
        SchedulerWatch { run, earlier, sight: Sight::Nobody, next_look: Timestamp(0) }
    }

    fn look(&mut self, now: Timestamp) -> Sight {
        if self.run.finished().exists() {
            self.sight = Sight::Finished;
        } else if now >= self.next_look {
            self.next_look = now + LEASE_LOOK_EVERY;
            // What cannot be read now can be later.
            if let Ok(Some((number, is_dead))) = Lease::last(&self.run.lease())
                && Some(number) != self.earlier
            {
                self.sight = if is_dead { Sight::Dead } else { Sight::AtWork };
            }
        }
        self.sight
    }
}

fn seconds(variable: &str) -> Option<Micros> {
    std::env::var(variable).ok()?.parse().ok().map(Micros::from_secs)
}

/// What a launcher that has ended left behind must not disturb what comes next.
fn end_rest(child: &Child) {
    let group = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"));
    if killpg(group, Signal::SIGKILL).is_ok() {
        log::warn!("the launcher left processes behind, which were ended");
    }
}

fn send(child: &Child, signal: Signal) {
    log::warn!("sending {signal} to the launcher");
    let group = Pid::from_raw(i32::try_from(child.id()).expect("process ids fit"));
    if let Err(error) = killpg(group, signal) {
        log::warn!("cannot send {signal} to the launcher: {error}");
    }
}

/// What is to be done next. Each step comes once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Ask the run to stop.
    Drain,
    /// Tell the launcher to end.
    Terminate,
    /// End it.
    Kill,
}

/// When which step is due.
#[derive(Debug)]
struct Watch {
    /// When the allocation ends, and how long before that the run is asked to stop.
    ends: Option<(Timestamp, Micros)>,
    cause: Option<StopCause>,
    /// When each step is due, the earliest first; steps that were done are gone.
    due: Vec<(Timestamp, Step)>,
    /// True while nothing is due but because the ranks do not begin.
    is_starting: bool,
    is_over: bool,
    /// True if there is nothing to drain.
    is_short: bool,
}

impl Watch {
    fn new(ends: Option<(Timestamp, Micros)>) -> Self {
        Watch { ends, cause: None, due: Vec::new(), is_starting: false, is_over: false, is_short: false }
    }

    /// Over something short, which may take so long and no longer.
    fn short(now: Timestamp, limit: Micros) -> Self {
        Watch { due: ending(now + limit), is_short: true, ..Watch::new(None) }
    }

    fn cause(&self) -> Option<StopCause> {
        self.cause
    }

    fn on_signal(&mut self, now: Timestamp, signal: i32) {
        if self.cause.is_none() {
            // Sites have USR1 and USR2 sent ahead of the end, as a warning: there is time until then.
            let is_warning = [SIGUSR1, SIGUSR2].contains(&signal);
            let terminate = match self.ends {
                _ if self.is_short => now,
                Some((end, _)) if is_warning => last_call(end).max(now + LAST_BREATH),
                _ => now + PATIENCE,
            };
            self.begin(StopCause::Signal(signal), now, terminate);
        } else if signal == SIGINT {
            // A person who says it again means now. Batch systems repeat TERM by themselves.
            self.due = vec![(now, Step::Kill)];
        }
    }

    /// The ranks have so long to begin.
    fn await_beginning(&mut self, now: Timestamp, limit: Micros) {
        self.is_starting = true;
        self.due = ending(now + limit);
    }

    fn on_begun(&mut self) {
        if std::mem::take(&mut self.is_starting) {
            self.due.clear();
        }
    }

    /// The run is finished, or its scheduler dead: the launcher has no reason to stay.
    fn on_over(&mut self, now: Timestamp) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.due = ending(now + LINGERING);
        }
    }

    fn step(&mut self, now: Timestamp) -> Option<Step> {
        if let (Some((end, margin)), None, false) = (self.ends, self.cause, self.is_over)
            && now + margin >= end
        {
            self.begin(StopCause::Walltime, now, last_call(end).max(now + LAST_BREATH));
        }
        let (due, step) = *self.due.first()?;
        (due <= now).then(|| {
            self.due.remove(0);
            step
        })
    }

    /// From here on the steps follow each other.
    fn begin(&mut self, cause: StopCause, now: Timestamp, terminate: Timestamp) {
        self.cause = Some(cause);
        self.is_starting = false;
        if !self.is_over {
            let kill = terminate + LAST_BREATH;
            self.due = vec![(now, Step::Drain), (terminate, Step::Terminate), (kill, Step::Kill)];
        }
        if self.is_short {
            self.due.retain(|(_, step)| *step != Step::Drain);
        }
    }
}

/// TERM at this time, and KILL after it.
fn ending(terminate: Timestamp) -> Vec<(Timestamp, Step)> {
    vec![(terminate, Step::Terminate), (terminate + LAST_BREATH, Step::Kill)]
}

/// When TERM is due before the end of the allocation: TERM, then KILL, then the end.
fn last_call(end: Timestamp) -> Timestamp {
    Timestamp(end.0.saturating_sub(2 * LAST_BREATH.0))
}

#[cfg(test)]
mod tests {
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
        let finished: Occurrence = |watch, now| watch.on_over(now);
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
