//! Ranks as threads of this process.

use std::sync::Arc;
use std::thread;

use crate::core::event::Outcome;
use crate::core::id::Incarnation;
use crate::core::resources::Resources;
use crate::transport::endpoint::Endpoint;
use crate::transport::inproc::InProcess;
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;
use crate::worker::spawner::SpawnerLink;

use super::scheduler_loop::{self, Watcher, say_goodbye};
use super::start::StartError;
use super::worker_loop;

/// Runs a plan: rank 0 in this thread, every worker in one of its own.
pub(super) fn run(
    world: Vec<InProcess>,
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
        let thread = builder.spawn(move || worker_loop::work(&mut endpoint, setup));
        threads.push(thread.map_err(|error| StartError::Io("start a worker", error))?);
    }
    let outcome = scheduler_loop::run(&mut scheduler, setup, watcher);
    if let Err(error) = &outcome {
        say_goodbye(&mut scheduler, error.exit_code());
    }
    for thread in threads {
        // A worker that failed has told the scheduler why.
        let _ = thread.join();
    }
    outcome.map_err(StartError::Scheduler)
}
