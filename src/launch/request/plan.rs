//! How the ranks of a requested run are started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::launch::batch::Commands;
use crate::launch::given::Value;
use crate::launch::plan::{LaunchPlan, Launcher, LauncherKind};

use super::Request;

/// Seconds before the end at which a run is asked to stop, if nothing is said.
const MARGIN_S: u64 = 60;

impl Request {
    /// What `dagmar launch` reads in the allocation.
    pub fn launch_plan(&self, program: impl Into<PathBuf>) -> LaunchPlan {
        let mut plan = LaunchPlan::new(self.cluster.clone(), self.shape.nodes, program.into());
        plan.workers_per_node = self.shape.workers_per_node;
        plan.cpus_per_worker = self.shape.cpus_per_worker;
        plan.resources = self.resources();
        plan.walltime_s = self.seconds("walltime");
        plan.margin_s = self.seconds("margin").unwrap_or(MARGIN_S);
        plan.prefix = self.list("prefix").to_vec();
        plan.node_start = self.list("node_start").to_vec();
        plan.node_stop = self.list("node_stop").to_vec();
        plan.scratch = self.text("scratch").map(str::to_owned);
        plan.environment = self.variables();
        plan.launcher = Launcher {
            kind: self.launcher(),
            command: self.list("launcher.command").to_vec(),
            args: self.list("launcher.args").to_vec(),
        };
        plan
    }

    /// Which words call the batch system's commands.
    pub fn commands(&self) -> Commands {
        let words = |field| self.list(field).to_vec();
        let (submit, status, cancel) =
            (words("commands.submit"), words("commands.status"), words("commands.cancel"));
        let clusters = self.text("clusters").filter(|_| !self.is_removed("clusters")).map(str::to_owned);
        Commands { submit, status, cancel, clusters, ..Commands::default() }
    }

    /// What starts the ranks.
    pub fn launcher(&self) -> LauncherKind {
        match self.text("launcher.kind") {
            Some("srun") => LauncherKind::Srun,
            Some("mpiexec") => LauncherKind::Mpiexec,
            Some("custom") => LauncherKind::Custom,
            _ => LauncherKind::Mpirun,
        }
    }

    /// Amounts of each worker: what the template says, and an even share of the GPUs.
    fn resources(&self) -> BTreeMap<String, u64> {
        let mut resources = match self.given("resources").map(|given| &given.value) {
            Some(Value::Amounts(amounts)) => amounts.clone(),
            _ => BTreeMap::new(),
        };
        if let Some(gpus) = self.shape.gpus_per_worker() {
            resources.entry("gpus".into()).or_insert(u64::from(gpus));
        }
        resources
    }
}
