//! Ranks as MPI processes: the greeting, the run, and the orderly end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank};
use crate::record::layout::RunDirectory;
use crate::record::packed;
use crate::transport::endpoint::Endpoint;
use crate::transport::mpi::Mpi;
use crate::worker::function::Functions;
use crate::worker::hardware::{self, Hardware};
use crate::worker::spawner::SpawnerLink;

use super::envelope::{Envelope, Welcome};
use super::geometry::Geometry;
use super::scheduler_loop::{self, Watcher, say_goodbye};
use super::signals::Signals;
use super::start::StartError;
use super::{logger, worker_loop};

/// Sleeps while nothing but a greeting can come.
const GREETING_EVERY: Duration = Duration::from_millis(100);

/// Rank 0 and the workers that greeted it.
pub(super) struct Processes {
    mpi: Mpi,
    hardware: Vec<Hardware>,
    /// True once a run broke: some ranks may be unable to answer, and nothing waits for them.
    is_broken: bool,
}

impl Processes {
    /// Waits for the greeting of every worker. On failure all ranks end.
    pub fn gather(mut mpi: Mpi, signals: &Signals) -> Result<Self, StartError> {
        match greetings(&mut mpi, signals) {
            Ok(mut hardware) => {
                hardware::settle(&mut hardware);
                Ok(Processes { mpi, hardware, is_broken: false })
            }
            Err(error) => {
                say_goodbye(&mut mpi, error.exit_code());
                Err(error)
            }
        }
    }

    /// What each worker runs on.
    pub fn hardware(&self) -> Vec<Hardware> {
        self.hardware.clone()
    }

    /// Runs a plan to its end.
    pub fn run(
        &mut self,
        geometry: &Geometry,
        setup: scheduler_loop::Setup,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        self.is_broken = true;
        log::info!("{}", self.mpi.description());
        welcome(&mut self.mpi, &self.hardware, geometry, &setup)?;
        let outcome = scheduler_loop::run(&mut self.mpi, setup, watcher).map_err(StartError::Scheduler)?;
        self.is_broken = false;
        Ok(outcome)
    }

    /// Ends every rank with this exit code.
    pub fn dismiss(mut self, exit_code: u8) {
        match self.is_broken {
            true => say_goodbye(&mut self.mpi, exit_code),
            false => dismiss(self.mpi, exit_code),
        }
    }
}

fn greetings(mpi: &mut Mpi, signals: &Signals) -> Result<Vec<Hardware>, StartError> {
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
            other => return Err(StartError::Greeting(format!("rank {from} said {other:?}"))),
        }
    }
    Ok(greetings.into_iter().flatten().collect())
}

/// Sends every worker what it must know to begin.
fn welcome(
    mpi: &mut Mpi,
    hardware: &[Hardware],
    geometry: &Geometry,
    setup: &scheduler_loop::Setup,
) -> Result<(), StartError> {
    let mut graph = Vec::new();
    packed::write(&setup.graph, &mut graph).map_err(|error| StartError::Io("pack the graph", error))?;
    let graph = Arc::new(graph);
    let run_directory = setup.directory.path().to_string_lossy().into_owned();
    for (number, ((capacity, share), hardware)) in geometry.workers().zip(hardware).enumerate() {
        let (capacity, share, run_directory) = (capacity.clone(), share.clone(), run_directory.clone());
        let host = hardware.host.clone();
        let welcome = Welcome { incarnation: Incarnation(1), host, capacity, share, run_directory };
        Envelope::Welcome(welcome).send_with(graph.clone().into(), Rank::from(number + 1), mpi)?;
    }
    Ok(())
}

/// The orderly end of a rank: everything sent, then MPI finalized with the others.
fn leave(mut mpi: Mpi) {
    let left = mpi.close().and_then(|()| mpi.finish(true));
    if let Err(error) = left {
        log::warn!("left MPI in disorder: {error}");
    }
}

/// Is a worker rank until rank 0 says goodbye, and returns the exit code that it gave.
pub fn be_worker(mut mpi: Mpi, functions: Arc<Functions>, spawner: SpawnerLink) -> Result<u8, StartError> {
    // Rank 0 acts on signals; here they only must not end the process.
    let _signals = Signals::of(&mpi)?;
    Envelope::Hello(Hardware::detect()).send(Rank::SCHEDULER, &mut mpi)?;
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
        host: welcome.host,
        capacity: welcome.capacity,
        share: welcome.share,
        functions,
        spawner,
    };
    let (mpi, worked) = worker_loop::work(mpi, setup);
    let exit_code = worked.map_err(StartError::Worker)?;
    leave(mpi);
    Ok(exit_code)
}

fn await_welcome(mpi: &mut Mpi) -> Result<Result<(Welcome, Graph), u8>, StartError> {
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
            other => return Err(StartError::Greeting(format!("rank {from} said {other:?}"))),
        }
    }
}

/// Ends every rank of an MPI world without a run.
pub fn dismiss(mut mpi: Mpi, exit_code: u8) {
    say_goodbye(&mut mpi, exit_code);
    leave(mpi);
}
