//! How programs get started: by processes that hold no threads, no MPI and no locks.
//!
//! `main` starts the **spawner**, a second life of the same binary, before anything else exists
//! in the process. All the spawner does is fork **keepers** on demand. A keeper runs one attempt
//! at a time and is the subreaper of all that the attempt forks, so "the keeper has no child left"
//! is the same as "nothing of the attempt is left", whatever daemons, sessions or environments the
//! attempt made for itself. Keepers are used again, so they cost a command nothing.
//!
//! A rank talks to each keeper over a socket of its own. The end of the rank closes every socket,
//! and each keeper then ends its attempt; the end of the spawner does the same through the
//! parent-death signal; the end of a keeper hands its orphans to the spawner, which kills them.
//!
//! This file holds every `unsafe` line of it. Nothing here looks at graphs or outputs.
#![allow(unsafe_code)]

mod descendants;
mod keeper;
mod memory_watch;
mod program;
mod server;
mod wire;

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneCb, CloneFlags, clone, sched_setaffinity};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, getppid, setsid};

use super::packet::{pair, retry, send};
use crate::core::launch_variables;
pub(super) use memory_watch::MemoryWatch;
use program::{Image, Pointers, Program};
use wire::Request;
pub use wire::{Exit, Launch, Reply, Room};

/// The hidden first argument that makes the binary a spawner.
const ROLE: &str = "__spawner";

/// What a process learns its parent's death by. Blocked and read from a descriptor, never handled.
const PARENT_DIED: Signal = Signal::SIGUSR2;

/// How long a spawner may take to end everything below it, in milliseconds: keepers give their
/// attempts one second before they kill.
const CLOSING_MS: u16 = 8_000;

/// Turns this process into a spawner if it was started as one; never returns then.
///
/// `main` calls it first, before any thread, descriptor or library exists.
pub fn main_if_asked() {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == OsStr::new(ROLE)) {
        std::process::exit(server::run_spawner());
    }
}

/// Starts spawners.
pub struct Spawner;

impl Spawner {
    /// Starts a spawner from this binary. Call it while the process has one thread and no MPI.
    /// Programs inherit the environment, limits and core binding of this moment.
    pub fn start() -> io::Result<SpawnerLink> {
        Spawner::start_with(Path::new("/proc/self/exe"))
    }

    /// Starts a spawner from another binary whose `main` calls `main_if_asked`, such as a test's.
    pub fn start_with(program: &Path) -> io::Result<SpawnerLink> {
        let (ours, theirs) = pair()?;
        let mut command = Command::new(program);
        command.arg0("dagmar").arg(ROLE).stdin(theirs).stdout(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if launch_variables::is_of_a_rank(name.as_bytes()) {
                command.env_remove(name);
            }
        }
        Ok(SpawnerLink { socket: ours, process: command.spawn()? })
    }
}

/// A rank's hold on its spawner. Dropping it ends the spawner, every keeper and every attempt.
#[derive(Debug)]
pub struct SpawnerLink {
    socket: OwnedFd,
    process: Child,
}

impl SpawnerLink {
    /// A new keeper. It can be written to at once; it reads when it has been forked.
    pub fn keeper(&self) -> io::Result<KeeperLink> {
        let (ours, theirs) = pair()?;
        send(self.socket.as_fd(), b"k", &[theirs.as_fd()])?;
        Ok(KeeperLink { socket: ours })
    }

    /// True once the spawner is gone, and with it every keeper. There is no way to start another: by
    /// now the rank has threads and MPI.
    pub fn is_gone(&self) -> bool {
        // The spawner never writes, so all there can be to read is the end.
        let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        matches!(retry(|| poll(&mut watched, PollTimeout::ZERO)), Ok(1..))
    }

    /// The spawner's process number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for SpawnerLink {
    fn drop(&mut self) {
        let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(&self.socket), Shutdown::Write);
        let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if !matches!(retry(|| poll(&mut watched, CLOSING_MS)), Ok(1..)) {
            let _ = self.process.kill();
        }
        let _ = self.process.wait();
    }
}

/// A rank's hold on one keeper. Dropping it ends the keeper and its attempt.
#[derive(Debug)]
pub struct KeeperLink {
    socket: OwnedFd,
}

impl KeeperLink {
    /// Starts a program with these three as its standard streams. One `Reply` will follow.
    pub fn launch(&self, launch: &Launch, streams: [BorrowedFd<'_>; 3]) -> io::Result<()> {
        wire::send_json(self.socket.as_fd(), &Request::Launch(launch), &streams)
    }

    /// Sends TERM to all of the attempt and KILL to what is left after `grace_ms`. The reply to
    /// `launch` still follows.
    pub fn stop(&self, grace_ms: u64) -> io::Result<()> {
        wire::send_json(self.socket.as_fd(), &Request::<Launch>::Stop { grace_ms }, &[])
    }

    /// The reply to `launch`; call it when the socket is readable. `None` if the keeper is gone.
    pub fn receive(&self, room: &mut Room) -> io::Result<Option<Reply>> {
        Ok(wire::receive_json(self.socket.as_fd(), room)?.map(|(reply, _)| reply))
    }

    /// What becomes readable with a reply.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Waits for any of `watched`, at most `limit`. True at the places where something happened.
fn ready<const N: usize>(watched: [BorrowedFd<'_>; N], limit: PollTimeout) -> [bool; N] {
    let mut watched = watched.map(|watched| PollFd::new(watched, PollFlags::POLLIN));
    let _ = poll(&mut watched, limit);
    watched.map(|watched| watched.any().unwrap_or(false))
}

/// Gives every signal its default effect, as ignored ones would be inherited by all programs.
fn restore_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: The default effect runs no code of this process.
        let _ = unsafe { sigaction(signal, &default) };
    }
}

/// Forks a keeper, which runs `life` and exits with its result.
fn fork_keeper(life: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: The spawner has a single thread, so no lock can be held by a thread that is lost.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => std::process::exit(life()),
    }
}

/// What a child is started from: a stack for it to run on until the program replaces it.
struct Nest {
    stack: Vec<u8>,
}

/// Enough for a dozen system calls, without optimisation as well.
const STACK_BYTES: usize = 128 * 1024;

impl Nest {
    fn new() -> Self {
        Nest { stack: vec![0; STACK_BYTES] }
    }

    /// Starts a program in a session, and so a process group, of its own.
    ///
    /// The child shares this process's memory, which waits until the program replaces it or it fails
    /// (`vfork`, but with a stack of its own): nothing is copied, and the reason of a failure is a
    /// variable. `posix_spawn` does the same and cannot set the parent-death signal.
    fn start(&mut self, program: &Program, streams: &[OwnedFd; 3]) -> io::Result<Pid> {
        let keeper = Pid::this();
        let mut image = program.image();
        let mut error = None;
        let child: CloneCb<'_> = Box::new(|| {
            error = Some(become_program(keeper, &mut image, streams));
            NOT_STARTED
        });
        let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
        // SAFETY: This process has a single thread, and it waits until the child has left the shared
        // memory. The child makes system calls only; it neither allocates nor takes locks.
        let pid = unsafe { clone(child, &mut self.stack, flags, Some(libc::SIGCHLD)) }?;
        let Some(error) = error else { return Ok(pid) };
        let _ = retry(|| waitpid(pid, None));
        Err(error.into())
    }
}

/// What a child that could not become its program exits with. Only its keeper sees it.
const NOT_STARTED: isize = 127;

/// Runs in the child. Returns why the program did not replace it.
fn become_program(keeper: Pid, image: &mut Image<'_>, streams: &[OwnedFd; 3]) -> Errno {
    prepare_child(keeper, image, streams).err().unwrap_or_else(|| image.try_places(execute))
}

fn prepare_child(keeper: Pid, image: &Image<'_>, [stdin, stdout, stderr]: &[OwnedFd; 3]) -> nix::Result<()> {
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    chdir(image.directory())?;
    setsid()?;
    if let Some(cpus) = image.cpus() {
        sched_setaffinity(Pid::from_raw(0), cpus)?;
    }
    set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != keeper {
        return Err(Errno::ESRCH);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

/// Replaces the child by a program. Returns only if that cannot be done, and why.
fn execute(path: &CStr, arguments: &Pointers<'_>, environment: &Pointers<'_>) -> Errno {
    // SAFETY: `Pointers` point to strings that live as long as they do, and end with a null pointer.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}

/// A child that has ended.
struct Reaped {
    pid: Pid,
    status: i32,
    max_rss_bytes: u64,
}

/// What `reap` saw.
enum Reaping {
    Reaped(Reaped),
    /// All children are running.
    Running,
    /// There are no children.
    Childless,
}

/// Takes one child that has ended out of the process table. Does not wait.
///
/// `wait4` and not `waitpid`, because only it tells one child's use of memory from another's.
fn reap() -> Reaping {
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: Both pointers are to live variables of the right types.
    match unsafe { libc::wait4(-1, &mut status, libc::WNOHANG, &mut usage) } {
        0 => Reaping::Running,
        pid if pid > 0 => {
            let max_rss_bytes = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
            Reaping::Reaped(Reaped { pid: Pid::from_raw(pid), status, max_rss_bytes })
        }
        _ => Reaping::Childless,
    }
}
