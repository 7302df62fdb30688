//! `batch.toml`: which batch jobs a run was handed to, for whoever asks later how they stand.
//!
//! It is written before the batch system is asked, with a mark and no job, and again when the
//! answer is there. A process that dies in between leaves the mark, by which the job is found.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;

use super::description::in_utc;
use super::publish::publish;

/// The version of the record that this dagmar writes and reads.
const VERSION: u32 = 1;

/// What a run was handed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    version: u32,
    /// The batch system: `slurm`, `pbs`, `torque` or `local`.
    pub system: String,
    /// The cluster template.
    pub cluster: String,
    /// What the first job carries, and no other job; see `mark_of`.
    pub mark: String,
    /// When it was submitted, in UTC.
    pub submitted: String,
    /// How many jobs are submitted, each of which begins when the one before has ended.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub chain: u32,
    /// Their ids in this order; fewer while the batch system's answers are unknown.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// The clusters that it was sent to, if a batch system of several was told which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<String>,
    /// The batch system's commands where they differ from the usual ones, word by word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub commands: BTreeMap<String, Vec<String>>,
}

/// Why a record cannot be read.
#[derive(Debug)]
pub enum SubmissionError {
    /// The system refused.
    Io(PathBuf, io::Error),
    /// It is not a record of this version: the file and why.
    Content(PathBuf, String),
}

impl fmt::Display for SubmissionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SubmissionError::Io(path, error) => write!(out, "cannot read `{}`: {error}", path.display()),
            SubmissionError::Content(path, why) => {
                write!(out, "cannot understand `{}`: {why}", path.display())
            }
        }
    }
}

impl std::error::Error for SubmissionError {}

impl Submission {
    /// A submission whose job is not known yet.
    pub fn new(
        system: impl Into<String>,
        cluster: impl Into<String>,
        mark: impl Into<String>,
        submitted: Timestamp,
    ) -> Self {
        Submission {
            version: VERSION,
            system: system.into(),
            cluster: cluster.into(),
            mark: mark.into(),
            submitted: in_utc(submitted),
            chain: 1,
            jobs: Vec::new(),
            clusters: None,
            commands: BTreeMap::new(),
        }
    }

    /// What the job at this place carries, the first one's being 0.
    pub fn mark_of(&self, place: usize) -> String {
        match place {
            0 => self.mark.clone(),
            _ => format!("{}-{}", self.mark, place + 1),
        }
    }

    /// True once the batch system has answered for every job.
    pub fn is_whole(&self) -> bool {
        self.jobs.len() >= self.chain as usize
    }

    /// Writes it; replaces an earlier one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string_pretty(self).map_err(io::Error::other)?;
        publish(path, text.as_bytes())
    }

    /// Reads it back; `None` for a run that was never submitted.
    pub fn read(path: &Path) -> Result<Option<Self>, SubmissionError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SubmissionError::Io(path.to_owned(), error)),
        };
        let content = |why: String| SubmissionError::Content(path.to_owned(), why);
        let record: Submission =
            toml::from_str(&text).map_err(|error| content(error.message().to_owned()))?;
        match record.version {
            VERSION => Ok(Some(record)),
            other => Err(content(format!("it has version {other}, and this dagmar reads version {VERSION}"))),
        }
    }
}

const fn one() -> u32 {
    1
}

/// Serde hands over references.
const fn is_one(count: &u32) -> bool {
    *count == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_comes_back_and_a_run_by_hand_has_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.toml");
        assert_eq!(Submission::read(&path).unwrap(), None);
        let mut submission = Submission::new("slurm", "mysite", "dagmar:x-0001:7", Timestamp(1_500_000));
        assert_eq!(submission.submitted, "1970-01-01T00:00:01.500000Z");
        submission.jobs.push("12".into());
        submission.commands.insert("submit".into(), vec!["ssh".into(), "login".into(), "sbatch".into()]);
        submission.write(&path).unwrap();
        assert_eq!(Submission::read(&path).unwrap(), Some(submission));
    }

    #[test]
    fn a_chain_knows_its_marks_and_what_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.toml");
        let mut submission = Submission::new("pbs", "mysite", "dagmar-x-7", Timestamp(0));
        submission.jobs.push("7.pbs".into());
        submission.write(&path).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("chain"), "earlier builds read it, too");
        assert!(submission.is_whole());
        submission.chain = 3;
        submission.write(&path).unwrap();
        let read = Submission::read(&path).unwrap().unwrap();
        assert_eq!(read, submission);
        assert!(!read.is_whole());
        assert_eq!(
            [0, 1, 2].map(|place| read.mark_of(place)),
            ["dagmar-x-7", "dagmar-x-7-2", "dagmar-x-7-3"]
        );
    }

    #[test]
    fn a_damaged_record_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("batch.toml");
        for text in ["", "version = 1", "\0", "version = 2\nsystem = \"slurm\""] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Submission::read(&path), Err(SubmissionError::Content(..))), "{text}");
        }
    }
}
