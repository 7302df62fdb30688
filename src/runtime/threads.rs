//! Ranks as threads of this process.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::core::event::Outcome;
use crate::core::id::Incarnation;
use crate::transport::endpoint::Endpoint;
use crate::transport::inproc::{self, InProcess};
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;
use crate::worker::spawner::{Spawner, SpawnerLink};

use super::geometry::Geometry;
use super::scheduler_loop::{self, Watcher, say_goodbye, say_rest};
use super::start::StartError;
use super::worker_loop::{self, End};

/// Rank 0 in this thread, every worker in one of its own.
pub(super) struct Threads {
    scheduler: InProcess,
    waiting: Vec<(InProcess, Arc<SpawnerLink>)>,
    running: Vec<Running>,
    hardware: Hardware,
}

/// A worker's thread, and where it takes its runs from.
struct Running {
    setups: Sender<worker_loop::Setup>,
    thread: JoinHandle<()>,
    spawner: Arc<SpawnerLink>,
}

impl Threads {
    /// Ranks for `workers` workers, each with its spawner. No thread is started yet.
    pub fn new(workers: u32) -> Result<Self, StartError> {
        let spawners = (0..workers).map(|_| Spawner::start()).collect::<io::Result<Vec<_>>>();
        let spawners = spawners.map_err(|error| StartError::Io("start the spawner", error))?;
        let mut world = inproc::world(workers + 1).into_iter();
        let scheduler = world.next().expect("a world has a rank 0");
        let waiting = world.zip(spawners.into_iter().map(Arc::new)).collect();
        Ok(Threads { scheduler, waiting, running: Vec::new(), hardware: Hardware::detect() })
    }

    /// What each worker runs on.
    pub fn hardware(&self) -> Vec<Hardware> {
        vec![self.hardware.clone(); self.waiting.len() + self.running.len()]
    }

    /// The spawners of the workers that do not run yet.
    pub fn spawners(&self) -> impl Iterator<Item = &Arc<SpawnerLink>> {
        self.waiting.iter().map(|(_, spawner)| spawner)
    }

    /// The endpoint of rank 0.
    pub fn scheduler(&self) -> &dyn Endpoint {
        &self.scheduler
    }

    /// Runs a plan to its end.
    pub fn run(
        &mut self,
        (geometry, functions, incarnation): (&Geometry, &Arc<Functions>, Incarnation),
        setup: scheduler_loop::Setup,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        for (endpoint, spawner) in self.waiting.drain(..) {
            let running = Running::start(endpoint, spawner);
            self.running.push(running.map_err(|error| StartError::Io("start a worker", error))?);
        }
        for (worker, (capacity, share)) in self.running.iter().zip(geometry.workers()) {
            let setup = worker_loop::Setup {
                graph: setup.graph.clone(),
                directory: setup.directory.clone(),
                incarnation,
                host: self.hardware.host.clone(),
                capacity: capacity.clone(),
                share: share.clone(),
                functions: functions.clone(),
                spawner: worker.spawner.clone(),
                is_echoed: setup.is_echoed(),
            };
            // A worker that cannot go on has told the scheduler why.
            let _ = worker.setups.send(setup);
        }
        let ended = scheduler_loop::run(&mut self.scheduler, setup, watcher);
        let ended = ended.map_err(StartError::Scheduler)?;
        say_rest(&mut self.scheduler, &[]);
        Ok(ended.outcome)
    }

    /// Ends every worker and waits for it.
    pub fn dismiss(mut self, exit_code: u8) {
        say_goodbye(&mut self.scheduler, exit_code, &[]);
        for worker in self.running {
            drop(worker.setups);
            let _ = worker.thread.join();
        }
    }
}

impl Running {
    fn start(endpoint: InProcess, spawner: Arc<SpawnerLink>) -> io::Result<Self> {
        let (setups, received) = unbounded();
        let builder = thread::Builder::new().name(format!("worker {}", endpoint.rank()));
        Ok(Running { setups, thread: builder.spawn(move || be_worker(endpoint, &received))?, spawner })
    }
}

/// Works in one run after the other, until there are no more.
fn be_worker(mut endpoint: InProcess, setups: &Receiver<worker_loop::Setup>) {
    for setup in setups {
        // A worker that failed has told the scheduler why.
        let (back, worked) = worker_loop::work(endpoint, setup);
        endpoint = back;
        if worked.ok() != Some(End::Rest) {
            return;
        }
    }
    let _ = endpoint.close();
}
