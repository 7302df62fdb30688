//! Submitting once, even when the answer is lost on the way back.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::{BatchError, BatchSystem, JobId, Link};

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

/// Submits a script that carries `mark`, or whose `link` does, and makes sure of it: if the answer is lost, the job is
/// looked for by its mark, again and again; if it is a refusal, once, as a command may fail after it has
/// been heard. An error that `is_ambiguous` means that there may be a job all the same.
pub fn submit_once(
    system: &dyn BatchSystem,
    script: &Path,
    mark: &str,
    link: Option<&Link>,
) -> Result<Submitted, BatchError> {
    let submitted = system.submit(script, mark, link);
    make_sure_pausing(system, submitted, mark, thread::sleep)
}

fn make_sure_pausing(
    system: &dyn BatchSystem,
    submitted: Result<JobId, BatchError>,
    mark: &str,
    pause: impl FnMut(Duration),
) -> Result<Submitted, BatchError> {
    match submitted {
        Ok(id) => Ok(Submitted { id, was_looked_up: false }),
        Err(error) if error.is_ambiguous() => look_for(system, mark, error, pause),
        Err(error @ BatchError::NoCommand { .. }) => Err(error),
        Err(error) => make_sure(system, mark, error),
    }
}

/// A refusal is believed if there is no job.
fn make_sure(system: &dyn BatchSystem, mark: &str, refusal: BatchError) -> Result<Submitted, BatchError> {
    match system.find(mark) {
        Ok(Some(id)) => Ok(Submitted { id, was_looked_up: true }),
        Ok(None) => Err(refusal),
        Err(_) => Err(uncertain(system, mark, refusal)),
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
    Err(if is_known_absent { cause } else { uncertain(system, mark, cause) })
}

fn uncertain(system: &dyn BatchSystem, mark: &str, cause: BatchError) -> BatchError {
    BatchError::Uncertain { system: system.system(), mark: mark.to_owned(), cause: Box::new(cause) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use super::*;
    use crate::core::time::Micros;
    use crate::launch::batch::{JobView, System};

    type Look = Result<Option<JobId>, BatchError>;

    /// A system that answers looks in order.
    struct Scripted {
        looks: Mutex<Vec<Look>>,
    }

    impl BatchSystem for Scripted {
        fn system(&self) -> System {
            System::Slurm
        }
        fn submit(&self, _: &Path, _: &str, _: Option<&Link>) -> Result<JobId, BatchError> {
            unreachable!("a job is submitted once")
        }
        fn find(&self, mark: &str) -> Look {
            assert_eq!(mark, "mark");
            self.looks.lock().unwrap().remove(0)
        }
        fn jobs(&self, _: &[JobId]) -> Result<BTreeMap<JobId, JobView>, BatchError> {
            unreachable!("submitting asks for no state")
        }
        fn cancel(&self, _: &JobId) -> Result<(), BatchError> {
            unreachable!("submitting cancels nothing")
        }
        fn test(&self, _: &Path) -> Option<Result<String, BatchError>> {
            None
        }
        fn queued_jobs(&self) -> Result<usize, BatchError> {
            Ok(0)
        }
        fn queues(&self) -> Result<Vec<String>, BatchError> {
            Ok(Vec::new())
        }
    }

    /// Submits, and says how often was looked.
    fn submit(answer: Result<JobId, BatchError>, looks: Vec<Look>) -> (Result<Submitted, BatchError>, usize) {
        let system = Scripted { looks: Mutex::new(looks) };
        let mut pauses = 0;
        let result = make_sure_pausing(&system, answer, "mark", |_| pauses += 1);
        (result, pauses)
    }

    fn lost() -> BatchError {
        BatchError::NoAnswer { system: System::Slurm, command: "sbatch".into(), after: Micros::from_secs(60) }
    }

    fn id() -> JobId {
        JobId::new("7").unwrap()
    }

    #[test]
    fn an_answered_submission_is_not_looked_for() {
        assert_eq!(submit(Ok(id()), vec![]), (Ok(Submitted { id: id(), was_looked_up: false }), 0));
        let refused =
            BatchError::NoCommand { system: System::Slurm, command: "sbatch".into(), why: String::new() };
        assert_eq!(submit(Err(refused.clone()), vec![]), (Err(refused), 0));
    }

    #[test]
    fn a_refusal_is_believed_once_there_is_no_job() {
        let refused = || BatchError::Refused {
            system: System::Slurm,
            command: "sbatch".into(),
            exit: "exited with 1".into(),
            words: "no".into(),
            hint: None,
        };
        assert_eq!(submit(Err(refused()), vec![Ok(None)]), (Err(refused()), 0));
        let found = Ok(Submitted { id: id(), was_looked_up: true });
        assert_eq!(submit(Err(refused()), vec![Ok(Some(id()))]), (found, 0));
        let (unknown, _) = submit(Err(refused()), vec![Err(lost())]);
        let error = unknown.unwrap_err();
        assert!(error.is_ambiguous() && error.cause().unwrap().contains("refused: no"), "{error}");
    }

    #[test]
    fn a_job_whose_answer_was_lost_is_found_and_not_submitted_again() {
        let looks = vec![Ok(None), Err(lost()), Ok(Some(id()))];
        assert_eq!(submit(Err(lost()), looks), (Ok(Submitted { id: id(), was_looked_up: true }), 3));
    }

    #[test]
    fn a_job_that_is_nowhere_was_not_submitted() {
        let looks = vec![Err(lost()), Ok(None), Ok(None), Ok(None)];
        assert_eq!(submit(Err(lost()), looks), (Err(lost()), LOOKS.len()));
    }

    #[test]
    fn a_job_that_cannot_be_looked_for_is_uncertain() {
        let looks = vec![Ok(None), Ok(None), Ok(None), Err(lost())];
        let (result, _) = submit(Err(lost()), looks);
        let error = result.unwrap_err();
        assert!(matches!(&error, BatchError::Uncertain { mark, .. } if mark == "mark"), "{error}");
        assert!(error.is_ambiguous() && !error.is_transient());
        assert!(error.hint().unwrap().contains("`mark`"));
    }
}
