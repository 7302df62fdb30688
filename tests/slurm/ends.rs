//! However a job ends, the user is told what is true: cancelled, failed, out of time, requeued, never
//! started.

use std::time::Duration;

use crate::harness::until_within;
use crate::testbed::Site;

const LONG: &str = "name = \"long\"\n[tasks.a]\neach = { i = \"1..2\" }\nrun = [\"sleep\", \"300\"]\n";

#[test]
fn a_failed_task_is_the_end_of_the_run_and_of_the_job() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"echo broken >&2; exit 9\"\n") else { return };
    let job = site.submit(&["-t", "2m"]);
    site.expect(3, &["wait"]);
    site.expect(0, &["logs"]);
    assert_eq!(site.status()["exit_code"], 3);
    until_within(Duration::from_secs(30), "Slurm has the exit code", || {
        let shown = site.slurm(&["scontrol", "show", "job", &job]);
        if shown.text().contains("ExitCode=3:0") { Ok(()) } else { Err(shown.text().to_owned()) }
    });
}

#[test]
fn a_running_run_is_cancelled_through_its_mailbox() {
    let Some(site) = Site::with(LONG) else { return };
    site.submit(&["-t", "5m", "-c", "2"]);
    site.await_tasks("running", 2);
    site.expect(0, &["cancel", "long-0001"]).tells("is asked to end");
    site.expect(130, &["wait"]);
    assert_eq!(site.status()["groups"][0]["cancelled"], 2);
}

#[test]
fn a_queued_run_is_cancelled_in_the_queue() {
    let Some(site) = Site::with(LONG) else { return };
    let job = site.submit(&["--directive=--hold"]);
    let status = site.status();
    assert_eq!(
        (&status["over"], &status["job"]["view"]["state"]),
        (&false.into(), &"held".into()),
        "{status}"
    );
    site.expect(0, &["cancel", "long-0001"]).tells(&format!("job {job} of `long-0001` is cancelled"));
    site.expect(130, &["wait"]).tells("was cancelled");
}

#[test]
fn scancel_stops_a_run_in_order() {
    let Some(site) = Site::with(LONG) else { return };
    let job = site.submit(&["-t", "5m", "-c", "2"]);
    site.await_tasks("running", 2);
    site.slurm(&["scancel", &job]);
    site.expect(4, &["wait"]);
    let status = site.status();
    assert_eq!((&status["over"], &status["groups"][0]["running"]), (&true.into(), &0.into()), "{status}");
}

#[test]
fn a_run_stops_before_its_walltime() {
    let Some(site) = Site::with(LONG) else { return };
    site.submit(&["-t", "1m", "-c", "2"]);
    site.expect(4, &["wait"]);
    let status = site.status();
    assert_eq!((&status["over"], &status["exit_code"]), (&true.into(), &4.into()), "{status}");
}

#[test]
fn a_job_that_waits_for_a_failed_one_says_that_it_never_starts() {
    let Some(site) = Site::with("name = \"first\"\n[tasks.a]\nrun = \"false\"\n") else { return };
    let first = site.submit(&["-t", "2m"]);
    site.place.write("g.toml", "name = \"second\"\n[tasks.a]\nrun = \"true\"\n");
    site.submit(&["-t", "2m", "--dependency", &format!("afterok:{first}")]);
    site.expect(3, &["wait", "first-0001"]);
    until_within(Duration::from_secs(60), "the dependency is hopeless", || {
        let status = site.expect(0, &["status", "second-0001"]);
        if status.text().contains("DependencyNeverSatisfied") {
            Ok(())
        } else {
            Err(status.text().to_owned())
        }
    });
    site.expect(0, &["cancel", "second-0001"]);
    site.expect(6, &["wait", "second-0001"]).tells("never started");
}

#[test]
fn a_job_that_waits_for_a_good_one_runs_after_it() {
    let Some(site) = Site::with("name = \"first\"\n[tasks.a]\nrun = \"sleep 2; date +%s.%N > first\"\n")
    else {
        return;
    };
    let first = site.submit(&["-t", "2m"]);
    site.place.write("g.toml", "name = \"second\"\n[tasks.a]\nrun = \"cat first\"\n");
    site.submit(&["-t", "2m", "--dependency", &format!("afterok:{first}")]);
    site.expect(0, &["wait", "second-0001"]);
}

#[test]
fn a_run_that_is_queued_again_is_not_over_and_can_be_cancelled() {
    let Some(site) = Site::with(LONG) else { return };
    let job = site.submit(&["-t", "5m", "-c", "2", "--requeue"]);
    site.await_tasks("running", 2);
    site.slurm(&["scontrol", "requeuehold", &job]);
    until_within(Duration::from_secs(60), "the job waits again", || {
        let status = site.status();
        let waits = status["job"]["view"]["state"] == "held" || status["job"]["view"]["state"] == "queued";
        if waits && status["over"] == false { Ok(()) } else { Err(status.to_string()) }
    });
    site.expect(0, &["cancel", "long-0001"]).tells(&format!("job {job} of `long-0001` is cancelled"));
    // What it did before it was queued again is its outcome.
    site.expect(4, &["wait"]);
    site.expect(0, &["cancel", "long-0001"]).tells("is over already");
}

const NODES: &str =
    "extends = \"slurm\"\nnode_start = [\"hostname >> started\"]\nnode_stop = [\"hostname >> stopped\"]\n";

#[test]
fn every_node_is_prepared_and_tidied_up() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"cat started\"\n") else { return };
    site.place.write("nodes.toml", NODES);
    site.expect(0, &["submit", "g.toml", "--cluster", "nodes.toml", "-N", "2", "-t", "2m", "--wait"]);
    assert_eq!(site.place.read("started").lines().count(), 2);
    // The run is over for whoever waits; its job tidies up behind it.
    until_within(Duration::from_secs(30), "both nodes are tidied up", || {
        let stopped = std::fs::read_to_string(site.place.path().join("stopped")).unwrap_or_default();
        if stopped.lines().count() == 2 { Ok(()) } else { Err(stopped) }
    });
}

#[test]
fn what_was_prepared_is_tidied_up_even_if_the_rest_fails() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"touch ran\"\n") else { return };
    site.place.write("nodes.toml", NODES.replace("started\"", "started\", \"false\""));
    site.expect(2, &["submit", "g.toml", "--cluster", "nodes.toml", "-N", "2", "-t", "2m", "--wait"]);
    assert_eq!(site.place.read("stopped").lines().count(), 2);
    assert!(!site.place.path().join("ran").exists());
}

#[test]
fn a_launch_outside_of_the_job_leaves_a_living_run_alone() {
    let Some(site) = Site::with(LONG) else { return };
    site.submit(&["-t", "5m", "-c", "2"]);
    site.await_tasks("running", 2);
    let run = site.place.run().display().to_string();
    site.expect(2, &["launch", &run]).tells("this is no job");
    assert_eq!(site.status()["groups"][0]["running"], 2);
    site.expect(0, &["cancel", "long-0001"]);
    site.expect(130, &["wait"]);
}
