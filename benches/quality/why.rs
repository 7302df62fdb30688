//! Where the time of a schedule goes: back from the task that ended last, what each waited for.

use super::cluster::{Cluster, Schedule};
use super::recorded::Figures;
use super::workload::Workload;

/// Shares of the last chain of waits, in microseconds.
#[derive(Default)]
struct Shares {
    /// Tasks of the chain ran.
    running_us: u64,
    /// The inputs were made, and nobody had given the task to a worker.
    unassigned_us: u64,
    /// Given to a worker, inputs on their way or cores busy.
    waiting_us: u64,
}

/// Prints both chains of waits beside each other.
pub fn explain(workload: &Workload, cluster: Cluster, figures: &Figures) {
    let (name, best) = figures.best();
    println!("{} on {} x {}:", workload.name, cluster.workers, cluster.cores);
    for (name, schedule) in [("dagmar", &figures.ours), (name, best)] {
        let (shares, chain) = walk(workload, schedule);
        println!(
            "  {name:<8} {:>9.2} s = {:>9.2} running + {:>8.2} unassigned + {:>8.2} waiting; moved {:>8.1} MB, {} tasks in the chain",
            schedule.makespan_us as f64 / 1e6,
            shares.running_us as f64 / 1e6,
            shares.unassigned_us as f64 / 1e6,
            shares.waiting_us as f64 / 1e6,
            schedule.moved_bytes as f64 / 1e6,
            chain.len()
        );
        for task in chain.iter().rev().take(30) {
            let run = schedule.runs[*task];
            println!(
                "      {:<40} worker {:>4} assigned {:>9.3} started {:>9.3} ran {:>9.3} bytes {:>10}",
                workload.graph.key(dagmar::core::id::TaskId(*task as u32)),
                run.worker,
                run.assigned_us as f64 / 1e6,
                run.started_us as f64 / 1e6,
                workload.ran_us[*task] as f64 / 1e6,
                workload.values[*task].iter().map(|&input| workload.bytes[input]).sum::<u64>()
            );
        }
    }
}

/// From the last end back along the input that was made last, or the task on the same worker that
/// ended just before.
fn walk(workload: &Workload, schedule: &Schedule) -> (Shares, Vec<usize>) {
    let end_us = |task: usize| schedule.runs[task].started_us + workload.ran_us[task];
    let mut shares = Shares::default();
    let mut chain = Vec::new();
    let mut next = (0..workload.len()).max_by_key(|&task| end_us(task));
    while let Some(task) = next {
        chain.push(task);
        let run = schedule.runs[task];
        shares.running_us += workload.ran_us[task];
        let made_us = workload.inputs[task].iter().map(|&input| end_us(input)).max().unwrap_or(0);
        let assigned_us = run.assigned_us.max(made_us);
        shares.unassigned_us += assigned_us - made_us;
        shares.waiting_us += run.started_us.saturating_sub(assigned_us);
        next = workload.inputs[task].iter().copied().max_by_key(|&input| end_us(input));
    }
    (shares, chain)
}
