//! A site's limits, checked before anything is submitted.

use super::given::Source;
use super::request::{Request, RequestError};
use super::units;

/// How much is submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Jobs submitted at once: 1, or as many as the chain is long.
    pub jobs: u64,
    /// Jobs of this user that wait or run already, if the batch system told.
    pub queued: Option<u64>,
}

impl Default for Load {
    fn default() -> Self {
        Load { jobs: 1, queued: None }
    }
}

/// Checks what is asked against what the site allows.
pub fn check(request: &Request, load: Load) -> Result<(), RequestError> {
    walltime(request)?;
    margin(request)?;
    nodes(request)?;
    jobs(request, load)
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

fn jobs(request: &Request, load: Load) -> Result<(), RequestError> {
    let refuse = |limit: &str, why: String, hint: &str| {
        let source = request.given(limit).map(|given| Box::new(given.source.clone()));
        let (field, value, hint) = ("jobs".to_owned(), Some(load.jobs.to_string()), Some(hint.to_owned()));
        Err(RequestError { field, value, source, why, hint })
    };
    let queued = load.queued.unwrap_or(0);
    if let Some(most) = request.count("limits.array_size_max").filter(|most| load.jobs > *most) {
        let why = format!("the site allows {most} at once");
        return refuse("limits.array_size_max", why, "submit fewer at once");
    }
    match request.count("limits.queued_jobs_max").filter(|most| queued + load.jobs > *most) {
        Some(most) => {
            let why = format!("{queued} wait or run already, and the site allows {most}");
            refuse("limits.queued_jobs_max", why, "wait for one to end, or cancel one")
        }
        None => Ok(()),
    }
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
