//! Signals, turned into something a loop can ask for.
//!
//! Only rank 0 acts on them: it ends the run in order, and every other rank just goes on until it
//! is told to stop. So a signal that a launcher sends to all ranks does no harm.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals as Iterator;

use crate::core::event::StopReason;
use crate::transport::endpoint::{Endpoint, Waker};

use super::start::StartError;

/// The signals that came since the process began.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    interrupts: Arc<AtomicUsize>,
    terminations: Arc<AtomicUsize>,
}

impl Signals {
    /// Listens for the rank that `endpoint` belongs to.
    pub fn of(endpoint: &dyn Endpoint) -> Result<Self, StartError> {
        Signals::listen(endpoint.waker()).map_err(|error| StartError::Io("listen for signals", error))
    }

    /// Takes SIGINT, SIGTERM and SIGHUP over. Each also wakes the loop that `waker` belongs to.
    fn listen(waker: Waker) -> io::Result<Self> {
        let signals = Signals::default();
        let mut arriving = Iterator::new([SIGINT, SIGTERM, SIGHUP])?;
        let heard = signals.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in arriving.forever() {
                let counter = if signal == SIGINT { &heard.interrupts } else { &heard.terminations };
                counter.fetch_add(1, Ordering::AcqRel);
                waker.wake();
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
