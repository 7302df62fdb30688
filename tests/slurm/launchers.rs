//! Every launcher puts the ranks where they belong: the scheduler beside the first node's workers,
//! all nodes at work.

use crate::harness::{json_lines, require};
use crate::testbed::{Site, hosts_at_work};

const WHERE: &str = "name = \"where\"\n[tasks.a]\neach = { i = \"1..16\" }\nrun = \"hostname; sleep 0.2\"\n";

fn check(arguments: &[&str], hosts: &[&str], workers: usize, cpus: u64) {
    check_on(Site::with(WHERE), arguments, hosts, workers, cpus);
}

fn check_on(site: Option<Site>, arguments: &[&str], hosts: &[&str], workers: usize, cpus: u64) {
    let Some(site) = site else { return };
    site.submit(arguments);
    site.expect(0, &["wait"]);
    let status = site.status();
    assert_eq!(hosts_at_work(&status).len(), hosts.len(), "{status}");
    let list = status["workers"].as_array().expect("workers are listed");
    assert_eq!(list.len(), workers, "{status}");
    assert!(list.iter().all(|worker| worker["cpus"] == cpus), "{status}");
    // Rank 1 sits on the first node, with the scheduler.
    assert_eq!(list[0]["host"], hosts[0], "{status}");
}

#[test]
fn mpirun_puts_a_worker_on_each_node() {
    check(&["-N", "4", "-c", "2", "-t", "2m"], &["n1", "n2", "n3", "n4"], 4, 2);
}

#[test]
fn mpirun_puts_two_workers_on_each_node() {
    check(&["-N", "2", "--workers-per-node", "2", "-t", "2m", "-w", "n[1-2]"], &["n1", "n2"], 4, 1);
}

#[test]
fn srun_puts_a_worker_on_each_node() {
    check(&["-N", "4", "-c", "2", "-t", "2m", "--launcher", "srun"], &["n1", "n2", "n3", "n4"], 4, 2);
}

#[test]
fn srun_puts_two_workers_on_each_node() {
    let nodes =
        ["-N", "2", "--workers-per-node", "2", "-c", "1", "-t", "2m", "-w", "n[2-3]", "--launcher", "srun"];
    check(&nodes, &["n2", "n3"], 4, 1);
}

#[test]
fn one_node_has_its_scheduler_and_its_worker() {
    check(&["-N", "1", "-c", "2", "-t", "2m", "-w", "n4"], &["n4"], 1, 2);
}

#[test]
fn mpich_is_started_by_its_own_launcher() {
    let arguments = ["-N", "4", "-c", "2", "-t", "2m"];
    check_on(Site::with_mpich(WHERE), &arguments, &["n1", "n2", "n3", "n4"], 4, 2);
}

#[test]
fn mpich_is_started_by_srun() {
    let arguments = ["-N", "4", "-c", "2", "-t", "2m", "--launcher", "srun"];
    check_on(Site::with_mpich(WHERE), &arguments, &["n1", "n2", "n3", "n4"], 4, 2);
}

#[test]
fn the_launcher_of_another_mpi_is_refused_in_words() {
    let Some(site) = Site::with(WHERE) else { return };
    site.place.write("wrong.toml", "extends = \"slurm\"\n[launcher]\ncommand = [\"mpiexec.mpich\"]\n");
    site.expect(0, &["submit", "g.toml", "--cluster", "wrong.toml", "-t", "2m"]);
    site.expect(2, &["wait"]);
    let said = site.place.read("dagmar-runs/where-0001/batch.out");
    assert!(
        said.contains("this dagmar is linked with Open MPI, but `mpiexec.mpich` belongs to MPICH"),
        "{said}"
    );
}

#[test]
fn a_torque_script_through_slurms_own_qsub_puts_a_worker_on_each_node() {
    let Some(site) = Site::with(WHERE) else { return };
    require("qsub");
    site.expect(0, &["submit", "g.toml", "--cluster", "torque", "-N", "2", "-c", "2", "-t", "2m"]);
    site.expect(0, &["wait"]);
    let status = site.status();
    assert_eq!(hosts_at_work(&status).len(), 2, "{status}");
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(2), "{status}");
}

/// Four tasks at a time on four GPUs, and eight of them: each tells its node, its GPU and its time.
const GPUS: &str = "name = \"gpus\"\n[tasks.a]\neach = { i = \"1..8\" }\nresources = { gpus = 1 }\n\
    run = \"date +%s%N; sleep 0.5; date +%s%N; hostname; echo gpu $CUDA_VISIBLE_DEVICES\"\n";

#[test]
fn a_gpu_of_slurms_is_never_shared() {
    let Some(site) = Site::with(GPUS) else { return };
    site.submit(&["-N", "2", "-c", "2", "-t", "2m", "-p", "gpu", "--gpus-per-node", "2"]);
    site.expect(0, &["wait"]);
    let logs = site.expect(0, &["logs", "gpus-0001", "a", "--stdout", "--output", "json"]);
    let mut uses: Vec<(String, String, u128, u128)> = Vec::new();
    for line in json_lines(&logs.stdout) {
        let text = line["text"].as_str().expect("a task printed text").to_owned();
        let lines: Vec<&str> = text.lines().collect();
        let [began, ended] = [lines[0], lines[1]].map(|line| line.parse().expect("a time"));
        uses.push((lines[2].to_owned(), lines[3].to_owned(), began, ended));
    }
    assert_eq!(uses.len(), 8, "{logs}");
    let mut devices: Vec<_> = uses.iter().map(|(host, gpu, ..)| (host, gpu)).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 4, "two nodes have two GPUs each: {uses:?}");
    for (place, one) in uses.iter().enumerate() {
        let same = uses[place + 1..].iter().filter(|other| (&one.0, &one.1) == (&other.0, &other.1));
        same.for_each(|other| assert!(one.3 <= other.2 || other.3 <= one.2, "{one:?} {other:?}"));
    }
}
