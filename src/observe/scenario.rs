//! Runs told in a few words, for tests.

use std::sync::Arc;

use crate::core::batch::Batch;
use crate::core::event::{Cause, Event, Failure, Success};
use crate::core::graph::{Definition, Graph, GraphBuilder};
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::key::Group;
use crate::core::resources::Resources;
use crate::core::task::{Body, Call, Operation, TaskOptions};
use crate::core::time::{Micros, Timestamp};

use super::report::ReportBuilder;
use super::snapshot::Snapshot;

/// A graph of single tasks from lines such as `c: a b`; names that begin with `~` are joins.
pub fn graph(text: &str) -> Graph {
    let mut builder = GraphBuilder::new("test", "/");
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(':').unwrap()).collect();
    for (name, _) in &lines {
        builder.declare(Group { hidden: name.starts_with('~'), ..Group::single(*name) }).unwrap();
    }
    let mut operation = |body| builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    let call = operation(Body::Call(Call { function: "noop".into(), arguments: vec![] }));
    let join = operation(Body::Join);
    let options = builder.options(TaskOptions::default());
    for (name, inputs) in lines {
        let orders =
            inputs.split_whitespace().map(|input| builder.keys().group(input).unwrap().first).collect();
        let operation = if name.starts_with('~') { join } else { call };
        builder.define(Definition { operation, options, values: vec![], orders }).unwrap();
    }
    builder.build().unwrap()
}

/// A run whose clock stands unless it `waits`.
pub struct Scenario<'a> {
    pub snapshot: Snapshot,
    pub report: ReportBuilder,
    graph: &'a Graph,
    now: Timestamp,
}

impl<'a> Scenario<'a> {
    pub fn new(graph: &'a Graph) -> Self {
        let (snapshot, report) = (Snapshot::new(graph), ReportBuilder::new(Arc::new(graph.clone())));
        let mut run = Scenario { snapshot, report, graph, now: Timestamp(1_000_000) };
        let shown = graph.tasks().filter(|&task| !graph.is_join(task)).count();
        run.tells(Event::RunStarted { tasks: shown as u32 });
        run
    }

    pub fn tells(&mut self, event: Event) -> &mut Self {
        self.snapshot.on_event(self.graph, self.now, &event);
        self.report.on_event(self.now, &event);
        self
    }

    pub fn waits(&mut self, micros: u64) -> &mut Self {
        self.now = self.now + Micros(micros);
        self
    }

    pub fn joins(&mut self, worker: u32, cpus: u32) -> &mut Self {
        let (host, capacity) = (format!("n{worker:03}"), Resources::cores(cpus));
        self.tells(Event::WorkerJoined { worker: Rank(worker), incarnation: Incarnation(1), host, capacity })
    }

    pub fn starts(&mut self, name: &str) -> &mut Self {
        let (task, attempt, worker) = (self.task(name), Attempt::FIRST, Rank(1));
        self.tells(Event::TaskStarted { task, attempt, worker, started: self.now })
    }

    pub fn finishes(&mut self, name: &str, worker: u32, micros: u64) -> &mut Self {
        let success = Success { ran: Micros(micros), ..Success::default() };
        let (task, attempt, worker) = (self.task(name), Attempt::FIRST, Rank(worker));
        self.tells(Event::TasksFinished { worker, batch: Batch::one(task, attempt, success) })
    }

    pub fn fails(&mut self, name: &str, worker: u32, retried: bool) -> &mut Self {
        let failure = Failure { started: self.now, ran: Micros(1), cause: Cause::ExitCode(3) };
        let (task, attempt, worker) = (self.task(name), Attempt::FIRST, Rank(worker));
        self.tells(Event::AttemptFailed { task, attempt, worker, failure, retried })
    }

    pub fn aborts(&mut self, name: &str, because: &str) -> &mut Self {
        let (task, because) = (self.task(name), self.task(because));
        self.tells(Event::TaskAborted { task, because })
    }

    pub fn cancels(&mut self, name: &str) -> &mut Self {
        let task = self.task(name);
        self.tells(Event::TaskCancelled { task })
    }

    fn task(&self, name: &str) -> TaskId {
        self.graph.keys().group(name).unwrap().first
    }
}
