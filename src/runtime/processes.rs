//! Ranks as MPI processes: the greeting, the runs, and the orderly end.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::core::edit::Lineage;
use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank};
use crate::record::layout::RunDirectory;
use crate::record::packed;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Endpoint, TransportError};
use crate::transport::mpi::Mpi;
use crate::worker::function::Functions;
use crate::worker::hardware::{self, Hardware};
use crate::worker::keep::Keep;
use crate::worker::last_words;
use crate::worker::output::Output;
use crate::worker::spawner::SpawnerLink;

use super::envelope::{Envelope, Welcome};
use super::geometry::Geometry;
use super::logger;
use super::scheduler_loop::{self, Watcher, say_goodbye, say_rest, say_to_all};
use super::signals::Signals;
use super::start::StartError;
use super::worker_loop::{self, End};

/// Sleeps while nothing but a greeting can come.
const GREETING_EVERY: Duration = Duration::from_millis(100);

/// Rank 0 and the workers that greeted it.
pub(super) struct Processes {
    mpi: Mpi,
    hardware: Vec<Hardware>,
    /// True once a run broke: some ranks may be unable to answer, and nothing waits for them.
    is_broken: bool,
    /// Ranks that a run gave up.
    lost: Vec<Rank>,
}

impl Processes {
    /// Waits for the greeting of every worker. On failure all ranks end.
    pub fn gather(mut mpi: Mpi, signals: &Signals) -> Result<Self, StartError> {
        match greetings(&mut mpi, signals) {
            Ok(mut hardware) => {
                hardware::settle(&mut hardware);
                Ok(Processes { mpi, hardware, is_broken: false, lost: Vec::new() })
            }
            Err(error) => {
                say_goodbye(&mut mpi, error.exit_code(), &[]);
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
        (geometry, incarnation): (&Geometry, Incarnation),
        mut setup: scheduler_loop::Setup,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        self.is_broken = true;
        log::info!("{}", self.mpi.description());
        setup.lost = self.lost_by_now();
        welcome(&mut self.mpi, &self.hardware, (geometry, incarnation), &setup)?;
        let ended = scheduler_loop::run(&mut self.mpi, setup, watcher).map_err(StartError::Scheduler)?;
        self.lost = ended.lost;
        say_rest(&mut self.mpi, &self.lost);
        // An MPI that knows of a loss ends in order without the rank.
        self.is_broken = self.lost.iter().any(|&rank| !self.mpi.has_failed(rank));
        Ok(ended.outcome)
    }

    /// The ranks that were given up, and those that the MPI says have failed since.
    fn lost_by_now(&self) -> Vec<Rank> {
        let workers = (1..self.mpi.size()).map(Rank);
        workers.filter(|rank| self.lost.contains(rank) || self.mpi.has_failed(*rank)).collect()
    }

    /// Brings outputs that workers keep, in this order. Between runs only.
    pub fn fetch(
        &mut self,
        places: &[(Rank, u64)],
        signals: &Signals,
    ) -> Result<Vec<Arc<Output>>, StartError> {
        let mut wanted: BTreeMap<Rank, Vec<u64>> = BTreeMap::new();
        for &(worker, number) in places {
            if self.lost.contains(&worker) {
                return Err(StartError::NotKept(worker));
            }
            wanted.entry(worker).or_default().push(number);
        }
        for (&worker, numbers) in &mut wanted {
            numbers.sort_unstable();
            numbers.dedup();
            Envelope::Fetch(numbers.clone()).send(worker, &mut self.mpi)?;
        }
        let mut missing: usize = wanted.values().map(Vec::len).sum();
        let mut fetched = HashMap::with_capacity(missing);
        while missing > 0 {
            let received = match self.mpi.receive() {
                Err(TransportError::Gone(rank)) => {
                    self.lost.push(rank);
                    match wanted.contains_key(&rank) {
                        true => return Err(StartError::NotKept(rank)),
                        false => continue,
                    }
                }
                received => received?,
            };
            let Some((worker, parcel)) = received else {
                if let Some(reason) = signals.reason() {
                    return Err(StartError::Stopped(reason));
                }
                self.mpi.wait(GREETING_EVERY);
                continue;
            };
            let garbled = |error: CodecError| StartError::Greeting(format!("rank {worker}: {error}"));
            // Anything else is left over from a run that is over.
            if let Envelope::Fetched(number) = Envelope::read(&parcel).map_err(garbled)? {
                if parcel.body.is_empty() {
                    return Err(StartError::NotKept(worker));
                }
                let output = Envelope::output_of(&Arc::new(parcel.body.into_vec())).map_err(garbled)?;
                missing -= usize::from(fetched.insert(number, Arc::new(output)).is_none());
            }
        }
        Ok(places.iter().map(|(_, number)| fetched[number].clone()).collect())
    }

    /// Tells every worker that nobody needs these outputs any more. Between runs only.
    pub fn forget(&mut self, numbers: Vec<u64>) {
        say_to_all(&Envelope::Forget(numbers), &mut self.mpi, &self.lost);
    }

    /// Ends every rank with this exit code.
    pub fn dismiss(mut self, exit_code: u8) {
        match self.is_broken {
            true => say_goodbye(&mut self.mpi, exit_code, &self.lost),
            false => {
                say_goodbye(&mut self.mpi, exit_code, &self.lost);
                leave(self.mpi, exit_code);
            }
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
    (geometry, incarnation): (&Geometry, Incarnation),
    setup: &scheduler_loop::Setup,
) -> Result<(), StartError> {
    let mapping_host = host_that_maps(setup);
    let is_sent = |hardware: &Hardware| Some(&hardware.host) != mapping_host.as_ref();
    let mut graph = Vec::new();
    if hardware.iter().any(is_sent) {
        packed::write(&setup.graph, &mut graph).map_err(|error| StartError::Io("pack the graph", error))?;
    }
    let (graph, nothing) = (Arc::new(graph), Arc::new(Vec::new()));
    let run_directory = setup.directory.path().to_string_lossy().into_owned();
    for (number, ((capacity, share), hardware)) in geometry.workers().zip(hardware).enumerate() {
        let worker = Rank::from(number + 1);
        if setup.lost.contains(&worker) {
            continue;
        }
        let (capacity, share, run_directory) = (capacity.clone(), share.clone(), run_directory.clone());
        let host = hardware.host.clone();
        let lineage = Lineage::clone(setup.directory.lineage());
        let is_echoed = setup.is_echoed();
        let welcome = Welcome { incarnation, host, capacity, share, run_directory, lineage, is_echoed };
        let body = if is_sent(hardware) { &graph } else { &nothing };
        Envelope::Welcome(welcome).send_with(body.clone().into(), worker, mpi)?;
    }
    Ok(())
}

/// The host whose ranks map the packed graph in the run directory instead of being sent it: rank 0's own,
/// which certainly sees what rank 0 wrote, if the graph is worth it.
fn host_that_maps(setup: &scheduler_loop::Setup) -> Option<String> {
    let file = fs::metadata(setup.directory.graph()).ok()?;
    (file.len() >= packed::MAPPED_BYTES_MIN).then(|| Hardware::detect().host)
}

/// The graph that came with a welcome, or that lies in the run directory if none came.
fn read_graph(welcome: &Welcome, body: &[u8]) -> Result<Graph, StartError> {
    let damaged = |why: String| StartError::Graph(why);
    if !body.is_empty() {
        return packed::read(body).map_err(|error| damaged(error.to_string()));
    }
    let directory = RunDirectory::open(welcome.run_directory.as_ref());
    let path = directory.map_err(|error| damaged(error.to_string()))?.graph_of(welcome.lineage.current());
    packed::open(&path).map_err(|error| damaged(error.to_string()))
}

/// The orderly end of a rank: everything sent, then MPI finalized with the others. The process is to end with
/// this exit code.
fn leave(mut mpi: Mpi, exit_code: u8) {
    last_words::leave();
    let left = mpi.close().and_then(|()| {
        mpi.limit_finish(exit_code);
        mpi.finish(true)
    });
    if let Err(error) = left {
        log::warn!("left MPI in disorder: {error}");
    }
}

/// Is a worker rank, in one run after the other, until rank 0 says goodbye; returns the exit code that
/// it gave.
pub fn be_worker(mut mpi: Mpi, functions: Arc<Functions>, spawner: SpawnerLink) -> Result<u8, StartError> {
    // Rank 0 acts on signals; here they only must not end the process.
    let _signals = Signals::of(&mpi)?;
    Envelope::Hello(Hardware::detect()).send(Rank::SCHEDULER, &mut mpi)?;
    let spawner = Arc::new(spawner);
    functions.keep().set_spawner(&spawner);
    loop {
        let (welcome, graph) = match await_welcome(&mut mpi, functions.keep())? {
            Ok(welcome) => welcome,
            Err(exit_code) => {
                functions.keep().interpreters().close();
                leave(mpi, exit_code);
                return Ok(exit_code);
            }
        };
        let setup = setup(&mpi, welcome, graph, (functions.clone(), spawner.clone()))?;
        let (back, worked) = worker_loop::work(mpi, setup);
        mpi = back;
        if let End::Goodbye(exit_code) = worked.map_err(StartError::Worker)? {
            functions.keep().interpreters().close();
            leave(mpi, exit_code);
            return Ok(exit_code);
        }
    }
}

fn setup(
    mpi: &Mpi,
    welcome: Welcome,
    graph: Graph,
    (functions, spawner): (Arc<Functions>, Arc<SpawnerLink>),
) -> Result<worker_loop::Setup, StartError> {
    let directory = RunDirectory::open(welcome.run_directory.as_ref());
    let directory = directory
        .map_err(|error| StartError::Io("open the run directory", io::Error::other(error.to_string())))?
        .with_lineage(Arc::new(welcome.lineage));
    logger::start(&directory.log(mpi.rank())).map_err(|error| StartError::Io("write its log", error))?;
    Ok(worker_loop::Setup {
        graph: Arc::new(graph),
        directory,
        incarnation: welcome.incarnation,
        host: welcome.host,
        capacity: welcome.capacity,
        share: welcome.share,
        functions,
        spawner,
        is_echoed: welcome.is_echoed,
    })
}

/// Waits for the next run, or for the exit code if there is none. Until then rank 0 may ask for what
/// is kept.
fn await_welcome(mpi: &mut Mpi, keep: &Keep) -> Result<Result<(Welcome, Graph), u8>, StartError> {
    loop {
        let received = match mpi.receive() {
            // What another worker kept is rank 0's affair.
            Err(TransportError::Gone(rank)) if rank != Rank::SCHEDULER => continue,
            received => received?,
        };
        let Some((from, parcel)) = received else {
            mpi.wait(GREETING_EVERY);
            continue;
        };
        match Envelope::read(&parcel) {
            Ok(Envelope::Welcome(welcome)) => {
                let graph = read_graph(&welcome, &parcel.body)?;
                return Ok(Ok((welcome, graph)));
            }
            Ok(Envelope::Goodbye(exit_code)) => return Ok(Err(exit_code)),
            Ok(Envelope::Fetch(numbers)) => {
                for number in numbers {
                    let body = keep.get(number).map_or_else(Vec::new, |output| Envelope::body_of(&output));
                    Envelope::Fetched(number).send_with(Arc::new(body).into(), from, mpi)?;
                }
            }
            Ok(Envelope::Forget(numbers)) => numbers.into_iter().for_each(|number| drop(keep.remove(number))),
            // Said in the run before, too late to matter.
            Ok(Envelope::Peer(_) | Envelope::ToWorker(_) | Envelope::Rest) => {}
            other => return Err(StartError::Greeting(format!("rank {from} said {other:?}"))),
        }
    }
}

/// Ends every rank of an MPI world without a run.
pub fn dismiss(mut mpi: Mpi, exit_code: u8) {
    say_goodbye(&mut mpi, exit_code, &[]);
    leave(mpi, exit_code);
}
