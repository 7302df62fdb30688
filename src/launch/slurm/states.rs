//! Every word that Slurm has for where a job stands, from 22.05 to 25.05.
//!
//! A job has one base state and any number of flags. Older commands print the one that matters most,
//! newer JSON prints all. Flags say more than the base state they stand beside.

use crate::launch::batch::{JobEnd, JobState, Reason};

/// What a state or a flag comes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Is(Stand),
    /// It adds nothing to the base state.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stand {
    // The first of these that a job has is the one that counts.
    Held,
    Requeued,
    Elsewhere,
    LaunchFailed,
    Ending,
    Stopped,
    Starting,
    // Base states: a job has one.
    Queued,
    Running,
    Suspended,
    Completed,
    Failed,
    Cancelled,
    Timeout,
    NodeFail,
    Preempted,
    BootFail,
    Deadline,
    OutOfMemory,
}

/// Long form, short form, meaning.
const WORDS: &[(&str, &str, Meaning)] = &[
    ("PENDING", "PD", Meaning::Is(Stand::Queued)),
    ("RUNNING", "R", Meaning::Is(Stand::Running)),
    ("SUSPENDED", "S", Meaning::Is(Stand::Suspended)),
    ("COMPLETED", "CD", Meaning::Is(Stand::Completed)),
    ("CANCELLED", "CA", Meaning::Is(Stand::Cancelled)),
    ("FAILED", "F", Meaning::Is(Stand::Failed)),
    ("TIMEOUT", "TO", Meaning::Is(Stand::Timeout)),
    ("NODE_FAIL", "NF", Meaning::Is(Stand::NodeFail)),
    ("PREEMPTED", "PR", Meaning::Is(Stand::Preempted)),
    ("BOOT_FAIL", "BF", Meaning::Is(Stand::BootFail)),
    ("DEADLINE", "DL", Meaning::Is(Stand::Deadline)),
    ("OUT_OF_MEMORY", "OOM", Meaning::Is(Stand::OutOfMemory)),
    ("CONFIGURING", "CF", Meaning::Is(Stand::Starting)),
    ("POWER_UP_NODE", "PU", Meaning::Is(Stand::Starting)),
    ("COMPLETING", "CG", Meaning::Is(Stand::Ending)),
    ("STAGE_OUT", "SO", Meaning::Is(Stand::Ending)),
    ("STOPPED", "ST", Meaning::Is(Stand::Stopped)),
    ("REQUEUED", "RQ", Meaning::Is(Stand::Requeued)),
    ("REQUEUE_FED", "RF", Meaning::Is(Stand::Requeued)),
    ("REQUEUE_HOLD", "RH", Meaning::Is(Stand::Held)),
    ("SPECIAL_EXIT", "SE", Meaning::Is(Stand::Held)),
    ("RESV_DEL_HOLD", "RD", Meaning::Is(Stand::Held)),
    ("REVOKED", "RV", Meaning::Is(Stand::Elsewhere)),
    ("LAUNCH_FAILED", "LF", Meaning::Is(Stand::LaunchFailed)),
    ("RECONFIG_FAIL", "RC", Meaning::Is(Stand::LaunchFailed)),
    ("SIGNALING", "SI", Meaning::Nothing),
    ("RESIZING", "RS", Meaning::Nothing),
    ("UPDATE_DB", "UD", Meaning::Nothing),
    ("EXPEDITING", "EX", Meaning::Nothing),
];

/// Where a job with these words stands. `exit` is its script's exit code and signal, if told.
pub(super) fn state(words: &[String], reason: &str, exit: Option<(i32, i32)>) -> JobState {
    let mut stands = Vec::new();
    for word in words {
        match meaning(word) {
            Some(Meaning::Is(stand)) => stands.push(stand),
            Some(Meaning::Nothing) => {}
            None => return JobState::Unknown(words.join(",")),
        }
    }
    match stands.into_iter().min() {
        Some(stand) => state_of(stand, &words[0], reason, exit),
        // A flag alone is only printed of a job that runs.
        None if !words.is_empty() => JobState::Running,
        None => JobState::Unknown(String::new()),
    }
}

/// What a flag says that no reason repeats.
pub(super) fn flag_reason(words: &[String]) -> Option<Reason> {
    let has = |flag: &str| words.iter().any(|word| word == flag);
    let (meaning, advice) = if has("REVOKED") || has("RV") {
        ("another cluster of the federation has started the job", "ask there: `squeue --federation`")
    } else if has("RESV_DEL_HOLD") || has("RD") {
        ("its reservation was deleted", "cancel it and submit without the reservation")
    } else if has("SPECIAL_EXIT") || has("SE") || has("REQUEUE_HOLD") || has("RH") {
        ("it was put back into the queue and is held there", "`scontrol release JOB` lets it start again")
    } else {
        return None;
    };
    Some(Reason::known(words.join(","), meaning, advice, false))
}

/// `CANCELLED by 1000` is how accounting names who did it.
fn meaning(word: &str) -> Option<Meaning> {
    let word = word.split(' ').next().unwrap_or_default().trim_end_matches('+');
    let row = WORDS.iter().find(|(long, short, _)| *long == word || *short == word);
    row.map(|(_, _, meaning)| *meaning)
}

fn state_of(stand: Stand, word: &str, reason: &str, exit: Option<(i32, i32)>) -> JobState {
    let end = match stand {
        Stand::Held => return JobState::Held,
        Stand::Queued if is_hold(reason) => return JobState::Held,
        Stand::Queued | Stand::Requeued => return JobState::Queued,
        // Its sibling on another cluster lives on, and nobody here knows how.
        Stand::Elsewhere => return JobState::Unknown("REVOKED".to_owned()),
        Stand::Ending => return JobState::Ending,
        Stand::Stopped | Stand::Suspended => return JobState::Suspended,
        Stand::Starting => return JobState::Starting,
        Stand::Running => return JobState::Running,
        Stand::Completed => JobEnd::Completed,
        Stand::Failed => failure(reason, exit),
        Stand::Cancelled if reason == "DependencyNeverSatisfied" => never_started(reason),
        Stand::Cancelled => JobEnd::Cancelled,
        Stand::Timeout => JobEnd::WalltimeReached,
        Stand::NodeFail => JobEnd::NodeLost,
        Stand::Preempted => JobEnd::Preempted,
        Stand::Deadline => JobEnd::LimitExceeded { resource: "deadline".to_owned() },
        Stand::OutOfMemory => JobEnd::OutOfMemory,
        Stand::BootFail | Stand::LaunchFailed => never_started(word),
    };
    JobState::Ended(end)
}

fn is_hold(reason: &str) -> bool {
    matches!(reason, "JobHeldUser" | "JobHeldAdmin" | "JobHoldMaxRequeue" | "ReservationDeleted")
}

/// Slurm calls many ends a failure: a script that failed or was killed, and one that never ran.
fn failure(reason: &str, exit: Option<(i32, i32)>) -> JobEnd {
    match (reason, exit) {
        ("OutOfMemory", _) => JobEnd::OutOfMemory,
        ("TimeLimit", _) => JobEnd::WalltimeReached,
        ("BadConstraints" | "InvalidAccount" | "InvalidQOS", _) => never_started(reason),
        // Slurm also says so of a script that killed itself.
        ("JobLaunchFailure", None | Some((_, 0))) => never_started(reason),
        (_, Some((0, 0)) | None) => {
            JobEnd::Unclear { words: format!("FAILED {reason}").trim_end().to_owned() }
        }
        (_, Some((code, signal))) => JobEnd::of_script(code, signal),
    }
}

fn never_started(words: &str) -> JobEnd {
    JobEnd::NeverStarted { reason: words.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str, reason: &str, exit: Option<(i32, i32)>) -> JobState {
        state(&words.split(',').map(str::to_owned).collect::<Vec<_>>(), reason, exit)
    }

    #[test]
    fn every_word_that_slurm_has_is_known_in_both_forms() {
        // The lists of squeue's manual for 22.05 and for 24.11.
        let manual = "BF BOOT_FAIL CA CANCELLED CD COMPLETED CF CONFIGURING CG COMPLETING DL DEADLINE \
                      F FAILED NF NODE_FAIL OOM OUT_OF_MEMORY PD PENDING PR PREEMPTED R RUNNING RD RESV_DEL_HOLD \
                      RF REQUEUE_FED RH REQUEUE_HOLD RQ REQUEUED RS RESIZING SI SIGNALING \
                      SE SPECIAL_EXIT SO STAGE_OUT ST STOPPED S SUSPENDED TO TIMEOUT \
                      LAUNCH_FAILED POWER_UP_NODE RECONFIG_FAIL UPDATE_DB EXPEDITING";
        for word in manual.split_whitespace() {
            let found = of(word, "None", Some((0, 0)));
            assert!(!matches!(found, JobState::Unknown(_)), "{word}: {found:?}");
            assert_eq!(found.is_success(), ["CD", "COMPLETED"].contains(&word), "{word}");
        }
    }

    #[test]
    fn a_word_that_nobody_knows_is_unknown_and_not_a_guess() {
        assert_eq!(of("DREAMING", "", None), JobState::Unknown("DREAMING".into()));
        assert_eq!(of("RUNNING,DREAMING", "", None), JobState::Unknown("RUNNING,DREAMING".into()));
        assert_eq!(state(&[], "", None), JobState::Unknown(String::new()));
    }

    #[test]
    fn a_job_that_lives_on_elsewhere_is_not_over() {
        for word in ["RV", "REVOKED", "CANCELLED,REVOKED"] {
            assert!(!of(word, "None", Some((0, 0))).is_final(), "{word}");
        }
        assert_eq!(of("RV", "", None), JobState::Unknown("REVOKED".into()));
    }

    #[test]
    fn a_flag_counts_more_than_the_state_beside_it() {
        assert_eq!(of("COMPLETED,COMPLETING", "None", Some((0, 0))), JobState::Ending);
        assert_eq!(of("RUNNING,CONFIGURING", "None", None), JobState::Starting);
        assert_eq!(of("NODE_FAIL,REQUEUED", "None", None), JobState::Queued);
        assert_eq!(of("PENDING,REQUEUE_HOLD", "None", None), JobState::Held);
        assert_eq!(of("RUNNING,SIGNALING", "None", None), JobState::Running);
    }

    #[test]
    fn a_held_job_is_not_merely_queued() {
        assert_eq!(of("PENDING", "JobHeldUser", None), JobState::Held);
        assert_eq!(of("PD", "Priority", None), JobState::Queued);
    }

    #[test]
    fn a_failure_says_what_failed() {
        let end = |reason, exit| match of("FAILED", reason, exit) {
            JobState::Ended(end) => end.to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(end("NonZeroExitCode", Some((3, 0))), "failed with exit code 3");
        assert_eq!(end("JobLaunchFailure", Some((0, 9))), "was killed by SIGKILL");
        assert_eq!(end("JobLaunchFailure", Some((0, 0))), "never started: JobLaunchFailure");
        assert_eq!(end("BadConstraints", Some((1, 0))), "never started: BadConstraints");
        assert_eq!(end("", None), "ended, nobody says how: FAILED");
    }

    #[test]
    fn who_cancelled_a_job_does_not_hide_that_it_was_cancelled() {
        assert_eq!(of("CANCELLED by 1000", "", None), JobState::Ended(JobEnd::Cancelled));
        let dependency = "DependencyNeverSatisfied";
        assert_eq!(of("CANCELLED", dependency, None), JobState::Ended(never_started(dependency)));
    }
}
