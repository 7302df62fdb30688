//! What several targets do with what they have read.

pub mod journal;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use dagmar::client::formats::{Functions, read_bytes};
use dagmar::core::batch::Batch;
use dagmar::core::event::{Cause, Event, Failure, Success, Totals};
use dagmar::core::graph::Graph;
use dagmar::core::id::{Incarnation, Rank, TaskId};
use dagmar::core::message::{FromWorker, Order, Report};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Action, Input, Options, Past, Persist, Precedence, Scheduler};
use dagmar::core::task_list::TaskList;
use dagmar::core::time::{Micros, Timestamp};
use dagmar::observe::report::ReportBuilder;
use dagmar::observe::snapshot::Snapshot;

/// What stands in a journal.
pub type Record = (Timestamp, Event);

/// Graphs with more tasks are left out: they take as long as they have tasks.
pub const TASKS_MAX: u64 = 20_000;

/// Turns after which a run has ended, or will not.
const TURNS_MAX: usize = 200;

/// Graphs that have all that events may speak of: arrays, joins, lists, files, MPI programs, retries.
const GRAPHS: [&str; 4] = [
    r#"
    [tasks]
    a = { call = "add", args = [1, 2] }
    b = { call = "add", args = ["@a", 3], retries = 2 }
    c = { call = "mul", args = ["@a", "@b"], keep = true }
    "#,
    r#"
    [tasks.part]
    each = { i = "0..5" }
    call = "identity"
    args = ["{i}"]
    [tasks.mid]
    each = { i = "0..5" }
    run = ["true", "{i}"]
    after = ["part"]
    [tasks.all]
    call = "sum"
    args = ["@part"]
    after = ["mid"]
    "#,
    r#"
    [tasks.make]
    run = ["true"]
    outputs = ["x"]
    retries = 1
    [tasks.wide]
    run = ["true"]
    resources = { ranks = 4, nodes = 2 }
    inputs = ["x"]
    [tasks.end]
    run = ["cat"]
    stdin = "@wide"
    priority = 5
    "#,
    r#"
    [tasks.a]
    each = { i = "0..40" }
    call = "noop"
    [tasks.b]
    each = { i = "0..40" }
    call = "identity"
    args = ["@a[{i}]"]
    resources = { cpus = 2 }
    "#,
];

/// One of a few small graphs, which has not grown.
pub fn graph(which: u8) -> Arc<Graph> {
    static READ: OnceLock<Vec<Graph>> = OnceLock::new();
    let graphs = READ.get_or_init(|| {
        let read = |text: &&str| {
            let graph =
                read_bytes(Path::new("g.toml"), text.as_bytes(), Path::new("/d"), &Functions::built_in());
            graph.unwrap_or_else(|error| panic!("{text}\n{error}"))
        };
        GRAPHS.iter().map(read).collect()
    });
    Arc::new(graphs[usize::from(which) % graphs.len()].clone())
}

/// Asks a graph for all that it tells of its tasks.
pub fn walk(graph: &Graph) {
    let mut seen = BTreeSet::new();
    for task in graph.topological_order() {
        assert!(seen.insert(task), "task {task} is there once");
        for input in graph.inputs(task) {
            assert!(seen.contains(&input), "task {input} comes before {task}");
            assert!(graph.dependents(input).contains(task), "task {task} waits for {input}");
        }
        for dependent in graph.dependents(task) {
            assert!(graph.inputs(dependent).any(|input| input == task), "task {dependent} takes {task}");
        }
        let _ = (graph.key(task), graph.group_of(task), graph.operation(task), graph.options(task));
    }
    assert_eq!(seen.len(), graph.len());
    let sinks: TaskList = graph.sink_stretches().collect();
    let _ = (graph.needed_by(sinks), graph.hidden_lists().count(), graph.stretches().count());
    for group in graph.keys().groups().iter().filter(|group| !group.hidden && group.count() != Some(0)) {
        let _ = graph.find(&group.key(0));
    }
}

/// Shows events to what watches runs.
pub fn views(which: u8, records: &[Record]) {
    let graph = graph(which);
    let mut snapshot = Snapshot::new(&graph);
    let mut report = ReportBuilder::new(graph.clone());
    for (time, event) in records {
        snapshot.on_event(&graph, *time, event);
        report.on_event(*time, event);
    }
    let _ = (snapshot.rate_per_s(Timestamp(7)), snapshot.busy_cpus(), snapshot.offered_cpus());
    let _ = report.report().to_lines();
}

/// Folds events; if they can be those of a run of the graph, it goes on until it has nothing more to do.
pub fn go_on(graph: Arc<Graph>, records: &[Record]) {
    let mut past = Past::new(graph.clone());
    for (_, event) in records {
        let folded = match event {
            // Into the same tasks, or not at all.
            Event::GraphEdited(edit) => past.on_edit(edit, graph.clone()),
            event => past.on_event(event),
        };
        if let Err(error) = folded {
            drop(error.to_string());
            return;
        }
    }
    for (task, _) in past.durable() {
        let _ = past.file_sizes(task);
    }
    let asked: TaskList = graph.sink_stretches().collect();
    let options = Options {
        workers: 2,
        workers_come_back: false,
        persist: Persist::Asked,
        precedence: Precedence::LongestPath,
    };
    match Scheduler::resume(&past, asked, options) {
        Ok((scheduler, event, _)) => {
            scheduler.check();
            past.on_event(&event).expect("what the scheduler records is read again");
            Life { scheduler, past, turn: 0 }.live();
        }
        Err(error) => drop(error.to_string()),
    }
}

/// A run that goes on with workers that do what they are told.
struct Life {
    scheduler: Scheduler,
    past: Past,
    turn: u64,
}

impl Life {
    fn live(mut self) {
        let mut said: Vec<(Rank, Report)> = (1..=2)
            .map(|rank| {
                let capacity = Resources { memory_bytes: 1 << 30, ..Resources::cores(4) };
                (Rank(rank), Report::Joined { host: format!("n{rank}"), capacity })
            })
            .collect();
        for _ in 0..TURNS_MAX {
            self.turn += 1;
            let mut actions = Vec::new();
            for (worker, report) in said.drain(..) {
                let message = FromWorker { incarnation: Incarnation(1), reports: vec![report] };
                self.handle(Input::FromWorker { worker, message }, &mut actions);
            }
            self.handle(Input::Turn, &mut actions);
            for action in actions {
                match action {
                    Action::Record(event) => {
                        self.past.on_event(&event).expect("what the scheduler records is read again");
                    }
                    Action::ToWorker { worker, message } => {
                        said.extend(
                            message
                                .orders
                                .iter()
                                .flat_map(|order| self.answers(order))
                                .map(|it| (worker, it)),
                        );
                    }
                    Action::Finish(_) => return,
                    Action::ToClient(_) | Action::Fetch { .. } => unreachable!("there is no client"),
                }
            }
            if said.is_empty() && !self.scheduler.is_unfinished() {
                return;
            }
        }
    }

    fn handle(&mut self, input: Input, actions: &mut Vec<Action>) {
        let is_turn = input == Input::Turn;
        self.scheduler.handle(Timestamp(self.turn * 1000), input, actions);
        if is_turn {
            self.scheduler.check();
        }
    }

    /// Every third task fails at first.
    fn answers(&self, order: &Order) -> Vec<Report> {
        let (started, ran) = (Timestamp(self.turn), Micros(5));
        let of_task = |task: TaskId, attempt| match self.turn < 3 && task.0 % 3 == 1 {
            true => Report::Failed(task, attempt, Failure { started, ran, cause: Cause::ExitCode(1) }),
            false => {
                let success = Success { started, ran, size_bytes: 8, file_sizes: vec![] };
                Report::Finished(Batch::one(task, attempt, success))
            }
        };
        match order {
            Order::Assign(assignment) => {
                assignment.tasks.tasks().map(|task| of_task(task, assignment.attempt)).collect()
            }
            Order::Leave => vec![Report::Left(Totals::default())],
            _ => vec![],
        }
    }
}
