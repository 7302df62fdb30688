//! Tasks that submit tasks, at the scheduler and at a worker.

use std::sync::Arc;

use dagmar::core::addition::{Addition, NewTask, Source, Work};
use dagmar::core::event::{Cause, Event, Failure, Outcome, StopReason, Totals};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::message::{Order, Report};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Input, TaskState};
use dagmar::core::task::{Body, Call, Operation, TaskOptions};
use dagmar::core::time::Micros;

use super::{LIFE, NOW, Run, lost, task};

/// New tasks from words: `p q:p r:p,@a` are `p`, `q` that takes it, and `r` that takes `p` and the known task
/// `a`; the last word is what the submitting task becomes. `p+2` asks for two cores, `p!9` has priority 9,
/// `p?` may fail once more.
pub fn addition(run: &Run, text: &str) -> Addition {
    let mut addition = Addition::default();
    let mut known: Vec<String> = Vec::new();
    let mut works = Vec::new();
    for word in text.split_whitespace() {
        let (name, inputs) = word.split_once(':').unwrap_or((word, ""));
        let number_after = |mark: char| -> Option<u32> {
            let rest = name.split_once(mark)?.1.split(['+', '!', '?']).next()?;
            rest.parse().ok()
        };
        let plain = name.split(['+', '!', '?']).next().expect("a first part").to_owned();
        let source = |input: &str| match input.strip_prefix('@') {
            Some(key) => Source::Known(task(&run.graph, key)),
            None => Source::New(known.iter().position(|other| other == input).expect("a new task") as u32),
        };
        let values = inputs.split(',').filter(|input| !input.is_empty()).map(source).collect();
        let body = Body::Call(Call { function: plain.clone(), arguments: vec![] });
        let number = addition.operations.len() as u32;
        addition.operations.push(Arc::new(Operation { body, inputs: vec![], outputs: vec![] }));
        addition.options.push(Arc::new(TaskOptions {
            resources: Resources::cores(number_after('+').unwrap_or(1)),
            priority: number_after('!').unwrap_or(0) as i32,
            retries: u32::from(name.contains('?')),
            expected: Some(Micros::from_millis(10)),
            ..TaskOptions::default()
        }));
        works.push(Work { operation: number, place: 0, options: number, values });
        known.push(plain);
    }
    addition.becomes = Some(works.pop().expect("a last word"));
    addition.tasks = (0..).zip(works).map(|(name, work)| NewTask { name, work }).collect();
    known.pop();
    addition.names = known;
    addition
}

impl Run {
    /// A worker says that a task left its output to others.
    fn hands_on(&mut self, worker: u32, key: &str, attempt: u32, text: &str) {
        let cause = Cause::HandedOn(Box::new(addition(self, text)));
        self.ends_with(worker, key, attempt, cause);
    }

    fn ends_with(&mut self, worker: u32, key: &str, attempt: u32, cause: Cause) {
        let failure = Failure { started: NOW, ran: Micros::from_millis(10), cause };
        let report = Report::Failed(task(&self.graph, key), Attempt(attempt), failure);
        self.says(worker, LIFE, report);
    }

    fn states(&self, keys: &[&str]) -> Vec<TaskState> {
        keys.iter().map(|key| self.state(key)).collect()
    }
}

#[test]
fn a_task_becomes_another_that_takes_what_it_submitted() {
    let mut run = Run::new("a b:a", 0, 1);
    run.hands_on(1, "a", 1, "p q:p sum:p,q");
    let Event::TasksAdded { task: by, attempt, worker, .. } = &run.events[0] else {
        panic!("{:?}", run.events)
    };
    assert_eq!((*by, *attempt, *worker), (TaskId(0), Attempt(1), Rank(1)));
    assert_eq!(run.assigned(), [(1, "a/p[0]".into(), 1)]);
    assert_eq!(run.states(&["a", "b", "a/q[1]"]), [TaskState::Waiting; 3]);
    run.finishes(1, "a/p[0]", 1);
    run.finishes(1, "a/q[1]", 1);
    assert_eq!(run.assigned(), [(1, "a".into(), 2)]);
    run.finishes(1, "a", 2);
    assert_eq!(run.assigned(), [(1, "b".into(), 1)]);
    run.finishes(1, "b", 1);
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!((run.outcome, run.machine.task_count()), (Some(Outcome::Done), 4));
}

#[test]
fn whoever_is_given_a_submitted_task_is_told_what_it_is() {
    let mut run = Run::new("a", 0, 1);
    run.hands_on(1, "a", 1, "p sum:p");
    let Some((_, Order::Assign(assignment))) = run.orders.first() else { panic!("{:?}", run.orders) };
    let row = assignment.special.as_ref().and_then(|special| special.row.clone()).expect("a row");
    assert!(matches!(&row.operation.body, Body::Call(call) if call.function == "p"));
    assert!(assignment.is_plain(), "it is as light as any call");
    run.finishes(1, "a/p[0]", 1);
    let Some((_, Order::Assign(assignment))) = run.orders.first() else { panic!("{:?}", run.orders) };
    let row = assignment.special.as_ref().and_then(|special| special.row.clone()).expect("a row");
    assert!(matches!(&row.operation.body, Body::Call(call) if call.function == "sum"));
    assert_eq!(row.values, [1]);
}

#[test]
fn a_task_may_become_another_without_submitting_any() {
    let mut run = Run::new("a b:a", 0, 1);
    for attempt in 1..100 {
        run.hands_on(1, "a", attempt, "again");
        assert_eq!(run.assigned(), [(1, "a".into(), attempt + 1)]);
    }
    run.finishes(1, "a", 100);
    assert_eq!(run.assigned(), [(1, "b".into(), 1)]);
}

#[test]
fn submitted_tasks_submit_tasks() {
    let mut run = Run::new("a", 0, 1);
    run.hands_on(1, "a", 1, "p sum:p");
    run.hands_on(1, "a/p[0]", 1, "p sum:p");
    assert_eq!(run.assigned(), [(1, "a/p[0]/p[0]".into(), 1)]);
    run.hands_on(1, "a/p[0]/p[0]", 1, "p p2:p");
    run.hands_on(1, "a/p[0]/p[0]/p[0]", 1, "end");
    for (key, attempt) in [("a/p[0]/p[0]/p[0]", 2), ("a/p[0]/p[0]", 2), ("a/p[0]", 2), ("a", 2)] {
        assert_eq!(run.assigned(), [(1, key.into(), attempt)]);
        run.finishes(1, key, attempt);
    }
    assert_eq!(run.orders.last(), Some(&(Rank(1), Order::Leave)));
}

#[test]
fn an_input_that_is_passed_on_stays_until_those_who_got_it_have_run() {
    let mut run = Run::new("i a:i", 0, 1);
    run.finishes(1, "i", 1);
    run.hands_on(1, "a", 1, "p:@i q sum:p,q");
    let hold = Order::Hold(TaskId(0), Attempt(1));
    let release = Order::Release(TaskId(0), Attempt(1));
    let is_said = |run: &Run, order: &Order| run.orders.contains(&(Rank(1), order.clone()));
    assert!(is_said(&run, &hold) && !is_said(&run, &release), "{:?}", run.orders);
    run.finishes(1, "a/q[1]", 1);
    assert!(!is_said(&run, &release));
    run.finishes(1, "a/p[0]", 1);
    assert!(is_said(&run, &release), "{:?}", run.orders);
}

#[test]
fn an_input_that_is_not_passed_on_is_released_at_once() {
    let mut run = Run::new("i a:i", 0, 1);
    run.finishes(1, "i", 1);
    run.hands_on(1, "a", 1, "p sum:p");
    assert!(run.orders.contains(&(Rank(1), Order::Release(TaskId(0), Attempt(1)))), "{:?}", run.orders);
}

#[test]
fn a_failed_submitted_task_is_the_cause_for_all_that_waits_for_it() {
    let mut run = Run::new("a b:a x", 0, 1);
    run.hands_on(1, "a", 1, "p sum:p");
    let cause = task(&run.graph, "a/p[0]");
    run.fails(1, "a/p[0]", 1);
    let aborted = |key: &str| Event::TaskAborted { task: task(&run.graph, key), because: cause };
    assert_eq!(run.events[1..], [aborted("a"), aborted("b")]);
    run.finishes(1, "x", 1);
    run.says(1, LIFE, Report::Left(Totals::default()));
    assert_eq!(run.outcome, Some(Outcome::TasksFailed { failed: 1, aborted: 2, out_of_memory: false }));
}

#[test]
fn submitted_tasks_are_tried_again_as_often_as_they_allow() {
    let mut run = Run::new("a", 0, 1);
    run.hands_on(1, "a", 1, "p? sum:p");
    run.fails(1, "a/p[0]", 1);
    assert_eq!(run.assigned(), [(1, "a/p[0]".into(), 2)]);
    run.fails(1, "a/p[0]", 2);
    assert_eq!(run.states(&["a/p[0]", "a"]), [TaskState::Failed, TaskState::Aborted]);
}

#[test]
fn a_try_that_fails_before_it_submits_is_made_again() {
    let mut run = Run::new("a", 1, 1);
    run.fails(1, "a", 1);
    run.hands_on(1, "a", 2, "p sum:p");
    assert_eq!(run.assigned(), [(1, "a/p[0]".into(), 1)]);
    run.finishes(1, "a/p[0]", 1);
    run.finishes(1, "a", 3);
    assert_eq!(run.state("a"), TaskState::Finished);
}

#[test]
fn what_an_abandoned_try_submitted_is_ignored() {
    let mut run = Run::new("a", 0, 2);
    run.takes(lost(1));
    assert_eq!(run.assigned(), [(2, "a".into(), 2)]);
    run.joins(1, Incarnation(2));
    let cause = Cause::HandedOn(Box::new(addition(&run, "p sum:p")));
    let failure = Failure { started: NOW, ran: Micros::ZERO, cause };
    run.says(1, Incarnation(2), Report::Failed(TaskId(0), Attempt(1), failure));
    assert_eq!((run.machine.task_count(), run.state("a")), (1, TaskState::Assigned));
    run.hands_on(2, "a", 2, "q sum:q");
    assert_eq!(run.machine.task_count(), 2);
}

#[test]
fn lost_outputs_of_submitted_tasks_are_made_again() {
    let mut run = Run::new("a b:a", 0, 1);
    run.hands_on(1, "a", 1, "p q:p sum:q");
    run.finishes(1, "a/p[0]", 1);
    run.finishes(1, "a/q[1]", 1);
    run.finishes(1, "a", 2);
    assert_eq!(run.assigned(), [(1, "b".into(), 1)]);
    run.takes(lost(1));
    assert_eq!(run.states(&["a", "a/p[0]", "a/q[1]", "b"]), [TaskState::Waiting; 4]);
    run.joins(1, Incarnation(2));
    assert_eq!(
        run.assigned(),
        [(1, "a/p[0]".into(), 2)],
        "the submitting function itself is not called again"
    );
    let row = |order: &Order| match order {
        Order::Assign(it) => it.special.as_ref().and_then(|special| special.row.clone()),
        _ => None,
    };
    assert!(row(&run.orders[0].1).is_some(), "a new life knows nothing of what was submitted");
}

#[test]
fn what_was_ahead_of_a_task_that_hands_on_waits_again() {
    let mut run = Run::ahead("a b:a", 1);
    assert_eq!(run.assigned(), [(1, "a".into(), 1), (1, "b".into(), 1)]);
    run.hands_on(1, "a", 1, "p sum:p");
    let (task, attempt, owner) = (TaskId(0), Attempt(1), Rank(1));
    let input =
        dagmar::core::message::InputLocation { task, attempt, owner, incarnation: LIFE, is_ahead: true };
    run.says(1, LIFE, Report::InputMissing { task: TaskId(1), attempt: Attempt(1), input });
    assert_eq!(run.state("b"), TaskState::Waiting);
    run.finishes(1, "a/p[0]", 1);
    run.finishes(1, "a", 2);
    assert_eq!(run.assigned(), [(1, "b".into(), 1)]);
}

#[test]
fn what_was_begun_is_finished_before_the_next_is_begun() {
    let mut run = Run::new("a b c", 0, 1);
    assert_eq!(run.assigned().len(), 2, "one runs and one waits: {:?}", run.assigned());
    run.hands_on(1, "a", 1, "p q sum:p,q");
    let mut order = Vec::new();
    while let Some((_, key, attempt)) = run.assigned().first().cloned() {
        run.finishes(1, &key, attempt);
        order.push(key);
    }
    assert_eq!(order, ["a/p[0]", "a/q[1]", "a", "c"], "what `a` submitted comes before `c`");
}

#[test]
fn priorities_of_submitted_tasks_add_to_that_of_whoever_submits_them() {
    let mut run = Run::new("a!5 b!6", 0, 1);
    run.finishes(1, "b", 1);
    run.hands_on(1, "a", 1, "p q!2 sum:p,q");
    assert_eq!(run.assigned()[0].1, "a/q[1]");
    let options = |key: &str| run.graph.options(task(&run.graph, key)).priority;
    assert_eq!(["a/p[0]", "a/q[1]", "a"].map(options), [5, 7, 5]);
}

#[test]
fn a_request_that_nobody_made_before_finds_its_worker() {
    let mut run = Run::new("a", 0, 0);
    run.machine = super::scheduler_of(&run.graph, 2);
    run.joins(1, LIFE);
    run.joins_with(2, 4);
    let (worker, ..) = run.assigned()[0];
    run.hands_on(worker, "a", 1, "p+3 q+4 r sum+2:p,q,r");
    let assigned = run.assigned();
    let at = |key: &str| assigned.iter().find(|it| it.1 == key).map(|it| it.0);
    assert_eq!((at("a/p[0]").or(at("a/q[1]")), at("a/r[2]").is_some()), (Some(2), true), "{assigned:?}");
}

#[test]
fn what_no_worker_can_run_fails_whoever_submits_it() {
    let mut run = Run::new("a b:a", 0, 1);
    run.hands_on(1, "a", 1, "p q+9 sum:p,q");
    let Event::AttemptFailed { failure, retried: false, .. } = &run.events[0] else {
        panic!("{:?}", run.events)
    };
    assert_eq!(
        failure.cause.to_string(),
        "failed: it submitted `q`, which asks for more than any worker has"
    );
    assert_eq!(run.states(&["a", "b"]), [TaskState::Failed, TaskState::Aborted]);
}

#[test]
fn a_damaged_addition_fails_whoever_submits_it_and_nothing_else() {
    let mut run = Run::new("a x", 0, 1);
    let mut damaged = addition(&run, "p sum:p");
    damaged.becomes.as_mut().expect("it becomes something").values.push(Source::New(7));
    run.ends_with(1, "a", 1, Cause::HandedOn(Box::new(damaged)));
    assert_eq!((run.state("a"), run.machine.task_count()), (TaskState::Failed, 2));
    run.finishes(1, "x", 1);
}

#[test]
fn a_task_that_hands_on_while_the_run_is_cancelled_is_cancelled() {
    let mut run = Run::new("a b:a", 0, 1);
    run.takes(Input::Stop(StopReason::Cancelled));
    run.hands_on(1, "a", 1, "p sum:p");
    assert_eq!((run.states(&["a", "b"]), run.machine.task_count()), (vec![TaskState::Cancelled; 2], 2));
}

#[test]
fn a_cancelled_run_cancels_submitted_tasks() {
    let mut run = Run::new("a", 0, 1);
    run.hands_on(1, "a", 1, "p q:p sum:q");
    run.takes(Input::Stop(StopReason::Cancelled));
    assert_eq!(run.states(&["a", "a/q[1]"]), [TaskState::Cancelled; 2]);
    let stopped = Cause::Stopped;
    run.ends_with(1, "a/p[0]", 1, stopped);
    assert_eq!(run.state("a/p[0]"), TaskState::Cancelled);
}

#[test]
fn events_alone_tell_what_was_added() {
    let graph = super::graph("a b:a", 0);
    let reader = (*graph).clone();
    let mut run = Run::of(graph, 1);
    let mut seen = Vec::new();
    run.hands_on(1, "a", 1, "p sum:p");
    seen.append(&mut run.events);
    run.hands_on(1, "a/p[0]", 1, "q r");
    seen.append(&mut run.events);
    for event in &seen {
        if let Event::TasksAdded { task, numbering, addition, .. } = event {
            reader.replay(*task, *numbering, addition).expect("it was recorded so");
            reader.replay(*task, *numbering, addition).expect("it was recorded so");
        }
    }
    assert_eq!((reader.len(), run.graph.len()), (4, 4));
    for task in reader.tasks() {
        assert_eq!(reader.key(task), run.graph.key(task));
        assert_eq!(reader.value_inputs(task), run.graph.value_inputs(task));
        assert_eq!(reader.operation(task), run.graph.operation(task));
        assert_eq!(reader.dependents(task), run.graph.dependents(task));
    }
}
