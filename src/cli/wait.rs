//! `dagmar wait`: sleeps until a run is over, and ends with its exit code.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::record::layout::RunDirectory;
use crate::record::outcome::Finished;

use super::CommandResult;
use super::failure::Failure;
use super::flags::WaitFlags;
use super::job_watch::JobWatch;
use super::output::{Format, Page, tell};
use super::past_run::PastRun;
use super::run_job;

/// How often the run directory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits for a run.
pub fn run(flags: &WaitFlags) -> CommandResult {
    let directory = PastRun::directory(flags.run.as_deref())?;
    let mut wait = Wait { job: JobWatch::new(&directory)?, directory, flags };
    loop {
        let finished = wait.finished()?;
        if let Some(finished) = finished.as_ref().filter(|finished| !wait.may_go_on(finished)) {
            return wait.tell_outcome(finished);
        }
        if finished.is_some() {
            wait.job.expect_end();
        }
        wait.ask()?;
        match finished {
            // What the last of its jobs made of the run may be newer than what was read.
            Some(finished) if wait.job.is_over() => {
                return wait.tell_outcome(&wait.finished()?.unwrap_or(finished));
            }
            None if wait.job.is_long_over() => return wait.tell_loss(),
            _ => thread::sleep(LOOK_EVERY),
        }
    }
}

struct Wait<'a> {
    directory: RunDirectory,
    flags: &'a WaitFlags,
    job: JobWatch,
}

impl Wait<'_> {
    fn finished(&self) -> Result<Option<Finished>, Failure> {
        Finished::read(&self.directory.finished()).map_err(|error| Failure::broken(error.to_string()))
    }

    /// True if the run was cut off only: its job may be queued again, or another one may go on with it, and
    /// then the run is not over.
    fn may_go_on(&self, finished: &Finished) -> bool {
        run_job::can_go_on(finished) && self.job.has_job()
    }

    fn ask(&mut self) -> Result<(), Failure> {
        if let Some(news) = self.job.ask()?.filter(|_| !self.flags.quiet) {
            tell(&format!("{}: {news}", self.directory.name()));
        }
        Ok(())
    }

    fn tell_outcome(&self, finished: &Finished) -> CommandResult {
        let name = self.directory.name();
        match self.flags.output {
            Format::Json => {
                Page::open().json(&json!({ "run": name, "exit_code": finished.exit_code, "over": true }))?;
            }
            Format::Human if self.flags.quiet => {}
            Format::Human => tell(&format!(
                "{name} is over: {} finished, {} failed; exit code {}",
                finished.finished, finished.failed, finished.exit_code
            )),
        }
        Ok(finished.exit_code)
    }

    fn tell_loss(&self) -> CommandResult {
        let loss = self.job.loss(&self.directory);
        if self.flags.output == Format::Human {
            return Err(loss);
        }
        let (name, job) = (self.directory.name(), self.job.end_to_json());
        Page::open().json(&json!({ "run": name, "exit_code": loss.exit_code, "over": false, "job": job }))?;
        Ok(loss.exit_code)
    }
}
