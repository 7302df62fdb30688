//! The three reference schedulers: list scheduling by b-level, HEFT, and random work stealing.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};

use super::cluster::Cluster;
use super::reference::{Policy, State};
use super::workload::Workload;

/// List scheduling: whenever a core is free, the ready task with the longest way to an exit goes to
/// the worker with a free core that lacks the fewest bytes of its inputs.
pub struct ByLevel {
    levels_us: Vec<u64>,
}

impl ByLevel {
    pub fn new(workload: &Workload) -> Self {
        ByLevel { levels_us: workload.levels_us() }
    }
}

impl Policy for ByLevel {
    fn decide(&mut self, state: &mut State<'_>) {
        let mut ready = std::mem::take(&mut state.ready);
        ready.sort_by_key(|&task| (Reverse(self.levels_us[task]), task));
        let mut free: BTreeSet<usize> =
            (0..state.cluster.workers).filter(|&worker| state.free_cores(worker) > 0).collect();
        let mut rest = ready.into_iter();
        while !free.is_empty() {
            let Some(task) = rest.next() else { break };
            let worker = most_held(state, task, &free);
            state.assign(task, worker, u64::MAX - self.levels_us[task]);
            if state.free_cores(worker) == 0 {
                free.remove(&worker);
            }
        }
        state.ready = rest.collect();
    }
}

/// Of these workers, the one that made the most bytes of a task's inputs; the idlest of those alike.
fn most_held(state: &State<'_>, task: usize, among: &BTreeSet<usize>) -> usize {
    let mut held: Vec<(usize, u64)> = Vec::new();
    for &input in &state.workload.values[task] {
        let owner = state.place_of[input].expect("inputs of a ready task were assigned");
        match held.iter_mut().find(|(worker, _)| *worker == owner) {
            Some((_, bytes)) => *bytes += state.workload.bytes[input],
            None => held.push((owner, state.workload.bytes[input])),
        }
    }
    let bytes =
        |worker: usize| held.iter().find(|(owner, _)| *owner == worker).map_or(0, |(_, bytes)| *bytes);
    let best = among
        .iter()
        .copied()
        .max_by_key(|&worker| (bytes(worker), state.free_cores(worker), Reverse(worker)));
    best.expect("one worker is free")
}

/// Heterogeneous earliest finish time: the whole plan is made before anything runs, as if links were empty.
pub struct Heft {
    /// Where each task shall run and when it shall start; taken by the first decision.
    plan: Vec<(usize, u64)>,
}

impl Heft {
    pub fn new(workload: &Workload, cluster: Cluster) -> Self {
        let elsewhere = 1.0 - 1.0 / cluster.workers as f64;
        let move_us = |input: usize, task: usize| match workload.values[task].contains(&input) {
            true => cluster.links.alone_us(workload.bytes[input]),
            false => cluster.links.latency_us,
        };
        let mean_us = |input: usize, task: usize| (move_us(input, task) as f64 * elsewhere) as u64;
        let ranks = workload.levels_us_with(mean_us);
        let mut order: Vec<usize> = workload.graph.topological_order().map(|task| task.index()).collect();
        // Stable: of equal ranks, inputs stay before their dependents.
        order.sort_by_key(|&task| Reverse(ranks[task]));
        let mut plan = Plan::new(workload, cluster);
        order.into_iter().for_each(|task| plan.add(task, move_us));
        Heft { plan: plan.places }
    }
}

impl Policy for Heft {
    fn decide(&mut self, state: &mut State<'_>) {
        state.ready.clear();
        for (task, (worker, starts_us)) in std::mem::take(&mut self.plan).into_iter().enumerate() {
            state.assign(task, worker, starts_us);
        }
    }
}

struct Plan<'a> {
    workload: &'a Workload,
    cores: Vec<Vec<(u64, u64)>>,
    cores_each: usize,
    places: Vec<(usize, u64)>,
}

impl<'a> Plan<'a> {
    fn new(workload: &'a Workload, cluster: Cluster) -> Self {
        let cores_each = cluster.cores as usize;
        let cores = vec![Vec::new(); cluster.workers * cores_each];
        Plan { workload, cores, cores_each, places: vec![(0, 0); workload.len()] }
    }

    /// Places a task where it ends first; gaps between planned tasks may be filled.
    fn add(&mut self, task: usize, move_us: impl Fn(usize, usize) -> u64) {
        let ran_us = self.workload.ran_us[task];
        let workers = self.cores.len() / self.cores_each;
        let ready_us = self.ready_us(task, workers, move_us);
        let starts = (0..self.cores.len())
            .map(|core| (gap_us(&self.cores[core], ready_us[core / self.cores_each], ran_us), core));
        let (starts_us, core) = starts.min().expect("a cluster has cores");
        let place = self.cores[core].partition_point(|&(start, _)| start < starts_us);
        self.cores[core].insert(place, (starts_us, starts_us + ran_us));
        self.places[task] = (core / self.cores_each, starts_us);
    }

    /// When all inputs of a task can be at each worker.
    fn ready_us(&self, task: usize, workers: usize, move_us: impl Fn(usize, usize) -> u64) -> Vec<u64> {
        let mut ready_us = vec![0; workers];
        for &input in &self.workload.inputs[task] {
            let (owner, started_us) = self.places[input];
            let made_us = started_us + self.workload.ran_us[input];
            let there_us = made_us + move_us(input, task);
            for (worker, ready_us) in ready_us.iter_mut().enumerate() {
                *ready_us = (*ready_us).max(if worker == owner { made_us } else { there_us });
            }
        }
        ready_us
    }
}

/// The first time from `from_us` on at which a core has room for `ran_us`.
fn gap_us(busy: &[(u64, u64)], from_us: u64, ran_us: u64) -> u64 {
    let mut at_us = from_us;
    let first = busy.partition_point(|&(_, end)| end <= from_us);
    for &(start, end) in &busy[first..] {
        if at_us + ran_us <= start {
            break;
        }
        at_us = at_us.max(end);
    }
    at_us
}

/// Random work stealing: what becomes ready stays with the worker of its last input, newest first; an idle
/// worker takes the oldest of a worker that chance names.
pub struct Stealing {
    queues: Vec<VecDeque<usize>>,
    chance: fastrand::Rng,
    started: u64,
}

impl Stealing {
    pub fn new(cluster: Cluster, seed: u64) -> Self {
        let queues = vec![VecDeque::new(); cluster.workers];
        Stealing { queues, chance: fastrand::Rng::with_seed(seed), started: 0 }
    }

    fn take(&mut self, worker: usize, full: &[usize]) -> Option<usize> {
        if let Some(own) = self.queues[worker].pop_back() {
            return Some(own);
        }
        let victims: Vec<usize> =
            full.iter().copied().filter(|&other| !self.queues[other].is_empty()).collect();
        let victim = *self.chance.choice(&victims)?;
        self.queues[victim].pop_front()
    }
}

impl Policy for Stealing {
    fn decide(&mut self, state: &mut State<'_>) {
        for task in std::mem::take(&mut state.ready) {
            let last = state.workload.inputs[task].last().and_then(|&input| state.place_of[input]);
            let worker = last.unwrap_or_else(|| self.chance.usize(0..state.cluster.workers));
            self.queues[worker].push_back(task);
        }
        // Workers with work of their own come first, or others would take it from under them.
        let mut idle: Vec<usize> = (0..state.cluster.workers).filter(|&w| state.free_cores(w) > 0).collect();
        idle.sort_by_key(|&worker| self.queues[worker].is_empty());
        let full: Vec<usize> = (0..self.queues.len()).filter(|&w| !self.queues[w].is_empty()).collect();
        for worker in idle {
            while state.free_cores(worker) > 0 {
                let Some(task) = self.take(worker, &full) else { break };
                self.started += 1;
                state.assign(task, worker, self.started);
            }
        }
    }
}
