//! Keeps an eye on a run's batch job while somebody waits for the run.
//!
//! Whoever waits looks at the run directory; this asks the batch system, rarely, and notices that the
//! job is over although the run has not said so.

use serde_json::{Value, json};

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::batch::{JobId, JobState, JobView};
use crate::launch::poll::Poller;
use crate::record::layout::RunDirectory;

use super::failure::Failure;
use super::run_job::{self, Look, RunJob};

/// How long after the end of a job its last files may take to be seen from here.
const SIGHT_OF_FILES: Micros = Micros::from_secs(10);

/// A run's job, asked about until it is over.
pub struct JobWatch {
    directory: RunDirectory,
    /// None for a run that was started by hand.
    job: Option<RunJob>,
    poller: Poller,
    /// True once its end is near.
    is_ending: bool,
    /// What the job was last, so that only news are told.
    known: String,
    /// Since when the job is over.
    over: Option<(Timestamp, Option<(JobId, JobView)>)>,
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

    /// True if the job was seen to be over.
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// True if the job is over, and there was time to see whatever it left.
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
        let is_due = self.over.is_none() && self.poller.is_due(clock::now());
        let Some(job) = self.job.as_ref().filter(|_| is_due) else { return Ok(None) };
        let look = job.look();
        let standing = run_job::sentence(job, &timeless(&look));
        let news = (standing != self.known).then(|| run_job::sentence(job, &look));
        self.known = standing;
        let is_over = run_job::is_over(&look);
        match look {
            Ok(view) => {
                self.poller.on_answer(clock::now(), news.is_some());
                self.over = is_over.then(|| (clock::now(), view));
            }
            Err(error) => {
                // Told once. The run directory alone says how the run ends, so nobody gives up.
                self.poller.on_failure(clock::now(), &error);
                // A record that has no id yet may have one the next time.
                self.job = RunJob::of(&self.directory)?;
            }
        }
        Ok(news)
    }

    /// What is to be told of a run whose job is over although the run says nothing of its end.
    pub fn loss(&self, directory: &RunDirectory) -> Failure {
        let end = self.over.as_ref().and_then(|(_, end)| end.as_ref());
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
        json!(self.over.as_ref().and_then(|(_, end)| end.as_ref()).map(|(_, view)| view))
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

/// Without the time that is left, which differs each time and is no news.
fn timeless(look: &Look) -> Look {
    let mut look = look.clone();
    if let Ok(Some((_, view))) = &mut look {
        view.time_left = None;
    }
    look
}
