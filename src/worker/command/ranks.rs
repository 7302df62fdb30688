//! What an MPI program is told, so that its own launcher starts the right ranks on the right nodes.
//!
//! A plain `mpirun ./prog`, `mpiexec ./prog` or `srun ./prog` takes what the batch system's variables say
//! was granted. The variables here say instead that it was granted the nodes of this task, with as many
//! places as there are ranks, and name a file with a line for each rank. No rank is bound: a launcher
//! would count cores from the first, where other tasks may run.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::event::Cause;
use crate::core::launch_variables::PMIX_DIRECT_CONNECTIONS;
use crate::core::task::Ranks;
use crate::worker::executor::{Job, RankPlaces};

/// The file that names the node of each rank. Dropping it removes it.
pub struct Hostfile {
    path: PathBuf,
}

impl Hostfile {
    /// Writes the file of an attempt; none if its ranks are nobody's business here.
    pub fn write(job: &Job) -> Result<Option<Self>, Cause> {
        let Some((ranks, places)) = job_ranks(job) else { return Ok(None) };
        let path = &places.hostfile;
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = parent.and_then(|()| fs::write(path, lines(ranks, &places.hosts)));
        written.map_err(|error| not_written(path, &error))?;
        Ok(Some(Hostfile { path: path.clone() }))
    }
}

impl Drop for Hostfile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Cores of each rank of an MPI program, and of any other program as a whole.
pub fn cpus_each(job: &Job) -> u32 {
    let options = job.graph.options(job.task);
    options.ranks.map_or(options.resources.cpus, |ranks| ranks.cpus)
}

/// The variables for the program and its launcher; none for other programs.
pub fn environment(job: &Job) -> Vec<(String, String)> {
    let Some((ranks, places)) = job_ranks(job) else { return Vec::new() };
    let hostfile = places.hostfile.to_string_lossy().into_owned();
    let mut variables = vec![
        ("DAGMAR_NODES", ranks.nodes.to_string()),
        ("DAGMAR_RANKS", ranks.count.to_string()),
        ("DAGMAR_HOSTS", places.hosts.join(",")),
        ("DAGMAR_HOSTFILE", hostfile.clone()),
        ("HYDRA_HOST_FILE", hostfile.clone()),
        ("OMPI_MCA_hwloc_base_binding_policy", "none".to_owned()),
        ("PRTE_MCA_hwloc_default_binding_policy", "none".to_owned()),
    ];
    let is_set = |name: &str| env::var_os(name).is_some();
    if is_set("SLURM_JOB_ID") {
        variables.extend(slurm_variables(ranks, places, &is_set));
    } else {
        variables.push(("OMPI_MCA_orte_default_hostfile", hostfile.clone()));
        variables.push(("PRTE_MCA_prte_default_hostfile", hostfile.clone()));
    }
    if is_set("PBS_NODEFILE") {
        // Open MPI does not read the file that is named, but one beside it.
        variables.push(("OMPI_MCA_ras", "^tm".to_owned()));
        variables.push(("PRTE_MCA_ras", "^pbs".to_owned()));
        variables.push(("PBS_NODEFILE", hostfile));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// An allocation of the task's nodes for `mpirun`, and what makes `srun` start the ranks beside the step
/// that holds the nodes, which is ours.
fn slurm_variables(
    ranks: Ranks,
    places: &RankPlaces,
    is_set: &dyn Fn(&str) -> bool,
) -> Vec<(&'static str, String)> {
    let hosts = places.hosts.join(",");
    let counts: Vec<String> = (0..ranks.nodes).map(|number| ranks.on_node(number).to_string()).collect();
    let mut variables = vec![
        ("SLURM_NODELIST", hosts.clone()),
        ("SLURM_JOB_NODELIST", hosts),
        ("SLURM_NNODES", ranks.nodes.to_string()),
        ("SLURM_JOB_NUM_NODES", ranks.nodes.to_string()),
        ("SLURM_TASKS_PER_NODE", counts.join(",")),
        ("SLURM_NTASKS", ranks.count.to_string()),
        ("SLURM_NPROCS", ranks.count.to_string()),
        ("SLURM_CPUS_PER_TASK", ranks.cpus.to_string()),
        ("SLURM_HOSTFILE", places.hostfile.to_string_lossy().into_owned()),
        ("SLURM_DISTRIBUTION", "arbitrary".to_owned()),
        ("SLURM_OVERLAP", "1".to_owned()),
        ("SLURM_CPU_BIND", "none".to_owned()),
    ];
    // Zero is all that the job has on a node; the three exclude each other.
    let memory = ["SLURM_MEM_PER_CPU", "SLURM_MEM_PER_GPU"].into_iter().find(|name| is_set(name));
    variables.push((memory.unwrap_or("SLURM_MEM_PER_NODE"), "0".to_owned()));
    if !is_set("HYDRA_LAUNCHER") {
        variables.push(("HYDRA_LAUNCHER", "slurm".to_owned()));
    }
    let (name, value) = PMIX_DIRECT_CONNECTIONS;
    variables.push((name, env::var(name).unwrap_or_else(|_| value.to_owned())));
    // Our own `srun` was told which interface its ranks speak, and others probably speak the same.
    if let Ok(interface) = env::var("SLURM_MPI_TYPE") {
        variables.push(("SLURM_MPI_TYPE", interface));
    }
    variables
}

fn job_ranks(job: &Job) -> Option<(Ranks, &RankPlaces)> {
    job.graph.options(job.task).ranks.zip(job.ranks.as_ref())
}

/// A line for each rank, node by node.
fn lines(ranks: Ranks, hosts: &[String]) -> String {
    let line = |(number, host): (u32, &String)| format!("{host}\n").repeat(ranks.on_node(number) as usize);
    (0..).zip(hosts).map(line).collect()
}

fn not_written(path: &Path, error: &io::Error) -> Cause {
    Cause::NotStarted(format!("its host file `{}` cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nodes_get_the_ranks_that_do_not_divide() {
        let hosts = ["a", "b", "c"].map(str::to_owned);
        let lines = |count| lines(Ranks { count, nodes: 3, cpus: 1 }, &hosts);
        assert_eq!(lines(3), "a\nb\nc\n");
        assert_eq!(lines(8), "a\na\na\nb\nb\nb\nc\nc\n");
    }

    #[test]
    fn slurm_is_described_as_if_it_had_granted_these_nodes() {
        let hosts = vec!["a".to_owned(), "b".to_owned()];
        let places = RankPlaces { hosts, hostfile: "/run/1.1".into() };
        let ranks = Ranks { count: 5, nodes: 2, cpus: 2 };
        let value = |of: &str, set: &'static str| {
            let variables = slurm_variables(ranks, &places, &|name| name == set);
            variables.into_iter().find(|(name, _)| *name == of).map(|(_, value)| value)
        };
        assert_eq!(value("SLURM_JOB_NODELIST", "").as_deref(), Some("a,b"));
        assert_eq!(value("SLURM_TASKS_PER_NODE", "").as_deref(), Some("3,2"));
        assert_eq!(value("SLURM_MEM_PER_NODE", "").as_deref(), Some("0"));
        assert_eq!(value("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"), None, "they exclude each other");
        assert_eq!(value("HYDRA_LAUNCHER", "HYDRA_LAUNCHER"), None, "the user's own choice stays");
    }
}
