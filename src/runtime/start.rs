//! Bringing the ranks up: what this process is, what the workers have, and the run itself.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::core::event::{Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank, TaskId};
use crate::core::resources::Resources;
use crate::core::task::Body;
use crate::record::layout::RunDirectory;
use crate::record::packed;
use crate::transport::endpoint::{Endpoint, TransportError};
use crate::transport::inproc;
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;
use crate::worker::spawner::{Spawner, SpawnerLink};

use super::envelope::{Envelope, Welcome};
use super::geometry::{Geometry, Overrides, divide};
use super::scheduler_loop::{self, SchedulerError, Watcher, say_goodbye};
use super::signals::Signals;
use super::worker_loop::{self, WorkerError};
use super::{exit, logger};

/// Sleeps while nothing but a greeting can come.
const GREETING_EVERY: Duration = Duration::from_millis(100);

/// Why a cluster cannot be brought up or a run cannot go on.
#[derive(Debug)]
pub enum StartError {
    /// This process cannot do something: what, and why.
    Io(&'static str, io::Error),
    /// The launcher started several ranks, but this program was built without MPI.
    NoMpi(&'static str, u32),
    /// MPI cannot be started: its own words.
    Mpi(String),
    /// The launcher started more ranks than MPI knows: the variable, its count, MPI's count.
    WrongMpi(String),
    /// The connection broke.
    Transport(TransportError),
    /// Stopped before the run began.
    Stopped(StopReason),
    /// No worker can ever run a task: its key, the resource, how much it asks, the most there is.
    Unfit(String, String, u64, u64),
    /// The scheduler cannot go on.
    Scheduler(SchedulerError),
    /// A worker cannot go on.
    Worker(WorkerError),
    /// The graph that came from rank 0 is damaged.
    Graph(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Io(what, error) => write!(out, "cannot {what}: {error}"),
            StartError::NoMpi(variable, ranks) => {
                write!(
                    out,
                    "`{variable}` says that {ranks} ranks were started, but this dagmar was built without MPI"
                )
            }
            StartError::Mpi(why) => write!(out, "cannot start MPI: {why}"),
            StartError::WrongMpi(why) => write!(out, "{why}"),
            StartError::Transport(error) => write!(out, "cannot reach the other ranks: {error}"),
            StartError::Stopped(_) => write!(out, "stopped before the run began"),
            StartError::Unfit(key, resource, asked, most) => {
                write!(
                    out,
                    "task `{key}` asks for {asked} of `{resource}`, but no worker has more than {most}"
                )
            }
            StartError::Scheduler(error) => write!(out, "{error}"),
            StartError::Worker(error) => write!(out, "{error}"),
            StartError::Graph(why) => write!(out, "the graph that rank 0 sent is damaged: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<TransportError> for StartError {
    fn from(error: TransportError) -> Self {
        StartError::Transport(error)
    }
}

impl StartError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            StartError::NoMpi(..) => {
                Some("build it with `cargo build --features mpi`, or start it without mpirun".into())
            }
            StartError::WrongMpi(_) => Some("start it with the mpirun of the MPI it was built with".into()),
            StartError::Unfit(_, resource, ..) => Some(format!(
                "start fewer workers per node, or say what a worker has with `{}`",
                if resource == "cpus" { "--cpus N".into() } else { format!("--resource {resource}=N") }
            )),
            StartError::Scheduler(SchedulerError::Worker(..)) => {
                Some("see `logs/` in the run directory".into())
            }
            _ => None,
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::NoMpi(..) | StartError::WrongMpi(_) | StartError::Mpi(_) | StartError::Unfit(..) => {
                exit::USAGE
            }
            StartError::Stopped(reason) => exit::code_of(Outcome::Stopped(*reason)),
            StartError::Transport(_) => exit::RANK_LOST,
            StartError::Scheduler(error) => StartError::exit_code_of(error),
            StartError::Io(..) | StartError::Worker(_) | StartError::Graph(_) => exit::BROKEN,
        }
    }
}

/// What this process is.
pub enum Role {
    /// The only process: scheduler and workers are its threads.
    Alone,
    /// Rank 0 of several.
    #[cfg(feature = "mpi")]
    Scheduler(crate::transport::mpi::Mpi),
    /// A worker.
    #[cfg(feature = "mpi")]
    Worker(crate::transport::mpi::Mpi),
}

impl Role {
    /// Finds out, and starts MPI if there are several ranks. Spawners must run before.
    #[cfg(feature = "mpi")]
    pub fn find() -> Result<Self, StartError> {
        use crate::transport::launcher::is_alone;
        use crate::transport::mpi::{Mpi, StartError as MpiError};

        if is_alone() {
            return Ok(Role::Alone);
        }
        let mpi = Mpi::start().map_err(|error| match error {
            MpiError::WrongLauncher { .. } => StartError::WrongMpi(error.to_string()),
            other => StartError::Mpi(other.to_string()),
        })?;
        Ok(if mpi.rank() == Rank::SCHEDULER { Role::Scheduler(mpi) } else { Role::Worker(mpi) })
    }

    /// Without MPI every process is alone; several of them are a mistake.
    #[cfg(not(feature = "mpi"))]
    pub fn find() -> Result<Self, StartError> {
        match crate::transport::launcher::launcher_rank_count() {
            Some((variable, ranks)) if ranks > 1 => Err(StartError::NoMpi(variable, ranks)),
            _ => Ok(Role::Alone),
        }
    }
}

/// What a run needs to be told.
pub struct Plan {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The tasks whose outputs are wanted.
    pub asked: Vec<TaskId>,
    /// True if those outputs shall be written into the run directory.
    pub persist: bool,
}

/// Ranks that are up, their workers waiting for a run.
pub struct Cluster {
    ranks: Ranks,
    geometry: Geometry,
    functions: Arc<Functions>,
    signals: Signals,
}

#[cfg_attr(feature = "mpi", expect(clippy::large_enum_variant, reason = "there is one"))]
enum Ranks {
    Threads(Vec<inproc::InProcess>, Vec<Hardware>, Vec<SpawnerLink>),
    #[cfg(feature = "mpi")]
    Processes(crate::transport::mpi::Mpi),
}

impl Cluster {
    /// Workers as threads of this process, each with its spawner.
    pub fn alone(workers: u32, overrides: &Overrides, functions: Arc<Functions>) -> Result<Self, StartError> {
        let spawners = (0..workers).map(|_| Spawner::start()).collect::<io::Result<Vec<_>>>();
        let spawners = spawners.map_err(|error| StartError::Io("start the spawner", error))?;
        let hardware = vec![Hardware::detect(); workers as usize];
        let geometry = divide(&hardware, overrides);
        let world = inproc::world(workers + 1);
        let signals = listen(&world[0])?;
        Ok(Cluster { ranks: Ranks::Threads(world, hardware, spawners), geometry, functions, signals })
    }

    /// The other ranks of this MPI world. Waits for the greeting of each.
    #[cfg(feature = "mpi")]
    pub fn gather(
        mut mpi: crate::transport::mpi::Mpi,
        overrides: &Overrides,
        functions: Arc<Functions>,
    ) -> Result<Self, StartError> {
        let signals = listen(&mpi)?;
        let hardware = gather_greetings(&mut mpi, &signals)?;
        let geometry = divide(&hardware, overrides);
        Ok(Cluster { ranks: Ranks::Processes(mpi), geometry, functions, signals })
    }

    /// What each worker has, and what a person should know about it.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Refuses a plan with a task that no worker can ever run.
    pub fn check_fit(&self, plan: &Plan) -> Result<(), StartError> {
        let graph = &plan.graph;
        let needed = graph.needed_by(plan.asked.iter().copied());
        let is_unfit =
            |request: &Resources| !self.geometry.capacities.iter().any(|capacity| capacity.covers(request));
        let unfit: Vec<bool> =
            graph.columns().options.iter().map(|options| is_unfit(&options.resources)).collect();
        let is_needed =
            |task: &TaskId| needed[task.index()] && !matches!(graph.operation(*task).body, Body::Join);
        let first = graph.tasks().filter(is_needed).find(|&task| unfit[graph.options_id(task).index()]);
        first.map_or(Ok(()), |task| Err(self.unfit(graph, task)))
    }

    fn unfit(&self, graph: &Graph, task: TaskId) -> StartError {
        let request = &graph.options(task).resources;
        let lacks = self.geometry.capacities.iter().filter_map(|capacity| capacity.first_lack(request));
        let (resource, asked, most) =
            lacks.max_by_key(|(_, _, here)| *here).expect("no worker covers the request");
        StartError::Unfit(graph.key(task), resource, asked, most)
    }

    /// Runs a plan to its end.
    pub fn run(
        self,
        plan: Plan,
        directory: RunDirectory,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        for warning in &self.geometry.warnings {
            log::warn!("{warning}");
        }
        let setup = scheduler_loop::Setup {
            graph: plan.graph,
            asked: plan.asked,
            persist: plan.persist,
            directory,
            signals: self.signals,
        };
        match self.ranks {
            Ranks::Threads(world, hardware, spawners) => {
                let workers = hardware.into_iter().zip(self.geometry.capacities).zip(spawners);
                run_threads(world, workers, setup, &self.functions, watcher)
            }
            #[cfg(feature = "mpi")]
            Ranks::Processes(mpi) => run_processes(mpi, self.geometry.capacities, setup, watcher),
        }
    }

    /// Ends without a run.
    pub fn dismiss(self, exit_code: u8) {
        #[cfg(feature = "mpi")]
        if let Ranks::Processes(mpi) = self.ranks {
            dismiss(mpi, exit_code);
        }
        let _ = exit_code;
    }
}

/// Ends every rank of an MPI world without a run.
#[cfg(feature = "mpi")]
pub fn dismiss(mut mpi: crate::transport::mpi::Mpi, exit_code: u8) {
    say_goodbye(&mut mpi, exit_code);
    leave(mpi);
}

fn listen(endpoint: &dyn Endpoint) -> Result<Signals, StartError> {
    Signals::listen(endpoint.waker()).map_err(|error| StartError::Io("listen for signals", error))
}

fn run_threads(
    world: Vec<inproc::InProcess>,
    workers: impl Iterator<Item = ((Hardware, Resources), SpawnerLink)>,
    setup: scheduler_loop::Setup,
    functions: &Arc<Functions>,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, StartError> {
    let mut endpoints = world.into_iter();
    let mut scheduler = endpoints.next().expect("a world has a rank 0");
    let mut threads = Vec::new();
    for (mut endpoint, ((hardware, capacity), spawner)) in endpoints.zip(workers) {
        let setup = worker_loop::Setup {
            graph: setup.graph.clone(),
            directory: setup.directory.clone(),
            incarnation: Incarnation(1),
            host: hardware.host,
            capacity,
            functions: functions.clone(),
            spawner,
        };
        let builder = thread::Builder::new().name(format!("worker {}", endpoint.rank()));
        let thread = builder.spawn(move || work(&mut endpoint, setup));
        threads.push(thread.map_err(|error| StartError::Io("start a worker", error))?);
    }
    let outcome = scheduler_loop::run(&mut scheduler, setup, watcher);
    if let Err(error) = &outcome {
        say_goodbye(&mut scheduler, StartError::exit_code_of(error));
    }
    for thread in threads {
        // A worker that failed has told the scheduler why.
        let _ = thread.join();
    }
    outcome.map_err(StartError::Scheduler)
}

/// Works, and tells the scheduler if that comes to a bad end.
fn work(endpoint: &mut dyn Endpoint, setup: worker_loop::Setup) -> Result<u8, WorkerError> {
    let worked = worker_loop::run(endpoint, setup);
    if let Err(error) = &worked {
        log::error!("{error}");
        let _ = Envelope::Broken(error.to_string()).send(Rank::SCHEDULER, endpoint);
    }
    let closed = endpoint.close();
    worked.and_then(|exit_code| closed.map(|()| exit_code).map_err(WorkerError::from))
}

impl StartError {
    fn exit_code_of(error: &SchedulerError) -> u8 {
        match error {
            SchedulerError::Urgent(reason) => exit::code_of(Outcome::Stopped(*reason)),
            SchedulerError::Transport(_) => exit::RANK_LOST,
            // A worker that says so is not lost: what it cannot do, such as write to a full disk, its
            // successor cannot do either.
            SchedulerError::Worker(..) | SchedulerError::Garbled(..) | SchedulerError::Record(..) => {
                exit::BROKEN
            }
        }
    }
}

#[cfg(feature = "mpi")]
fn gather_greetings(
    mpi: &mut crate::transport::mpi::Mpi,
    signals: &Signals,
) -> Result<Vec<Hardware>, StartError> {
    let mut greetings: Vec<Option<Hardware>> = vec![None; mpi.size() as usize - 1];
    while greetings.iter().any(Option::is_none) {
        if let Some(reason) = signals.reason() {
            return Err(StartError::Stopped(reason));
        }
        let Some((from, parcel)) = mpi.receive()? else {
            mpi.wait(GREETING_EVERY);
            continue;
        };
        match Envelope::read(&parcel) {
            Ok(Envelope::Hello(hardware)) => greetings[from.index() - 1] = Some(hardware),
            other => return Err(StartError::Mpi(format!("rank {from} greeted with {other:?}"))),
        }
    }
    Ok(greetings.into_iter().flatten().collect())
}

#[cfg(feature = "mpi")]
fn run_processes(
    mut mpi: crate::transport::mpi::Mpi,
    capacities: Vec<Resources>,
    setup: scheduler_loop::Setup,
    watcher: &mut dyn Watcher,
) -> Result<Outcome, StartError> {
    let mut graph = Vec::new();
    packed::write(&setup.graph, &mut graph).map_err(|error| StartError::Io("pack the graph", error))?;
    let graph = Arc::new(graph);
    let run_directory = setup.directory.path().to_string_lossy().into_owned();
    for (number, capacity) in capacities.into_iter().enumerate() {
        let run_directory = run_directory.clone();
        let welcome = Welcome { incarnation: Incarnation(1), capacity, run_directory };
        Envelope::Welcome(welcome).send_with(graph.clone(), Rank::from(number + 1), &mut mpi)?;
    }
    drop(graph);
    let outcome = scheduler_loop::run(&mut mpi, setup, watcher);
    match &outcome {
        Ok(_) => leave(mpi),
        // Some ranks may be unable to answer: nothing waits for them.
        Err(error) => {
            let exit_code = StartError::exit_code_of(error);
            say_goodbye(&mut mpi, exit_code);
        }
    }
    outcome.map_err(StartError::Scheduler)
}

/// The orderly end of a rank: everything sent, then MPI finalized with the others.
#[cfg(feature = "mpi")]
fn leave(mut mpi: crate::transport::mpi::Mpi) {
    let left = mpi.close().and_then(|()| mpi.finish(true));
    if let Err(error) = left {
        log::warn!("left MPI in disorder: {error}");
    }
}

/// Is a worker rank until rank 0 says goodbye, and returns the exit code that it gave.
#[cfg(feature = "mpi")]
pub fn be_worker(
    mut mpi: crate::transport::mpi::Mpi,
    functions: Arc<Functions>,
    spawner: SpawnerLink,
) -> Result<u8, StartError> {
    // Rank 0 acts on signals; here they only must not end the process.
    let _signals = listen(&mpi)?;
    let hardware = Hardware::detect();
    Envelope::Hello(hardware.clone()).send(Rank::SCHEDULER, &mut mpi)?;
    let (welcome, graph) = match await_welcome(&mut mpi)? {
        Ok(welcome) => welcome,
        Err(exit_code) => {
            leave(mpi);
            return Ok(exit_code);
        }
    };
    let directory = RunDirectory::open(welcome.run_directory.as_ref());
    let directory = directory
        .map_err(|error| StartError::Io("open the run directory", io::Error::other(error.to_string())))?;
    logger::start(&directory.log(mpi.rank())).map_err(|error| StartError::Io("write its log", error))?;
    let setup = worker_loop::Setup {
        graph: Arc::new(graph),
        directory,
        incarnation: welcome.incarnation,
        host: hardware.host,
        capacity: welcome.capacity,
        functions,
        spawner,
    };
    let exit_code = work(&mut mpi, setup).map_err(StartError::Worker)?;
    leave(mpi);
    Ok(exit_code)
}

#[cfg(feature = "mpi")]
fn await_welcome(mpi: &mut crate::transport::mpi::Mpi) -> Result<Result<(Welcome, Graph), u8>, StartError> {
    loop {
        let Some((from, parcel)) = mpi.receive()? else {
            mpi.wait(GREETING_EVERY);
            continue;
        };
        match Envelope::read(&parcel) {
            Ok(Envelope::Welcome(welcome)) => {
                let graph =
                    packed::read(&parcel.body).map_err(|error| StartError::Graph(error.to_string()))?;
                return Ok(Ok((welcome, graph)));
            }
            Ok(Envelope::Goodbye(exit_code)) => return Ok(Err(exit_code)),
            other => return Err(StartError::Mpi(format!("rank {from} welcomed with {other:?}"))),
        }
    }
}
