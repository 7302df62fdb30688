//! A folder with a PBS of its own.

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{MPI_VARIABLES, Place, Ran, Running, json, until};

/// A task that never ends by itself.
pub const LONG: &str = "name = \"long\"\n[tasks.a]\nrun = [\"sleep\", \"300\"]\n";
/// One that ends at once, with something to read.
pub const SHORT: &str = "name = \"short\"\n[tasks.a]\nrun = \"echo hello\"\n";

/// A folder, and the batch system that runs jobs there.
pub struct Site {
    pub place: Place,
    variables: Vec<(&'static str, String)>,
}

impl Site {
    /// A folder with the graph `g.toml`.
    pub fn with(graph: &str) -> Self {
        let place = Place::with(graph);
        let path = std::env::var("PATH").expect("there is a PATH");
        let host = hostname::get().expect("this machine has a name").to_string_lossy().into_owned();
        let mut variables = vec![
            ("HOME", place.path().display().to_string()),
            ("XDG_CONFIG_HOME", place.path().join("config").display().to_string()),
            ("PATH", format!("{}:{path}", commands().display())),
            ("DAGMAR_FAKE_PBS", place.path().join("pbs").display().to_string()),
            ("DAGMAR_FAKE_PBS_NODES", format!("{host}:4")),
            // Like a real one's: longer than a run takes to stop.
            ("DAGMAR_FAKE_PBS_PATIENCE", "20".to_owned()),
        ];
        variables.extend(MPI_VARIABLES.map(|(name, value)| (name, value.to_owned())));
        Site { place, variables }
    }

    /// The same, where jobs that are over are forgotten.
    pub fn without_history(graph: &str) -> Self {
        Self::with(graph).set("DAGMAR_FAKE_PBS_HISTORY", "no")
    }

    /// The same with another variable.
    pub fn set(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Starts any program as on the login node.
    pub fn start<A: AsRef<OsStr> + Debug>(&self, program: &Path, arguments: &[A]) -> Running {
        let mut command: Command = self.place.command_of(program);
        // No allocation around these tests is this PBS's.
        for name in ["SLURM_JOB_ID", "PBS_JOBID", "PBS_NODEFILE"] {
            command.env_remove(name);
        }
        command.args(arguments).envs(self.variables.iter().cloned());
        self.place.spawn(command)
    }

    /// Runs dagmar and checks its exit code.
    pub fn expect<A: AsRef<OsStr> + Debug>(&self, code: i32, arguments: &[A]) -> Ran {
        let ran = self.start(dagmar(), arguments).end();
        assert_eq!(ran.code(), Some(code), "{arguments:?} {ran}\n{}", self.story());
        ran
    }

    /// A command of PBS's.
    pub fn pbs(&self, words: &[&str]) -> Ran {
        self.start(&commands().join(words[0]), &words[1..]).end()
    }

    /// Submits `g.toml` to `cluster` and returns the job's id.
    pub fn submit_to(&self, cluster: &str, arguments: &[&str]) -> String {
        let words = [&["submit", "g.toml", "--cluster", cluster, "--output", "json"], arguments].concat();
        let said = json(&self.expect(0, &words).stdout);
        said["job"].as_str().expect("the job is told").to_owned()
    }

    /// Submits `g.toml` to PBS and returns the job's id.
    pub fn submit(&self, arguments: &[&str]) -> String {
        self.submit_for("2m", arguments)
    }

    /// The same with this walltime.
    pub fn submit_for(&self, walltime: &str, arguments: &[&str]) -> String {
        self.submit_to("pbs", &[&["--nodes", "1", "-t", walltime], arguments].concat())
    }

    /// `dagmar status --output json` of the latest run.
    pub fn status(&self) -> Value {
        json(&self.expect(0, &["status", "--output", "json"]).stdout)
    }

    /// Waits until the run's only task runs.
    pub fn await_start(&self) {
        until("the task runs", || {
            let status = self.status();
            if status["groups"][0]["running"] == 1 {
                Ok(())
            } else {
                Err(format!("{status} {}", self.story()))
            }
        });
    }

    /// What PBS says of a job, once this attribute has this value.
    pub fn job(&self, id: &str, name: &str, value: &str) -> Value {
        until(&format!("{name} of job {id} is {value}"), || {
            let answer = json(&self.pbs(&["qstat", "-x", "-f", "-F", "json", id]).stdout);
            let job = answer["Jobs"][id].clone();
            if job[name] == value { Ok(job) } else { Err(format!("{job:#}")) }
        })
    }

    /// The jobs that this PBS has had.
    pub fn job_count(&self) -> usize {
        fs::read_dir(self.place.path().join("pbs/jobs")).map_or(0, Iterator::count)
    }

    /// What a job printed so far.
    pub fn printed(&self, run: &str) -> String {
        self.place.read(&format!("dagmar-runs/{run}/batch.out"))
    }

    fn story(&self) -> String {
        let read = |name: &str| {
            let run = self.place.runs().pop().unwrap_or_default();
            fs::read_to_string(run.join(name)).unwrap_or_default()
        };
        format!("batch.out:\n{}\nlaunch.log:\n{}", read("batch.out"), read("logs/launch.log"))
    }
}

/// The dagmar of this build.
pub fn dagmar() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_dagmar"))
}

fn commands() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/fake_pbs")
}
