//! Starts this program as one of its programs, alone or under `mpirun`.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a program is started on.
#[derive(Clone, Copy, Debug)]
pub enum On {
    /// One process with this many workers of two cores.
    Alone(u32),
    /// This many ranks.
    #[cfg_attr(not(feature = "mpi"), expect(dead_code, reason = "there is no MPI"))]
    Ranks(u32),
}

/// On what every program is tried: alone with one worker and with two, and under `mpirun`.
pub const EVERYWHERE: &[On] = &[
    On::Alone(1),
    On::Alone(2),
    #[cfg(feature = "mpi")]
    On::Ranks(3),
];

/// How a program ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Its standard output if it ended well.
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program to its end in a directory.
pub fn run(program: &str, arguments: &[&str], on: On, directory: &Path) -> Ended {
    let this = env::current_exe().expect("a program knows its file");
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "100"]);
    match on {
        On::Alone(workers) => command.arg(this).env("DAGMAR_WORKERS", workers.to_string()),
        On::Ranks(ranks) => {
            let launcher = env::var("DAGMAR_TEST_MPIRUN").unwrap_or_else(|_| "mpirun".into());
            command.args([&launcher, "-n", &ranks.to_string()]).arg(this)
        }
    };
    command.env("DAGMAR_TEST_PROGRAM", program).env("DAGMAR_CPUS", "2");
    command.args(arguments).current_dir(directory);
    end(command)
}

/// Runs a command to its end.
pub fn end(mut command: Command) -> Ended {
    // Test machines have few cores, and containers one user.
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1").env("OMPI_MCA_hwloc_base_binding_policy", "none");
    let output = command.stdin(Stdio::null()).output().expect("a program can be started");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
