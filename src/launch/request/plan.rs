//! How the ranks of a requested run are started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::launch::batch::{Commands, System};
use crate::launch::given::{Source, Value};
use crate::launch::plan::{LaunchPlan, Launcher, LauncherKind};

use super::{Memory, Request};

/// Seconds before the end at which a run is asked to stop, if nothing is said.
const MARGIN_S: u64 = 60;

impl Request {
    /// What `dagmar launch` reads in the allocation.
    pub fn launch_plan(&self, program: impl Into<PathBuf>) -> LaunchPlan {
        let mut plan = LaunchPlan::new(self.cluster.clone(), self.shape.nodes, program.into());
        plan.workers_per_node = self.shape.workers_per_node;
        plan.cpus_per_worker = self.granted_cpus();
        plan.resources = self.resources();
        plan.walltime_s = self.seconds("walltime");
        plan.margin_s = self.margin();
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

    /// A margin that nobody chose is a quarter of a short walltime at most.
    fn margin(&self) -> u64 {
        let is_chosen =
            self.given("margin").is_some_and(|given| !matches!(given.source, Source::BuiltIn(..)));
        let margin = self.seconds("margin").unwrap_or(MARGIN_S);
        match self.seconds("walltime") {
            Some(walltime) if !is_chosen => margin.min(walltime / 4),
            _ => margin,
        }
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

    /// Cores of each worker as far as it is known what the script asks for. PBS is always told a number, and
    /// where it does not confine jobs the nodes would offer all that they have.
    fn granted_cpus(&self) -> Option<u32> {
        let is_told = matches!(self.system, System::Pbs | System::Torque)
            && !["nodes", "cpus_per_worker"].iter().any(|field| self.is_removed(field))
            && self.flag("exclusive") != Some(true)
            && self.job_script.is_none();
        let share = || (self.shape.cpus_per_node() / u64::from(self.shape.workers_per_node)) as u32;
        self.shape.cpus_per_worker.or_else(|| is_told.then(share))
    }

    /// Bytes of each worker, if the script asks for an amount for each node. Slurm's amount for each core
    /// may be of more cores than were asked for.
    fn granted_memory(&self) -> Option<u64> {
        let is_removed = ["memory", "memory_per_cpu"].iter().any(|field| self.is_removed(field));
        let is_told = match (self.system, self.shape.memory) {
            (System::Slurm, Memory::PerNode(_)) => true,
            (System::Pbs | System::Torque, _) => !self.is_removed("nodes") || self.form() == "totals",
            _ => false,
        };
        let share = |bytes| bytes / u64::from(self.shape.workers_per_node);
        self.shape
            .memory_per_node()
            .filter(|_| is_told && !is_removed && self.job_script.is_none())
            .map(share)
    }

    /// Amounts of each worker: what the template says, and even shares of the GPUs and the memory.
    fn resources(&self) -> BTreeMap<String, u64> {
        let mut resources = match self.given("resources").map(|given| &given.value) {
            Some(Value::Amounts(amounts)) => amounts.clone(),
            _ => BTreeMap::new(),
        };
        if let Some(gpus) = self.shape.gpus_per_worker() {
            resources.entry("gpus".into()).or_insert(u64::from(gpus));
        }
        if let Some(bytes) = self.granted_memory() {
            resources.entry("memory".into()).or_insert(bytes);
        }
        resources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::given::Typed;
    use crate::launch::template::{Places, Template};

    /// Cores and memory of each worker.
    fn planned(system: &str, typed: &[(&str, &str)]) -> (Option<u32>, Option<u64>) {
        let template = Template::find(system, &Places::default()).unwrap();
        let typed: Vec<Typed> =
            typed.iter().map(|(field, text)| Typed::new(*field, *text, "--set")).collect();
        let plan = Request::new(&template, &typed).unwrap().launch_plan("dagmar");
        (plan.cpus_per_worker, plan.resources.get("memory").copied())
    }

    #[test]
    fn a_worker_has_what_pbs_is_asked_for_and_not_what_the_node_has() {
        for system in ["pbs", "torque"] {
            let asked = [("workers_per_node", "2"), ("memory", "8GiB")];
            assert_eq!(planned(system, &asked), (Some(1), Some(4 << 30)), "{system}");
            assert_eq!(planned(system, &[("cpus_per_worker", "3")]), (Some(3), None), "{system}");
            assert_eq!(planned(system, &[("cpus_per_node", "8"), ("workers_per_node", "2")]).0, Some(4));
        }
        assert_eq!(planned("pbs", &[("memory_per_cpu", "1GiB"), ("cpus_per_worker", "4")]).1, Some(4 << 30));
    }

    #[test]
    fn what_nobody_is_asked_for_is_left_to_the_node() {
        assert_eq!(planned("pbs", &[("exclusive", "true")]), (None, None));
        assert_eq!(planned("slurm", &[]), (None, None));
        assert_eq!(planned("slurm", &[("memory_per_cpu", "1GiB")]), (None, None));
        assert_eq!(planned("local", &[("memory", "1GiB")]), (None, None));
    }

    #[test]
    fn slurms_memory_of_a_node_is_divided_among_its_workers() {
        let asked = [("workers_per_node", "4"), ("memory", "8GiB")];
        assert_eq!(planned("slurm", &asked), (None, Some(2 << 30)));
        let lines = [("memory", "8GiB"), ("remove", "memory")];
        assert_eq!(planned("slurm", &lines), (None, None));
    }
}
