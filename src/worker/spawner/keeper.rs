//! The life of a keeper: it runs one attempt at a time and outlives all that the attempt starts.
//!
//! Single-threaded; waits in one `poll` for its rank, for children and for its own deadlines.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::poll::PollTimeout;
use nix::sys::prctl::{set_child_subreaper, set_pdeathsig};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, getppid};

use super::descendants::{descendants, signal_all};
use super::memory_watch::MemoryWatch;
use super::program::{Program, inherited_environment};
use super::wire::{Exit, Launch, Reply, Request, Room, receive_json, send_json};
use super::{Nest, PARENT_DIED, Reaping, ready, reap};
use crate::clock::now;
use crate::core::time::{Micros, Timestamp};
use crate::worker::hardware::format_list;

/// What a program left behind may end by itself in this time: a `tee` at the end of a process
/// substitution still writes when its shell is gone.
const SETTLING: Micros = Micros::from_millis(300);
/// What a program left behind then has this long between TERM and KILL. An attempt that is being
/// stopped has its grace instead.
const LEFTOVER_GRACE: Micros = Micros::from_secs(1);
/// After KILL, how long a process may hang in the kernel before it is given up.
const KILL_PATIENCE: Micros = Micros::from_secs(30);
/// How often KILL is repeated, as processes may have been forked since.
pub(super) const KILL_AGAIN: Micros = Micros::from_millis(10);
/// The life of a keeper. Returns its exit code, which is not 0 if something is left.
pub(super) fn run_keeper(socket: OwnedFd, spawner: Pid) -> i32 {
    match watch_signals() {
        Ok(signals) => Keeper::new(socket, signals, spawner).run(),
        Err(_) => 1,
    }
}

struct Keeper {
    socket: OwnedFd,
    room: Room,
    signals: SignalFd,
    spawner: Pid,
    nest: Nest,
    /// What programs inherit.
    environment: Vec<CString>,
    attempt: Option<Attempt>,
    /// True once nobody is there to report to.
    leaving: bool,
}

/// A program that runs, or what it left behind.
struct Attempt {
    main: Pid,
    exit: Option<Exit>,
    pressure: Pressure,
    /// Its use of memory, if that has a limit.
    memory: Option<MemoryWatch>,
}

/// How hard the attempt is pressed to end.
#[derive(Clone, Copy)]
enum Pressure {
    None,
    /// The program has ended; what it left behind is asked to end at this time.
    Settling {
        until: Timestamp,
    },
    /// TERM was sent; KILL comes at this time.
    Asked {
        until: Timestamp,
    },
    /// KILL is sent again and again; at this time what still lives is given up.
    Forced {
        until: Timestamp,
    },
}

impl Keeper {
    fn new(socket: OwnedFd, signals: SignalFd, spawner: Pid) -> Self {
        let (room, nest, environment) = (Room::default(), Nest::new(), inherited_environment());
        Keeper { socket, room, signals, spawner, nest, environment, attempt: None, leaving: false }
    }

    fn run(mut self) -> i32 {
        loop {
            self.check_parent();
            if self.leaving && self.attempt.is_none() {
                return 0;
            }
            let [signalled, asked] = self.wait();
            if signalled {
                drain(&self.signals);
            }
            if asked {
                self.on_request();
            }
            // A program that was only just started has not ended unless a signal says so.
            let is_news = signalled || !asked || self.is_pressed();
            if is_news && self.tend().is_err() {
                return 1;
            }
        }
    }

    fn is_pressed(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| !matches!(attempt.pressure, Pressure::None))
    }

    fn wait(&self) -> [bool; 2] {
        let limit = match self.attempt.as_ref().map(|attempt| attempt.pressure) {
            None | Some(Pressure::None) => self.next_look().map_or(PollTimeout::NONE, limit),
            Some(Pressure::Settling { until } | Pressure::Asked { until }) => limit(until),
            Some(Pressure::Forced { .. }) => limit(now() + KILL_AGAIN),
        };
        if self.leaving {
            let [signalled] = ready([self.signals.as_fd()], limit);
            return [signalled, false];
        }
        ready([self.signals.as_fd(), self.socket.as_fd()], limit)
    }

    fn next_look(&self) -> Option<Timestamp> {
        self.attempt.as_ref()?.memory.as_ref().map(MemoryWatch::next_look)
    }

    fn check_parent(&mut self) {
        if !self.leaving && getppid() != self.spawner {
            self.leave();
        }
    }

    fn on_request(&mut self) {
        match receive_json(self.socket.as_fd(), &mut self.room) {
            Ok(Some((Request::Launch(launch), streams))) => self.on_launch(&launch, streams),
            Ok(Some((Request::Stop { grace_ms }, _))) => self.stop(Micros::from_millis(grace_ms)),
            Ok(None) | Err(_) => self.leave(),
        }
    }

    fn on_launch(&mut self, launch: &Launch, streams: Vec<OwnedFd>) {
        let started = match <[OwnedFd; 3]>::try_from(streams) {
            Ok(streams) => self.spawn(launch, &streams).map_err(|error| explain(launch, &error)),
            Err(_) => Err("its standard streams did not arrive".to_owned()),
        };
        match started {
            Ok(main) => {
                let memory = launch.memory_bytes.map(MemoryWatch::begin);
                self.attempt = Some(Attempt { main, exit: None, pressure: Pressure::None, memory });
            }
            Err(why) => self.reply(&Reply::NotStarted(why)),
        }
    }

    fn spawn(&mut self, launch: &Launch, streams: &[OwnedFd; 3]) -> io::Result<Pid> {
        self.nest.start(&Program::new(launch, &self.environment)?, streams)
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.stop(LEFTOVER_GRACE);
    }

    /// A stop that comes later may shorten the grace, never lengthen it.
    fn stop(&mut self, grace: Micros) {
        let Some(attempt) = &mut self.attempt else { return };
        let until = now() + grace;
        match &mut attempt.pressure {
            Pressure::None | Pressure::Settling { .. } => attempt.ask(until),
            Pressure::Asked { until: earlier } => *earlier = until.min(*earlier),
            Pressure::Forced { .. } => {}
        }
    }

    /// Reaps, presses on, and reports the end. `Err` when processes had to be given up.
    fn tend(&mut self) -> Result<(), ()> {
        let Some(attempt) = &mut self.attempt else { return Ok(()) };
        if attempt.reap_all() {
            let over_memory_bytes = attempt.memory.as_ref().and_then(MemoryWatch::over_bytes);
            let exit = Exit { over_memory_bytes, ..attempt.exit.unwrap_or(UNKNOWN_EXIT) };
            self.attempt = None;
            self.reply(&Reply::Exited(exit));
            return Ok(());
        }
        if matches!(attempt.pressure, Pressure::None | Pressure::Settling { .. })
            && attempt.memory.as_mut().is_some_and(MemoryWatch::is_exceeded)
        {
            attempt.force(now() + KILL_PATIENCE);
            return Ok(());
        }
        match attempt.pressure {
            Pressure::None if attempt.exit.is_some() => {
                attempt.pressure = Pressure::Settling { until: now() + SETTLING };
            }
            Pressure::Settling { until } if until <= now() => attempt.ask(now() + LEFTOVER_GRACE),
            Pressure::Asked { until } if until <= now() => attempt.force(now() + KILL_PATIENCE),
            Pressure::Forced { until } if until <= now() => return self.give_up(),
            Pressure::Forced { until } => attempt.force(until),
            _ => {}
        }
        Ok(())
    }

    fn give_up(&mut self) -> Result<(), ()> {
        let attempt = self.attempt.as_ref();
        let exit = attempt.and_then(|attempt| attempt.exit).unwrap_or(UNKNOWN_EXIT);
        let memory = attempt.and_then(|attempt| attempt.memory.as_ref());
        let exit = Exit { over_memory_bytes: memory.and_then(MemoryWatch::over_bytes), ..exit };
        let remaining = u32::try_from(descendants().len()).unwrap_or(u32::MAX).max(1);
        self.reply(&Reply::Exited(Exit { remaining, ..exit }));
        Err(())
    }

    fn reply(&mut self, reply: &Reply) {
        if !self.leaving && send_json(self.socket.as_fd(), reply, &[]).is_err() {
            self.leave();
        }
    }
}

/// For a main process that KILL did not end.
const UNKNOWN_EXIT: Exit =
    Exit { status: Signal::SIGKILL as i32, max_rss_bytes: 0, over_memory_bytes: None, remaining: 0 };

impl Attempt {
    /// True once nothing of the attempt is left.
    fn reap_all(&mut self) -> bool {
        loop {
            match reap() {
                Reaping::Reaped(child) if child.pid == self.main => {
                    let (status, max_rss_bytes) = (child.status, child.max_rss_bytes);
                    self.exit = Some(Exit { status, max_rss_bytes, over_memory_bytes: None, remaining: 0 });
                }
                Reaping::Reaped(_) => {}
                Reaping::Running => return false,
                Reaping::Childless => return true,
            }
        }
    }

    fn ask(&mut self, until: Timestamp) {
        signal_all(Signal::SIGTERM, self.group());
        signal_all(Signal::SIGCONT, self.group());
        self.pressure = Pressure::Asked { until };
    }

    fn force(&mut self, until: Timestamp) {
        signal_all(Signal::SIGKILL, self.group());
        self.pressure = Pressure::Forced { until };
    }

    /// The main process's group, as long as its number is certainly its own.
    fn group(&self) -> Option<Pid> {
        self.exit.is_none().then_some(self.main)
    }
}

/// Why a program could not be started, in words. Looked up after the fact, as it costs time.
fn explain(launch: &Launch, error: &io::Error) -> String {
    let Launch { program, directory, .. } = launch;
    let has_path = program.contains('/');
    let place = Path::new(directory).join(program);
    match error.raw_os_error() {
        Some(nix::libc::ENOENT | nix::libc::ENOTDIR) if !Path::new(directory).is_dir() => {
            format!("its working directory `{directory}` does not exist")
        }
        Some(nix::libc::ENOENT) if !has_path => format!("program `{program}` was not found on PATH"),
        Some(nix::libc::ENOENT) if place.exists() => {
            format!("the interpreter that program `{program}` names does not exist")
        }
        Some(nix::libc::ENOENT | nix::libc::ENOTDIR) => format!("program `{program}` does not exist"),
        Some(nix::libc::EACCES) if std::fs::read_dir(directory).is_err() => {
            format!("its working directory `{directory}` may not be entered")
        }
        Some(nix::libc::EACCES) => format!("program `{program}` is not executable"),
        Some(nix::libc::E2BIG) => {
            format!("the arguments and environment of program `{program}` are longer than the system allows")
        }
        Some(nix::libc::EINVAL) if !launch.cpus.is_empty() => {
            format!("program `{program}` cannot be kept on the CPUs {}: {error}", format_list(&launch.cpus))
        }
        _ => format!("program `{program}`: {error}"),
    }
}

/// What a process that starts others needs: to hear of its parent's death, to be handed orphans,
/// and to take signals in turn.
pub(super) fn watch_signals() -> io::Result<SignalFd> {
    set_pdeathsig(PARENT_DIED)?;
    set_child_subreaper(true)?;
    SigSet::all().thread_set_mask()?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.add(PARENT_DIED);
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Takes a signal that has come. `poll` tells of those that are left.
pub(super) fn drain(signals: &SignalFd) {
    let _ = signals.read_signal();
}

/// The time until `deadline` for `poll`, rounded up so that nothing is looked at too early.
pub(super) fn limit(deadline: Timestamp) -> PollTimeout {
    let millis = deadline.since(now()).0.div_ceil(1000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
