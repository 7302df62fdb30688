//! Signals and `dagmar cancel` end a run in order: its tasks first, its record, then itself.

use std::time::Duration;

#[cfg(feature = "mpi")]
use crate::harness::kill;
use crate::harness::{BOTH, Place, Ranks, Running, until};

/// Two tasks that run until they are ended, and one that waits for them.
const LONG: &str = r#"
name = "long"
[tasks.long]
each = { i = "0..1" }
run = "echo started {i}; sleep 1000"
[tasks.after]
after = ["long"]
run = "touch after"
"#;

/// Ends only by KILL.
const STUBBORN: &str = r#"
name = "stubborn"
[tasks.stubborn]
run = "trap : TERM; while :; do sleep 1000; done"
grace = "1000s"
"#;

/// A run of `graph` whose `sleep`s have begun.
fn begun(place: &Place, ranks: Ranks, sleeps: usize) -> Running {
    let running = place.start(ranks, &["run", "g.toml", "--cpus", "2"]);
    place.await_sleeps(sleeps);
    running
}

/// What the run directory must say of a run that was ended.
fn check_record(place: &Place, code: i32) {
    let status = place.status();
    assert_eq!((&status["over"], &status["exit_code"]), (&true.into(), &code.into()), "{status}");
    assert_eq!(status["report"]["tasks"]["finished"], 0, "{status}");
    assert_eq!(status["report"]["tasks"]["failed"], 0, "{status}");
    assert!(!place.path().join("after").exists());
    let run = place.run();
    assert!(run.join("finished").is_file());
    let log = place.expect(0, Ranks::Alone, &["logs", "long-0001", "long[1]", "--stdout"]);
    assert_eq!(log.text(), "started 1\n", "what was printed before the end is kept");
}

fn check_signal(signal: &str, code: i32) {
    let place = Place::with(LONG);
    let running = begun(&place, Ranks::Alone, 2);
    running.signal(signal);
    let run = running.end();
    assert_eq!(run.code(), Some(code), "{run}");
    check_record(&place, code);
    place.expect_nothing_left();
}

#[test]
fn an_interrupt_ends_a_run_with_130() {
    check_signal("INT", 130);
}

#[test]
fn a_termination_ends_a_run_with_4() {
    check_signal("TERM", 4);
}

#[test]
fn a_hangup_is_a_termination() {
    check_signal("HUP", 4);
}

#[test]
fn a_second_signal_ends_a_run_at_once() {
    let place = Place::with(STUBBORN);
    let running = begun(&place, Ranks::Alone, 1);
    let first = place.named("sleep")[0].pid;
    running.signal("INT");
    // TERM ended the first sleep: the stop was obeyed, and the shell goes on.
    until("the stop was obeyed", || match place.named("sleep").iter().any(|sleep| sleep.pid != first) {
        true => Ok(()),
        false => Err("the first sleep lives".to_owned()),
    });
    let again = std::time::Instant::now();
    running.signal("INT");
    let run = running.end();
    assert_eq!(run.code(), Some(130), "{run}");
    assert!(again.elapsed() < Duration::from_secs(4), "{:?}: {run}", again.elapsed());
    run.tells("second signal");
    place.expect_nothing_left();
}

/// Its task takes a second to end.
const SLOW_TO_END: &str = r#"
name = "long"
[tasks.long]
run = "echo started 1; trap 'sleep 1; exit 1' TERM; sleep 1000"
"#;

/// Slurm sends TERM to all of a job, and to each step: the ranks have it twice.
#[test]
fn a_termination_that_comes_twice_is_one() {
    let place = Place::with(SLOW_TO_END);
    let running = begun(&place, Ranks::Alone, 1);
    running.signal("TERM");
    std::thread::sleep(Duration::from_millis(50));
    running.signal("TERM");
    let run = running.end();
    assert_eq!(run.code(), Some(4), "{run}");
    assert!(place.run().join("finished").is_file(), "{run}");
    place.expect_nothing_left();
}

/// `mpirun`'s own exit code of a job that was signalled lies; the run directory does not.
#[cfg(feature = "mpi")]
fn check_signal_to_mpirun(signal: &str, codes: &[i32]) {
    let place = Place::with(LONG);
    let running = begun(&place, Ranks::Mpi(3), 2);
    running.signal(signal);
    let run = running.end();
    assert!(run.took < Duration::from_secs(20), "{run}");
    place.expect_nothing_left();
    let code = place.status()["exit_code"].as_i64().map(|code| code as i32);
    assert!(code.is_some_and(|code| codes.contains(&code)), "{code:?} {run}");
    check_record(&place, code.expect("it was just looked at"));
}

#[cfg(feature = "mpi")]
#[test]
fn a_termination_of_mpirun_is_recorded() {
    check_signal_to_mpirun("TERM", &[4]);
}

#[cfg(feature = "mpi")]
#[test]
fn an_interrupt_of_mpirun_is_recorded() {
    // Open MPI passes it on as a termination.
    check_signal_to_mpirun("INT", &[4, 130]);
}

#[cfg(feature = "mpi")]
#[test]
fn a_termination_of_rank_0_alone_ends_the_job_with_4() {
    let place = Place::with(LONG);
    let running = begun(&place, Ranks::Mpi(3), 2);
    kill("TERM", rank_process(&place, 0));
    let run = running.end();
    assert_eq!(run.code(), Some(4), "{run}");
    check_record(&place, 4);
    place.expect_nothing_left();
}

/// The process of a rank: it is the one whose environment names it and that is no task.
#[cfg(feature = "mpi")]
fn rank_process(place: &Place, rank: u32) -> i32 {
    let marks = ["OMPI_COMM_WORLD_RANK", "PMI_RANK"].map(|name| format!("{name}={rank}"));
    let ranks = place.named("dagmar").into_iter().filter(|process| !process.line.contains("__spawner"));
    let is_rank = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| marks.iter().any(|mark| variable == mark.as_bytes()))
    };
    let mut found = ranks.map(|process| process.pid).filter(|pid| is_rank(*pid));
    found.next().unwrap_or_else(|| panic!("rank {rank} is not there: {:?}", place.processes()))
}

/// Tasks that do not heed TERM outlive mpirun's patience: they are killed, and so nothing is left.
#[cfg(feature = "mpi")]
#[test]
fn a_job_that_mpirun_kills_leaves_nothing() {
    let place = Place::with(STUBBORN);
    let running = begun(&place, Ranks::Mpi(3), 1);
    running.signal("TERM");
    let run = running.end();
    assert!(run.took < Duration::from_secs(20), "{run}");
    place.expect_nothing_left();
    let status = place.status();
    assert_eq!(status["over"], false, "nobody had the time to write the end: {status}");
}

/// A rank that is killed takes its tasks with it, and the job ends.
#[cfg(feature = "mpi")]
#[test]
fn a_killed_worker_leaves_nothing() {
    let place = Place::with(LONG);
    let running = begun(&place, Ranks::Mpi(3), 2);
    kill("KILL", rank_process(&place, 1));
    let run = running.end();
    assert!(!run.status.success() && run.took < Duration::from_secs(20), "{run}");
    place.expect_nothing_left();
}

#[test]
fn a_cancelled_run_ends_with_130_and_its_tasks_are_cancelled() {
    for ranks in BOTH {
        let place = Place::with(LONG);
        let running = begun(&place, ranks, 2);
        place.expect(0, Ranks::Alone, &["cancel", "long-0001"]).tells("`long-0001` is asked to end");
        let run = running.end();
        assert_eq!(run.code(), Some(130), "{run}");
        check_record(&place, 130);
        let status = place.status();
        assert_eq!(status["report"]["tasks"]["cancelled"], 3, "{status}");
        assert_eq!(status["groups"][0]["cancelled"], 2, "{status}");
        assert_eq!(status["groups"][1]["cancelled"], 1, "{status}");
        place.expect_nothing_left();
        place.expect(0, Ranks::Alone, &["cancel", "long-0001"]).tells("is over already, with exit code 130");
    }
}

/// While its job is queued, or its launcher starts.
#[test]
fn a_run_that_was_cancelled_before_it_began_runs_nothing() {
    for ranks in BOTH {
        let place = Place::with("[tasks.a]\nrun = 'touch ran'\n");
        std::fs::create_dir_all(place.path().join("later/control")).expect("a place for orders");
        place.expect(0, Ranks::Alone, &["cancel", "./later"]).tells("`later` is asked to end");
        place.expect(130, ranks, &["run", "g.toml", "--into", "later"]);
        assert!(!place.path().join("ran").exists());
        let status = place.expect(0, Ranks::Alone, &["status", "./later", "--output", "json"]);
        let status = crate::harness::json(&status.stdout);
        assert_eq!(status["report"]["tasks"]["cancelled"], 1, "{status}");
        place.expect_nothing_left();
    }
}

#[test]
fn functions_that_sleep_are_ended_too() {
    let place = Place::with("[tasks.nap]\ncall = 'sleep'\nargs = [1000]\n[tasks.mark]\nrun = 'sleep 1000'\n");
    let running = begun(&place, Ranks::Alone, 1);
    running.signal("INT");
    let run = running.end();
    assert_eq!(run.code(), Some(130), "{run}");
    place.expect_nothing_left();
}
