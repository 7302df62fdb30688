//! The pool under many threads: what is admitted runs once, on its last terms, with the right inputs.

use std::collections::BTreeMap;

use super::*;
use crate::clock;
use crate::core::event::Failure;
use crate::core::graph::{Definition, GraphBuilder};
use crate::core::key::Group as Keys;
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
use crate::core::value::Value;
use crate::worker::memory;
use crate::worker::spilled::Coding;

const PATIENCE: Micros = Micros::from_secs(60);
/// Bytes of a block.
const BLOCK: usize = 64 << 10;

/// Stands for the rank's loop: whoever takes a turn collects what ended.
#[derive(Default)]
struct Collector {
    pool: OnceLock<Arc<Pool>>,
    is_due: AtomicBool,
    /// True if what was taken is released, as if every output had one consumer.
    releases: AtomicBool,
    ended_count: AtomicUsize,
    ended: Mutex<Ended>,
}

#[derive(Default)]
struct Ended {
    /// Every success, in the order in which it was handed in.
    finished: Vec<(TaskId, Attempt)>,
    failed: Vec<(TaskId, Attempt, Failure)>,
    turns: u32,
}

impl Collector {
    fn collect(&self, ended: &mut Ended) {
        let Some(pool) = self.pool.get() else { return };
        ended.turns += 1;
        for ends in pool.take_ends() {
            for batch in ends.batches {
                if self.releases.load(Ordering::SeqCst) {
                    let inputs = batch.tasks().flat_map(|task| pool.setup.graph.value_inputs(task).iter());
                    inputs.for_each(|input| pool.setup.store.remove(input, batch.attempt));
                }
                ended.finished.extend(batch.tasks().map(|task| (task, batch.attempt)));
            }
            ended.failed.extend(ends.failures);
        }
        self.ended_count.store(ended.finished.len() + ended.failed.len(), Ordering::SeqCst);
        pool.on_look(clock::now());
    }
}

impl Turns for Collector {
    fn due(&self) {
        self.is_due.store(true, Ordering::SeqCst);
        while self.is_due.load(Ordering::SeqCst) {
            let ended = match self.releases.load(Ordering::SeqCst) {
                // A slot that goes on while the system keeps another one from releasing may well have to spill.
                true => Some(self.ended.lock().unwrap()),
                false => self.ended.try_lock().ok(),
            };
            let Some(mut ended) = ended else { return };
            self.is_due.store(false, Ordering::SeqCst);
            self.collect(&mut ended);
        }
    }

    fn entered(&self) {}

    fn look(&self) -> Look {
        if let Ok(mut ended) = self.ended.try_lock() {
            self.collect(&mut ended);
        }
        Look::Quiet
    }

    fn rest(&self, _: Duration) -> bool {
        unreachable!("there is no news to rest for")
    }

    fn leave(&self) {}

    fn ended(&self) -> bool {
        self.due();
        false
    }
}

#[derive(Default)]
struct Recorded(Mutex<Vec<(TaskId, Attempt)>>);

impl Recorder for Recorded {
    fn record(
        &self,
        task: TaskId,
        attempt: Attempt,
        output: &Output,
        _: Vec<std::path::PathBuf>,
    ) -> Result<(), Cause> {
        if *output == Output::Value(Value::Int(13)) {
            return Err(Cause::NotRecorded("13 brings bad luck".to_owned()));
        }
        self.0.lock().unwrap().push((task, attempt));
        Ok(())
    }
}

/// A pool of its own, and who runs what in it.
struct World {
    graph: Arc<Graph>,
    pool: Arc<Pool>,
    collector: Arc<Collector>,
    runs: Arc<Mutex<BTreeMap<TaskId, Vec<Attempt>>>>,
    recorded: Arc<Recorded>,
}

impl World {
    /// Task `i` has these inputs and does `does(i)`: the name of a function.
    fn new(slots: u32, inputs: &[Vec<u32>], does: impl Fn(u32) -> &'static str) -> Self {
        World::on(Arc::new(Store::new(inputs.len())), slots, inputs, does)
    }

    fn on(store: Arc<Store>, slots: u32, inputs: &[Vec<u32>], does: impl Fn(u32) -> &'static str) -> Self {
        let graph = graph(inputs, does);
        let runs: Arc<Mutex<BTreeMap<TaskId, Vec<Attempt>>>> = Arc::default();
        let recorded = Arc::new(Recorded::default());
        let setup = Setup {
            slots,
            functions: Arc::new(functions(&runs)),
            python: None,
            stops: Arc::default(),
            store,
            recorder: recorded.clone(),
            place: None,
            graph: graph.clone(),
        };
        let (pool, collector) = (Arc::new(Pool::new(setup)), Arc::new(Collector::default()));
        let _ = collector.pool.set(pool.clone());
        let turns: Arc<dyn Turns> = collector.clone();
        pool.start(&turns).unwrap();
        pool.set_slots(slots);
        World { graph, pool, collector, runs, recorded }
    }

    fn admit(&self, first: u32, count: u32, attempt: u32) {
        let terms = Terms { attempt: Attempt(attempt), is_kept: true, is_persisted: false };
        self.pool.admit(Span { first: TaskId(first), count }, terms);
    }

    fn value(&self, task: u32) -> Option<Value> {
        match &*self.pool.setup.store.take(TaskId(task)).unwrap()? {
            Output::Value(value) => Some(value.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until so many have ended; takes turns like an idle rank's loop.
    fn await_ends(&self, count: usize) {
        let began = clock::now();
        loop {
            self.collector.due();
            let ended = self.collector.ended.lock().unwrap();
            if ended.finished.len() + ended.failed.len() >= count {
                assert_eq!(ended.finished.len() + ended.failed.len(), count);
                return;
            }
            assert!(clock::now().since(began) < PATIENCE, "{} of {count} finished", ended.finished.len());
            drop(ended);
            std::thread::yield_now();
        }
    }

    /// The same without a turn and without a lock that slots need for theirs.
    fn await_ends_aside(&self, count: usize) {
        let began = clock::now();
        while self.collector.ended_count.load(Ordering::SeqCst) < count {
            assert!(clock::now().since(began) < PATIENCE, "not all of {count} finished");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn causes(&self) -> Vec<Cause> {
        let ended = self.collector.ended.lock().unwrap();
        ended.failed.iter().map(|(_, _, failure)| failure.cause.clone()).collect()
    }

    /// Every end was handed in after those of its inputs, and every value is the sum it should be.
    fn check_sums(&self) {
        let ended = self.collector.ended.lock().unwrap();
        let place: BTreeMap<TaskId, usize> =
            ended.finished.iter().enumerate().map(|(place, (task, _))| (*task, place)).collect();
        let mut sums = vec![0_i64; self.graph.len()];
        for task in self.graph.tasks() {
            let inputs = self.graph.value_inputs(task).iter();
            sums[task.index()] = inputs.map(|input| sums[input.index()]).fold(1, sum);
            assert_eq!(self.value(task.0), Some(Value::Int(sums[task.index()])), "task {task}");
            assert!(place.contains_key(&task), "task {task} was handed in");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.pool.close();
    }
}

fn sum(left: i64, right: i64) -> i64 {
    (left + right) % 1_000_003
}

fn functions(runs: &Arc<Mutex<BTreeMap<TaskId, Vec<Attempt>>>>) -> Functions {
    let mut functions = Functions::builtin();
    let runs = runs.clone();
    functions.register("sum", move |context, arguments| {
        runs.lock().unwrap().entry(context.task()).or_default().push(context.attempt());
        let Value::List(inputs) = &*arguments[0] else { return Err("no list".to_owned()) };
        let number = |value: &Value| if let Value::Int(number) = value { *number } else { -1 };
        Ok(Value::Int(inputs.iter().map(number).fold(1, sum)))
    });
    functions.register("block", |_, _| Ok(Value::Bytes(vec![1; BLOCK])));
    functions.register("unlucky", |_, _| Ok(Value::Int(13)));
    functions.register("refuse", |_, _| Err("no".to_owned()));
    functions.register("linger", |context, _| {
        while !context.is_stopped() {
            std::thread::yield_now();
        }
        Ok(Value::Null)
    });
    functions
}

fn graph(inputs: &[Vec<u32>], does: impl Fn(u32) -> &'static str) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("test", "/");
    let ids: Vec<TaskId> =
        (0..inputs.len()).map(|task| builder.declare(Keys::single(format!("t{task}"))).unwrap()).collect();
    let options = builder.options(TaskOptions::default());
    for (task, inputs) in (0..).zip(inputs) {
        let count = inputs.len() as u32;
        let arguments = vec![Argument::Inputs { first: 0, count }];
        let body = Body::Call(Call { function: does(task).to_owned(), arguments });
        let operation = builder.operation(Operation { body, outputs: vec![], inputs: vec![] });
        let values = inputs.iter().map(|&input| ids[input as usize]).collect();
        builder.define(Definition { operation, options, values, ..Definition::default() }).unwrap();
    }
    Arc::new(builder.build().unwrap())
}

/// Up to three inputs a task, mostly near ones; some have none.
fn random_inputs(random: &mut fastrand::Rng, tasks: u32) -> Vec<Vec<u32>> {
    let inputs = |task: u32, random: &mut fastrand::Rng| {
        let count = if task == 0 { 0 } else { random.u32(0..4) };
        let reach = if random.bool() { task.min(8) } else { task };
        let mut inputs: Vec<u32> = (0..count).map(|_| task - 1 - random.u32(0..reach.max(1))).collect();
        inputs.sort_unstable();
        inputs.dedup();
        inputs
    };
    (0..tasks).map(|task| inputs(task, random)).collect()
}

fn spans(random: &mut fastrand::Rng, tasks: u32) -> Vec<(u32, u32)> {
    let mut spans = Vec::new();
    let mut first = 0;
    while first < tasks {
        let count = random.u32(1..=200).min(tasks - first);
        spans.push((first, count));
        first += count;
    }
    random.shuffle(&mut spans);
    spans
}

fn seeded(test: &str) -> fastrand::Rng {
    let seed = std::env::var("DAGMAR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with DAGMAR_SEED={seed} cargo test --lib {test}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn every_task_of_a_random_graph_runs_once_and_after_its_inputs() {
    let mut random = seeded("every_task_of_a_random_graph");
    for slots in [1, 2, 5] {
        let inputs = random_inputs(&mut random, 4_000);
        let world = World::new(slots, &inputs, |_| "sum");
        for (first, count) in spans(&mut random, 4_000) {
            world.admit(first, count, 1);
        }
        world.await_ends(4_000);
        world.check_sums();
        assert!(world.runs.lock().unwrap().values().all(|runs| runs.len() == 1));
    }
}

#[test]
fn what_is_taken_back_and_comes_again_runs_once_on_its_last_terms() {
    let mut random = seeded("what_is_taken_back");
    const TASKS: u32 = 3_000;
    let inputs = random_inputs(&mut random, TASKS);
    let world = World::new(3, &inputs, |_| "sum");
    let mut attempts = vec![1; TASKS as usize];
    for (first, count) in spans(&mut random, TASKS) {
        world.admit(first, count, 1);
    }
    let mut revoked_count = 0;
    for _ in 0..2_000 {
        let first = random.u32(0..TASKS);
        let count = random.u32(1..=40).min(TASKS - first);
        let taken_back = world.pool.revoke(Span { first: TaskId(first), count });
        for span in taken_back.revoked {
            revoked_count += span.count;
            for task in span.tasks() {
                attempts[task.index()] += random.u32(0..2);
                world.admit(task.0, 1, attempts[task.index()]);
            }
        }
    }
    world.await_ends(TASKS as usize);
    println!("{revoked_count} tasks were taken back");
    world.check_sums();
    let runs = world.runs.lock().unwrap();
    for (task, attempt) in attempts.iter().enumerate() {
        assert_eq!(runs[&TaskId::from(task)], [Attempt(*attempt)], "task {task}");
    }
}

#[test]
fn an_output_from_elsewhere_sets_tasks_free() {
    let world = World::new(2, &[vec![], vec![0], vec![0, 1]], |_| "sum");
    world.admit(1, 2, 1);
    world.pool.deliver(TaskId(0), Attempt(7), Arc::new(Output::Value(Value::Int(5))));
    world.await_ends(2);
    assert_eq!(world.value(2), Some(Value::Int(12)));
}

#[test]
fn a_task_runs_again_when_its_output_is_lost() {
    let world = World::new(2, &[vec![], vec![0]], |_| "sum");
    world.admit(0, 1, 1);
    world.await_ends(1);
    world.pool.setup.store.remove(TaskId(0), Attempt(1));
    world.admit(1, 1, 1);
    world.admit(0, 1, 2);
    world.await_ends(3);
    assert_eq!(world.runs.lock().unwrap()[&TaskId(0)], [Attempt(1), Attempt(2)]);
    assert_eq!(world.value(1), Some(Value::Int(2)));
}

#[test]
fn a_new_task_that_came_with_one_that_was_here_before_is_not_taken_back_once_it_ran() {
    let world = World::new(1, &[vec![], vec![]], |_| "sum");
    world.admit(0, 1, 1);
    world.await_ends(1);
    world.admit(0, 2, 2);
    world.await_ends(3);
    let taken_back = world.pool.revoke(Span { first: TaskId(0), count: 2 });
    assert_eq!(taken_back, TakenBack { revoked: vec![], kept: vec![TaskId(0), TaskId(1)] });
}

#[test]
fn no_more_run_than_may_and_the_last_one_that_stops_says_so() {
    let world = World::new(4, &vec![vec![]; 4], |_| "linger");
    world.admit(0, 4, 1);
    let began = clock::now();
    while world.pool.working() < 4 {
        assert!(clock::now().since(began) < PATIENCE);
        std::thread::yield_now();
    }
    world.pool.set_slots(1);
    assert_eq!(world.pool.working(), 4);
    for task in 0..3 {
        world.pool.setup.stops.stop(TaskId(task), Attempt(1), Cause::Cancelled);
    }
    while world.pool.working() > 1 {
        assert!(clock::now().since(began) < PATIENCE);
        std::thread::yield_now();
    }
    world.await_ends(3);
    assert_eq!(world.causes(), vec![Cause::Cancelled; 3]);
}

#[test]
fn a_long_task_is_told_once() {
    let world = World::new(1, &[vec![]], |_| "linger");
    world.admit(0, 1, 3);
    let began = clock::now();
    let told = loop {
        let told = world.pool.running_for(Micros(2_000), clock::now());
        if let Some((task, attempt, _)) = told.first() {
            break (*task, *attempt);
        }
        assert!(clock::now().since(began) < PATIENCE);
    };
    assert_eq!(told, (TaskId(0), Attempt(3)));
    assert!(world.pool.running_for(Micros(2_000), clock::now()).is_empty());
}

#[test]
fn the_end_of_a_watched_task_is_handed_in_at_once() {
    let world = World::new(1, &[vec![], vec![]], |task| if task == 0 { "sum" } else { "linger" });
    world.pool.watch(TaskId(0));
    world.admit(0, 1, 1);
    world.admit(1, 1, 1);
    // The slot is at the second task and stays there: nobody else takes a turn here.
    let began = clock::now();
    while world.collector.ended.lock().unwrap().finished.is_empty() {
        assert!(clock::now().since(began) < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(world.pool.watched_count.load(Ordering::SeqCst), 0);
}

#[test]
fn a_value_is_recorded_before_it_is_seen_or_its_attempt_has_failed() {
    let world = World::new(2, &[vec![], vec![]], |task| if task == 0 { "sum" } else { "unlucky" });
    let terms = Terms { attempt: Attempt(1), is_kept: true, is_persisted: true };
    world.pool.admit(Span { first: TaskId(0), count: 2 }, terms);
    world.await_ends(2);
    assert_eq!(*world.recorded.0.lock().unwrap(), [(TaskId(0), Attempt(1))]);
    assert_eq!(world.causes(), [Cause::NotRecorded("13 brings bad luck".to_owned())]);
    assert_eq!(world.value(1), None);
}

#[test]
fn a_failure_is_handed_in_and_its_dependents_wait() {
    let world = World::new(2, &[vec![], vec![0]], |task| if task == 0 { "refuse" } else { "sum" });
    world.admit(0, 2, 1);
    world.await_ends(1);
    assert_eq!(world.causes(), [Cause::Function("no".to_owned())]);
    let taken_back = world.pool.revoke(Span { first: TaskId(0), count: 2 });
    assert_eq!(taken_back, TakenBack { revoked: vec![Span::one(TaskId(1))], kept: vec![TaskId(0)] });
}

#[test]
fn what_is_not_kept_leaves_no_output() {
    let world = World::new(2, &vec![vec![]; 1_000], |_| "sum");
    let terms = Terms { attempt: Attempt(1), is_kept: false, is_persisted: false };
    world.pool.admit(Span { first: TaskId(0), count: 1_000 }, terms);
    world.await_ends(1_000);
    assert!((0..1_000).all(|task| world.value(task).is_none()));
}

#[test]
fn closing_ends_what_runs() {
    let world = World::new(2, &vec![vec![]; 2], |_| "linger");
    world.admit(0, 2, 1);
    while world.pool.working() < 2 {
        std::thread::yield_now();
    }
    world.pool.close();
    world.collector.due();
    assert!(world.causes().iter().all(|cause| *cause == Cause::Stopped));
}

/// A tree: so many leaves, and each further task takes two of those before it.
fn tree(leaves: u32) -> Vec<Vec<u32>> {
    let reductions = (0..leaves - 1).map(|place| vec![2 * place, 2 * place + 1]);
    (0..leaves).map(|_| vec![]).chain(reductions).collect()
}

fn store_of(blocks: u64, on_disk: u64, tasks: usize) -> Arc<Store> {
    let coding =
        Coding { encode: |_| unreachable!("blocks are plain"), decode: |_| Err("so are they".into()) };
    let (limit_bytes, scratch_limit_bytes) = (blocks * BLOCK as u64, on_disk * BLOCK as u64);
    let scratch = std::env::temp_dir();
    Store::within(tasks, memory::Setup { limit_bytes, scratch_limit_bytes, scratch, coding })
}

#[test]
fn a_tree_of_reductions_holds_a_few_blocks_and_not_all_leaves() {
    let inputs = tree(256);
    for slots in [1, 2] {
        // Nine blocks for each slot, twenty whose release is on its way, and half as much again.
        let world = World::on(store_of(64, u64::MAX >> 32, inputs.len()), slots, &inputs, |_| "block");
        world.collector.releases.store(true, Ordering::SeqCst);
        // Leaves that run before the tasks that take them have come are no fault of the pool.
        world.pool.set_slots(0);
        world.admit(0, inputs.len() as u32, 1);
        world.pool.set_slots(slots);
        // Outputs are released in turns: whoever held up those of the slots would be the one that spills.
        world.await_ends_aside(inputs.len());
        let memory = world.pool.setup.store.memory().unwrap();
        assert_eq!(memory.moved_bytes(), (0, 0), "{slots} slots");
    }
}

#[test]
fn more_blocks_than_memory_has_room_for_go_through_the_disk() {
    // Sixty blocks, then sixty tasks that take one each, of which sixteen blocks have room.
    let inputs: Vec<Vec<u32>> =
        (0..120).map(|task| if task < 60 { vec![] } else { vec![task - 60] }).collect();
    let world = World::on(store_of(16, u64::MAX >> 32, inputs.len()), 2, &inputs, |task| {
        if task < 60 { "block" } else { "sum" }
    });
    world.admit(0, 60, 1);
    world.await_ends(60);
    world.admit(60, 60, 1);
    world.await_ends(120);
    let (written, read) = world.pool.setup.store.memory().unwrap().moved_bytes();
    assert!(written >= 44 * BLOCK as u64 && read >= 40 * BLOCK as u64, "{written} {read}");
}

#[test]
fn with_memory_and_disk_full_what_has_no_inputs_waits_until_something_is_released() {
    let inputs = vec![vec![]; 40];
    let world = World::on(store_of(16, 4, inputs.len()), 2, &inputs, |_| "block");
    world.admit(0, 40, 1);
    let began = clock::now();
    let store = world.pool.setup.store.clone();
    while world.pool.working() > 0
        || !world.pool.waits_for_room()
        || store.memory().unwrap().no_room().is_none()
    {
        assert!(clock::now().since(began) < PATIENCE, "it fills memory and disk");
        std::thread::yield_now();
    }
    world.collector.due();
    let finished = world.collector.ended.lock().unwrap().finished.clone();
    assert!((20..40).contains(&finished.len()), "{} of 40 ran", finished.len());
    // What there is is released, until all have run.
    let mut left: Vec<TaskId> = (0..40).map(TaskId).collect();
    while !left.is_empty() {
        assert!(clock::now().since(began) < PATIENCE, "{left:?} run");
        let here = left.extract_if(.., |task| store.find(*task, None).is_some());
        here.for_each(|task| store.remove(task, Attempt(1)));
        std::thread::yield_now();
    }
    world.await_ends(40);
}
