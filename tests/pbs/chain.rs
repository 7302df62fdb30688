//! Several jobs for one run: each goes on where the one before ended.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{json, kill, until};
use crate::site::{LONG, SHORT, Site, dagmar};

/// Ten tasks of two seconds, of which one runs at a time; each says when it begins.
const TEN: &str =
    "name = \"ten\"\n[tasks.a]\neach = { i = \"1..10\" }\nrun = \"echo {i} >> began; sleep 2; echo {i}\"\n";

/// Words by which a job asks for 20 s and works for about 15, less what a busy machine takes to start it.
const BRIEF: &[&str] = &["--nodes", "1", "-t", "20s", "--set", "margin=5s", "-c", "1"];

/// Submits `g.toml` as a chain, and returns the jobs' ids.
fn submit(site: &Site, cluster: &str, jobs: &str, arguments: &[&str]) -> Vec<String> {
    let words = ["submit", "g.toml", "--cluster", cluster, "--chain", jobs, "--output", "json"];
    let said = json(&site.expect(0, &[&words, arguments].concat()).stdout);
    let ids = said["jobs"].as_array().expect("the jobs are told").iter();
    let ids: Vec<String> = ids.map(|id| id.as_str().expect("an id is text").to_owned()).collect();
    assert_eq!(said["job"], ids[0].as_str(), "{said}");
    ids
}

/// How often each task began.
fn beginnings(site: &Site) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in site.place.read("began").lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// A wrapper around a command of PBS's in the site's folder.
fn wrapper(site: &Site, name: &str, text: &str) -> String {
    let path = site.place.write(name, format!("#!/bin/sh\n{text}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the wrapper can be called");
    path.display().to_string()
}

#[test]
fn a_run_longer_than_its_walltime_ends_in_a_later_job() {
    let site = Site::with(TEN);
    let jobs = submit(&site, "pbs", "5", BRIEF);
    assert_eq!(jobs, ["0.server", "1.server", "2.server", "3.server", "4.server"]);
    let said = site.expect(0, &["status"]);
    assert!(said.text().contains("; 4 jobs follow"), "{said}");
    let waited = site.expect(0, &["wait"]);
    waited.tells("ten-0001 is over: 10 finished, 0 failed; exit code 0");
    let counts = beginnings(&site);
    let (all, most) = (counts.values().sum::<u32>(), counts.values().max().copied());
    // Each command once, and those again that the end of a job cut off.
    assert!(counts.len() == 10 && all <= 10 + 4 && most <= Some(2), "{counts:?}");
    assert_eq!(site.job("0.server", "job_state", "F")["Exit_status"], 4);
    // What is not needed is taken back.
    let last = site.job("4.server", "job_state", "F");
    assert!(last.get("stime").is_none(), "{last:#}");
    assert!(site.printed("ten-0001").contains("not needed any more"), "{}", site.printed("ten-0001"));
    site.place.expect_nothing_left();
}

#[test]
fn a_job_that_is_not_needed_any_more_ends_at_once_and_well() {
    let site = Site::with("name = \"brief\"\n[tasks.a]\nrun = \"sleep 3; false\"\n");
    let qdel = wrapper(&site, "mute", "echo 'qdel: cannot connect to server' >&2; exit 1");
    site.place.write("far.toml", format!("extends = \"pbs\"\n[commands]\ncancel = [\"{qdel}\"]\n"));
    submit(&site, "far.toml", "3", &["-t", "2m"]);
    site.expect(3, &["wait"]);
    assert_eq!(site.job("0.server", "job_state", "F")["Exit_status"], 3);
    for job in ["1.server", "2.server"] {
        assert_eq!(site.job(job, "job_state", "F")["Exit_status"], 0);
    }
    assert!(site.printed("brief-0001").contains("is over already, with exit code 3"));
    site.expect(3, &["wait"]);
}

#[test]
fn a_run_that_gets_nowhere_does_not_use_up_its_chain() {
    let site = Site::with(LONG);
    submit(&site, "pbs", "3", BRIEF);
    site.expect(4, &["wait"]);
    let printed = site.printed("long-0001");
    assert!(printed.contains("no task has ended in job 0.server"), "{printed}");
    assert!(printed.contains("jobs 1.server, 2.server, which are not needed any more"), "{printed}");
    for job in ["1.server", "2.server"] {
        let job = site.job(job, "job_state", "F");
        assert!(job.get("stime").is_none(), "{job:#}");
    }
    assert_eq!(site.status()["exit_code"], 4);
}

#[test]
fn a_run_that_gets_nowhere_does_not_use_up_its_chain_even_if_nodes_cannot_cancel() {
    let site = Site::with(LONG);
    let qdel = wrapper(&site, "mute", "exit 1");
    site.place.write("far.toml", format!("extends = \"pbs\"\n[commands]\ncancel = [\"{qdel}\"]\n"));
    submit(&site, "far.toml", "2", BRIEF);
    site.expect(4, &["wait"]);
    assert_eq!(site.job("1.server", "job_state", "F")["Exit_status"], 0);
    assert!(site.printed("long-0001").contains("got nowhere in job 0.server, so this one does not try"));
}

#[test]
fn a_job_that_was_killed_with_all_that_was_in_it_is_followed_by_the_next() {
    let site = Site::with(TEN);
    let jobs = submit(&site, "pbs", "2", &["-t", "2m", "-c", "1"]);
    until("a task has ended", || match site.status()["groups"][0]["finished"].as_u64() {
        Some(1..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let session = site.job(&jobs[0], "job_state", "R")["session_id"].as_i64().expect("a job has a session");
    kill("KILL", i32::try_from(session).expect("process ids fit"));
    for process in site.place.named("mpirun").into_iter().chain(site.place.named("dagmar")) {
        let _ = std::process::Command::new("kill").args(["-KILL", &process.pid.to_string()]).status();
    }
    site.expect(0, &["wait"]).tells("ten-0001 is over: 10 finished");
    let counts = beginnings(&site);
    assert!(counts.values().sum::<u32>() <= 10 + 2, "{counts:?}");
}

#[test]
fn a_chain_is_cancelled_as_a_whole() {
    let site = Site::with(LONG);
    submit(&site, "pbs", "3", &["-t", "2m"]);
    site.await_start();
    let said = site.expect(0, &["cancel", "long-0001"]);
    said.tells("`long-0001` is asked to end");
    said.tells("jobs 1.server, 2.server, which waited, are cancelled");
    site.expect(130, &["wait"]);
    assert_eq!(site.job("0.server", "job_state", "F")["Exit_status"], 130);
    let site = Site::with(LONG);
    submit(&site, "pbs", "2", &["--directive=-h"]);
    let said = site.expect(0, &["cancel", "long-0001"]);
    said.tells("jobs 0.server, 1.server of `long-0001` are cancelled");
    site.expect(130, &["wait"]);
}

#[test]
fn a_chain_is_cancelled_at_once() {
    let site = Site::with(LONG);
    submit(&site, "pbs", "2", &["-t", "2m"]);
    site.await_start();
    let said = site.expect(0, &["cancel", "long-0001", "--now", "--output", "json"]);
    let cancelled = json(&said.stdout)["jobs_cancelled"].clone();
    // The first one has the order as well, and may have ended by itself.
    assert!(cancelled.as_array().is_some_and(|ids| ids.contains(&"1.server".into())), "{cancelled}");
    // The signal of the batch system may be there before rank 0 has read the order.
    let waited = site.start(dagmar(), &["wait"]).end();
    assert!([Some(130), Some(4)].contains(&waited.code()), "{waited}");
    let second = site.job("1.server", "job_state", "F");
    assert!(second.get("stime").is_none(), "{second:#}");
}

#[test]
fn the_jobs_before_one_that_is_refused_stay() {
    let site = Site::with(LONG);
    let qsub = wrapper(
        &site,
        "strict",
        "case \"$*\" in *\"-3 \"*) echo 'qsub: would exceed limit on jobs' >&2; exit 188;; esac; exec qsub \"$@\"",
    );
    site.place.write("strict.toml", format!("extends = \"pbs\"\n[commands]\nsubmit = [\"{qsub}\"]\n"));
    let words = ["submit", "g.toml", "--cluster", "strict.toml", "-t", "2m", "--chain", "4"];
    let said = site.expect(0, &words);
    assert_eq!(said.text(), "submitted long-0001 as jobs 0.server, 1.server of PBS, one after the other\n");
    said.tells("warning: only 2 of 4 jobs were submitted: PBS refused: would exceed limit on jobs");
    let record = site.place.read("dagmar-runs/long-0001/batch.toml");
    assert!(record.contains("chain = 2") && site.job_count() == 2, "{record}");
    site.expect(0, &["cancel", "long-0001", "--now"]);
}

#[test]
fn each_job_of_a_chain_is_found_by_its_own_mark() {
    let site = Site::with(LONG);
    let deaf =
        wrapper(&site, "deaf", "qsub \"$@\" >/dev/null || exit\necho 'qsub: End of File' >&2; exit 15031");
    site.place.write("deaf.toml", format!("extends = \"pbs\"\n[commands]\nsubmit = [\"{deaf}\"]\n"));
    let jobs = submit(&site, "deaf.toml", "2", &["-t", "2m"]);
    assert_eq!(jobs, ["0.server", "1.server"]);
    assert_eq!(site.job_count(), 2);
    site.expect(0, &["cancel", "long-0001", "--now"]);
}

#[test]
fn a_chain_that_cannot_be_is_refused_before_anything_is_asked() {
    let site = Site::with(SHORT);
    let refused = site.expect(2, &["submit", "g.toml", "--cluster", "local", "--chain", "2"]);
    refused.tells("cannot submit a chain of 2 jobs: this machine has no queue");
    site.place.write("small.toml", "extends = \"pbs\"\n[limits]\nqueued_jobs_max = 3\n");
    let refused = site.expect(2, &["submit", "g.toml", "--cluster", "small.toml", "--chain", "4"]);
    refused.tells("0 wait or run already, and the site allows 3");
    site.expect(2, &["submit", "g.toml", "--cluster", "pbs", "--chain", "0"]);
    assert_eq!((site.place.runs().len(), site.job_count()), (0, 0));
}

#[test]
fn a_dry_run_says_how_many_jobs_there_would_be() {
    let site = Site::with(SHORT);
    let words = ["submit", "g.toml", "--cluster", "pbs", "--chain", "3", "--dry-run"];
    site.expect(0, &words).tells("it would be submitted as 3 jobs");
    let said = site.expect(0, &[&words[..], &["--output", "json"]].concat());
    assert_eq!(json(&said.stdout)["jobs"], 3);
}

#[test]
fn a_chain_is_followed_through_its_jobs() {
    let site = Site::with(TEN);
    submit(&site, "pbs", "8", BRIEF);
    let followed = site.expect(0, &["logs", "-f", "--stdout"]);
    for i in 1..=10 {
        assert!(followed.text().lines().any(|line| line == i.to_string()), "{i}: {followed}");
    }
}

#[test]
fn a_job_that_is_ended_before_its_run_begins_leaves_the_chain_as_it_is() {
    let site = Site::with(SHORT);
    site.place.write("start", "[ -e started ] || { touch started; exec sleep 600; }\nexec mpirun \"$@\"\n");
    let start = site.place.path().join("start");
    let template = format!("extends = \"pbs\"\n[launcher]\ncommand = [\"sh\", \"{}\"]\n", start.display());
    site.place.write("slow.toml", template);
    let jobs = submit(&site, "slow.toml", "2", &["-t", "10m"]);
    until("the launcher is started", || match site.place.path().join("started").exists() {
        true => Ok(()),
        false => Err("it is not".to_owned()),
    });
    assert_eq!(site.pbs(&["qdel", &jobs[0]]).code(), Some(0));
    site.expect(0, &["wait"]).tells("short-0001 is over: 1 finished");
    assert_eq!(site.job(&jobs[0], "job_state", "F")["Exit_status"], 4);
    assert_eq!(site.job(&jobs[1], "job_state", "F")["Exit_status"], 0);
}
