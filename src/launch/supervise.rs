//! What `launch` does while its programs run: it keeps the clock of the allocation, passes on what the
//! batch system signals, and sees to it that the launcher ends.
//!
//! A launcher gives its ranks about a second after it was told to end, so the run is first asked to
//! stop through its mailbox; signals come after that, and KILL last. A launcher whose ranks never begin, or that stays
//! although the scheduler is dead, is ended: some wait for ever for ranks that died at the wrong moment.

mod sight;
mod timing;

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
use crate::record::mailbox::{Mailbox, Order};
use sight::{SchedulerWatch, Sight};
use timing::{Step, Watch};

/// How often the launcher, the clock and the signals are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PROBE_LOOK_EVERY: Duration = Duration::from_millis(20);
/// The time that a command for every node may take.
const SHORT: Micros = Micros::from_secs(300);
/// The time that a look at a node may take, and how many are looked at side by side.
const PROBE: Micros = Micros::from_secs(20);
const PROBES: usize = 16;
/// The time a launcher may take to end once its scheduler is dead: a damaged one never does.
const LINGERING: Micros = Micros::from_secs(20);
/// The time it may take once the run is finished: rank 0 may still print outputs that were asked for.
const PRINTING: Micros = Micros::from_secs(600);
/// The time that ranks may take to begin, unless the variable says otherwise. MPI takes minutes on whole machines.
const STARTING: Micros = Micros::from_secs(600);
const STARTING_VARIABLE: &str = "DAGMAR_STARTING";

/// How a supervised launcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The launcher's status. Of a damaged job it lies: the run directory knows.
    pub status: ExitStatus,
    /// Why the run was asked to stop, if it was.
    pub stopped: Option<StopCause>,
    /// True if it was ended because the ranks had not begun in the time that they may take (`DAGMAR_STARTING`).
    pub is_overdue: bool,
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
    pub fn new() -> io::Result<Self> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        Ok(Supervisor { signals, ends: None, stopped: None })
    }

    /// Heeds the end of the allocation as well, and asks the run to stop so long before it.
    pub fn set_end(&mut self, ends: Option<(Timestamp, Micros)>) {
        self.ends = ends;
    }

    /// Why nothing more shall be begun, if a signal has come by now.
    pub fn stopped(&mut self) -> Option<StopCause> {
        self.learn(Watch::new(None))
    }

    /// Why nothing shall be begun again, if a signal has come by now or the time is over.
    pub fn stopped_or_out_of_time(&mut self) -> Option<StopCause> {
        let mut watch = Watch::new(self.ends);
        watch.step(clock::now());
        self.learn(watch)
    }

    fn learn(&mut self, mut watch: Watch) -> Option<StopCause> {
        self.heed_signals(&mut watch);
        self.stopped = self.stopped.or(watch.cause());
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
            match scheduler.look(now, watch.is_late(now)) {
                (Sight::Nobody, false) => {}
                (Sight::AtWork, false) => watch.on_begun(),
                // A user's own program may go on with something else.
                (Sight::Dead, false) if !must_begin => {}
                (Sight::Dead, _) => watch.on_over(now + LINGERING),
                (_, true) => watch.on_over(now + PRINTING),
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
        Ok(Ended { status, stopped: watch.cause(), is_overdue: watch.is_overdue })
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
            match self.stopped() {
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
                    // It may have ended because of one that came to all.
                    self.heed_signals(watch);
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
