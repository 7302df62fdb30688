//! From the login node: accepted, refused in words, never twice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::json;
use crate::site::{LONG, SHORT, Site};

#[test]
fn a_graph_goes_through_the_queue() {
    let graph = "name = \"two\"\n[tasks.a]\nrun = \"echo hello\"\n[tasks.b]\nrun = \"cat\"\nstdin = \"@a\"\n";
    let site = Site::with(graph);
    let said = site.expect(0, &["submit", "g.toml", "--cluster", "pbs", "--nodes", "1", "-t", "2m"]);
    assert_eq!(said.text(), "submitted two-0001 as job 0.server of PBS\n");
    site.expect(0, &["wait"]).tells("two-0001 is over: 2 finished, 0 failed; exit code 0");
    assert_eq!(site.expect(0, &["logs", "two-0001", "b", "--stdout"]).text(), "hello\n");
    let status = site.status();
    assert_eq!((&status["over"], &status["exit_code"]), (&true.into(), &0.into()), "{status}");
    let job = site.job("0.server", "job_state", "F");
    assert_eq!((&job["Exit_status"], &job["Job_Name"]), (&0.into(), &"two-0001".into()), "{job:#}");
    assert!(site.printed("two-0001").contains("2 tasks finished"), "{}", site.printed("two-0001"));
}

#[test]
fn a_closed_connection_takes_nothing_with_it() {
    let site = Site::with(SHORT);
    let line =
        format!("{} submit g.toml --cluster pbs -t 2m; kill -KILL $$", crate::site::dagmar().display());
    let shell = site.start(Path::new("setsid"), &["--wait", "sh", "-c", &line]).end();
    assert!(shell.text().starts_with("submitted short-0001 as job "), "{shell}");
    site.expect(0, &["wait"]);
    site.place.expect_nothing_left();
}

#[test]
fn a_refusal_is_told_in_the_words_of_pbs_and_leaves_nothing() {
    let site = Site::with(SHORT);
    let refused = site.expect(6, &["submit", "g.toml", "--cluster", "pbs", "--queue", "nosuch"]);
    refused.tells("error: PBS refused: Unknown queue\n").tells("`qsub` exited with 170");
    refused.tells("queues here: `workq`, `long`");
    assert!(site.place.runs().is_empty());
    assert_eq!(site.job_count(), 0);
}

#[test]
fn bad_words_never_reach_pbs() {
    let site = Site::with("[tasks.a]\nrun = \"true\"\nafter = [\"b\"]\n");
    site.expect(2, &["submit", "g.toml", "--cluster", "pbs"]).tells("`b`");
    site.place.write("g.toml", SHORT);
    site.expect(2, &["submit", "g.toml", "--cluster", "pbs", "-A", "a\n#PBS -l walltime=1"]).tells("account");
    assert_eq!((site.place.runs().len(), site.job_count()), (0, 0));
}

/// Submits through a `qsub` that ends with `ending` after it has done its work.
fn check_lost_answer(ending: &str, graph: &str) -> Site {
    let site = Site::with(graph);
    let wrapper = site.place.write("deaf", format!("#!/bin/sh\nqsub \"$@\" >/dev/null || exit\n{ending}\n"));
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("the wrapper can be called");
    let cluster = format!("extends = \"pbs\"\n[commands]\nsubmit = [\"{}\"]\n", wrapper.display());
    site.place.write("deaf.toml", cluster);
    let words = ["submit", "g.toml", "--cluster", "deaf.toml", "-t", "2m", "--output", "json"];
    let said = json(&site.expect(0, &words).stdout);
    assert_eq!((&said["was_looked_up"], &said["job"]), (&true.into(), &"0.server".into()), "{said}");
    assert_eq!(site.job_count(), 1);
    site
}

#[test]
fn an_answer_that_was_lost_does_not_submit_twice() {
    let site = check_lost_answer("echo 'qsub: End of File' >&2; exit 15031", LONG);
    site.await_start();
    site.expect(0, &["cancel", "long-0001"]);
    site.expect(130, &["wait"]);
}

#[test]
fn a_job_that_was_over_before_its_lost_answer_was_missed_is_found() {
    let site = check_lost_answer("exit 0", SHORT);
    site.expect(0, &["wait"]);
    assert_eq!(site.job_count(), 1);
}
