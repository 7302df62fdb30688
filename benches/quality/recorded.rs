//! Recorded executions on clusters of 1 to 1024 cores: dagmar against three other schedulers and a bound.

use std::collections::BTreeMap;

use serde_json::json;

use dagmar::core::scheduler::Precedence;

use super::Request;
use super::cluster::{Cluster, Schedule};
use super::machines;
use super::network::Links;
use super::policies::{ByLevel, Heft, Stealing};
use super::reference;
use super::table::Ratios;
use super::why;
use super::workload::{Knowledge, Workload, recordings};

/// Cores of a worker: one, where every dependency may cross the network; four, a small node or a
/// NUMA domain; 24, a batch node of the time of the recordings.
const CORES_EACH: [u32; 3] = [1, 4, 24];
/// Gigabit Ethernet, and ten times that: beyond it, moving these files costs next to nothing.
const BANDWIDTHS: [(&str, f64); 2] = [("1 Gbit/s", 125.0), ("10 Gbit/s", 1250.0)];
/// One way through a cluster's network and the layers above it.
const LATENCY_US: u64 = 50;
const CORES_MAX: u32 = 1024;
/// A case that is worse than the best of the others by more than this is named.
const NOTABLE: f64 = 1.15;

/// One recording on one cluster.
struct Case<'a> {
    workload: &'a Workload,
    cluster: Cluster,
    bandwidth: &'static str,
    knowledge: Knowledge,
}

/// What came of it, in microseconds.
pub struct Figures {
    pub ours: Schedule,
    pub by_level: Schedule,
    pub heft: Schedule,
    pub stealing: Schedule,
    pub bound_us: u64,
}

impl Figures {
    /// The shortest of the others.
    pub fn best(&self) -> (&'static str, &Schedule) {
        let others = [("b-level", &self.by_level), ("HEFT", &self.heft), ("stealing", &self.stealing)];
        others.into_iter().min_by_key(|(_, schedule)| schedule.makespan_us).expect("there are three")
    }
}

/// Plays everything and prints what came of it.
pub fn compare(request: &Request) {
    let workloads = recordings(request.is_small, request.knowledge);
    let asked = request.recordings();
    let workloads = workloads
        .iter()
        .filter(|workload| asked.is_empty() || asked.iter().any(|name| workload.name.contains(name)));
    let mut summary = Summary::default();
    for workload in workloads {
        for case in cases(workload, request) {
            let figures = play(&case);
            if request.is_json {
                println!("{}", line(&case, &figures));
            }
            let (_, best) = figures.best();
            if request.is_why && figures.ours.makespan_us as f64 > best.makespan_us as f64 * 1.05 {
                why::explain(case.workload, case.cluster, &figures);
            }
            summary.add(&case, &figures);
        }
    }
    if !request.is_json {
        summary.print();
    }
}

fn cases<'a>(workload: &'a Workload, request: &Request) -> Vec<Case<'a>> {
    let mut cases = Vec::new();
    for (bandwidth, bytes_per_us) in BANDWIDTHS {
        let links = Links { bytes_per_us, latency_us: LATENCY_US };
        for cores in CORES_EACH {
            let mut workers = 1;
            while workers * cores <= if request.is_small { 64 } else { CORES_MAX } {
                let cluster = Cluster { workers: workers as usize, cores, links };
                cases.push(Case { workload, cluster, bandwidth, knowledge: request.knowledge });
                workers *= 2;
            }
        }
    }
    cases
}

fn play(case: &Case<'_>) -> Figures {
    let (workload, cluster) = (case.workload, case.cluster);
    Figures {
        ours: machines::play(
            workload,
            cluster,
            machines::options(cluster.workers, Precedence::default()),
            false,
        ),
        by_level: reference::play(workload, cluster, &mut ByLevel::new(workload)),
        heft: reference::play(workload, cluster, &mut Heft::new(workload, cluster)),
        stealing: reference::play(workload, cluster, &mut Stealing::new(cluster, 1)),
        bound_us: workload.bound_us(cluster.cores_in_all()),
    }
}

fn line(case: &Case<'_>, figures: &Figures) -> serde_json::Value {
    let seconds = |schedule: &Schedule| schedule.makespan_us as f64 / 1e6;
    json!({
        "bench": "quality", "part": "recorded", "told": case.knowledge == Knowledge::Told, "graph": case.workload.name, "tasks": case.workload.len(),
        "workers": case.cluster.workers, "cores_each": case.cluster.cores, "network": case.bandwidth,
        "dagmar_s": seconds(&figures.ours), "blevel_s": seconds(&figures.by_level),
        "heft_s": seconds(&figures.heft), "stealing_s": seconds(&figures.stealing),
        "bound_s": figures.bound_us as f64 / 1e6,
        "moved_bytes": figures.ours.moved_bytes, "best_moved_bytes": figures.best().1.moved_bytes,
        "deciding_s": figures.ours.deciding.as_secs_f64(),
    })
}

#[derive(Default)]
struct Summary {
    by_graph: BTreeMap<String, Row>,
    by_cluster: BTreeMap<(&'static str, u32), Row>,
    all: Row,
    notable: Vec<(f64, String)>,
}

/// Ours and the others' figures: ours to the best of the others, and everything to the bound.
#[derive(Default)]
struct Row {
    to_best: Ratios,
    to_bound: [Ratios; 4],
}

impl Row {
    fn add(&mut self, figures: &Figures) {
        self.to_best.add(figures.ours.makespan_us, figures.best().1.makespan_us);
        let all = [&figures.ours, &figures.by_level, &figures.heft, &figures.stealing];
        for (ratios, schedule) in self.to_bound.iter_mut().zip(all) {
            ratios.add(schedule.makespan_us, figures.bound_us);
        }
    }

    fn print(&self, name: &str) {
        let [ours, by_level, heft, stealing] = self.to_bound.each_ref().map(Ratios::mean);
        println!(
            "{name:<40} | {:>6.3} {:>6.3} {:>6.3} | {ours:>7.3} {by_level:>7.3} {heft:>7.3} {stealing:>8.3}",
            self.to_best.mean(),
            self.to_best.total(),
            self.to_best.worst()
        );
    }
}

impl Summary {
    fn add(&mut self, case: &Case<'_>, figures: &Figures) {
        let cluster = (case.bandwidth, case.cluster.cores);
        self.by_graph.entry(case.workload.name.clone()).or_default().add(figures);
        self.by_cluster.entry(cluster).or_default().add(figures);
        self.all.add(figures);
        let (name, best) = figures.best();
        let ratio = figures.ours.makespan_us as f64 / best.makespan_us.max(1) as f64;
        if ratio > NOTABLE {
            let (ours, best) = (figures.ours.makespan_us as f64 / 1e6, best.makespan_us as f64 / 1e6);
            let Cluster { workers, cores, .. } = case.cluster;
            let (graph, bandwidth) = (&case.workload.name, case.bandwidth);
            let bound = figures.bound_us as f64 / 1e6;
            self.notable.push((
                ratio,
                format!("{graph} {workers} x {cores}, {bandwidth}: {ours:.1} s, {name} {best:.1}, bound {bound:.1}"),
            ));
        }
    }

    fn print(mut self) {
        println!(
            "makespans                                | to the best of 3     | to the bound, geometric mean"
        );
        println!(
            "{:<40} | {:>6} {:>6} {:>6} | {:>7} {:>7} {:>7} {:>8}",
            "", "mean", "sums", "worst", "dagmar", "b-level", "HEFT", "stealing"
        );
        self.by_graph.iter().for_each(|(name, row)| row.print(name));
        println!();
        self.by_cluster
            .iter()
            .for_each(|((link, cores), row)| row.print(&format!("{link}, {cores} cores each")));
        println!();
        self.all.print("all");
        self.notable.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!("{} of {} cases are worse than {NOTABLE}", self.notable.len(), self.all.to_best.count());
        self.notable.iter().take(40).for_each(|(ratio, case)| println!("  {ratio:.2}  {case}"));
    }
}
