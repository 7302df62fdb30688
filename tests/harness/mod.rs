//! The real binary, driven as a user drives it: alone or under `mpirun`, in a folder of its own.
//!
//! Everything that is started carries a token in its environment, by which it and all that it
//! forks can be found again. Nothing is waited for without a bound: a hang is a failure.
#![allow(dead_code, reason = "each test program uses its part")]

use std::ffi::OsStr;
use std::fmt::Debug;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// The variable that marks every process of a place.
const TOKEN: &str = "DAGMAR_TEST_TOKEN";

/// Longer than anything takes here that is no hang.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long processes may be seen after the program that owned them has ended.
const LINGERING: Duration = Duration::from_secs(5);

/// How dagmar is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranks {
    Alone,
    Mpi(u32),
}

/// Alone, and one scheduler with two workers.
#[cfg(feature = "mpi")]
pub const BOTH: [Ranks; 2] = [Ranks::Alone, Ranks::Mpi(3)];
/// Alone: there is no MPI in this build.
#[cfg(not(feature = "mpi"))]
pub const BOTH: [Ranks; 1] = [Ranks::Alone];

/// A folder in which dagmar runs, and all that runs there.
pub struct Place {
    folder: TempDir,
    /// Where streams go that belong to nobody in the folder.
    streams: TempDir,
    token: String,
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub took: Duration,
}

/// A program that runs. Dropping it kills it.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    began: Instant,
    story: String,
}

/// A process that carries a place's token.
#[derive(Clone, Debug)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub line: String,
}

impl Place {
    pub fn new() -> Self {
        let (folder, streams) = (new_folder(), new_folder());
        let token = format!("dagmar-test-{}", folder.path().display());
        Place { folder, streams, token }
    }

    /// A place with one graph, `g.toml`.
    pub fn with(graph: &str) -> Self {
        let place = Place::new();
        place.write("g.toml", graph);
        place
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).expect("a file can be written");
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs dagmar to its end.
    pub fn dagmar<A: AsRef<OsStr> + Debug>(&self, ranks: Ranks, arguments: &[A]) -> Ran {
        self.start(ranks, arguments).end()
    }

    /// Runs dagmar to its end and checks its exit code.
    pub fn expect<A: AsRef<OsStr> + Debug>(&self, code: i32, ranks: Ranks, arguments: &[A]) -> Ran {
        let ran = self.dagmar(ranks, arguments);
        assert_eq!(ran.status.code(), Some(code), "{ranks:?} {arguments:?} {ran}");
        ran
    }

    /// Starts dagmar and returns at once.
    pub fn start<A: AsRef<OsStr> + Debug>(&self, ranks: Ranks, arguments: &[A]) -> Running {
        let mut command = self.command(ranks);
        command.args(arguments);
        self.spawn(command)
    }

    /// dagmar without its arguments.
    pub fn command(&self, ranks: Ranks) -> Command {
        let mut command = start_command(ranks);
        command.current_dir(self.path()).env(TOKEN, &self.token);
        command
    }

    /// dagmar under the launcher `mpirun`, without its arguments.
    pub fn mpi_command(&self, mpirun: &str, ranks: u32) -> Command {
        let mut command = mpi_command(mpirun, ranks);
        command.current_dir(self.path()).env(TOKEN, &self.token);
        command
    }

    /// Any program of this place.
    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env(TOKEN, &self.token);
        command
    }

    /// Starts a command of this place.
    pub fn spawn(&self, mut command: Command) -> Running {
        let number = fs::read_dir(self.streams.path()).expect("streams are listed").count();
        let [stdout, stderr] =
            ["out", "err"].map(|name| self.streams.path().join(format!("{number}.{name}")));
        let file = |path: &Path| File::create(path).expect("a stream's file can be made");
        let story = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(file(&stdout)).stderr(file(&stderr));
        let child = command.spawn().unwrap_or_else(|error| panic!("{story}: {error}"));
        Running { child, stdout, stderr, began: Instant::now(), story }
    }

    /// The run directories, in order of name.
    pub fn runs(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path().join("dagmar-runs")).into_iter().flatten();
        let mut runs: Vec<PathBuf> = entries.map(|entry| entry.expect("a run is listed").path()).collect();
        runs.sort();
        runs
    }

    /// The only run's directory.
    pub fn run(&self) -> PathBuf {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].clone()
    }

    /// `dagmar status --output json` of the latest run.
    pub fn status(&self) -> Value {
        json(&self.expect(0, Ranks::Alone, &["status", "--output", "json"]).stdout)
    }

    /// Every process of this place.
    pub fn processes(&self) -> Vec<Process> {
        let mark = format!("{TOKEN}={}", self.token);
        let entries = fs::read_dir("/proc").expect("Linux has /proc").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter_map(|pid| process(pid, mark.as_bytes())).collect()
    }

    /// The processes of this name.
    pub fn named(&self, name: &str) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.name == name).collect()
    }

    /// Sees that nothing is left of what was started here.
    pub fn expect_nothing_left(&self) {
        until_within(LINGERING, "a process is left", || match self.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }

    /// Waits until so many `sleep`s run here.
    pub fn await_sleeps(&self, count: usize) {
        until(&format!("{count} sleeps run"), || match self.named("sleep").len() {
            here if here == count => Ok(()),
            here => Err(format!("{here} run; {:?}", self.processes())),
        });
    }
}

impl Drop for Place {
    /// What a failed test left behind must not disturb the next.
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = Command::new("kill").args(["-9", &process.pid.to_string()]).status();
        }
    }
}

impl Running {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends a signal, by name, to the program; under `mpirun` that is mpirun.
    pub fn signal(&self, name: &str) {
        kill(name, self.pid());
    }

    pub fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_some()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> Vec<u8> {
        fs::read(&self.stdout).expect("the stream's file is there")
    }

    /// What it has told so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).expect("the stream's file is there")).into_owned()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ran {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                let (stdout, stderr) = (self.stdout(), self.stderr());
                return Ran { status, stdout, stderr, took: self.began.elapsed() };
            }
            let told = self.stderr();
            assert!(began.elapsed() < PATIENCE, "it hangs: {}\n{told}", self.story);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is text")
    }

    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Checks that something was told.
    pub fn tells(&self, what: &str) -> &Self {
        assert!(self.stderr.contains(what), "`{what}` was not told: {self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2_000)]);
        let code = self.status.code().or(self.status.signal().map(|signal| -signal));
        write!(out, "ended with {code:?} after {:?}\nstdout:\n{stdout}\nstderr:\n{}", self.took, self.stderr)
    }
}

fn start_command(ranks: Ranks) -> Command {
    match ranks {
        Ranks::Alone => Command::new(env!("CARGO_BIN_EXE_dagmar")),
        Ranks::Mpi(count) => mpi_command(&mpirun(), count),
    }
}

fn mpi_command(mpirun: &str, ranks: u32) -> Command {
    require(mpirun);
    let mut command = Command::new(mpirun);
    command.args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_dagmar")]);
    command.envs(MPI_VARIABLES);
    command
}

/// The tests run as root in containers, and on machines with fewer cores than ranks.
pub const MPI_VARIABLES: [(&str, &str); 8] = [
    ("OMPI_ALLOW_RUN_AS_ROOT", "1"),
    ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
    ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
    ("OMPI_MCA_hwloc_base_binding_policy", "none"),
    ("PRTE_ALLOW_RUN_AS_ROOT", "1"),
    ("PRTE_ALLOW_RUN_AS_ROOT_CONFIRM", "1"),
    ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
    ("PRTE_MCA_hwloc_default_binding_policy", "none"),
];

/// The launcher of the MPI that dagmar was built with: `DAGMAR_TEST_MPIRUN`, else `mpirun`.
pub fn mpirun() -> String {
    std::env::var("DAGMAR_TEST_MPIRUN").unwrap_or_else(|_| "mpirun".into())
}

/// Fails and says how to get a tool that is missing.
pub fn require(tool: &str) {
    assert!(is_on_path(tool), "this test needs `{tool}`, which is not on PATH: run `scripts/setup`");
}

pub fn is_on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// Sends a signal by its name.
pub fn kill(name: &str, pid: i32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.expect("`kill` starts").success(), "{pid} cannot be sent {name}");
}

/// Waits until `condition` holds; what it says meanwhile is the story of a failure.
pub fn until<T>(what: &str, condition: impl FnMut() -> Result<T, String>) -> T {
    until_within(PATIENCE / 4, what, condition)
}

/// The same with a bound.
pub fn until_within<T>(bound: Duration, what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(story) => assert!(began.elapsed() < bound, "{what}: {story}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// JSON that was printed.
pub fn json(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// JSON lines that were printed.
pub fn json_lines(bytes: &[u8]) -> Vec<Value> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(json).collect()
}

fn process(pid: i32, mark: &[u8]) -> Option<Process> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let environment = fs::read(folder.join("environ")).ok()?;
    environment.split(|byte| *byte == 0).any(|variable| variable == mark).then_some(())?;
    let name = fs::read_to_string(folder.join("comm")).ok()?.trim().to_owned();
    let line = fs::read(folder.join("cmdline")).ok()?;
    let line = String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned();
    Some(Process { pid, name, line })
}

fn new_folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}
