//! `dagmar cancel`: ends a run, by order to rank 0, or by the batch system if it has not begun.

use serde_json::json;

use crate::launch::batch::{BatchError, JobId};
use crate::record::mailbox::{Mailbox, Order};
use crate::record::outcome::Finished;

use super::failure::Failure;
use super::flags::CancelFlags;
use super::output::{Format, Page, tell};
use super::past_run::PastRun;
use super::run_job::{self, Look, RunJob};
use super::{CommandResult, OK};

/// Asks for the end of a run. A run that is over is left alone.
pub fn run(flags: &CancelFlags) -> CommandResult {
    let directory = PastRun::directory(Some(&flags.run))?;
    let name = directory.name();
    let job = RunJob::of(&directory)?;
    let look = job.as_ref().map(RunJob::look);
    let finished = Finished::read(&directory.finished());
    let finished = finished.map_err(|error| Failure::broken(error.to_string()))?;
    if let Some(finished) = finished.filter(|finished| !run_job::goes_on(finished, look.as_ref())) {
        let words = format!("`{name}` is over already, with exit code {}", finished.exit_code);
        return answer(flags, &name, Some(finished.exit_code), &words);
    }
    if let (Some(job), Some(look)) = (&job, &look)
        && let Ok(Some((_, view))) = look
        && view.state.is_final()
    {
        let words = format!("`{name}` is over already: {}", run_job::sentence(job, look));
        return answer(flags, &name, Some(run_job::code_of_end(&view.state)), &words);
    }
    // Whoever begins it in the meantime finds the order.
    let posted = Mailbox::new(directory.control()).post(Order::Cancel);
    posted.map_err(|error| Failure::broken(format!("cannot write into the mailbox of `{name}`: {error}")))?;
    if let (Some(job), Some(look)) = (&job, look)
        && let Some(id) = cancel_job(job, look, flags.now)?
    {
        return answer(flags, &name, None, &format!("job {id} of `{name}` is cancelled"));
    }
    answer(flags, &name, None, &format!("`{name}` is asked to end; `dagmar status {name}` tells when it has"))
}

/// Ends the batch job where nobody is there yet to read the mailbox, or where no time is to be lost.
fn cancel_job(job: &RunJob, look: Look, now: bool) -> Result<Option<JobId>, Failure> {
    let (id, view) = match look {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) if now => return Err(error.into()),
        Err(error) => {
            tell(&format!(
                "warning: the batch system cannot be asked, so a job that still waits goes on waiting: {error}"
            ));
            return Ok(None);
        }
    };
    if !(now || view.state.is_waiting()) {
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
