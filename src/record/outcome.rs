//! The marker `finished`: how a run ended. While it is missing, the run is not over.
//!
//! It is written last, by rank 0, and synced: exit codes of `mpirun` and of batch jobs lie, this
//! file does not.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::event::{Outcome, StopReason};
use crate::core::time::{Micros, Timestamp};

use super::publish::publish;

/// The version of the marker that this dagmar writes and reads.
const VERSION: u32 = 1;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What the run's process returned.
    pub exit_code: u8,
    /// How it ended.
    pub outcome: Outcome,
    /// Tasks that ran to success.
    pub finished: u32,
    /// Tasks that failed by their own fault.
    pub failed: u32,
    /// Tasks that did not run because one upstream failed.
    pub aborted: u32,
    /// Tasks that did not run because a person said so.
    pub cancelled: u32,
    /// When the run began.
    pub started: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
}

/// Why a marker cannot be read.
#[derive(Debug)]
pub enum OutcomeError {
    /// The system refused.
    Io(PathBuf, io::Error),
    /// It is not a marker of this version: the file and why.
    Content(PathBuf, String),
}

impl fmt::Display for OutcomeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OutcomeError::Io(path, error) => write!(out, "cannot read `{}`: {error}", path.display()),
            OutcomeError::Content(path, why) => write!(out, "cannot understand `{}`: {why}", path.display()),
        }
    }
}

impl std::error::Error for OutcomeError {}

/// The marker as it is written: words that a script can look for.
#[derive(Serialize, Deserialize)]
struct Marker {
    version: u32,
    exit_code: u8,
    outcome: Word,
    finished: u32,
    failed: u32,
    aborted: u32,
    cancelled: u32,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    out_of_memory: bool,
    started_us: u64,
    ended_us: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Done,
    TasksFailed,
    Interrupted,
    Terminated,
    Cancelled,
    TooManyFailures,
    WorkersLost,
}

impl Finished {
    /// How long the run took.
    pub const fn elapsed(&self) -> Micros {
        self.ended.since(self.started)
    }

    /// Writes the marker; once this returns, it survives a crash.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(&self.to_marker()).expect("numbers and words are TOML");
        publish(path, text.as_bytes())
    }

    /// Reads the marker; `None` while the run is not over.
    pub fn read(path: &Path) -> Result<Option<Self>, OutcomeError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OutcomeError::Io(path.to_owned(), error)),
        };
        let content = |why| OutcomeError::Content(path.to_owned(), why);
        let marker: Marker = toml::from_str(&text).map_err(|error| content(error.message().to_owned()))?;
        match marker.version {
            VERSION => Ok(Some(Self::from_marker(&marker))),
            other => Err(content(format!("it has version {other}, and this dagmar reads version {VERSION}"))),
        }
    }

    fn to_marker(&self) -> Marker {
        let outcome = match self.outcome {
            Outcome::Done => Word::Done,
            Outcome::TasksFailed { .. } => Word::TasksFailed,
            Outcome::Stopped(StopReason::Interrupted) => Word::Interrupted,
            Outcome::Stopped(StopReason::Terminated) => Word::Terminated,
            Outcome::Stopped(StopReason::Cancelled) => Word::Cancelled,
            Outcome::Stopped(StopReason::TooManyFailures) => Word::TooManyFailures,
            Outcome::WorkersLost => Word::WorkersLost,
        };
        Marker {
            version: VERSION,
            exit_code: self.exit_code,
            outcome,
            finished: self.finished,
            failed: self.failed,
            aborted: self.aborted,
            cancelled: self.cancelled,
            out_of_memory: matches!(self.outcome, Outcome::TasksFailed { out_of_memory: true, .. }),
            started_us: self.started.0,
            ended_us: self.ended.0,
        }
    }

    fn from_marker(marker: &Marker) -> Self {
        let &Marker { failed, aborted, out_of_memory, .. } = marker;
        let outcome = match marker.outcome {
            Word::Done => Outcome::Done,
            Word::TasksFailed => Outcome::TasksFailed { failed, aborted, out_of_memory },
            Word::Interrupted => Outcome::Stopped(StopReason::Interrupted),
            Word::Terminated => Outcome::Stopped(StopReason::Terminated),
            Word::Cancelled => Outcome::Stopped(StopReason::Cancelled),
            Word::TooManyFailures => Outcome::Stopped(StopReason::TooManyFailures),
            Word::WorkersLost => Outcome::WorkersLost,
        };
        Finished {
            exit_code: marker.exit_code,
            outcome,
            finished: marker.finished,
            failed,
            aborted,
            cancelled: marker.cancelled,
            started: Timestamp(marker.started_us),
            ended: Timestamp(marker.ended_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(outcome: Outcome) -> Finished {
        Finished {
            exit_code: 3,
            outcome,
            finished: 4,
            failed: 1,
            aborted: 2,
            cancelled: 0,
            started: Timestamp(1_000_000),
            ended: Timestamp(2_200_000),
        }
    }

    #[test]
    fn every_outcome_comes_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("finished");
        assert_eq!(Finished::read(&path).unwrap(), None);
        let stops = [
            StopReason::Interrupted,
            StopReason::Terminated,
            StopReason::Cancelled,
            StopReason::TooManyFailures,
        ];
        let failed =
            [true, false].map(|out_of_memory| Outcome::TasksFailed { failed: 1, aborted: 2, out_of_memory });
        let outcomes = [Outcome::Done, Outcome::WorkersLost].into_iter().chain(failed);
        for outcome in outcomes.chain(stops.map(Outcome::Stopped)) {
            finished(outcome).write(&path).unwrap();
            assert_eq!(Finished::read(&path).unwrap(), Some(finished(outcome)));
        }
    }

    #[test]
    fn the_marker_is_plain_text() {
        let outcome = Outcome::TasksFailed { failed: 1, aborted: 2, out_of_memory: false };
        let text = toml::to_string(&finished(outcome).to_marker()).unwrap();
        insta::assert_snapshot!(text, @r#"
        version = 1
        exit_code = 3
        outcome = "tasks_failed"
        finished = 4
        failed = 1
        aborted = 2
        cancelled = 0
        started_us = 1000000
        ended_us = 2200000
        "#);
    }

    #[test]
    fn a_damaged_marker_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("finished");
        for text in ["", "version = 1", "\0", "exit_code = 0\nversion = 7"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Finished::read(&path), Err(OutcomeError::Content(..))), "{text}");
        }
    }
}
