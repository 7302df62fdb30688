//! A client that submits tasks while the run goes on, and holds outputs.

use dagmar::core::addition::{Addition, AdditionError};
use dagmar::core::client::{CLIENT, FromClient, Submission, ToClient, graph_of_client};
use dagmar::core::event::{Cause, Event, Outcome, Totals};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{Order, Report};
use dagmar::core::scheduler::{Input, Scheduler, TaskState};

use super::growing::addition;
use super::{LIFE, Run, lost, options_for};

/// A run that a client has begun, with so many workers of one core.
fn run(workers: u32) -> Run {
    run_of(workers, true)
}

fn run_of(workers: u32, workers_come_back: bool) -> Run {
    let graph = std::sync::Arc::new(graph_of_client("test", "/"));
    let options = super::Options { workers_come_back, ..options_for(workers) };
    let machine = Scheduler::new(graph.clone(), &[CLIENT], options).with_client(CLIENT);
    let mut run = Run::with(graph, machine);
    (1..=workers).for_each(|worker| run.joins(worker, LIFE));
    run
}

impl Run {
    /// The client submits tasks; those that are held by place.
    fn submits(&mut self, text: &str, held: &[u32]) {
        let whole = addition(self, &format!("{text} end"));
        let addition = Addition { becomes: None, ..whole };
        self.client_says(FromClient::Submit(Box::new(Submission { addition, held: held.to_vec() })));
    }

    fn client_says(&mut self, word: FromClient) {
        self.takes(Input::FromClient(word));
    }

    fn releases(&mut self, tasks: &[u32]) {
        self.client_says(FromClient::Release(tasks.iter().copied().map(TaskId).collect()));
    }
}

#[test]
fn a_run_is_not_over_before_its_client_is_gone() {
    let mut run = run(1);
    assert!(!run.machine.may_hang(), "nothing is to be done");
    run.submits("a b:a", &[1]);
    assert!(matches!(&run.events[0], Event::TasksSubmitted { client: CLIENT, .. }), "{:?}", run.events);
    assert_eq!(run.assigned(), [(1, "a[0]".into(), 1)]);
    run.finishes(1, "a[0]", 1);
    assert_eq!((run.assigned(), &run.told[..]), (vec![(1, "b[1]".into(), 1)], &[][..]));
    run.finishes(1, "b[1]", 1);
    assert_eq!((&run.told[..], run.orders.len()), (&[ToClient::Finished(TaskId(2))][..], 0));
    run.submits("c:@b[1]", &[0]);
    assert_eq!(run.assigned(), [(1, "c[2]".into(), 1)], "tasks are numbered on");
    run.finishes(1, "c[2]", 1);
    run.client_says(FromClient::Close);
    let release = |task| (Rank(1), Order::Release(TaskId(task), Attempt(1)));
    assert_eq!(run.orders, [release(2), release(3), (Rank(1), Order::Leave)]);
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!((run.outcome, run.machine.task_count()), (Some(Outcome::Done), 3));
}

#[test]
fn what_the_client_holds_stays_and_is_sent_to_it() {
    let mut run = run(1);
    run.submits("a b", &[0, 1]);
    run.client_says(FromClient::Fetch(TaskId(1)));
    assert_eq!(run.fetched, []);
    run.finishes(1, "a[0]", 1);
    assert_eq!((run.fetched.clone(), run.told.len()), (vec![(1, TaskId(1), 1)], 1), "as soon as it is there");
    run.client_says(FromClient::Fetched(TaskId(1)));
    run.finishes(1, "b[1]", 1);
    assert_eq!((run.fetched.len(), run.orders.len()), (0, 0), "nobody waits for it");
    run.client_says(FromClient::Fetch(TaskId(2)));
    assert_eq!(run.fetched, [(1, TaskId(2), 1)]);
    run.releases(&[2]);
    assert_eq!(run.orders, [(Rank(1), Order::Release(TaskId(2), Attempt(1)))]);
    run.client_says(FromClient::Fetch(TaskId(2)));
    assert_eq!(run.fetched, [], "it holds it no longer");
}

#[test]
fn a_lost_output_that_the_client_holds_is_made_again_and_sent_once_it_is_there() {
    let mut run = run(2);
    run.submits("a b:a", &[1]);
    run.finishes(1, "a[0]", 1);
    run.finishes(1, "b[1]", 1);
    run.client_says(FromClient::Fetch(TaskId(2)));
    assert_eq!(run.fetched, [(1, TaskId(2), 1)]);
    run.takes(lost(1));
    assert_eq!(run.assigned(), [(2, "a[0]".into(), 2)], "its input was released before");
    run.finishes(2, "a[0]", 2);
    run.finishes(2, "b[1]", 2);
    assert_eq!(run.fetched, [(2, TaskId(2), 2)]);
    run.client_says(FromClient::NotThere(TaskId(2), Attempt(1), Rank(1)));
    assert_eq!(run.fetched, [(2, TaskId(2), 2)], "that was old news, and it is sent to the right one");
    run.client_says(FromClient::NotThere(TaskId(2), Attempt(2), Rank(2)));
    assert_eq!(run.assigned(), [(2, "a[0]".into(), 3)]);
}

#[test]
fn what_nobody_needs_any_more_is_not_done() {
    let mut run = run(1);
    run.submits("a b:a c:b d:c e:c", &[2, 3, 4]);
    assert_eq!(run.assigned(), [(1, "a[0]".into(), 1)]);
    run.releases(&[4, 5]);
    let cancelled = |task| Event::TaskCancelled { task: TaskId(task) };
    assert_eq!(run.events, [cancelled(4), cancelled(5)]);
    run.releases(&[3, 3, 77]);
    assert_eq!(run.events, [cancelled(3), cancelled(2)], "and what only that would have taken");
    run.finishes(1, "a[0]", 1);
    assert_eq!(run.assigned(), []);
    run.client_says(FromClient::Close);
    assert_eq!(run.orders.last(), Some(&(Rank(1), Order::Leave)));
}

#[test]
fn what_a_client_left_behind_and_fails_is_held_by_nobody() {
    let mut run = run(2);
    run.submits("a b:a c:b", &[0, 1, 2]);
    run.finishes(1, "a[0]", 1);
    run.client_says(FromClient::Leave);
    run.fails(1, "b[1]", 1);
    assert_eq!(["b[1]", "c[2]"].map(|key| run.state(key)), [TaskState::Failed, TaskState::Aborted]);
}

/// Otherwise it could not be made again when that output is lost as well.
#[test]
fn what_is_made_again_is_done_although_only_finished_tasks_took_it() {
    let mut run = run(1);
    run.submits("a b:a", &[0, 1]);
    run.finishes(1, "a[0]", 1);
    run.finishes(1, "b[1]", 1);
    run.submits("x y z", &[0, 1, 2]);
    run.client_says(FromClient::Fetch(TaskId(1)));
    run.client_says(FromClient::NotThere(TaskId(1), Attempt(1), Rank(1)));
    assert_eq!(run.state("a[0]"), TaskState::Waiting, "others are before it");
    run.releases(&[1]);
    assert_eq!((&run.events[..], run.state("a[0]")), (&[][..], TaskState::Waiting));
    run.client_says(FromClient::Fetch(TaskId(2)));
    run.client_says(FromClient::NotThere(TaskId(2), Attempt(1), Rank(1)));
    assert_eq!((run.state("a[0]"), run.state("b[1]")), (TaskState::Waiting, TaskState::Waiting));
}

#[test]
fn an_output_that_was_let_go_is_made_again_for_whoever_takes_it() {
    let mut run = run(1);
    run.submits("a b:a", &[0, 1]);
    run.finishes(1, "a[0]", 1);
    run.finishes(1, "b[1]", 1);
    run.releases(&[1, 2]);
    run.submits("c:@b[1]", &[0]);
    assert_eq!(run.assigned(), [(1, "a[0]".into(), 2)]);
    for (key, attempt) in [("a[0]", 2), ("b[1]", 2), ("c[2]", 1)] {
        run.finishes(1, key, attempt);
    }
    assert_eq!(run.told, [ToClient::Finished(TaskId(3))]);
}

#[test]
fn the_client_hears_what_failed_and_what_therefore_does_not_run() {
    let mut run = run(1);
    run.submits("a b:a c:b d", &[2, 3]);
    run.fails(1, "a[0]", 1);
    let failed = ToClient::Failed(TaskId(1), Cause::ExitCode(1));
    assert_eq!(run.told, [failed, ToClient::Aborted(TaskId(3), TaskId(1))]);
    run.submits("e:@c[2]", &[0]);
    assert_eq!(run.told, [ToClient::Aborted(TaskId(5), TaskId(1))], "also what it submits later");
    run.client_says(FromClient::Fetch(TaskId(3)));
    assert_eq!((run.told.len(), run.fetched.len()), (0, 0));
    run.releases(&[3, 5]);
    run.finishes(1, "d[3]", 1);
    assert_eq!(run.told, [ToClient::Finished(TaskId(4))]);
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut run = run(1);
    run.submits("a+2", &[0]);
    let refused = |error| vec![ToClient::Refused(error)];
    assert_eq!(run.told, refused(AdditionError::TooLarge("a".into())));
    let mut ring = addition(&run, "a b:a end");
    ring.becomes = None;
    ring.tasks.swap(0, 1);
    run.client_says(FromClient::Submit(Box::new(Submission { addition: ring, held: vec![] })));
    assert!(matches!(run.told[..], [ToClient::Refused(AdditionError::Inconsistent(_))]), "{:?}", run.told);
    assert_eq!((run.machine.task_count(), run.machine.next_task()), (0, TaskId(1)));
    run.client_says(FromClient::Close);
    run.submits("a", &[0]);
    assert_eq!(run.told, [], "nobody is there who could be told");
}

#[test]
fn a_client_without_anything_to_do_does_not_need_workers() {
    let mut run = run_of(1, false);
    run.takes(lost(1));
    assert_eq!(run.outcome, None);
    run.submits("a", &[0]);
    assert_eq!(run.told, [ToClient::Refused(AdditionError::TooLarge("a".into()))], "no worker is left");
    run.client_says(FromClient::Close);
    assert_eq!(run.outcome, Some(Outcome::Done));
}

#[test]
fn a_stop_ends_what_the_client_has_submitted() {
    let mut run = run(1);
    run.submits("a b:a", &[1]);
    run.takes(Input::Stop(dagmar::core::event::StopReason::Cancelled));
    assert_eq!(run.told, [ToClient::Cancelled(TaskId(2))]);
    run.submits("c", &[0]);
    assert_eq!(run.told, [ToClient::Refused(AdditionError::TooLate)]);
    assert_eq!(run.machine.state(CLIENT), TaskState::Cancelled);
    assert_ne!(LIFE, Incarnation(7));
}

#[test]
fn what_runs_ends_with_the_client_that_the_run_was_for() {
    let mut run = run(1);
    run.submits("a b", &[0, 1]);
    run.finishes(1, "b[1]", 1);
    run.client_says(FromClient::Vanish);
    assert!(run.orders.contains(&(Rank(1), Order::Stop)), "{:?}", run.orders);
    let reason = dagmar::core::event::StopReason::Cancelled;
    assert!(run.events.contains(&Event::RunStopping { reason }), "{:?}", run.events);
}

#[test]
fn a_run_of_which_all_is_done_when_its_client_goes_is_done() {
    let mut run = run(1);
    run.submits("a", &[0]);
    run.finishes(1, "a[0]", 1);
    run.client_says(FromClient::Vanish);
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!(run.outcome, Some(Outcome::Done));
}

#[test]
fn what_an_earlier_client_submitted_is_done_and_then_nobodys() {
    let mut run = run(1);
    run.submits("a b c", &[0, 1, 2]);
    run.finishes(1, "a[0]", 1);
    run.client_says(FromClient::Fetch(TaskId(2)));
    run.client_says(FromClient::Hold(vec![TaskId(3)]));
    assert_eq!(run.orders, [(Rank(1), Order::Release(TaskId(1), Attempt(1)))], "nobody knows of it any more");
    run.client_says(FromClient::Ask(TaskId(3)));
    run.finishes(1, "b[1]", 1);
    assert_eq!((run.fetched.len(), run.told.len()), (0, 0), "it was the other one that waited for it");
    assert_eq!(run.orders, [(Rank(1), Order::Release(TaskId(2), Attempt(1)))]);
    run.finishes(1, "c[2]", 1);
    assert_eq!(run.told, [ToClient::Finished(TaskId(3))]);
    run.client_says(FromClient::Hold(vec![TaskId(3)]));
    run.client_says(FromClient::Ask(TaskId(3)));
    assert_eq!(
        (&run.told[..], run.orders.len()),
        (&[ToClient::Finished(TaskId(3))][..], 0),
        "as is the next"
    );
}

#[test]
fn what_was_submitted_is_done_once_nobody_is_there() {
    let mut run = run(1);
    run.submits("a b:a", &[1]);
    run.client_says(FromClient::Leave);
    run.finishes(1, "a[0]", 1);
    assert_eq!(run.assigned().last(), Some(&(1, "b[1]".into(), 1)));
    run.finishes(1, "b[1]", 1);
    assert_eq!(run.orders.last(), Some(&(Rank(1), Order::Leave)));
}
