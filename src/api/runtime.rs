//! The ranks as a program sees them: something that computes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::core::event::{Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::{Rank, TaskId};
use crate::core::scheduler::{CRASH_LIMIT, Persist};
use crate::core::task_list::TaskList;
use crate::runtime::cluster::{Cluster, Plan};
use crate::runtime::program::Program;

use super::assembly::{Assembled, Assembly};
use super::computable::{Computable, Outputs, Wanted};
use super::delayed::{Kept, Node};
use super::failure::{Error, Failed};
use super::watch::Watch;

/// Runs calls on whatever the program was started on: threads of its own process, or the other ranks.
pub struct Runtime {
    cluster: Cluster,
    program: Program,
    pins: Vec<String>,
    /// How many outputs were given a number.
    numbers: u64,
    /// Numbers of outputs that nobody needs any more.
    unneeded: Arc<Mutex<Vec<u64>>>,
    stopped: Option<StopReason>,
}

impl Runtime {
    pub(super) fn new(mut cluster: Cluster, program: Program) -> Self {
        let pins = cluster.pins();
        Runtime { cluster, program, pins, numbers: 0, unneeded: Arc::default(), stopped: None }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.cluster.geometry().capacities.len()
    }

    /// How many cores they have together.
    pub fn cpus(&self) -> u32 {
        self.cluster.geometry().capacities.iter().map(|capacity| capacity.cpus).sum()
    }

    /// Runs everything that the wanted calls need, and gives their outputs in the same shape.
    ///
    /// What ran before runs again, unless it was persisted. Outputs that nobody wants are dropped as
    /// soon as nobody needs them.
    pub fn compute<C: Computable>(&mut self, wanted: C) -> Result<C::Output, Error> {
        let nodes = collect(&wanted);
        let fresh = self.run_fresh(&nodes)?;
        let places: Vec<(Rank, u64)> = nodes.iter().map(|node| fresh.place_of(node)).collect();
        let fetched = self.cluster.fetch(&places);
        self.forget(fresh.places.into_keys().collect());
        let fetched = fetched?;
        let outputs = &mut Outputs(fetched.into_iter());
        Ok(wanted.gather(outputs)?)
    }

    /// Runs everything that the wanted calls need, and lets their outputs stay where they were made, for
    /// as long as somebody holds the calls. Later computations take them from there.
    pub fn persist<C: Computable>(&mut self, wanted: &C) -> Result<(), Error> {
        let nodes = collect(wanted);
        let fresh = self.run_fresh(&nodes)?;
        for node in nodes.iter().filter(|node| node.kept.get().is_none()) {
            let (worker, number) = fresh.place_of(node);
            node.keep(Kept { number, worker, unneeded: self.unneeded.clone() });
        }
        Ok(())
    }

    /// Runs those of the calls whose outputs are not kept yet.
    fn run_fresh(&mut self, nodes: &[Arc<Node>]) -> Result<Fresh, Error> {
        self.check_stopped()?;
        let unneeded =
            std::mem::take(&mut *self.unneeded.lock().expect("no thread panics holding this lock"));
        self.forget(unneeded);
        let mut fresh = Fresh::default();
        let mut asked = Vec::new();
        for node in nodes.iter().filter(|node| node.kept.get().is_none()) {
            fresh.numbers.entry(Arc::as_ptr(node).addr()).or_insert_with(|| {
                self.numbers += 1;
                asked.push((node.clone(), self.numbers));
                self.numbers
            });
        }
        if asked.is_empty() {
            return Ok(fresh);
        }
        let ran = self.run(&asked);
        if ran.is_err() {
            self.forget(asked.into_iter().map(|(_, number)| number).collect());
        }
        fresh.places = ran?;
        Ok(fresh)
    }

    fn run(&mut self, asked: &[(Arc<Node>, u64)]) -> Result<HashMap<u64, Rank>, Error> {
        let (name, directory) = (self.program.name(), self.program.directory());
        let assembly = Assembly { name, directory, asked, pins: &self.pins };
        let Assembled { graph, asked: tasks } = assembly.assemble()?;
        let graph = Arc::new(graph);
        let wanted = TaskList::from(&tasks);
        let plan = Plan {
            graph: graph.clone(),
            asked: wanted,
            prints: false,
            persist: Persist::None,
            max_fails: None,
            crash_limit: CRASH_LIMIT,
            resumes: false,
            if_missing: false,
            on_damage: Default::default(),
            client: None,
        };
        self.cluster.check_fit(&plan)?;
        let place = self.program.begin_run(&graph)?;
        let mut watch = Watch::new(&tasks);
        let outcome = self.cluster.run(plan, (place, None), &mut watch);
        self.program.end_run();
        self.conclude(outcome?, &graph, &watch)?;
        Ok(numbered(asked, &tasks, &watch))
    }

    fn conclude(&mut self, outcome: Outcome, graph: &Graph, watch: &Watch) -> Result<(), Error> {
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::TasksFailed { failed, aborted, out_of_memory } => {
                let (task, attempts, cause) = watch.failure.clone().expect("a task failed for some cause");
                let key = graph.key(task);
                Err(Error::Failed(Failed { key, cause, attempts, failed, aborted, out_of_memory }))
            }
            Outcome::Stopped(reason) => {
                self.stopped = Some(reason);
                self.check_stopped()
            }
            Outcome::WorkersLost => Err(Error::WorkersLost),
        }
    }

    /// A program that was told to stop and goes on all the same runs no more tasks.
    fn check_stopped(&self) -> Result<(), Error> {
        self.stopped.map_or(Ok(()), |reason| Err(Error::Stopped(reason)))
    }

    fn forget(&mut self, numbers: Vec<u64>) {
        if !numbers.is_empty() {
            self.cluster.forget(numbers);
        }
    }

    /// Ends all ranks with this exit code, after everything that must be told was told.
    pub(super) fn end(self, exit_code: u8) -> u8 {
        let exit_code = self.program.end(exit_code, self.stopped);
        self.cluster.dismiss(exit_code);
        exit_code
    }
}

/// Outputs that were made just now.
#[derive(Default)]
struct Fresh {
    /// The number of each call, by where it lies.
    numbers: HashMap<usize, u64>,
    /// The worker that has each number.
    places: HashMap<u64, Rank>,
}

impl Fresh {
    /// Where the output of a call is, be it made just now or kept, and its number there.
    fn place_of(&self, node: &Arc<Node>) -> (Rank, u64) {
        match node.kept.get() {
            Some(kept) => (kept.worker, kept.number),
            None => {
                let number = self.numbers[&Arc::as_ptr(node).addr()];
                (self.places[&number], number)
            }
        }
    }
}

fn collect(wanted: &impl Computable) -> Vec<Arc<Node>> {
    let mut nodes = Wanted::default();
    wanted.collect(&mut nodes);
    nodes.0
}

fn numbered(asked: &[(Arc<Node>, u64)], tasks: &[TaskId], watch: &Watch) -> HashMap<u64, Rank> {
    asked.iter().zip(tasks).map(|((_, number), task)| (*number, watch.workers[task])).collect()
}
