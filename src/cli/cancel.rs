//! `dagmar cancel`: ends a run, by order to rank 0, or by the batch system if it has not begun.

use serde_json::json;

use crate::launch::batch::{BatchError, JobId, JobView};
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
        return answer(flags, &name, Some(finished.exit_code), &[], &words);
    }
    if let (Some(job), Some(look)) = (&job, &look)
        && let Some(code) = run_job::code_of_loss(look)
        && look.as_ref().is_ok_and(|views| views.telling().is_some())
    {
        let words = format!("`{name}` is over already: {}", run_job::sentence(job, look));
        return answer(flags, &name, Some(code), &[], &words);
    }
    // Jobs of a chain that come later go first: once the run ends, the one it is in takes them back itself.
    let later = match (&job, &look) {
        (Some(job), Some(Ok(views))) => {
            let waiting = views.living().skip(1).filter(|(_, view)| view.state.is_waiting());
            cancel_jobs(job, waiting.collect())
        }
        _ => Ok(Vec::new()),
    };
    // Whoever begins it in the meantime finds the order.
    let posted = Mailbox::new(directory.control()).post(Order::Cancel);
    posted.map_err(|error| Failure::broken(format!("cannot write into the mailbox of `{name}`: {error}")))?;
    let mut cancelled = match (&job, &look) {
        (Some(job), Some(look)) => cancel_first(job, look, flags.now)?,
        _ => Vec::new(),
    };
    cancelled.extend(later?);
    let living = look.as_ref().and_then(|look| look.as_ref().ok()).map_or(0, |views| views.living().count());
    answer(flags, &name, None, &cancelled, &words(&name, &cancelled, living))
}

/// What was done to `living` jobs.
fn words(name: &str, cancelled: &[JobId], living: usize) -> String {
    let ids: Vec<&str> = cancelled.iter().map(JobId::as_str).collect();
    let asked = format!("`{name}` is asked to end; `dagmar status {name}` tells when it has");
    match ids[..] {
        [] => asked,
        [id] if living == 1 => format!("job {id} of `{name}` is cancelled"),
        _ if living == ids.len() => format!("jobs {} of `{name}` are cancelled", ids.join(", ")),
        [id] => format!("{asked}; job {id}, which waited, is cancelled"),
        _ => format!("{asked}; jobs {}, which waited, are cancelled", ids.join(", ")),
    }
}

/// Ends the batch job that the run is in, or will be in first, where nobody is there yet to read the mailbox,
/// or where no time is to be lost.
fn cancel_first(job: &RunJob, look: &Look, now: bool) -> Result<Vec<JobId>, Failure> {
    match look {
        Ok(views) => {
            let is_to_end = |(_, view): &&(JobId, JobView)| now || view.state.is_waiting();
            cancel_jobs(job, views.living().next().filter(is_to_end).into_iter().collect())
        }
        Err(error) if now => Err(error.clone().into()),
        Err(error) => {
            tell(&format!(
                "warning: the batch system cannot be asked, so a job that still waits goes on waiting: {error}"
            ));
            Ok(Vec::new())
        }
    }
}

/// Ends these jobs, the last one first: none is to begin because the one before has ended.
fn cancel_jobs(job: &RunJob, jobs: Vec<&(JobId, JobView)>) -> Result<Vec<JobId>, Failure> {
    let mut cancelled = Vec::new();
    for (id, _) in jobs.into_iter().rev() {
        match job.system().cancel(id) {
            Ok(()) => cancelled.push(id.clone()),
            Err(BatchError::AlreadyEnded { .. } | BatchError::NoSuchJob { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    cancelled.reverse();
    Ok(cancelled)
}

fn answer(
    flags: &CancelFlags,
    name: &str,
    exit_code: Option<u8>,
    cancelled: &[JobId],
    words: &str,
) -> CommandResult {
    match flags.output {
        Format::Human => tell(words),
        Format::Json => Page::open().json(&json!({
            "run": name, "asked": exit_code.is_none(), "exit_code": exit_code, "jobs_cancelled": cancelled,
        }))?,
    }
    Ok(OK)
}
