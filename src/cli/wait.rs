//! `dagmar wait`: sleeps until a run is over, and ends with its exit code.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::batch::{JobId, JobState, JobView};
use crate::launch::poll::{Poller, Verdict};
use crate::record::layout::RunDirectory;
use crate::record::outcome::Finished;
use crate::runtime::exit;

use super::CommandResult;
use super::failure::Failure;
use super::flags::WaitFlags;
use super::output::{Format, Page, tell};
use super::past_run::PastRun;
use super::run_job::{self, RunJob};

/// How often the run directory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long after the end of a job its last files may take to be seen from here.
const SIGHT_OF_FILES: Micros = Micros::from_secs(10);

/// Waits for a run.
pub fn run(flags: &WaitFlags) -> CommandResult {
    let directory = PastRun::directory(flags.run.as_deref())?;
    let mut wait = Wait::new(directory, flags)?;
    loop {
        let finished = wait.finished()?;
        if let Some(finished) = finished.as_ref().filter(|finished| !wait.may_go_on(finished)) {
            return wait.tell_outcome(finished);
        }
        wait.ask()?;
        match finished {
            Some(finished) if wait.over.is_some() => return wait.tell_outcome(&finished),
            None if wait.is_lost() => return wait.tell_loss(),
            _ => thread::sleep(LOOK_EVERY),
        }
    }
}

struct Wait<'a> {
    directory: RunDirectory,
    flags: &'a WaitFlags,
    job: Option<RunJob>,
    poller: Poller,
    /// What was said last, so that nothing is said twice.
    told: String,
    /// Since when the job is over.
    over: Option<(Timestamp, Option<(JobId, JobView)>)>,
}

impl<'a> Wait<'a> {
    fn new(directory: RunDirectory, flags: &'a WaitFlags) -> Result<Self, Failure> {
        let job = RunJob::of(&directory)?;
        let poller = Poller::new(clock::now());
        Ok(Wait { directory, flags, job, poller, told: String::new(), over: None })
    }

    fn finished(&self) -> Result<Option<Finished>, Failure> {
        Finished::read(&self.directory.finished()).map_err(|error| Failure::broken(error.to_string()))
    }

    /// True if the run was stopped only: its job may be queued again, and then the run is not over.
    fn may_go_on(&self, finished: &Finished) -> bool {
        finished.exit_code == exit::STOPPED && self.job.is_some()
    }

    /// True if the job is over, and the run has not said a word although there was time to see it.
    fn is_lost(&self) -> bool {
        self.over.as_ref().is_some_and(|(since, _)| clock::now().since(*since) > SIGHT_OF_FILES)
    }

    /// Asks the batch system, if it is time.
    fn ask(&mut self) -> Result<(), Failure> {
        let now = clock::now();
        if self.over.is_some() {
            return Ok(());
        }
        let Some(job) = self.job.as_ref().filter(|_| self.poller.is_due(now)) else { return Ok(()) };
        let look = job.look();
        let sentence = run_job::sentence(job, &look);
        let is_new = sentence != self.told;
        if !self.flags.quiet && is_new {
            tell(&format!("{}: {sentence}", self.directory.name()));
        }
        self.told = sentence;
        match look {
            Ok(view) => {
                self.poller.on_answer(clock::now(), is_new);
                if view.as_ref().is_none_or(|(_, view)| view.state.is_final()) {
                    self.over = Some((clock::now(), view));
                }
            }
            Err(error) => {
                if self.poller.on_failure(clock::now(), &error) == Verdict::GiveUp {
                    return Err(error.into());
                }
            }
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
        let end = self.over.as_ref().and_then(|(_, end)| end.as_ref());
        let state = end.map_or(&JobState::Vanished, |(_, view)| &view.state);
        let exit_code = run_job::code_of_end(state);
        let name = self.directory.name();
        if self.flags.output == Format::Json {
            let view = end.map(|(_, view)| view);
            let said = json!({ "run": name, "exit_code": exit_code, "over": false, "job": view });
            Page::open().json(&said)?;
            return Ok(exit_code);
        }
        let why = match end {
            Some((id, view)) => format!("job {id} {}", view.state),
            None => "its job is not there".to_owned(),
        };
        let hint = format!("what it printed: `{}`", self.directory.batch_output().display());
        Err(Failure::new(exit_code, format!("`{name}` left no outcome: {why}")).hint(hint))
    }
}
