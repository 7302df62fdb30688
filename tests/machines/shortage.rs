//! Tasks that ran out of memory, and may have more.

use std::sync::Arc;

use dagmar::core::event::{Cause, Event, Failure, Outcome, Shortage};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, Rank, TaskId};
use dagmar::core::key::Group;
use dagmar::core::message::{Order, Report};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Input, Past, Scheduler, TaskState};
use dagmar::core::task::{Body, Call, Operation, TaskOptions};
use dagmar::core::time::Timestamp;

use super::{LIFE, Run, scheduler_of};

/// `a`, which asks for 2 and may have so much, and `b` after it.
fn graph(memory_max_bytes: u64) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("test", "/");
    for name in ["a", "b"] {
        builder.declare(Group::single(name)).expect("names differ");
    }
    let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    let resources = Resources { memory_bytes: 2, ..Resources::cores(1) };
    let options = builder.options(TaskOptions { resources, memory_max_bytes, ..TaskOptions::default() });
    for orders in [vec![], vec![TaskId(0)]] {
        builder.define(Definition { operation, options, values: vec![], orders }).expect("few inputs");
    }
    Arc::new(builder.build().expect("no cycle"))
}

/// Workers with so much memory each.
fn run(memory_max: u64, workers: &[u64]) -> Run {
    let mut run = Run::of(graph(memory_max), 0);
    run.machine = scheduler_of(&run.graph, workers.len() as u32);
    joins(&mut run, workers);
    run
}

fn joins(run: &mut Run, workers: &[u64]) {
    for (rank, &memory_bytes) in (1..).zip(workers) {
        let capacity = Resources { memory_bytes, ..Resources::cores(1) };
        run.says(rank, LIFE, Report::Joined { host: format!("n{rank}"), capacity });
    }
}

fn runs_out(run: &mut Run, worker: u32, task: u32, attempt: u32) -> Vec<Event> {
    let cause = Cause::OutOfMemory(Shortage::default());
    let failure = Failure { started: Timestamp(0), ran: Default::default(), cause };
    run.says(worker, LIFE, Report::Failed(TaskId(task), Attempt(attempt), failure));
    std::mem::take(&mut run.events)
}

fn memory_set(events: &[Event]) -> Vec<u64> {
    let set = events.iter().filter_map(|event| match event {
        Event::MemorySet { memory_bytes, .. } => Some(*memory_bytes),
        _ => None,
    });
    set.collect()
}

#[test]
fn memory_is_doubled_up_to_the_most_and_the_worker_is_told() {
    let mut run = run(7, &[16]);
    let mut set = Vec::new();
    for attempt in 1..=3 {
        let events = runs_out(&mut run, 1, 0, attempt);
        set.extend(memory_set(&events));
        let told = run.orders.iter().find_map(|(_, order)| match order {
            Order::Assign(it) => Some(it.special.as_ref()?.row.as_ref()?.options.resources.memory_bytes),
            _ => None,
        });
        assert_eq!(told, (attempt < 3).then(|| set[set.len() - 1]));
    }
    assert_eq!(set, [4, 7]);
    assert_eq!(run.state("a"), TaskState::Failed);
    let outcome = Outcome::TasksFailed { failed: 1, aborted: 1, out_of_memory: true };
    run.says(1, LIFE, Report::Left(Default::default()));
    assert_eq!(run.outcome, Some(outcome));
}

#[test]
fn it_goes_where_there_is_as_much() {
    let mut run = run(16, &[2, 3]);
    let first = run.assigned()[0].0;
    let events = runs_out(&mut run, first, 0, 1);
    assert_eq!(memory_set(&events), [3]);
    assert_eq!(run.assigned(), [(2, "a".into(), 2)]);
    let events = runs_out(&mut run, 2, 0, 2);
    let Event::AttemptFailed { failure, retried: false, .. } = &events[0] else { panic!("{events:?}") };
    assert!(failure.cause.to_string().ends_with("; no worker has more for it"), "{}", failure.cause);
}

#[test]
fn the_next_life_knows_what_it_needs_and_takes_what_there_is() {
    let mut before = run(16, &[16]);
    let mut events = std::mem::take(&mut before.events);
    events.extend(runs_out(&mut before, 1, 0, 1));
    events.extend(runs_out(&mut before, 1, 0, 2));
    for (workers, expected) in [([16], vec![]), ([5], vec![5])] {
        let mut again = Run::of(graph(16), 0);
        let mut past = Past::new(again.graph.clone());
        events.iter().for_each(|event| past.on_event(event).expect("they belong to the graph"));
        let options = dagmar::core::scheduler::Options {
            workers: 1,
            workers_come_back: true,
            persist: Default::default(),
            precedence: Default::default(),
        };
        again.machine = Scheduler::resume(&past, &[TaskId(1)], options).expect("they belong to the graph").0;
        joins(&mut again, &workers);
        assert_eq!(memory_set(&again.events), expected);
        let memory = again.machine.graph().options(TaskId(0)).resources.memory_bytes;
        assert_eq!(memory, expected.first().copied().unwrap_or(8));
        assert_eq!(again.assigned().len(), 1);
        // What it waits for, and who waits for it, is as it was.
        assert_eq!(again.machine.graph().order_inputs(TaskId(1)).iter().collect::<Vec<_>>(), [TaskId(0)]);
        again.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
        assert_eq!(again.state("a"), TaskState::Waiting);
    }
}
