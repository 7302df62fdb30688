//! Submitting once, even when the answer is lost on the way back.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{BatchError, BatchSystem, JobId};

/// How long to wait before each look for a job whose submission was not answered. A busy server may
/// take its time to make a job of what it was sent.
const LOOKS: [Duration; 4] =
    [Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8), Duration::from_secs(16)];

/// A script that has become a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The job.
    pub id: JobId,
    /// True if the answer was lost and the job was found by its mark.
    pub was_looked_up: bool,
}

/// Submits a script that carries `mark`, and makes sure of it: if the answer is lost, the job is
/// looked for by its mark. An error that is not `Uncertain` means that no job was found.
pub fn submit_once(system: &dyn BatchSystem, script: &Path, mark: &str) -> Result<Submitted, BatchError> {
    submit_pausing(system, script, mark, thread::sleep)
}

fn submit_pausing(
    system: &dyn BatchSystem,
    script: &Path,
    mark: &str,
    pause: impl FnMut(Duration),
) -> Result<Submitted, BatchError> {
    match system.submit(script, mark) {
        Ok(id) => Ok(Submitted { id, was_looked_up: false }),
        Err(error) if error.is_ambiguous() => look_for(system, mark, error, pause),
        Err(error) => Err(error),
    }
}

/// Looks until the job is found or the looks are used up. Only the last look may say that there is
/// none: an earlier one may have come too soon.
fn look_for(
    system: &dyn BatchSystem,
    mark: &str,
    cause: BatchError,
    mut pause: impl FnMut(Duration),
) -> Result<Submitted, BatchError> {
    let mut is_known_absent = false;
    for delay in LOOKS {
        pause(delay);
        match system.find(mark) {
            Ok(Some(id)) => return Ok(Submitted { id, was_looked_up: true }),
            Ok(None) => is_known_absent = true,
            Err(_) => is_known_absent = false,
        }
    }
    let uncertain = |cause| BatchError::Uncertain {
        system: system.system(),
        mark: mark.to_owned(),
        cause: Box::new(cause),
    };
    Err(if is_known_absent { cause } else { uncertain(cause) })
}
