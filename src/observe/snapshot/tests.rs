//! Snapshots follow the events.

use std::sync::Arc;

use super::*;
use crate::core::addition::{NewTask, Source, Work};
use crate::core::batch::Batch;
use crate::core::edit::Move;
use crate::core::event::{Failure, Success};
use crate::core::id::{Incarnation, OperationId, OptionsId};
use crate::core::task::{Body, Call, Operation};
use crate::observe::scenario::{Scenario, graph};

#[test]
fn counts_follow_the_events() {
    let graph = graph("a:\nb: a\nc: b\nd:");
    let mut run = Scenario::new(&graph);
    run.joins(1, 2).starts("a");
    assert_eq!(*run.snapshot.counts(), Counts { waiting: 3, running: 1, ..Counts::default() });
    run.finishes("a", 1, 500).fails("b", 1, true).fails("b", 1, false).aborts("c", "b").cancels("d");
    let ended = Counts { finished: 1, failed: 1, aborted: 1, cancelled: 1, ..Counts::default() };
    assert_eq!(*run.snapshot.counts(), ended);
    assert_eq!(run.snapshot.groups()[0], Counts { finished: 1, ..Counts::default() });
    assert_eq!((run.snapshot.retry_count(), run.snapshot.failures().len()), (1, 2));
}

#[test]
fn a_lost_output_makes_its_task_wait_again() {
    let graph = graph("a:");
    let mut run = Scenario::new(&graph);
    run.joins(1, 2).finishes("a", 1, 500).tells(Event::OutputLost { task: TaskId(0) });
    assert_eq!(*run.snapshot.counts(), Counts { waiting: 1, ..Counts::default() });
}

#[test]
fn hidden_joins_are_not_counted() {
    let graph = graph("a:\n~all: a\nb: ~all");
    let mut run = Scenario::new(&graph);
    run.finishes("a", 1, 1).finishes("~all", 0, 0).finishes("b", 1, 1);
    assert_eq!(*run.snapshot.counts(), Counts { finished: 2, ..Counts::default() });
}

#[test]
fn what_is_ended_by_a_stop_has_not_failed() {
    let graph = graph("a:\nb:");
    let mut run = Scenario::new(&graph);
    run.tells(Event::RunStopping { reason: StopReason::Terminated }).fails("a", 1, false);
    let (started, ran) = (Timestamp(0), Micros(1));
    let failure = Failure { started, ran, cause: Cause::Stopped };
    let (task, attempt, worker) = (TaskId(1), Attempt::FIRST, Rank(1));
    run.tells(Event::AttemptFailed { task, attempt, worker, failure, retried: false });
    assert_eq!(*run.snapshot.counts(), Counts { waiting: 2, ..Counts::default() });
    assert_eq!(run.snapshot.failures().len(), 1);
}

#[test]
fn a_worker_that_came_back_offers_only_the_time_it_was_there() {
    let graph = graph("a:");
    let mut run = Scenario::new(&graph);
    run.joins(1, 4).waits(1_000).tells(Event::WorkerLost { worker: Rank(1), incarnation: Incarnation(1) });
    run.waits(5_000).joins(1, 2).waits(1_000).finishes("a", 1, 300);
    assert_eq!(run.snapshot.offered_cpus(), Micros(4 * 1_000 + 2 * 1_000));
    let worker = run.snapshot.workers().next().unwrap();
    assert_eq!((worker.tasks_finished, worker.busy, worker.busy_cpus), (1, Micros(300), Micros(300)));
    assert_eq!(worker.presence, Presence::Here);
}

#[test]
fn a_resumed_run_has_the_workers_it_has_now() {
    let graph = graph("a:\nb:");
    let mut run = Scenario::new(&graph);
    run.joins(1, 4).joins(2, 4).waits(1_000).finishes("a", 2, 300);
    let to_do = vec![Span::one(TaskId(1))];
    run.waits(9_000).tells(Event::RunResumed { life: 2, to_do }).joins(1, 2).waits(1_000);
    run.finishes("b", 1, 500);
    assert_eq!(run.snapshot.workers().map(|worker| worker.tasks_finished).collect::<Vec<_>>(), [1]);
    assert_eq!(run.snapshot.offered_cpus(), Micros(2 * 4 * 1_000 + 2 * 1_000), "nobody was there in between");
    assert_eq!(run.snapshot.busy_cpus(), Micros(300 + 500));
    let report = run.report.report();
    assert_eq!((report.workers, report.cpus, report.tasks.finished), (1, 2, 2));
}

#[test]
fn only_tries_of_its_own_that_failed_are_counted() {
    let graph = graph("a:");
    let mut run = Scenario::new(&graph);
    let fails = |cause, attempt, retried| {
        let failure = Failure { started: Timestamp(0), ran: Micros(1), cause };
        Event::AttemptFailed { task: TaskId(0), attempt: Attempt(attempt), worker: Rank(1), failure, retried }
    };
    run.joins(1, 1).tells(fails(Cause::ExitCode(1), 1, true));
    run.tells(Event::RunResumed { life: 2, to_do: vec![Span::one(TaskId(0))] }).joins(1, 1);
    run.tells(fails(Cause::LostRank(Rank(1)), 3, true)).joins(1, 1);
    run.tells(fails(Cause::ExitCode(1), 4, true)).tells(fails(Cause::ExitCode(1), 5, false));
    let tries: Vec<u32> = run.snapshot.failures().iter().map(|failure| failure.tries).collect();
    assert_eq!(tries, [1, 1, 2]);
}

fn becomes(addition: &mut Addition) -> &mut Work {
    addition.becomes.as_mut().expect("it becomes something")
}

/// `a` submits `part`, and becomes something that takes it.
fn part_of_a() -> Event {
    let work = |values| Work { values, ..Work::default() };
    let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
    let addition = Addition {
        operations: vec![Arc::new(Operation { body, inputs: vec![], outputs: vec![] })],
        options: vec![Arc::default()],
        names: vec!["part".to_owned()],
        tasks: vec![NewTask { name: 0, work: work(vec![]) }],
        becomes: Some(work(vec![Source::New(0)])),
    };
    let (task, operation, options) = (TaskId(2), OperationId(9), OptionsId(9));
    let numbering = Numbering { task, operation, options, submitted: 0, version: 0 };
    let (attempt, worker, started, ran) = (Attempt(1), Rank(1), Timestamp(0), Micros(70));
    let (task, addition) = (TaskId(0), Box::new(addition));
    Event::TasksAdded { task, attempt, worker, started, ran, numbering, addition }
}

#[test]
fn tasks_that_were_added_count_where_they_lead_back_to() {
    let graph = graph("a:\nb: a");
    let mut run = Scenario::new(&graph);
    run.joins(1, 1).starts("a").tells(part_of_a());
    assert_eq!(*run.snapshot.counts(), Counts { waiting: 3, ..Counts::default() });
    assert_eq!(run.snapshot.groups()[0], Counts { waiting: 2, ..Counts::default() });
    assert_eq!((graph.key(TaskId(2)), graph.len()), ("a/part[0]".to_owned(), 3));
    let worker = run.snapshot.workers().next().unwrap();
    assert_eq!((worker.busy, worker.tasks_finished), (Micros(70), 0));
    let batch = Batch::one(TaskId(2), Attempt::FIRST, Success { ran: Micros(30), ..Success::default() });
    run.tells(Event::TasksFinished { worker: Rank(1), batch }).finishes("a", 1, 50);
    assert_eq!(*run.snapshot.counts(), Counts { waiting: 1, finished: 2, ..Counts::default() });
    assert_eq!(run.snapshot.groups()[0], Counts { finished: 2, ..Counts::default() });
    let path = run.report.report();
    assert_eq!((path.critical_path, path.critical_path_tasks), (Micros(80), 2));
}

#[test]
fn additions_behind_a_gap_are_left_out() {
    let graph = graph("a:\nb: a");
    let mut run = Scenario::new(&graph);
    let Event::TasksAdded { task, attempt, worker, started, ran, mut numbering, addition } = part_of_a()
    else {
        unreachable!("it is one")
    };
    numbering.task = TaskId(3);
    run.tells(Event::TasksAdded { task, attempt, worker, started, ran, numbering, addition });
    assert_eq!((run.snapshot.counts().waiting, graph.len()), (2, 2));
    assert_eq!(run.snapshot.state(TaskId(3)), State::Waiting);
}

#[test]
fn a_batch_that_claims_more_tasks_than_it_tells_of_is_left_out() {
    let graph = graph("a:");
    let mut run = Scenario::new(&graph);
    let mut batch = Batch::one(TaskId(0), Attempt::FIRST, Success::default());
    batch.spans[0].count = u32::MAX;
    run.joins(1, 1).tells(Event::TasksFinished { worker: Rank(1), batch });
    assert_eq!(run.snapshot.counts().finished, 0);
}

#[test]
fn totals_beyond_all_numbers_stay_at_the_greatest() {
    let graph = graph("a:");
    let mut run = Scenario::new(&graph);
    let totals = Totals { sent_bytes: u64::MAX, ..Totals::default() };
    run.joins(1, 1).tells(Event::WorkerLeft { worker: Rank(1), totals });
    run.tells(Event::WorkerLeft { worker: Rank(1), totals });
    assert_eq!(run.snapshot.workers().next().unwrap().totals.sent_bytes, u64::MAX);
}

#[test]
fn additions_that_are_no_graph_are_left_out() {
    let wrong: [fn(&mut Numbering, &mut Addition); 6] = [
        |_, addition| addition.tasks[0].work.operation = 7,
        |_, addition| addition.tasks[0].name = 7,
        |_, addition| becomes(addition).values = vec![Source::Taken(0)],
        |_, addition| becomes(addition).values = vec![Source::Known(TaskId(1))],
        |numbering, _| numbering.operation = OperationId(u32::MAX),
        |numbering, _| numbering.submitted = u32::MAX,
    ];
    for change in wrong {
        let graph = graph("a:\nb: a");
        let mut run = Scenario::new(&graph);
        let mut event = part_of_a();
        let Event::TasksAdded { numbering, addition, .. } = &mut event else { unreachable!("it is one") };
        change(numbering, addition);
        run.tells(event);
        assert_eq!((run.snapshot.counts().waiting, graph.len()), (2, 2));
    }
}

#[test]
fn additions_that_claim_an_old_row_are_left_out() {
    let graph = graph("a:\nb: a");
    let mut run = Scenario::new(&graph);
    run.joins(1, 1).tells(part_of_a());
    let mut event = part_of_a();
    let Event::TasksAdded { task, numbering, .. } = &mut event else { unreachable!("it is one") };
    (*task, numbering.task) = (TaskId(2), TaskId(3));
    run.tells(event);
    assert_eq!((run.snapshot.counts().waiting, graph.len()), (3, 3));
    assert_eq!(run.snapshot.state(TaskId(3)), State::Waiting);
}

#[test]
fn events_about_unknown_tasks_and_workers_are_left_out() {
    let graph = graph("a:");
    let mut run = Scenario::new(&graph);
    let (task, attempt, worker) = (TaskId(9), Attempt::FIRST, Rank(9));
    run.tells(Event::TasksFinished { worker, batch: Batch::one(task, attempt, Success::default()) });
    assert_eq!(run.snapshot.counts().finished, 0);
}

#[test]
fn an_edit_is_told_of_a_graph_that_has_grown_already() {
    let grown = graph("b:\na:\nc: a");
    let (task, addition) = (TaskId(1), part_of_a());
    let Event::TasksAdded { attempt, worker, started, ran, mut numbering, addition, .. } = addition else {
        unreachable!("it is one")
    };
    numbering.task = TaskId(3);
    let added = Event::TasksAdded { task, attempt, worker, started, ran, numbering, addition };
    Scenario::new(&grown).tells(added.clone());
    assert_eq!(grown.len(), 4);
    let old = graph("a:\nb:");
    let mut run = Scenario::new(&old);
    run.finishes("b", 1, 50);
    let mut report = run.report;
    report.on_graph(Arc::new(grown));
    let carried = vec![
        Move { from: TaskId(0), to: TaskId(1), count: 1 },
        Move { from: TaskId(1), to: TaskId(0), count: 1 },
    ];
    let edit = Edit { graph: 2, tasks: 3, carried, ..Edit::default() };
    report.on_event(Timestamp(0), &Event::GraphEdited(Box::new(edit)));
    assert_eq!(report.snapshot().state(TaskId(0)), State::Finished);
    assert_eq!(report.durations().get(TaskId(0)), Some(Micros(50)));
    report.on_event(Timestamp(0), &added);
    let batch = Batch::one(TaskId(3), Attempt::FIRST, Success { ran: Micros(30), ..Success::default() });
    report.on_event(Timestamp(0), &Event::TasksFinished { worker, batch });
    assert_eq!(report.snapshot().state(TaskId(3)), State::Finished);
    assert_eq!(report.durations().get(TaskId(3)), Some(Micros(30)));
}
