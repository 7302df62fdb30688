//! The simulated world: ranks, the network between them, their stores, and the faults.

mod client;
mod culprits;
mod disk;
mod end;
mod memory;
mod pool;
mod room;
mod shortage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use dagmar::core::addition::Addition;
use dagmar::core::client::CLIENT;
use dagmar::core::event::{Cause, Event, Failure, Outcome, StopReason, Totals};
use dagmar::core::graph::Graph;
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{FromWorker, Order, PeerMessage, PeerWord, Report, ToWorker};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{self, Persist, Precedence, Scheduler, TaskState};
use dagmar::core::task_list::TaskList;
use dagmar::core::time::Timestamp;
use dagmar::core::worker::memory::Room;
use dagmar::core::worker::{self, Worker};
use fastrand::Rng;

use crate::coverage::{Coverage, Happening};
use crate::oracle::{CORES_MAX, Problem, hash, mix};
use crate::skipping;
use culprits::Culprits;
use disk::Disk;
use memory::{Limits, Memory, Writing};
use pool::{Pool, Run, Terms};
use shortage::Shortages;

/// Simulated time after which a run without faults must be over, in microseconds.
const LIVENESS_US: u64 = 600_000_000;
/// Simulated time with faults, in microseconds.
const SAFETY_US: u64 = 3_000_000;
/// Steps of a run of at most 40 tasks: more are a circle.
const STEPS_MAX: u64 = 100_000;
/// Steps of the story that a failure prints.
const STORY: usize = 400;

/// A parcel on its way, or something that will happen at a rank.
#[derive(Clone, Debug)]
enum Due {
    ToWorker(Rank, ToWorker),
    ToScheduler(Rank, FromWorker),
    ToPeer {
        from: Rank,
        to: Rank,
        message: PeerMessage,
        value: u64,
        /// What the sender holds until it has arrived.
        lent: Option<(Incarnation, u64)>,
    },
    Ended {
        worker: Rank,
        life: Incarnation,
        task: TaskId,
        attempt: Attempt,
        cause: Option<Cause>,
    },
    /// A task ends the rank it runs in.
    Kills {
        worker: Rank,
        life: Incarnation,
        task: TaskId,
        attempt: Attempt,
    },
    /// The pool of a worker may start something.
    Pool(Rank, Incarnation),
    /// Ends of light tasks are handed in.
    Flush(Rank, Incarnation),
    /// The writer of a worker takes the next output, or has written one.
    Write(Rank, Incarnation),
    Written(Rank, Incarnation, Writing),
    /// A task has read its inputs that were on the disk.
    Read {
        worker: Rank,
        life: Incarnation,
        task: TaskId,
        attempt: Attempt,
        away: Vec<(TaskId, u64)>,
    },
    /// An output for a peer is read.
    Recalled {
        from: Rank,
        life: Incarnation,
        to: Rank,
        message: PeerMessage,
        value: u64,
        part: u64,
    },
    /// There is more room.
    Room(Rank, Incarnation),
    Lose(Rank),
    NoticeLoss(Rank, Incarnation),
    ComeBack(Rank),
    Tick(Rank),
    Stop(StopReason),
    /// The client does something.
    Client,
    /// A worker's answer to what the client fetches.
    ToClient(Rank, Incarnation, PeerWord, u64),
    /// A worker has synced its outputs.
    Sync(Rank, Incarnation),
    /// Rank 0 has synced the journal, in this life of the run.
    JournalSynced(u32),
    /// An output was read in the run directory.
    Loaded(Rank, Incarnation, (TaskId, Attempt)),
    /// Everything ends at once.
    Crash,
}

/// How often what goes wrong, drawn once per seed.
#[derive(Clone, Copy, Debug)]
struct Faults {
    failures_of_256: u8,
    killings_of_256: u8,
    losses: u32,
    /// How often an output that is at a worker turns out to be gone.
    vanished_of_256: u8,
    /// How often in all everything ends at once.
    crashes: u32,
    /// How often in all the graph is edited.
    edits: u32,
    /// What is lost comes back after a while.
    lost_come_back: bool,
    stop: Option<StopReason>,
    delay_us_max: u64,
    run_us_max: u64,
}

struct Node {
    machine: Worker,
    /// The graph as this worker knows it.
    graph: Arc<Graph>,
    life: Incarnation,
    is_alive: bool,
    store: BTreeMap<TaskId, (Attempt, u64)>,
    running: BTreeMap<TaskId, Run>,
    pool: Pool,
    /// Outputs that are written and not synced.
    unsynced: Vec<(TaskId, Attempt)>,
    /// What it has made itself in this life, whoever else has it by now.
    made: BTreeSet<(TaskId, Attempt)>,
    host: String,
    memory: Option<Memory>,
    /// The room that the machine was told of.
    told: Room,
    stuck_since: Option<u64>,
}

pub struct World {
    problem: Problem,
    expected: Vec<u64>,
    rng: Rng,
    faults: Faults,
    now: u64,
    sequence: u64,
    due: BTreeMap<(u64, u64), Due>,
    /// When the last parcel of each pair arrives: pairs keep their order.
    last_arrival: BTreeMap<(Rank, Rank), u64>,
    options: scheduler::Options,
    pace: u32,
    /// True if the scheduler has only so much time.
    has_end: bool,
    scheduler: Scheduler,
    /// Which life of the run this is.
    run_life: u32,
    disk: Disk,
    states: Vec<TaskState>,
    nodes: BTreeMap<Rank, Node>,
    /// How many workers are on one host.
    sharers: u32,
    /// Bytes of each task's output, and what a worker may keep of them.
    sizes: Vec<u64>,
    limits: Option<Limits>,
    /// The worker that gave up for want of room.
    without_room: Option<Rank>,
    /// Workers up to this rank have all cores that a task may ask for, the others have one.
    large: u32,
    /// The workers that were lost and have not come back.
    lost: BTreeSet<Rank>,
    /// The latest team of each multi-node task: the try, and the workers in the life they had then.
    teams: BTreeMap<TaskId, (Attempt, Vec<(Rank, Incarnation)>)>,
    /// Tasks that were given to the worker of what they follow.
    followers: BTreeSet<(TaskId, Attempt)>,
    /// The value of the latest success of each task, and its failures.
    finished: BTreeMap<TaskId, u64>,
    own_failures: BTreeMap<TaskId, u32>,
    /// Tasks whose files were there before the run.
    skipped: BTreeSet<TaskId>,
    outcome: Option<Outcome>,
    is_stopping: bool,
    /// How many tasks may fail in this life.
    max_fails: Option<u32>,
    culprits: Culprits,
    client: Option<client::Client>,
    shortages: Shortages,
    story: VecDeque<String>,
    digest: u64,
    pub coverage: Coverage,
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let workers = rng.u32(1..=6);
        // Sometimes two workers share a host.
        let sharers = if rng.u8(..) < 64 { 2 } else { 1 };
        let large = if rng.u8(..) < 64 { rng.u32(1..=workers) } else { workers };
        let cores_min = if large == workers { CORES_MAX } else { 1 };
        let has_client = rng.u8(..) < 50;
        let problem = match has_client {
            true => client::problem(&mut rng, cores_min),
            false => Problem::random(&mut rng, large.div_ceil(sharers), cores_min),
        };
        let client = has_client.then(|| client::Client::random(&mut rng));
        let stops = [StopReason::Interrupted, StopReason::Terminated, StopReason::Cancelled];
        let mut faults = Faults {
            vanished_of_256: [0, 0, 20, 80][rng.usize(..4)],
            failures_of_256: if rng.bool() { rng.u8(0..60) } else { 0 },
            killings_of_256: [0, 0, 8, 60][rng.usize(..4)],
            losses: if rng.bool() { rng.u32(0..6) } else { 0 },
            crashes: if rng.bool() { rng.u32(0..4) } else { 0 },
            edits: if rng.u8(..) < 100 { rng.u32(1..4) } else { 0 },
            lost_come_back: rng.u8(..) < 180,
            stop: (rng.u8(..) < 40).then(|| stops[rng.usize(..3)]),
            delay_us_max: [10, 500, 50_000][rng.usize(..3)],
            run_us_max: [20, 3_000, 400_000][rng.usize(..3)],
        };
        if has_client {
            // Nobody goes on with a client's run without the client.
            (faults.crashes, faults.edits) = (0, 0);
        }
        let workers_come_back = faults.lost_come_back;
        let options = scheduler::Options {
            workers,
            workers_come_back,
            persist: [Persist::None, Persist::Kept, Persist::Asked, Persist::All][rng.usize(..4)],
            precedence: Precedence::default(),
        };
        let (sizes, limits) = room::draw(&mut rng, problem.graph.len());
        let pace = [1, 3, u32::MAX, u32::MAX][rng.usize(..4)];
        // The first life may have little time.
        let end = (rng.u8(..) < 30).then(|| Timestamp(1_000_000 + rng.u64(0..3 * faults.run_us_max)));
        let skipping = (rng.u8(..) < 40 && !has_client).then(|| skipping::draw(&problem, &mut rng));
        let asked = TaskList::from(&problem.asked);
        let scheduler = match &skipping {
            Some(skipping) => Scheduler::of_tasks(problem.graph.clone(), &asked, &skipping.runs, options),
            None => Scheduler::new(problem.graph.clone(), asked, options),
        };
        let max_fails = (rng.u8(..) < 30).then(|| rng.u32(0..3));
        let culprits = Culprits::new(rng.u32(1..=3));
        let scheduler = scheduler.with_pace(pace).with_end(end).with_max_fails(max_fails);
        let scheduler = scheduler.with_crash_limit(culprits.limit);
        let scheduler = if has_client { scheduler.with_client(CLIENT) } else { scheduler };
        let states = problem.graph.tasks().map(|task| scheduler.state(task)).collect();
        let mut world = World {
            expected: problem.values(),
            problem,
            rng,
            faults,
            now: 1_000_000,
            sequence: 0,
            options,
            pace,
            has_end: end.is_some(),
            run_life: 1,
            disk: Disk::default(),
            due: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            scheduler,
            states,
            nodes: BTreeMap::new(),
            sharers,
            sizes,
            limits,
            without_room: None,
            large,
            lost: BTreeSet::new(),
            teams: BTreeMap::new(),
            followers: BTreeSet::new(),
            finished: BTreeMap::new(),
            own_failures: BTreeMap::new(),
            skipped: BTreeSet::new(),
            outcome: None,
            is_stopping: false,
            max_fails,
            culprits,
            client,
            shortages: Shortages::default(),
            story: VecDeque::new(),
            digest: seed,
            coverage: Coverage::default(),
        };
        for rank in (1..=workers).map(Rank) {
            world.begin_life(rank, Incarnation(1));
        }
        world.plan_faults(workers);
        if let Some(skipping) = skipping.filter(|skipping| !skipping.skipped.is_empty()) {
            world.coverage.happened(Happening::TasksSkipped);
            world.skipped = skipping.skipped.iter().flat_map(|span| span.tasks()).collect();
            world.record(Event::TasksSkipped { tasks: skipping.skipped });
        }
        world
    }

    fn plan_faults(&mut self, workers: u32) {
        self.plan(0, Due::Client);
        let horizon = (self.faults.run_us_max * 10).min(SAFETY_US);
        for _ in 0..self.faults.losses {
            let rank = Rank(self.rng.u32(1..=workers));
            let at = self.rng.u64(0..horizon);
            self.plan(at, Due::Lose(rank));
        }
        if self.faults.crashes > 0 {
            self.faults.crashes -= 1;
            let at = self.rng.u64(0..horizon);
            self.plan(at, Due::Crash);
        }
        if let Some(reason) = self.faults.stop {
            let at = self.rng.u64(0..horizon);
            self.plan(at, Due::Stop(reason));
        }
    }

    /// Runs to the end and returns a digest of everything that happened.
    pub fn run(&mut self) -> u64 {
        let faults_end = self.now + SAFETY_US;
        let deadline = faults_end + LIVENESS_US;
        while self.goes_on() {
            let Some((&key, _)) = self.due.first_key_value() else { panic!("nothing is under way: stuck") };
            let due = self.due.remove(&key).expect("just looked at");
            self.now = key.0;
            assert!(self.now < deadline, "not over after {LIVENESS_US} us without faults");
            if self.now > faults_end {
                (self.faults.failures_of_256, self.faults.killings_of_256) = (0, 0);
                self.faults.vanished_of_256 = 0;
            }
            self.coverage.inputs += 1;
            assert!(self.coverage.inputs < STEPS_MAX, "{STEPS_MAX} steps and not over");
            if !is_idle_talk(&due) {
                self.tell(&due);
            }
            self.happen(due);
        }
        match self.without_room {
            Some(rank) => self.check_without_room(rank),
            None => self.check_end(),
        }
        self.digest
    }

    /// False once the run is over. One that was stopped is taken up again now and then.
    fn goes_on(&mut self) -> bool {
        if matches!(self.outcome, Some(Outcome::Stopped(_))) && self.client.is_none() && self.rng.bool() {
            self.coverage.happened(Happening::StoppedRunResumed);
            self.faults.stop = None;
            self.resume();
        }
        if self.outcome == Some(Outcome::Done) && self.faults.edits > 0 && self.rng.bool() {
            self.check_end();
            self.coverage.happened(Happening::DoneRunEdited);
            self.resume();
        }
        self.outcome.is_none() && self.without_room.is_none()
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::ToScheduler(worker, message) => {
                let alive = self.nodes[&worker].is_alive && self.nodes[&worker].life == message.incarnation;
                if !alive {
                    self.coverage.happened(Happening::OldLifeSpoke);
                }
                self.count_followers_back(&message);
                if matches!(message.reports[..], [Report::Joined { .. }, ..]) {
                    self.read_last_words(worker);
                }
                self.scheduler_takes(scheduler::Input::FromWorker { worker, message });
            }
            Due::NoticeLoss(worker, incarnation) => {
                self.read_last_words(worker);
                self.scheduler_takes(scheduler::Input::WorkerLost { worker, incarnation });
            }
            Due::Stop(reason) => {
                self.coverage.happened(match reason {
                    StopReason::Interrupted => Happening::StoppedByInterrupt,
                    StopReason::Terminated => Happening::StoppedByTerm,
                    StopReason::Cancelled => Happening::StoppedByCancel,
                    StopReason::TooManyFailures => unreachable!("nobody says so from outside"),
                });
                self.scheduler_takes(scheduler::Input::Stop(reason));
            }
            Due::ToWorker(worker, message) => {
                self.count_late_retracts(worker, &message);
                self.worker_takes(worker, worker::Input::FromScheduler(message));
            }
            Due::ToPeer { from, to, message, value, lent } => {
                self.on_arrived(from, lent);
                self.peer_takes(from, to, message, value)
            }
            Due::Ended { worker, life, task, attempt, cause } => {
                self.end(worker, life, (task, attempt), cause)
            }
            Due::Kills { worker, life, task, attempt } => self.kill(worker, life, (task, attempt)),
            Due::Pool(worker, life) => self.pool_starts(worker, life),
            Due::Flush(worker, life) => self.flush(worker, life),
            Due::Write(worker, life) => self.begin_write(worker, life),
            Due::Written(worker, life, writing) => self.end_write(worker, life, writing),
            Due::Read { worker, life, task, attempt, away } => {
                self.on_read((worker, life), (task, attempt), away)
            }
            Due::Recalled { from, life, to, message, value, part } => {
                self.on_recalled((from, life), to, message, (value, part))
            }
            Due::Room(worker, life) => {
                if self.nodes[&worker].is_alive && self.nodes[&worker].life == life {
                    self.worker_turn(worker, Vec::new());
                }
            }
            Due::Lose(worker) => self.lose(worker),
            Due::Sync(worker, life) => self.on_sync(worker, life),
            Due::JournalSynced(run_life) => self.on_journal_synced(run_life),
            Due::Loaded(worker, life, of) => self.on_loaded(worker, life, of),
            Due::Client => self.client_acts(),
            Due::ToClient(from, life, word, value) => {
                if self.nodes[&from].life == life || self.nodes[&from].is_alive {
                    self.client_hears(from, word, value);
                }
            }
            Due::Crash => self.crash(),
            Due::ComeBack(worker) => {
                self.coverage.happened(Happening::WorkerCameBack);
                let life = Incarnation(self.nodes[&worker].life.0 + 1);
                self.begin_life(worker, life);
            }
            Due::Tick(worker) => self.tick(worker),
        }
    }

    // --- the scheduler's rank ---------------------------------------------------------------

    fn scheduler_takes(&mut self, input: scheduler::Input) {
        let mut actions = Vec::new();
        let now = Timestamp(self.now);
        self.scheduler.handle(now, input, &mut actions);
        self.scheduler.check();
        self.note_steps();
        // Mostly decide at once; sometimes let more come in first, as a busy rank would.
        let decides = self.rng.u8(..) < 200 || self.due.is_empty();
        if decides {
            self.scheduler.handle(now, scheduler::Input::Turn, &mut actions);
        }
        if !decides || self.scheduler.is_unfinished() {
            let at = self.rng.u64(0..100);
            self.plan(at, Due::Tick(Rank::SCHEDULER));
        }
        self.scheduler.check();
        self.note_steps();
        self.perform_scheduler(actions);
    }

    /// The same of what is not to be decided upon before what follows it.
    fn scheduler_takes_only(&mut self, input: scheduler::Input) {
        let mut actions = Vec::new();
        self.scheduler.handle(Timestamp(self.now), input, &mut actions);
        self.scheduler.check();
        self.note_steps();
        self.perform_scheduler(actions);
    }

    fn perform_scheduler(&mut self, actions: Vec<scheduler::Action>) {
        for action in actions {
            match action {
                scheduler::Action::ToWorker { worker, message } => {
                    self.count_orders(&message);
                    self.send(Rank::SCHEDULER, worker, Due::ToWorker(worker, message));
                }
                scheduler::Action::ToClient(word) => self.tell_client(&word),
                scheduler::Action::Fetch { worker, incarnation, task, attempt } => {
                    self.fetch_for_client(worker, incarnation, (task, attempt));
                }
                scheduler::Action::Record(event) => self.record(event),
                scheduler::Action::Finish(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn count_orders(&mut self, message: &ToWorker) {
        for order in &message.orders {
            match order {
                Order::Assign(it) if it.tasks.count > 1 => self.coverage.happened(Happening::SpanAssigned),
                Order::Assign(it) if it.follows().is_some() => {
                    self.coverage.happened(Happening::FollowerAhead);
                    self.followers.insert((it.tasks.first, it.attempt));
                }
                Order::Retract(..) => self.coverage.happened(Happening::TaskRetracted),
                Order::Release(..) => self.coverage.happened(Happening::OutputReleased),
                Order::End(..) => self.coverage.happened(Happening::TeamMemberLost),
                _ => {}
            }
        }
    }

    fn count_followers_back(&mut self, message: &FromWorker) {
        for report in &message.reports {
            if let Report::Returned(tasks, attempt) = report
                && self.followers.remove(&(tasks.first, *attempt))
            {
                self.coverage.happened(Happening::FollowerCameBack);
            }
        }
    }

    fn count_late_retracts(&mut self, worker: Rank, message: &ToWorker) {
        let running = &self.nodes[&worker].running;
        let is_late = |order: &&Order| matches!(order, Order::Retract(tasks, _) if tasks.tasks().any(|task| running.contains_key(&task)));
        for _ in 0..message.orders.iter().filter(is_late).count() {
            self.coverage.happened(Happening::RetractCameTooLate);
        }
    }

    fn record(&mut self, event: Event) {
        self.write_event(event.clone());
        self.digest = mix(self.digest ^ mix(hash(&format!("{event:?}"))));
        match event {
            Event::OutputLost { task } => {
                self.coverage.happened(Happening::OutputMadeAgain);
                if !self.problem.graph.began_with(task) {
                    self.coverage.happened(Happening::SubmittedOutputMadeAgain);
                }
            }
            Event::TasksAdded { task, addition, .. } => self.on_tasks_added(task, &addition),
            Event::TasksSubmitted { .. } => self.on_tasks_submitted(),
            Event::AttemptFailed { task, failure, retried, .. } if failure.cause == Cause::ExitCode(1) => {
                self.coverage.happened(Happening::TaskFailed);
                let failures = self.own_failures.entry(task).or_default();
                *failures += 1;
                let retries = self.problem.graph.options(task).retries;
                let expected = *failures <= retries && !self.is_stopping;
                assert_eq!(retried, expected, "task {task}: {failures} failures, {retries} retries");
                if retried {
                    self.coverage.happened(Happening::TaskRetried);
                    if !self.problem.graph.began_with(task) {
                        self.coverage.happened(Happening::SubmittedTaskRetried);
                    }
                }
            }
            Event::MemorySet { task, memory_bytes, .. } => self.on_memory_set(task, memory_bytes),
            Event::AttemptFailed {
                task,
                failure: Failure { cause: Cause::OutOfMemory(shortage), .. },
                retried,
                ..
            } => {
                self.check_shortage(task, shortage, retried);
            }
            Event::AttemptFailed { task, attempt, worker, failure, retried }
                if matches!(failure.cause, Cause::KilledRank { .. }) =>
            {
                self.check_killing((task, attempt, worker), &failure.cause, retried);
            }
            Event::AttemptFailed { task, worker, failure, retried, .. } if matches!(failure.cause, Cause::LostRank(lost) if lost != worker) =>
            {
                self.coverage.happened(Happening::LostRankReported);
                assert!(self.problem.graph.options(task).several_nodes().is_some(), "task {task}");
                assert!(
                    retried || self.is_stopping,
                    "task {task} lost a worker of its team, not by its fault"
                );
            }
            Event::TasksFinished { worker, batch } => {
                assert_ne!(worker, Rank::SCHEDULER, "joins are not recorded");
                self.tell(&format_args!("finished {:?} attempt {} at {worker}", batch.spans, batch.attempt));
            }
            Event::MultiNodeAssigned { task, attempt, workers, hosts } => {
                self.on_team(task, attempt, &workers, &hosts);
            }
            Event::RunStopping { .. } => self.is_stopping = true,
            Event::TaskAborted { task, because } => {
                let state = self.scheduler.state(because);
                assert_eq!(state, TaskState::Failed, "task {task} was aborted because of {because}");
            }
            _ => {}
        }
    }

    /// What was added is worth what it must be worth, whatever happens to it.
    fn on_tasks_added(&mut self, by: TaskId, addition: &Addition) {
        self.own_failures.remove(&by);
        self.forget_memory(by);
        self.coverage.happened(match addition.tasks.len() {
            0 => Happening::TaskBecameAnotherAlone,
            _ if self.problem.graph.began_with(by) => Happening::TasksSubmitted,
            _ => Happening::SubmittedTaskSubmitted,
        });
        self.on_tasks_submitted();
        let value = self.problem.value(by, |input| self.expected[input.index()]);
        assert_eq!(value, self.expected[by.index()], "task {by} has become something else");
    }

    fn on_tasks_submitted(&mut self) {
        let graph = self.problem.graph.clone();
        for task in graph.tasks().skip(self.expected.len()) {
            let value = self.problem.value(task, |input| self.expected[input.index()]);
            self.expected.push(value);
        }
    }

    fn note_steps(&mut self) {
        self.states.resize(self.problem.graph.len(), TaskState::Waiting);
        for task in self.problem.graph.tasks() {
            let (old, new) = (self.states[task.index()], self.scheduler.state(task));
            if old != new {
                self.coverage.stepped(old, new);
                self.states[task.index()] = new;
            }
        }
    }

    // --- the workers' ranks -----------------------------------------------------------------

    fn begin_life(&mut self, rank: Rank, life: Incarnation) {
        let capacity = self.capacity(rank);
        self.lost.remove(&rank);
        let host = format!("n{}", (rank.0 - 1) / self.sharers);
        let graph = Arc::new(self.problem.beginning.clone());
        let machine = Worker::new(graph.clone(), rank, life, host.clone(), capacity);
        let (store, running) = (BTreeMap::new(), BTreeMap::new());
        let (pool, unsynced) = (Pool::default(), Vec::new());
        let memory = self.limits.map(Memory::new);
        let (told, stuck_since) = (Room::Ample, None);
        let is_alive = true;
        let node = Node {
            machine,
            graph,
            life,
            is_alive,
            store,
            running,
            pool,
            unsynced,
            made: BTreeSet::new(),
            host,
            memory,
            told,
            stuck_since,
        };
        self.nodes.insert(rank, node);
        self.plan(0, Due::Tick(rank));
    }

    fn capacity(&self, rank: Rank) -> Resources {
        let cores = if rank.0 <= self.large { CORES_MAX } else { 1 };
        let memory_bytes = if rank.0 <= self.large && self.sharers == 2 { 4 } else { 2 };
        Resources { memory_bytes, ..Resources::cores(cores) }
    }

    /// A turn without input, so that heartbeats and late starts are reported.
    fn tick(&mut self, rank: Rank) {
        if rank == Rank::SCHEDULER {
            let mut actions = Vec::new();
            self.scheduler.handle(Timestamp(self.now), scheduler::Input::Turn, &mut actions);
            self.scheduler.check();
            self.note_steps();
            if self.scheduler.is_unfinished() {
                self.coverage.happened(Happening::TurnGoesOn);
                let at = self.rng.u64(0..100);
                self.plan(at, Due::Tick(Rank::SCHEDULER));
            }
            return self.perform_scheduler(actions);
        }
        if self.nodes.get(&rank).is_some_and(|node| node.is_alive) {
            self.check_room(rank);
            self.worker_turn(rank, Vec::new());
            self.plan(100_000, Due::Tick(rank));
        }
    }

    fn worker_takes(&mut self, rank: Rank, input: worker::Input) {
        if !self.nodes.get(&rank).is_some_and(|node| node.is_alive) {
            return self.coverage.happened(Happening::MessageToDeadWorker);
        }
        let may_wait = matches!(input, worker::Input::Finished(_)) && self.rng.u8(..) < 80;
        let decide = if may_wait { worker::Input::Refill } else { worker::Input::Turn };
        if may_wait {
            self.coverage.happened(Happening::EndToldLater);
        }
        let mut actions = Vec::new();
        let node = self.nodes.get_mut(&rank).expect("looked at above");
        node.machine.handle(Timestamp(self.now), input, &mut actions);
        self.worker_does(rank, actions, &decide);
    }

    /// Decides, and does what must be done; what the worker itself answers is handed in at once.
    fn worker_turn(&mut self, rank: Rank, actions: Vec<worker::Action>) {
        self.worker_does(rank, actions, &worker::Input::Turn);
    }

    fn worker_does(&mut self, rank: Rank, actions: Vec<worker::Action>, decide: &worker::Input) {
        let now = Timestamp(self.now);
        let room = self.room(rank);
        let node = self.nodes.get_mut(&rank).expect("the caller looked");
        let mut actions = VecDeque::from(actions);
        let mut decided = Vec::new();
        if std::mem::replace(&mut node.told, room) != room {
            node.machine.handle(now, worker::Input::Room(room), &mut decided);
        }
        node.machine.handle(now, decide.clone(), &mut decided);
        actions.extend(decided);
        while let Some(action) = actions.pop_front() {
            let answers = self.perform_worker(rank, action);
            let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
            for answer in answers {
                let mut followed = Vec::new();
                node.machine.handle(now, answer, &mut followed);
                actions.extend(followed);
            }
            if actions.is_empty() {
                let mut decided = Vec::new();
                node.machine.handle(now, decide.clone(), &mut decided);
                actions.extend(decided);
            }
        }
        self.nodes[&rank].machine.check();
        if self.nodes[&rank].machine.waits_for_room() {
            self.coverage.happened(Happening::HeavyHeldBack);
        }
        self.wake_pool(rank);
    }

    fn perform_worker(&mut self, rank: Rank, action: worker::Action) -> Vec<worker::Input> {
        let node = self.nodes.get_mut(&rank).expect("a machine acts on its own node");
        match action {
            worker::Action::ToScheduler(message) => {
                self.send(rank, Rank::SCHEDULER, Due::ToScheduler(rank, message));
            }
            worker::Action::ToPeer { peer, message } => self.say(rank, peer, message),
            worker::Action::Admit(assignment) => node.pool.admit(&assignment),
            worker::Action::Revoke(tasks, attempt) => {
                let answers = node.pool.revoke(tasks, attempt);
                let is_kept = |answer: &&worker::Input| matches!(answer, worker::Input::Kept(..));
                let kept = answers.iter().filter(is_kept).count();
                (0..kept).for_each(|_| self.coverage.happened(Happening::RevokeCameTooLate));
                return answers;
            }
            worker::Action::Slots(slots) => return node.pool.set_slots(slots),
            worker::Action::Watch(task, attempt) => {
                node.pool.watched.insert((task, attempt));
                if node.pool.has_ended(task, attempt) {
                    let life = node.life;
                    self.plan(0, Due::Flush(rank, life));
                }
            }
            worker::Action::Start(assignment) => {
                let task = assignment.tasks.first;
                assert_eq!(assignment.tasks.count, 1, "a heavy task starts alone");
                self.check_exclusive(rank, task, assignment.hosts());
                self.start(rank, task, Terms::of(&assignment), false);
            }
            worker::Action::Stop(task, attempt, cause) => {
                let life = node.life;
                let is_running = node.running.get(&task).is_some_and(|run| run.attempt == attempt);
                if is_running {
                    let due = Due::Ended { worker: rank, life, task, attempt, cause: Some(cause) };
                    self.plan(1, due);
                }
            }
            worker::Action::Persist(task, attempt) => {
                let (here, value) = node.store[&task];
                assert_eq!(here, attempt, "the output of task {task} at {rank}");
                self.coverage.happened(Happening::OutputSaved);
                self.write_output(rank, task, attempt, value);
            }
            worker::Action::Drop(task, attempt) => {
                if node.store.get(&task).is_some_and(|(here, _)| *here == attempt) {
                    node.store.remove(&task);
                    self.drop_kept(rank, task);
                }
            }
            worker::Action::Leave => {
                let incarnation = node.life;
                node.is_alive = false;
                assert!(node.running.is_empty(), "worker {rank} leaves while tasks run");
                assert!(node.pool.is_empty(), "worker {rank} leaves while tasks wait");
                let mut reports = self.last_durable(rank);
                reports.push(Report::Left(Totals::default()));
                let message = FromWorker { incarnation, reports };
                self.send(rank, Rank::SCHEDULER, Due::ToScheduler(rank, message));
            }
        }
        Vec::new()
    }

    fn say(&mut self, rank: Rank, peer: Rank, message: PeerMessage) {
        let is_answer = matches!(message.word, PeerWord::Output(..) | PeerWord::Unknown(..));
        if peer == Rank::SCHEDULER && !is_answer {
            return self.load(rank, message);
        }
        let value = match message.word {
            PeerWord::Output(task, attempt) => {
                let (here, value) = self.nodes[&rank].store[&task];
                assert_eq!(here, attempt, "the output of task {task} at {rank}");
                value
            }
            _ => 0,
        };
        match message.word {
            PeerWord::Unknown(..) => self.coverage.happened(Happening::OutputUnknown),
            PeerWord::Await(..) => self.coverage.happened(Happening::OutputAwaited),
            _ => {}
        }
        if peer == Rank::SCHEDULER {
            let life = self.nodes[&rank].life;
            return self.send(rank, peer, Due::ToClient(rank, life, message.word, value));
        }
        match message.word {
            PeerWord::Output(..) => self.send_output(rank, peer, message, value),
            _ => self.send(rank, peer, Due::ToPeer { from: rank, to: peer, message, value, lent: None }),
        }
    }

    /// A team has the asked size, on distinct hosts, and each of its workers is idle or gone.
    fn on_team(&mut self, task: TaskId, attempt: Attempt, workers: &[Rank], hosts: &[String]) {
        self.coverage.happened(Happening::MultiNodeAssigned);
        let asked = self.problem.graph.options(task).several_nodes();
        assert_eq!(Some(workers.len() as u32), asked, "task {task}: {workers:?}");
        let distinct: BTreeSet<&String> = hosts.iter().collect();
        assert_eq!(distinct.len(), workers.len(), "task {task}: {hosts:?}");
        let host = |rank: &Rank| self.nodes[rank].host.clone();
        assert_eq!(workers.iter().map(host).collect::<Vec<_>>(), hosts);
        // A life that is over, but not yet noticed, is not the life of today.
        let life = |&rank: &Rank| (rank, self.scheduler.incarnation(rank).expect("a team member is known"));
        let team: Vec<_> = workers.iter().map(life).collect();
        self.teams.insert(task, (attempt, team));
    }

    /// Nothing starts at a worker, in this life, that another rank's program has taken.
    fn check_exclusive(&mut self, rank: Rank, task: TaskId, hosts: &[String]) {
        let member = (rank, self.nodes[&rank].life);
        for (lead, node) in self.nodes.iter().filter(|(_, node)| node.is_alive) {
            for (other, run) in &node.running {
                let Some((attempt, team)) = self.teams.get(other) else { continue };
                let is_taken = *attempt == run.attempt && team.contains(&member);
                assert!(!is_taken, "task {task} starts at {rank}, which task {other} at {lead} has");
            }
        }
        let team = self.teams.get(&task).filter(|_| !hosts.is_empty()).map(|(_, team)| team.clone());
        for (other, life) in team.unwrap_or_default() {
            let node = &self.nodes[&other];
            let is_idle = node.running.is_empty() || !node.is_alive || node.life != life;
            assert!(is_idle, "task {task} starts, and its worker {other} runs something");
            if !node.is_alive || node.life != life {
                self.coverage.happened(Happening::TeamStartedShort);
            }
        }
        let nodes = self.problem.graph.options(task).several_nodes().unwrap_or(0);
        assert_eq!(hosts.len(), nodes as usize, "hosts of task {task}");
    }

    /// As at a real worker, the machine is told first, and an output that it drops at once never enters the store.
    fn peer_takes(&mut self, from: Rank, to: Rank, message: PeerMessage, value: u64) {
        let input = worker::Input::FromPeer { peer: from, message };
        let PeerWord::Output(task, attempt) = message.word else { return self.worker_takes(to, input) };
        self.coverage.happened(Happening::OutputFetched);
        let node = self.nodes.get_mut(&to).expect("nodes are never removed");
        if !node.is_alive {
            return self.coverage.happened(Happening::MessageToDeadWorker);
        }
        let mut actions = Vec::new();
        node.machine.handle(Timestamp(self.now), input, &mut actions);
        if !actions.contains(&worker::Action::Drop(task, attempt)) {
            node.store.insert(task, (attempt, value));
            self.keep(to, task);
        }
        self.worker_turn(to, actions);
    }

    fn lose(&mut self, rank: Rank) {
        let node = self.nodes.get_mut(&rank).expect("nodes are never removed");
        if !node.is_alive {
            return;
        }
        self.coverage.happened(Happening::WorkerLost);
        node.is_alive = false;
        node.store.clear();
        node.running.clear();
        node.unsynced.clear();
        node.pool = Pool::default();
        node.memory = None;
        let life = node.life;
        let noticed_us_max = [100, 300_000][self.rng.usize(..2)];
        let noticed = self.rng.u64(0..noticed_us_max);
        let back = self.rng.u64(0..600_000);
        self.lost.insert(rank);
        if self.faults.lost_come_back {
            self.plan(noticed, Due::NoticeLoss(rank, life));
            self.plan(back, Due::ComeBack(rank));
        } else {
            // No later life corrects what is taken for alive when its last words come after the notice.
            let last_words = self.last_arrival.get(&(rank, Rank::SCHEDULER)).copied().unwrap_or(0);
            let noticed = noticed.max(last_words.saturating_sub(self.now));
            self.plan(noticed, Due::NoticeLoss(rank, life));
        }
    }

    // --- the network ------------------------------------------------------------------------

    /// Parcels of one pair keep their order; those of different pairs overtake each other.
    fn send(&mut self, from: Rank, to: Rank, due: Due) {
        let delay = self.rng.u64(1..=self.faults.delay_us_max);
        let last = self.last_arrival.entry((from, to)).or_default();
        if self.due.keys().next_back().is_some_and(|(at, _)| *at > self.now + delay) {
            self.coverage.happened(Happening::PairOvertook);
        }
        let at = (self.now + delay).max(*last);
        *last = at;
        self.sequence += 1;
        self.due.insert((at, self.sequence), due);
    }

    fn plan(&mut self, after_us: u64, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now + after_us, self.sequence), due);
    }

    fn tell(&mut self, what: &dyn std::fmt::Debug) {
        if self.story.len() == STORY {
            self.story.pop_front();
        }
        self.story.push_back(format!("{:>10} {what:?}", self.now));
    }

    /// The last steps, for a failure.
    pub fn story(&self) -> String {
        let mut text = format!("{:?}\n{:?}\n", self.faults, self.client);
        for task in self.problem.graph.tasks() {
            let inputs = (self.problem.graph.value_inputs(task), self.problem.graph.order_inputs(task));
            let state = self.scheduler.state(task);
            let is_stored = self.scheduler.is_stored(task);
            writeln!(text, "{task}: {inputs:?} {state:?} {:?} {is_stored}", self.scheduler.location(task))
                .expect("a string takes all");
        }
        for (rank, node) in self.nodes.iter().filter(|(_, node)| node.is_alive) {
            writeln!(text, "worker {rank}: {}", node.machine.describe()).expect("a string takes all");
        }
        self.story.iter().for_each(|line| text += &format!("{line}\n"));
        text
    }
}

/// True for what comes again and again while nothing moves.
fn is_idle_talk(due: &Due) -> bool {
    match due {
        Due::Tick(_) | Due::Pool(..) | Due::Room(..) | Due::Client => true,
        Due::ToScheduler(_, message) => matches!(message.reports[..], [Report::Heartbeat(_)]),
        _ => false,
    }
}
