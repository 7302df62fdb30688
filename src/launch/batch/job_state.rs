//! Where a job stands, in words that mean the same on every batch system.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::JobEnd;

/// Where a job stands. Every state of every system that is known is one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "detail")]
pub enum JobState {
    /// It waits for nodes.
    Queued,
    /// It waits until somebody lets it go.
    Held,
    /// It has nodes, and they are being made ready.
    Starting,
    /// Its script runs.
    Running,
    /// Its script is stopped and keeps its place.
    Suspended,
    /// Its script is over, and its nodes are being cleaned.
    Ending,
    /// It is over.
    Ended(JobEnd),
    /// The batch system does not know it any more, and no record of its end was found. Never a success.
    Vanished,
    /// A word that nobody knows.
    Unknown(String),
}

impl JobState {
    /// True if the job will not come back: the batch system has nothing more to say about it.
    pub fn is_final(&self) -> bool {
        matches!(self, JobState::Ended(_) | JobState::Vanished)
    }

    /// True if the batch system saw the job's script succeed.
    pub fn is_success(&self) -> bool {
        matches!(self, JobState::Ended(end) if end.is_success())
    }

    /// True if it waits to be started.
    pub fn is_waiting(&self) -> bool {
        matches!(self, JobState::Queued | JobState::Held)
    }

    /// True if it holds nodes.
    pub fn has_nodes(&self) -> bool {
        matches!(self, JobState::Starting | JobState::Running | JobState::Suspended | JobState::Ending)
    }

    /// One word, stable, for JSON and tables.
    pub fn name(&self) -> &'static str {
        match self {
            JobState::Queued => "queued",
            JobState::Held => "held",
            JobState::Starting => "starting",
            JobState::Running => "running",
            JobState::Suspended => "suspended",
            JobState::Ending => "ending",
            JobState::Ended(_) => "ended",
            JobState::Vanished => "vanished",
            JobState::Unknown(_) => "unknown",
        }
    }
}

impl fmt::Display for JobState {
    /// Completes "the job ...".
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobState::Queued => out.write_str("is queued"),
            JobState::Held => out.write_str("is held"),
            JobState::Starting => out.write_str("is starting"),
            JobState::Running => out.write_str("is running"),
            JobState::Suspended => out.write_str("is suspended"),
            JobState::Ending => out.write_str("is ending"),
            JobState::Ended(end) => end.fmt(out),
            JobState::Vanished => {
                out.write_str("is unknown to the batch system and left no record of its end")
            }
            JobState::Unknown(word) => write!(out, "is in a state that dagmar does not know: `{word}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_completed_job_is_a_success() {
        assert!(JobState::Ended(JobEnd::Completed).is_success());
        let others = [
            JobState::Vanished,
            JobState::Unknown("X".into()),
            JobState::Ending,
            JobState::Ended(JobEnd::Cancelled),
            JobState::Ended(JobEnd::Unclear { words: "F".into() }),
        ];
        assert!(others.iter().all(|state| !state.is_success()));
    }

    #[test]
    fn a_vanished_job_is_final_and_an_unknown_word_is_not() {
        assert!(JobState::Vanished.is_final());
        assert!(!JobState::Unknown("NEW_STATE".into()).is_final());
    }
}
