//! Kills whatever runs, at random, again and again, and resumes: nothing that was durable is lost or repeated.
//!
//! `KILLS=n` kills so many times, `SEED=n` chooses which and when, `TASKS=n` makes graphs of so many tasks, `VARIANTS=1`
//! takes `examples/variants` instead; `scripts/torture` sets them. A failure prints the seed and leaves the run directory where it is.
#![cfg(feature = "mpi")]

#[path = "../harness/mod.rs"]
mod harness;

mod subject;
mod verdict;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use harness::{Place, Process, Ranks, Running, kill};
use subject::Subject;
use verdict::Verdict;

/// In CI.
const KILLS: u64 = 6;
const TASKS: u64 = 2_000;
/// How long everything may take to end once one of it was killed.
const END_WITHIN: Duration = Duration::from_secs(90);

fn variable(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number: {text}")))
}

/// What a process is to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Launcher,
    Scheduler,
    Worker,
    /// The spawner, or a process of it that keeps a program.
    Spawner,
    Program,
}

fn role(process: &Process) -> Role {
    let environment = fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
    let rank = environment.split(|byte| *byte == 0).find_map(|variable| {
        let text = std::str::from_utf8(variable).ok()?;
        text.strip_prefix("OMPI_COMM_WORLD_RANK=").or_else(|| text.strip_prefix("PMI_RANK="))?.parse().ok()
    });
    if process.line.contains("__spawner") {
        // Until it has given itself a name it is called after the link that it was started by.
        return Role::Spawner;
    }
    match (process.name.as_str(), rank) {
        ("dagmar", Some(0_u32)) => Role::Scheduler,
        ("dagmar", Some(_)) => Role::Worker,
        (name, None) if name.starts_with("dagmar") => Role::Spawner,
        (name, _) if name.starts_with("mpi") || name.starts_with("hydra") || name.starts_with("orte") => {
            Role::Launcher
        }
        _ => Role::Program,
    }
}

/// Kills one process of a role that chance chooses, if any is there.
fn kill_one(place: &Place, rng: &mut Rng) -> Option<Role> {
    let mut by_role: BTreeMap<Role, Vec<Process>> = BTreeMap::new();
    place
        .processes()
        .into_iter()
        .for_each(|process| by_role.entry(role(&process)).or_default().push(process));
    let roles: Vec<Role> = by_role.keys().copied().collect();
    let role = *rng.choice(&roles)?;
    let victim = rng.choice(&by_role[&role])?;
    // It may have ended just now.
    let sent = std::process::Command::new("kill").args(["-9", &victim.pid.to_string()]).output();
    sent.is_ok_and(|output| output.status.success()).then_some(role)
}

/// Waits for an end that was brought about. True if the launcher had to be helped, of which nothing but itself was
/// left: Open MPI's never ends if a rank died just as it connected with it (docs/decisions/0010).
fn await_end(place: &Place, mut running: Running, role: Role) -> bool {
    let began = Instant::now();
    let mut is_helped = false;
    while !running.is_over() {
        if began.elapsed() > END_WITHIN {
            let left = place.processes();
            let has_launcher_alone = left.iter().all(|process| self::role(process) == Role::Launcher);
            if has_launcher_alone && !is_helped {
                is_helped = true;
                println!("the launcher hangs, and nothing else is left: {}", running.stderr());
                left.iter().for_each(|process| kill("KILL", process.pid));
                thread::sleep(Duration::from_secs(1));
                continue;
            }
            let left: Vec<String> = left.iter().map(state_of).collect();
            let told = running.stderr();
            panic!(
                "after a {role:?} was killed these did not end:\n{}\nwhat was told:\n{told}",
                left.join("\n")
            );
        }
        thread::sleep(Duration::from_millis(10));
    }
    drop(running);
    place.expect_nothing_left();
    is_helped
}

/// What a process is at, thread by thread, as far as the system says.
fn state_of(process: &Process) -> String {
    let Process { pid, name, line } = process;
    let read = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().map(|thread| {
        let at = |file: &str| read(thread.path().join(file)).trim().to_owned();
        let stat = at("stat");
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
        format!("    {} {state} in {} ({})", at("comm"), at("wchan"), at("syscall"))
    });
    format!("  {pid} {name}: {line}\n{}", threads.collect::<Vec<_>>().join("\n"))
}

fn start(place: &Place, subject: &Subject) -> Running {
    let runs = place.runs();
    match runs.last().filter(|run| run.join("run.toml").is_file() && run.join("graph.dagmar").is_file()) {
        Some(run) => place.start(Ranks::Mpi(3), &["resume", "--quiet", run.to_str().expect("a plain path")]),
        None => place.start(Ranks::Mpi(3), &[&["run", "g.toml", "--quiet"], subject.keys()].concat()),
    }
}

/// What one run went through.
#[derive(Default)]
struct Ordeal {
    /// How often which was killed.
    killed: BTreeMap<Role, u64>,
    /// How often a launcher had to be helped to end.
    helped: u64,
}

/// One run, killed and resumed until it ends by itself.
fn run_once(rng: &mut Rng, subject: &Subject, kills_max: u64) -> Ordeal {
    let place = subject.place();
    let Ordeal { mut killed, mut helped } = Ordeal::default();
    let mut verdict = Verdict::default();
    let mut at_work = None;
    loop {
        let mut running = at_work.take().unwrap_or_else(|| start(&place, subject));
        let is_to_die = killed.values().sum::<u64>() < kills_max;
        let life = Duration::from_millis(rng.u64(30..=subject.life_ms_max()));
        let began = Instant::now();
        while is_to_die && began.elapsed() < life && !running.is_over() {
            thread::sleep(Duration::from_millis(2));
        }
        let role = if is_to_die && !running.is_over() { kill_one(&place, rng) } else { None };
        let Some(role) = role else {
            let ran = running.end();
            if ran.code() == Some(0) {
                verdict.look(&place);
                subject.check_end(&place, &ran, &verdict);
                return Ordeal { killed, helped };
            }
            panic!("it was not killed, and ended: {ran}");
        };
        *killed.entry(role).or_default() += 1;
        match role {
            // The attempt fails and is made again: the run goes on.
            Role::Program => at_work = Some(running),
            _ => helped += u64::from(await_end(&place, running, role)),
        }
        verdict.look(&place);
    }
}

#[test]
fn whatever_is_killed_nothing_durable_is_lost_or_repeated() {
    let (kills, seed) = (variable("KILLS", KILLS), variable("SEED", 1));
    let subject = match variable("VARIANTS", 0) {
        0 => Subject::Rows(variable("TASKS", TASKS) / 4),
        _ => Subject::variants(),
    };
    let mut rng = Rng::with_seed(seed);
    let Ordeal { mut killed, mut helped } = Ordeal::default();
    let mut runs = 0;
    while killed.values().sum::<u64>() < kills {
        let left = kills - killed.values().sum::<u64>();
        // A run that is killed for ever gets nowhere.
        let most = left.min(rng.u64(1..=12));
        let ordeal = run_once(&mut rng, &subject, most);
        for (role, count) in ordeal.killed {
            *killed.entry(role).or_default() += count;
        }
        helped += ordeal.helped;
        runs += 1;
        println!("seed {seed}: {runs} runs, killed {killed:?}, launchers that hung: {helped}");
    }
    assert!(helped <= 1 + kills / 50, "launchers hang too often for what is known of them");
}

#[test]
fn a_run_that_nobody_kills_is_fine() {
    let subject = Subject::Rows(100);
    assert!(run_once(&mut Rng::with_seed(1), &subject, 0).killed.is_empty());
}
