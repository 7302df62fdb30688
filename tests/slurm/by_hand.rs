//! What `dagmar launch` builds on: launchers that start the ranks from a job script written by hand.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder that all nodes share, and the Slurm of the testbed.
struct Site {
    folder: TempDir,
    testbed: PathBuf,
}

/// How the ranks of a job are started: N nodes, one worker on each, and rank 0 beside the first.
const OPEN_MPI: &str = "mpirun -n 5 --hostfile hosts --map-by seq --oversubscribe --bind-to none";
const OPEN_MPI_SRUN: &str = "SLURM_PMIX_DIRECT_CONN=false SLURM_HOSTFILE=hosts srun --mpi=pmix -N4 -n5 --distribution=arbitrary --overcommit --overlap --cpu-bind=none --mem=0";
const MPICH: &str = "mpiexec.mpich -launcher slurm -f hosts -n 5 -bind-to none";
const MPICH_SRUN: &str = "SLURM_HOSTFILE=hosts srun --mpi=pmi2 -N4 -n5 --distribution=arbitrary --overcommit --overlap --cpu-bind=none --mem=0";

/// Long enough that no node is done before the last one has begun.
const EVERYWHERE: &str = "[tasks.where]\neach = { i = '0..15' }\nrun = 'hostname; sleep 0.5'\n";

impl Site {
    /// None where there is no testbed; the reason is told.
    fn find() -> Option<Site> {
        let Some(testbed) = env::var_os("DAGMAR_TESTBED").map(PathBuf::from) else {
            println!("cannot run here: no testbed; `scripts/test testbed` brings one up");
            return None;
        };
        assert!(testbed.join("env.sh").is_file(), "there is no testbed in {}", testbed.display());
        Some(Site { folder: TempDir::new_in("/tmp").expect("a folder"), testbed })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command line, with the testbed's environment.
    fn shell(&self, line: &str) -> Output {
        let line = format!(". {}/env.sh; {line}", self.testbed.display());
        let mut shell = Command::new("timeout");
        shell.args(["-k", "5", "120", "bash", "-c", &line]).current_dir(self.path());
        shell.output().expect("a shell starts")
    }

    /// Submits a script for all four nodes and waits for its end: its exit code and its output.
    fn job(&self, script: &str) -> (Option<i32>, String) {
        let script = format!(
            "#!/bin/bash\nprintf '%s\\n' n1 n1 n2 n3 n4 >hosts\nunset SLURM_NTASKS_PER_NODE\n{script}\n"
        );
        fs::write(self.path().join("job.sh"), script).expect("the script can be written");
        let options = "--wait -N4 --ntasks-per-node=1 --cpus-per-task=2 --time=2 --output=job.out";
        let submitted = self.shell(&format!("sbatch {options} job.sh"));
        let said = fs::read_to_string(self.path().join("job.out")).unwrap_or_default();
        (submitted.status.code(), format!("{said}\n{}", String::from_utf8_lossy(&submitted.stderr)))
    }

    /// Runs tasks on all nodes with `launcher`, and sees that each node had some.
    fn check_all_nodes_work(&self, launcher: &str, dagmar: &Path) {
        fs::write(self.path().join("g.toml"), EVERYWHERE).expect("the graph can be written");
        let keys: Vec<String> = (0..16).map(|i| format!("'where[{i}]'")).collect();
        let (dagmar, keys) = (dagmar.display(), keys.join(" "));
        let (code, said) = self.job(&format!("{launcher} {dagmar} run g.toml {keys} >answers"));
        assert_eq!(code, Some(0), "{said}");
        self.check_answers(&said);
    }

    fn check_answers(&self, said: &str) {
        let answers = fs::read_to_string(self.path().join("answers")).expect("the outputs are there");
        let nodes: BTreeSet<&str> =
            ["n1", "n2", "n3", "n4"].into_iter().filter(|node| answers.contains(*node)).collect();
        assert_eq!(nodes.len(), 4, "{answers}\n{said}");
        assert!(said.contains("on 4 workers (8 cpus)"), "{said}");
    }
}

fn dagmar() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dagmar"))
}

/// The dagmar of a build with MPICH; None, and the reason, where there is none.
fn dagmar_of_mpich() -> Option<PathBuf> {
    let built = env::var_os("DAGMAR_TEST_MPICH").map(PathBuf::from);
    if built.is_none() {
        println!("cannot run here: no build with MPICH; `scripts/test mpich` makes one");
    }
    built
}

#[test]
fn sbatch_accepts_all_that_the_testbed_offers() {
    let Some(site) = Site::find() else { return };
    fs::write(site.path().join("job.sh"), "#!/bin/bash\ntrue\n").expect("the script can be written");
    let accepted = [
        "-N4 -p short -t 10",
        "-N4 -p gpu --gpus-per-node=2",
        "-N2 --gres=gpu:1 -C fast",
        "-N1 --mem=0 --exclusive --reservation=kept",
        "-N1 --account=any --qos=any",
    ];
    for options in accepted {
        let tested = site.shell(&format!("sbatch --test-only {options} job.sh"));
        assert!(tested.status.success(), "{options}: {tested:?}");
    }
    let tested = site.shell("sbatch --test-only -p nosuch job.sh");
    assert!(!tested.status.success(), "{tested:?}");
}

#[test]
fn mpirun_in_a_job_works_on_all_nodes() {
    let Some(site) = Site::find() else { return };
    site.check_all_nodes_work(OPEN_MPI, dagmar());
}

#[test]
fn srun_in_a_job_works_on_all_nodes() {
    let Some(site) = Site::find() else { return };
    site.check_all_nodes_work(OPEN_MPI_SRUN, dagmar());
}

#[test]
fn mpich_in_a_job_works_on_all_nodes() {
    let Some(site) = Site::find() else { return };
    let Some(dagmar) = dagmar_of_mpich() else { return };
    site.check_all_nodes_work(MPICH, &dagmar);
}

#[test]
fn mpich_under_srun_works_on_all_nodes() {
    let Some(site) = Site::find() else { return };
    let Some(dagmar) = dagmar_of_mpich() else { return };
    site.check_all_nodes_work(MPICH_SRUN, &dagmar);
}

/// The fake PBS on the testbed's nodes, which it reaches as with ssh: a host file, and no batch system that
/// MPI knows.
#[test]
fn a_pbs_job_works_on_all_nodes() {
    let Some(site) = Site::find() else { return };
    fs::write(site.path().join("g.toml"), EVERYWHERE).expect("the graph can be written");
    let keys: Vec<String> = (0..16).map(|i| format!("'where[{i}]'")).collect();
    let script = format!(
        "#!/bin/bash\n#PBS -N everywhere\n#PBS -l select=1:ncpus=2:mpiprocs=2+3:ncpus=2:mpiprocs=1,place=scatter\n\
         #PBS -l walltime=00:02:00\n#PBS -j oe -V\ncd $PBS_O_WORKDIR\n\
         mpirun -n 5 --mca plm_rsh_agent $DAGMAR_TESTBED/rsh --hostfile $PBS_NODEFILE --map-by seq --oversubscribe \
         --bind-to none {} run g.toml {} >answers\n",
        dagmar().display(),
        keys.join(" ")
    );
    fs::write(site.path().join("job.sh"), script).expect("the script can be written");
    let commands = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/fake_pbs");
    let submitted = site.shell(&format!(
        "export DAGMAR_FAKE_PBS=$PWD/pbs DAGMAR_FAKE_PBS_ON=$DAGMAR_TESTBED/on; \
         export DAGMAR_FAKE_PBS_NODES='n1:2 n2:2 n3:2 n4:2'; {commands}/qsub -W block=true job.sh"
    ));
    let said = fs::read_to_string(site.path().join("everywhere.o0")).unwrap_or_default();
    assert_eq!(submitted.status.code(), Some(0), "{submitted:?}\n{said}");
    site.check_answers(&said);
}

#[test]
fn the_exit_code_of_a_failed_run_reaches_the_job() {
    let Some(site) = Site::find() else { return };
    fs::write(site.path().join("g.toml"), "[tasks.bad]\nrun = 'exit 9'\n").expect("the graph can be written");
    for launcher in [OPEN_MPI, OPEN_MPI_SRUN] {
        let (code, said) = site.job(&format!("{launcher} {} run g.toml", dagmar().display()));
        assert_eq!(code, Some(3), "{said}");
    }
}
