//! Which task next? One graph in four orders: how long it takes, and how much memory outputs need meanwhile.

use serde_json::json;

use dagmar::client::formats::make::{Shape, Size};
use dagmar::core::scheduler::Precedence;

use super::Request;
use super::cluster::Cluster;
use super::machines;
use super::network::Links;
use super::workload::Workload;

const ORDERS: [(&str, Precedence); 4] = [
    ("longest path", Precedence::LongestPath),
    ("depth first", Precedence::DepthFirst),
    ("submission", Precedence::Submission),
    ("random", Precedence::Random(1)),
];
/// The output of every task.
const BYTES: u64 = 64 << 20;

/// A reduction two by two, the first problem of everybody who adds up more than fits: 64 MiB a task,
/// a second each, on four workers of four cores with 10 Gbit/s between them.
pub fn which_next(request: &Request) {
    let width = if request.is_small { 64 } else { 1024 };
    let workload = Workload::made(Shape::Tree, Size { width, steps: 1, seed: 0 }, 1_000_000, BYTES);
    let links = Links { bytes_per_us: 1250.0, latency_us: 50 };
    let cluster = Cluster { workers: 4, cores: 4, links };
    if !request.is_json {
        println!("\nwhich task next? {}, 64 MiB an output, 4 workers of 4 cores", workload.name);
        println!("{:<14} {:>12} {:>14} {:>12}", "order", "makespan s", "outputs MiB", "moved MiB");
    }
    for (name, precedence) in ORDERS {
        let schedule =
            machines::play(&workload, cluster, machines::options(cluster.workers, precedence), false);
        let (makespan_s, mib) = (schedule.makespan_us as f64 / 1e6, |bytes: u64| bytes >> 20);
        let (live, moved) = (mib(schedule.live_bytes_max), mib(schedule.moved_bytes));
        match request.is_json {
            true => println!(
                "{}",
                json!({
                    "bench": "quality", "part": "order", "graph": workload.name, "order": name,
                    "makespan_s": makespan_s, "live_bytes_max": schedule.live_bytes_max,
                    "moved_bytes": schedule.moved_bytes,
                })
            ),
            false => println!("{name:<14} {makespan_s:>12.1} {live:>14} {moved:>12}"),
        }
    }
}
