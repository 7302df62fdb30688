//! The commands of PBS and Torque, played by scripts that print what the real ones printed.

use super::*;
use crate::launch::batch::pretend::Pretended;

#[test]
fn the_id_of_a_submitted_job_keeps_its_suffix() {
    for (output, id) in [
        ("20.pbs\n", "20.pbs"),
        ("21[].pbs-1.site.org\n", "21[].pbs-1.site.org"),
        ("13\n", "13"),
        ("*** Maintenance on 2026-12-01. ***\n2026 begins well\n20.pbs\n", "20.pbs"),
    ] {
        assert_eq!(submitted_id(output).map(String::from).as_deref(), Some(id), "{output}");
    }
    for output in ["", "qsub: waiting", ".pbs", "[].pbs", "7$(x).pbs"] {
        assert_eq!(submitted_id(output), None, "{output}");
    }
}

#[test]
fn a_job_is_found_by_its_mark_in_json_and_in_text() {
    let text = "Job Id: 8.pbs\n    job_state = R\n    Variable_List = A=1,DAGMAR_SUBMISSION=run-7,\n\tB=2\n\n\
                Job Id: 9.pbs\n    job_state = Q\n    Variable_List = DAGMAR_SUBMISSION=run-70\n";
    let found = marked(&attributes::text(text), "run-7").map(String::from);
    assert_eq!(found.as_deref(), Some("8.pbs"));
    let json = r#"{"Jobs": {"8.pbs": {"Variable_List": {"DAGMAR_SUBMISSION": "run-7"}}, "9.pbs": {}}}"#;
    assert_eq!(marked(&attributes::json(json).unwrap(), "run-7").map(String::from), found);
    assert_eq!(marked(&attributes::text(text), "run"), None);
}

#[test]
fn the_queues_are_named() {
    assert_eq!(queue_names(&captured("qstat-Q-f.txt")), ["workq"]);
}

fn server(scripts: &[(&str, &str)]) -> (Pretended, Commands) {
    let pretended = Pretended::new(scripts);
    let commands = pretended.commands("qsub", "qstat", "qdel");
    (pretended, commands)
}

fn states(pbs: &Pbs, ids: &[&str]) -> Result<Vec<String>, BatchError> {
    let ids: Vec<JobId> = ids.iter().map(|id| JobId::new(*id).unwrap()).collect();
    let views = pbs.jobs(&ids)?;
    Ok(ids.iter().map(|id| views[id].state.to_string()).collect())
}

/// The path of a captured JSON answer.
fn capture(name: &str) -> String {
    format!("{}/tests/captures/openpbs-23.06/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn one_job_is_asked_for_in_json_and_several_as_text() {
    let printed =
        "printf 'Job Id: 6.pbs\\n    job_state = Q\\nJob Id: 7.pbs\\n    job_state = R\\n'; exit 153";
    let complaint = "echo 'qstat: Unknown Job Id 8.pbs' >&2";
    let qstat = format!(
        "case \"$*\" in *json*) cat {};; *) {complaint}; {printed}; esac",
        capture("qstat-xf-two-ids.json")
    );
    let (pretended, commands) = server(&[("qstat", &qstat)]);
    let pbs = Pbs::new(commands);
    assert_eq!(states(&pbs, &["6.pbs"]).unwrap(), ["failed with exit code 3"]);
    let found = states(&pbs, &["6.pbs", "7.pbs.long.name", "8.pbs"]).unwrap();
    assert_eq!(found[..2], ["is queued", "is running"]);
    assert!(found[2].starts_with("is unknown to the batch system"), "{found:?}");
    assert_eq!(pretended.asked()[0], "qstat -x -f -F json 6.pbs");
    assert_eq!(pretended.asked()[1], "qstat -x -f 6.pbs 7.pbs.long.name 8.pbs");
}

#[test]
fn a_server_without_history_is_asked_without_it() {
    let qstat = "case \"$*\" in *-x*) echo 'qstat: PBS server is not configured to maintain job history' >&2; exit 1;;\n\
                 *) echo 'qstat: Unknown Job Id 6.pbs' >&2; exit 153; esac";
    let (pretended, commands) = server(&[("qstat", qstat)]);
    let pbs = Pbs::new(commands);
    for _ in 0..2 {
        assert!(states(&pbs, &["6.pbs"]).unwrap()[0].starts_with("is unknown to the batch system"));
    }
    let asked = ["qstat -x -f -F json 6.pbs", "qstat -f -F json 6.pbs", "qstat -f -F json 6.pbs"];
    assert_eq!(pretended.asked(), asked);
}

#[test]
fn broken_json_is_asked_for_again_as_text() {
    let qstat = "case \"$*\" in *json*) echo '{\"Jobs\": {\"6.pbs\": {\"comment\": \"a\"b\"}}}';; *)\n\
                 printf 'Job Id: 6.pbs\\n    job_state = H\\n'; esac";
    let (_kept, commands) = server(&[("qstat", qstat)]);
    assert_eq!(states(&Pbs::new(commands), &["6.pbs"]).unwrap(), ["is held"]);
}

#[test]
fn a_server_that_does_not_answer_makes_no_job_vanish() {
    let (_kept, commands) =
        server(&[("qstat", "echo 'qstat: cannot connect to server pbs (errno=15010)' >&2; exit 255")]);
    let pbs = Pbs::new(commands);
    assert!(states(&pbs, &["6.pbs"]).unwrap_err().is_transient());
    assert!(states(&pbs, &["6.pbs", "7.pbs"]).unwrap_err().is_transient());
    assert!(pbs.find("mark").unwrap_err().is_transient());
}

#[test]
fn torque_is_asked_in_its_own_way() {
    let qstat = "printf 'Job Id: 6.head\\n    job_state = C\\n    exit_status = 271\\n'";
    let (pretended, commands) = server(&[("qstat", qstat)]);
    assert_eq!(states(&Pbs::torque(commands), &["6.head"]).unwrap(), ["was killed by SIGTERM"]);
    assert_eq!(pretended.asked(), ["qstat -f 6.head"]);
}

#[test]
fn a_job_that_ended_before_it_was_looked_for_is_found_in_the_history() {
    let ended = "printf 'Job Id: 8.pbs\\n    job_state = F\\n    Variable_List = DAGMAR_SUBMISSION=run-7\\n'";
    let qstat = format!("case \"$*\" in *-x*) {ended};; *) echo '{{\"pbs_version\": \"23\"}}'; esac");
    let (pretended, commands) = server(&[("qstat", &qstat), ("qselect", "printf '7.pbs\\n8.pbs\\n'")]);
    let pbs = Pbs::new(commands);
    assert_eq!(pbs.find("run-7").unwrap().map(String::from).as_deref(), Some("8.pbs"));
    assert_eq!(pretended.asked()[2], "qstat -x -f 8.pbs 7.pbs");
    assert_eq!(pbs.queued_jobs().unwrap(), 2);
}

#[test]
fn a_submission_that_failed_after_it_was_heard_is_not_a_refusal() {
    let broken = "echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255";
    for qsub in [broken, "kill -KILL $$", "echo 7.pbs; exit 1"] {
        let pretended = Pretended::new(&[("qsub", qsub)]);
        let pbs = Pbs::new(pretended.commands("qsub", "qstat", "qdel"));
        let error = pbs.submit(Path::new("job.sh"), "mark", None).unwrap_err();
        assert!(error.is_ambiguous(), "{qsub}: {error}");
    }
}

#[test]
fn a_wrong_queue_is_refused_with_the_right_ones() {
    let (_kept, commands) = server(&[
        ("qsub", "echo 'qsub: Unknown queue' >&2; exit 170"),
        ("qstat", "echo 'Queue: workq'; echo '    enabled = True'; echo 'Queue: gpu'"),
    ]);
    let error = Pbs::new(commands).submit(Path::new("job.sh"), "mark", None).unwrap_err();
    assert_eq!(error.to_string(), "PBS refused: Unknown queue");
    assert_eq!(error.hint().as_deref(), Some("queues here: `workq`, `gpu`"));
}

#[test]
fn cancelling_tells_jobs_that_are_over_or_unknown() {
    let cancel = |words: &str, code: i32| {
        let (_kept, commands) = server(&[("qdel", &format!("echo '{words}' >&2; exit {code}"))]);
        Pbs::new(commands).cancel(&JobId::new("7.pbs").unwrap())
    };
    assert_eq!(cancel("", 0), Ok(()));
    assert!(matches!(cancel("qdel: Unknown Job Id 7.pbs", 153), Err(BatchError::NoSuchJob { .. })));
    assert!(matches!(cancel("qdel: Job has finished 7.pbs", 35), Err(BatchError::AlreadyEnded { .. })));
}

#[test]
fn a_further_job_of_a_chain_waits_for_the_one_before_and_carries_its_own_mark() {
    let link = Link { after: JobId::new("7.pbs").unwrap(), carrier: "LANG,DAGMAR_SUBMISSION=run-7-2".into() };
    for make in [Pbs::new, Pbs::torque] {
        let (pretended, commands) = server(&[("qsub", "echo 8.pbs")]);
        let pbs = make(commands);
        assert_eq!(pbs.submit(Path::new("/r/job.sh"), "run-7", None).unwrap().as_str(), "8.pbs");
        pbs.submit(Path::new("/r/job.sh"), "run-7-2", Some(&link)).unwrap();
        let further = "qsub -W depend=afterany:7.pbs -v LANG,DAGMAR_SUBMISSION=run-7-2 /r/job.sh";
        assert_eq!(pretended.asked(), ["qsub /r/job.sh", further]);
    }
}
