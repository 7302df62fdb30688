//! However a job ends, the user is told what is true.

use std::fs;

use crate::harness::{kill, until};
use crate::site::{LONG, SHORT, Site};

#[test]
fn a_failed_task_is_the_end_of_the_run_and_of_the_job() {
    let site = Site::with("[tasks.a]\nrun = \"echo broken >&2; exit 9\"\n");
    let job = site.submit(&[]);
    site.expect(3, &["wait"]);
    assert_eq!(site.status()["exit_code"], 3);
    assert_eq!(site.job(&job, "job_state", "F")["Exit_status"], 3);
    assert!(site.expect(0, &["logs"]).text().contains("broken"));
}

#[test]
fn a_held_run_is_cancelled_in_the_queue() {
    let site = Site::with(LONG);
    let job = site.submit(&["--directive=-h"]);
    site.expect(0, &["cancel", "long-0001"]).tells(&format!("job {job} of `long-0001` is cancelled"));
    site.expect(130, &["wait"]).tells("`long-0001` left no outcome: job 0.server was cancelled");
    assert!(!site.place.run().join("journal").exists());
}

#[test]
fn a_running_run_is_cancelled_through_its_mailbox() {
    let site = Site::with(LONG);
    let job = site.submit(&[]);
    site.await_start();
    site.expect(0, &["cancel", "long-0001"]).tells("is asked to end");
    site.expect(130, &["wait"]);
    assert_eq!(site.status()["groups"][0]["cancelled"], 1);
    assert_eq!(site.job(&job, "job_state", "F")["Exit_status"], 130);
}

#[test]
fn a_run_stops_before_its_walltime() {
    let site = Site::with(LONG);
    let job = site.submit_for("16s", &[]);
    site.expect(4, &["wait"]);
    let status = site.status();
    assert_eq!((&status["over"], &status["groups"][0]["running"]), (&true.into(), &0.into()), "{status}");
    let job = site.job(&job, "job_state", "F");
    assert_eq!(job["Exit_status"], 4, "it ended by itself: {job:#}");
    assert!(!site.printed("long-0001").contains("job killed"), "{}", site.printed("long-0001"));
}

#[test]
fn a_job_that_reached_its_walltime_before_it_began_is_told() {
    let site = Site::with(LONG);
    site.place.write("slow.toml", "extends = \"pbs\"\nprologue = [\"sleep 60\"]\n");
    site.submit_to("slow.toml", &["-t", "2s"]);
    site.expect(4, &["wait"]).tells("left no outcome: job 0.server reached its walltime");
    assert!(
        site.expect(0, &["status"]).text().contains("never begun: job 0.server of PBS reached its walltime")
    );
}

#[test]
fn qdel_stops_a_run_in_order() {
    let site = Site::with(LONG);
    let job = site.submit(&[]);
    site.await_start();
    assert_eq!(site.pbs(&["qdel", &job]).code(), Some(0));
    site.expect(4, &["wait"]);
    let status = site.status();
    assert_eq!((&status["over"], &status["exit_code"]), (&true.into(), &4.into()), "{status}");
    assert_eq!(status["groups"][0]["running"], 0, "{status}");
    site.place.expect_nothing_left();
}

#[test]
fn a_job_whose_node_died_is_no_success() {
    let site = Site::with(LONG);
    let job = site.submit(&[]);
    site.await_start();
    let session = site.job(&job, "job_state", "R")["session_id"].as_i64().expect("a job has a session");
    // The script goes first, so that it cannot say how the rest ended.
    kill("KILL", i32::try_from(session).expect("process ids fit"));
    for process in site.place.named("mpirun").into_iter().chain(site.place.named("dagmar")) {
        let _ = std::process::Command::new("kill").args(["-KILL", &process.pid.to_string()]).status();
    }
    site.expect(5, &["wait"]).tells("left no outcome: job 0.server was killed by SIGKILL");
    assert!(
        site.expect(0, &["status"]).text().contains("cut off: job 0.server of PBS was killed by SIGKILL")
    );
}

/// Rank 0 gives the worker up and ends the run as one without workers, in a job that has still time.
#[test]
fn a_run_whose_only_worker_stands_still_goes_on_in_the_same_job() {
    let graph = "name = \"two\"\n[tasks.a]\nrun = \"echo a >> began; echo a\"\n[tasks.b]\nafter = [\"a\"]\n\
                 run = \"echo b >> began; sleep 6\"\n";
    let site = Site::with(graph);
    let hasty = "extends = \"pbs\"\n[environment.variables]\nDAGMAR_SILENCE = \"3\"\n";
    site.place.write("hasty.toml", hasty);
    let job = site.submit_to("hasty.toml", &["-t", "3m"]);
    until("the second task runs", || match fs::read_to_string(site.place.path().join("began")) {
        Ok(began) if began == "a\nb\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let is_worker = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == b"OMPI_COMM_WORLD_RANK=1")
    };
    let ranks = site.place.named("dagmar").into_iter().filter(|process| process.line.contains("run --into"));
    let workers: Vec<i32> = ranks.map(|process| process.pid).filter(|pid| is_worker(*pid)).collect();
    assert!(!workers.is_empty(), "rank 1 runs");
    workers.into_iter().for_each(|pid| kill("STOP", pid));
    site.expect(0, &["wait"]).tells("two-0001 is over: 2 finished, 0 failed");
    assert_eq!(site.job(&job, "job_state", "F")["Exit_status"], 0);
    // The worker may stand still before the first task's output is on the disk: then that one runs again as well.
    let printed = site.printed("two-0001");
    let began = match printed.contains("resumed: 1 durable, 1 to do, 0 repeated") {
        true => "a\nb\nb\n",
        false => "a\nb\na\nb\n",
    };
    assert_eq!(site.place.read("began"), began, "{printed}");
}

#[test]
fn a_job_that_waits_for_a_failed_one_never_starts() {
    let site = Site::with("name = \"first\"\n[tasks.a]\nrun = \"sleep 2; false\"\n");
    let first = site.submit(&[]);
    site.place.write("g.toml", "name = \"second\"\n[tasks.a]\nrun = \"touch begun\"\n");
    site.submit(&["--dependency", &format!("afterok:{first}")]);
    site.expect(3, &["wait", "first-0001"]);
    site.expect(6, &["wait", "second-0001"])
        .tells("never started: what it waited for did not end as it demands");
    assert!(!site.place.path().join("begun").exists());
}

#[test]
fn a_job_that_waits_for_a_good_one_runs_after_it() {
    let site = Site::with("name = \"first\"\n[tasks.a]\nrun = \"sleep 2; echo here > first\"\n");
    let first = site.submit(&[]);
    site.place.write("g.toml", "name = \"second\"\n[tasks.a]\nrun = \"cat first\"\n");
    site.submit(&["--dependency", &format!("afterok:{first}")]);
    site.expect(0, &["wait", "second-0001"])
        .tells("is held: Hold_Types = s (it waits for another job to end)");
}

#[test]
fn a_job_that_nobody_knows_any_more_is_no_success() {
    let site = Site::with(LONG);
    let job = site.submit(&["--directive=-h"]);
    fs::remove_dir_all(site.place.path().join("pbs/jobs/0")).expect("the server forgets");
    site.expect(5, &["wait"]).tells(&format!("left no outcome: job {job}"));
}

#[test]
fn without_a_history_the_outcome_is_believed_and_its_absence_too() {
    let site = Site::without_history(SHORT);
    let job = site.submit(&[]);
    site.expect(0, &["wait"]);
    until("the job is forgotten", || {
        let asked = site.pbs(&["qstat", &job]);
        if asked.stderr.contains("Unknown Job Id") { Ok(()) } else { Err(asked.to_string()) }
    });
    site.expect(0, &["wait"]);
    site.place.write("g.toml", LONG);
    let job = site.submit(&["--directive=-h"]);
    assert_eq!(site.pbs(&["qdel", &job]).code(), Some(0));
    site.expect(5, &["wait", "long-0001"]).tells("left no outcome");
}

/// A launcher that does something else in its first starts.
fn with_odd_starts(graph: &str, starts: u32, line: &str) -> Site {
    with_odd_starts_in(graph, starts, line, 60)
}

/// The same, with so many seconds for the ranks to begin in.
fn with_odd_starts_in(graph: &str, starts: u32, line: &str, seconds: u32) -> Site {
    let site = Site::with(graph);
    let script = format!(
        "echo start >> starts\n[ $(wc -l < starts) -gt {starts} ] || {{ {line}; }}\nexec mpirun \"$@\"\n"
    );
    site.place.write("start", &script);
    let start = site.place.path().join("start");
    let template = format!(
        "extends = \"pbs\"\n[launcher]\ncommand = [\"sh\", \"{}\"]\n[environment.variables]\nDAGMAR_STARTING = \"{seconds}\"\n",
        start.display()
    );
    site.place.write("odd.toml", &template);
    site.submit_to("odd.toml", &["-t", "3m"]);
    site
}

fn starts(site: &Site) -> usize {
    site.place.read("starts").lines().count()
}

#[test]
fn ranks_that_died_as_they_started_are_started_again() {
    let site = with_odd_starts(SHORT, 1, "kill -SEGV $$");
    site.expect(0, &["wait"]);
    assert_eq!(starts(&site), 2);
    let said = site.printed("short-0001");
    assert!(
        said.contains("`short-0001` did not begin (the launcher ended with 139); starting it again"),
        "{said}"
    );
}

#[test]
fn a_start_is_tried_three_times_and_not_at_all_again_if_it_was_misused() {
    let site = with_odd_starts(SHORT, 9, "kill -SEGV $$");
    site.expect(5, &["wait"]);
    assert_eq!(starts(&site), 3);
    let said = site.printed("short-0001");
    assert!(said.contains("error: `short-0001` did not begin: its launcher ended with 139"), "{said}");
    let site = with_odd_starts(SHORT, 9, "exit 2");
    site.expect(2, &["wait"]);
    assert_eq!(starts(&site), 1);
}

#[test]
fn ranks_that_do_not_begin_are_ended_and_started_again() {
    let site = with_odd_starts_in(SHORT, 1, "exec sleep 600", 15);
    site.expect(0, &["wait"]);
    assert_eq!(starts(&site), 2);
    let said = site.printed("short-0001");
    assert!(said.contains("`short-0001` did not begin in time; starting it again"), "{said}");
}

#[test]
fn a_launcher_that_stays_when_its_scheduler_is_dead_is_ended() {
    let graph = "name = \"short\"\n[tasks.a]\nrun = \"sleep 8\"\n";
    let site = with_odd_starts(graph, 1, "mpirun \"$@\"; exec sleep 600");
    site.await_start();
    let lease = fs::read_to_string(site.place.run().join("lease")).expect("somebody has the run");
    let pid = lease.lines().find_map(|line| line.strip_prefix("pid = ")).expect("its owner is a process");
    kill("KILL", pid.parse().expect("a number"));
    site.expect(0, &["wait"]);
    assert_eq!(starts(&site), 2);
}
