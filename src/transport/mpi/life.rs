//! MPI's only life in this process: it begins once, ends once, and can be aborted in between.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use super::fence;
use super::library::Library;
use crate::transport::endpoint::TransportError;
use crate::transport::launcher::launcher_of;

/// Where this process is in MPI's only life.
static LIFE: AtomicU8 = AtomicU8::new(UNBORN);
const UNBORN: u8 = 0;
const RUNNING: u8 = 1;
const ABORTING: u8 = 2;
const FINISHED: u8 = 3;

/// How long an abort may take before the process just ends.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// Why MPI could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It was started in this process before.
    StartedBefore,
    /// It does not allow a program to have threads.
    NoThreads,
    /// The launcher started more ranks than MPI knows of: it is another MPI's launcher.
    WrongLauncher {
        /// The launcher's variable.
        variable: &'static str,
        /// The number of ranks it gives.
        launched: u32,
        /// The number of ranks that MPI knows of.
        known: u32,
        /// What this program is linked with.
        library: Library,
    },
    /// The library failed: the call and what it said.
    Failed(&'static str, String),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::StartedBefore => write!(out, "MPI was started in this process before"),
            StartError::NoThreads => write!(out, "this MPI does not allow a program to have threads"),
            StartError::WrongLauncher { variable, launched, known, library } => write!(
                out,
                "started by {} (`{variable}={launched}`), but this dagmar is linked with {library}, \
                 which knows of {known} rank{}",
                launcher_of(variable),
                if *known == 1 { "" } else { "s" }
            ),
            StartError::Failed(call, why) => write!(out, "`{call}` failed: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            StartError::WrongLauncher { library, .. } => Some(library.how_to_start()),
            _ => None,
        }
    }
}

impl From<TransportError> for StartError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Failed(call, why) => StartError::Failed(call, why),
            TransportError::Gone(rank) => {
                StartError::Failed("MPI_Init_thread", format!("rank {rank} is gone"))
            }
        }
    }
}

/// From here on an abort is MPI's. Fails if MPI was started in this process before.
pub(super) fn begin() -> Result<(), StartError> {
    match LIFE.swap(RUNNING, Ordering::AcqRel) {
        UNBORN => Ok(()),
        _ => Err(StartError::StartedBefore),
    }
}

/// From here on `abort_job` does nothing: MPI is finalized, or did not start.
pub(super) fn end() {
    LIFE.store(FINISHED, Ordering::Release);
}

/// Ends the whole job with `code`, from any thread, and does not return. Without MPI it does
/// nothing, and the caller ends the process.
///
/// MPI does not promise that its abort works from any thread and at any time. The process ends in
/// any case after two seconds, and a launcher ends a job that lost a rank.
pub fn abort_job(code: i32) {
    match LIFE.compare_exchange(RUNNING, ABORTING, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            let _ = thread::Builder::new().spawn(move || leave_after(ABORT_PATIENCE, code));
            fence::abort(code);
            leave_after(ABORT_PATIENCE, code)
        }
        Err(ABORTING) => leave_after(2 * ABORT_PATIENCE, code),
        Err(_) => {}
    }
}

fn leave_after(patience: Duration, code: i32) -> ! {
    thread::sleep(patience);
    fence::end_process(code)
}
