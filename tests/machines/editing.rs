//! A run goes on with another graph, and tasks are left away whose files are there.

use std::sync::Arc;

use dagmar::core::batch::Batch;
use dagmar::core::edit::{Comparison, Edit};
use dagmar::core::event::{Event, Success};
use dagmar::core::graph::Graph;
use dagmar::core::id::{Attempt, Rank, TaskId};
use dagmar::core::scheduler::{
    Files, Left, Options, Past, Persist, Precedence, Scheduler, Skipping, TaskState,
};
use dagmar::core::span::Span;
use dagmar::core::task_list::TaskList;

use super::{graph, task};

const OPTIONS: Options = Options {
    workers: 1,
    workers_come_back: true,
    persist: Persist::All,
    precedence: Precedence::LongestPath,
};

/// A run of `text` in which these tasks are finished, and those durable.
fn past(text: &str, finished: &[&str], durable: &[&str]) -> Past {
    let graph = graph(text, 0);
    let mut past = Past::new(graph.clone());
    let worker = Rank(1);
    let mut take = |event: Event| past.on_event(&event).expect("it belongs to the graph");
    take(Event::RunStarted { tasks: graph.len() as u32 });
    for key in finished {
        let batch = Batch::one(task(&graph, key), Attempt(1), Success::default());
        take(Event::TasksFinished { worker, batch });
    }
    for key in durable {
        let tasks = vec![Span::one(task(&graph, key))];
        take(Event::TasksDurable { worker, attempt: Attempt(1), tasks });
    }
    past
}

/// The same run with another graph.
fn edited(mut past: Past, text: &str) -> (Past, Arc<Graph>) {
    let graph = graph(text, 0);
    let edit = Comparison::of(past.graph(), &graph).edit;
    past.on_edit(&edit, graph.clone()).expect("it belongs to both");
    (past, graph)
}

fn resume(past: &Past, graph: &Graph) -> (Scheduler, Left) {
    let asked: Vec<TaskId> = graph.sinks().collect();
    let (machine, _, left) = Scheduler::resume(past, &asked, OPTIONS).expect("it belongs to the graph");
    machine.check();
    (machine, left)
}

#[test]
fn what_is_durable_stays_so_under_another_number() {
    let past = past("a b:a c:b", &["a", "b"], &["a", "b"]);
    let (past, graph) = edited(past, "new c:b,new b:a a");
    assert_eq!(past.durable().map(|(task, _)| graph.key(task)).collect::<Vec<_>>(), ["b", "a"]);
    let (machine, left) = resume(&past, &graph);
    assert_eq!(left, Left { durable: 2, to_do: 2, repeated: 0 });
    assert_eq!(machine.location(task(&graph, "b")), (Rank::SCHEDULER, Attempt(1)));
    assert_eq!(machine.state(task(&graph, "c")), TaskState::Waiting);
}

#[test]
fn what_depends_on_what_changed_runs_again_under_numbers_that_go_on() {
    let past = past("a b:a c:b", &["a", "b"], &["a", "b"]);
    // `b` takes `d` instead of `a`.
    let (past, graph) = edited(past, "a d b:d c:b,a");
    let (machine, left) = resume(&past, &graph);
    assert_eq!(left, Left { durable: 1, to_do: 3, repeated: 0 });
    assert_eq!(machine.location(task(&graph, "b")).1, Attempt(1), "its next try is the second");
    assert_eq!(machine.state(task(&graph, "a")), TaskState::Finished);
}

#[test]
fn an_edit_of_other_graphs_is_refused() {
    let mut past = past("a b:a", &[], &[]);
    let refused = past.on_edit(&Edit::default(), graph("a", 0)).unwrap_err().to_string();
    assert!(refused.ends_with("the graph that it goes on with has another number of tasks"), "{refused}");
    let refused = past.on_event(&Event::GraphEdited(Box::default())).unwrap_err().to_string();
    assert!(refused.ends_with("it goes on with another graph, which is not at hand"), "{refused}");
}

/// What runs of `text`, whose tasks with capital letters have files; those named are stale.
fn runs(text: &str, stale: &[&str]) -> Vec<String> {
    let graph = graph(text, 0);
    let asked: TaskList = graph.sinks().collect();
    let files = |task: TaskId| match graph.key(task) {
        key if stale.contains(&key.as_str()) => Files::Stale,
        key if key.starts_with(char::is_uppercase) => Files::UpToDate,
        _ => Files::None,
    };
    let Skipping { runs, skipped } = Skipping::find(&graph, &asked, files);
    let machine = Scheduler::of_tasks(graph.clone(), &asked, &runs, OPTIONS);
    machine.check();
    let skipped: Vec<TaskId> = skipped.iter().flat_map(|span| span.tasks()).collect();
    assert!(skipped.iter().all(|&task| machine.state(task) == TaskState::Culled));
    let waits = graph.tasks().filter(|&task| machine.state(task) == TaskState::Waiting);
    waits.map(|task| graph.key(task)).collect()
}

#[test]
fn what_has_its_files_is_left_away_with_what_only_feeds_it() {
    assert_eq!(runs("a B:a C:B", &[]), Vec::<String>::new());
    assert_eq!(runs("a B:a C", &["B"]), ["a", "B"]);
    assert_eq!(runs("A B:A C:B", &["A"]), ["A", "B", "C"]);
    // Its value is taken, and no file has it; then whoever else depends on it is not up to date.
    assert_eq!(runs("A B:A C:A", &["C"]), ["A", "B", "C"]);
    assert_eq!(runs("A b:A", &[]), ["A", "b"]);
}

#[test]
fn a_run_that_goes_on_leaves_away_what_it_left_away_but_for_values() {
    let graph = graph("A B:A C", 0);
    let mut past = Past::new(graph.clone());
    let tasks = vec![Span { first: TaskId(0), count: 3 }];
    past.on_event(&Event::TasksSkipped { tasks }).expect("they are there");
    assert_eq!(resume(&past, &graph).1, Left::default());
    // The file of `B` is gone, and it takes a value that no file has.
    past.forget(task(&graph, "B"));
    assert_eq!(resume(&past, &graph).1, Left { durable: 0, to_do: 2, repeated: 0 });
}

#[test]
fn what_was_skipped_runs_if_something_that_it_depends_on_does() {
    // `D` depends on `A` through `c`, which nobody needs; `E` was made by this run.
    let graph = graph("A B:A c:A D:c E:A", 0);
    let mut past = Past::new(graph.clone());
    let mut take = |event: Event| past.on_event(&event).expect("it belongs to the graph");
    take(Event::RunStarted { tasks: 5 });
    let skipped = ["A", "B", "D"].map(|key| Span::one(task(&graph, key)));
    take(Event::TasksSkipped { tasks: skipped.to_vec() });
    let (worker, attempt) = (Rank(1), Attempt(1));
    let e = task(&graph, "E");
    take(Event::TasksFinished { worker, batch: Batch::one(e, attempt, Success::default()) });
    take(Event::TasksDurable { worker, attempt, tasks: vec![Span::one(e)] });
    assert_eq!(resume(&past, &graph).1, Left { durable: 1, to_do: 0, repeated: 0 });
    // The file of `B` is gone: it takes the value of `A`, and so `D` is outdated.
    past.forget(task(&graph, "B"));
    let (machine, left) = resume(&past, &graph);
    assert_eq!(left, Left { durable: 1, to_do: 4, repeated: 0 });
    assert_eq!(machine.state(e), TaskState::Finished);
}

#[test]
fn what_need_not_run_is_found_again_as_long_as_nothing_has_run() {
    let graph = graph("A b", 0);
    let mut past = Past::new(graph.clone());
    past.on_event(&Event::RunStarted { tasks: 2 }).expect("it belongs to the graph");
    let to_do = vec![Span { first: TaskId(0), count: 2 }];
    past.on_event(&Event::RunResumed { life: 2, to_do }).expect("it belongs to the graph");
    assert!(!past.is_under_way());
    let mut started = Past::new(graph.clone());
    let (task, attempt, worker, started_at) = (TaskId(1), Attempt(1), Rank(1), super::NOW);
    let event = Event::TaskStarted { task, attempt, worker, started: started_at };
    started.on_event(&event).expect("it belongs to the graph");
    past.on_event(&Event::TasksSkipped { tasks: vec![] }).expect("it belongs to the graph");
    assert!(started.is_under_way() && past.is_under_way());
}
