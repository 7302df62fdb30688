//! How a job ended, in words that mean the same on every batch system.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a job ended, as its batch system sees it. What became of the run in it is in the run directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
pub enum JobEnd {
    /// The script ended with exit code 0.
    Completed,
    /// The script ended with another exit code.
    Failed {
        /// That code.
        exit_code: i32,
    },
    /// A signal ended the script.
    Killed {
        /// Its number.
        signal: i32,
    },
    /// A person or the batch system took it back, before or after it started.
    Cancelled,
    /// It was ended at its time limit.
    WalltimeReached,
    /// It was ended for want of memory.
    OutOfMemory,
    /// It was ended because it used more than it had asked for of something else.
    LimitExceeded {
        /// What it used too much of, such as `cput`.
        resource: String,
    },
    /// A node of it failed.
    NodeLost,
    /// Other jobs took its place.
    Preempted,
    /// It ended without its script having run.
    NeverStarted {
        /// Why, in the batch system's words.
        reason: String,
    },
    /// It ended, and the batch system does not say how.
    Unclear {
        /// What it does say.
        words: String,
    },
}

impl JobEnd {
    /// The end of a script by its exit code and the signal that ended it, if one did.
    pub fn of_script(exit_code: i32, signal: i32) -> JobEnd {
        match (exit_code, signal) {
            (0, 0) => JobEnd::Completed,
            (_, 1..) => JobEnd::Killed { signal },
            _ => JobEnd::Failed { exit_code },
        }
    }

    /// True if the batch system saw the script succeed.
    pub fn is_success(&self) -> bool {
        *self == JobEnd::Completed
    }
}

impl fmt::Display for JobEnd {
    /// Completes "the job ...".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobEnd::Completed => write!(out, "completed"),
            JobEnd::Failed { exit_code } => write!(out, "failed with exit code {exit_code}"),
            JobEnd::Killed { signal } => write!(out, "was killed by {}", signal_name(*signal)),
            JobEnd::Cancelled => write!(out, "was cancelled"),
            JobEnd::WalltimeReached => write!(out, "reached its walltime"),
            JobEnd::OutOfMemory => write!(out, "ran out of memory"),
            JobEnd::LimitExceeded { resource } => write!(out, "used more `{resource}` than it asked for"),
            JobEnd::NodeLost => write!(out, "lost a node"),
            JobEnd::Preempted => write!(out, "was preempted"),
            JobEnd::NeverStarted { reason } => write!(out, "never started: {reason}"),
            JobEnd::Unclear { words } => write!(out, "ended, nobody says how: {words}"),
        }
    }
}

/// `SIGKILL`, or `signal 64` for those without a name.
fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_ends_by_a_signal_or_by_its_code() {
        assert_eq!(JobEnd::of_script(0, 0), JobEnd::Completed);
        assert_eq!(JobEnd::of_script(3, 0), JobEnd::Failed { exit_code: 3 });
        assert_eq!(JobEnd::of_script(0, 9), JobEnd::Killed { signal: 9 });
        assert!(!JobEnd::of_script(0, 9).is_success());
    }

    #[test]
    fn a_signal_is_called_by_its_name() {
        assert_eq!(JobEnd::Killed { signal: 9 }.to_string(), "was killed by SIGKILL");
        assert_eq!(JobEnd::Killed { signal: 63 }.to_string(), "was killed by signal 63");
    }
}
