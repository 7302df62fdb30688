//! `dagmar cancel`: ends a run, by order to rank 0, or by the batch system if it has not begun.

use serde_json::json;

use crate::launch::batch::{BatchError, JobId, JobState};
use crate::record::layout::RunDirectory;
use crate::record::mailbox::{Mailbox, Order};
use crate::record::outcome::Finished;

use super::failure::Failure;
use super::flags::CancelFlags;
use super::output::{Format, Page, tell};
use super::past_run::PastRun;
use super::run_job::RunJob;
use super::{CommandResult, OK};

/// Asks for the end of a run. A run that is over is left alone.
pub fn run(flags: &CancelFlags) -> CommandResult {
    let directory = PastRun::directory(Some(&flags.run))?;
    let name = directory.name();
    let finished = Finished::read(&directory.finished());
    if let Some(finished) = finished.map_err(|error| Failure::broken(error.to_string()))? {
        let words = format!("`{name}` is over already, with exit code {}", finished.exit_code);
        return answer(flags, &name, Some(finished.exit_code), &words);
    }
    // Whoever begins it in the meantime finds the order.
    let posted = Mailbox::new(directory.control()).post(Order::Cancel);
    posted.map_err(|error| Failure::broken(format!("cannot write into the mailbox of `{name}`: {error}")))?;
    if let Some(id) = cancel_job(&directory, flags.now)? {
        let words = format!("job {id} of `{name}` is cancelled");
        return answer(flags, &name, None, &words);
    }
    answer(flags, &name, None, &format!("`{name}` is asked to end; `dagmar status {name}` tells when it has"))
}

/// Ends the batch job where nobody is there yet to read the mailbox, or where no time is to be lost.
fn cancel_job(directory: &RunDirectory, now: bool) -> Result<Option<JobId>, Failure> {
    let Some(job) = RunJob::of(directory)? else { return Ok(None) };
    if directory.has_begun() && !now {
        return Ok(None);
    }
    let Some((id, view)) = job.look()? else { return Ok(None) };
    let is_up = matches!(view.state, JobState::Running | JobState::Ending) && !now;
    if is_up || view.state.is_final() {
        return Ok(None);
    }
    match job.system().cancel(&id) {
        Ok(()) => Ok(Some(id)),
        Err(BatchError::AlreadyEnded { .. } | BatchError::NoSuchJob { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn answer(flags: &CancelFlags, name: &str, exit_code: Option<u8>, words: &str) -> CommandResult {
    match flags.output {
        Format::Human => tell(words),
        Format::Json => Page::open()
            .json(&json!({ "run": name, "asked": exit_code.is_none(), "exit_code": exit_code }))?,
    }
    Ok(OK)
}
