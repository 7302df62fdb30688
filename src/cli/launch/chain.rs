//! The other jobs that a run was handed to: which of them are over for sure, and when nobody needs those
//! that are still to come.
//!
//! Compute nodes often may not talk to the batch system. What is cancelled from here is a kindness to the
//! queue: a job that comes although nobody needs it finds that out by itself, and ends at once.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::launch::allocation::Allocation;
use crate::launch::batch::{self, BatchError, BatchSystem, Commands, JobId, JobState, System};
use crate::record::layout::RunDirectory;
use crate::record::publish::publish;
use crate::record::submission::Submission;

use super::super::output::tell;

/// How long a question to the batch system may take: the allocation may be about to end.
const TIME_LIMIT: Duration = Duration::from_secs(15);

/// The jobs of a run, as one of them sees the others.
pub(super) struct Chain<'a> {
    directory: &'a RunDirectory,
    /// This job; `None` outside of a batch system's.
    job: Option<(System, JobId)>,
}

impl<'a> Chain<'a> {
    /// The jobs of a run, seen from this allocation.
    pub fn new(directory: &'a RunDirectory, allocation: Option<&Allocation>) -> Self {
        let job = allocation.map(|allocation| (allocation.system, allocation.id.clone()));
        Chain { directory, job }
    }

    /// True if another job was submitted before this one.
    pub fn is_further_job(&self) -> bool {
        self.jobs_and_place().is_some_and(|(_, place)| place > 0)
    }

    /// True if the run is handed to several jobs. That is known before any of them begins.
    pub fn is_of_several(&self) -> bool {
        self.submission().is_some_and(|submission| submission.chain > 1)
    }

    /// True if jobs follow this one.
    pub fn has_more(&self) -> bool {
        let planned = self.submission().map_or(0, |submission| submission.chain as usize);
        self.jobs_and_place().is_some_and(|(_, place)| place + 1 < planned)
    }

    /// True if a job is over for sure. One that was submitted earlier is: otherwise this one would not have
    /// begun.
    pub fn is_over(&self, job: &str) -> bool {
        let Some(id) = JobId::new(job) else { return false };
        let is_earlier =
            |(jobs, place): (Vec<JobId>, usize)| jobs[..place].iter().any(|one| one.is_same_as(&id));
        self.jobs_and_place().is_some_and(is_earlier) || self.has_ended(&id)
    }

    fn has_ended(&self, id: &JobId) -> bool {
        let looked = self.system().and_then(|system| system.jobs(std::slice::from_ref(id)).ok());
        looked.is_some_and(|views| views.values().any(|view| matches!(view.state, JobState::Ended(_))))
    }

    /// The earlier job in which the run got nowhere, so that this one need not try.
    pub fn gave_up(&self) -> Option<JobId> {
        let job = fs::read_to_string(self.mark_of_vanity()).ok().and_then(|text| JobId::new(text.trim()))?;
        let (jobs, place) = self.jobs_and_place()?;
        jobs[..place].iter().any(|one| one.is_same_as(&job)).then_some(job)
    }

    /// The run got nowhere in this job: it would not in a later one.
    pub fn give_up(&self) {
        let Some((_, id)) = &self.job else { return };
        if let Err(error) = publish(&self.mark_of_vanity(), id.as_str().as_bytes()) {
            log::warn!("cannot tell later jobs that the run gets nowhere: {error}");
        }
        tell(&format!("no task has ended in job {id}, so none would in a further one"));
        self.cancel_later();
    }

    /// Takes back the jobs that wait for this one, the last one first: none is to begin because the one before
    /// has ended.
    pub fn cancel_later(&self) {
        let Some((jobs, place)) = self.jobs_and_place() else { return };
        let Some(system) = self.system().filter(|_| place + 1 < jobs.len()) else { return };
        let mut cancelled = Vec::new();
        for id in jobs[place + 1..].iter().rev() {
            match system.cancel(id) {
                Ok(()) => cancelled.push(id.as_str()),
                Err(BatchError::AlreadyEnded { .. } | BatchError::NoSuchJob { .. }) => {}
                Err(error) => {
                    log::warn!("job {id} cannot be cancelled and will end by itself: {error}");
                    break;
                }
            }
        }
        cancelled.reverse();
        match cancelled[..] {
            [] => {}
            [id] => tell(&format!("job {id}, which is not needed any more, is cancelled")),
            _ => {
                tell(&format!("jobs {}, which are not needed any more, are cancelled", cancelled.join(", ")))
            }
        }
    }

    /// All jobs that are known, and which of them this is.
    fn jobs_and_place(&self) -> Option<(Vec<JobId>, usize)> {
        let (_, id) = self.job.as_ref()?;
        let jobs: Vec<JobId> = self.submission()?.jobs.iter().filter_map(JobId::new).collect();
        let place = jobs.iter().position(|one| one.is_same_as(id))?;
        Some((jobs, place))
    }

    /// Read each time: `submit` may be still at work.
    fn submission(&self) -> Option<Submission> {
        Submission::read(&self.directory.submission()).ok().flatten()
    }

    fn system(&self) -> Option<Box<dyn BatchSystem>> {
        let (system, _) = self.job.as_ref()?;
        let recorded = self.submission().map(|submission| submission.commands).unwrap_or_default();
        let commands = Commands { time_limit: TIME_LIMIT, ..Commands::of_record(&recorded) };
        Some(batch::open(*system, commands, self.directory.path()))
    }

    fn mark_of_vanity(&self) -> PathBuf {
        self.directory.control().join("got-nowhere")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;

    fn chain<'a>(directory: &'a RunDirectory, job: &str) -> Chain<'a> {
        Chain { directory, job: Some((System::Pbs, JobId::new(job).unwrap())) }
    }

    fn run() -> (tempfile::TempDir, RunDirectory) {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::initialise(folder.path()).unwrap();
        let mut submission = Submission::new("pbs", "mysite", "mark", Timestamp(0));
        submission.chain = 3;
        submission.jobs = ["7.pbs", "8.pbs", "9.pbs"].map(str::to_owned).to_vec();
        // No such program: nobody can be asked from a node.
        submission.commands.insert("status".into(), vec!["/nonexistent/qstat".into()]);
        submission.commands.insert("cancel".into(), vec!["/nonexistent/qdel".into()]);
        submission.write(&directory.submission()).unwrap();
        (folder, directory)
    }

    #[test]
    fn a_job_knows_its_place_in_the_chain() {
        let (_folder, directory) = run();
        let [first, second, last] = ["7.pbs.site.org", "8", "9.pbs"].map(|id| chain(&directory, id));
        assert!(!first.is_further_job() && second.is_further_job() && last.is_further_job());
        assert!(first.has_more() && second.has_more() && !last.has_more());
        assert!(second.is_over("7.pbs") && !second.is_over("8.pbs") && !second.is_over("9.pbs"));
        let stranger = chain(&directory, "10.pbs");
        assert!(!stranger.is_further_job() && !stranger.has_more() && !stranger.is_over("7.pbs"));
    }

    #[test]
    fn later_jobs_hear_that_the_run_gets_nowhere_even_if_they_cannot_be_cancelled() {
        let (_folder, directory) = run();
        assert_eq!(chain(&directory, "8.pbs").gave_up(), None);
        chain(&directory, "8.pbs").give_up();
        assert_eq!(chain(&directory, "9.pbs").gave_up().map(String::from).as_deref(), Some("8.pbs"));
        assert_eq!(chain(&directory, "8.pbs").gave_up(), None, "it may be queued again");
        assert_eq!(chain(&directory, "12.pbs").gave_up(), None, "somebody tries again");
    }
}
