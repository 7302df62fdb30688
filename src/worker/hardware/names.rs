//! What the allocation calls a node, where the node calls itself something else.
//!
//! Launchers take the names that the batch system knows, and a node may have a full one, with its
//! domain. Its name is also what tells whether two workers share it, so one spelling must do for both.

use super::Hardware;
use super::grant::{is_same_host, short_name};
use super::surroundings::{Surroundings, ThisNode};

/// The batch system's name for the node that calls itself `host`; `host` if it tells none.
pub fn allocated_name(node: &dyn Surroundings, host: &str) -> String {
    let told = match node.variable("SLURM_JOB_ID") {
        Some(_) => slurm_name(node, host),
        None => pbs_name(node, host),
    };
    told.unwrap_or_else(|| host.to_owned())
}

/// A launcher may have copied `SLURMD_NODENAME` from another node. Then the list of nodes shows whether
/// Slurm's names have a domain at all.
fn slurm_name(node: &dyn Surroundings, host: &str) -> Option<String> {
    let list = ["SLURM_JOB_NODELIST", "SLURM_NODELIST"].into_iter().find_map(|name| node.variable(name));
    let told = node.variable("SLURMD_NODENAME").filter(|name| !name.is_empty());
    // The only node of a job may have quite another name.
    let speaks = |name: &String| is_same_host(name, host) || list.as_ref() == Some(name);
    if let Some(name) = told.filter(speaks) {
        return Some(name);
    }
    (!list?.contains('.')).then(|| short_name(host).to_owned())
}

/// Only the first node may have the file.
fn pbs_name(node: &dyn Surroundings, host: &str) -> Option<String> {
    node.variable("PBS_JOBID")?;
    let file = node.text(&node.variable("PBS_NODEFILE")?)?;
    let mut names = file.lines().map(str::trim).filter(|name| is_same_host(name, host));
    let first = names.next()?;
    names.all(|name| name == first).then(|| first.to_owned())
}

/// Gives each node one name, whatever its workers found out. For rank 0, which is on the first node.
pub fn settle(workers: &mut [Hardware]) {
    settle_by(&ThisNode, workers);
}

fn settle_by(node: &dyn Surroundings, workers: &mut [Hardware]) {
    // Slurm tells every node its own name; what rank 0 was told is of its own.
    if node.variable("SLURM_JOB_ID").is_none() {
        for worker in &mut *workers {
            worker.host = pbs_name(node, &worker.host).unwrap_or_else(|| std::mem::take(&mut worker.host));
        }
    }
    let all: Vec<String> = workers.iter().map(|worker| worker.host.clone()).collect();
    for worker in workers {
        let bare = all.iter().find(|name| !name.contains('.') && is_same_host(name, &worker.host));
        if let Some(name) = bare {
            worker.host.clone_from(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::Described;
    use super::*;

    fn slurm(entries: &[(&str, &str)]) -> String {
        let node = Described::new(&[("SLURM_JOB_ID", "7"), ("SLURM_JOB_NODELIST", "n[1-4]")]).with(entries);
        allocated_name(&node, "n4.site.org")
    }

    fn settled(node: &Described, hosts: &[&str]) -> Vec<String> {
        let worker = |host: &&str| Hardware { host: (*host).to_owned(), ..Hardware::default() };
        let mut workers: Vec<Hardware> = hosts.iter().map(worker).collect();
        settle_by(node, &mut workers);
        workers.into_iter().map(|worker| worker.host).collect()
    }

    #[test]
    fn a_node_with_a_domain_is_called_what_slurm_calls_it() {
        assert_eq!(slurm(&[("SLURMD_NODENAME", "n4")]), "n4");
        assert_eq!(slurm(&[("SLURMD_NODENAME", "N4")]), "N4");
        assert_eq!(slurm(&[]), "n4");
        assert_eq!(slurm(&[("SLURM_JOB_NODELIST", "n[1-4].site.org")]), "n4.site.org");
    }

    #[test]
    fn a_name_that_was_copied_from_another_node_is_not_taken() {
        assert_eq!(slurm(&[("SLURMD_NODENAME", "n1")]), "n4");
        let full = [("SLURMD_NODENAME", "n1.site.org"), ("SLURM_JOB_NODELIST", "n[1-4].site.org")];
        assert_eq!(slurm(&full), "n4.site.org");
        let only = [("SLURMD_NODENAME", "gpu-01"), ("SLURM_JOB_NODELIST", "gpu-01")];
        assert_eq!(slurm(&only), "gpu-01", "the job has no other node");
    }

    #[test]
    fn a_node_is_called_what_the_node_file_of_pbs_calls_it() {
        let pbs = Described::new(&[
            ("PBS_JOBID", "0.server"),
            ("PBS_NODEFILE", "/var/aux/0"),
            ("/var/aux/0", "m1\nm1\nm2.site\nm3.a\nm3.b\n"),
        ]);
        let names = ["m1.site", "m1", "m2", "m3.c", "m9.site"].map(|host| allocated_name(&pbs, host));
        assert_eq!(names, ["m1", "m1", "m2.site", "m3.c", "m9.site"]);
        assert_eq!(settled(&pbs, &["m1.site", "m2"]), ["m1", "m2.site"], "the other nodes have no file");
        assert_eq!(allocated_name(&Described::default(), "m1.site"), "m1.site");
    }

    #[test]
    fn two_spellings_are_one_node_and_two_domains_are_two() {
        let none = Described::default();
        assert_eq!(settled(&none, &["n1.site", "n1", "n2.site"]), ["n1", "n1", "n2.site"]);
        assert_eq!(settled(&none, &["n1.a", "n1.b"]), ["n1.a", "n1.b"]);
    }
}
