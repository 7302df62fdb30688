//! A batch system as the rest of dagmar sees it: one that takes a script, knows jobs and ends them.
//!
//! The types here say the same of Slurm, of PBS and of a plain machine. What each system prints, and
//! how it is asked, is behind the trait. Nothing here decides when to ask: see `poll`.

mod batch_error;
mod commands;
mod job_end;
mod job_state;
mod job_view;
#[cfg(test)]
pub(crate) mod pretend;
pub(crate) mod printed;
mod reason;
mod runner;
#[cfg(test)]
mod strange_answers;
mod submission;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::local::Local;
use super::pbs::Pbs;
use super::slurm::Slurm;

pub use batch_error::BatchError;
pub use commands::Commands;
pub use job_end::JobEnd;
pub use job_state::JobState;
pub use job_view::JobView;
pub use reason::Reason;
pub use runner::{Answer, Runner};
pub use submission::{Submitted, submit_once};

/// The variable by which a PBS job carries its mark. Slurm's carry it as their comment.
pub const MARK_VARIABLE: &str = "DAGMAR_SUBMISSION";

/// Something that takes scripts and makes jobs of them.
pub trait BatchSystem: Send + Sync {
    /// Which one it is.
    fn system(&self) -> System;

    /// Hands over a script and returns its job. The script itself carries `mark`, unless `link` does.
    /// An ambiguous error means that the job may exist all the same: see `submit_once`.
    fn submit(&self, script: &Path, mark: &str, link: Option<&Link>) -> Result<JobId, BatchError>;

    /// The job of this user that carries `mark`, whether it waits, runs or, where the system still
    /// knows it, has ended.
    fn find(&self, mark: &str) -> Result<Option<JobId>, BatchError>;

    /// What the system knows of each of these jobs, in as few questions as it allows. Every id is in
    /// the answer: one that no source knows is `JobState::Vanished`, which is never a success.
    fn jobs(&self, ids: &[JobId]) -> Result<BTreeMap<JobId, JobView>, BatchError>;

    /// Ends a job, waiting or running. One that has ended or that nobody knows is an error that says
    /// so: `BatchError::NoSuchJob` or `BatchError::AlreadyEnded`.
    fn cancel(&self, id: &JobId) -> Result<(), BatchError>;

    /// Asks whether the script would be taken, without submitting it. `None` where the system has no
    /// such question.
    fn test(&self, script: &Path) -> Option<Result<String, BatchError>>;

    /// How many jobs this user has that have not ended, for a site's limit on them.
    fn queued_jobs(&self) -> Result<usize, BatchError>;

    /// The names of the queues that jobs can be sent to.
    fn queues(&self) -> Result<Vec<String>, BatchError>;
}

/// How a further job of a chain is tied to the one before it. It is said beside the script, and wins over
/// what the script says: the same script serves all jobs of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The job whose end it waits for, whatever that end is.
    pub after: JobId,
    /// What carries the job's own mark: a comment for Slurm, a list of variables for PBS.
    pub carrier: String,
}

/// The batch system of this kind, whose commands are called as `commands` says. `directory` is the
/// run's: where there is no batch system, the files in it are all that is known of a job.
pub fn open(system: System, commands: Commands, directory: &Path) -> Box<dyn BatchSystem> {
    match system {
        System::Slurm => Box::new(Slurm::new(commands)),
        System::Pbs => Box::new(Pbs::new(commands)),
        System::Torque => Box::new(Pbs::torque(commands)),
        System::Local => Box::new(Local::new(directory)),
    }
}

/// The batch systems that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Slurm.
    Slurm,
    /// OpenPBS and PBS Pro.
    Pbs,
    /// Torque, whose commands are older cousins of PBS's.
    Torque,
    /// No batch system: this machine.
    Local,
}

impl System {
    /// Its name in templates and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            System::Slurm => "slurm",
            System::Pbs => "pbs",
            System::Torque => "torque",
            System::Local => "local",
        }
    }

    /// The one with this name.
    pub fn of_name(name: &str) -> Option<System> {
        let known = [System::Slurm, System::Pbs, System::Torque, System::Local];
        known.into_iter().find(|system| system.name() == name)
    }

    /// Its name in a sentence.
    pub const fn title(self) -> &'static str {
        match self {
            System::Slurm => "Slurm",
            System::Pbs => "PBS",
            System::Torque => "Torque",
            System::Local => "this machine",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.title())
    }
}

/// The longest id that is taken for one.
const ID_LENGTH_MAX: usize = 256;

/// A job, in the words of its batch system: `123`, `123;cluster`, `14_2`, `7[].server`, `pid.start`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId(String);

impl JobId {
    /// An id, if `text` can be one. Ids become words of commands, so nothing that a program could
    /// take for an option, and nothing that a terminal or a shell takes for an order, passes.
    pub fn new(text: impl Into<String>) -> Option<JobId> {
        let text = text.into();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-[]+;@:%,".contains(&byte);
        let starts_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
        let is_id = starts_well && text.len() <= ID_LENGTH_MAX && text.bytes().all(is_allowed);
        is_id.then_some(JobId(text))
    }

    /// The id as the batch system wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if both name one job of the same batch system: the server or the cluster behind the number may be
    /// longer in one place than in another, or left out.
    pub fn is_same_as(&self, other: &JobId) -> bool {
        fn number(id: &JobId) -> &str {
            id.0.split(['.', ';', '@']).next().unwrap_or_default()
        }
        number(self) == number(other)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl TryFrom<String> for JobId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        JobId::new(text.as_str()).ok_or_else(|| format!("`{}` is no job id", text.escape_debug()))
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> String {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_all_systems_are_ids() {
        for text in
            ["123", "123;cluster-a", "24_2", "24_[3-4%1]", "12+1", "7.pbs", "7[].pbs-1.site.org", "9.88"]
        {
            assert_eq!(JobId::new(text).map(String::from).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_a_command_could_misunderstand_is_no_id() {
        let long = "1".repeat(ID_LENGTH_MAX + 1);
        for text in ["", "-u", "--me", "1 2", "1\n2", "1$(x)", "1`x`", "1'", "é1", "x", "1é", &long] {
            assert_eq!(JobId::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_job_is_the_same_whatever_is_said_behind_its_number() {
        let same = |one: &str, other: &str| JobId::new(one).unwrap().is_same_as(&JobId::new(other).unwrap());
        assert!(same("7.pbs", "7.pbs.site.org") && same("7;alpha", "7") && same("7[].pbs", "7[].pbs"));
        assert!(!same("7", "71") && !same("7[].pbs", "7.pbs"));
    }

    #[test]
    fn an_id_is_a_plain_string_in_files() {
        let id = JobId::new("7[].pbs").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"7[].pbs\"");
        assert_eq!(serde_json::from_str::<JobId>("\"7[].pbs\"").unwrap(), id);
        assert!(serde_json::from_str::<JobId>("\"-u root\"").is_err());
    }
}
