//! What the decisions cost alone: no threads, no transport, tasks that take no time.
//!
//!     cargo bench --bench scheduler                 both parts
//!     cargo bench --bench scheduler -- decisions    microseconds a task by shape, size and workers
//!     cargo bench --bench scheduler -- split        where the time of a run of no-ops goes
//!     cargo bench --bench scheduler -- chain        the decisions for one shape
//!     cargo bench --bench scheduler -- --small      a few tasks: only checks that everything ends
//!     cargo bench --bench scheduler -- once fft 256 10 16      a shape of a width, steps and workers,
//!                                                   once, for `scripts/instructions` to count
//!
//! `decisions` drives the scheduler machine twice: with workers that answer every assignment at
//! once and are nothing else (`scheduler`), and with worker machines behind it (`worker` is their
//! share). Turns place as many orders as in a real run. `split` adds what a run does besides: encoding,
//! the journal, and following the events. Every figure is the median of five rounds, in microseconds a task.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dagmar::client::formats::make::{Shape, Size, make};
use dagmar::core::batch::Batch;
use dagmar::core::event::{Event, Outcome, Totals};
use dagmar::core::graph::Graph;
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{FromWorker, Order, PeerMessage, PeerWord, Report, ToWorker};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Action, Input, Options, Persist, Precedence, Scheduler};
use dagmar::core::span::Span;
use dagmar::core::time::{Micros, Timestamp};
use dagmar::core::worker::{self, Worker};
use dagmar::observe::report::ReportBuilder;
use dagmar::record::journal::JournalWriter;
use dagmar::record::packed;
use dagmar::runtime::envelope::Envelope;
use dagmar::runtime::scheduler_loop::ORDERS_PER_TURN;
use dagmar::transport::codec;

const ROUNDS: usize = 5;
/// Cores of a worker: as many as one of a batch node's NUMA domains.
const CORES: u32 = 16;
const LIFE: Incarnation = Incarnation(1);

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [once, shape, sizes @ ..] = &words[..]
        && once == "once"
    {
        return play_once(shape, sizes);
    }
    let is_small = words.iter().any(|word| word == "--small");
    let names: Vec<&str> = words.iter().map(String::as_str).filter(|word| *word != "--small").collect();
    let shapes: Vec<Shape> = names.iter().filter_map(|name| name.parse().ok()).collect();
    if names.is_empty() || names.contains(&"decisions") || !shapes.is_empty() {
        decisions(&shapes, is_small);
    }
    if names.is_empty() || names.contains(&"split") {
        split(is_small);
    }
}

// ---------------------------------------------------------------- decisions

fn decisions(shapes: &[Shape], is_small: bool) {
    println!(
        "{:<11} {:>9} {:>8} | {:>7} | {:>9} {:>9} | {:>7}  us a task",
        "shape", "tasks", "workers", "set up", "scheduler", "tasks/s", "worker"
    );
    let shrunk = |size: u32| if is_small { (size / 1000).max(8).next_power_of_two() } else { size };
    for (shape, width, steps) in [
        (Shape::Trivial, 100_000, 1),
        (Shape::Trivial, 1_000_000, 1),
        (Shape::Trivial, 10_000_000, 1),
        (Shape::Chain, 1, 10_000),
        (Shape::Chain, 1024, 1000),
        (Shape::Tree, 1 << 15, 1),
        (Shape::Stencil1d, 64, 1000),
        (Shape::Stencil1d, 1000, 1000),
        (Shape::Fft, 1024, 100),
        (Shape::Random, 1000, 100),
    ] {
        if !shapes.is_empty() && !shapes.contains(&shape) {
            continue;
        }
        let size = Size { width: shrunk(width), steps: if steps == 1 { 1 } else { shrunk(steps) }, seed: 0 };
        let graph = Arc::new(make(shape, size).expect("a known shape of a fair size"));
        for workers in [1, 16, 1024] {
            decide(shape, &graph, workers, if is_small { 1 } else { ROUNDS });
        }
    }
}

fn decide(shape: Shape, graph: &Arc<Graph>, workers: u32, rounds: usize) {
    let asked: Vec<TaskId> = graph.sinks().collect();
    let tasks = graph.len();
    let mut figures: [Vec<f64>; 3] = Default::default();
    for _ in 0..rounds {
        let mut set_up = Duration::ZERO;
        let scheduler = timed(&mut set_up, || Scheduler::new(graph.clone(), &asked, options(workers)));
        let mut run = Run::new(scheduler);
        run.play(&mut Prompt, workers, |_| ());
        assert_eq!(run.finished, tasks, "every task finishes once");

        let mut machines = Machines::new(graph, workers);
        let mut behind = Run::new(Scheduler::new(graph.clone(), &asked, options(workers)));
        behind.play(&mut machines, workers, |_| ());
        assert_eq!(behind.finished, tasks, "every task finishes once");

        for (figures, span) in figures.iter_mut().zip([set_up, run.deciding, machines.deciding]) {
            figures.push(us_each(span, tasks));
        }
    }
    let [set_up, scheduler, worker] = figures.map(median);
    println!(
        "{:<11} {tasks:>9} {workers:>8} | {set_up:>7.2} | {scheduler:>9.3} {:>9.0} | {worker:>7.3}",
        shape.to_string(),
        1e6 / scheduler
    );
}

/// Plays one graph with workers that answer at once.
fn play_once(shape: &str, sizes: &[String]) {
    let sizes: Vec<u32> = sizes.iter().map(|size| size.parse().expect("sizes are numbers")).collect();
    let [width, steps, workers] = sizes[..] else { panic!("width, steps and workers follow the shape") };
    let shape = shape.parse().expect("a known shape");
    let graph = Arc::new(make(shape, Size { width, steps, seed: 0 }).expect("a fair size"));
    let asked: Vec<TaskId> = graph.sinks().collect();
    let mut run = Run::new(Scheduler::new(graph.clone(), &asked, options(workers)));
    run.play(&mut Prompt, workers, |_| ());
    assert_eq!(run.finished, graph.len(), "every task finishes once");
    println!("{}", graph.len());
}

fn options(workers: u32) -> Options {
    Options { workers, workers_come_back: false, persist: Persist::Kept, precedence: Precedence::default() }
}

/// The scheduler machine in the middle of workers that answer at once.
struct Run {
    machine: Scheduler,
    inbox: Vec<(Rank, FromWorker)>,
    finished: usize,
    deciding: Duration,
}

/// What is on the other side of the scheduler.
trait Workers {
    fn joined(&mut self, worker: Rank) -> FromWorker;
    fn deliver(&mut self, worker: Rank, message: ToWorker, answers: &mut Vec<(Rank, FromWorker)>);
}

/// What the scheduler and its workers said in one turn.
struct Turn<'a> {
    from_workers: &'a [(Rank, FromWorker)],
    actions: &'a [Action],
}

impl Run {
    fn new(machine: Scheduler) -> Self {
        let machine = machine.with_pace(ORDERS_PER_TURN);
        Run { machine, inbox: Vec::new(), finished: 0, deciding: Duration::ZERO }
    }

    /// Plays to the end and shows every turn to `watch`.
    fn play(&mut self, workers: &mut impl Workers, count: u32, mut watch: impl FnMut(&Turn<'_>)) {
        self.inbox = (1..=count).map(Rank).map(|worker| (worker, workers.joined(worker))).collect();
        let mut actions = Vec::new();
        loop {
            let inbox = std::mem::take(&mut self.inbox);
            let shown = inbox.clone();
            let began = Instant::now();
            for (worker, message) in inbox {
                self.machine.handle(Timestamp(0), Input::FromWorker { worker, message }, &mut actions);
            }
            self.machine.handle(Timestamp(0), Input::Turn, &mut actions);
            self.deciding += began.elapsed();
            watch(&Turn { from_workers: &shown, actions: &actions });
            for action in actions.drain(..) {
                match action {
                    Action::ToWorker { worker, message } => workers.deliver(worker, message, &mut self.inbox),
                    Action::Record(Event::TasksFinished { batch, .. }) => {
                        self.finished += batch.len() as usize
                    }
                    Action::Record(_) | Action::ToClient(_) | Action::Fetch { .. } => (),
                    Action::Finish(outcome) => return assert_eq!(outcome, Outcome::Done),
                }
            }
            assert!(
                !self.inbox.is_empty() || self.machine.is_unfinished(),
                "somebody always has something to say"
            );
        }
    }
}

fn joined() -> Vec<Report> {
    vec![Report::Joined { host: "node".to_owned(), capacity: Resources::cores(CORES) }]
}

/// The end of a batch that takes no time.
fn finish(batch: &mut Batch, tasks: Span) {
    tasks.tasks().for_each(|task| batch.push(task, Timestamp(0), Micros(0), 8));
}

/// Workers without a machine: everything assigned is finished in the same turn.
struct Prompt;

impl Workers for Prompt {
    fn joined(&mut self, _worker: Rank) -> FromWorker {
        FromWorker { incarnation: LIFE, reports: joined() }
    }

    fn deliver(&mut self, worker: Rank, message: ToWorker, answers: &mut Vec<(Rank, FromWorker)>) {
        let mut batch = Batch::new(Attempt::FIRST);
        let mut reports = Vec::new();
        for order in &message.orders {
            match order {
                Order::Assign(assigned) => finish(&mut batch, assigned.tasks),
                Order::Leave => reports.push(Report::Left(Totals::default())),
                Order::Retract(..)
                | Order::End(..)
                | Order::Release(..)
                | Order::Hold(..)
                | Order::Persist(..)
                | Order::Stop => {}
            }
        }
        if !batch.is_empty() {
            reports.push(Report::Finished(batch));
        }
        if !reports.is_empty() {
            answers.push((worker, FromWorker { incarnation: LIFE, reports }));
        }
    }
}

/// Worker machines whose tasks end as soon as their inputs are there.
struct Machines {
    graph: Arc<Graph>,
    machines: Vec<Worker>,
    pools: Vec<Pool>,
    peer_words: VecDeque<(Rank, Rank, PeerMessage)>,
    deciding: Duration,
}

/// The least that stands in for a worker's pool.
#[derive(Default)]
struct Pool {
    here: HashSet<TaskId>,
    /// Admitted tasks that miss inputs, by one of those.
    waiting: HashMap<TaskId, Vec<TaskId>>,
}

impl Pool {
    /// Runs tasks, and with them whatever waited for them alone.
    fn run(&mut self, graph: &Graph, tasks: Vec<TaskId>, is_kept: bool, batch: &mut Batch) {
        let mut tasks = VecDeque::from(tasks);
        while let Some(task) = tasks.pop_front() {
            let missing = graph.value_inputs(task).iter().find(|input| !self.here.contains(input));
            if let Some(missing) = missing {
                self.waiting.entry(missing).or_default().push(task);
                continue;
            }
            finish(batch, Span::one(task));
            if is_kept || !graph.dependents(task).is_empty() {
                self.here.insert(task);
            }
            tasks.extend(self.waiting.remove(&task).unwrap_or_default());
        }
    }
}

impl Machines {
    fn new(graph: &Arc<Graph>, workers: u32) -> Self {
        let machine =
            |rank| Worker::new(graph.clone(), Rank(rank), LIFE, "node".to_owned(), Resources::cores(CORES));
        Machines {
            graph: graph.clone(),
            machines: (1..=workers).map(machine).collect(),
            pools: (1..=workers).map(|_| Pool::default()).collect(),
            peer_words: VecDeque::new(),
            deciding: Duration::ZERO,
        }
    }

    /// Hands an input in and turns until the machine has nothing more to do.
    fn feed(&mut self, rank: Rank, input: worker::Input, answers: &mut Vec<(Rank, FromWorker)>) {
        let machine = &mut self.machines[rank.index() - 1];
        let pool = &mut self.pools[rank.index() - 1];
        let mut inputs = vec![input];
        let mut actions = Vec::new();
        while !inputs.is_empty() {
            let began = Instant::now();
            for input in inputs.drain(..) {
                machine.handle(Timestamp(0), input, &mut actions);
            }
            machine.handle(Timestamp(0), worker::Input::Turn, &mut actions);
            self.deciding += began.elapsed();
            let mut batch = Batch::new(Attempt::FIRST);
            for action in actions.drain(..) {
                match action {
                    worker::Action::Admit(assigned) => {
                        let tasks = assigned.tasks.tasks().collect();
                        pool.run(&self.graph, tasks, assigned.consumers > 0, &mut batch);
                    }
                    worker::Action::ToScheduler(message) => answers.push((rank, message)),
                    worker::Action::ToPeer { peer, message } => {
                        self.peer_words.push_back((rank, peer, message));
                    }
                    worker::Action::Leave => {
                        let reports = vec![Report::Left(Totals::default())];
                        answers.push((rank, FromWorker { incarnation: LIFE, reports }));
                    }
                    worker::Action::Drop(task, _) => drop(pool.here.remove(&task)),
                    worker::Action::Slots(_) | worker::Action::Watch(..) => (),
                    other => panic!("only light tasks run here: {other:?}"),
                }
            }
            if !batch.is_empty() {
                inputs.push(worker::Input::Finished(batch));
            }
        }
    }

    /// Hands in what another worker says; an output is in the store before.
    fn hear(&mut self, from: Rank, to: Rank, message: PeerMessage, answers: &mut Vec<(Rank, FromWorker)>) {
        assert!(!matches!(message.word, PeerWord::Unknown(..)), "outputs stay until they are released");
        let mut batch = Batch::new(Attempt::FIRST);
        if let PeerWord::Output(task, _) = message.word {
            let pool = &mut self.pools[to.index() - 1];
            pool.here.insert(task);
            let released = pool.waiting.remove(&task).unwrap_or_default();
            pool.run(&self.graph, released, false, &mut batch);
        }
        self.feed(to, worker::Input::FromPeer { peer: from, message }, answers);
        if !batch.is_empty() {
            self.feed(to, worker::Input::Finished(batch), answers);
        }
    }
}

impl Workers for Machines {
    fn joined(&mut self, worker: Rank) -> FromWorker {
        let mut answers = Vec::new();
        let nothing = ToWorker { incarnation: LIFE, orders: Vec::new() };
        self.feed(worker, worker::Input::FromScheduler(nothing), &mut answers);
        answers.pop().expect("a worker joins with its first word").1
    }

    fn deliver(&mut self, worker: Rank, message: ToWorker, answers: &mut Vec<(Rank, FromWorker)>) {
        self.feed(worker, worker::Input::FromScheduler(message), answers);
        while let Some((from, to, message)) = self.peer_words.pop_front() {
            self.hear(from, to, message, answers);
        }
    }
}

// ---------------------------------------------------------------- split

/// The parts of one run of no-ops on one worker, each timed by itself.
fn split(is_small: bool) {
    const PARTS: [&str; 12] = [
        "make the graph",
        "pack it",
        "read it packed",
        "scheduler: set up",
        "scheduler machine",
        "worker machine",
        "encode orders",
        "decode orders",
        "encode reports",
        "decode reports",
        "journal",
        "follow the events (progress, report)",
    ];
    let tasks = if is_small { 1000 } else { 1_000_000 };
    let mut rounds: [Vec<f64>; PARTS.len()] = Default::default();
    for _ in 0..if is_small { 1 } else { ROUNDS } {
        let parts = split_once(tasks);
        for (figures, part) in rounds.iter_mut().zip(parts) {
            figures.push(us_each(part, tasks as usize));
        }
    }
    println!("\n{tasks} no-ops, one worker with {CORES} cores: microseconds a task");
    let mut sum = 0.0;
    for (name, figures) in PARTS.iter().zip(rounds) {
        let figure = median(figures);
        sum += figure;
        println!("{figure:>8.3}  {name}");
    }
    println!("{sum:>8.3}  all");
}

fn split_once(tasks: u32) -> [Duration; 12] {
    let mut parts = [Duration::ZERO; 12];
    let made = timed(&mut parts[0], || make(Shape::Trivial, Size { width: tasks, steps: 1, seed: 0 }));
    let made = made.expect("a trivial graph can be made");
    let mut bytes = Vec::new();
    timed(&mut parts[1], || packed::write(&made, &mut bytes)).expect("memory takes everything");
    let graph = timed(&mut parts[2], || packed::read(&bytes)).expect("what was packed can be read");
    let graph = Arc::new(graph);
    let asked: Vec<TaskId> = graph.sinks().collect();
    let scheduler = timed(&mut parts[3], || Scheduler::new(graph.clone(), &asked, options(1)));

    let folder = std::env::temp_dir().join(format!("dagmar-bench-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("there is room for temporary files");
    let path = folder.join("journal");
    let _ = fs::remove_file(&path);
    let mut journal = JournalWriter::create(&path).expect("there is room for a journal");
    let mut builder = ReportBuilder::new(graph.clone());
    let mut machines = Machines::new(&graph, 1);
    let mut run = Run::new(scheduler);
    let mut events = Vec::new();
    run.play(&mut machines, 1, |turn| {
        let records = turn.actions.iter().filter_map(|action| match action {
            Action::Record(event) => Some((Timestamp(0), event.clone())),
            _ => None,
        });
        events.extend(records);
        timed(&mut parts[10], || journal.append(&events)).expect("there is room for the journal");
        timed(&mut parts[11], || events.iter().for_each(|(time, event)| builder.on_event(*time, event)));
        events.clear();
        for action in turn.actions {
            let Action::ToWorker { message, .. } = action else { continue };
            let envelope = Envelope::ToWorker(message.clone());
            let bytes = timed(&mut parts[6], || codec::encode(&envelope));
            timed(&mut parts[7], || codec::decode::<Envelope>(&bytes)).expect("what was written is read");
        }
        for (_, message) in turn.from_workers {
            let envelope = Envelope::FromWorker(message.clone());
            let bytes = timed(&mut parts[8], || codec::encode(&envelope));
            timed(&mut parts[9], || codec::decode::<Envelope>(&bytes)).expect("what was written is read");
        }
    });
    timed(&mut parts[10], || journal.flush()).expect("there is room for the journal");
    timed(&mut parts[11], || builder.report());
    fs::remove_dir_all(&folder).expect("it is ours");
    assert_eq!(run.finished, tasks as usize, "every task finishes once");
    (parts[4], parts[5]) = (run.deciding, machines.deciding);
    parts
}

// ---------------------------------------------------------------- figures

fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *sum += began.elapsed();
    result
}

fn us_each(span: Duration, tasks: usize) -> f64 {
    span.as_secs_f64() * 1e6 / tasks as f64
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
