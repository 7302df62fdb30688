//! Ranks as threads of this process.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::core::event::Outcome;
use crate::core::id::Incarnation;
use crate::transport::endpoint::Endpoint;
use crate::transport::inproc::{self, InProcess};
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;
use crate::worker::spawner::{Spawner, SpawnerLink};

use super::geometry::Geometry;
use super::scheduler_loop::{self, Watcher, say_goodbye};
use super::start::StartError;
use super::worker_loop::{self, WorkerError};

/// Rank 0 in this thread, every worker in one of its own.
pub(super) struct Threads {
    scheduler: InProcess,
    waiting: Vec<(InProcess, SpawnerLink)>,
    running: Vec<JoinHandle<Result<u8, WorkerError>>>,
    hardware: Hardware,
}

impl Threads {
    /// Ranks for `workers` workers, each with its spawner. No thread is started yet.
    pub fn new(workers: u32) -> Result<Self, StartError> {
        let spawners = (0..workers).map(|_| Spawner::start()).collect::<io::Result<Vec<_>>>();
        let spawners = spawners.map_err(|error| StartError::Io("start the spawner", error))?;
        let mut world = inproc::world(workers + 1).into_iter();
        let scheduler = world.next().expect("a world has a rank 0");
        let waiting = world.zip(spawners).collect();
        Ok(Threads { scheduler, waiting, running: Vec::new(), hardware: Hardware::detect() })
    }

    /// What each worker runs on.
    pub fn hardware(&self) -> Vec<Hardware> {
        vec![self.hardware.clone(); self.waiting.len()]
    }

    /// The endpoint of rank 0.
    pub fn scheduler(&self) -> &dyn Endpoint {
        &self.scheduler
    }

    /// Runs a plan to its end.
    pub fn run(
        &mut self,
        geometry: &Geometry,
        functions: &Arc<Functions>,
        setup: scheduler_loop::Setup,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        for ((endpoint, spawner), (capacity, share)) in self.waiting.drain(..).zip(geometry.workers()) {
            let setup = worker_loop::Setup {
                graph: setup.graph.clone(),
                directory: setup.directory.clone(),
                incarnation: Incarnation(1),
                host: self.hardware.host.clone(),
                capacity: capacity.clone(),
                share: share.clone(),
                functions: functions.clone(),
                spawner,
            };
            let builder = thread::Builder::new().name(format!("worker {}", endpoint.rank()));
            let thread = builder.spawn(move || worker_loop::work(endpoint, setup).1);
            self.running.push(thread.map_err(|error| StartError::Io("start a worker", error))?);
        }
        scheduler_loop::run(&mut self.scheduler, setup, watcher).map_err(StartError::Scheduler)
    }

    /// Ends every worker and waits for it.
    pub fn dismiss(mut self, exit_code: u8) {
        say_goodbye(&mut self.scheduler, exit_code);
        for thread in self.running {
            // A worker that failed has told the scheduler why.
            let _ = thread.join();
        }
    }
}
