//! Programs that only follow others, by `after`: they are given early to the worker of what they follow.

use std::sync::Arc;

use dagmar::core::event::{Cause, Failure, Success};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, Rank, TaskId};
use dagmar::core::key::Group;
use dagmar::core::message::{Assignment, FromWorker, Order, Report, Special, ToWorker};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::TaskState;
use dagmar::core::span::Span;
use dagmar::core::task::{Body, Command, CommandLine, Operation, Stdin, Stream, TaskOptions, Text};
use dagmar::core::time::Micros;
use dagmar::core::worker::{self, Worker};

use super::{LIFE, NOW, Run};

const FIRST: Attempt = Attempt(1);
const SHORT: Micros = Micros(500);
const LONG: Micros = Micros::from_millis(50);

/// Programs that are expected to take so long; each follows those of these numbers.
fn programs(all: &[(Micros, &[u32])]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("following", "/");
    for number in 0..all.len() {
        builder.declare(Group::single(format!("t{number}"))).expect("small and well-formed");
    }
    let command = Command {
        line: CommandLine::Arguments(vec![Text::from("true")]),
        environment: vec![],
        directory: Text::from("/"),
        stdin: Stdin::Null,
        stdout: Stream::Capture,
        stderr: Stream::Capture,
        capture_limit_bytes: 0,
    };
    let body = Body::Command(Box::new(command));
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    for (expected, follows) in all {
        let options = builder.options(TaskOptions { expected: Some(*expected), ..TaskOptions::default() });
        let orders = follows.iter().copied().map(TaskId).collect();
        builder
            .define(Definition { operation, options, values: vec![], orders })
            .expect("small and well-formed");
    }
    Arc::new(builder.build().expect("small and well-formed"))
}

/// The tasks that were assigned last: worker, task, and what it must wait for there.
fn bonds(run: &Run) -> Vec<(u32, u32, Option<u32>)> {
    let bonds = |(worker, order): &(Rank, Order)| match order {
        Order::Assign(it) => {
            let follows = it.follows().map(|(task, attempt)| (task.0, attempt));
            assert!(follows.is_none_or(|(_, attempt)| attempt == FIRST));
            it.tasks.tasks().map(|task| (worker.0, task.0, follows.map(|(task, _)| task))).collect()
        }
        _ => vec![],
    };
    run.orders.iter().flat_map(bonds).collect()
}

#[test]
fn a_short_program_goes_early_where_what_it_follows_is() {
    let run = Run::of(programs(&[(SHORT, &[]), (SHORT, &[]), (SHORT, &[0]), (SHORT, &[2])]), 2);
    let mut bonds = bonds(&run);
    bonds.sort_unstable();
    assert_eq!(bonds, [(1, 0, None), (1, 2, Some(0)), (1, 3, Some(2)), (2, 1, None)]);
}

#[test]
fn a_long_program_waits_until_it_may_go_anywhere() {
    let mut run = Run::of(programs(&[(SHORT, &[]), (LONG, &[0])]), 2);
    assert_eq!(bonds(&run), [(1, 0, None)]);
    run.finishes(1, "t0", 1);
    assert_eq!(bonds(&run), [(1, 1, None)]);
}

#[test]
fn a_worker_whose_program_is_followed_is_not_idle_when_that_has_ended() {
    let mut run = Run::of(programs(&[(SHORT, &[]), (SHORT, &[0]), (LONG, &[0])]), 2);
    assert_eq!(bonds(&run), [(1, 0, None), (1, 1, Some(0))]);
    run.finishes(1, "t0", 1);
    assert_eq!(bonds(&run), [(2, 2, None)]);
}

#[test]
fn a_program_that_follows_two_waits_for_both() {
    let mut run = Run::of(programs(&[(SHORT, &[]), (SHORT, &[]), (SHORT, &[0, 1])]), 1);
    assert_eq!(bonds(&run), [(1, 0, None), (1, 1, None)]);
    run.finishes(1, "t0", 1);
    assert_eq!(bonds(&run), []);
    run.finishes(1, "t1", 1);
    assert_eq!(bonds(&run), [(1, 2, None)]);
}

#[test]
fn what_follows_a_failed_program_comes_back_and_is_aborted() {
    let mut run = Run::of(programs(&[(SHORT, &[]), (SHORT, &[0])]), 1);
    run.fails(1, "t0", 1);
    run.says(1, LIFE, Report::Returned(Span::one(TaskId(1)), FIRST));
    assert_eq!((run.state("t0"), run.state("t1")), (TaskState::Failed, TaskState::Aborted));
}

// ---------------------------------------------------------------- at the worker

fn assignment(task: u32, follows: Option<u32>) -> Assignment {
    let follows = follows.map(|task| (TaskId(task), FIRST));
    let special = follows.is_some().then(|| Box::new(Special { follows, ..Special::default() }));
    Assignment { tasks: Span::one(TaskId(task)), attempt: FIRST, special, ..Assignment::default() }
}

struct Hand(Worker);

impl Hand {
    fn takes(&mut self, input: worker::Input) -> Vec<worker::Action> {
        let mut actions = Vec::new();
        self.0.handle(NOW, input, &mut actions);
        self.0.handle(NOW, worker::Input::Turn, &mut actions);
        self.0.check();
        actions
    }

    fn given(&mut self, assignments: &[Assignment]) -> Vec<worker::Action> {
        let orders = assignments.iter().cloned().map(Order::Assign).collect();
        self.takes(worker::Input::FromScheduler(ToWorker { incarnation: LIFE, orders }))
    }

    /// A worker of two cores that has one program at work, and one that follows it.
    fn with_follower() -> Self {
        let graph = programs(&[(SHORT, &[]), (SHORT, &[0]), (SHORT, &[1])]);
        let mut hand = Hand(Worker::new(graph, Rank(1), LIFE, "n1".into(), Resources::cores(2)));
        hand.takes(worker::Input::Turn);
        let actions = hand.given(&[assignment(0, None), assignment(1, Some(0))]);
        assert_eq!(actions, [worker::Action::Start(assignment(0, None))]);
        hand
    }
}

fn finished(task: u32) -> worker::Input {
    worker::Input::Finished(dagmar::core::batch::Batch::one(TaskId(task), FIRST, Success::default()))
}

fn reports(actions: &[worker::Action]) -> Vec<Report> {
    let reports = |action: &worker::Action| match action {
        worker::Action::ToScheduler(FromWorker { reports, .. }) => reports.clone(),
        _ => vec![],
    };
    actions.iter().flat_map(reports).collect()
}

#[test]
fn a_follower_starts_when_its_worker_hears_of_the_end_though_a_core_was_free() {
    let mut hand = Hand::with_follower();
    let actions = hand.takes(finished(0));
    assert_eq!(actions[0], worker::Action::Start(assignment(1, Some(0))));
}

#[test]
fn a_follower_of_what_failed_goes_back() {
    let mut hand = Hand::with_follower();
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause: Cause::ExitCode(1) };
    let failed = worker::Input::Failed { task: TaskId(0), attempt: FIRST, failure: failure.clone() };
    let told = reports(&hand.takes(failed));
    let back = Report::Returned(Span::one(TaskId(1)), FIRST);
    assert_eq!(told, [Report::Failed(TaskId(0), FIRST, failure), back]);
}

#[test]
fn a_follower_of_what_has_ended_already_goes_back_behind_the_end() {
    let mut hand = Hand::with_follower();
    hand.0.handle(NOW, finished(0), &mut Vec::new());
    let told = reports(&hand.given(&[assignment(2, Some(0))]));
    assert!(matches!(&told[..], [Report::Finished(_), Report::Returned(..)]), "{told:?}");
}
