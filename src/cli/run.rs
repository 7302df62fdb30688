//! `dagmar run`: a graph from its file to its end, alone or as one rank of several.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::client::formats::units;
use crate::core::event::{Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::task_list::TaskList;
use crate::observe::snapshot::State;
use crate::record::layout::RunDirectory;
use crate::record::pack_reader::PackReader;
use crate::record::rendezvous::Rendezvous;
use crate::runtime::cluster::{Cluster, Plan};
use crate::runtime::exit;
use crate::runtime::geometry::{GPUS_MAX, Overrides};
#[cfg(feature = "mpi")]
use crate::runtime::processes;
use crate::runtime::script::{Script, ScriptEnd};
use crate::runtime::serving::{Door, Visitors, Waiting};
use crate::runtime::start::{Role, StartError};
use crate::worker::function::Functions;
use crate::worker::share::Bind;
use crate::worker::spawner::{Spawner, SpawnerLink};

use super::failure::Failure;
use super::flags::{BindFlag, HereFlags, RunFlags};
use super::output::{Format, Page, tell};
use super::preparation::{ClientOrigin, Preparation};
use super::progress::Progress;
use super::{CommandResult, failed_tasks, preparation, values};

/// Runs a graph, or is one of the ranks that do.
pub fn run(flags: &RunFlags) -> CommandResult {
    run_here(&flags.here, || Preparation::of_run(flags))
}

/// Runs what is prepared, which rank 0 alone looks at, or is one of the ranks that do.
pub(super) fn run_here(
    flags: &HereFlags,
    prepare: impl Fn() -> Result<Preparation, Failure>,
) -> CommandResult {
    let functions = Arc::new(Functions::builtin());
    match Role::find().map_err(refused)? {
        #[cfg(feature = "mpi")]
        Role::Worker(mpi, spawner) => Ok(processes::be_worker(mpi, functions, spawner).map_err(refused)?),
        #[cfg(feature = "mpi")]
        Role::Scheduler(mpi, spawner) => {
            let read = || Ok((prepare()?, overrides(flags)?));
            let (work, overrides) = match refuse_workers(flags).and_then(|()| read()) {
                Ok(read) => read,
                Err(failure) => {
                    // Told first: a launcher ends this process once another one has ended.
                    let exit_code = failure.report();
                    processes::dismiss(mpi, exit_code);
                    return Ok(exit_code);
                }
            };
            let cluster = Cluster::gather(mpi, &overrides, functions).map_err(refused)?;
            run_on(cluster, work, (flags, Some(spawner)))
        }
        Role::Alone => {
            let (work, overrides) = (prepare()?, overrides(flags)?);
            let spawner = work.has_script().then(Spawner::start).transpose();
            let spawner = spawner.map_err(|error| refused(StartError::Io("start the spawner", error)))?;
            let cluster =
                Cluster::alone(flags.workers.unwrap_or(1), &overrides, functions).map_err(refused)?;
            run_on(cluster, work, (flags, spawner))
        }
    }
}

/// Under mpirun the ranks are the workers.
#[cfg(feature = "mpi")]
fn refuse_workers(flags: &HereFlags) -> Result<(), Failure> {
    match flags.workers {
        None => Ok(()),
        Some(_) => Err(Failure::usage("`--workers` is for runs without mpirun")
            .hint("under mpirun every rank but the first is a worker: `mpirun -n 3` starts two".to_owned())),
    }
}

pub(super) fn refused(error: StartError) -> Failure {
    Failure::new(error.exit_code(), error.to_string()).hint(error.hint())
}

fn overrides(flags: &HereFlags) -> Result<Overrides, Failure> {
    let mut resources = BTreeMap::new();
    for text in &flags.resources {
        let bad = |why: &str| Failure::usage(format!("cannot understand `--resource {text}`: {why}"));
        let (name, amount) = text.split_once('=').ok_or_else(|| bad("it has no `=`"))?;
        let amount = match name {
            "memory" => units::spoken_size(amount).map_err(|why| bad(&why))?,
            "cpus" => return Err(bad("cores have a flag of their own").hint("`--cpus N`".to_owned())),
            _ => amount.parse().map_err(|_| bad("the amount is no whole number"))?,
        };
        if name == "gpus" && amount > GPUS_MAX {
            return Err(bad(&format!("a worker has at most {GPUS_MAX} GPUs")));
        }
        resources.insert(name.to_owned(), amount);
    }
    let bind = match flags.bind {
        BindFlag::None => Bind::None,
        BindFlag::Cores => Bind::Cores,
    };
    let (memory_limit, scratch_limit) = flags.limits.bytes()?;
    Ok(Overrides { cpus: flags.cpus, resources, bind, memory_limit, scratch_limit })
}

fn run_on(
    mut cluster: Cluster,
    work: Preparation,
    (flags, spawner): (&HereFlags, Option<SpawnerLink>),
) -> CommandResult {
    let begun = cluster.check_fit(&work.plan).map_err(refused).and_then(|()| work.begin());
    let (directory, taken) = match begun {
        Ok(begun) => begun,
        Err(failure) => {
            let exit_code = failure.report();
            work.refuse(exit_code);
            cluster.dismiss(exit_code);
            return Ok(exit_code);
        }
    };
    if !flags.quiet {
        cluster.geometry().warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    }
    let is_launched = work.is_launched();
    let Preparation { mut plan, keys, client, .. } = work;
    match plan_client(client.as_ref(), (&directory, spawner.as_ref())) {
        Ok(None) => {}
        Ok(client) => plan.client = client,
        Err(failure) => {
            let exit_code = failure.report();
            if is_launched {
                preparation::refuse(&directory, exit_code);
            }
            cluster.dismiss(exit_code);
            return Ok(exit_code);
        }
    }
    let client = plan.client.clone();
    let is_clients = client.is_some();
    let (graph, asked) = (plan.graph.clone(), plan.asked.clone());
    if !flags.quiet {
        tell(&first_line(&cluster, &plan, &directory));
    }
    // What tasks forward must not mix with outputs that were asked for, or with JSON.
    let is_stdout_taken = flags.output == Format::Json || !keys.is_empty();
    let mut progress = Progress::new(graph.clone(), plan.resumes, flags.quiet, is_stdout_taken);
    let outcome = cluster.run(plan, (directory.clone(), taken), &mut progress);
    progress.end();
    let is_recorded = outcome.is_ok();
    let told = outcome.map_err(|error| broken_off(error, &directory)).and_then(|outcome| {
        Told { graph: &graph, keys: &keys, asked: &asked, directory: &directory, progress: &progress, flags }
            .tell(outcome, is_clients)
            .map(|()| exit::code_of(outcome))
    });
    let told = told.and_then(|exit_code| match &client {
        Some(client) => end_client(client, exit_code),
        None => Ok(exit_code),
    });
    let exit_code = told.unwrap_or_else(|failure| failure.report());
    if is_launched && !is_recorded {
        preparation::refuse(&directory, exit_code);
    }
    // `dagmar launch` reads the outcome. A launcher that is told a code as well goes on for a while:
    // Open MPI's waits between its signals although every rank has ended.
    let exit_code = if is_recorded && is_launched { exit::DONE } else { exit_code };
    cluster.dismiss(exit_code);
    Ok(exit_code)
}

/// Starts the script that is the run's client, or opens a door for clients, if it has one or waits for some.
fn plan_client(
    origin: Option<&ClientOrigin>,
    (directory, spawner): (&RunDirectory, Option<&SpawnerLink>),
) -> Result<Option<Arc<Waiting>>, Failure> {
    let waiting = match (origin, spawner) {
        (Some(ClientOrigin::Script { path, arguments, place }), Some(spawner)) => {
            let call = (path.as_path(), arguments.as_slice());
            let failed = |error| Failure::broken(format!("cannot start `{}`: {error}", path.display()));
            Script::start(spawner, call, place).map_err(failed)?
        }
        (Some(ClientOrigin::Door { patience }), _) => {
            let failed = |error| Failure::broken(format!("cannot wait for clients: {error}"));
            open_door(directory, *patience).map_err(failed)?
        }
        _ => return Ok(None),
    };
    Ok(Some(Arc::new(waiting)))
}

/// A door, of which the run directory tells.
fn open_door(directory: &RunDirectory, patience: Duration) -> io::Result<Waiting> {
    let door = Door::open()?;
    let host = hostname::get()?.to_string_lossy().into_owned();
    let node = env::var("SLURMD_NODENAME").ok();
    Rendezvous { host, node, socket: door.socket() }.write(&directory.rendezvous())?;
    Ok(Waiting::new(Visitors::Any(door, patience)))
}

/// What the process ends with once its client has: tasks that failed are the client's own matter.
fn end_client(client: &Waiting, exit_code: u8) -> Result<u8, Failure> {
    if ![exit::DONE, exit::TASK_FAILED, exit::OUT_OF_MEMORY].contains(&exit_code) {
        return Ok(exit_code);
    }
    let failed = |why: String| Failure::new(exit::TASK_FAILED, format!("the script {why}"));
    match client.script_end() {
        None | Some(ScriptEnd::Code(0)) => Ok(exit::DONE),
        Some(ScriptEnd::Code(code)) => Err(failed(format!("exited with {code}"))),
        Some(ScriptEnd::Signal(signal)) => Err(failed(format!("was killed by signal {signal}"))),
        Some(ScriptEnd::NotStarted(why)) => Err(failed(format!("could not be started: {why}"))),
        Some(ScriptEnd::Gone) => Err(failed("is gone with the process that looked after it".to_owned())),
    }
}

fn broken_off(error: StartError, directory: &RunDirectory) -> Failure {
    let shown = directory.path().display();
    Failure { causes: vec![format!("the run directory is `{shown}`")], ..refused(error) }
}

/// `running variants-0001: 40 tasks on 2 workers (4 cpus)`. Whoever cancels or follows the run needs
/// its name.
fn first_line(cluster: &Cluster, plan: &Plan, directory: &RunDirectory) -> String {
    let needed = plan.graph.needed_by(&plan.asked);
    let tasks = plan.graph.count_shown(&needed) as usize;
    let capacities = &cluster.geometry().capacities;
    let cpus: u32 = capacities.iter().map(|capacity| capacity.cpus).sum();
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let (tasks, workers) = (counted(tasks, "task"), counted(capacities.len(), "worker"));
    format!("running {}: {tasks} on {workers} ({})", directory.name(), counted(cpus as usize, "cpu"))
}

/// Why a run ended that can be resumed.
const fn cut_short(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Done | Outcome::TasksFailed { .. } | Outcome::Stopped(StopReason::Cancelled) => None,
        Outcome::Stopped(StopReason::Interrupted) => Some("interrupted"),
        Outcome::Stopped(StopReason::Terminated) => Some("told to end"),
        Outcome::Stopped(StopReason::TooManyFailures) => Some("stopped by `--max-fails`"),
        Outcome::WorkersLost => Some("error: no worker is left for the rest"),
    }
}

/// Everything that is told at the end.
struct Told<'a> {
    graph: &'a Graph,
    keys: &'a [String],
    asked: &'a TaskList,
    directory: &'a RunDirectory,
    progress: &'a Progress,
    flags: &'a HereFlags,
}

impl Told<'_> {
    fn tell(&self, outcome: Outcome, is_clients: bool) -> Result<(), Failure> {
        let is_asked = !self.keys.is_empty();
        if self.flags.output == Format::Json {
            return self.tell_json(outcome, is_asked);
        }
        if is_asked {
            let asked = (self.keys, self.asked);
            let skipped = values::print(self.graph, self.directory, asked, |task| self.state(task))?;
            if !self.flags.quiet {
                values::tell_skipped(self.graph, &skipped);
            }
        }
        let has_failed =
            matches!(outcome, Outcome::TasksFailed { .. } | Outcome::Stopped(StopReason::TooManyFailures));
        // A client was told of each as its exception, and decided what follows.
        if has_failed && !is_clients {
            tell(&failed_tasks::text(self.graph, self.progress.snapshot(), self.directory));
        }
        if let Some(why) = cut_short(outcome).filter(|_| !is_clients) {
            tell(&format!("{why}; `dagmar resume {}` goes on with what is left", self.directory.name()));
        }
        if !self.flags.quiet {
            self.progress.report().to_lines().iter().for_each(|line| tell(line));
            tell(&format!("  run directory {}", self.directory.path().display()));
        }
        Ok(())
    }

    /// What a task that failed printed is in the logs; it is no output.
    fn state(&self, task: TaskId) -> State {
        self.progress.snapshot().state(task)
    }

    fn tell_json(&self, outcome: Outcome, is_asked: bool) -> Result<(), Failure> {
        let report = self.progress.report();
        let mut outputs = Vec::new();
        if is_asked {
            let packs = PackReader::of_run(self.directory);
            let packs = packs.map_err(|error| Failure::broken(error.to_string()))?;
            for task in self.asked.iter() {
                match self.state(task) {
                    State::Finished => {
                        let value = values::read(self.graph, task, &packs)?;
                        outputs.push(values::named(self.graph, task, &value)?);
                    }
                    State::Skipped => {
                        outputs.push(json!({ "key": self.graph.key(task), "skipped": true }));
                    }
                    _ => {}
                }
            }
        }
        Page::open().json(&json!({
            "run": self.directory.name(),
            "directory": self.directory.path(),
            "exit_code": exit::code_of(outcome),
            "report": report,
            "failures": failed_tasks::json(self.graph, self.progress.snapshot()),
            "outputs": outputs,
        }))
    }
}
