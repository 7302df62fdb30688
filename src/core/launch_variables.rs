//! Which variables make a process believe to be a rank.
//!
//! A program that sees its rank's MPI variables joins the wrong world or waits for ever, and a job that
//! was submitted from within a step carries those of that step. What describes the job as a whole (`SLURM_JOB_ID`, `SLURM_JOB_NODELIST`,
//! `PBS_NODEFILE`, ...) stays, as programs may start steps of their own.

/// Every variable that starts with one of these goes.
const PREFIXES: &[&str] = &[
    // The process management interfaces, and who implements them.
    "PMI_",
    "PMI2_",
    "PMIX_",
    "PMIXLOCAL",
    "PALS_",
    "HYDRA_",
    "HYDI_",
    // Open MPI and its run-time systems.
    "OMPI_",
    "OPAL_",
    "ORTE_",
    "PRTE_",
    // MPICH, MVAPICH and Intel MPI: which process this is.
    "MPI_LOCAL",
    "MPICH_INTERNAL_",
    "MV2_COMM_WORLD_",
    "MVP_COMM_WORLD_",
    "I_MPI_HYDRA_",
    // Slurm: the step that the rank is in, as against the job.
    "SLURM_STEP",
    "SLURM_CPU_BIND",
    "SLURM_MEM_BIND",
    "SLURM_GPUS_ON_STEP",
    "SLURM_LAUNCH_NODE_",
    "SLURM_SRUN_COMM_",
    "SLURM_PMI",
    "SLURM_MPI_TYPE",
    "SLURM_UMASK",
];

/// Single variables that go: what `srun` says about one process, or what a step narrowed.
const NAMES: &[&str] = &[
    "PMI",
    "MPIR_CVAR_CH3_INTERFACE_HOSTNAME",
    "FLUX_JOB_SIZE",
    "FLUX_TASK_RANK",
    "FLUX_TASK_LOCAL_ID",
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_NODEID",
    "SLURM_GTIDS",
    "SLURM_TASK_PID",
    "SLURM_NTASKS",
    "SLURM_NPROCS",
    "SLURM_NTASKS_PER_NODE",
    "SLURM_TASKS_PER_NODE",
    "SLURM_CPUS_PER_TASK",
    "SLURM_TRES_PER_TASK",
    "SLURM_DISTRIBUTION",
    "SLURM_TOPOLOGY_ADDR",
    "SLURM_TOPOLOGY_ADDR_PATTERN",
    "SLURM_EXACT",
    "SLURM_OVERLAP",
    "SLURM_KILL_BAD_EXIT",
    "SLURM_WHOLE",
    "SLURM_HOSTFILE",
    "SLURM_ARBITRARY",
];

/// What stays although its prefix goes: how a user, or a site, wants every MPI program to find the
/// network and to start daemons. No launcher says anything of these to its ranks.
const KEPT: &[&str] = &[
    "OMPI_ALLOW_RUN_AS_ROOT",
    "OMPI_MCA_btl",
    "OMPI_MCA_mtl",
    "OMPI_MCA_oob",
    "OMPI_MCA_plm_rsh",
    "OMPI_MCA_pml",
    "PRTE_ALLOW_RUN_AS_ROOT",
    "PRTE_MCA_oob",
    "PRTE_MCA_plm_ssh",
    "HYDRA_IFACE",
    "HYDRA_LAUNCHER",
];

/// Whether Slurm's PMIx plugin connects the nodes of a step directly, and what it is told unless the user said
/// otherwise. Over direct connections Slurm 22.05 more often lets ranks leave `MPI_Init` while another has not
/// passed its first fence, and Open MPI 4.1 crashes there when their first message comes.
pub const PMIX_DIRECT_CONNECTIONS: (&str, &str) = ("SLURM_PMIX_DIRECT_CONN", "false");

/// True if programs and jobs must not inherit the variable of this name.
pub fn is_of_a_rank(name: &[u8]) -> bool {
    if KEPT.iter().any(|kept| name.starts_with(kept.as_bytes())) {
        return false;
    }
    PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
        || NAMES.iter().any(|other| name == other.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_describes_the_rank_goes_and_what_describes_the_job_stays() {
        let cases = [
            ("PMI_RANK", true),
            ("PMIX_NAMESPACE", true),
            ("OMPI_COMM_WORLD_RANK", true),
            ("MPI_LOCALRANKID", true),
            ("SLURM_PROCID", true),
            ("SLURM_STEP_ID", true),
            ("SLURM_STEPID", true),
            ("SLURM_NTASKS", true),
            ("SLURM_JOB_ID", false),
            ("SLURM_JOB_NODELIST", false),
            ("PBS_NODEFILE", false),
            ("PATH", false),
            ("OMPI_MCA_btl_tcp_if_include", false),
            ("OMPI_MCA_orte_hnp_uri", true),
            ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", false),
            ("PMIRACLE", false),
        ];
        for (name, goes) in cases {
            assert_eq!(is_of_a_rank(name.as_bytes()), goes, "{name}");
        }
    }
}
