//! Schedulers written to compare with, on the same cluster: what each would reach if deciding and
//! telling cost nothing. They know every run time and every size beforehand.
//!
//! A worker fetches the inputs of everything assigned to it at once, each from the worker that made it, and
//! starts what is complete by rank. Tasks take one core, as all recorded ones do.

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::{Agenda, Cluster, Run, Schedule};
use super::network::Network;
use super::workload::Workload;

/// A way to schedule: told what happened, it gives tasks to workers.
pub trait Policy {
    /// Something changed: assign what should be assigned.
    fn decide(&mut self, state: &mut State<'_>);
}

/// What a policy sees, and its hands.
pub struct State<'a> {
    pub workload: &'a Workload,
    pub cluster: Cluster,
    /// Tasks whose inputs are all finished and that nobody has, oldest first.
    pub ready: Vec<usize>,
    /// Where each task is or was, once it was assigned.
    pub place_of: Vec<Option<usize>>,
    /// Tasks of each worker that have not ended.
    pub assigned: Vec<usize>,
    now_us: u64,
    assignments: Vec<(usize, usize, u64)>,
}

impl State<'_> {
    /// Gives a task to a worker; of those complete there, the one of the least rank starts first.
    pub fn assign(&mut self, task: usize, worker: usize, rank: u64) {
        debug_assert!(self.place_of[task].is_none(), "a task is assigned once");
        self.place_of[task] = Some(worker);
        self.assigned[worker] += 1;
        self.assignments.push((task, worker, rank));
    }

    /// Cores of a worker that nothing is assigned to.
    pub fn free_cores(&self, worker: usize) -> usize {
        (self.cluster.cores as usize).saturating_sub(self.assigned[worker])
    }
}

/// Plays a workload to its end.
pub fn play(workload: &Workload, cluster: Cluster, policy: &mut dyn Policy) -> Schedule {
    let mut world = World::new(workload, cluster);
    world.play(policy);
    assert_eq!(world.ended, workload.len(), "every task ends");
    world.schedule
}

enum Occurrence {
    Ended { task: usize, worker: usize },
    Arrived { task: usize, worker: usize },
}

struct World<'a> {
    state: State<'a>,
    agenda: Agenda<Occurrence>,
    network: Network<(usize, usize)>,
    /// Inputs that are not finished.
    unmet: Vec<usize>,
    is_ended: Vec<bool>,
    ended: usize,
    workers: Vec<Node>,
    schedule: Schedule,
}

/// One worker.
#[derive(Default)]
struct Node {
    running: u32,
    held: BTreeSet<usize>,
    /// Who waits for an output: under way, or not made yet.
    awaited: BTreeMap<usize, Vec<usize>>,
    /// Inputs that tasks here still lack, and their rank.
    lacking: BTreeMap<usize, (usize, u64)>,
    startable: BTreeSet<(u64, usize)>,
}

impl<'a> World<'a> {
    fn new(workload: &'a Workload, cluster: Cluster) -> Self {
        let unmet: Vec<usize> = workload.inputs.iter().map(Vec::len).collect();
        let ready = (0..workload.len()).filter(|&task| unmet[task] == 0).collect();
        let (now_us, assignments) = (0, Vec::new());
        let (place_of, assigned) = (vec![None; workload.len()], vec![0; cluster.workers]);
        World {
            state: State { workload, cluster, ready, place_of, assigned, now_us, assignments },
            agenda: Agenda::new(),
            network: Network::new(cluster.links),
            unmet,
            is_ended: vec![false; workload.len()],
            ended: 0,
            workers: (0..cluster.workers).map(|_| Node::default()).collect(),
            schedule: Schedule { runs: vec![Run::default(); workload.len()], ..Schedule::default() },
        }
    }

    fn play(&mut self, policy: &mut dyn Policy) {
        loop {
            policy.decide(&mut self.state);
            for (task, worker, rank) in std::mem::take(&mut self.state.assignments) {
                self.accept(task, worker, rank);
            }
            let next = [self.agenda.next_us(), self.network.next_end_us()].into_iter().flatten().min();
            let Some(now_us) = next else { return };
            self.state.now_us = now_us;
            for (task, worker) in self.network.take_ended(now_us) {
                self.on_arrived(task, worker);
            }
            while let Some(occurrence) = self.agenda.take_at(now_us) {
                match occurrence {
                    Occurrence::Ended { task, worker } => self.on_ended(task, worker),
                    Occurrence::Arrived { task, worker } => self.on_arrived(task, worker),
                }
            }
        }
    }

    /// A task came to a worker: fetch what it needs.
    fn accept(&mut self, task: usize, worker: usize, rank: u64) {
        let workload = self.state.workload;
        self.schedule.runs[task].worker = worker;
        self.schedule.runs[task].assigned_us = self.state.now_us;
        let mut lacking = 0;
        for &input in &workload.inputs[task] {
            let takes_value = workload.values[task].contains(&input);
            let is_here = self.workers[worker].held.contains(&input);
            if is_here || (self.is_ended[input] && !takes_value) {
                continue;
            }
            lacking += 1;
            let waiting = self.workers[worker].awaited.entry(input).or_default();
            waiting.push(task);
            if waiting.len() == 1 && self.is_ended[input] {
                self.fetch(input, worker);
            }
        }
        let node = &mut self.workers[worker];
        match lacking {
            0 => drop(node.startable.insert((rank, task))),
            _ => drop(node.lacking.insert(task, (lacking, rank))),
        }
        self.start(worker);
    }

    fn fetch(&mut self, input: usize, worker: usize) {
        let owner = self.state.place_of[input].expect("what ended was assigned");
        let links = self.state.cluster.links;
        // Waiting for a task without taking its value moves nothing.
        let takes = |task: &usize| self.state.workload.values[*task].contains(&input);
        let is_taken = self.workers[worker].awaited[&input].iter().any(takes);
        let bytes = if is_taken { self.state.workload.bytes[input] } else { 0 };
        self.schedule.moved_bytes += bytes;
        match links.is_small(bytes) {
            true => {
                let at_us = self.state.now_us + links.alone_us(bytes);
                self.agenda.enter(at_us, Occurrence::Arrived { task: input, worker });
            }
            false => self.network.begin(self.state.now_us, owner, worker, bytes, (input, worker)),
        }
    }

    fn on_ended(&mut self, task: usize, worker: usize) {
        self.is_ended[task] = true;
        self.ended += 1;
        self.schedule.makespan_us = self.state.now_us;
        self.state.assigned[worker] -= 1;
        self.workers[worker].running -= 1;
        self.on_arrived(task, worker);
        for other in 0..self.workers.len() {
            if other != worker && self.workers[other].awaited.contains_key(&task) {
                self.fetch(task, other);
            }
        }
        let workload = self.state.workload;
        for &dependent in &workload.dependents[task] {
            self.unmet[dependent] -= 1;
            if self.unmet[dependent] == 0 && self.state.place_of[dependent].is_none() {
                self.state.ready.push(dependent);
            }
        }
    }

    /// An output is at a worker.
    fn on_arrived(&mut self, task: usize, worker: usize) {
        let node = &mut self.workers[worker];
        node.held.insert(task);
        for waiting in node.awaited.remove(&task).unwrap_or_default() {
            let (lacking, rank) = node.lacking.get_mut(&waiting).expect("who waits lacks something");
            *lacking -= 1;
            if *lacking == 0 {
                node.startable.insert((*rank, waiting));
                node.lacking.remove(&waiting);
            }
        }
        self.start(worker);
    }

    fn start(&mut self, worker: usize) {
        let node = &mut self.workers[worker];
        while node.running < self.state.cluster.cores {
            let Some((_, task)) = node.startable.pop_first() else { return };
            node.running += 1;
            self.schedule.runs[task].started_us = self.state.now_us;
            let ends_us = self.state.now_us + self.state.workload.ran_us[task];
            self.agenda.enter(ends_us, Occurrence::Ended { task, worker });
        }
    }
}
