//! The ranks of a run: placed on nodes, started, and after a loss started again on what is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::launch::allocation::Allocation;
use crate::launch::plan::{LaunchPlan, LauncherKind};
use crate::launch::start::{Layout, Mpi, Ranks, StartError, find_launcher};
use crate::launch::supervise::{Ended, StopCause, Supervisor};
use crate::record::description::Description;
use crate::record::layout::RunDirectory;
use crate::runtime::exit;

use super::super::CommandResult;
use super::super::failure::Failure;
use super::super::output::tell;
use super::super::preparation::not_written;
use super::starts::Starts;
use super::{description, finished, remove_if_there};

/// A run, and where it is launched.
pub struct Launch<'a> {
    /// Where what is known of the run lies.
    pub directory: &'a RunDirectory,
    /// What was asked for when it was submitted.
    pub plan: LaunchPlan,
    /// None on a machine without a batch system.
    pub allocation: Option<&'a Allocation>,
    /// True if an earlier start of the run left something to go on with.
    pub resumes: bool,
}

impl Launch<'_> {
    /// Starts the ranks, again after a loss that leaves enough to go on with, and says how the run ended.
    pub fn run(&self, supervisor: &mut Supervisor) -> CommandResult {
        match linked_mpi() {
            Some((mpi, library)) => self.run_ranks(supervisor, mpi, &library),
            None => self.run_alone(supervisor),
        }
    }

    /// Ranks as processes, started by a launcher.
    fn run_ranks(&self, supervisor: &mut Supervisor, mpi: Mpi, library: &str) -> CommandResult {
        let launcher = find_launcher(&self.plan, mpi, &version).map_err(unstartable)?;
        let layout = Layout::new(&self.plan, &self.hosts()).map_err(unstartable)?;
        let files = self.write_layout(&layout)?;
        let ranks =
            Ranks { plan: &self.plan, launcher: &launcher, mpi, layout: &layout, host_file: &files.ranks };
        log::info!(
            "dagmar is linked with {library}; {} ranks on {}",
            layout.rank_count(),
            layout.hosts().join(",")
        );
        let concluded = self.prepare_and_run(supervisor, &ranks, &files.nodes);
        // Whatever happened, what was prepared is tidied up.
        for line in &self.plan.node_stop {
            if let Err(failure) = on_every_node(supervisor, &ranks, line, &files.nodes) {
                failure.report();
            }
        }
        concluded
    }

    fn prepare_and_run(
        &self,
        supervisor: &mut Supervisor,
        ranks: &Ranks<'_>,
        node_file: &Path,
    ) -> CommandResult {
        for line in &self.plan.node_start {
            let prepared = on_every_node(supervisor, ranks, line, node_file);
            self.check_not_stopped(supervisor)?;
            prepared?;
        }
        self.check_not_stopped(supervisor)?;
        let mut hosts = self.hosts();
        let mut starts = Starts::new(self.directory, self.resumes);
        loop {
            // After a loss there may be fewer nodes.
            let nodes = self.plan.nodes.min(hosts.len() as u32);
            let plan = self.plan.with_nodes(nodes);
            let layout = Layout::new(&plan, &hosts).map_err(unstartable)?;
            let files = self.write_layout(&layout)?;
            let ranks = Ranks { plan: &plan, layout: &layout, host_file: &files.ranks, ..*ranks };
            let ended = self.start(supervisor, ranks.command(&self.arguments(starts.resumes())))?;
            if !self.may_go_on(&ended)? || !starts.is_worth_another(&ended) {
                return self.conclude(&ended);
            }
            hosts = self.living_hosts(supervisor, &ranks, hosts)?;
            if let Some(stopped) = supervisor.stopped_or_out_of_time() {
                return self.conclude(&Ended { stopped: Some(stopped), ..ended });
            }
        }
    }

    /// Fails if a signal came before the ranks were started.
    fn check_not_stopped(&self, supervisor: &mut Supervisor) -> Result<(), Failure> {
        match supervisor.stopped() {
            Some(_) => {
                let message = format!("`{}` was stopped before it began", self.directory.name());
                Err(Failure::new(exit::STOPPED, message))
            }
            None => Ok(()),
        }
    }

    fn write_layout(&self, layout: &Layout) -> Result<LayoutFiles, Failure> {
        let ranks = self.write("hosts", &layout.host_file())?;
        Ok(LayoutFiles { ranks, nodes: self.write("nodes", &layout.node_file())? })
    }

    /// Those of the hosts on which something can be started. All of them, if that is true of none: then it
    /// is no node that was lost.
    fn living_hosts(
        &self,
        supervisor: &mut Supervisor,
        ranks: &Ranks<'_>,
        hosts: Vec<String>,
    ) -> Result<Vec<String>, Failure> {
        if hosts.len() == 1 || self.plan.launcher.kind == LauncherKind::Custom {
            return Ok(hosts);
        }
        let plan = self.plan.with_nodes(1);
        let mut probes = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            let layout = Layout::new(&plan, std::slice::from_ref(host)).map_err(unstartable)?;
            let file = self.write(&format!("probed-{number}"), &layout.node_file())?;
            let probe = Ranks { plan: &plan, layout: &layout, ..*ranks }.node_command("true", &file);
            probes.push((probe, file));
        }
        let (probes, files): (Vec<_>, Vec<_>) = probes.into_iter().unzip();
        let answers = supervisor.probe(probes);
        files.iter().try_for_each(|file| remove_if_there(file)).map_err(not_written(self.directory))?;
        if supervisor.stopped().is_some() {
            return Ok(hosts);
        }
        let mut living = Vec::new();
        for (host, lives) in hosts.iter().zip(answers) {
            match lives {
                true => living.push(host.clone()),
                false => tell(&format!("node `{host}` is left out: nothing can be started there any more")),
            }
        }
        Ok(if living.is_empty() { hosts } else { living })
    }

    /// Ranks as threads of one process: without MPI there is one node.
    fn run_alone(&self, supervisor: &mut Supervisor) -> CommandResult {
        if self.plan.nodes > 1 {
            let message = format!("cannot use {} nodes: this dagmar was built without MPI", self.plan.nodes);
            return Err(Failure::usage(message).hint("build it with `cargo build --features mpi`".to_owned()));
        }
        let mut starts = Starts::new(self.directory, self.resumes);
        self.check_not_stopped(supervisor)?;
        loop {
            let mut command = Command::new(&self.plan.program);
            command.args(self.arguments(starts.resumes()));
            if self.plan.arguments.is_none() {
                command.args(["--workers", &self.plan.workers_per_node.to_string()]);
            }
            command.envs(&self.plan.environment);
            let ended = self.start(supervisor, command)?;
            if !self.may_go_on(&ended)? || !starts.is_worth_another(&ended) {
                return self.conclude(&ended);
            }
            if let Some(stopped) = supervisor.stopped_or_out_of_time() {
                return self.conclude(&Ended { stopped: Some(stopped), ..ended });
            }
        }
    }

    fn start(&self, supervisor: &mut Supervisor, mut command: Command) -> Result<Ended, Failure> {
        log::info!("starting {command:?}");
        remove_if_there(&self.directory.refusal()).map_err(not_written(self.directory))?;
        // What an earlier start left says nothing of this one, and must not be taken for its end.
        remove_if_there(&self.directory.finished()).map_err(not_written(self.directory))?;
        if let Some(place) = self.place_of_program() {
            command.current_dir(place);
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let ended = supervisor.run_ranks(command, self.directory, self.plan.arguments.is_none());
        // Rank 0 may be on another host.
        self.directory.look_again().map_err(not_written(self.directory))?;
        ended.map_err(|error| Failure::usage(format!("cannot start the ranks with `{program}`: {error}")))
    }

    /// True if the loss of a rank cut off the run, or its start, and what is left of it can be gone on with here.
    fn may_go_on(&self, ended: &Ended) -> Result<bool, Failure> {
        // A user's own program may have done anything by then.
        if self.plan.arguments.is_some() || ended.stopped.is_some() {
            return Ok(false);
        }
        // Launchers end with 1 for many reasons: rank 0 has said so itself if it cannot go on.
        let is_refused = self.directory.refusal().exists();
        if !self.directory.has_begun() {
            let is_misused = ended.code() == i32::from(exit::USAGE);
            return Ok(!is_refused && !is_misused && !ended.status.success());
        }
        let has_client = description(self.directory)?.has_client();
        let is_cut_off = match finished(self.directory)? {
            // Whatever the launcher says: it lies about jobs that are damaged.
            // One that was told to end because it had not begun took that for an order to stop, if it just had.
            Some(finished) if ended.is_overdue && finished.exit_code == exit::STOPPED => true,
            Some(finished) => finished.exit_code == exit::RANK_LOST,
            None => !is_refused,
        };
        Ok(!has_client && is_cut_off)
    }

    /// Where a user's own program was submitted, which is where it expects to be. A graph knows its
    /// directory itself.
    fn place_of_program(&self) -> Option<PathBuf> {
        self.plan.arguments.as_ref()?;
        let description = Description::read(&self.directory.description()).ok()?;
        Some(description.directory).filter(|place| place.is_dir())
    }

    fn hosts(&self) -> Vec<String> {
        match &self.allocation {
            Some(allocation) => allocation.hosts.iter().map(|host| host.name.clone()).collect(),
            None => {
                vec![hostname::get().map_or("localhost".into(), |name| name.to_string_lossy().into_owned())]
            }
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.directory.control().join(name);
        fs::write(&path, text).map_err(not_written(self.directory))?;
        Ok(path)
    }

    /// What the program is told on every rank.
    fn arguments(&self, resumes: bool) -> Vec<String> {
        if let Some(arguments) = &self.plan.arguments {
            return arguments.clone();
        }
        let begin: &[&str] = if resumes { &["resume", "--launched"] } else { &["run", "--into"] };
        let mut words: Vec<String> = begin.iter().map(|word| (*word).to_owned()).collect();
        words.push(self.directory.path().display().to_string());
        if let Some(cpus) = self.plan.cpus_per_worker {
            words.extend(["--cpus".to_owned(), cpus.to_string()]);
        }
        if self.allocation.is_some() {
            // What is allocated is ours: tasks keep to their cores.
            words.extend(["--bind".to_owned(), "cores".to_owned()]);
        }
        for (name, amount) in &self.plan.resources {
            words.extend(["--resource".to_owned(), format!("{name}={amount}")]);
        }
        let limits =
            [("--memory-limit", self.plan.memory_limit), ("--scratch-limit", self.plan.scratch_limit)];
        for (flag, bytes) in limits.into_iter().filter_map(|(flag, bytes)| Some((flag, bytes?))) {
            words.extend([flag.to_owned(), format!("{bytes}B")]);
        }
        words
    }

    /// What the run directory says, and where it says nothing, what the launcher's end means.
    fn conclude(&self, ended: &Ended) -> CommandResult {
        log::info!("the launcher ended: {}", ended.status);
        // What was stopped before a loss could be made good can be gone on with.
        let is_made_good = |code: u8| code != exit::RANK_LOST || ended.stopped.is_none();
        if let Some(finished) = finished(self.directory)?.filter(|finished| is_made_good(finished.exit_code))
        {
            return Ok(finished.exit_code);
        }
        let code = ended.code();
        let name = self.directory.name();
        if let Some(refused) = self.refusal() {
            return Err(Failure::new(refused, format!("`{name}` cannot be run here"))
                .hint(format!("what it printed: `{}`", self.directory.batch_output().display())));
        }
        if !self.directory.has_begun() && ended.stopped.is_none() {
            // It said why itself: a task that fits nowhere, or a wrong MPI.
            let known = u8::try_from(code).ok().filter(|code| [exit::USAGE, exit::BROKEN].contains(code));
            let exit_code = known.unwrap_or(exit::RANK_LOST);
            let (why, hint) = match ended.is_overdue {
                true => (
                    "its ranks took too long to start".to_owned(),
                    "`DAGMAR_STARTING` is how many seconds they may take".to_owned(),
                ),
                false => (
                    format!("its launcher ended with {code}"),
                    format!("what it printed: `{}`", self.directory.batch_output().display()),
                ),
            };
            return Err(Failure::new(exit_code, format!("`{name}` did not begin: {why}")).hint(hint));
        }
        let (exit_code, why) = match ended.stopped {
            Some(StopCause::Walltime) => (exit::STOPPED, "it did not end before its walltime".to_owned()),
            Some(StopCause::Signal(signal)) => (exit::STOPPED, format!("signal {signal} came")),
            None if code == i32::from(exit::BROKEN) => (exit::BROKEN, "its launcher ended with 1".to_owned()),
            None => (exit::RANK_LOST, format!("its launcher ended with {code}")),
        };
        Err(Failure::new(exit_code, format!("`{name}` was cut off: {why}"))
            .hint(format!("`dagmar status {name}` tells what was done")))
    }

    /// What rank 0 said that it ends with, as it cannot go on. Launchers know only a part of the codes.
    fn refusal(&self) -> Option<u8> {
        fs::read_to_string(self.directory.refusal()).ok()?.trim().parse().ok()
    }
}

/// The files that tell a launcher where the ranks go.
struct LayoutFiles {
    /// Each of them.
    ranks: PathBuf,
    /// One on each node.
    nodes: PathBuf,
}

fn on_every_node(
    supervisor: &mut Supervisor,
    ranks: &Ranks<'_>,
    line: &str,
    node_file: &Path,
) -> Result<(), Failure> {
    let command = ranks.node_command(line, node_file);
    log::info!("on every node: {command:?}");
    let broken = |why: String| {
        Failure::new(exit::USAGE, format!("the command for every node failed: {why}"))
            .hint(format!("it is `{line}`, from the cluster template"))
    };
    let status = supervisor.run_short(command).map_err(|error| broken(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(broken(status.to_string())) }
}

fn unstartable(error: StartError) -> Failure {
    Failure::usage(error.to_string()).hint(error.hint())
}

/// The MPI that this program is linked with, if any; its ranks are the same program.
#[cfg(feature = "mpi")]
pub fn linked_mpi() -> Option<(Mpi, String)> {
    use crate::transport::mpi::library::{Family, library};

    let library = library();
    let mpi = match library.family {
        Family::OpenMpi => Mpi::OpenMpi,
        Family::Mpich | Family::IntelMpi | Family::Mvapich | Family::Other => Mpi::Mpich,
    };
    Some((mpi, library.to_string()))
}

#[cfg(not(feature = "mpi"))]
pub fn linked_mpi() -> Option<(Mpi, String)> {
    None
}

/// What a launcher says of itself.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
