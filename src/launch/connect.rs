//! From a name and a template's commands to a batch system that can be talked to.

use std::collections::BTreeMap;
use std::path::Path;

use super::batch::{BatchSystem, Commands, System};
use super::local::Local;
use super::pbs::Pbs;
use super::slurm::Slurm;

/// The roles of commands that a cluster template may name, as a run's record calls them.
pub const ROLES: [&str; 3] = ["submit", "status", "cancel"];

/// The batch system of this kind, called by these commands. `run` is the run directory, where a
/// machine without a batch system keeps its record of the job.
pub fn connect(system: System, commands: &BTreeMap<String, Vec<String>>, run: &Path) -> Box<dyn BatchSystem> {
    let [submit, status, cancel] = ROLES.map(|role| commands.get(role).cloned().unwrap_or_default());
    let commands = Commands { submit, status, cancel, ..Commands::default() };
    match system {
        System::Slurm => Box::new(Slurm::new(commands)),
        System::Pbs => Box::new(Pbs::new(commands)),
        System::Torque => Box::new(Pbs::torque(commands)),
        System::Local => Box::new(Local::new(run)),
    }
}
