//! `dagmar launch`: in the allocation, starts the ranks of a run and sees them to their end.
//!
//! Job scripts call it. What it ends with is what the run directory says: the exit codes of
//! launchers lie once something went wrong.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::allocation::Allocation;
use crate::launch::batch::{self, System};
use crate::launch::plan::LaunchPlan;
use crate::launch::start::{Layout, Mpi, Ranks, StartError, find_launcher};
use crate::launch::supervise::{Ended, StopCause, Supervisor};
use crate::record::claim::{Claim, ClaimError, Owner};
use crate::record::description::Description;
use crate::record::layout::RunDirectory;
use crate::record::mailbox::{Mailbox, Order};
use crate::record::outcome::Finished;
use crate::record::submission::Submission;
use crate::runtime::{exit, logger, program};
use crate::transport::launcher;

use super::CommandResult;
use super::failure::Failure;
use super::flags::LaunchFlags;
use super::output::tell;
use super::preparation::{not_written, refused};

/// Starts a run's ranks and waits for their end.
pub fn run(flags: &LaunchFlags) -> CommandResult {
    let directory = RunDirectory::open(&flags.run).map_err(refused)?;
    let mut plan = LaunchPlan::read(&directory.launch_plan()).map_err(|error| {
        Failure::usage(error.to_string()).hint("`dagmar submit` makes run directories to launch".to_owned())
    })?;
    if let Some((variable, _)) = launcher::launcher_rank_count() {
        let message =
            format!("`dagmar launch` starts the ranks itself, but `{variable}` says it is one of them");
        return Err(Failure::usage(message).hint("call it once, without mpirun or srun".to_owned()));
    }
    let allocation = Allocation::from_variables(&|name| env::var(name).ok());
    let allocation = allocation.map_err(|error| Failure::usage(error.to_string()))?;
    if let Some(finished) = finished(&directory)?.filter(|finished| !can_go_on(finished)) {
        tell(&format!("{} is over already, with exit code {}", directory.name(), finished.exit_code));
        return Ok(finished.exit_code);
    }
    check_place(&directory, allocation.as_ref())?;
    let restarts = allocation.as_ref().map_or(0, |allocation| allocation.restarts);
    let owner =
        Owner::this_process(allocation.as_ref().map(|allocation| allocation.id.to_string()), restarts);
    let _claim = Claim::take(&directory.claim(), &owner).map_err(|error| taken(&error, &directory))?;
    begin_anew(&directory, allocation.as_ref())?;
    if let Some(scratch) = &plan.scratch {
        let place = expand(scratch, &|name| env::var(name).ok())?;
        plan.environment.insert("DAGMAR_SCRATCH".to_owned(), place);
    }
    logger::start(&directory.path().join("logs/launch.log")).map_err(not_written(&directory))?;
    if plan.arguments.is_some() {
        set_environment(&mut plan, &directory, allocation.is_some());
    }
    Launch { directory, plan, allocation }.run()
}

/// What `dagmar run` is told by flags, a user's own program is told by variables.
fn set_environment(plan: &mut LaunchPlan, directory: &RunDirectory, is_allocated: bool) {
    let resources: Vec<String> =
        plan.resources.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    let told = [
        (program::INTO, Some(directory.path().display().to_string())),
        (program::CPUS, plan.cpus_per_worker.map(|cpus| cpus.to_string())),
        (program::RESOURCES, Some(resources.join(",")).filter(|text| !text.is_empty())),
        (program::BIND, is_allocated.then(|| "cores".to_owned())),
        (program::WORKERS, linked_mpi().is_none().then(|| plan.workers_per_node.to_string())),
    ];
    let told = told.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?)));
    plan.environment.extend(told);
}

/// A run that waits for a job of a batch system is not launched elsewhere: the job would come all the same.
fn check_place(directory: &RunDirectory, allocation: Option<&Allocation>) -> Result<(), Failure> {
    let submission = Submission::read(&directory.submission());
    let submission = submission.map_err(|error| Failure::broken(error.to_string()))?;
    let waits = submission.filter(|submission| submission.system != System::Local.name());
    match (waits, allocation) {
        (Some(submission), None) => {
            let (name, jobs) = (directory.name(), submission.jobs.join(", "));
            Err(Failure::usage(format!(
                "cannot launch `{name}` here: it was submitted as job {jobs}, and this is no job"
            ))
            .hint("its job script launches it; `dagmar run GRAPH` runs a graph here".to_owned()))
        }
        _ => Ok(()),
    }
}

fn taken(error: &ClaimError, directory: &RunDirectory) -> Failure {
    let hint = match error {
        ClaimError::Taken(_, path) => {
            format!("if that process is gone for sure, remove `{}`", path.display())
        }
        ClaimError::Io(..) => "`launch` writes into the run directory".to_owned(),
    };
    Failure::usage(format!("cannot launch `{}`: {error}", directory.name())).hint(hint)
}

/// The scratch directory, with the variables in it that a batch system sets: `$TMPDIR`, `${PBS_JOBFS}`.
fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        let (name, behind) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, behind)) => (name, behind),
            None => {
                let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                after.split_at(after.find(|letter| !is_part(letter)).unwrap_or(after.len()))
            }
        };
        let value = lookup(name).ok_or_else(|| {
            let message = format!("cannot use `scratch = {text}`: `{name}` is not set in this job");
            Failure::usage(message).hint("mend `scratch` in the cluster template".to_owned())
        })?;
        expanded.push_str(before);
        expanded.push_str(&value);
        rest = behind;
    }
    Ok(expanded + rest)
}

/// True if the run was only stopped, as by the signal that goes before a job is queued again.
fn can_go_on(finished: &Finished) -> bool {
    finished.exit_code == exit::STOPPED
}

fn finished(directory: &RunDirectory) -> Result<Option<Finished>, Failure> {
    Finished::read(&directory.finished()).map_err(|error| Failure::broken(error.to_string()))
}

/// A job that the batch system starts again finds what its first start left. Only the same job
/// may put that aside: another one could take it from ranks that are alive.
fn begin_anew(directory: &RunDirectory, allocation: Option<&Allocation>) -> Result<(), Failure> {
    if directory.has_begun() {
        check_same_job(directory, allocation)?;
    }
    let mailbox = Mailbox::new(directory.control());
    // An order to stop was meant for an earlier start; that a person cancelled the run still holds.
    let mail = mailbox.collect().map_err(not_written(directory))?;
    let is_cancelled = mail.orders.contains(&Order::Cancel);
    if directory.has_begun() {
        let aside = directory.set_aside().map_err(refused)?;
        tell(&format!("the job was started again: what it did before is in `{}`", aside.display()));
    }
    match is_cancelled {
        true => mailbox.post(Order::Cancel).map_err(not_written(directory)),
        false => Ok(()),
    }
}

fn check_same_job(directory: &RunDirectory, allocation: Option<&Allocation>) -> Result<(), Failure> {
    let description = Description::read(&directory.description()).ok();
    let earlier = description.and_then(|description| description.batch).map(|batch| batch.id);
    if earlier.is_some() && earlier == allocation.map(|allocation| allocation.id.to_string()) {
        return Ok(());
    }
    let name = directory.name();
    Err(Failure::usage(format!("`{name}` was begun already, by another job"))
        .hint(format!("`dagmar status {name}` tells how it stands; submit the graph again for a new run")))
}

struct Launch {
    directory: RunDirectory,
    plan: LaunchPlan,
    /// None on a machine without a batch system.
    allocation: Option<Allocation>,
}

impl Launch {
    fn run(&self) -> CommandResult {
        match linked_mpi() {
            Some((mpi, library)) => self.run_ranks(mpi, &library),
            None => self.run_alone(),
        }
    }

    /// Ranks as processes, started by a launcher.
    fn run_ranks(&self, mpi: Mpi, library: &str) -> CommandResult {
        let launcher = find_launcher(&self.plan, mpi, &version).map_err(unstartable)?;
        let layout = Layout::new(&self.plan, &self.hosts()).map_err(unstartable)?;
        let host_file = self.write("hosts", &layout.host_file())?;
        let node_file = self.write("nodes", &layout.node_file())?;
        let ranks =
            Ranks { plan: &self.plan, launcher: &launcher, mpi, layout: &layout, host_file: &host_file };
        log::info!("{} ranks on {}", layout.rank_count(), layout.hosts().join(","));
        let mut supervisor = self.supervisor()?;
        let concluded = self.prepare_and_run(&mut supervisor, &ranks, &node_file, library);
        // Whatever happened, what was prepared is tidied up.
        for line in &self.plan.node_stop {
            if let Err(failure) = on_every_node(&mut supervisor, &ranks, line, &node_file) {
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
        library: &str,
    ) -> CommandResult {
        for line in &self.plan.node_start {
            let prepared = on_every_node(supervisor, ranks, line, node_file);
            if supervisor.stopped().is_some() {
                let message = format!("`{}` was stopped before it began", self.directory.name());
                return Err(Failure::new(exit::STOPPED, message));
            }
            prepared?;
        }
        let command = ranks.command(&self.arguments());
        log::info!("dagmar is linked with {library}; starting {command:?}");
        self.see_to_its_end(supervisor, command)
    }

    fn supervisor(&self) -> Result<Supervisor, Failure> {
        let heeded = Supervisor::new(self.ends());
        heeded.map_err(|error| Failure::broken(format!("cannot listen for signals: {error}")))
    }

    /// Ranks as threads of one process: without MPI there is one node.
    fn run_alone(&self) -> CommandResult {
        if self.plan.nodes > 1 {
            let message = format!("cannot use {} nodes: this dagmar was built without MPI", self.plan.nodes);
            return Err(Failure::usage(message).hint("build it with `cargo build --features mpi`".to_owned()));
        }
        let mut command = Command::new(&self.plan.program);
        command.args(self.arguments());
        if self.plan.arguments.is_none() {
            command.args(["--workers", &self.plan.workers_per_node.to_string()]);
        }
        command.envs(&self.plan.environment);
        self.see_to_its_end(&mut self.supervisor()?, command)
    }

    fn see_to_its_end(&self, supervisor: &mut Supervisor, mut command: Command) -> CommandResult {
        if let Some(place) = self.place_of_program() {
            command.current_dir(place);
        }
        let program = command.get_program().to_string_lossy().into_owned();
        let ended = supervisor.run_ranks(command, &self.directory);
        let ended = ended
            .map_err(|error| Failure::usage(format!("cannot start the ranks with `{program}`: {error}")))?;
        self.conclude(&ended)
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
        fs::write(&path, text).map_err(not_written(&self.directory))?;
        Ok(path)
    }

    /// What the program is told on every rank.
    fn arguments(&self) -> Vec<String> {
        if let Some(arguments) = &self.plan.arguments {
            return arguments.clone();
        }
        let mut words =
            vec!["run".to_owned(), "--into".to_owned(), self.directory.path().display().to_string()];
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

    /// When the allocation ends, and how long before that the run stops. Where nobody knew the walltime
    /// beforehand, a quarter of it at most.
    fn ends(&self) -> Option<(Timestamp, Micros)> {
        let now = clock::now();
        let walltime = self.plan.walltime_s.map(Micros::from_secs);
        let end = match &self.allocation {
            Some(allocation) => {
                let submission = Submission::read(&self.directory.submission()).ok().flatten();
                let commands = submission.map(|submission| submission.commands).unwrap_or_default();
                let system = batch::open(
                    allocation.system,
                    batch::Commands::of_record(&commands),
                    self.directory.path(),
                );
                allocation.end(&*system, now, now, walltime)
            }
            None => walltime.map(|walltime| now + walltime),
        }?;
        let quarter = Micros(end.since(now).0 / 4);
        let margin = Micros::from_secs(self.plan.margin_s);
        let margin = if self.plan.walltime_s.is_some() { margin } else { margin.min(quarter) };
        log::info!("the allocation ends in {}; the run is asked to stop {margin} before", end.since(now));
        Some((end, margin))
    }

    /// What the run directory says, and where it says nothing, what the launcher's end means.
    fn conclude(&self, ended: &Ended) -> CommandResult {
        log::info!("the launcher ended: {}", ended.status);
        if let Some(finished) = finished(&self.directory)? {
            return Ok(finished.exit_code);
        }
        let code = ended.code();
        let name = self.directory.name();
        if !self.directory.has_begun() && ended.stopped.is_none() {
            // It said why itself: a task that fits nowhere, or a wrong MPI.
            let known = u8::try_from(code).ok().filter(|code| [exit::USAGE, exit::BROKEN].contains(code));
            let exit_code = known.unwrap_or(exit::RANK_LOST);
            let message = format!("`{name}` did not begin: its launcher ended with {code}");
            return Err(Failure::new(exit_code, message)
                .hint(format!("what it printed: `{}`", self.directory.batch_output().display())));
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
fn linked_mpi() -> Option<(Mpi, String)> {
    use crate::transport::mpi::library::{Family, library};

    let library = library();
    let mpi = match library.family {
        Family::OpenMpi => Mpi::OpenMpi,
        Family::Mpich | Family::IntelMpi | Family::Mvapich | Family::Other => Mpi::Mpich,
    };
    Some((mpi, library.to_string()))
}

#[cfg(not(feature = "mpi"))]
fn linked_mpi() -> Option<(Mpi, String)> {
    None
}

/// What a launcher says of itself.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_directory_may_name_variables() {
        let lookup = |name: &str| (name == "TMPDIR").then(|| "/local/7".to_owned());
        assert_eq!(expand("$TMPDIR/x", &lookup).unwrap(), "/local/7/x");
        assert_eq!(expand("a${TMPDIR}b", &lookup).unwrap(), "a/local/7b");
        assert_eq!(expand("/scratch", &lookup).unwrap(), "/scratch");
        let refused = expand("$PBS_JOBFS/x", &lookup).unwrap_err();
        assert!(refused.message.contains("`PBS_JOBFS` is not set"), "{refused:?}");
    }
}
