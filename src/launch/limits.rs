//! A site's limits, checked before anything is submitted.

use super::given::Source;
use super::request::{Request, RequestError};
use super::units;

/// Checks what is asked against what the site allows. `queued` is how many jobs of this user wait or run
/// already, if the batch system told. A run is one job and never an array of them.
pub fn check(request: &Request, queued: Option<u64>) -> Result<(), RequestError> {
    walltime(request)?;
    margin(request)?;
    nodes(request)?;
    jobs(request, queued.unwrap_or(0))
}

fn walltime(request: &Request) -> Result<(), RequestError> {
    let (Some(asked), Some(most)) = (request.seconds("walltime"), request.seconds("limits.walltime_max"))
    else {
        return Ok(());
    };
    let hint = "ask for less, and submit several jobs in a chain if the run needs longer";
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

fn jobs(request: &Request, queued: u64) -> Result<(), RequestError> {
    const LIMIT: &str = "limits.queued_jobs_max";
    let Some(most) = request.count(LIMIT).filter(|most| queued >= *most) else { return Ok(()) };
    Err(RequestError {
        field: "jobs".to_owned(),
        value: Some("1".to_owned()),
        source: request.given(LIMIT).map(|given| Box::new(given.source.clone())),
        why: format!("{queued} wait or run already, and the site allows {most}"),
        hint: Some("wait for one to end, or cancel one".to_owned()),
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
