//! Keeps an eye on a run's batch jobs while somebody waits for the run.
//!
//! Whoever waits looks at the run directory; this asks the batch system, rarely, and notices that no
//! job is left although the run has not said that it is over.

use serde_json::{Value, json};

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::batch::JobState;
use crate::launch::poll::Poller;
use crate::record::layout::RunDirectory;

use super::failure::Failure;
use super::run_job::{self, RunJob, Views};

/// How long after the end of a job its last files may take to be seen from here.
const SIGHT_OF_FILES: Micros = Micros::from_secs(10);

/// A run's jobs, asked about until they are over.
pub struct JobWatch {
    directory: RunDirectory,
    /// None for a run that was started by hand.
    job: Option<RunJob>,
    poller: Poller,
    /// True once its end is near.
    is_ending: bool,
    /// What the job was last, so that only news are told.
    known: String,
    /// Since when no job is left.
    over: Option<(Timestamp, Views)>,
}

impl JobWatch {
    /// Watches the job of a run, if it has one.
    pub fn new(directory: &RunDirectory) -> Result<Self, Failure> {
        let job = RunJob::of(directory)?;
        let poller = Poller::new(clock::now());
        let directory = directory.clone();
        Ok(JobWatch { directory, job, poller, is_ending: false, known: String::new(), over: None })
    }

    /// True if the run was handed to a batch system.
    pub fn has_job(&self) -> bool {
        self.job.is_some()
    }

    /// True if no job was seen to be left.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// True if no job is left, and there was time to see whatever it left.
    pub fn is_long_over(&self) -> bool {
        self.over.as_ref().is_some_and(|(since, _)| clock::now().since(*since) > SIGHT_OF_FILES)
    }

    /// The run has ended, so its job will soon: it is asked about more often again.
    pub fn expect_end(&mut self) {
        if !std::mem::replace(&mut self.is_ending, true) {
            self.poller = Poller::new(clock::now());
        }
    }

    /// Asks the batch system, if it is time, and returns what is new: a sentence.
    pub fn ask(&mut self) -> Result<Option<String>, Failure> {
        if self.over.is_some() || !self.poller.is_due(clock::now()) {
            return Ok(None);
        }
        if self.job.as_ref().is_some_and(|job| !job.is_whole()) {
            // More may have been submitted.
            self.job = RunJob::of(&self.directory)?;
        }
        let Some(job) = &self.job else { return Ok(None) };
        let look = job.look();
        let timeless = look.as_ref().map(Views::timeless).map_err(Clone::clone);
        let standing = run_job::sentence(job, &timeless);
        let news = (standing != self.known).then(|| run_job::sentence(job, &look));
        self.known = standing;
        let is_over = run_job::is_over(&look);
        match look {
            Ok(views) => {
                self.poller.on_answer(clock::now(), news.is_some());
                self.over = is_over.then(|| (clock::now(), views));
            }
            Err(error) => {
                // Told once. The run directory alone says how the run ends, so nobody gives up.
                self.poller.on_failure(clock::now(), &error);
            }
        }
        Ok(news)
    }

    /// What is to be told of a run whose job is over although the run says nothing of its end.
    pub fn loss(&self, directory: &RunDirectory) -> Failure {
        let end = self.over.as_ref().and_then(|(_, views)| views.telling());
        let why = match end {
            Some((id, view)) => format!("job {id} {}", view.state),
            None => "its job is not there".to_owned(),
        };
        let exit_code = run_job::code_of_end(end.map_or(&JobState::Vanished, |(_, view)| &view.state));
        let failure = Failure::new(exit_code, format!("`{}` left no outcome: {why}", directory.name()));
        failure.hint(hint(directory))
    }

    /// The last that was said of the job, for programs.
    pub fn end_to_json(&self) -> Value {
        json!(self.over.as_ref().and_then(|(_, views)| views.telling()).map(|(_, view)| view))
    }
}

/// What was printed may have gone elsewhere: not every batch system heeds where the script wants it.
fn hint(directory: &RunDirectory) -> String {
    let output = directory.batch_output();
    match output.exists() {
        true => format!("what it printed: `{}`", output.display()),
        false => format!("it printed nothing into `{}`; the batch system may know more", output.display()),
    }
}
