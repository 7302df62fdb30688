//! An MPI that tolerates the loss of a rank (ULFM): the run goes on without it, in the same start.
//!
//! The same program serves: Open MPI 5 has the library that it was linked with. `DAGMAR_TEST_ULFM` is where it is
//! installed; `scripts/test ulfm` does so.
#![cfg(feature = "mpi")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{MPI_VARIABLES, Place, Ran, Ranks, json, kill, until};

/// Outputs of a few MiB go between the workers, and commands write down that they began.
const GRAPH: &str = r#"
name = "g"
[tasks.block]
each = { i = "1..40" }
call = "range"
args = [400000]
[tasks.slow]
each = { i = "1..40" }
run = "echo {i} >> started; sleep 0.1"
[tasks.pair]
each = { i = "2..40" }
call = "concat"
args = ["@block[{i}]", "@block[{i-1}]"]
after = ["slow[{i}]"]
[tasks.len]
each = { i = "2..40" }
call = "len"
args = ["@pair[{i}]"]
[tasks.sum]
call = "sum"
args = ["@len"]
"#;

fn prefix() -> Option<PathBuf> {
    let prefix = std::env::var_os("DAGMAR_TEST_ULFM").map(PathBuf::from);
    if prefix.is_none() {
        println!("cannot run here: no Open MPI 5; `scripts/test ulfm` installs one");
    }
    prefix
}

/// dagmar under an mpirun that goes on when a rank is lost.
fn tolerant(place: &Place, prefix: &Path, ranks: u32, arguments: &[&str]) -> Command {
    let mut command = place.command_of(&prefix.join("bin/mpirun"));
    command.args(["--with-ft", "ulfm", "-n", &ranks.to_string(), env!("CARGO_BIN_EXE_dagmar")]);
    command.args(arguments).env("LD_LIBRARY_PATH", prefix.join("lib")).envs(MPI_VARIABLES);
    command
}

fn started(place: &Place) -> usize {
    fs::read_to_string(place.path().join("started")).map_or(0, |text| text.lines().count())
}

fn pid_of_rank(place: &Place, rank: u32) -> i32 {
    let mark = format!("OMPI_COMM_WORLD_RANK={rank}");
    let is_it = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let found = place.named("dagmar").into_iter().find(|process| is_it(process.pid));
    found.expect("the rank runs").pid
}

/// Of how many commands the run's journal has the end.
fn ended(place: &Place) -> usize {
    let status = place.start(Ranks::Alone, &["status", "out", "--output", "json"]).end();
    if status.code() != Some(0) {
        return 0;
    }
    let groups = json(&status.stdout)["groups"].clone();
    let slow = groups.as_array().into_iter().flatten().find(|group| group["name"] == "slow");
    slow.and_then(|group| group["finished"].as_u64()).map_or(0, |count| count as usize)
}

/// Runs the graph and kills a rank in the midst of it.
fn run_without(place: &Place, prefix: &Path, rank: u32) -> Ran {
    let arguments = ["run", "g.toml", "sum", "--cpus", "1", "--into", "out"];
    let running = place.spawn(tolerant(place, prefix, 4, &arguments));
    until("commands have ended", || match ended(place) {
        6.. => Ok(()),
        fewer => Err(fewer.to_string()),
    });
    kill("KILL", pid_of_rank(place, rank));
    running.end()
}

#[test]
fn a_run_goes_on_without_a_worker_that_was_killed() {
    let Some(prefix) = prefix() else { return };
    for rank in 1..4 {
        let place = Place::with(GRAPH);
        let ran = run_without(&place, &prefix, rank);
        assert_eq!((ran.code(), ran.text().trim()), (Some(0), "31200000"), "{ran}");
        ran.tells("1 worker lost");
        assert!(!place.path().join("out/journal.2").exists(), "no second start was needed");
        // The one that ran, and the one that may have begun behind it.
        assert!(started(&place) <= 39 + 2, "{}", place.read("started"));
        place.expect_nothing_left();
    }
}

#[test]
fn without_rank_0_the_others_end_and_the_run_is_resumed() {
    let Some(prefix) = prefix() else { return };
    let place = Place::with(GRAPH);
    let ran = run_without(&place, &prefix, 0);
    assert_ne!(ran.code(), Some(0), "{ran}");
    place.expect_nothing_left();
    let (before, known) = (started(&place), ended(&place));
    assert!(known >= 6, "{known}");
    let resumed = place.spawn(tolerant(&place, &prefix, 4, &["resume", "out", "--cpus", "1"])).end();
    assert_eq!((resumed.code(), resumed.text().trim()), (Some(0), "31200000"), "{resumed}");
    assert!(started(&place) <= before + 40 - known, "{known} of {before} were known: {resumed}");
}

/// Rank 0 watches for a while whether somebody else still has the run; one of those that wait for it is killed then.
#[test]
fn a_worker_that_is_lost_before_the_run_begins_is_not_waited_for() {
    let Some(prefix) = prefix() else { return };
    let place = Place::with(GRAPH);
    run_without(&place, &prefix, 0);
    let lease = place.path().join("out/lease");
    let text = fs::read_to_string(&lease).expect("there is a lease");
    let elsewhere = |line: &str| {
        if line.starts_with("host = ") { "host = \"elsewhere\"".into() } else { line.to_owned() }
    };
    fs::write(&lease, text.lines().map(elsewhere).collect::<Vec<_>>().join("\n")).expect("it can be written");
    let running = place.spawn(tolerant(&place, &prefix, 4, &["resume", "out", "--cpus", "1"]));
    // All ranks have greeted each other by then.
    until("rank 0 watches", || match running.stderr() {
        text if text.contains("waiting up to 15 s") => Ok(()),
        text => Err(text),
    });
    kill("KILL", pid_of_rank(&place, 2));
    let ran = running.end();
    assert_eq!((ran.code(), ran.text().trim()), (Some(0), "31200000"), "{ran}");
    ran.tells("waiting up to 15 s to see whether process ")
        .tells("158 tasks finished in")
        .tells("on 2 workers");
    place.expect_nothing_left();
}

#[test]
fn a_task_that_kills_its_rank_is_given_up_while_the_others_go_on() {
    let Some(prefix) = prefix() else { return };
    let graph = concat!(
        "name = 'g'\n[tasks.poison]\ncall = 'crash'\nargs = ['segv']\n",
        "[tasks.good]\neach = { i = '1..30' }\nrun = 'sleep 0.1; echo {i}'\n",
        "[tasks.sum]\ncall = 'sum'\nargs = ['@good']\n",
    );
    let place = Place::with(graph);
    let arguments = ["run", "g.toml", "--cpus", "1", "--into", "out", "--crash-limit", "2"];
    let ran = place.spawn(tolerant(&place, &prefix, 5, &arguments)).end();
    ran.tells("error: 1 of 32 tasks failed").tells("31 tasks finished, 1 failed").tells("2 workers lost");
    assert_eq!(ran.code(), Some(3), "{ran}");
    assert!(!place.path().join("out/journal.2").exists(), "no second start was needed");
    place.expect_nothing_left();
}
