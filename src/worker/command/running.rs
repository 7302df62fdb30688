//! One attempt whose program runs: its streams, its deadline and what becomes of it.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::libc;

use super::capture::Capture;
use super::feed::Feed;
use super::preparation::Preparation;
use super::publishing::Publication;
use super::ranks::Hostfile;
use super::staging::Stage;
use crate::clock::now;
use crate::core::event::{Cause, Failure, Shortage, Success};
use crate::core::task::{Body, CommandLine};
use crate::core::time::{Micros, Timestamp};
use crate::worker::executor::Job;
use crate::worker::files;
use crate::worker::memory_events::MemoryEvents;
use crate::worker::output::Output;
use crate::worker::sink::OutputSink;
use crate::worker::spawner::{Exit, KeeperLink};

/// How an attempt ended, as it is reported.
pub type Ending = Result<(Success, Option<Arc<Output>>), Failure>;

/// What shells exit with when a program under them was killed.
const KILLED_UNDER_SHELL: i32 = 128 + libc::SIGKILL;

/// How long after KILL a keeper may be silent. A keeper gives up hanging processes itself after 30
/// seconds, so only one that hangs as well, on a dead file system, is silent for longer.
const SILENCE_MAX: Micros = Micros::from_secs(45);

/// An attempt whose program was handed to a keeper.
pub struct Running {
    pub job: Job,
    pub keeper: KeeperLink,
    pub started: Timestamp,
    /// When its time is over; none if it has no limit. Once it is being ended, when its keeper is
    /// given up.
    pub deadline: Option<Timestamp>,
    stdin: Option<Feed>,
    stdout: Option<Capture>,
    stderr: Option<Capture>,
    /// Removed with the attempt.
    _hostfile: Option<Hostfile>,
    /// Where its files are until they are put into their places.
    stage: Option<Stage>,
    /// Why dagmar ends it. The first reason stays.
    cause: Option<Cause>,
}

impl Running {
    /// The attempt starts now.
    pub fn new(job: Job, keeper: KeeperLink, prepared: Preparation) -> Self {
        let Preparation { stdin, stdout, stderr, hostfile: _hostfile, stage, .. } = prepared;
        let started = now();
        let deadline = job.graph.options(job.task).timeout.map(|limit| started + limit);
        Running { job, keeper, started, deadline, stdin, stdout, stderr, _hostfile, stage, cause: None }
    }

    pub fn stdin_fd(&self) -> Option<BorrowedFd<'_>> {
        self.stdin.as_ref().map(Feed::as_fd)
    }

    pub fn stdout_fd(&self) -> Option<BorrowedFd<'_>> {
        self.stdout.as_ref().and_then(Capture::as_fd)
    }

    pub fn stderr_fd(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().and_then(Capture::as_fd)
    }

    pub fn feed(&mut self) {
        if self.stdin.as_mut().is_some_and(Feed::advance) {
            self.stdin = None;
        }
    }

    pub fn read_stdout(&mut self, sink: &mut dyn OutputSink, buffer: &mut [u8]) {
        let read = self.stdout.as_mut().map_or(Ok(()), |capture| capture.advance(sink, buffer));
        read.unwrap_or_else(|cause| self.end_at_once(cause));
    }

    pub fn read_stderr(&mut self, sink: &mut dyn OutputSink, buffer: &mut [u8]) {
        let read = self.stderr.as_mut().map_or(Ok(()), |capture| capture.advance(sink, buffer));
        read.unwrap_or_else(|cause| self.end_at_once(cause));
    }

    /// True if the attempt must be given up, as its keeper does not even end it.
    pub fn check_deadline(&mut self, time: Timestamp) -> bool {
        let is_over = self.deadline.is_some_and(|deadline| deadline <= time);
        if !is_over || self.cause.is_some() {
            return is_over;
        }
        let limit = self.job.graph.options(self.job.task).timeout.unwrap_or_default();
        self.end_with_grace(Cause::Timeout(limit));
        false
    }

    /// TERM now, KILL after the task's grace.
    pub fn end_with_grace(&mut self, cause: Cause) {
        let grace = self.job.graph.options(self.job.task).grace;
        self.end(cause, grace.0.div_ceil(1000));
    }

    /// For an attempt whose further work is worth nothing.
    fn end_at_once(&mut self, cause: Cause) {
        self.end(cause, 0);
    }

    fn end(&mut self, cause: Cause, grace_ms: u64) {
        let silent_until = now() + Micros::from_millis(grace_ms) + SILENCE_MAX;
        self.deadline = match self.cause {
            None => Some(silent_until),
            Some(_) => self.deadline.min(Some(silent_until)),
        };
        self.cause.get_or_insert(cause);
        // A keeper that is gone shows by its socket.
        let _ = self.keeper.stop(grace_ms);
    }

    /// Reads what the streams still hold; the program is gone.
    pub fn finish_streams(&mut self, sink: &mut dyn OutputSink, buffer: &mut [u8]) {
        self.stdin = None;
        for capture in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
            if let Err(cause) = capture.finish(sink, buffer) {
                self.cause.get_or_insert(cause);
            }
        }
    }

    /// True if files must be put into their places before the attempt has ended, which may take a while.
    pub fn must_publish(&self, exit: &Exit) -> bool {
        let is_well = libc::WIFEXITED(exit.status) && libc::WEXITSTATUS(exit.status) == 0;
        // What it left behind may have been killed for memory after it had ended.
        self.stage.is_some() && self.cause.is_none() && is_well && exit.over_memory_bytes.is_none()
    }

    /// What is left to do, and the keeper, which is not needed for it.
    pub fn into_publication(mut self) -> (KeeperLink, Publication) {
        let size_bytes = self.stdout.as_ref().map_or(0, |capture| capture.size);
        let value = self.take_value();
        let Running { job, keeper, started, stage, .. } = self;
        let stage = stage.expect("asked before");
        (keeper, Publication { job, started, size_bytes, value, stage })
    }

    /// What became of an attempt whose program exited.
    pub fn ending(&mut self, exit: Exit, memory: &mut MemoryEvents) -> Ending {
        let ran = now().since(self.started);
        // What it wrote is gone before anybody hears of its end.
        self.stage = None;
        match self.verdict(exit, memory) {
            Err(cause) => Err(Failure { started: self.started, ran, cause }),
            Ok(file_sizes) => {
                let size_bytes = self.stdout.as_ref().map_or(0, |capture| capture.size);
                let success = Success { started: self.started, ran, size_bytes, file_sizes };
                Ok((success, self.take_value()))
            }
        }
    }

    /// The attempt failed, if for no earlier reason then for `cause`.
    pub fn failure(&mut self, cause: Cause) -> Ending {
        let cause = self.cause.take().unwrap_or(cause);
        self.stage = None;
        Err(Failure { started: self.started, ran: now().since(self.started), cause })
    }

    fn verdict(&mut self, exit: Exit, memory: &mut MemoryEvents) -> Result<Vec<u64>, Cause> {
        if let Some(cause) = self.cause.take() {
            return Err(cause);
        }
        if let Some(used_bytes) = exit.over_memory_bytes {
            let limit_bytes = self.job.graph.options(self.job.task).resources.memory_bytes;
            return Err(Cause::OutOfMemory(Shortage { limit_bytes, used_bytes, is_most: false }));
        }
        let status = exit.status;
        let operation = self.job.graph.operation(self.job.task);
        if libc::WIFSIGNALED(status) {
            return Err(match libc::WTERMSIG(status) {
                libc::SIGKILL if memory.is_short() => killed_by_system(&exit),
                signal => Cause::Signal(signal),
            });
        }
        match libc::WEXITSTATUS(status) {
            0 => files::output_sizes(&operation.outputs, self.job.attempt),
            KILLED_UNDER_SHELL if is_shell(&operation.body) && memory.is_short() => {
                Err(killed_by_system(&exit))
            }
            code => Err(Cause::ExitCode(code)),
        }
    }

    /// The value, if other tasks take it. A stream that went elsewhere leaves an empty one.
    fn take_value(&mut self) -> Option<Arc<Output>> {
        let kept = self.stdout.as_mut().and_then(|capture| capture.kept.take());
        self.job.keep_value.then(|| Arc::new(Output::Captured(kept.unwrap_or_default())))
    }
}

/// The system's limit is not the task's, and it is not told.
fn killed_by_system(exit: &Exit) -> Cause {
    Cause::OutOfMemory(Shortage { used_bytes: exit.max_rss_bytes, ..Shortage::default() })
}

fn is_shell(body: &Body) -> bool {
    matches!(body, Body::Command(command) if matches!(command.line, CommandLine::Shell(_)))
}
