//! What the allocation that this process is in says about itself.
//!
//! Everything is read from variables through a closure and from one file, so that a test can be in any
//! allocation. Only the time that is left may have to be asked of the batch system.

mod host_list;

use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use crate::core::time::{Micros, Timestamp};

use super::batch::printed::moment;
use super::batch::{BatchSystem, JobId, System};
pub use host_list::{HostListError, expand};

/// What the allocation says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Whose it is.
    pub system: System,
    /// The job. Of an array's element Slurm gives it a number of its own.
    pub id: JobId,
    /// Its hosts, in the order in which the batch system names them. Never empty.
    pub hosts: Vec<Host>,
    /// GPUs of the node that this process is on, if told.
    pub gpus: Option<u32>,
    /// How often the job went back into the queue after having started.
    pub restarts: u32,
    /// Which element of an array it is.
    pub array_index: Option<u64>,
    /// When it began, if told.
    pub start: Option<Timestamp>,
    /// When it will be ended, if its variables tell.
    pub end: Option<Timestamp>,
}

/// A host of an allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name, as launchers take it.
    pub name: String,
    /// MPI processes that were asked for there, if told.
    pub slots: Option<u32>,
    /// Cores that were granted there, if told.
    pub cpus: Option<u32>,
}

/// Why an allocation cannot be understood.
#[derive(Debug)]
pub enum AllocationError {
    /// A variable that every job of this system has is missing or empty.
    Missing(System, &'static str),
    /// A variable says what nobody understands: its name and its value.
    Strange(&'static str, String),
    /// The list of hosts cannot be expanded: the variable and why.
    Hosts(&'static str, HostListError),
    /// The file with the hosts cannot be read.
    File(PathBuf, io::Error),
}

impl fmt::Display for AllocationError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocationError::Missing(system, name) => {
                write!(out, "this looks like a job of {system}, but `{name}` is not set")
            }
            AllocationError::Strange(name, value) => {
                write!(out, "cannot understand `{name}`: `{}`", value.escape_debug())
            }
            AllocationError::Hosts(name, error) => write!(out, "cannot understand `{name}`: {error}"),
            AllocationError::File(path, error) => {
                write!(out, "cannot read the hosts from `{}`: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for AllocationError {}

/// Looks a variable up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Allocation {
    /// The allocation that the variables describe; `None` outside of one.
    pub fn from_variables(lookup: Lookup<'_>) -> Result<Option<Allocation>, AllocationError> {
        let told = |name: &str| lookup(name).filter(|value| !value.is_empty());
        if told("SLURM_JOB_ID").is_some() {
            slurm(&told).map(Some)
        } else if told("PBS_JOBID").is_some() {
            pbs(&told).map(Some)
        } else {
            Ok(None)
        }
    }

    /// When it will be ended: as its variables say, else as the batch system says, else `walltime`
    /// after its start. `started` is when this process first saw the allocation; the batch system's
    /// own start is believed before it.
    pub fn end(
        &self,
        system: &dyn BatchSystem,
        now: Timestamp,
        started: Timestamp,
        walltime: Option<Micros>,
    ) -> Option<Timestamp> {
        let asked = || {
            let views = system.jobs(std::slice::from_ref(&self.id)).ok()?;
            views.get(&self.id)?.time_left.map(|left| now + left)
        };
        let computed = || walltime.map(|walltime| self.start.unwrap_or(started) + walltime);
        self.end.or_else(asked).or_else(computed)
    }
}

type Told<'a> = &'a dyn Fn(&str) -> Option<String>;

fn slurm(told: Told<'_>) -> Result<Allocation, AllocationError> {
    let id = required(told, System::Slurm, "SLURM_JOB_ID")?;
    let list_name = ["SLURM_JOB_NODELIST", "SLURM_NODELIST"].into_iter().find(|name| told(name).is_some());
    let list_name = list_name.ok_or(AllocationError::Missing(System::Slurm, "SLURM_JOB_NODELIST"))?;
    let names = expand(&told(list_name).unwrap_or_default());
    let names = names.map_err(|error| AllocationError::Hosts(list_name, error))?;
    let cpus = counts(told, "SLURM_JOB_CPUS_PER_NODE", names.len())?;
    let slots = counts(told, "SLURM_TASKS_PER_NODE", names.len())?;
    let host = |(place, name): (usize, String)| Host {
        name,
        slots: slots.get(place).copied(),
        cpus: cpus.get(place).copied(),
    };
    let hosts: Vec<Host> = names.into_iter().enumerate().map(host).collect();
    if hosts.is_empty() {
        return Err(AllocationError::Missing(System::Slurm, list_name));
    }
    Ok(Allocation {
        system: System::Slurm,
        id,
        hosts,
        gpus: number(told, "SLURM_GPUS_ON_NODE")?,
        restarts: number(told, "SLURM_RESTART_COUNT")?.unwrap_or(0),
        array_index: number(told, "SLURM_ARRAY_TASK_ID")?,
        start: told("SLURM_JOB_START_TIME").and_then(|text| moment(&text)),
        end: told("SLURM_JOB_END_TIME").and_then(|text| moment(&text)),
    })
}

fn pbs(told: Told<'_>) -> Result<Allocation, AllocationError> {
    let is_torque = told("PBS_VERSION").is_some_and(|version| version.starts_with("TORQUE"));
    let system = if is_torque { System::Torque } else { System::Pbs };
    let id = required(told, system, "PBS_JOBID")?;
    let path = PathBuf::from(told("PBS_NODEFILE").ok_or(AllocationError::Missing(system, "PBS_NODEFILE"))?);
    let text = read(&path).map_err(|error| AllocationError::File(path.clone(), error))?;
    let mut hosts = host_file(&text);
    let Some(first) = hosts.first_mut() else {
        return Err(AllocationError::File(path, io::Error::other("it names no host")));
    };
    // Told of the chunk that this process is in, which is the first host's.
    first.cpus = number(told, "NCPUS")?.or(number(told, "PBS_NUM_PPN")?);
    let index_name = if is_torque { "PBS_ARRAYID" } else { "PBS_ARRAY_INDEX" };
    Ok(Allocation {
        system,
        id,
        hosts,
        gpus: None,
        // PBS has no variable for it.
        restarts: 0,
        array_index: number(told, index_name)?,
        start: None,
        end: None,
    })
}

fn read(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The hosts of a file that names one for each MPI process, in the order in which they first appear.
pub fn host_file(text: &str) -> Vec<Host> {
    let mut hosts: Vec<Host> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for name in text.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let place = *places.entry(name).or_insert(hosts.len());
        match hosts.get_mut(place) {
            Some(host) => host.slots = host.slots.map(|slots| slots + 1),
            None => hosts.push(Host { name: name.to_owned(), slots: Some(1), cpus: None }),
        }
    }
    hosts
}

fn required(told: Told<'_>, system: System, name: &'static str) -> Result<JobId, AllocationError> {
    let value = told(name).ok_or(AllocationError::Missing(system, name))?;
    JobId::new(value.as_str()).ok_or(AllocationError::Strange(name, value))
}

fn number<T: std::str::FromStr>(told: Told<'_>, name: &'static str) -> Result<Option<T>, AllocationError> {
    let strange = |value: String| AllocationError::Strange(name, value);
    told(name).map(|value| value.parse().map_err(|_| strange(value))).transpose()
}

/// `2(x3),4`: one number for each of `count` hosts. A list of another length says nothing.
fn counts(told: Told<'_>, name: &'static str, count: usize) -> Result<Vec<u32>, AllocationError> {
    let Some(text) = told(name) else { return Ok(Vec::new()) };
    let mut counts = Vec::new();
    for part in text.split(',') {
        let (value, times) = match part.split_once("(x") {
            Some((value, times)) => (value, times.strip_suffix(')').unwrap_or_default()),
            None => (part, "1"),
        };
        let (Ok(value), Ok(times)) = (value.parse::<u32>(), times.parse::<usize>()) else {
            return Err(AllocationError::Strange(name, text));
        };
        counts.extend(std::iter::repeat_n(value, times.min(count + 1)));
        if counts.len() > count {
            return Ok(Vec::new());
        }
    }
    Ok(if counts.len() == count { counts } else { Vec::new() })
}

#[cfg(test)]
mod tests;
