//! The cluster that `scripts/testbed/slurm` has started.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Place, Ran, json, kill, until_within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_dagmar");

/// Longer than a job of these tests waits for others and runs.
const JOB_PATIENCE: Duration = Duration::from_secs(240);

/// A folder on the cluster's shared file system, and the cluster's environment.
pub struct Site {
    /// The cluster, if it is there for this test alone. It goes down before its folder, in `place`, is removed.
    own: Option<OwnTestbed>,
    pub place: Place,
    environment: Vec<(String, String)>,
    program: PathBuf,
}

/// A testbed that a test may damage.
struct OwnTestbed(PathBuf);

impl OwnTestbed {
    fn script(order: &str, directory: &Path, words: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/testbed/slurm");
        let ended = Command::new(script).arg(order).arg("-d").arg(directory).args(words).status();
        assert!(ended.as_ref().is_ok_and(ExitStatus::success), "the testbed: {order} {words:?}: {ended:?}");
    }
}

impl Drop for OwnTestbed {
    fn drop(&mut self) {
        OwnTestbed::script("down", &self.0, &[]);
    }
}

impl Site {
    /// A folder with the graph `g.toml`; `None`, and a word why, where there is no cluster.
    pub fn with(graph: &str) -> Option<Self> {
        let environment = environment(&shared_testbed()?);
        Some(Site { place: Place::with(graph), environment, program: PROGRAM.into(), own: None })
    }

    /// The same on a cluster of its own, of nodes with one core each.
    pub fn alone_with(graph: &str, nodes: u32) -> Option<Self> {
        // Where there is none, there cannot be another one.
        shared_testbed()?;
        let place = Place::with(graph);
        let own = OwnTestbed(place.path().join("testbed"));
        OwnTestbed::script("up", &own.0, &["-n", &nodes.to_string(), "-c", "1", "-g", "0"]);
        let environment = environment(&own.0);
        Some(Site { place, environment, program: PROGRAM.into(), own: Some(own) })
    }

    /// Ends all that runs on a node of a cluster that is this test's own.
    pub fn crash(&self, node: &str) {
        OwnTestbed::script("crash", &self.own.as_ref().expect("it is this test's own").0, &[node]);
    }

    /// The same with the dagmar that was built with MPICH.
    pub fn with_mpich(graph: &str) -> Option<Self> {
        let Some(program) = std::env::var_os("DAGMAR_TEST_MPICH") else {
            println!("cannot run here: no build with MPICH; `scripts/test mpich` makes one");
            return None;
        };
        Some(Site { program: program.into(), ..Site::with(graph)? })
    }

    /// Runs dagmar as on the login node.
    pub fn dagmar<A: AsRef<OsStr> + Debug>(&self, arguments: &[A]) -> Ran {
        let mut command = self.place.command_of(&self.program);
        command.args(arguments).envs(self.environment.iter().cloned());
        self.place.spawn(command).end()
    }

    /// The same, and checks the exit code.
    pub fn expect<A: AsRef<OsStr> + Debug>(&self, code: i32, arguments: &[A]) -> Ran {
        let ran = self.dagmar(arguments);
        assert_eq!(ran.code(), Some(code), "{arguments:?} {ran}\n{}", self.story());
        ran
    }

    /// Submits `g.toml` and returns the job's id.
    pub fn submit(&self, arguments: &[&str]) -> String {
        let mut words = vec!["submit", "g.toml", "--cluster", "slurm", "--output", "json"];
        words.extend(arguments);
        let said = json(&self.expect(0, &words).stdout);
        said["job"].as_str().expect("the job is told").to_owned()
    }

    /// `dagmar status --output json` of the latest run.
    pub fn status(&self) -> Value {
        json(&self.expect(0, &["status", "--output", "json"]).stdout)
    }

    /// A command of Slurm's.
    pub fn slurm(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).current_dir(self.place.path()).envs(self.environment.iter().cloned());
        self.place.spawn(command).end()
    }

    /// A shell on the login node.
    pub fn shell(&self, line: &str) -> Ran {
        let mut command = Command::new("setsid");
        command.args(["--wait", "bash", "-c", line]).current_dir(self.place.path());
        command.env("DAGMAR", &self.program).envs(self.environment.iter().cloned());
        self.place.spawn(command).end()
    }

    /// What runs for this place outside of the cluster's nodes, which have process numbers of their own.
    pub fn login_processes(&self) -> Vec<String> {
        let space = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let here = space("self");
        let mut found = self.place.processes();
        found.retain(|process| space(&process.pid.to_string()) == here);
        found.into_iter().map(|process| process.line).collect()
    }

    /// Kills a rank, as the system does when memory is short.
    pub fn kill_rank(&self, rank: u32) {
        let marks = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"].map(|name| format!("{name}={rank}"));
        let is_it = |pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let here =
                |mark: &String| environment.split(|byte| *byte == 0).any(|entry| entry == mark.as_bytes());
            marks.iter().any(here)
        };
        let is_rank = |line: &str| line.contains("run --into") || line.contains("resume --launched");
        let ranks = self.place.named("dagmar").into_iter().filter(|process| is_rank(&process.line));
        let found: Vec<i32> = ranks.map(|process| process.pid).filter(|pid| is_it(*pid)).collect();
        assert!(!found.is_empty(), "rank {rank} runs: {:?}", self.place.processes());
        found.into_iter().for_each(|pid| kill("KILL", pid));
    }

    /// Waits until `g.toml`'s tasks of this group are so many in this state.
    pub fn await_tasks(&self, state: &str, count: u64) {
        until_within(JOB_PATIENCE, &format!("{count} tasks are {state}"), || {
            let status = self.status();
            match status["groups"][0][state].as_u64() {
                Some(here) if here == count => Ok(()),
                _ => Err(format!("{status}")),
            }
        });
    }

    /// What a job left, for the story of a failure.
    fn story(&self) -> String {
        let read = |name: &str| {
            let run = self.place.runs().pop().unwrap_or_default();
            fs::read_to_string(run.join(name)).unwrap_or_default()
        };
        format!("batch.out:\n{}\nlaunch.log:\n{}", read("batch.out"), read("logs/launch.log"))
    }
}

/// The hosts on which workers finished tasks, in order.
pub fn hosts_at_work(status: &Value) -> Vec<String> {
    let workers = status["workers"].as_array().expect("workers are listed");
    let busy = workers.iter().filter(|worker| worker["tasks"].as_u64() > Some(0));
    let mut hosts: Vec<String> =
        busy.map(|worker| worker["host"].as_str().unwrap_or("").to_owned()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

/// How often each task began that writes its name into `began`.
pub fn beginnings(site: &Site) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for line in site.place.read("began").lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    counts
}

/// A field of what Slurm says of a job.
pub fn field(site: &Site, job: &str, name: &str) -> String {
    let shown = site.slurm(&["scontrol", "--oneliner", "show", "job", job]);
    let begin = format!("{name}=");
    let word = shown.text().split_whitespace().find_map(|word| word.strip_prefix(&begin));
    word.unwrap_or_else(|| panic!("{name} of job {job}: {shown}")).to_owned()
}

/// The testbed for all tests, if there is one.
fn shared_testbed() -> Option<PathBuf> {
    let directory = std::env::var_os("DAGMAR_TESTBED").map(PathBuf::from);
    if directory.is_none() {
        eprintln!("cannot run here: DAGMAR_TESTBED names no testbed; `scripts/testbed/slurm up` starts one");
    }
    directory
}

/// What `env.sh` of a testbed exports.
fn environment(directory: &Path) -> Vec<(String, String)> {
    let script = directory.join("env.sh");
    let text = Command::new("bash")
        .args(["-c", ". \"$1\" && env -0", "env"])
        .arg(&script)
        .env_clear()
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    assert!(text.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&text.stderr));
    let text = String::from_utf8(text.stdout).expect("the environment is text");
    let pairs = text.split('\0').filter_map(|entry| entry.split_once('='));
    let own = |name: &str| !["PATH", "PWD", "SHLVL", "_"].contains(&name);
    pairs.filter(|(name, _)| own(name)).map(|(name, value)| (name.into(), value.into())).collect()
}
