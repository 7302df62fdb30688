//! Ranks that are up: what each worker has, whether a plan fits them, and the run itself.

use std::sync::Arc;

use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank};
use crate::core::scheduler::Persist;
use crate::core::task_list::TaskList;
use crate::record::layout::RunDirectory;
use crate::record::resume::OnDamage;
use crate::worker::function::Functions;
use crate::worker::hardware::Hardware;
use crate::worker::output::Output;

use super::edited::TakenOver;
use super::fit::Fleet;
use super::geometry::{Geometry, Overrides, divide};
use super::panic;
#[cfg(feature = "mpi")]
use super::processes::Processes;
use super::scheduler_loop::{self, Watcher};
use super::serving::Waiting;
use super::signals::Signals;
use super::start::StartError;
use super::threads::Threads;

/// How many tasks that were sent to one worker it may run at once.
const PINNED_MAX: u64 = 64;

/// What a run needs to be told.
pub struct Plan {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The tasks whose outputs are wanted.
    pub asked: TaskList,
    /// True if these are printed in the end.
    pub prints: bool,
    /// What is written into the run directory.
    pub persist: Persist,
    /// How many tasks may fail before the run is stopped; none: as many as do.
    pub max_fails: Option<u32>,
    /// How often a task may kill the rank it runs in.
    pub crash_limit: u32,
    /// True if the run directory has what earlier processes of the run left.
    pub resumes: bool,
    /// True if tasks are left away whose files are there.
    pub if_missing: bool,
    /// Whether a journal that is damaged is refused.
    pub on_damage: OnDamage,
    /// Who submits tasks while it runs, if anybody does.
    pub client: Option<Arc<Waiting>>,
}

/// Ranks that are up, their workers waiting for a run.
pub struct Cluster {
    ranks: Ranks,
    geometry: Geometry,
    /// The node of each worker, in the order of ranks.
    hosts: Vec<String>,
    functions: Arc<Functions>,
    signals: Signals,
    /// How many runs were begun: the lives of the workers are counted by them.
    runs: u32,
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
        threads.spawners().for_each(|spawner| functions.keep().set_spawner(spawner));
        Ok(Cluster { ranks: Ranks::Threads(threads), geometry, hosts, functions, signals, runs: 0 })
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
        Ok(Cluster { ranks: Ranks::Processes(processes), geometry, hosts, functions, signals, runs: 0 })
    }

    /// What each worker has, and what a person should know about it.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Refuses a plan with a task that the workers can never run.
    pub fn check_fit(&self, plan: &Plan) -> Result<(), StartError> {
        Fleet { hosts: &self.hosts, capacities: &self.geometry.capacities }.check(plan)
    }

    /// Gives every worker a resource that it alone has, so that a task can be sent to it, and returns
    /// their names in the order of ranks. None are needed where all workers are one process.
    pub fn pins(&mut self) -> Vec<String> {
        if matches!(self.ranks, Ranks::Threads(_)) {
            return Vec::new();
        }
        let pins: Vec<String> =
            (1..=self.geometry.capacities.len()).map(|rank| format!("rank-{rank}")).collect();
        for (capacity, pin) in self.geometry.capacities.iter_mut().zip(&pins) {
            capacity.custom.insert(pin.clone(), PINNED_MAX);
        }
        pins
    }

    /// Brings outputs that workers kept beyond their run, in this order.
    pub fn fetch(&mut self, places: &[(Rank, u64)]) -> Result<Vec<Arc<Output>>, StartError> {
        match &mut self.ranks {
            Ranks::Threads(_) => {
                let get = |&(worker, number): &(Rank, u64)| {
                    self.functions.keep().get(number).ok_or(StartError::NotKept(worker))
                };
                places.iter().map(get).collect()
            }
            #[cfg(feature = "mpi")]
            Ranks::Processes(processes) => panic::out_of_body(|| processes.fetch(places, &self.signals)),
        }
    }

    /// Lets outputs go that workers keep.
    pub fn forget(&mut self, numbers: Vec<u64>) {
        match &mut self.ranks {
            Ranks::Threads(_) => {
                numbers.into_iter().for_each(|number| drop(self.functions.keep().remove(number)));
            }
            #[cfg(feature = "mpi")]
            Ranks::Processes(processes) => processes.forget(numbers),
        }
    }

    /// Runs a plan to its end in a directory that was taken already, or is taken now; another one may follow. The ranks stay up until `dismiss`, so that what
    /// must be told is told first: a launcher may end this process as soon as another one has ended.
    pub fn run(
        &mut self,
        plan: Plan,
        (directory, taken): (RunDirectory, Option<TakenOver>),
        watcher: &mut dyn Watcher,
    ) -> Result<Outcome, StartError> {
        for warning in &self.geometry.warnings {
            log::warn!("{warning}");
        }
        let signals = self.signals.clone();
        let Plan { graph, asked, prints, persist, max_fails, crash_limit, .. } = plan;
        let Plan { resumes, if_missing, on_damage, client, .. } = plan;
        let setup = scheduler_loop::Setup {
            client,
            slots: self.geometry.capacities.iter().map(|capacity| capacity.cpus).sum(),
            graph,
            asked,
            prints,
            persist,
            max_fails,
            crash_limit,
            resumes,
            if_missing,
            on_damage,
            taken,
            lost: Vec::new(),
            directory,
            signals,
        };
        let geometry = &self.geometry;
        self.runs += 1;
        let incarnation = Incarnation(self.runs);
        panic::out_of_body(|| match &mut self.ranks {
            Ranks::Threads(threads) => threads.run((geometry, &self.functions, incarnation), setup, watcher),
            #[cfg(feature = "mpi")]
            Ranks::Processes(processes) => processes.run((geometry, incarnation), setup, watcher),
        })
    }

    /// Ends every rank; other processes end with this exit code.
    pub fn dismiss(self, exit_code: u8) {
        self.functions.keep().interpreters().close();
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
