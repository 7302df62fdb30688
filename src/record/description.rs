//! `run.toml`: what a run is, for people and for those who come after it.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::core::scheduler::{CRASH_LIMIT, Persist};
use crate::core::time::Timestamp;

use super::publish::publish;

/// The variables in which batch systems name the job, and the batch systems.
const JOB_VARIABLES: [(&str, &str); 2] = [("SLURM_JOB_ID", "slurm"), ("PBS_JOBID", "pbs")];

/// What a run is. Fields that later versions add do not disturb this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The dagmar that started it.
    pub dagmar_version: String,
    /// The graph's name.
    pub name: String,
    /// The file the graph was read from; none for the quick forms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<PathBuf>,
    /// The keys that were asked for; none means every sink.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Which outputs are written into the run directory.
    #[serde(default)]
    pub persist: Persist,
    /// How many tasks may fail before the run is stopped, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_fails: Option<u32>,
    /// How often a task may kill the rank it runs in.
    #[serde(default = "crash_limit")]
    pub crash_limit: u32,
    /// True if tasks are left away whose files are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_missing: bool,
    /// The user's own program and its arguments, if it is not a graph that is run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub program: Vec<String>,
    /// The script that submits its tasks, and its arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<String>,
    /// How long it goes on without a client, if it waits for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_clients_s: Option<u64>,
    /// What was typed, word by word.
    pub command_line: Vec<String>,
    /// Where it was typed.
    pub directory: PathBuf,
    /// The host of rank 0.
    pub host: String,
    /// Whose run it is.
    pub user: String,
    /// When it began, in UTC.
    pub started: String,
    /// The batch job it runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchJob>,
}

/// A job of a batch system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchJob {
    /// `slurm` or `pbs`.
    pub system: String,
    /// The job's id.
    pub id: String,
}

impl Description {
    /// Describes a run that starts now in this process. Keys and graph file are the caller's.
    pub fn of_this_process(name: impl Into<String>, started: Timestamp) -> Self {
        let host = hostname::get().map(|host| host.to_string_lossy().into_owned());
        let user = ["USER", "LOGNAME"].iter().find_map(|name| env::var(name).ok());
        Description {
            dagmar_version: env!("CARGO_PKG_VERSION").into(),
            name: name.into(),
            graph: None,
            keys: Vec::new(),
            persist: Persist::default(),
            max_fails: None,
            crash_limit: CRASH_LIMIT,
            if_missing: false,
            program: Vec::new(),
            script: Vec::new(),
            waits_for_clients_s: None,
            command_line: env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
            directory: env::current_dir().unwrap_or_default(),
            host: host.unwrap_or_default(),
            user: user.unwrap_or_else(|| nix::unistd::getuid().to_string()),
            started: in_utc(started),
            batch: BatchJob::from_variables(|name| env::var(name).ok()),
        }
    }

    /// True if its tasks come from a client. What they do is known to that alone, so such a run cannot be gone on with.
    pub fn has_client(&self) -> bool {
        !self.script.is_empty() || self.waits_for_clients_s.is_some()
    }

    /// Writes it; replaces an earlier one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string_pretty(self).map_err(io::Error::other)?;
        publish(path, text.as_bytes())
    }

    /// Reads it back.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        toml::from_str(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.message().to_owned()))
    }
}

/// What runs of earlier versions have.
fn crash_limit() -> u32 {
    CRASH_LIMIT
}

/// A time as the records of a run write it.
pub(super) fn in_utc(at: Timestamp) -> String {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(at.0)).to_string()
}

impl BatchJob {
    /// The job that these environment variables tell of.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let present = |(name, system): &(&str, &str)| {
            let id = variable(name).filter(|id| !id.is_empty())?;
            Some(BatchJob { system: (*system).to_owned(), id })
        };
        JOB_VARIABLES.iter().find_map(present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            dagmar_version: "0.1.0".into(),
            name: "variants".into(),
            graph: Some("/home/ada/variants.toml".into()),
            keys: vec!["align[03]".into()],
            persist: Persist::Asked,
            max_fails: Some(3),
            crash_limit: 4,
            if_missing: false,
            program: Vec::new(),
            script: Vec::new(),
            waits_for_clients_s: None,
            command_line: vec!["dagmar".into(), "run".into(), "a \"b\"".into()],
            directory: "/home/ada".into(),
            host: "n042".into(),
            user: "ada".into(),
            started: "2026-01-01T00:00:00.000001Z".into(),
            batch: BatchJob::from_variables(|name| (name == "PBS_JOBID").then(|| "7.server".into())),
        }
    }

    #[test]
    fn a_description_comes_back_and_reads_well() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.toml");
        description().write(&path).unwrap();
        assert_eq!(Description::read(&path).unwrap(), description());
        insta::assert_snapshot!(fs::read_to_string(&path).unwrap(), @r#"
        dagmar_version = "0.1.0"
        name = "variants"
        graph = "/home/ada/variants.toml"
        keys = ["align[03]"]
        persist = "asked"
        max_fails = 3
        crash_limit = 4
        command_line = [
            "dagmar",
            "run",
            'a "b"',
        ]
        directory = "/home/ada"
        host = "n042"
        user = "ada"
        started = "2026-01-01T00:00:00.000001Z"

        [batch]
        system = "pbs"
        id = "7.server"
        "#);
    }

    #[test]
    fn this_process_describes_itself() {
        let description = Description::of_this_process("x", Timestamp(1_500_000));
        assert_eq!(description.started, "1970-01-01T00:00:01.500000Z");
        assert!(!description.host.is_empty() && !description.user.is_empty());
        assert!(!description.command_line.is_empty());
    }
}
