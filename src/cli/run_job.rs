//! The batch jobs that a run was handed to, asked about from wherever the user is.
//!
//! Most runs have one. Those of a chain begin one after the other, and each goes on with the run.

use std::collections::BTreeMap;
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

/// The batch jobs of a run, and whom to ask about them.
pub struct RunJob {
    submission: Submission,
    /// True if the record is so young that its writer may still wait for the answer.
    is_fresh: bool,
    system: Box<dyn BatchSystem>,
}

impl RunJob {
    /// The jobs of a run; `None` for a run that was started by hand.
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

    /// True once all jobs are known that there will be.
    pub fn is_whole(&self) -> bool {
        self.submission.is_whole()
    }

    /// The ids of the jobs, in order. One whose submission was cut off is looked up by its mark.
    fn ids(&self) -> Result<Vec<JobId>, BatchError> {
        let mut ids: Vec<JobId> = self.submission.jobs.iter().filter_map(JobId::new).collect();
        if !self.is_whole() {
            ids.extend(self.system.find(&self.submission.mark_of(ids.len()))?);
        }
        Ok(ids)
    }

    /// How the jobs stand.
    pub fn look(&self) -> Look {
        let ids = self.ids()?;
        let mut found = if ids.is_empty() { BTreeMap::new() } else { self.system.jobs(&ids)? };
        let views = ids.into_iter().filter_map(|id| found.remove(&id).map(|view| (id, view)));
        let views = Views(views.collect());
        if views.are_over() && self.is_fresh && !self.is_whole() {
            return Err(BatchError::Underway { system: self.system.system() });
        }
        Ok(views)
    }
}

/// How the jobs of a run stand, in order; none if there never was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Views(Vec<(JobId, JobView)>);

impl Views {
    /// True if all are surely over.
    fn are_over(&self) -> bool {
        self.living().next().is_none()
    }

    /// Those that are not over. The run goes on in the first of them.
    pub fn living(&self) -> impl DoubleEndedIterator<Item = &(JobId, JobView)> {
        self.0.iter().filter(|(_, view)| !view.state.is_final())
    }

    /// The one that tells how the run stands: the first that is not over. Once all are, the last that can have
    /// had a part in how the run ended.
    pub fn telling(&self) -> Option<&(JobId, JobView)> {
        let by_weight = || self.0.iter().max_by_key(|(_, view)| weight(&view.state));
        self.living().next().or_else(by_weight)
    }

    /// Without the time that is left, which differs each time and is no news.
    pub fn timeless(&self) -> Views {
        let timeless = |view: &JobView| JobView { time_left: None, ..view.clone() };
        Views(self.0.iter().map(|(id, view)| (id.clone(), timeless(view))).collect())
    }
}

/// How much the end of a job says of the run's: those that were not needed any more succeed or are cancelled.
fn weight(state: &JobState) -> u32 {
    match state {
        JobState::Ended(JobEnd::Cancelled | JobEnd::NeverStarted { .. }) => 0,
        JobState::Vanished => 1,
        JobState::Ended(JobEnd::Completed) => 2,
        _ => 3,
    }
}

/// How old a file is.
fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    let since = modified.duration_since(UNIX_EPOCH).ok()?;
    Some(clock::now().since(Timestamp(Micros::from(since).0)).into())
}

/// What the batch system says of a run's jobs.
pub type Look = Result<Views, BatchError>;

/// True if all jobs are surely over, or were never there.
pub fn is_over(look: &Look) -> bool {
    look.as_ref().is_ok_and(Views::are_over)
}

/// True if a run that ended like this can go on in a job: it was stopped only, or lost what another
/// allocation has.
pub fn can_go_on(finished: &Finished) -> bool {
    [exit::STOPPED, exit::RANK_LOST].contains(&finished.exit_code)
}

/// True if a run that ended like this may go on by itself: some job of it is not over, as when it is queued
/// again, or the next of a chain.
pub fn goes_on(finished: &Finished, look: Option<&Look>) -> bool {
    can_go_on(finished) && look.is_some_and(|look| !is_over(look))
}

/// What could be learned of a run's job, in one line: `job 12 of Slurm is queued: Resources (...)`.
pub fn sentence(job: &RunJob, look: &Look) -> String {
    let title = job.system().system();
    let view = match look {
        Ok(views) => Ok((views.telling(), views.living().count())),
        Err(error) => Err(error),
    };
    match view {
        Ok((Some((id, view)), 0 | 1)) => format!("job {id} of {title} {}{}", view.state, details(view)),
        Ok((Some((id, view)), living)) => {
            let follow = if living == 2 { "job follows" } else { "jobs follow" };
            format!("job {id} of {title} {}{}; {} {follow}", view.state, details(view), living - 1)
        }
        Ok((None, _)) => format!("it was not submitted: {title} has no job with its mark"),
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
    let views = match look {
        Ok(views) => views,
        Err(error) => return json!({ "system": system, "error": error.to_string() }),
    };
    let Some((id, view)) = views.telling() else { return json!({ "system": system, "id": null }) };
    let jobs = views.0.iter().map(|(id, view)| json!({ "id": id.as_str(), "view": view }));
    json!({ "system": system, "id": id.as_str(), "view": view, "jobs": jobs.collect::<Vec<_>>() })
}

/// The exit code of a run that says nothing of its end, if its jobs are surely over.
pub fn code_of_loss(look: &Look) -> Option<u8> {
    let views = look.as_ref().ok().filter(|views| views.are_over())?;
    Some(views.telling().map_or(exit::RANK_LOST, |(_, view)| code_of_end(&view.state)))
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

    fn views(states: &[JobState]) -> Views {
        let view = |(place, state): (usize, &JobState)| {
            (JobId::new((place + 1).to_string()).unwrap(), JobView::new(state.clone()))
        };
        Views(states.iter().enumerate().map(view).collect())
    }

    fn telling(states: &[JobState]) -> String {
        let views = views(states);
        let (id, _) = views.telling().unwrap();
        format!("{id}, {}", if views.are_over() { "over" } else { "goes on" })
    }

    #[test]
    fn a_chain_stands_where_its_first_job_stands_that_is_not_over() {
        let ended = |end| JobState::Ended(end);
        let failed = || ended(JobEnd::Failed { exit_code: 4 });
        assert_eq!(telling(&[JobState::Running, JobState::Held, JobState::Held]), "1, goes on");
        assert_eq!(telling(&[failed(), JobState::Held, JobState::Held]), "2, goes on");
        assert_eq!(telling(&[JobState::Vanished, failed(), JobState::Queued]), "3, goes on");
        assert!(views(&[]).telling().is_none() && views(&[]).are_over());
    }

    #[test]
    fn a_chain_ended_as_the_last_job_did_that_had_a_part_in_it() {
        let ended = |end| JobState::Ended(end);
        let failed = || ended(JobEnd::Failed { exit_code: 5 });
        assert_eq!(telling(&[failed(), ended(JobEnd::NodeLost), ended(JobEnd::Cancelled)]), "2, over");
        assert_eq!(telling(&[failed(), ended(JobEnd::Completed), JobState::Vanished]), "1, over");
        assert_eq!(telling(&[JobState::Vanished, ended(JobEnd::Cancelled)]), "1, over");
        assert_eq!(telling(&[ended(JobEnd::Cancelled), ended(JobEnd::Cancelled)]), "2, over");
        assert_eq!(code_of_loss(&Ok(views(&[failed(), ended(JobEnd::Cancelled)]))), Some(5));
        assert_eq!(code_of_loss(&Ok(views(&[failed(), JobState::Held]))), None);
    }

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
