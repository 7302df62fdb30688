//! Runs that outlive their job: what is durable is not repeated.

use std::env;
use std::time::Duration;

use crate::harness::{json, until_within};
use crate::testbed::{Site, beginnings, field};

/// Tasks of ten seconds; each says when it begins, and does not end well if it is told to stop.
fn tens(count: u32) -> String {
    format!(
        "name = \"tens\"\n[tasks.a]\neach = {{ i = \"1..{count}\" }}\nrun = \"echo {{i}} >> began; sleep 10; echo {{i}}\"\n"
    )
}

#[test]
fn two_minutes_of_work_end_in_jobs_of_one_minute() {
    check_chain(24, "1m", 5, Duration::from_secs(420));
}

#[test]
fn ten_minutes_of_work_end_in_jobs_of_three_minutes() {
    if env::var_os("DAGMAR_TEST_LONG").is_none() {
        println!("not run: it takes twelve minutes; `DAGMAR_TEST_LONG=1` runs it");
        return;
    }
    check_chain(120, "3m", 5, Duration::from_secs(1800));
}

/// Two workers of one core run `count` tasks of ten seconds.
fn check_chain(count: u32, walltime: &str, chain: u32, patience: Duration) {
    let Some(site) = Site::with(&tens(count)) else { return };
    let chain = chain.to_string();
    let said = site.expect(
        0,
        &[
            "submit",
            "g.toml",
            "--cluster",
            "slurm",
            "-N",
            "2",
            "-c",
            "1",
            "-t",
            walltime,
            "--set",
            "margin=10s",
            "--chain",
            &chain,
            "--output",
            "json",
        ],
    );
    let jobs: Vec<String> = serde_json::from_value(json(&said.stdout)["jobs"].clone()).expect("jobs are ids");
    assert_eq!(jobs.len().to_string(), chain);
    until_within(patience, "the run is over", || {
        let status = site.status();
        if status["over"] == true { Ok(()) } else { Err(status.to_string()) }
    });
    site.expect(0, &["wait"]).tells(&format!("{count} finished, 0 failed; exit code 0"));
    until_within(Duration::from_secs(90), "no job is left", || {
        let left = site.slurm(&["squeue", "-h", "-j", &jobs.join(",")]);
        if left.text().is_empty() { Ok(()) } else { Err(left.text().to_owned()) }
    });
    let states: Vec<String> = jobs.iter().map(|job| field(&site, job, "JobState")).collect();
    let stopped = jobs.iter().filter(|job| field(&site, job, "ExitCode") == "4:0").count();
    let counts = beginnings(&site);
    let all: u32 = counts.values().sum();
    println!("{count} tasks began {all} times; {stopped} jobs stopped: {states:?}");
    assert_eq!(counts.len(), count as usize, "{counts:?}");
    // Two cores, each of which had a command when a job was stopped.
    assert!(
        stopped >= 1 && all <= count + 2 * stopped as u32,
        "{all} beginnings, {stopped} stops: {counts:?}"
    );
    // Those that stopped, the one in which the run ended, and those that nobody needed.
    assert_eq!(states[stopped], "COMPLETED", "{states:?}");
    for state in &states[stopped + 1..] {
        assert!(state == "CANCELLED" || state == "COMPLETED", "{states:?}");
    }
}

#[test]
fn a_requeued_job_goes_on_and_repeats_nothing_durable() {
    let graph = "name = \"again\"\n[tasks.first]\nrun = \"echo x >> first; echo first\"\n[tasks.a]\nafter = [\"first\"]\n\
                 run = \"if [ -e began ]; then echo second; else touch began; sleep 300; fi\"\n";
    let Some(site) = Site::with(graph) else { return };
    let job = site.submit(&["-t", "5m", "--requeue"]);
    until_within(Duration::from_secs(120), "the second task runs", || {
        if site.place.path().join("began").exists() { Ok(()) } else { Err(site.status().to_string()) }
    });
    site.slurm(&["scontrol", "requeue", &job]);
    until_within(Duration::from_secs(60), "the job waits again", || {
        let updated = site.slurm(&["scontrol", "update", &format!("JobId={job}"), "StartTime=now"]);
        let shown = site.slurm(&["squeue", "-h", "-j", &job, "-o", "%T %r"]);
        if updated.code() == Some(0) { Ok(()) } else { Err(format!("{updated} {shown}")) }
    });
    site.expect(0, &["wait"]);
    let logs = site.expect(0, &["logs", "again-0001", "a", "--stdout"]);
    assert_eq!(logs.text(), "second\n");
    assert_eq!(site.place.read("first"), "x\n");
    assert!(!site.place.run().join("earlier-1").exists());
}

#[test]
fn the_next_job_waits_for_one_that_is_queued_again() {
    let Some(site) = Site::with("name = \"long\"\n[tasks.a]\nrun = [\"sleep\", \"300\"]\n") else { return };
    let words = ["submit", "g.toml", "--cluster", "slurm", "-t", "5m", "--requeue", "--chain", "2"];
    let said = json(&site.expect(0, &[&words[..], &["--output", "json"]].concat()).stdout);
    let [first, second] = [0, 1].map(|place| said["jobs"][place].as_str().expect("an id").to_owned());
    site.await_tasks("running", 1);
    site.slurm(&["scontrol", "requeuehold", &first]);
    until_within(Duration::from_secs(60), "the job waits again", || {
        let state = field(&site, &first, "JobState");
        if state == "PENDING" { Ok(()) } else { Err(state) }
    });
    assert_eq!(field(&site, &second, "JobState"), "PENDING");
    assert_eq!(field(&site, &second, "Reason"), "Dependency");
    assert_eq!(site.status()["over"], false);
    let said = site.expect(0, &["cancel", "long-0001"]);
    said.tells(&format!("jobs {first}, {second} of `long-0001` are cancelled"));
    site.expect(4, &["wait"]);
}
