//! What the program that started this process says about its siblings. No MPI is needed to ask.
//!
//! A launcher that says "four ranks" to a program whose MPI says "one" means that the MPI library
//! is not the launcher's: four runs would start instead of one. The answer also decides, before
//! MPI is initialised, whether this process is alone.

use std::env;

/// Variables that launchers set to the number of ranks they start, the surest first: `mpirun` of
/// Open MPI, Hydra and every PMI launcher (MPICH, Intel MPI, Cray), MVAPICH, PALS, Flux.
const RANK_COUNTS: [&str; 5] =
    ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "PALS_SIZE", "FLUX_JOB_SIZE"];

/// Variables that launchers set to a rank's number, in the same order.
const RANK_NUMBERS: [&str; 7] = [
    "OMPI_COMM_WORLD_RANK",
    "PMI_RANK",
    "MV2_COMM_WORLD_RANK",
    "PALS_RANKID",
    "FLUX_TASK_RANK",
    "PMIX_RANK",
    "SLURM_PROCID",
];

/// True in one rank, as far as the launcher tells before MPI is initialised: what all
/// ranks find out alike is told by this one alone.
pub fn is_first() -> bool {
    is_alone() || is_first_in(&|name| env::var(name).ok())
}

fn is_first_in(lookup: &dyn Fn(&str) -> Option<String>) -> bool {
    let mut numbers = RANK_NUMBERS.into_iter().filter_map(lookup);
    numbers.next().is_none_or(|number| number.trim() == "0")
}

/// How many ranks the launcher started and which variable says so. None without a launcher.
pub fn launcher_rank_count() -> Option<(&'static str, u32)> {
    rank_count_in(&|name| env::var(name).ok())
}

/// Who sets a variable that counts ranks, in words.
pub fn launcher_of(variable: &str) -> &'static str {
    match variable {
        "OMPI_COMM_WORLD_SIZE" => "an Open MPI mpirun",
        "PMI_SIZE" => "a PMI launcher, as MPICH's mpiexec",
        "MV2_COMM_WORLD_SIZE" => "MVAPICH's mpirun",
        "PALS_SIZE" => "Cray's mpiexec",
        "FLUX_JOB_SIZE" => "Flux",
        _ => "srun",
    }
}

/// True without a launcher and under one that started a single rank.
pub fn is_alone() -> bool {
    launcher_rank_count().is_none_or(|(_, ranks)| ranks <= 1)
}

fn rank_count_in(lookup: &dyn Fn(&str) -> Option<String>) -> Option<(&'static str, u32)> {
    let number = |name| lookup(name)?.trim().parse::<u32>().ok();
    let told = RANK_COUNTS.into_iter().find_map(|name| Some((name, number(name)?)));
    told.or_else(|| slurm_step_tasks(lookup, &number))
}

/// The tasks of the Slurm step this process belongs to.
///
/// A batch script also sees `SLURM_NTASKS` and even `SLURM_PROCID=0`, though nothing was launched
/// in it: only `srun` names a step's tasks, or gives a PMI to talk to.
fn slurm_step_tasks(
    lookup: &dyn Fn(&str) -> Option<String>,
    number: &dyn Fn(&'static str) -> Option<u32>,
) -> Option<(&'static str, u32)> {
    lookup("SLURM_PROCID")?;
    let in_step = lookup("SLURM_STEP_ID").is_some() || lookup("PMIX_RANK").is_some();
    let names = ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"];
    names.into_iter().filter(|_| in_step).find_map(|name| Some((name, number(name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(variables: &[(&str, &str)]) -> Option<(&'static str, u32)> {
        rank_count_in(&|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn nothing_is_known_without_a_launcher() {
        assert_eq!(count(&[]), None);
        assert_eq!(count(&[("OMPI_COMM_WORLD_SIZE", "many")]), None);
    }

    #[test]
    fn mpirun_says_how_many_ranks_it_started() {
        assert_eq!(count(&[("OMPI_COMM_WORLD_SIZE", "4")]), Some(("OMPI_COMM_WORLD_SIZE", 4)));
        assert_eq!(count(&[("PMI_SIZE", "3")]), Some(("PMI_SIZE", 3)));
    }

    #[test]
    fn mpirun_inside_a_slurm_job_is_believed_before_slurm() {
        let variables = [("SLURM_PROCID", "0"), ("SLURM_STEP_ID", "0"), ("SLURM_NTASKS", "2")];
        let mut with_mpirun = variables.to_vec();
        with_mpirun.push(("OMPI_COMM_WORLD_SIZE", "8"));
        assert_eq!(count(&with_mpirun), Some(("OMPI_COMM_WORLD_SIZE", 8)));
        assert_eq!(count(&variables), Some(("SLURM_NTASKS", 2)));
    }

    #[test]
    fn one_rank_is_the_first() {
        let is_first = |name, number: &str| is_first_in(&|known| (known == name).then(|| number.to_owned()));
        assert!(is_first("PATH", "7"));
        for name in RANK_NUMBERS {
            assert!(is_first(name, "0") && !is_first(name, "2"), "{name}");
        }
    }

    #[test]
    fn a_batch_script_is_not_a_launcher() {
        assert_eq!(count(&[("SLURM_JOB_ID", "7"), ("SLURM_NTASKS", "16")]), None);
        assert_eq!(count(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "16")]), None);
    }

    #[test]
    fn srun_names_the_tasks_of_its_step() {
        let step = [("SLURM_PROCID", "1"), ("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "5")];
        assert_eq!(count(&step), Some(("SLURM_STEP_NUM_TASKS", 5)));
    }
}
