//! What can go wrong between us and a batch system.

use std::fmt;

use crate::core::time::Micros;

use super::{JobId, System};

/// What went wrong between us and a batch system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The command could not be started here.
    NoCommand {
        /// Whose command it is.
        system: System,
        /// The program.
        command: String,
        /// Why it could not be started.
        why: String,
    },
    /// The system said no.
    Refused {
        /// Who.
        system: System,
        /// The program that was asked.
        command: String,
        /// How the program ended: `exited with 1`.
        exit: String,
        /// The system's own words.
        words: String,
        /// What to do, where the words are known.
        hint: Option<String>,
    },
    /// The program reached nobody, or lost the answer: it may have been heard.
    Unreachable {
        /// Who did not answer.
        system: System,
        /// The program that was asked.
        command: String,
        /// Its own words.
        words: String,
    },
    /// The program did not end in time and was killed: it may have been heard.
    NoAnswer {
        /// Who did not answer.
        system: System,
        /// The program that was asked.
        command: String,
        /// How long we waited.
        after: Micros,
    },
    /// The program said yes, but not what was expected.
    NotUnderstood {
        /// Who.
        system: System,
        /// The program that was asked.
        command: String,
        /// The beginning of what it printed.
        output: String,
    },
    /// It is unknown whether the script was taken: the answer is lost, and so is the look for it.
    Uncertain {
        /// Who.
        system: System,
        /// What the job carries if it exists.
        mark: String,
        /// How the answer was lost.
        cause: Box<BatchError>,
    },
    /// The job is being submitted just now; nobody knows its id yet.
    Underway {
        /// Who is asked for it.
        system: System,
    },
    /// The system does not know the job.
    NoSuchJob {
        /// Who.
        system: System,
        /// The job.
        id: JobId,
    },
    /// The job has ended before.
    AlreadyEnded {
        /// Who.
        system: System,
        /// The job.
        id: JobId,
    },
    /// A file that a machine without a batch system needs: what was tried, and why it failed.
    File(String, String),
}

impl BatchError {
    /// True if what was asked may have been done although no proper answer came.
    pub fn is_ambiguous(&self) -> bool {
        use BatchError::{NoAnswer, NotUnderstood, Uncertain, Unreachable};
        matches!(self, Unreachable { .. } | NoAnswer { .. } | NotUnderstood { .. } | Uncertain { .. })
    }

    /// True if the same question may well be answered later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            BatchError::Unreachable { .. } | BatchError::NoAnswer { .. } | BatchError::Underway { .. }
        )
    }

    /// What is behind it, for a line of its own.
    pub fn cause(&self) -> Option<String> {
        match self {
            BatchError::Refused { command, exit, .. } => Some(format!("`{command}` {exit}")),
            BatchError::Uncertain { cause, .. } => Some(cause.to_string()),
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            BatchError::NoCommand { system, command, .. } => Some(format!(
                "is this a host of the cluster? Load the module that has `{command}`, or name the {system} \
                 commands in the cluster template (`commands.submit = [\"ssh\", \"login\", \"{command}\"]`)"
            )),
            BatchError::Refused { hint, .. } => hint.clone(),
            BatchError::Unreachable { system, .. } | BatchError::NoAnswer { system, .. } => {
                Some(format!("{system} seems to be down or busy: try again in a few minutes"))
            }
            BatchError::NotUnderstood { command, .. } => Some(format!(
                "is `{command}` a wrapper of this site? Name the real command in the cluster template"
            )),
            BatchError::Uncertain { mark, .. } => {
                Some(format!("look for a job marked `{mark}` before you submit again, or two may run"))
            }
            BatchError::Underway { .. }
            | BatchError::NoSuchJob { .. }
            | BatchError::AlreadyEnded { .. }
            | BatchError::File(..) => None,
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::NoCommand { command, why, .. } => write!(out, "cannot run `{command}`: {why}"),
            BatchError::Refused { system, words, .. } => write!(out, "{system} refused: {words}"),
            BatchError::Unreachable { system, words, .. } => {
                write!(out, "{system} cannot be reached: {words}")
            }
            BatchError::NoAnswer { command, after, .. } => {
                write!(out, "`{command}` gave no answer in {after}")
            }
            BatchError::NotUnderstood { command, output, .. } if output.is_empty() => {
                write!(out, "`{command}` printed nothing")
            }
            BatchError::NotUnderstood { command, output, .. } => {
                write!(out, "cannot understand what `{command}` printed: {output}")
            }
            BatchError::Uncertain { system, .. } => {
                write!(out, "nobody knows whether {system} has taken the job")
            }
            BatchError::Underway { system } => write!(out, "{system} is being asked to take it"),
            BatchError::NoSuchJob { system, id } => write!(out, "{system} knows no job `{id}`"),
            BatchError::AlreadyEnded { id, .. } => write!(out, "job `{id}` has ended before"),
            BatchError::File(what, why) => write!(out, "cannot {what}: {why}"),
        }
    }
}

impl std::error::Error for BatchError {}
