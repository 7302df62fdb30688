//! Ranks that are up: what each worker has, whether a plan fits them, and the run itself.

use std::sync::Arc;

use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::resources::Resources;
use crate::record::layout::RunDirectory;
use crate::worker::function::Functions;

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
    Threads(Threads),
    #[cfg(feature = "mpi")]
    Processes(Processes),
}

impl Cluster {
    /// Workers as threads of this process, each with its spawner.
    pub fn alone(workers: u32, overrides: &Overrides, functions: Arc<Functions>) -> Result<Self, StartError> {
        let threads = Threads::new(workers)?;
        let geometry = divide(&threads.hardware(), overrides);
        let signals = Signals::of(threads.scheduler())?;
        Ok(Cluster { ranks: Ranks::Threads(threads), geometry, functions, signals })
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
        let geometry = divide(&processes.hardware(), overrides);
        Ok(Cluster { ranks: Ranks::Processes(processes), geometry, functions, signals })
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
        let is_needed = |task: &TaskId| needed[task.index()] && !graph.is_join(*task);
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
