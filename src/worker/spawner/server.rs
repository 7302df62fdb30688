//! The life of a spawner: it forks keepers until its rank is gone, then sees everything ended.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::PollTimeout;
use nix::sys::prctl::set_name;
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{Pid, close, dup2_stdin, getppid, setsid};

use super::descendants::{descendants, signal_all};
use super::keeper::{KILL_AGAIN, drain, limit, run_keeper, watch_signals};
use super::{Reaping, fork_keeper, ready, reap, restore_signals};
use crate::clock::now;
use crate::core::time::Micros;
use crate::worker::packet::receive;

/// How long a spawner waits for its keepers once its rank is gone.
const KEEPERS_PATIENCE: Micros = Micros::from_secs(5);

/// Lives as a spawner. Returns the exit code.
pub(super) fn run_spawner() -> i32 {
    let rank = getppid();
    match take_place() {
        Ok((socket, signals)) => {
            SpawnerLife { rank, socket, signals, keepers: BTreeSet::new() }.run();
            0
        }
        Err(_) => 1,
    }
}

/// Leaves the rank's session, so that a signal to the rank's group misses the spawner, and closes
/// everything inherited but standard error. The socket came as standard input.
fn take_place() -> io::Result<(OwnedFd, SignalFd)> {
    let _ = setsid();
    let _ = set_name(c"dagmar-spawner");
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    close_inherited(&socket)?;
    restore_signals();
    let signals = watch_signals()?;
    Ok((socket, signals))
}

fn close_inherited(socket: &OwnedFd) -> io::Result<()> {
    let names = std::fs::read_dir("/proc/self/fd")?.flatten().map(|entry| entry.file_name());
    let open: Vec<i32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|&one| one > 2 && one != socket.as_raw_fd()) {
        let _ = close(descriptor);
    }
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(())
}

struct SpawnerLife {
    rank: Pid,
    socket: OwnedFd,
    signals: SignalFd,
    keepers: BTreeSet<Pid>,
}

impl SpawnerLife {
    fn run(mut self) {
        let mut room = [0; 1];
        while getppid() == self.rank {
            let [asked, signalled] = ready([self.socket.as_fd(), self.signals.as_fd()], PollTimeout::NONE);
            if signalled {
                self.reap();
            }
            if asked {
                match receive(self.socket.as_fd(), &mut room) {
                    Ok(Some((_, mut descriptors))) => {
                        descriptors.pop().into_iter().for_each(|one| self.fork(one))
                    }
                    _ => break,
                }
            }
        }
        self.see_all_ended();
    }

    /// On failure the keeper's socket closes, which the rank sees.
    fn fork(&mut self, keeper_socket: OwnedFd) {
        let spawner = Pid::this();
        let (socket, signals) = (self.socket.as_raw_fd(), self.signals.as_raw_fd());
        let forked = fork_keeper(|| {
            let _ = (close(socket), close(signals), set_name(c"dagmar-keeper"));
            run_keeper(keeper_socket, spawner)
        });
        self.keepers.extend(forked.ok());
    }

    /// A keeper that died left its attempt to the spawner; that is killed without grace.
    fn reap(&mut self) {
        drain(&self.signals);
        while let Reaping::Reaped(child) = reap() {
            if !self.keepers.remove(&child.pid) || child.status != 0 {
                self.kill_orphans();
            }
        }
    }

    fn kill_orphans(&self) {
        let mut kept = self.keepers.clone();
        for one in descendants() {
            if kept.contains(&one.parent) {
                kept.insert(one.pid);
            } else if !kept.contains(&one.pid) {
                let _ = kill(one.pid, Signal::SIGKILL);
            }
        }
    }

    /// Keepers end by themselves, as the rank's ends of their sockets are closed or, if the rank
    /// only let go of the spawner, because their parent dies with this process.
    fn see_all_ended(mut self) {
        let until = now() + KEEPERS_PATIENCE;
        while !self.keepers.is_empty() && now() < until {
            ready([self.signals.as_fd()], limit(until));
            self.reap();
        }
        while signal_all(Signal::SIGKILL, None) > 0 && now() < until + KEEPERS_PATIENCE {
            ready([self.signals.as_fd()], limit(now() + KILL_AGAIN));
            self.reap();
        }
    }
}
