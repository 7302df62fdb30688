//! Real workers, in threads, with this test as rank 0 and as another worker: what is assigned ahead runs
//! without rank 0, and what one worker makes the other gets.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use dagmar::clock;
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::key::{Axis, Group};
use dagmar::core::message::{Assignment, InputLocation, Order, PeerMessage, PeerWord, Report, ToWorker};
use dagmar::core::resources::Resources;
use dagmar::core::span::Span;
use dagmar::core::task::{Argument, Body, Call, Operation, TaskOptions};
use dagmar::core::time::Micros;
use dagmar::core::value::Value;
use dagmar::record::layout::RunDirectory;
use dagmar::runtime::envelope::Envelope;
use dagmar::runtime::worker_loop::{self, End, Setup, WorkerError};
use dagmar::transport::endpoint::Endpoint;
use dagmar::transport::inproc::{self, InProcess};
use dagmar::worker::function::Functions;
use dagmar::worker::output::Output;
use dagmar::worker::share::Share;
use dagmar::worker::spawner::Spawner;

const PATIENCE: Micros = Micros::from_secs(60);
const LIFE: Incarnation = Incarnation(1);

/// Two workers, and what this test is for them: rank 0, and the worker of rank 3.
struct World {
    scheduler: InProcess,
    peer: InProcess,
    workers: Vec<JoinHandle<Result<End, WorkerError>>>,
    _directory: tempfile::TempDir,
}

impl World {
    fn new(graph: &Arc<Graph>, slots: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let run = RunDirectory::create(directory.path(), "test").expect("a run can be made");
        let mut ranks: Vec<InProcess> = inproc::world(4);
        let (peer, scheduler) = (ranks.pop(), ranks.remove(0));
        let workers = ranks.into_iter().map(|endpoint| {
            let setup = Setup {
                graph: graph.clone(),
                directory: run.clone(),
                incarnation: LIFE,
                host: "here".to_owned(),
                capacity: Resources::cores(slots),
                share: Share::default(),
                functions: Arc::new(Functions::builtin()),
                spawner: Spawner::start_with(env!("CARGO_BIN_EXE_dagmar").as_ref())
                    .expect("it starts")
                    .into(),
                is_echoed: false,
            };
            std::thread::spawn(move || worker_loop::work(endpoint, setup).1)
        });
        let workers = workers.collect();
        World { scheduler, peer: peer.expect("there are four ranks"), workers, _directory: directory }
    }

    fn order(&mut self, worker: u32, orders: Vec<Order>) {
        let message = Envelope::ToWorker(ToWorker { incarnation: LIFE, orders });
        message.send(Rank(worker), &mut self.scheduler).expect("the worker is there");
    }

    /// Takes reports in until `is_enough` of one says so.
    fn await_reports(&mut self, mut is_enough: impl FnMut(&Report) -> bool) {
        loop {
            if let Envelope::FromWorker(message) = next(&mut self.scheduler)
                && message.reports.iter().filter(|report| is_enough(report)).count() > 0
            {
                return;
            }
        }
    }

    fn await_finished(&mut self, count: u32) {
        let mut finished = 0;
        self.await_reports(|report| {
            if let Report::Finished(batch) = report {
                finished += batch.len();
            }
            finished >= count
        });
        assert_eq!(finished, count);
    }

    /// The output of a task, asked for as another worker does.
    fn fetch(&mut self, owner: u32, task: u32) -> Value {
        let word = PeerWord::Want(TaskId(task), Attempt::FIRST);
        let want = Envelope::Peer(PeerMessage { from: LIFE, to: LIFE, word });
        want.send(Rank(owner), &mut self.peer).expect("the worker is there");
        let began = clock::now();
        loop {
            assert!(clock::now().since(began) < PATIENCE, "no answer");
            if let Some((_, parcel)) = self.peer.receive().expect("nothing fails") {
                match Envelope::output_in(&parcel.body).expect("it is an output") {
                    Output::Value(value) => return value,
                    other => panic!("{other:?}"),
                }
            }
            self.peer.wait(Duration::from_millis(10));
        }
    }

    fn leave(mut self) {
        for worker in [1, 2] {
            self.order(worker, vec![Order::Leave]);
        }
        let mut left = 0;
        self.await_reports(|report| {
            left += u32::from(matches!(report, Report::Left(_)));
            left == 2
        });
        for worker in [1, 2] {
            Envelope::Goodbye(0).send(Rank(worker), &mut self.scheduler).expect("the worker is there");
        }
        for worker in self.workers {
            assert_eq!(worker.join().expect("no worker panics").expect("no worker fails"), End::Goodbye(0));
        }
    }
}

fn next(endpoint: &mut InProcess) -> Envelope {
    let began = clock::now();
    while clock::now().since(began) < PATIENCE {
        if let Some((_, parcel)) = endpoint.receive().expect("nothing fails") {
            return Envelope::read(&parcel).expect("workers send what can be read");
        }
        endpoint.wait(Duration::from_millis(10));
    }
    panic!("nothing came");
}

/// Every task adds one to what the task before it gave, or, if it is alone, is the number one.
fn graph(tasks: u32, is_chain: bool) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("test", "/");
    let axis = Axis::Range { first: 0, step: 1, count: tasks, width: 0 };
    let first = builder.declare(Group::array("t", vec![axis])).expect("the name is free");
    let options = builder.options(TaskOptions::default());
    let mut add = |arguments| {
        let body = Body::Call(Call { function: "add".to_owned(), arguments });
        builder.operation(Operation { body, outputs: vec![], inputs: vec![] })
    };
    let one = add(vec![Argument::Value(Value::Int(1))]);
    let one_more = add(vec![Argument::Input(0), Argument::Value(Value::Int(1))]);
    for task in 0..tasks {
        let (operation, values) = match task {
            before if is_chain && before > 0 => (one_more, vec![TaskId(first.0 + before - 1)]),
            _ => (one, vec![]),
        };
        let definition = Definition { operation, options, values, ..Definition::default() };
        builder.define(definition).expect("each task is defined once");
    }
    Arc::new(builder.build().expect("a chain has no cycle"))
}

fn assignment(first: u32, count: u32, inputs: Vec<InputLocation>) -> Order {
    let tasks = Span { first: TaskId(first), count };
    // One consumer more than there is: nothing is dropped before it was looked at.
    let (attempt, consumers) = (Attempt::FIRST, 2);
    Order::Assign(Assignment { tasks, attempt, consumers, inputs, ..Assignment::default() })
}

fn owned_by(task: u32, owner: u32) -> InputLocation {
    let (task, attempt, owner) = (TaskId(task), Attempt::FIRST, Rank(owner));
    InputLocation { task, attempt, owner, incarnation: LIFE, is_ahead: true }
}

#[test]
fn a_chain_across_two_workers_needs_no_word_of_rank_0() {
    const LINKS: u32 = 2_000;
    for slots in [1, 2, 3] {
        let mut world = World::new(&graph(LINKS, true), slots);
        for worker in [1, 2] {
            let links = (0..LINKS).filter(|link| link % 2 + 1 == worker);
            let inputs = |link: u32| link.checked_sub(1).map(|before| owned_by(before, 3 - worker));
            let orders = links.map(|link| assignment(link, 1, inputs(link).into_iter().collect()));
            let orders = orders.collect();
            world.order(worker, orders);
        }
        world.await_finished(LINKS);
        assert_eq!(world.fetch(2, LINKS - 1), Value::Int(i64::from(LINKS)));
        world.leave();
    }
}

#[test]
fn a_span_that_depends_on_itself_runs_in_its_order() {
    const LINKS: u32 = 20_000;
    let mut world = World::new(&graph(LINKS, true), 2);
    world.order(1, vec![assignment(0, LINKS, vec![])]);
    world.await_finished(LINKS);
    assert_eq!(world.fetch(1, LINKS - 1), Value::Int(i64::from(LINKS)));
    world.leave();
}

#[test]
fn what_is_retracted_while_slots_run_is_returned_or_finished() {
    const TASKS: u32 = 200_000;
    let mut world = World::new(&graph(TASKS, false), 2);
    world.order(1, vec![assignment(0, TASKS, vec![])]);
    for first in (0..TASKS).step_by(20_000).rev() {
        let tasks = Span { first: TaskId(first + 10_000), count: 10_000 };
        world.order(1, vec![Order::Retract(tasks, Attempt::FIRST)]);
    }
    let (mut finished, mut returned) = (0, 0);
    world.await_reports(|report| {
        match report {
            Report::Finished(batch) => finished += batch.len(),
            Report::Returned(tasks, _) => returned += tasks.count,
            _ => {}
        }
        finished + returned == TASKS
    });
    assert!(finished >= TASKS / 2, "{finished} finished, {returned} were returned");
    println!("{finished} finished, {returned} were returned");
    world.leave();
}
