//! What this process is: alone, the scheduler of several ranks, or one of their workers.

use std::fmt;
use std::io;

use crate::core::event::{Outcome, StopReason};
use crate::core::id::Rank;
use crate::core::resources::spoken_bytes;
use crate::transport::endpoint::TransportError;

use super::scheduler_loop::SchedulerError;
use super::worker_loop::WorkerError;
use super::{exit, panic};

/// What this process is.
pub enum Role {
    /// The only process: scheduler and workers are its threads.
    Alone,
    /// Rank 0 of several, with its spawner.
    #[cfg(feature = "mpi")]
    Scheduler(crate::transport::mpi::Mpi, crate::worker::spawner::SpawnerLink),
    /// A worker, with its spawner.
    #[cfg(feature = "mpi")]
    Worker(crate::transport::mpi::Mpi, crate::worker::spawner::SpawnerLink),
}

impl Role {
    /// Finds out, and starts MPI if there are several ranks. No thread may run yet. From here on a
    /// panic ends all ranks.
    #[cfg(feature = "mpi")]
    pub fn find() -> Result<Self, StartError> {
        use crate::transport::endpoint::Endpoint;
        use crate::transport::launcher::is_alone;
        use crate::transport::mpi::{Mpi, StartError as MpiError, abort_job};
        use crate::worker::spawner::Spawner;

        use super::launcher_watch::LauncherWatch;

        panic::install(abort_job);
        if is_alone() {
            return Ok(Role::Alone);
        }
        // MPI does not like processes that it started to start others: the spawner comes first.
        let spawner = Spawner::start().map_err(|error| StartError::Io("start the spawner", error))?;
        let watch = LauncherWatch::begin();
        let mpi = Mpi::start().map_err(|error| match error {
            MpiError::WrongLauncher { .. } => {
                StartError::WrongMpi(error.to_string(), error.hint().unwrap_or_default())
            }
            other => StartError::Mpi(other.to_string()),
        })?;
        drop(watch);
        Ok(match mpi.rank() {
            Rank::SCHEDULER => Role::Scheduler(mpi, spawner),
            _ => Role::Worker(mpi, spawner),
        })
    }

    /// Without MPI every process is alone; several of them are a mistake.
    #[cfg(not(feature = "mpi"))]
    pub fn find() -> Result<Self, StartError> {
        panic::install(|_| {});
        match crate::transport::launcher::launcher_rank_count() {
            Some((variable, ranks)) if ranks > 1 => Err(StartError::NoMpi(variable, ranks)),
            _ => Ok(Role::Alone),
        }
    }
}

/// Why a cluster cannot be brought up or a run cannot go on.
#[derive(Debug)]
pub enum StartError {
    /// This process cannot do something: what, and why.
    Io(&'static str, io::Error),
    /// The launcher started several ranks, but this program was built without MPI.
    NoMpi(&'static str, u32),
    /// MPI cannot be started: its own words.
    Mpi(String),
    /// The launcher started more ranks than MPI knows: its own words, and how to start it.
    WrongMpi(String, &'static str),
    /// Another rank greeted with something else than a greeting of this version: what.
    Greeting(String),
    /// The connection broke.
    Transport(TransportError),
    /// Stopped before the run began.
    Stopped(StopReason),
    /// No worker can ever run a task: its key, the resource, how much it asks, the most there is.
    Unfit(String, String, u64, u64),
    /// A multi-node task asks for more nodes than there are: its key, how many, how many there are.
    TooFewNodes(String, u32, u32),
    /// Too few nodes have a worker that is large enough for a multi-node task: its key, the resource,
    /// how much it asks on each node; how many nodes it asks for, and how many have that much.
    UnfitNodes(String, String, u64, [u32; 2]),
    /// The scheduler cannot go on.
    Scheduler(SchedulerError),
    /// A worker cannot go on.
    Worker(WorkerError),
    /// A variable says nothing that is understood: the variable, and why.
    Setting(String, &'static str),
    /// There is no run directory to work with: why, and what to do.
    Directory(String, Option<String>),
    /// A worker no longer has an output that it kept.
    NotKept(Rank),
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
            StartError::WrongMpi(why, _) => write!(out, "{why}"),
            StartError::Greeting(what) => write!(out, "the ranks do not understand each other: {what}"),
            StartError::Transport(error) => write!(out, "cannot reach the other ranks: {error}"),
            StartError::Stopped(_) => write!(out, "stopped before the run began"),
            StartError::Unfit(key, resource, asked, most) => {
                let (asked, most) = (amount(resource, *asked), amount(resource, *most));
                write!(
                    out,
                    "task `{key}` asks for {asked} of `{resource}`, but no worker has more than {most}"
                )
            }
            StartError::TooFewNodes(key, asked, here) => {
                let (are, nodes) = if *here == 1 { ("is", "node") } else { ("are", "nodes") };
                write!(out, "task `{key}` asks for {asked} nodes, but there {are} {here} {nodes}")
            }
            StartError::UnfitNodes(key, resource, asked, [nodes, able]) => {
                let have = if *able == 1 { "node has" } else { "nodes have" };
                let asked = amount(resource, *asked);
                write!(
                    out,
                    "task `{key}` asks for {asked} of `{resource}` on each of {nodes} nodes, but {able} {have} a worker with as much"
                )
            }
            StartError::Scheduler(error) => write!(out, "{error}"),
            StartError::Worker(error) => write!(out, "{error}"),
            StartError::Setting(variable, why) => write!(out, "cannot understand `{variable}`: {why}"),
            StartError::Directory(why, _) => write!(out, "{why}"),
            StartError::NotKept(worker) => write!(out, "rank {worker} no longer has an output that it kept"),
            StartError::Graph(why) => write!(out, "the graph that rank 0 gave cannot be read: {why}"),
        }
    }
}

/// Memory in units that people read, everything else as it is.
fn amount(resource: &str, number: u64) -> String {
    match resource {
        "memory" => spoken_bytes(number),
        _ => number.to_string(),
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
            StartError::WrongMpi(_, hint) => Some((*hint).into()),
            StartError::Directory(_, hint) => hint.clone(),
            StartError::Greeting(_) => Some("start the same dagmar on every node".into()),
            StartError::TooFewNodes(_, _, 1) => Some(
                "here all workers are on one machine: ask for `ranks` without `nodes`, or run on more nodes"
                    .into(),
            ),
            StartError::TooFewNodes(..) => Some("run on more nodes, with a worker on each".into()),
            StartError::Unfit(_, resource, ..) | StartError::UnfitNodes(_, resource, ..) => Some(format!(
                "start fewer workers per node, or say what a worker has with `{}`",
                if resource == "cpus" { "--cpus N".into() } else { format!("--resource {resource}=N") }
            )),
            StartError::Scheduler(SchedulerError::Lease(error)) => error.hint().map(str::to_owned),
            StartError::Scheduler(SchedulerError::Resume(error)) if error.is_damage() => Some(
                "`dagmar resume --skip-damage` goes on without the events that are lost: their tasks run again".into(),
            ),
            StartError::Scheduler(SchedulerError::Commit(error)) => error.hint().map(str::to_owned),
            StartError::Scheduler(SchedulerError::Hang(..)) => {
                Some("`logs/rank-0.log` has more; please report it, and `dagmar resume` goes on".into())
            }
            StartError::Scheduler(SchedulerError::Worker(..) | SchedulerError::Record(..)) => Some(
                "what is durable is safe: `dagmar resume` goes on once the cause is gone (`logs/` tells more)".into(),
            ),
            _ => None,
        }
    }

    /// The exit code that fits.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::NoMpi(..) | StartError::WrongMpi(..) | StartError::Mpi(_) => exit::USAGE,
            StartError::Unfit(..) | StartError::TooFewNodes(..) | StartError::UnfitNodes(..) => exit::USAGE,
            StartError::Setting(..) | StartError::Directory(..) => exit::USAGE,
            StartError::Stopped(reason) => exit::code_of(Outcome::Stopped(*reason)),
            StartError::Transport(_) => exit::RANK_LOST,
            StartError::Scheduler(error) => error.exit_code(),
            StartError::Io(..)
            | StartError::Worker(_)
            | StartError::Graph(_)
            | StartError::Greeting(_)
            | StartError::NotKept(_) => exit::BROKEN,
        }
    }
}
