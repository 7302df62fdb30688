//! What is durable outlives workers, and the run itself.

use dagmar::core::event::Event;
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{InputLocation, Order, Report};
use dagmar::core::scheduler::{Input, Left, Options, Past, Persist, Precedence, Scheduler, TaskState};
use dagmar::core::span::Span;
use dagmar::core::time::Timestamp;

use super::{LIFE, Run, graph};

const PERSIST_ALL: Options = Options {
    workers: 1,
    workers_come_back: true,
    persist: Persist::All,
    precedence: Precedence::LongestPath,
};

fn is_durable(task: u32) -> Report {
    Report::Durable(vec![Span::one(TaskId(task))], Attempt(1))
}

/// Where the latest assignment says that its input is.
fn input(run: &Run) -> InputLocation {
    let assigned = run.orders.iter().find_map(|(_, order)| match order {
        Order::Assign(assignment) => Some(assignment.inputs[0]),
        _ => None,
    });
    assigned.expect("something was assigned with an input")
}

/// All that a run of `text` has recorded, and then its scheduler once more, as if everything had ended there.
fn again(run: &Run, events: &[Event]) -> (Scheduler, Left) {
    let mut past = Past::new(run.graph.clone());
    events.iter().for_each(|event| past.on_event(event).expect("they belong to the graph"));
    let asked: Vec<TaskId> = run.graph.sinks().collect();
    let (machine, _, left) = Scheduler::resume(&past, &asked, PERSIST_ALL).expect("they belong to the graph");
    machine.check();
    (machine, left)
}

#[test]
fn what_is_to_be_persisted_is_said_with_the_assignment() {
    let mut run = Run::new("a b:a", 0, 0);
    let asked: Vec<TaskId> = run.graph.sinks().collect();
    run.machine = Scheduler::new(run.graph.clone(), &asked, PERSIST_ALL);
    run.joins(1, LIFE);
    assert!(matches!(&run.orders[..], [(_, Order::Assign(it))] if it.persist), "{:?}", run.orders);
}

#[test]
fn a_durable_output_of_a_lost_worker_is_taken_from_the_run_directory() {
    let mut run = Run::new("a b:a c:b", 0, 2);
    run.finishes(1, "a", 1);
    run.says(1, LIFE, is_durable(0));
    let tasks = vec![Span::one(TaskId(0))];
    assert_eq!(run.events, [Event::TasksDurable { worker: Rank(1), attempt: Attempt(1), tasks }]);
    run.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
    assert_eq!((run.assigned(), run.state("a")), (vec![(2, "b".into(), 2)], TaskState::Finished));
    let (task, attempt, owner) = (TaskId(0), Attempt(1), Rank::SCHEDULER);
    let incarnation = Incarnation::default();
    assert_eq!(input(&run), InputLocation { task, attempt, owner, incarnation, is_ahead: false });
}

#[test]
fn an_output_that_cannot_be_read_there_is_made_again() {
    let mut run = Run::new("a b:a", 0, 2);
    run.finishes(1, "a", 1);
    run.says(1, LIFE, is_durable(0));
    run.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
    let input = input(&run);
    run.says(2, LIFE, Report::InputMissing { task: TaskId(1), attempt: Attempt(2), input });
    assert_eq!(run.events, [Event::OutputLost { task: TaskId(0) }]);
    assert_eq!(run.assigned(), [(2, "a".into(), 2)]);
}

#[test]
fn what_an_earlier_try_left_makes_nothing_durable() {
    let mut run = Run::new("a b:a", 0, 2);
    run.finishes(1, "a", 1);
    run.takes(Input::WorkerLost { worker: Rank(1), incarnation: LIFE });
    run.finishes(2, "a", 2);
    run.says(2, LIFE, is_durable(0));
    assert_eq!(run.events, []);
    assert!(!run.machine.is_stored(TaskId(0)));
}

#[test]
fn a_run_goes_on_behind_what_is_durable() {
    let mut run = Run::new("a b:a c:b d:c", 0, 1);
    let mut events = vec![Event::RunStarted { tasks: 4 }];
    for (place, key) in ["a", "b", "c"].into_iter().enumerate() {
        run.finishes(1, key, 1);
        events.append(&mut run.events);
        if key == "b" {
            run.says(1, LIFE, is_durable(place as u32));
            events.append(&mut run.events);
        }
    }
    let (machine, left) = again(&run, &events);
    assert_eq!(left, Left { durable: 1, to_do: 2, repeated: 1 });
    use TaskState::{Finished, Waiting};
    assert_eq!([0, 1, 2, 3].map(|task| machine.state(TaskId(task))), [Finished, Finished, Waiting, Waiting]);
    run.machine = machine;
    run.joins(1, LIFE);
    assert_eq!(run.assigned(), [(1, "c".into(), 2)]);
    assert_eq!(input(&run).owner, Rank::SCHEDULER);
    run.finishes(1, "c", 2);
    assert_eq!(run.assigned(), [(1, "d".into(), 2)]);
}

#[test]
fn what_an_unreadable_output_was_made_of_is_made_again_too() {
    let mut run = Run::new("s a:s b:a", 0, 1);
    let mut events = vec![Event::RunStarted { tasks: 3 }];
    for key in ["s", "a"] {
        run.finishes(1, key, 1);
        events.append(&mut run.events);
    }
    run.says(1, LIFE, is_durable(1));
    events.append(&mut run.events);
    run.machine = again(&run, &events).0;
    run.joins(1, LIFE);
    assert_eq!(run.machine.state(TaskId(2)), TaskState::Assigned);
    let input = input(&run);
    run.says(1, LIFE, Report::InputMissing { task: TaskId(2), attempt: Attempt(2), input });
    run.machine.check();
    assert_eq!((run.state("s"), run.state("b")), (TaskState::Assigned, TaskState::Waiting));
}

#[test]
fn what_failed_is_tried_again_when_the_run_is_resumed() {
    let mut run = Run::new("a b:a", 0, 1);
    run.fails(1, "a", 1);
    let (machine, left) = again(&run, &run.events);
    assert_eq!(left, Left { durable: 0, to_do: 2, repeated: 0 });
    run.machine = machine;
    run.joins(1, LIFE);
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
}

#[test]
fn a_try_that_the_events_lost_keeps_its_number_though_an_earlier_one_is_durable() {
    let mut run = Run::new("a b:a", 0, 1);
    run.finishes(1, "a", 1);
    let mut events = std::mem::take(&mut run.events);
    run.says(1, LIFE, is_durable(0));
    events.append(&mut run.events);
    let mut past = Past::new(run.graph.clone());
    events.iter().for_each(|event| past.on_event(event).expect("they belong to the graph"));
    past.on_trace(TaskId(0), Attempt(5));
    run.machine = Scheduler::resume(&past, &[TaskId(1)], PERSIST_ALL).expect("they belong to the graph").0;
    run.joins(1, LIFE);
    // Its output cannot be read: the next try is none that may have written before.
    let (attempt, input) = (Attempt(run.assigned()[0].2), input(&run));
    run.says(1, LIFE, Report::InputMissing { task: TaskId(1), attempt, input });
    assert_eq!(run.assigned(), [(1, "a".into(), 6)]);
}

#[test]
fn a_run_of_which_all_is_durable_ends_at_once() {
    let mut run = Run::new("a", 0, 1);
    run.finishes(1, "a", 1);
    let mut events = std::mem::take(&mut run.events);
    run.says(1, LIFE, is_durable(0));
    events.append(&mut run.events);
    run.machine = again(&run, &events).0;
    run.joins(1, LIFE);
    assert_eq!(run.orders, [(Rank(1), Order::Leave)]);
}

#[test]
fn events_of_another_graph_are_refused() {
    let small = graph("a", 0);
    let mut past = Past::new(small);
    let tasks = vec![Span { first: TaskId(0), count: u32::MAX }];
    let durable = Event::TasksDurable { worker: Rank(1), attempt: Attempt(1), tasks };
    let refused = past.on_event(&durable).unwrap_err().to_string();
    assert_eq!(refused, "what it tells of task 1 cannot be: the graph has no such task");
}

#[test]
fn numbers_that_no_run_gives_out_are_refused() {
    let refusal = |event: &Event| Past::new(graph("a", 0)).on_event(event).unwrap_err().to_string();
    let (task, worker, started) = (TaskId(0), Rank(1), Timestamp(0));
    let started = Event::TaskStarted { task, attempt: Attempt(u32::MAX), worker, started };
    assert_eq!(refusal(&started), "what it tells of task 0 cannot be: it was tried 4294967295 times");
    let resumed = Event::RunResumed { life: u32::MAX, to_do: vec![] };
    assert_eq!(refusal(&resumed), "what it tells of the run cannot be: it had 4294967295 lives");
    let mut past = Past::new(graph("a", 0));
    past.on_trace(task, Attempt(u32::MAX));
    let (machine, ..) = Scheduler::resume(&past, &[task], PERSIST_ALL).expect("a trace is no event");
    assert_eq!(machine.location(task).1, Attempt(0));
}
