//! What Slurm's commands say when they say no, and what to do about it.

use crate::launch::batch::{Answer, BatchError, System, printed};

/// Words of commands that reached nobody, or that lost the answer on its way.
const UNREACHABLE: &[&str] = &[
    "Unable to contact slurm controller",
    "Socket timed out on send/recv operation",
    "Zero Bytes were transmitted or received",
    "Slurm backup controller in standby mode",
    "Slurm temporarily unable to accept job",
    "Resource temporarily unavailable",
    "Unable to establish controller machine",
    "Transport endpoint is not connected",
    "Connection refused",
    "Connection timed out",
    "Connection reset by peer",
];

/// Words of a refusal, and what to do.
const HINTS: &[(&str, &str)] = &[
    (
        "Invalid account or account/partition combination",
        "name an account with `--account`; `sacctmgr show associations user=$USER` lists yours",
    ),
    (
        "Invalid qos specification",
        "`sacctmgr show associations user=$USER format=account,qos` lists your qos",
    ),
    (
        "Requested time limit is invalid",
        "ask for less with `--walltime`; `sinfo -o '%P %l'` shows the limits",
    ),
    (
        "Memory specification can not be satisfied",
        "ask for less memory, or set `memory = \"none\"` in the cluster template if the site forbids to ask",
    ),
    (
        "Requested node configuration is not available",
        "no nodes have that much: `sinfo -o '%P %D %c %m %G'` shows nodes, cores, memory (MB) and GPUs",
    ),
    ("Node count specification invalid", "ask for fewer nodes; `sinfo -o '%P %D %s'` shows the limits"),
    (
        "More processors requested than permitted",
        "ask for fewer nodes or cores; the partition has a limit on them",
    ),
    ("Invalid generic resource", "`sinfo -o '%P %G'` shows the GPUs and how they are called here"),
    ("Invalid feature specification", "`sinfo -o '%P %f'` shows the constraints that are known here"),
    ("Requested reservation is invalid", "`scontrol show reservation` lists the reservations"),
    (
        "Job violates accounting/QOS policy",
        "a limit on your jobs, their size or their time is reached: ask for less, or wait until others have ended",
    ),
    ("Job dependency problem", "the job that it should wait for is not known any more"),
    ("Access/permission denied", "you may not do this here; is it your job, and are you on the right host?"),
    (
        "unrecognized option",
        "this Slurm does not know an option of the cluster template: remove that line there",
    ),
    ("invalid option", "this Slurm does not know an option of the cluster template: remove that line there"),
    ("Unable to open file", "is the run directory on a file system that this host has?"),
    ("can't be reached now", "name a cluster that `sacctmgr list clusters` lists"),
];

/// True if nobody was reached, or the answer was lost.
pub(super) fn is_unreachable(words: &str) -> bool {
    UNREACHABLE.iter().any(|known| words.contains(known))
}

/// The error that a failed answer is.
pub(super) fn error(answer: &Answer) -> BatchError {
    let words = printed::complaint(answer);
    let (system, command) = (System::Slurm, answer.program.clone());
    if answer.was_cut_off() || is_unreachable(&words) {
        let words = if words.is_empty() { format!("`{command}` {}", answer.exit()) } else { words };
        return BatchError::Unreachable { system, command, words };
    }
    let known = HINTS.iter().find(|(known, _)| words.contains(known));
    let hint = known.map(|(_, hint)| (*hint).to_owned());
    BatchError::Refused { system, command, exit: answer.exit(), words, hint }
}

/// True if the partition is what is wrong: the hint can then name those that exist.
pub(super) fn is_about_the_partition(words: &str) -> bool {
    let words = words.to_ascii_lowercase();
    words.contains("invalid partition") || words.contains("no partition specified")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::slurm::captured;

    fn answer(stderr: &str) -> Answer {
        let stderr = stderr.to_owned();
        Answer { program: "sbatch".into(), exit_code: Some(1), signal: None, stdout: String::new(), stderr }
    }

    #[test]
    fn a_refusal_keeps_slurms_words_without_its_prefixes() {
        let error = error(&answer(&captured("sbatch-bad-partition.txt")));
        let text = error.to_string();
        assert_eq!(
            text,
            "Slurm refused: invalid partition specified: nosuch; Invalid partition name specified"
        );
        assert_eq!(error.cause().as_deref(), Some("`sbatch` exited with 1"));
        assert!(!error.is_ambiguous() && is_about_the_partition(&text));
    }

    #[test]
    fn a_lost_answer_is_no_refusal() {
        for words in [
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)",
        ] {
            let error = error(&answer(words));
            assert!(error.is_ambiguous() && error.is_transient(), "{error}");
        }
    }

    #[test]
    fn known_words_say_what_to_do() {
        let words = "sbatch: error: Memory specification can not be satisfied\n\
                     sbatch: error: Batch job submission failed: Requested node configuration is not available\n";
        assert!(error(&answer(words)).hint().unwrap().contains("ask for less memory"));
        assert_eq!(error(&answer("sbatch: error: Something new")).hint(), None);
    }
}
