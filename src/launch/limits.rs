//! A site's limits, checked before anything is submitted.

use super::given::Source;
use super::request::{Request, RequestError};
use super::units;

/// Checks what is asked against what the site allows: so many jobs, one after the other. `queued` is how
/// many jobs of this user wait or run already, if the batch system told.
pub fn check(request: &Request, jobs: u32, queued: Option<u64>) -> Result<(), RequestError> {
    walltime(request)?;
    margin(request)?;
    nodes(request)?;
    queued_jobs(request, jobs, queued.unwrap_or(0))
}

fn walltime(request: &Request) -> Result<(), RequestError> {
    let (Some(asked), Some(most)) = (request.seconds("walltime"), request.seconds("limits.walltime_max"))
    else {
        return Ok(());
    };
    let hint = "ask for less, and for several jobs with `--chain N` if the run needs longer";
    let why = || format!("the site allows {}", units::clock(most));
    if asked > most { Err(exceeded(request, "walltime", why(), hint)) } else { Ok(()) }
}

/// A run that is asked to stop before it starts does nothing.
fn margin(request: &Request) -> Result<(), RequestError> {
    let (Some(walltime), Some(margin)) = (request.seconds("walltime"), request.seconds("margin")) else {
        return Ok(());
    };
    // Of a margin that nobody chose `launch` takes a part.
    let is_chosen = request.given("margin").is_some_and(|given| !matches!(given.source, Source::BuiltIn(..)));
    let hint = "ask for a longer walltime, or `--set margin=10s`";
    let why = || format!("the run would be asked to stop {} before the end, at once", units::clock(margin));
    if margin >= walltime && is_chosen { Err(exceeded(request, "walltime", why(), hint)) } else { Ok(()) }
}

fn nodes(request: &Request) -> Result<(), RequestError> {
    match request.count("limits.nodes_max") {
        Some(most) if u64::from(request.shape.nodes) > most => {
            Err(exceeded(request, "nodes", format!("the site allows {most}"), "ask for fewer"))
        }
        _ => Ok(()),
    }
}

fn queued_jobs(request: &Request, jobs: u32, queued: u64) -> Result<(), RequestError> {
    const LIMIT: &str = "limits.queued_jobs_max";
    let all = queued.saturating_add(u64::from(jobs));
    let Some(most) = request.count(LIMIT).filter(|most| all > *most) else { return Ok(()) };
    let hint = match queued {
        0 => "ask for a shorter `--chain`",
        _ => "wait for one to end, or cancel one",
    };
    Err(RequestError {
        field: "jobs".to_owned(),
        value: Some(jobs.to_string()),
        source: request.given(LIMIT).map(|given| Box::new(given.source.clone())),
        why: format!("{queued} wait or run already, and the site allows {most}"),
        hint: Some(hint.to_owned()),
    })
}

/// What was asked for, and by whom.
fn exceeded(request: &Request, field: &str, why: String, hint: &str) -> RequestError {
    let given = request.given(field);
    RequestError {
        field: field.to_owned(),
        value: given.map(|given| given.value.to_string()),
        source: given.map(|given| Box::new(given.source.clone())),
        why,
        hint: Some(hint.to_owned()),
    }
}
