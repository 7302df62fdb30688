//! Signals, turned into something a loop can ask for.
//!
//! Only rank 0 acts on them: it ends the run in order, and every other rank just goes on until it
//! is told to stop. So a signal that a launcher sends to all ranks does no harm.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Iterator;

use crate::clock;
use crate::core::event::{Outcome, StopReason};
use crate::core::id::Rank;
use crate::core::time::{Micros, Timestamp};
use crate::transport::endpoint::{Endpoint, Waker};

use super::start::StartError;
use super::{exit, panic};

/// The time that the loop has to end by itself after a second signal.
const URGENT_PATIENCE: Duration = Duration::from_secs(1);

/// Batch systems and launchers send their signal to a process more than once, each on its own way:
/// what comes this soon after the first is the same one.
const REPEATS: Micros = Micros::from_secs(2);

/// The signals that came since the process began.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    interrupts: Arc<AtomicUsize>,
    terminations: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens for the rank that `endpoint` belongs to.
    pub fn of(endpoint: &dyn Endpoint) -> Result<Self, StartError> {
        let acts = endpoint.rank() == Rank::SCHEDULER;
        Signals::listen(endpoint.waker(), acts).map_err(|error| StartError::Io("listen for signals", error))
    }

    /// Takes SIGINT, SIGTERM and SIGHUP over. Each also wakes the loop that `waker` belongs to. If this
    /// rank `acts`, a second one ends the process even if its loop is stuck, in a write for instance.
    fn listen(waker: Waker, acts: bool) -> io::Result<Self> {
        let signals = Signals::default();
        let heeded = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !is_ignored(*signal));
        let mut arriving = Iterator::new(heeded)?;
        let heard = signals.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut terminated: Option<Timestamp> = None;
            for signal in arriving.forever() {
                let now = clock::now();
                let is_repeat = terminated.is_some_and(|first| now.since(first) < REPEATS);
                match signal {
                    SIGINT => heard.interrupts.fetch_add(1, Ordering::AcqRel),
                    _ if is_repeat => continue,
                    _ => {
                        terminated = Some(now);
                        heard.terminations.fetch_add(1, Ordering::AcqRel)
                    }
                };
                waker.wake();
                if let Some(reason) = heard.reason().filter(|_| acts && heard.is_urgent()) {
                    std::thread::sleep(URGENT_PATIENCE);
                    panic::end_all_ranks(exit::code_of(Outcome::Stopped(reason)));
                }
            }
        })?;
        Ok(signals)
    }

    /// Why the run shall stop, if a signal came.
    pub fn reason(&self) -> Option<StopReason> {
        let interrupted = self.interrupts.load(Ordering::Acquire) > 0;
        let terminated = self.terminations.load(Ordering::Acquire) > 0;
        match (interrupted, terminated) {
            (true, _) => Some(StopReason::Interrupted),
            (_, true) => Some(StopReason::Terminated),
            _ => None,
        }
    }

    /// True once a second signal came: end at once.
    pub fn is_urgent(&self) -> bool {
        self.interrupts.load(Ordering::Acquire) + self.terminations.load(Ordering::Acquire) > 1
    }
}

/// True if whoever started this process had the signal ignored, as `nohup` does with SIGHUP: it
/// shall stay so.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
