//! Many workers at once: how busy they are, and how busy rank 0 is.

use serde_json::json;

use dagmar::client::formats::make::{Shape, Size};
use dagmar::core::scheduler::Precedence;

use super::Request;
use super::cluster::Cluster;
use super::machines;
use super::network::Links;
use super::workload::Workload;

/// Tasks of a second on workers of one core, by the thousand; rank 0 takes the time that its decisions take.
pub fn many_workers(request: &Request) {
    let (workers, each) = if request.is_small { (20, 10) } else { (10_000, 100) };
    let size = Size { width: workers * each, steps: 1, seed: 0 };
    let workload = Workload::made(Shape::Trivial, size, 1_000_000, 0);
    let links = Links { bytes_per_us: 1250.0, latency_us: 50 };
    let cluster = Cluster { workers: workers as usize, cores: 1, links };
    let schedule =
        machines::play(&workload, cluster, machines::options(cluster.workers, Precedence::default()), true);
    let makespan_us = schedule.makespan_us as f64;
    let work_us: u64 = workload.ran_us.iter().sum();
    let utilisation = work_us as f64 / cluster.cores_in_all() as f64 / makespan_us;
    let busy = schedule.deciding.as_secs_f64() * 1e6 / makespan_us;
    match request.is_json {
        true => println!(
            "{}",
            json!({
                "bench": "quality", "part": "many", "workers": workers, "tasks": workload.len(),
                "makespan_s": makespan_us / 1e6, "utilisation": utilisation, "rank_0_busy": busy,
            })
        ),
        false => println!(
            "\n{workers} workers, {} tasks of 1 s: {:.3} s, utilisation {:.2} %, rank 0 busy {:.2} % ({:.2} us a task)",
            workload.len(),
            makespan_us / 1e6,
            utilisation * 100.0,
            busy * 100.0,
            schedule.deciding.as_secs_f64() * 1e6 / workload.len() as f64
        ),
    }
}
