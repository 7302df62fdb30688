//! Slurm's commands, played by scripts that print what the real ones printed.

use super::*;
use crate::launch::batch::pretend::Pretended;

#[test]
fn the_id_of_a_submitted_job_stands_below_any_banner() {
    for (output, id) in [
        ("123\n", "123"),
        ("123;alpha\n", "123;alpha"),
        ("*** 2026: be kind ***\n4711\n", "4711"),
        ("Welcome\nSubmitted batch job 28\n", "28"),
        ("Submitted batch job 28 on cluster alpha\n", "28;alpha"),
        ("99\nSubmitted batch job 28\n", "28"),
    ] {
        assert_eq!(submitted_id(output).map(String::from).as_deref(), Some(id), "{output}");
    }
    for output in ["", "\n\n", "sbatch: verified", "Submitted batch job \n", "Submitted batch job x$(y)"] {
        assert_eq!(submitted_id(output), None, "{output}");
    }
}

#[test]
fn a_version_is_read_from_any_packaging() {
    assert_eq!(version("slurm-wlm 22.05.8\n"), Some((22, 5)));
    assert_eq!(version("slurm 23.11.10-2\n"), Some((23, 11)));
    assert_eq!(version("slurm 24.05.0-0rc1"), Some((24, 5)));
    assert_eq!(version("squeue: unknown"), None);
}

#[test]
fn a_job_of_another_cluster_is_asked_for_there() {
    let id = JobId::new("12;alpha").unwrap();
    assert_eq!(parts(&id), ("12", Some("alpha")));
    assert_eq!(on(parts(&id).1, &["--jobs", "12"]), ["--clusters", "alpha", "--jobs", "12"]);
    assert_eq!(on(None, &["x"]), ["x"]);
}

/// A cluster of version 22.05 unless the scripts say otherwise.
fn cluster(scripts: &[(&str, &str)]) -> (Slurm, Pretended) {
    let pretended = Pretended::new(scripts);
    (Slurm::new(pretended.commands("sbatch", "squeue", "scancel")), pretended)
}

fn states(slurm: &Slurm, ids: &[&str]) -> Result<Vec<String>, BatchError> {
    let ids: Vec<JobId> = ids.iter().map(|id| JobId::new(*id).unwrap()).collect();
    let views = slurm.jobs(&ids)?;
    Ok(ids.iter().map(|id| views[id].state.to_string()).collect())
}

const UNKNOWN: &str = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1";
const VANISHED: &str = "is unknown to the batch system and left no record of its end";

#[test]
fn all_jobs_are_asked_for_at_once_and_those_that_are_over_by_name() {
    let squeue = "case \"$*\" in *--version*) echo slurm 22.05.8;; *)\n\
                  echo '7|RUNNING|None|cpu|2|n[1-2]|5|1:00|(null)'\n\
                  echo '8|COMPLETED|None|cpu|1|n3|5|0:00|(null)'; esac";
    let scontrol = "echo 'JobId=8 JobName=x UserId=u(1) JobState=COMPLETED Reason=None ExitCode=0:0'";
    let (slurm, pretended) = cluster(&[("squeue", squeue), ("scontrol", scontrol)]);
    assert_eq!(states(&slurm, &["7", "8"]).unwrap(), ["is running", "completed"]);
    let lines = "squeue --noheader --format %i|%T|%r|%P|%D|%N|%S|%L|%k --states=all --jobs 7,8";
    assert_eq!(pretended.asked(), ["squeue --version", lines, "scontrol --oneliner show job 8"]);
}

#[test]
fn a_job_that_no_source_knows_has_vanished() {
    let disabled = "echo 'Slurm accounting storage is disabled' >&2; exit 1";
    for sacct in [("sacct", disabled), ("sacct", "exit 0"), ("none", "")] {
        let (slurm, _kept) = cluster(&[("squeue", UNKNOWN), ("scontrol", UNKNOWN), sacct]);
        assert_eq!(states(&slurm, &["9"]).unwrap(), [VANISHED], "{sacct:?}");
    }
}

#[test]
fn a_job_that_only_accounting_remembers_is_told_by_it() {
    let sacct = "echo '9|TIMEOUT|None|0:0|cpu|2|n[1-2]|1795297185'";
    let (slurm, _kept) = cluster(&[("squeue", UNKNOWN), ("scontrol", UNKNOWN), ("sacct", sacct)]);
    assert_eq!(states(&slurm, &["9"]).unwrap(), ["reached its walltime"]);
}

#[test]
fn accounting_that_does_not_answer_makes_no_job_vanish() {
    let sacct = "echo 'sacct: error: Sending PersistInit msg: Connection refused' >&2; exit 1";
    let (slurm, _kept) = cluster(&[("squeue", UNKNOWN), ("scontrol", UNKNOWN), ("sacct", sacct)]);
    assert!(states(&slurm, &["9"]).unwrap_err().is_transient());
}

#[test]
fn a_controller_that_does_not_answer_makes_no_job_vanish() {
    let down =
        "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1";
    let (slurm, _kept) = cluster(&[("squeue", down)]);
    assert!(states(&slurm, &["9"]).unwrap_err().is_transient());
    assert!(slurm.find("mark").unwrap_err().is_transient());
}

#[test]
fn newer_slurm_is_asked_in_json_and_in_lines_if_that_is_broken() {
    let squeue = |json: &str| {
        format!(
            "case \"$*\" in *--version*) echo slurm 24.05.1;; *--json*) echo '{json}';; *)\n\
             echo '7|PENDING|Resources|cpu|2||N/A|1:00|(null)'; esac"
        )
    };
    let job = r#"{"jobs": [{"job_id": 7, "job_state": ["RUNNING"], "state_reason": "None"}]}"#;
    let (slurm, _kept) = cluster(&[("squeue", &squeue(job))]);
    assert_eq!(states(&slurm, &["7"]).unwrap(), ["is running"]);
    let (slurm, _kept) = cluster(&[("squeue", &squeue("{\"jobs\": ["))]);
    assert_eq!(states(&slurm, &["7"]).unwrap(), ["is queued"]);
}

#[test]
fn jobs_of_several_clusters_are_asked_for_where_they_are() {
    let squeue = "case \"$*\" in *--clusters*) echo 'CLUSTER: b'; echo '7|PENDING|None|q|1||5|1:00|x';;\n\
                  *) echo '7|RUNNING|None|q|1|n1|5|1:00|x'; esac";
    let (slurm, _kept) = cluster(&[("squeue", squeue)]);
    assert_eq!(states(&slurm, &["7", "7;b"]).unwrap(), ["is running", "is queued"]);
}

#[test]
fn a_wrong_partition_is_refused_with_the_right_ones() {
    let sbatch =
        "echo 'sbatch: error: Batch job submission failed: Invalid partition name specified' >&2; exit 1";
    let (slurm, _kept) = cluster(&[("sbatch", sbatch), ("sinfo", "echo short*; echo long; echo long")]);
    let error = slurm.submit(Path::new("job.sh"), "mark", None).unwrap_err();
    assert_eq!(error.to_string(), "Slurm refused: Invalid partition name specified");
    assert_eq!(error.hint().as_deref(), Some("partitions here: `short`, `long`"));
}

#[test]
fn a_further_job_of_a_chain_waits_for_the_one_before_and_carries_its_own_mark() {
    let (slurm, pretended) = cluster(&[("sbatch", "echo 8")]);
    let link =
        |after: &str| Link { after: JobId::new(after).unwrap(), carrier: "for the paper run-7-2".into() };
    assert_eq!(slurm.submit(Path::new("/r/job.sh"), "run-7", None).unwrap().as_str(), "8");
    slurm.submit(Path::new("/r/job.sh"), "run-7-2", Some(&link("7"))).unwrap();
    slurm.submit(Path::new("/r/job.sh"), "run-7-2", Some(&link("7;alpha"))).unwrap();
    let asked = [
        "sbatch --parsable /r/job.sh",
        "sbatch --parsable --dependency=afterany:7 --comment=for the paper run-7-2 /r/job.sh",
        "sbatch --parsable --clusters=alpha --dependency=afterany:7 --comment=for the paper run-7-2 /r/job.sh",
    ];
    assert_eq!(pretended.asked(), asked);
}

#[test]
fn a_submission_without_an_id_is_not_a_refusal() {
    let (slurm, _kept) = cluster(&[("sbatch", "echo verified")]);
    let error = slurm.submit(Path::new("job.sh"), "mark", None).unwrap_err();
    assert!(error.is_ambiguous(), "{error}");
    assert_eq!(error.to_string(), "cannot understand what `sbatch` printed: verified");
}

#[test]
fn a_submission_that_failed_after_it_was_heard_is_not_a_refusal() {
    let broken = "echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255";
    for sbatch in [broken, "exit 255", "kill -KILL $$", "echo 'Submitted batch job 7'; exit 1"] {
        let (slurm, _kept) = cluster(&[("sbatch", sbatch)]);
        let error = slurm.submit(Path::new("job.sh"), "mark", None).unwrap_err();
        assert!(error.is_ambiguous(), "{sbatch}: {error}");
    }
}

#[test]
fn a_mark_is_found_behind_a_users_own_words() {
    let squeue = "echo '12|PENDING|None|q|1||N/A|1:00|for the paper run-7'; echo '13|PENDING|None|q|1||N/A|1:00|run-7 no'";
    let (slurm, _kept) = cluster(&[("squeue", squeue)]);
    assert_eq!(slurm.find("run-7").unwrap().map(String::from).as_deref(), Some("12"));
    assert_eq!(slurm.find("paper").unwrap(), None);
}

#[test]
fn a_mark_is_looked_for_on_the_clusters_that_were_asked() {
    let squeue = "case \"$*\" in *'--clusters a,b'*) echo 'CLUSTER: a'; echo '12|PENDING|None|q|1||N/A|1:00|x'\n\
                  echo 'CLUSTER: b'; echo '12|PENDING|None|q|1||N/A|1:00|run-7'; esac";
    let pretended = Pretended::new(&[("squeue", squeue)]);
    let clusters = Some("a,b".to_owned());
    let commands = Commands { clusters, ..pretended.commands("sbatch", "squeue", "scancel") };
    assert_eq!(Slurm::new(commands).find("run-7").unwrap().map(String::from).as_deref(), Some("12;b"));
}

#[test]
fn a_job_is_found_by_its_mark_whatever_its_state() {
    let squeue =
        "echo '12_[1-3]|PENDING|None|q|1||N/A|1:00|run-7'; echo '13|COMPLETED|None|q|1|n1|5|0:00|run-77'";
    let (slurm, _kept) = cluster(&[("squeue", squeue)]);
    let found = |mark: &str| slurm.find(mark).unwrap().map(String::from);
    assert_eq!(found("run-7").as_deref(), Some("12"));
    assert_eq!(found("run-77").as_deref(), Some("13"));
    assert_eq!(found("run"), None);
}

#[test]
fn cancelling_believes_the_words_and_not_the_code() {
    let cancel = |words: &str| {
        let (slurm, _kept) = cluster(&[("scancel", &format!("echo '{words}' >&2"))]);
        slurm.cancel(&JobId::new("7").unwrap())
    };
    assert_eq!(cancel("scancel: Terminating job 7"), Ok(()));
    let unknown = cancel("scancel: error: Kill job error on job id 7: Invalid job id specified");
    assert!(matches!(unknown, Err(BatchError::NoSuchJob { .. })));
    let over = cancel("scancel: error: Kill job error on job id 7: Job/step already completing or completed");
    assert!(matches!(over, Err(BatchError::AlreadyEnded { .. })));
    let denied = cancel("scancel: error: Kill job error on job id 7: Access/permission denied").unwrap_err();
    assert!(denied.hint().is_some(), "{denied}");
}
