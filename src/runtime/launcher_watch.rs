//! Ends a rank that would wait for ever: its launcher died while MPI was starting.
//!
//! A launcher's process on a node ends its ranks when it ends in order. Killed, it cannot, and MPICH then waits for
//! ranks that are gone, inside `MPI_Init`, where nothing of ours runs. Who started this process tells: once that is
//! somebody else, the launcher is gone. Afterwards ranks find out about each other by themselves.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, raise};
use nix::unistd::{Pid, getppid};

/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long MPI may take to notice it by itself.
const PATIENCE_LOOKS: u32 = 10;

/// Watches until it is dropped.
pub struct LauncherWatch {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl LauncherWatch {
    /// Begins to watch. Without a thread to do so nobody does: that is no reason not to start.
    pub fn begin() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let (launcher, is_started) = (getppid(), is_over.clone());
        let watch = move || watch(launcher, &is_started);
        let thread = thread::Builder::new().name("launcher".to_owned()).spawn(watch).ok();
        LauncherWatch { is_over, thread }
    }
}

impl Drop for LauncherWatch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn watch(launcher: Pid, is_started: &AtomicBool) {
    let mut looks = 0;
    while !is_started.load(Ordering::Acquire) {
        thread::park_timeout(LOOK_EVERY);
        looks = if getppid() == launcher { 0 } else { looks + 1 };
        if looks > PATIENCE_LOOKS && !is_started.load(Ordering::Acquire) {
            let told = "error: the launcher of this rank is gone, and MPI does not start without it\n";
            let _ = std::io::stderr().write_all(told.as_bytes());
            // What libraries do at an orderly end may wait for the launcher as well.
            let _ = raise(Signal::SIGKILL);
        }
    }
}
