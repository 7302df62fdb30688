//! `launch.toml`: how the ranks of a run are started once its allocation is there.
//!
//! `submit` writes it into the run directory, `launch` reads it. The job script therefore says
//! nothing but where the run is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::record::publish::publish;

/// The version of the plan that this dagmar writes and reads.
const VERSION: u32 = 1;

/// How the ranks of a run are started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchPlan {
    version: u32,
    /// The cluster template it comes from.
    pub cluster: String,
    /// Nodes that were asked for.
    pub nodes: u32,
    /// Workers on each of them.
    pub workers_per_node: u32,
    /// Cores of each worker; what it finds, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus_per_worker: Option<u32>,
    /// Amounts of named resources that each worker has, as `dagmar run --resource` takes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resources: BTreeMap<String, u64>,
    /// Bytes of memory that the outputs at each worker may take; a part of what it has, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Bytes that they may take on its node's disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch_limit: Option<u64>,
    /// Seconds that the allocation lasts, for batch systems that do not tell its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub walltime_s: Option<u64>,
    /// Seconds before the end at which the run is asked to stop.
    pub margin_s: u64,
    /// The program whose ranks are started: a dagmar, or a user's own.
    pub program: PathBuf,
    /// What the program is told, if it is a user's own; a dagmar is told where its run is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Vec<String>>,
    /// Words between the launcher and the program, such as a container's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<String>,
    /// Shell lines run once on every node before the ranks start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_start: Vec<String>,
    /// Shell lines run once on every node after they have ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_stop: Vec<String>,
    /// A directory on every node for what need not outlive the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scratch: Option<String>,
    /// Variables of all ranks and tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// What starts the ranks.
    pub launcher: Launcher,
}

/// What starts the ranks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launcher {
    /// Which one.
    pub kind: LauncherKind,
    /// Its program; its usual name if nothing is said. For a custom one the whole command, in which
    /// `{ranks}`, `{nodes}`, `{hosts}` and `{hostfile}` stand for what they say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Further arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// The launchers that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LauncherKind {
    /// Open MPI's or MPICH's, whichever this dagmar is linked with.
    Mpirun,
    /// The same under the name of the standard.
    Mpiexec,
    /// Slurm's.
    Srun,
    /// The template's own command.
    Custom,
}

/// Why a plan cannot be read.
#[derive(Debug)]
pub enum PlanError {
    /// The system refused.
    Io(PathBuf, io::Error),
    /// It is not a plan of this version: the file and why.
    Content(PathBuf, String),
}

impl fmt::Display for PlanError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PlanError::Io(path, error) => write!(out, "cannot read `{}`: {error}", path.display()),
            PlanError::Content(path, why) => write!(out, "cannot understand `{}`: {why}", path.display()),
        }
    }
}

impl std::error::Error for PlanError {}

impl LaunchPlan {
    /// One worker on each of `nodes` nodes, started by mpirun.
    pub fn new(cluster: impl Into<String>, nodes: u32, program: PathBuf) -> Self {
        LaunchPlan {
            version: VERSION,
            cluster: cluster.into(),
            nodes,
            workers_per_node: 1,
            cpus_per_worker: None,
            resources: BTreeMap::new(),
            memory_limit: None,
            scratch_limit: None,
            walltime_s: None,
            margin_s: 60,
            program,
            arguments: None,
            prefix: Vec::new(),
            node_start: Vec::new(),
            node_stop: Vec::new(),
            scratch: None,
            environment: BTreeMap::new(),
            launcher: Launcher { kind: LauncherKind::Mpirun, command: Vec::new(), args: Vec::new() },
        }
    }

    /// The same on so many nodes.
    #[must_use]
    pub fn with_nodes(&self, nodes: u32) -> Self {
        LaunchPlan { nodes, ..self.clone() }
    }

    /// Writes it; replaces an earlier one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string_pretty(self).map_err(io::Error::other)?;
        publish(path, text.as_bytes())
    }

    /// Reads it back.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let text = fs::read_to_string(path).map_err(|error| PlanError::Io(path.to_owned(), error))?;
        let content = |why: String| PlanError::Content(path.to_owned(), why);
        let plan: LaunchPlan = toml::from_str(&text).map_err(|error| content(error.message().to_owned()))?;
        match plan.version {
            VERSION => Ok(plan),
            other => Err(content(format!("it has version {other}, and this dagmar reads version {VERSION}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.toml");
        let mut plan = LaunchPlan::new("mysite", 4, "/opt/dagmar".into());
        plan.resources.insert("gpus".into(), 2);
        (plan.memory_limit, plan.scratch_limit) = (Some(1 << 30), Some(1 << 40));
        plan.prefix = vec!["apptainer".into(), "exec".into(), "a b.sif".into()];
        plan.environment.insert("LANG".into(), "C \"x\"\n".into());
        plan.write(&path).unwrap();
        assert_eq!(LaunchPlan::read(&path).unwrap(), plan);
    }

    #[test]
    fn another_version_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.toml");
        let mut plan = LaunchPlan::new("mysite", 1, "/opt/dagmar".into());
        plan.version = 2;
        plan.write(&path).unwrap();
        let why = LaunchPlan::read(&path).unwrap_err().to_string();
        assert!(why.ends_with("it has version 2, and this dagmar reads version 1"), "{why}");
    }
}
