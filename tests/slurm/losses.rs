//! Ranks, steps and nodes that are lost while a run goes on: it ends well in the same allocation.

use std::time::Duration;

use crate::harness::until_within;
use crate::testbed::{Site, beginnings, field, hosts_at_work};

/// Four nodes with a core each do forty tasks of three seconds, and outputs go between them.
const FORTY: &str = r#"
name = "forty"
[tasks.a]
each = { i = "1..40" }
run = "echo {i} >> began; sleep 3; seq {i}"
[tasks.count]
each = { i = "1..40" }
call = "len"
args = ["@block[{i}]"]
[tasks.block]
each = { i = "1..40" }
call = "range"
args = [20000]
[tasks.sum]
call = "sum"
args = ["@count"]
"#;

#[test]
fn a_killed_worker_of_four_nodes_costs_no_run() {
    let Some(site) = Site::alone_with(FORTY, 4) else { return };
    check_loss_on(&site, 4, 40, "mpirun", |site, _| site.kill_rank(3));
    assert_eq!(hosts_at_work(&site.status()).len(), 4, "every node can be used again");
}

#[test]
fn a_lost_node_of_four_costs_no_run_under_mpirun() {
    check_lost_node("mpirun", "n3");
}

#[test]
fn a_lost_node_of_four_costs_no_run_under_srun() {
    check_lost_node("srun", "n4");
}

fn check_lost_node(launcher: &str, node: &str) {
    let Some(site) = Site::alone_with(FORTY, 4) else { return };
    check_loss_on(&site, 4, 40, launcher, |site, _| site.crash(node));
    let said = site.place.read("dagmar-runs/forty-0001/batch.out");
    assert!(said.contains(&format!("node `{node}` is left out")), "{said}");
    assert_eq!(said.matches("is left out").count(), 1, "{said}");
    let hosts = hosts_at_work(&site.status());
    assert_eq!(hosts.len(), 3, "{hosts:?}");
}

#[test]
fn a_killed_worker_costs_no_run_under_mpirun() {
    check_loss("mpirun", |site, _| site.kill_rank(2));
}

#[test]
fn a_killed_worker_costs_no_run_under_srun() {
    check_loss("srun", |site, _| site.kill_rank(2));
}

#[test]
fn a_killed_step_costs_no_run_under_mpirun() {
    check_loss("mpirun", kill_step);
}

#[test]
fn a_killed_step_costs_no_run_under_srun() {
    check_loss("srun", kill_step);
}

/// The last step of a job is the one with the ranks.
fn kill_step(site: &Site, job: &str) {
    let steps = site.slurm(&["squeue", "-h", "-s", "-j", job, "-o", "%i"]);
    let mut own =
        steps.text().lines().map(str::trim).filter(|step| step.ends_with(|c: char| c.is_ascii_digit()));
    let step = own.next_back().unwrap_or_else(|| panic!("the ranks are in a step: {steps}"));
    let killed = site.slurm(&["scancel", "--signal=KILL", step]);
    assert_eq!(killed.code(), Some(0), "{killed}");
}

const EIGHT: &str =
    "name = \"eight\"\n[tasks.a]\neach = { i = \"1..8\" }\nrun = \"echo {i} >> began; sleep 4; echo {i}\"\n";

fn check_loss(launcher: &str, strike: impl Fn(&Site, &str)) {
    if let Some(site) = Site::with(EIGHT) {
        check_loss_on(&site, 2, 8, launcher, strike);
    }
}

/// The run of so many tasks ends well in the same allocation, and nothing durable is repeated.
fn check_loss_on(site: &Site, nodes: u32, tasks: u32, launcher: &str, strike: impl Fn(&Site, &str)) {
    let job = site.submit(&["-t", "8m", "-N", &nodes.to_string(), "-c", "1", "--launcher", launcher]);
    site.await_tasks("finished", u64::from(nodes));
    strike(site, &job);
    site.expect(0, &["wait"]).tells("finished, 0 failed; exit code 0");
    let counts = beginnings(site);
    let all: u32 = counts.values().sum();
    // Each core had a command, and may have begun another before the blow fell.
    assert!(counts.len() == tasks as usize && all <= tasks + 2 * nodes && counts["1"] == 1, "{counts:?}");
    until_within(Duration::from_secs(60), "the job is over", || {
        let state = field(site, &job, "JobState");
        if state == "COMPLETED" { Ok(()) } else { Err(state) }
    });
    assert_eq!(field(site, &job, "Restarts"), "0");
}
