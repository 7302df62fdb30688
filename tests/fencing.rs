//! Who may write a run's journal, with real processes and with lives that interleave at random: only
//! one starts, and one that was stopped and taken over from gets nothing accepted any more.

#![allow(clippy::unwrap_used)] // clippy.toml allows it only inside test functions

use std::cell::RefCell;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use dagmar::core::event::Event;
use dagmar::core::id::TaskId;
use dagmar::core::time::Timestamp;
use dagmar::record::commit::{Commit, CommitError};
use dagmar::record::journal::{JournalReader, JournalWriter};
use dagmar::record::lease::{Lease, LeaseError, Predecessor, Taken};
use dagmar::record::owner::Owner;
use dagmar::record::resume::OnDamage;
use dagmar::record::segment::NewSegment;

/// What a process of this program is asked to be, and where.
const ROLE: &str = "DAGMAR_TEST_ROLE";
const PLACE: &str = "DAGMAR_TEST_PLACE";
/// After this long a test has hung.
const BOUND: Duration = Duration::from_secs(120);

fn event(number: u64) -> (Timestamp, Event) {
    (Timestamp(number), Event::OutputLost { task: TaskId(0) })
}

fn write(journal: &mut JournalWriter, number: u64) {
    journal.append(&[event(number)]).unwrap();
    journal.flush().unwrap();
}

fn read(journal: &Path) -> Vec<u64> {
    JournalReader::open(journal).unwrap().map(|event| event.unwrap().0.0).collect()
}

// ---------------------------------------------------------------- processes

/// A run directory, and processes that want to schedule the run.
struct Run {
    directory: tempfile::TempDir,
}

impl Run {
    fn new() -> Self {
        Run { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, role: &str) -> Process {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "as_a_child", "--nocapture"]);
        command.env(ROLE, role).env(PLACE, self.directory.path()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Process { child, lines }
    }
}

struct Process {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Process {
    /// The next line that the child says as its role, without its mark; none at its end.
    fn line(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // The harness prints before it without ending its line.
            if let Some((_, said)) = line.trim_end().split_once("says: ") {
                return Some(said.to_owned());
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Not a test of its own: what the processes do that others start.
#[test]
fn as_a_child() {
    let (Ok(role), Ok(place)) = (env::var(ROLE), env::var(PLACE)) else { return };
    let place = PathBuf::from(place);
    match role.as_str() {
        "starter" => starter(&place),
        "scheduler" => scheduler(&place),
        other => panic!("no such role: {other}"),
    }
}

fn wait_for(path: &Path) {
    let began = Instant::now();
    while !path.exists() {
        assert!(began.elapsed() < BOUND, "{} never came", path.display());
        thread::sleep(Duration::from_millis(1));
    }
}

fn take(place: &Path, patience: Duration) -> Result<Taken, LeaseError> {
    Lease::take(&place.join("lease"), &place.join("journal"), &Owner::this_process(None, 0), patience)
}

/// Starts with a hundred others, and if it wins, records that and stays until all others have lost.
fn starter(place: &Path) {
    println!("says: ready");
    wait_for(&place.join("go"));
    match take(place, Duration::from_secs(6)) {
        Ok(taken) => {
            let (mut journal, _) =
                JournalWriter::resume_in(taken.segment, OnDamage::Refuse, |_, _| ()).unwrap();
            write(&mut journal, u64::from(std::process::id()));
            let commit = commit(&journal);
            commit.written(journal.event_count());
            commit.wait_until(journal.event_count()).unwrap();
            println!("says: won");
            wait_for(&place.join("over"));
            assert!(!taken.lease.is_lost() && commit.synced().is_ok());
        }
        Err(error @ (LeaseError::Held(_) | LeaseError::Overtaken(_))) => println!("says: lost: {error}"),
        Err(error) => panic!("{error}"),
    }
}

/// Records for as long as it may, and says what was announced.
fn scheduler(place: &Path) {
    let taken = take(place, Duration::from_millis(900)).unwrap();
    let (mut journal, _) = JournalWriter::resume_in(taken.segment, OnDamage::Refuse, |_, _| ()).unwrap();
    let commit = commit(&journal);
    let error = loop {
        let number = journal.event_count();
        write(&mut journal, number);
        commit.written(number + 1);
        match commit.wait_until(number + 1) {
            Ok(()) => println!("says: {}", number + 1),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CommitError::Superseded(_)), "{error}");
    println!("says: refused: {error}");
    assert!(commit.synced().is_err());
}

fn commit(journal: &JournalWriter) -> Commit {
    let nobody = Arc::new(|| ());
    Commit::start(journal.disk().unwrap(), journal.event_count(), Duration::ZERO, nobody).unwrap()
}

#[test]
fn of_a_hundred_processes_that_start_at_once_one_wins() {
    let run = Run::new();
    // The one before was killed.
    let mut before = run.start("scheduler");
    while before.line().unwrap() != "3" {}
    drop(before);
    let recorded = read(&run.path("journal")).len();
    assert!(recorded >= 3);
    let mut processes: Vec<Process> = (0..100).map(|_| run.start("starter")).collect();
    assert!(processes.iter_mut().all(|process| process.line().as_deref() == Some("ready")));
    fs::write(run.path("go"), "").unwrap();
    let said: Vec<String> = processes.iter_mut().map(|process| process.line().unwrap()).collect();
    fs::write(run.path("over"), "").unwrap();
    let winners: Vec<_> = (0..100).filter(|&number| said[number] == "won").collect();
    assert_eq!(winners.len(), 1, "{said:#?}");
    for process in &mut processes {
        assert!(process.child.wait().unwrap().success());
    }
    let found = read(&run.path("journal"));
    assert_eq!(found[recorded..], [u64::from(processes[winners[0]].child.id())]);
    assert!(!run.path("journal.3").exists());
    let named = said.iter().filter(|line| line.contains(&format!("process {} on", found[recorded]))).count();
    println!("{named} of 99 were told who has it");
    assert!(named > 0, "{said:#?}");
}

#[test]
fn whoever_was_stopped_and_taken_over_from_gets_nothing_accepted() {
    let run = Run::new();
    let mut old = run.start("scheduler");
    while old.line().unwrap() != "5" {}
    old.signal(Signal::SIGSTOP);
    // Its threads stop one after the other, and may still write until then.
    let stopped = waitpid(Pid::from_raw(old.child.id() as i32), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let taken = take(run.directory.path(), Duration::from_millis(900)).unwrap();
    assert!(matches!(&taken.from, Predecessor::Silent(Some(owner), _) if owner.pid == old.child.id()));
    let mut found = 0;
    let (mut journal, resumed) = JournalWriter::resume_in(taken.segment, OnDamage::Refuse, |time, _| {
        assert_eq!(time, Timestamp(found));
        found += 1;
    })
    .unwrap();
    old.signal(Signal::SIGCONT);
    let refused = loop {
        let line = old.line().unwrap();
        let Ok(announced) = line.parse::<u64>() else { break line };
        assert!(announced <= resumed.events, "{announced} were announced, {} count", resumed.events);
    };
    assert!(refused.contains("another process has taken the run over"), "{refused}");
    assert!(old.child.wait().unwrap().success());
    write(&mut journal, 1000);
    assert!(!journal.is_superseded().unwrap() && !taken.lease.is_lost());
    let expected: Vec<u64> = (0..resumed.events).chain([1000]).collect();
    assert_eq!(read(&run.path("journal")), expected);
}

/// Its parent may be slow to ask for its exit code.
#[test]
fn whoever_was_killed_is_gone_though_its_number_is_still_taken() {
    let run = Run::new();
    let mut old = run.start("scheduler");
    while old.line().unwrap() != "2" {}
    old.signal(Signal::SIGKILL);
    while old.line().is_some() {}
    let taken = take(run.directory.path(), BOUND).unwrap();
    assert!(matches!(&taken.from, Predecessor::Gone(owner) if owner.pid == old.child.id()), "{}", taken.from);
}

/// Whoever is killed while it takes over leaves a run that can be taken over.
#[test]
fn a_run_survives_a_hundred_kills() {
    let run = Run::new();
    let seed = env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed} cargo test --test fencing a_run_survives");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut announced = 0;
    for life in 0..100 {
        let mut process = run.start("scheduler");
        let lines = random.usize(0..4);
        for _ in 0..lines {
            let number: u64 = process.line().unwrap().parse().unwrap();
            assert!(number > announced, "life {life} counts from {number}, {announced} were announced");
            announced = number;
        }
        if lines == 0 {
            thread::sleep(Duration::from_millis(random.u64(0..40)));
        }
        process.signal(Signal::SIGKILL);
        while let Some(line) = process.line() {
            announced = line.parse().unwrap();
        }
        drop(process);
    }
    let found = read(&run.path("journal"));
    assert!(found.len() as u64 >= announced);
    assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
}

// ---------------------------------------------------------------- lives that interleave

/// What all lives of a run did so far. Every event has its own number.
struct World {
    journal: PathBuf,
    random: fastrand::Rng,
    /// How much is still to happen.
    steps: u32,
    next: u64,
    last: u32,
    /// Lives that write, or believe that they may, and what they know of the run.
    lives: Vec<(JournalWriter, Vec<u64>)>,
    /// Segments that were created and not begun.
    takers: Vec<NewSegment>,
    /// What was said to be durable.
    announced: Vec<u64>,
    live: JournalReader,
    given: Vec<u64>,
}

impl World {
    fn new(journal: PathBuf, seed: u64) -> RefCell<Self> {
        let lives = vec![(JournalWriter::create(&journal).unwrap(), Vec::new())];
        let live = JournalReader::open(&journal).unwrap();
        RefCell::new(World {
            journal,
            random: fastrand::Rng::with_seed(seed),
            steps: 120,
            next: 0,
            last: 1,
            lives,
            takers: Vec::new(),
            announced: Vec::new(),
            live,
            given: Vec::new(),
        })
    }

    /// A life writes some events, and announces them if it may.
    fn write(&mut self) {
        if self.lives.is_empty() {
            return;
        }
        let number = self.random.usize(..self.lives.len());
        let (journal, known) = &mut self.lives[number];
        let events: Vec<u64> = (0..self.random.u64(1..4)).map(|more| self.next + more).collect();
        self.next += events.len() as u64;
        journal.append(&events.iter().map(|&number| event(number)).collect::<Vec<_>>()).unwrap();
        journal.flush().unwrap();
        known.extend(&events);
        if !journal.is_superseded().unwrap() {
            // Everything that this life knows of is in the file now, and was before the look.
            let news = known.iter().filter(|number| !self.announced.contains(number));
            self.announced.extend(news.copied().collect::<Vec<_>>());
        }
    }

    fn follow(&mut self) {
        self.given.extend(self.live.by_ref().map(|event| event.unwrap().0.0));
    }

    /// Everything that was announced is there, in order.
    fn check(&self, found: &[u64], what: &str) {
        let mut places = found.iter();
        for number in &self.announced {
            assert!(
                places.any(|found| found == number),
                "{what}: {number} was announced and is not in {found:?}"
            );
        }
    }
}

/// One thing happens; while a life reads what was before it, other things happen in between.
fn step(world: &RefCell<World>, depth: u32) {
    let Some(steps) = world.borrow().steps.checked_sub(1) else { return };
    world.borrow_mut().steps = steps;
    let deed = world.borrow_mut().random.u8(..10);
    match deed {
        0..4 => world.borrow_mut().write(),
        4 => world.borrow_mut().follow(),
        5 => {
            let mut world = world.borrow_mut();
            let last = world.last;
            let taker = NewSegment::take(&world.journal, last).unwrap();
            world.takers.push(taker.expect("nobody else takes one"));
            world.last += 1;
        }
        6 => {
            let mut world = world.borrow_mut();
            if world.random.u8(..4) == 0 && !world.lives.is_empty() {
                let count = world.lives.len();
                let number = world.random.usize(..count);
                world.lives.swap_remove(number);
            }
        }
        _ if depth < 3 => begin(world, depth),
        _ => (),
    }
}

fn begin(world: &RefCell<World>, depth: u32) {
    let segment = {
        let mut world = world.borrow_mut();
        if world.takers.is_empty() {
            return;
        }
        let count = world.takers.len();
        let number = world.random.usize(..count);
        world.takers.swap_remove(number)
    };
    let (is_last, number) = (segment.number() == world.borrow().last, segment.number());
    let mut known = Vec::new();
    let (journal, resumed) = JournalWriter::resume_in(segment, OnDamage::Refuse, |time, _| {
        known.push(time.0);
        if world.borrow_mut().random.u8(..8) == 0 {
            step(world, depth + 1);
        }
    })
    .unwrap();
    assert_eq!((resumed.events, resumed.lost_events), (known.len() as u64, 0));
    let mut world = world.borrow_mut();
    if is_last && number == world.last {
        world.check(&known, "a life that takes over");
    }
    world.lives.push((journal, known));
}

#[test]
fn whatever_lives_do_at_once_what_was_announced_counts_and_nothing_counts_twice() {
    let first = env::var("SEED").map_or_else(|_| fastrand::u64(..1 << 40), |seed| seed.parse().unwrap());
    println!("SEED={first} cargo test --test fencing whatever_lives");
    let (mut lives, mut retracted, mut refused) = (0, 0, 0);
    for seed in first..first + 150 {
        let repeat = format!("SEED={seed} cargo test --test fencing whatever_lives");
        // Where syncing costs nothing: no machine crashes here.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let world = World::new(directory.path().join("journal"), seed);
        while world.borrow().steps > 0 {
            step(&world, 0);
        }
        let mut world = world.into_inner();
        world.follow();
        let found = read(&world.journal);
        world.check(&found, &repeat);
        // What counts is what the last life that was begun knows, and what it wrote.
        let last = world.lives.iter().max_by_key(|(journal, _)| journal.segment());
        if let Some((_, known)) = last.filter(|(journal, _)| journal.segment() == world.last) {
            assert_eq!(*known, found, "{repeat}");
        }
        // The live reader was given all of it, in order, nothing twice.
        let mut given = world.given.iter();
        assert!(found.iter().all(|number| given.any(|given| given == number)), "{repeat}: {:?}", world.given);
        let mut unique = world.given.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), world.given.len(), "{repeat}: {:?}", world.given);
        assert_eq!(world.given.len() as u64, found.len() as u64 + world.live.retracted_events(), "{repeat}");
        lives += world.last;
        retracted += world.live.retracted_events();
        refused += world.lives.iter().filter(|(journal, _)| journal.is_superseded().unwrap()).count();
    }
    println!("{lives} lives, {refused} superseded and still there, {retracted} events taken back");
    assert!(lives > 300 && refused > 100, "the faults never happened");
}
