//! What PBS's commands say when they say no, and what to do about it.

use crate::launch::batch::{Answer, BatchError, System, printed};

/// Words of commands that reached nobody, or that lost the answer on its way.
const UNREACHABLE: &[&str] = &[
    "cannot connect to server",
    "Cannot connect to specified server",
    "Communication failure",
    "Connection refused",
    "Connection timed out",
    "Connection reset by peer",
    "End of File",
    "Premature end of message",
    "Server is shutting down",
    "Invalid credential",
    "pbs_iff",
    "Server busy",
    "Time out",
];

/// Words of a refusal, and what to do.
const HINTS: &[(&str, &str)] = &[
    (
        "Illegal attribute or resource value",
        "a value of the resource list has no form that this PBS takes: `dagmar submit --dry-run` shows the script",
    ),
    (
        "Unknown resource",
        "this PBS does not know a resource of the script: remove it in the cluster template",
    ),
    ("Job exceeds queue resource limits", "`qstat -Qf QUEUE` shows what the queue gives: ask for less"),
    (
        "Job exceeds queue and/or server resource limits",
        "`qstat -Qf QUEUE` shows what the queue gives: ask for less",
    ),
    (
        "Job violates queue and/or server resource limits",
        "`qstat -Qf QUEUE` shows what the queue gives: ask for less",
    ),
    ("would exceed", "a limit on your jobs is reached: wait until others have ended"),
    (
        "Maximum number of jobs already in queue",
        "a limit on your jobs is reached: wait until others have ended",
    ),
    ("Queue is not enabled", "the queue takes no jobs now: submit to another one"),
    ("Access to queue is denied", "you may not use this queue: name another one"),
    ("Unauthorized Request", "you may not do this here; is it your job, and are you on the right host?"),
    ("Bad UID for job execution", "PBS does not know you on this host, or does not run jobs of root"),
    ("Invalid account", "name an account with `--account`"),
    ("Invalid project", "name a project with `--project`"),
    ("Illegal dependency", "the job that it should wait for is not known any more"),
    ("invalid option", "this PBS does not know an option of the cluster template: remove that line there"),
    ("illegal -", "this PBS does not know an option of the cluster template: remove that line there"),
];

/// The error that a failed answer is.
pub(super) fn error(answer: &Answer, system: System) -> BatchError {
    let words = printed::complaint(answer);
    let command = answer.program.clone();
    if answer.was_cut_off() || UNREACHABLE.iter().any(|known| words.contains(known)) {
        let words = if words.is_empty() { format!("`{command}` {}", answer.exit()) } else { words };
        return BatchError::Unreachable { system, command, words };
    }
    let hint = HINTS.iter().find(|(known, _)| words.contains(known)).map(|(_, hint)| (*hint).to_owned());
    BatchError::Refused { system, command, exit: answer.exit(), words, hint }
}

/// True if the queue is what is wrong: the hint can then name those that exist.
pub(super) fn is_about_the_queue(words: &str) -> bool {
    words.contains("Unknown queue") || words.contains("No default queue")
}

/// True if the server does not know the job.
pub(super) fn is_unknown_job(answer: &Answer) -> bool {
    answer.stderr.contains("Unknown Job Id") || answer.stderr.contains("Unknown Job ID")
}

/// True if the job is over.
pub(super) fn is_over(answer: &Answer) -> bool {
    let says = |words: &str| answer.stderr.contains(words);
    says("Job has finished") || says("Request invalid for state of job")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::pbs::captured;

    fn of(stderr: &str) -> Answer {
        let stderr = stderr.to_owned();
        Answer { program: "qsub".into(), exit_code: Some(166), signal: None, stdout: String::new(), stderr }
    }

    #[test]
    fn a_refusal_keeps_the_words_of_pbs() {
        let bad = error(&of(&captured("qsub-bad-select.txt")), System::Pbs);
        assert_eq!(bad.to_string(), "PBS refused: Illegal attribute or resource value Resource_List.select");
        assert_eq!(bad.cause().as_deref(), Some("`qsub` exited with 166"));
        assert!(bad.hint().is_some());
        assert!(is_about_the_queue(&captured("qsub-bad-queue.txt")));
    }

    #[test]
    fn a_lost_answer_is_no_refusal() {
        let lost = error(&of("qsub: cannot connect to server pbs (errno=15010)"), System::Pbs);
        assert!(lost.is_ambiguous() && lost.is_transient());
    }

    #[test]
    fn jobs_that_nobody_knows_are_told_from_those_that_are_over() {
        assert!(is_unknown_job(&of(&captured("qstat-unknown.txt"))));
        assert!(is_unknown_job(&of(&captured("qdel-unknown.txt"))));
        assert!(is_over(&of(
            "qstat: 3.pbs Job has finished, use -x or -H to obtain historical job information"
        )));
    }
}
