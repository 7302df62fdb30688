//! `dagmar launch`: in the allocation, starts the ranks of a run and sees them to their end.
//!
//! Job scripts call it. What it ends with is what the run directory says: the exit codes of
//! launchers lie once something went wrong.

mod chain;
mod starts;

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::clock;
use crate::core::time::{Micros, Timestamp};
use crate::launch::allocation::Allocation;
use crate::launch::batch::{self, System};
use crate::launch::plan::{LaunchPlan, LauncherKind};
use crate::launch::start::{Layout, Mpi, Ranks, StartError, find_launcher};
use crate::launch::supervise::{Ended, StopCause, Supervisor};
use crate::record::claim::{Claim, ClaimError, Owner};
use crate::record::description::Description;
use crate::record::layout::RunDirectory;
use crate::record::mailbox::{Mailbox, Order};
use crate::record::outcome::Finished;
use crate::record::submission::Submission;
use crate::runtime::{exit, logger, margin, program};
use crate::transport::launcher;

use super::failure::Failure;
use super::flags::LaunchFlags;
use super::output::tell;
use super::preparation::{not_written, refused};
use super::run_job::can_go_on;
use super::{CommandResult, OK};
use chain::Chain;
use starts::{Starts, ended_attempts};

/// How much earlier than it was asked to Slurm may send the signal that announces the end of a job.
const SIGNAL_EARLY: Micros = Micros::from_secs(60);

/// Starts a run's ranks and waits for their end.
pub fn run(flags: &LaunchFlags) -> CommandResult {
    let began = clock::now();
    let directory = RunDirectory::open(&flags.run).map_err(refused)?;
    let plan = LaunchPlan::read(&directory.launch_plan()).map_err(|error| {
        Failure::usage(error.to_string()).hint("`dagmar submit` makes run directories to launch".to_owned())
    })?;
    if let Some((variable, _)) = launcher::launcher_rank_count() {
        let message =
            format!("`dagmar launch` starts the ranks itself, but `{variable}` says it is one of them");
        return Err(Failure::usage(message).hint("call it once, without mpirun or srun".to_owned()));
    }
    let allocation = Allocation::from_variables(&|name| env::var(name).ok());
    let allocation = allocation.map_err(|error| Failure::usage(error.to_string()))?;
    let chain = Chain::new(&directory, allocation.as_ref());
    if let Some(finished) = finished(&directory)?.filter(|finished| !can_go_on(finished)) {
        tell(&format!("{} is over already, with exit code {}", directory.name(), finished.exit_code));
        // A job that came in case it was needed has not failed.
        return Ok(if chain.is_further_job() { OK } else { finished.exit_code });
    }
    if let Some(job) = chain.gave_up() {
        tell(&format!("{} got nowhere in job {job}, so this one does not try", directory.name()));
        return Ok(OK);
    }
    check_place(&directory, allocation.as_ref())?;
    let restarts = allocation.as_ref().map_or(0, |allocation| allocation.restarts);
    let owner =
        Owner::this_process(allocation.as_ref().map(|allocation| allocation.id.to_string()), restarts);
    let claim = Claim::take(&directory.claim(), &owner, &|job| chain.is_over(job));
    let _claim = claim.map_err(|error| taken(&error, &directory))?;
    let ended = chain.is_of_several().then(|| ended_attempts(&directory));
    let end = ends(&directory, &plan, allocation.as_ref(), began);
    let concluded = take_up(&directory, plan, allocation.as_ref(), end);
    if let Some(ended) = ended.filter(|_| chain.has_more()) {
        see_to_later_jobs(&chain, &directory, ended, end)?;
    }
    concluded
}

/// Takes back the jobs of the chain that nobody needs: the run is over, or gets nowhere. A job that was ended
/// long before its time, as by preemption, says nothing of what the next one can do.
fn see_to_later_jobs(
    chain: &Chain<'_>,
    directory: &RunDirectory,
    ended: u64,
    end: Option<(Timestamp, Micros)>,
) -> Result<(), Failure> {
    let finished = finished(directory)?;
    if finished.as_ref().is_some_and(|finished| !can_go_on(finished)) {
        chain.cancel_later();
        return Ok(());
    }
    let is_stopped = finished.is_some_and(|finished| finished.exit_code == exit::STOPPED);
    let is_cut_short = end.is_some_and(|(end, margin)| clock::now() + margin + SIGNAL_EARLY < end);
    if ended_attempts(directory) == ended && !(is_stopped && is_cut_short) {
        chain.give_up();
    }
    Ok(())
}

/// Begins a run or goes on with it, to the end of its ranks.
fn take_up(
    directory: &RunDirectory,
    mut plan: LaunchPlan,
    allocation: Option<&Allocation>,
    ends: Option<(Timestamp, Micros)>,
) -> CommandResult {
    let resumes = begin_again(directory, &plan)?;
    if let Some(scratch) = &plan.scratch {
        let place = expand(scratch, &|name| env::var(name).ok())?;
        plan.environment.insert("DAGMAR_SCRATCH".to_owned(), place);
    }
    logger::start(&directory.path().join("logs/launch.log")).map_err(not_written(directory))?;
    if let Some((end, margin)) = ends {
        let left = end.since(clock::now());
        log::info!("the allocation ends in {left}; the run is asked to stop {margin} before");
    }
    if let Some((end, margin)) = ends {
        // The ranks start nothing that would not be over by then.
        let until = end.0.saturating_sub(margin.0) / 1_000_000;
        plan.environment.insert(margin::UNTIL.to_owned(), until.to_string());
    }
    if plan.arguments.is_some() {
        set_environment(&mut plan, directory, allocation.is_some());
    }
    Launch { directory, plan, allocation, ends, resumes }.run()
}

/// When the allocation ends, and how long before that the run stops. Where nobody knew the walltime
/// beforehand, a quarter of it at most.
fn ends(
    directory: &RunDirectory,
    plan: &LaunchPlan,
    allocation: Option<&Allocation>,
    began: Timestamp,
) -> Option<(Timestamp, Micros)> {
    let walltime = plan.walltime_s.map(Micros::from_secs);
    let end = match allocation {
        Some(allocation) => {
            let submission = Submission::read(&directory.submission()).ok().flatten();
            let commands = submission.map(|submission| submission.commands).unwrap_or_default();
            let commands = batch::Commands::of_record(&commands);
            let system = batch::open(allocation.system, commands, directory.path());
            allocation.end(&*system, clock::now(), began, walltime)
        }
        None => walltime.map(|walltime| began + walltime),
    }?;
    let quarter = Micros(end.since(clock::now()).0 / 4);
    let margin = Micros::from_secs(plan.margin_s);
    Some((end, if plan.walltime_s.is_some() { margin } else { margin.min(quarter) }))
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

fn finished(directory: &RunDirectory) -> Result<Option<Finished>, Failure> {
    Finished::read(&directory.finished()).map_err(|error| Failure::broken(error.to_string()))
}

/// What an earlier start of the run left is gone on with. True if there is anything.
///
/// A user's own program cannot be: it begins anew, and what it did before is put aside.
fn begin_again(directory: &RunDirectory, plan: &LaunchPlan) -> Result<bool, Failure> {
    let mailbox = Mailbox::new(directory.control());
    // An order to stop was meant for an earlier start; that a person cancelled the run still holds.
    let mail = mailbox.collect().map_err(not_written(directory))?;
    let is_cancelled = mail.orders.contains(&Order::Cancel);
    let has_begun = directory.has_begun();
    if has_begun && plan.arguments.is_some() {
        let aside = directory.set_aside().map_err(refused)?;
        tell(&format!("the program is started again: what it did before is in `{}`", aside.display()));
    } else if has_begun {
        tell(&format!("going on with `{}`", directory.name()));
        // It is not over any more: whoever waits for the launcher must not take it for that.
        remove_if_there(&directory.finished()).map_err(not_written(directory))?;
    }
    if is_cancelled {
        mailbox.post(Order::Cancel).map_err(not_written(directory))?;
    }
    Ok(has_begun && plan.arguments.is_none())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

struct Launch<'a> {
    directory: &'a RunDirectory,
    plan: LaunchPlan,
    /// None on a machine without a batch system.
    allocation: Option<&'a Allocation>,
    /// When the allocation ends, and how long before that the run is asked to stop.
    ends: Option<(Timestamp, Micros)>,
    /// True if an earlier start of the run left something to go on with.
    resumes: bool,
}

impl Launch<'_> {
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
        let files = self.write_layout(&layout)?;
        let ranks =
            Ranks { plan: &self.plan, launcher: &launcher, mpi, layout: &layout, host_file: &files.ranks };
        log::info!(
            "dagmar is linked with {library}; {} ranks on {}",
            layout.rank_count(),
            layout.hosts().join(",")
        );
        let mut supervisor = self.supervisor()?;
        let concluded = self.prepare_and_run(&mut supervisor, &ranks, &files.nodes);
        // Whatever happened, what was prepared is tidied up.
        for line in &self.plan.node_stop {
            if let Err(failure) = on_every_node(&mut supervisor, &ranks, line, &files.nodes) {
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
            if supervisor.stopped().is_some() {
                let message = format!("`{}` was stopped before it began", self.directory.name());
                return Err(Failure::new(exit::STOPPED, message));
            }
            prepared?;
        }
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
            if supervisor.stopped().is_some() {
                return self.conclude(&Ended { stopped: supervisor.stopped(), ..ended });
            }
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

    fn supervisor(&self) -> Result<Supervisor, Failure> {
        let heeded = Supervisor::new(self.ends);
        heeded.map_err(|error| Failure::broken(format!("cannot listen for signals: {error}")))
    }

    /// Ranks as threads of one process: without MPI there is one node.
    fn run_alone(&self) -> CommandResult {
        if self.plan.nodes > 1 {
            let message = format!("cannot use {} nodes: this dagmar was built without MPI", self.plan.nodes);
            return Err(Failure::usage(message).hint("build it with `cargo build --features mpi`".to_owned()));
        }
        let mut supervisor = self.supervisor()?;
        let mut starts = Starts::new(self.directory, self.resumes);
        loop {
            let mut command = Command::new(&self.plan.program);
            command.args(self.arguments(starts.resumes()));
            if self.plan.arguments.is_none() {
                command.args(["--workers", &self.plan.workers_per_node.to_string()]);
            }
            command.envs(&self.plan.environment);
            let ended = self.start(&mut supervisor, command)?;
            if !self.may_go_on(&ended)? || !starts.is_worth_another(&ended) {
                return self.conclude(&ended);
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
        let ended = supervisor.run_ranks(command, self.directory);
        ended.map_err(|error| Failure::usage(format!("cannot start the ranks with `{program}`: {error}")))
    }

    /// True if the run was cut off by the loss of a rank, and what is left of it can be gone on with here.
    fn may_go_on(&self, ended: &Ended) -> Result<bool, Failure> {
        let is_ours = self.plan.arguments.is_none();
        // Launchers end with 1 for many reasons: rank 0 has said so itself if it cannot go on.
        let is_refused = self.directory.refusal().exists();
        let has_begun = self.directory.has_begun();
        let is_cut_off = match finished(self.directory)? {
            // Whatever the launcher says: it lies about jobs that are damaged.
            Some(finished) => finished.exit_code == exit::RANK_LOST,
            None => !is_refused,
        };
        Ok(is_ours && has_begun && ended.stopped.is_none() && is_cut_off)
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
        if let Some(finished) = finished(self.directory)? {
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
