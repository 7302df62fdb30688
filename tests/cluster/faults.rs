//! What must hold when dagmar itself breaks, and when it has nothing to do.

#[cfg(feature = "mpi")]
use std::net::TcpListener;
use std::time::{Duration, Instant};

#[cfg(feature = "mpi")]
use crate::harness::Process;
use crate::harness::{BOTH, Place, Ranks, Running};
#[cfg(feature = "mpi")]
use crate::harness::{kill, mpirun, until_within};

/// From the panic to the end of the job.
const PANIC_TO_END: Duration = Duration::from_secs(5);

fn check_panic(ranks: Ranks, rank: u32) {
    let place = Place::with("[tasks.long]\neach = { i = '0..3' }\nrun = 'touch begun; sleep 1000'\n");
    let mut command = place.command(ranks);
    command.args(["run", "g.toml", "--cpus", "2"]);
    if let Ranks::Alone = ranks {
        command.args(["--workers", "2"]);
    }
    command.env("DAGMAR_FAULT", format!("panic:{rank}"));
    let (run, ended) = panicked(place.spawn(command));
    assert_eq!(run.code(), Some(1), "{run}");
    assert!(ended < PANIC_TO_END, "{ended:?} {run}");
    println!(
        "# {ranks:?}, rank {rank}: the job ended {ended:?} after the panic, {:?} after its start",
        run.took
    );
    run.tells("error: a bug in dagmar: ").tells("on purpose").tells("  hint: please report it");
    place.expect_nothing_left();
    assert_eq!(place.status()["over"], false);
}

/// The end of a run, and how long after the panic it came.
fn panicked(mut running: Running) -> (crate::harness::Ran, Duration) {
    let panic = crate::harness::until("a rank panics", || match running.stderr() {
        told if told.contains("a bug in dagmar") => Ok(Instant::now()),
        _ if running.is_over() => Ok(Instant::now()),
        told => Err(told),
    });
    (running.end(), panic.elapsed())
}

#[test]
fn a_panic_of_the_scheduler_ends_a_run_alone() {
    check_panic(Ranks::Alone, 0);
}

#[test]
fn a_panic_of_a_worker_ends_a_run_alone() {
    check_panic(Ranks::Alone, 2);
}

#[cfg(feature = "mpi")]
#[test]
fn a_panic_of_rank_0_ends_the_job() {
    check_panic(Ranks::Mpi(3), 0);
}

#[cfg(feature = "mpi")]
#[test]
fn a_panic_of_a_worker_ends_the_job() {
    check_panic(Ranks::Mpi(3), 2);
}

#[cfg(feature = "mpi")]
#[test]
fn seven_idle_ranks_use_a_tenth_of_a_core_at_most() {
    const IDLE: Duration = Duration::from_secs(10);
    let place = Place::with("[tasks.nap]\nrun = 'sleep 14'\n");
    let running = place.start(Ranks::Mpi(7), &["run", "g.toml"]);
    place.await_sleeps(1);
    let (began, before) = (Instant::now(), ticks(&place));
    crate::harness::until("ten seconds pass", || match began.elapsed() {
        elapsed if elapsed >= IDLE => Ok(()),
        elapsed => Err(format!("{elapsed:?}")),
    });
    let (elapsed, after) = (began.elapsed(), ticks(&place));
    assert_eq!(before.len(), after.len(), "ranks and their spawners stay");
    assert_eq!(before.iter().filter(|(_, _, is_rank)| *is_rank).count(), 7, "{before:?}");
    assert!(before.len() >= 14, "every rank has a spawner: {before:?}");
    let used = sum(&after) - sum(&before);
    let percent = used as f64 / elapsed.as_secs_f64();
    println!("# 7 idle ranks and their spawners use {percent:.1} % of a core together");
    assert!(percent <= 10.0, "{percent:.1} % of a core; before {before:?}, after {after:?}");
    assert_eq!(running.end().code(), Some(0));
}

#[cfg(feature = "mpi")]
/// The CPU time of each dagmar process in hundredths of a second, and whether it is a rank.
fn ticks(place: &Place) -> Vec<(i32, u64, bool)> {
    let is_spawner = |process: &Process| process.line.starts_with("dagmar __spawner");
    let processes = place.processes().into_iter();
    let ours = processes.filter(|process| process.name == "dagmar" || is_spawner(process));
    let ticks = ours.map(|process| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).expect("it lives");
        let (_, fields) = stat.rsplit_once(')').expect("the name ends with a parenthesis");
        // Fields 14 and 15: user and kernel mode.
        let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
        (process.pid, ticks.sum(), !is_spawner(&process))
    });
    ticks.collect()
}
#[cfg(feature = "mpi")]
fn sum(ticks: &[(i32, u64, bool)]) -> u64 {
    ticks.iter().map(|(_, ticks, _)| ticks).sum()
}

/// The spawner cannot be started again, and every further command of its rank would fail: the run ends
/// with the true cause instead of failing innocent tasks.
#[test]
fn a_killed_spawner_ends_the_run_and_fails_no_task() {
    // The parent of a command is its keeper, whose parent is the spawner.
    let kill = "kill -9 $(awk '{print $4}' /proc/$PPID/stat); sleep 30";
    let graph =
        format!("[tasks.bad]\nrun = '''{kill}'''\n[tasks.good]\neach = {{ i = '0..9' }}\nrun = 'true'\n");
    for ranks in BOTH {
        let place = Place::with(&graph);
        let run = place.expect(1, ranks, &["run", "g.toml", "--cpus", "1"]);
        run.tells("cannot go on: its spawner, which starts all programs, is gone");
        place.expect_nothing_left();
    }
}

#[cfg(feature = "mpi")]
#[test]
fn a_run_in_which_nothing_moves_names_what_stands_still() {
    let place = Place::with("name = \"g\"\n[tasks.a]\neach = { i = \"1..4\" }\ncall = \"noop\"\n");
    let mut command = place.command(Ranks::Mpi(3));
    command.envs([("DAGMAR_FAULT", "deaf:2"), ("DAGMAR_STANDSTILL", "2")]).args(["run", "g.toml"]);
    let ran = place.spawn(command).end();
    assert_eq!(ran.code(), Some(1), "{ran}");
    ran.tells("the run hangs: nothing has happened for").tells("was given to rank 2, which has not said");
    place.expect_nothing_left();
}

/// MPICH waits for ever for an answer of a launcher that was killed. Only MPICH is told where its launcher is in
/// this way.
#[cfg(feature = "mpi")]
#[test]
fn a_rank_whose_launcher_dies_while_mpi_starts_ends_by_itself() {
    if !mpirun().contains("mpich") {
        return;
    }
    let place = Place::with("[tasks.a]\ncall = \"noop\"\n");
    let mute = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = mute.local_addr().expect("it has one").to_string();
    let mut launcher = place.command_of("/bin/sh".as_ref());
    launcher.args(["-c", "\"$0\" run g.toml & wait", env!("CARGO_BIN_EXE_dagmar")]);
    launcher.envs([("PMI_PORT", port.as_str()), ("PMI_ID", "0"), ("PMI_RANK", "0"), ("PMI_SIZE", "2")]);
    let launcher = place.spawn(launcher);
    let (_silence, _) = mute.accept().expect("the rank asks its launcher");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(place.named("dagmar").len(), 1, "{:?}", place.processes());
    kill("KILL", launcher.pid());
    let told = launcher.end().stderr;
    until_within(Duration::from_secs(30), "the rank is gone", || match place.processes() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} {told}")),
    });
}
