//! MPI programs as tasks: a plain `mpirun ./prog` starts the ranks that the task asked for, no more and
//! nowhere else. Several nodes need a testbed, which `DAGMAR_TESTBED` names.

use std::fs;

use crate::harness::{BOTH, Place};

#[test]
fn an_mpi_program_is_told_its_places_and_they_are_forgotten_afterwards() {
    let place = Place::with(
        "[tasks.a]\nrun = 'echo $DAGMAR_NODES $DAGMAR_RANKS $DAGMAR_CPUS $OMP_NUM_THREADS; cat $DAGMAR_HOSTFILE; \
         echo $DAGMAR_HOSTS; echo $DAGMAR_HOSTFILE > where'\nresources = { ranks = 2, cpus = 2 }\n\
         [tasks.b]\nrun = 'echo $DAGMAR_RANKS$DAGMAR_HOSTFILE$DAGMAR_HOSTS'\n",
    );
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "a", "--cpus", "4"]);
        let lines: Vec<&str> = run.text().lines().collect();
        let [numbers, first, second, hosts] = lines[..] else { panic!("{run}") };
        assert_eq!((numbers, first, second), ("1 2 2 2", hosts, hosts), "{run}");
        let hostfile = place.read("where");
        let hostfile = hostfile.trim();
        assert!(hostfile.contains("/hostfiles/") && !fs::exists(hostfile).unwrap_or(true), "{hostfile}");
        assert_eq!(
            place.expect(0, ranks, &["run", "g.toml", "b"]).text().trim(),
            "",
            "others are told nothing"
        );
    }
}

#[test]
fn several_nodes_on_one_machine_are_refused_before_anything_runs() {
    let place = Place::with(
        "[tasks.a]\nrun = 'touch ran'\n[tasks.b]\nrun = ['mpirun', './b']\nresources = { nodes = 2, ranks = 4 }\n",
    );
    for ranks in BOTH {
        let run = place.expect(2, ranks, &["run", "g.toml"]);
        run.tells("error: task `b` asks for 2 nodes, but there is 1 node");
        run.tells("hint: here all workers are on one machine: ask for `ranks` without `nodes`");
        assert!(!place.path().join("ran").exists() && place.runs().is_empty(), "{run}");
    }
    let run = place.expect(2, BOTH[0], &["run", "g.toml", "--workers", "2"]);
    run.tells("asks for 2 nodes, but there is 1 node");
}

#[test]
fn ranks_that_no_worker_has_cores_for_are_refused() {
    let place = Place::with("[tasks.b]\nrun = ['mpirun', './b']\nresources = { ranks = 3, cpus = 2 }\n");
    let run = place.expect(2, BOTH[0], &["run", "g.toml", "--cpus", "5"]);
    run.tells("error: task `b` asks for 6 of `cpus`, but no worker has more than 5").tells("--cpus N");
}

#[cfg(feature = "mpi")]
mod with_mpi {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use dagmar::core::event::Event;
    use dagmar::record::journal::JournalReader;

    use crate::harness::{BOTH, Place, Ran, require};

    /// What an MPI program needs where tests run as root.
    const AS_ROOT: &str = "env = { OMPI_ALLOW_RUN_AS_ROOT = '1', OMPI_ALLOW_RUN_AS_ROOT_CONFIRM = '1', \
                           PRTE_ALLOW_RUN_AS_ROOT = '1', PRTE_ALLOW_RUN_AS_ROOT_CONFIRM = '1' }";

    const PROGRAM: &str = r#"
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words) {
    int rank, size, sum;
    char host[256];
    MPI_Init(&count, &words);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    gethostname(host, sizeof host);
    printf("%d of %d on %s, together %d\n", rank, size, host, sum);
    fflush(stdout);
    if (count > 1) sleep(atoi(words[1]));
    MPI_Finalize();
    return 0;
}
"#;

    /// A place with the program `hello`.
    fn place_with_program(graph: &str) -> Place {
        let place = Place::with(graph);
        place.write("hello.c", PROGRAM);
        require("mpicc");
        let mut compile = Command::new("mpicc");
        compile.args(["-o", "hello", "hello.c"]).current_dir(place.path());
        assert!(compile.status().expect("mpicc starts").success());
        place
    }

    /// The hosts of ranks 0, 1, ... of the program, which must be all of them, each once.
    fn hosts_of_ranks(text: &str, size: usize) -> Vec<String> {
        let mut lines: Vec<(usize, &str)> = Vec::new();
        for line in text.lines().filter(|line| line.contains(" of ")) {
            let (rank, rest) = line.split_once(' ').expect("a rank, then the rest");
            let rest = rest.strip_prefix(&format!("of {size} on ")).unwrap_or_else(|| panic!("{line}"));
            let (host, sum) = rest.split_once(", together ").expect("a host, then the sum");
            assert_eq!(sum.parse(), Ok(size * (size - 1) / 2), "{line}");
            // A node may know itself by a longer name than Slurm does.
            let host = host.split('.').next().unwrap_or(host);
            lines.push((rank.parse().expect("a number"), host));
        }
        lines.sort_unstable();
        let ranks: Vec<usize> = lines.iter().map(|(rank, _)| *rank).collect();
        assert_eq!(ranks, (0..size).collect::<Vec<_>>(), "{text}");
        lines.into_iter().map(|(_, host)| host.to_owned()).collect()
    }

    #[test]
    fn a_plain_mpirun_starts_as_many_ranks_as_the_task_asks_for() {
        let graph = format!(
            "[defaults]\n{AS_ROOT}\n[tasks.m]\nrun = ['mpirun', './hello']\nresources = {{ nodes = 1, ranks = 4 }}\n\
             [tasks.e]\nrun = 'mpiexec ./hello'\nresources = {{ ranks = 3 }}\n"
        );
        let place = place_with_program(&graph);
        for ranks in BOTH {
            for (key, size) in [("m", 4), ("e", 3)] {
                let run = place.expect(0, ranks, &["run", "g.toml", key, "--cpus", "4"]);
                let hosts: BTreeSet<String> = hosts_of_ranks(run.text(), size).into_iter().collect();
                assert_eq!(hosts.len(), 1, "{run}");
            }
            place.expect_nothing_left();
        }
    }

    #[test]
    fn nothing_is_left_of_an_mpi_program_that_takes_too_long() {
        let graph = format!(
            "[tasks.m]\nrun = ['mpirun', './hello', '60']\ntimeout = '3s'\ngrace = '2s'\nresources = {{ ranks = 3 }}\n{AS_ROOT}\n"
        );
        let place = place_with_program(&graph);
        for ranks in BOTH {
            let run = place.expect(3, ranks, &["run", "g.toml", "--cpus", "4"]);
            run.tells("`m` took longer than its timeout of 3");
            assert!(run.took.as_secs() < 30, "{run}");
            place.expect_nothing_left();
        }
    }

    // ---------------------------------------------------------------- on a testbed

    /// The directory of the testbed that runs; none if there is none, which is told.
    fn testbed() -> Option<PathBuf> {
        let directory = std::env::var_os("DAGMAR_TESTBED").map(PathBuf::from);
        let running = directory.filter(|directory| directory.join("etc/slurm.conf").is_file());
        if running.is_none() {
            eprintln!("not run: `DAGMAR_TESTBED` names no running testbed (`scripts/testbed/slurm up`)");
        }
        running
    }

    /// Runs a graph on three nodes of a testbed, a worker on each, rank 0 beside the first. The host name
    /// of one of them is not what Slurm calls it.
    fn run_on_three_nodes(place: &Place, testbed: &Path, launcher: &str, arguments: &str) -> Ran {
        let dagmar = env!("CARGO_BIN_EXE_dagmar");
        // As `dagmar launch` does for the ranks that it starts.
        let direct_connections = match launcher.starts_with("srun") {
            true => "export SLURM_PMIX_DIRECT_CONN=false",
            false => "",
        };
        let script = format!(
            "#!/bin/bash\nexport OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1\n\
             nodes=$(scontrol show hostnames)\n(echo \"$nodes\" | head -1; echo \"$nodes\") > hosts\n\
             export SLURM_HOSTFILE=$PWD/hosts\nunset SLURM_NTASKS_PER_NODE\n{direct_connections}\n\
             timeout -k 5 100 {launcher} {dagmar} run {arguments} > out 2> err\n"
        );
        place.write("job.sh", script);
        let mut command = Command::new("sbatch");
        command.args([
            "-W",
            "-N3",
            "-w",
            "n[2-4]",
            "--ntasks-per-node=1",
            "-c2",
            "-o",
            "batch.out",
            "job.sh",
        ]);
        command.current_dir(place.path()).env("SLURM_CONF", testbed.join("etc/slurm.conf"));
        let ran = place.spawn(command).end();
        let told = ["batch.out", "out", "err"].map(|name| place.read(name)).join("\n");
        assert!(ran.status.success(), "{ran}{told}");
        ran
    }

    #[test]
    fn mpirun_and_srun_start_ranks_on_the_nodes_of_their_task_whatever_started_dagmar() {
        let Some(testbed) = testbed() else { return };
        let srun =
            "srun --mpi=pmix -N3 -n4 --distribution=arbitrary --overcommit --overlap --cpu-bind=none --mem=0";
        for launcher in ["mpirun -n 4 --hostfile hosts --map-by seq --oversubscribe --bind-to none", srun] {
            both_kinds_of_programs_run(&testbed, launcher);
        }
    }

    fn both_kinds_of_programs_run(testbed: &Path, launcher: &str) {
        let place = place_with_program(
            "[tasks.m]\nrun = ['mpirun', './hello']\nresources = { nodes = 2, ranks = 3 }\nstdout = 'm.out'\n\
             [tasks.s]\nrun = 'echo direct: $SLURM_PMIX_DIRECT_CONN; srun --mpi=pmix ./hello'\nresources = { nodes = 3, ranks = 6 }\nstdout = 's.out'\n\
             [tasks.small]\neach = { i = '1..20' }\nrun = 'sleep 0.05; hostname'\n",
        );
        run_on_three_nodes(&place, testbed, launcher, "g.toml --cpus 2");
        let teams = teams(&place);
        let [first, second] = &teams[..] else { panic!("{teams:?}") };
        assert_eq!((first.len(), second.len()), (2, 3));
        assert_eq!(
            hosts_of_ranks(&place.read("m.out"), 3),
            [&first[0], &first[0], &first[1]].map(Clone::clone)
        );
        let twice: Vec<String> = second.iter().flat_map(|host| [host.clone(), host.clone()]).collect();
        assert_eq!(hosts_of_ranks(&place.read("s.out"), 6), twice);
        assert!(place.read("s.out").starts_with("direct: false\n"));
    }

    /// The hosts of every multi-node task that was assigned, as the journal has them, the fewest first.
    fn teams(place: &Place) -> Vec<Vec<String>> {
        let journal = JournalReader::open(&place.run().join("journal")).expect("a journal");
        let events = journal.map(|record| record.expect("a whole journal"));
        let mut teams: Vec<Vec<String>> = events
            .filter_map(|(_, event)| match event {
                Event::MultiNodeAssigned { hosts, .. } => Some(hosts),
                _ => None,
            })
            .collect();
        teams.sort_by_key(Vec::len);
        teams
    }
}
