//! The batch job that a run was handed to, asked about from wherever the user is.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::batch::{
    BatchError, BatchSystem, Commands, JobEnd, JobId, JobState, JobView, System, open,
};
use crate::record::layout::RunDirectory;
use crate::record::outcome::Finished;
use crate::record::submission::Submission;
use crate::runtime::exit;

use super::failure::Failure;

/// The longest time between a submission's record and its answer: the command's bound, and the looks for
/// a job whose answer was lost.
const SUBMISSION_MAX: Duration = Duration::from_secs(100);

/// The batch job of a run, and whom to ask about it.
pub struct RunJob {
    submission: Submission,
    /// True if the record is so young that its writer may still wait for the answer.
    is_fresh: bool,
    system: Box<dyn BatchSystem>,
}

impl RunJob {
    /// The job of a run; `None` for a run that was started by hand.
    pub fn of(directory: &RunDirectory) -> Result<Option<Self>, Failure> {
        let submission = Submission::read(&directory.submission());
        let submission = submission.map_err(|error| Failure::broken(error.to_string()))?;
        submission.map(|submission| Self::new(submission, directory)).transpose()
    }

    fn new(submission: Submission, directory: &RunDirectory) -> Result<Self, Failure> {
        let system = System::of_name(&submission.system);
        let system = system.ok_or_else(|| {
            Failure::broken(format!(
                "`batch.toml` names no batch system that is known: `{}`",
                submission.system
            ))
        })?;
        let clusters = submission.clusters.clone();
        let commands = Commands { clusters, ..Commands::of_record(&submission.commands) };
        let system = open(system, commands, directory.path());
        let is_fresh = age(&directory.submission()).is_none_or(|age| age < SUBMISSION_MAX);
        Ok(RunJob { submission, is_fresh, system })
    }

    /// The system that has the job.
    pub fn system(&self) -> &dyn BatchSystem {
        &*self.system
    }

    /// The job's id. One whose submission was cut off is looked up by its mark; `None` if there is no
    /// such job.
    pub fn id(&self) -> Result<Option<JobId>, BatchError> {
        match self.submission.jobs.last().and_then(JobId::new) {
            Some(id) => Ok(Some(id)),
            None => self.system.find(&self.submission.mark),
        }
    }

    /// How the job stands.
    pub fn look(&self) -> Look {
        let Some(id) = self.id()? else {
            let underway = BatchError::Underway { system: self.system.system() };
            return if self.is_fresh { Err(underway) } else { Ok(None) };
        };
        let mut views = self.system.jobs(std::slice::from_ref(&id))?;
        Ok(views.remove(&id).map(|view| (id, view)))
    }
}

/// How old a file is.
fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    Some(clock::now().since(Timestamp(Micros::from(since).0)).into())
}

/// What the batch system says of a run's job.
pub type Look = Result<Option<(JobId, JobView)>, BatchError>;

/// True if the job is surely over, or was never there.
pub fn is_over(look: &Look) -> bool {
    match look {
        Ok(Some((_, view))) => view.state.is_final(),
        Ok(None) => true,
        Err(_) => false,
    }
}

/// True if a run that ended like this may go on: it was stopped only, and its job is not over, as when
/// it is queued again.
pub fn goes_on(finished: &Finished, look: Option<&Look>) -> bool {
    finished.exit_code == exit::STOPPED && look.is_some_and(|look| !is_over(look))
}

/// What could be learned of a run's job, in one line: `job 12 of Slurm is queued: Resources (...)`.
pub fn sentence(job: &RunJob, look: &Look) -> String {
    let title = job.system().system();
    match look {
        Ok(Some((id, view))) => format!("job {id} of {title} {}{}", view.state, details(view)),
        Ok(None) => format!("it was not submitted: {title} has no job with its mark"),
        Err(error) => format!("its job cannot be asked about: {error}"),
    }
}

fn details(view: &JobView) -> String {
    let mut text = String::new();
    if let Some(reason) = view.reason.as_ref().filter(|_| !view.state.has_nodes()) {
        text += &format!(": {reason}");
        if let Some(advice) = &reason.advice {
            text += &format!("; {advice}");
        }
    }
    if let Some(nodes) = view.nodes.as_ref().filter(|_| view.state.has_nodes()) {
        text += &format!(" on {nodes}");
    }
    if let Some(left) = view.time_left.filter(|_| view.state.has_nodes()) {
        text += &format!(", {} left", whole_seconds(left));
    }
    text
}

fn whole_seconds(span: Micros) -> String {
    humantime::format_duration(std::time::Duration::from_secs(span.0 / 1_000_000)).to_string()
}

/// The same for programs.
pub fn to_json(job: &RunJob, look: &Look) -> Value {
    let system = job.system().system().name();
    match look {
        Ok(Some((id, view))) => json!({ "system": system, "id": id.as_str(), "view": view }),
        Ok(None) => json!({ "system": system, "id": null }),
        Err(error) => json!({ "system": system, "error": error.to_string() }),
    }
}

/// The exit code of a run that says nothing of its end, if its job is surely over.
pub fn code_of_loss(look: &Look) -> Option<u8> {
    match look {
        Ok(Some((_, view))) if view.state.is_final() => Some(code_of_end(&view.state)),
        Ok(None) => Some(exit::RANK_LOST),
        _ => None,
    }
}

/// The exit code of a run whose job is over although the run says nothing of its end.
pub fn code_of_end(state: &JobState) -> u8 {
    let JobState::Ended(end) = state else { return exit::RANK_LOST };
    match end {
        // It says that all is well, and nothing is there.
        JobEnd::Completed => exit::BROKEN,
        JobEnd::Failed { exit_code } => match u8::try_from(*exit_code) {
            Ok(code @ (exit::BROKEN | exit::USAGE | exit::STOPPED | exit::REFUSED | exit::INTERRUPTED)) => {
                code
            }
            _ => exit::RANK_LOST,
        },
        JobEnd::Cancelled => exit::INTERRUPTED,
        JobEnd::WalltimeReached | JobEnd::Preempted => exit::STOPPED,
        JobEnd::NeverStarted { .. } => exit::REFUSED,
        JobEnd::Killed { .. }
        | JobEnd::OutOfMemory
        | JobEnd::LimitExceeded { .. }
        | JobEnd::NodeLost
        | JobEnd::Unclear { .. } => exit::RANK_LOST,
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        let hint = error.hint();
        Failure {
            causes: error.cause().into_iter().collect(),
            ..Failure::new(exit::REFUSED, error.to_string())
        }
        .hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_left_no_outcome_is_never_a_success() {
        let ends = [
            JobEnd::Completed,
            JobEnd::Failed { exit_code: 0 },
            JobEnd::Failed { exit_code: 3 },
            JobEnd::Killed { signal: 9 },
            JobEnd::Cancelled,
            JobEnd::WalltimeReached,
            JobEnd::NodeLost,
            JobEnd::NeverStarted { reason: "x".into() },
        ];
        let codes: Vec<u8> = ends.map(|end| code_of_end(&JobState::Ended(end))).to_vec();
        assert_eq!(codes, [1, 5, 5, 5, 130, 4, 5, 6]);
        assert_eq!(code_of_end(&JobState::Vanished), 5);
    }
}
