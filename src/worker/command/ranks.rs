//! What an MPI program is told, so that its own launcher starts the right ranks on the right nodes.
//!
//! A plain `mpirun ./prog`, `mpiexec ./prog` or `srun ./prog` asks the batch system which nodes it
//! has, and would take all of the allocation. The variables here give each launcher one list instead:
//! a file with a line for every rank. No rank is bound, as only the program knows how many threads its
//! ranks have, and its launcher would count cores from the first, where other tasks may run.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::core::event::Cause;
use crate::core::task::Ranks;
use crate::worker::executor::{Job, RankPlaces};

/// Where Open MPI must not look for nodes: its sources of allocations.
const OPEN_MPI_SOURCES: &str = "^slurm,tm,lsf,gridengine,alps";
/// The same of its successor's run-time system, PRRTE, in Open MPI 5.
const PRRTE_SOURCES: &str = "^slurm,pbs,lsf,gridengine,flux";

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
        ("OMPI_MCA_orte_default_hostfile", hostfile.clone()),
        ("OMPI_MCA_ras", OPEN_MPI_SOURCES.to_owned()),
        ("OMPI_MCA_hwloc_base_binding_policy", "none".to_owned()),
        ("PRTE_MCA_prte_default_hostfile", hostfile.clone()),
        ("PRTE_MCA_ras", PRRTE_SOURCES.to_owned()),
        ("PRTE_MCA_hwloc_default_binding_policy", "none".to_owned()),
        ("HYDRA_HOST_FILE", hostfile.clone()),
    ];
    if std::env::var_os("SLURM_JOB_ID").is_some() {
        variables.extend(slurm_variables(ranks, hostfile));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What makes `srun` start the ranks beside the step that holds the nodes, which is ours.
fn slurm_variables(ranks: Ranks, hostfile: String) -> Vec<(&'static str, String)> {
    let mut variables = vec![
        ("SLURM_HOSTFILE", hostfile),
        ("SLURM_DISTRIBUTION", "arbitrary".to_owned()),
        ("SLURM_NTASKS", ranks.count.to_string()),
        ("SLURM_NPROCS", ranks.count.to_string()),
        ("SLURM_NNODES", ranks.nodes.to_string()),
        ("SLURM_JOB_NUM_NODES", ranks.nodes.to_string()),
        ("SLURM_OVERLAP", "1".to_owned()),
        ("SLURM_CPUS_PER_TASK", ranks.cpus.to_string()),
    ];
    // Our own `srun` was told which interface its ranks speak, and others probably speak the same.
    if let Ok(interface) = std::env::var("SLURM_MPI_TYPE") {
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

fn not_written(path: &std::path::Path, error: &io::Error) -> Cause {
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
}
