//! No batch system at all: `--cluster local` runs the job on this machine, detached.

use crate::site::{LONG, SHORT, Site, dagmar};
use std::path::Path;

#[test]
fn a_run_on_this_machine_outlives_the_shell_that_started_it() {
    let site = Site::with("name = \"short\"\n[tasks.a]\nrun = \"sleep 2; echo hello\"\n");
    let line = format!("{} submit g.toml --cluster local; kill -KILL $$", dagmar().display());
    let shell = site.start(Path::new("setsid"), &["--wait", "sh", "-c", &line]).end();
    assert!(shell.text().starts_with("submitted short-0001 as job "), "{shell}");
    site.expect(0, &["wait"]);
    assert_eq!(site.expect(0, &["logs", "short-0001", "a", "--stdout"]).text(), "hello\n");
    site.place.expect_nothing_left();
    assert_eq!(site.job_count(), 0, "PBS was not asked");
}

#[test]
fn a_run_on_this_machine_is_looked_at_and_cancelled() {
    let site = Site::with(LONG);
    site.submit_to("local", &[]);
    site.await_start();
    assert_eq!(site.status()["job"]["view"]["state"], "running");
    site.expect(0, &["cancel", "long-0001"]).tells("is asked to end");
    site.expect(130, &["wait"]);
    site.place.expect_nothing_left();
}

#[test]
fn a_run_on_this_machine_is_cancelled_at_once() {
    let site = Site::with(LONG);
    site.submit_to("local", &[]);
    site.await_start();
    site.expect(0, &["cancel", "long-0001", "--now"]).tells("is cancelled");
    site.expect(130, &["wait"]);
    site.place.expect_nothing_left();
}

#[test]
fn a_run_on_this_machine_keeps_to_its_walltime() {
    let site = Site::with(LONG);
    site.submit_to("local", &["-t", "8s"]);
    site.expect(4, &["wait"]);
    site.place.expect_nothing_left();
}

#[test]
fn a_failed_run_on_this_machine_is_told() {
    let site = Site::with("[tasks.a]\nrun = \"exit 3\"\n");
    site.submit_to("local", &[]);
    site.expect(3, &["wait"]);
}

#[test]
fn a_run_is_submitted_and_waited_for_in_one() {
    let site = Site::with(SHORT);
    site.expect(0, &["submit", "g.toml", "--cluster", "local", "--wait"]).tells("short-0001 is over");
    let site = Site::with("[tasks.a]\nrun = \"false\"\n");
    site.expect(3, &["submit", "g.toml", "--cluster", "pbs", "-t", "2m", "--wait"]);
}

#[test]
fn a_task_that_kills_its_rank_does_not_stop_the_others() {
    let site = Site::with(concat!(
        "name = \"poisoned\"\n[tasks.good]\neach = { i = \"1..50\" }\nrun = \"echo {i}\"\n",
        "[tasks.bad]\ncall = \"crash\"\nargs = [\"segv\"]\n",
        "[tasks.worse]\ncall = \"crash\"\nargs = [\"exit\"]\n[tasks.behind]\ncall = \"list\"\nargs = [\"@bad\"]\n",
    ));
    site.expect(3, &["submit", "g.toml", "--cluster", "local", "--wait"]).tells("poisoned-0001 is over");
    let counts = site.status()["report"]["tasks"].clone();
    assert_eq!(
        (&counts["finished"], &counts["failed"], &counts["aborted"]),
        (&50.into(), &2.into(), &1.into())
    );
    // Six times a rank was lost: twice as often as may be in vain.
    let words = site.place.run().join("output");
    let words = std::fs::read_dir(words).unwrap().flatten().map(|entry| entry.file_name());
    let words = words.filter(|name| name.to_string_lossy().ends_with(".last-words")).count();
    assert_eq!(words, 6, "{}", site.printed("poisoned-0001"));
    site.place.expect_nothing_left();
}
