//! What killed its rank is known by the rank's last words.

use dagmar::core::event::{Cause, Death, Event, StopReason};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{InputLocation, Order, Report};
use dagmar::core::scheduler::{Action, Input, Killing, Past, Scheduler, TaskState};
use dagmar::core::span::Span;

use super::{LIFE, NOW, Run};

const SEGV: Death = Death::Signal(11);

fn killing(worker: u32, task: u32, attempt: u32) -> Killing {
    Killing { worker: Rank(worker), task: TaskId(task), attempt: Attempt(attempt), death: SEGV }
}

/// How often each task is told to have killed its rank, and whether it is tried again.
fn told(events: &[Event]) -> Vec<(u32, u32, bool)> {
    let told = events.iter().filter_map(|event| match event {
        Event::AttemptFailed { task, failure, retried, .. } => match failure.cause {
            Cause::KilledRank { times, .. } => Some((task.0, times, *retried)),
            _ => None,
        },
        _ => None,
    });
    told.collect()
}

fn kills(run: &mut Run, worker: u32, task: u32, attempt: u32) -> Vec<Event> {
    let mut actions = Vec::new();
    run.machine.handle(NOW, Input::KilledRank(killing(worker, task, attempt)), &mut actions);
    run.takes(Input::WorkerLost { worker: Rank(worker), incarnation: LIFE });
    let recorded = actions.into_iter().filter_map(|action| match action {
        Action::Record(event) => Some(event),
        _ => None,
    });
    recorded.chain(std::mem::take(&mut run.events)).collect()
}

/// The run once more, as if everything had ended after these events and words.
fn again(run: &Run, events: &[Event], words: &[Killing], limit: u32) -> Scheduler {
    let mut past = Past::new(run.graph.clone());
    events.iter().for_each(|event| past.on_event(event).expect("they belong to the graph"));
    words.iter().for_each(|words| assert!(past.on_last_words(*words)));
    super::scheduler_after(&past, &run.graph, 1).with_crash_limit(limit)
}

#[test]
fn a_task_that_kills_its_rank_too_often_has_failed_and_its_neighbours_go_on() {
    let mut run = Run::new("a b c:a", 0, 3);
    run.machine = super::scheduler_of(&run.graph, 3).with_crash_limit(2);
    (1..=3).for_each(|worker| run.joins(worker, LIFE));
    let events = kills(&mut run, 1, 0, 1);
    assert_eq!(told(&events), [(0, 1, true)]);
    assert_eq!(run.assigned(), [(3, "a".into(), 2)]);
    let events = kills(&mut run, 3, 0, 2);
    assert_eq!(told(&events), [(0, 2, false)]);
    assert_eq!((run.state("a"), run.state("c")), (TaskState::Failed, TaskState::Aborted));
    run.finishes(2, "b", 1);
    assert_eq!(run.orders, [(Rank(2), Order::Leave)]);
}

#[test]
fn a_killing_costs_no_retry() {
    let mut run = Run::new("a", 0, 2);
    kills(&mut run, 1, 0, 1);
    run.fails(2, "a", 2);
    assert_eq!(run.state("a"), TaskState::Failed);
}

#[test]
fn words_of_an_attempt_that_is_over_accuse_nobody() {
    let mut run = Run::new("a b", 0, 2);
    run.finishes(1, "a", 1);
    let events = kills(&mut run, 1, 0, 1);
    assert_eq!((told(&events), run.state("a")), (vec![], TaskState::Finished));
}

#[test]
fn the_next_life_takes_up_words_that_nobody_had_read() {
    let mut run = Run::new("a b:a", 0, 1);
    let events = std::mem::take(&mut run.events);
    run.machine = again(&run, &events, &[killing(1, 0, 1)], 2);
    run.joins(1, LIFE);
    assert_eq!(told(&run.events), [(0, 1, true)]);
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
    let events = [events, std::mem::take(&mut run.events)].concat();
    let words = [killing(1, 0, 1), killing(1, 0, 2)];
    run.machine = again(&run, &events, &words, 2);
    run.joins(1, LIFE);
    // What is recorded is not counted twice.
    assert_eq!(told(&run.events), [(0, 2, false)]);
    assert_eq!((run.assigned(), run.state("b")), (vec![], TaskState::Aborted));
    let events = [events, std::mem::take(&mut run.events)].concat();
    run.machine = again(&run, &events, &words, 2);
    run.joins(1, LIFE);
    assert_eq!((told(&run.events), run.assigned()), (vec![(0, 2, false)], vec![]));
    run.machine = again(&run, &events, &words, 3);
    run.joins(1, LIFE);
    assert_eq!(run.assigned(), [(1, "a".into(), 3)]);
}

#[test]
fn a_task_that_killed_its_rank_too_often_fails_when_what_an_earlier_try_left_is_lost() {
    let mut run = Run::new("s a:s b:a", 0, 1);
    let mut events = std::mem::take(&mut run.events);
    run.finishes(1, "s", 1);
    events.append(&mut run.events);
    run.finishes(1, "a", 1);
    events.append(&mut run.events);
    run.says(1, LIFE, Report::Durable(vec![Span::one(TaskId(1))], Attempt(1)));
    events.append(&mut run.events);
    // Of the second try nothing was recorded; the first is durable, so that nothing is wrong until it cannot be read.
    run.machine = again(&run, &events, &[killing(1, 1, 2)], 1);
    run.joins(1, LIFE);
    assert_eq!((told(&run.events), run.assigned()), (vec![], vec![(1, "b".into(), 1)]));
    let (attempt, incarnation) = (Attempt(1), Incarnation::default());
    let input =
        InputLocation { task: TaskId(1), attempt, owner: Rank::SCHEDULER, incarnation, is_ahead: false };
    run.says(1, LIFE, Report::InputMissing { task: TaskId(2), attempt: Attempt(1), input });
    assert_eq!(told(&run.events), [(1, 1, false)]);
    // What it would take is not made for it.
    assert_eq!(run.assigned(), []);
    assert_eq!((run.state("a"), run.state("b")), (TaskState::Failed, TaskState::Aborted));
    assert_eq!(run.orders, [(Rank(1), Order::Leave)]);
}

#[test]
fn what_was_given_up_in_earlier_lives_is_no_failure_of_this_one() {
    let mut run = Run::new("a b c", 0, 1);
    run.machine = again(&run, &[], &[killing(1, 0, 1)], 1).with_max_fails(Some(0));
    run.joins(1, LIFE);
    assert_eq!((told(&run.events), run.state("a")), (vec![(0, 1, false)], TaskState::Failed));
    assert_eq!(run.assigned(), [(1, "b".into(), 1), (1, "c".into(), 1)]);
    run.fails(1, "b", 1);
    let stopped = Event::RunStopping { reason: StopReason::TooManyFailures };
    assert!(run.events.contains(&stopped), "{:?}", run.events);
}

#[test]
fn words_of_a_task_that_the_events_do_not_tell_of_accuse_nobody() {
    let run = Run::new("a", 0, 1);
    let mut past = Past::new(run.graph.clone());
    assert!(!past.on_last_words(killing(1, 7, 1)));
}

#[test]
fn an_edit_keeps_what_is_held_against_a_task_that_has_not_changed() {
    let mut run = Run::new("a b", 0, 2);
    let events = kills(&mut run, 1, 0, 1);
    let mut past = Past::new(run.graph.clone());
    events.iter().for_each(|event| past.on_event(event).expect("they belong to the graph"));
    // `b` was said to have done so, and no event tells of it; in the new graph it takes another one.
    assert!(past.on_last_words(killing(2, 1, 1)));
    let graph = super::graph("new b:new a", 0);
    let edit = dagmar::core::edit::Comparison::of(past.graph(), &graph).edit;
    past.on_edit(&edit, graph.clone()).expect("it belongs to both");
    let a = super::task(&graph, "a");
    assert!(past.on_last_words(Killing { task: a, ..killing(2, 0, 2) }));
    run.graph = graph;
    run.machine = super::scheduler_after(&past, &run.graph, 1).with_crash_limit(2);
    run.joins(1, LIFE);
    assert_eq!(told(&run.events), [(a.0, 2, false)]);
    assert_eq!((run.state("a"), run.state("b")), (TaskState::Failed, TaskState::Waiting));
}
