//! Ranks that are up: what each worker has, whether a plan fits them, and the run itself.

use std::io;
use std::sync::Arc;

use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::resources::Resources;
use crate::record::layout::RunDirectory;
use crate::transport::inproc;
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;
use crate::worker::spawner::{Spawner, SpawnerLink};

use super::geometry::{Geometry, Overrides, divide};
#[cfg(feature = "mpi")]
use super::processes;
use super::scheduler_loop::{self, Watcher};
use super::signals::Signals;
use super::start::StartError;
use super::threads;

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
        let signals = Signals::of(&world[0])?;
        Ok(Cluster { ranks: Ranks::Threads(world, hardware, spawners), geometry, functions, signals })
    }

    /// The other ranks of this MPI world. Waits for the greeting of each.
    #[cfg(feature = "mpi")]
    pub fn gather(
        mut mpi: crate::transport::mpi::Mpi,
        overrides: &Overrides,
        functions: Arc<Functions>,
    ) -> Result<Self, StartError> {
        let signals = Signals::of(&mpi)?;
        let hardware = processes::gather_greetings(&mut mpi, &signals)?;
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
                threads::run(world, workers, setup, &self.functions, watcher)
            }
            #[cfg(feature = "mpi")]
            Ranks::Processes(mpi) => processes::run(mpi, self.geometry.capacities, setup, watcher),
        }
    }

    /// Ends without a run: other processes end with this exit code.
    #[cfg_attr(not(feature = "mpi"), expect(unused_variables, reason = "threads end with their process"))]
    pub fn dismiss(self, exit_code: u8) {
        match self.ranks {
            Ranks::Threads(..) => {}
            #[cfg(feature = "mpi")]
            Ranks::Processes(mpi) => processes::dismiss(mpi, exit_code),
        }
    }
}
