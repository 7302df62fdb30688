//! Ranks that are up: what each worker has, whether a plan fits them, and the run itself.

use std::sync::Arc;

use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::task_list::TaskList;
use crate::record::layout::RunDirectory;
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;

use super::fit::Fleet;
use super::geometry::{Geometry, Overrides, divide};
#[cfg(feature = "mpi")]
use super::processes::Processes;
use super::scheduler_loop::{self, Watcher};
use super::signals::Signals;
use super::start::StartError;
use super::threads::Threads;

/// What a run needs to be told.
pub struct Plan {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The tasks whose outputs are wanted.
    pub asked: TaskList,
    /// True if those outputs shall be written into the run directory.
    pub persist: bool,
}

/// Ranks that are up, their workers waiting for a run.
pub struct Cluster {
    ranks: Ranks,
    geometry: Geometry,
    /// The node of each worker, in the order of ranks.
    hosts: Vec<String>,
    functions: Arc<Functions>,
    signals: Signals,
}

#[cfg_attr(feature = "mpi", expect(clippy::large_enum_variant, reason = "there is one"))]
enum Ranks {
    Threads(Threads),
    #[cfg(feature = "mpi")]
    Processes(Processes),
}

impl Cluster {
    /// Workers as threads of this process, each with its spawner.
    pub fn alone(workers: u32, overrides: &Overrides, functions: Arc<Functions>) -> Result<Self, StartError> {
        let threads = Threads::new(workers)?;
        let hardware = threads.hardware();
        let geometry = divide(&hardware, overrides);
        let signals = Signals::of(threads.scheduler())?;
        let hosts = hosts_of(hardware);
        Ok(Cluster { ranks: Ranks::Threads(threads), geometry, hosts, functions, signals })
    }

    /// The other ranks of this MPI world. Waits for the greeting of each; on failure all ranks end.
    #[cfg(feature = "mpi")]
    pub fn gather(
        mpi: crate::transport::mpi::Mpi,
        overrides: &Overrides,
        functions: Arc<Functions>,
    ) -> Result<Self, StartError> {
        let signals = Signals::of(&mpi)?;
        let processes = Processes::gather(mpi, &signals)?;
        let hardware = processes.hardware();
        let geometry = divide(&hardware, overrides);
        let hosts = hosts_of(hardware);
        Ok(Cluster { ranks: Ranks::Processes(processes), geometry, hosts, functions, signals })
    }

    /// What each worker has, and what a person should know about it.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Refuses a plan with a task that the workers can never run.
    pub fn check_fit(&self, plan: &Plan) -> Result<(), StartError> {
        Fleet { hosts: &self.hosts, capacities: &self.geometry.capacities }.check(plan)
    }

    /// Runs a plan to its end. The ranks stay up until `dismiss`, so that what must be told is told
    /// first: a launcher may end this process as soon as another one has ended.
    pub fn run(
        &mut self,
        plan: Plan,
        directory: RunDirectory,
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        for warning in &self.geometry.warnings {
            log::warn!("{warning}");
        }
        let signals = self.signals.clone();
        let Plan { graph, asked, persist } = plan;
        let setup = scheduler_loop::Setup { graph, asked, persist, directory, signals };
        let geometry = &self.geometry;
        match &mut self.ranks {
            Ranks::Threads(threads) => threads.run(geometry, &self.functions, setup, watcher),
            #[cfg(feature = "mpi")]
            Ranks::Processes(processes) => processes.run(geometry, setup, watcher),
        }
    }

    /// Ends every rank; other processes end with this exit code.
    pub fn dismiss(self, exit_code: u8) {
        match self.ranks {
            Ranks::Threads(threads) => threads.dismiss(exit_code),
            #[cfg(feature = "mpi")]
            Ranks::Processes(processes) => processes.dismiss(exit_code),
        }
    }
}

fn hosts_of(workers: Vec<Hardware>) -> Vec<String> {
    workers.into_iter().map(|worker| worker.host).collect()
}
