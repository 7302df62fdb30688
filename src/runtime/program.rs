//! A user's own program as a run: what it was told by its surroundings, and its directory.
//!
//! The program has one run directory, and in it `computes/0001` and so on: a run directory for each
//! graph that it computed. Orders and logs are the program's: every one of them finds them there.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::clock;
use crate::core::event::{Outcome, StopReason};
use crate::core::graph::Graph;
use crate::core::id::Rank;
use crate::core::time::Timestamp;
use crate::record::description::Description;
use crate::record::layout::{LayoutError, RunDirectory};
use crate::record::outcome::Finished;
use crate::record::{packed, publish};
use crate::worker::share::Bind;
use crate::worker::spawner;

use super::geometry::Overrides;
use super::start::StartError;
use super::{exit, logger};

/// Workers when started without mpirun.
pub const WORKERS: &str = "DAGMAR_WORKERS";
/// Cores of each worker.
pub const CPUS: &str = "DAGMAR_CPUS";
/// Amounts that each worker has of resources: `gpus=2,licence=1`; memory in bytes.
pub const RESOURCES: &str = "DAGMAR_RESOURCES";
/// `cores` keeps each command on the cores of its slot.
pub const BIND: &str = "DAGMAR_BIND";
/// The run directory to use instead of a new one under `./dagmar-runs`.
pub const INTO: &str = "DAGMAR_INTO";

/// What a program is told by variables, as its arguments are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Workers when started without mpirun.
    pub workers: u32,
    /// What a worker has instead of what is found.
    pub overrides: Overrides,
    into: Option<PathBuf>,
}

impl Settings {
    /// What this process was told.
    pub fn of_environment() -> Result<Self, StartError> {
        Self::of_variables(&|name| env::var(name).ok().filter(|text| !text.is_empty()))
    }

    fn of_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, StartError> {
        let count = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u32>() {
                Ok(count) if count > 0 => Ok(Some(count)),
                _ => Err(StartError::Setting(format!("{name}={text}"), "it takes a number from 1 on")),
            },
        };
        let mut resources = BTreeMap::new();
        for part in variable(RESOURCES).unwrap_or_default().split(',').filter(|part| !part.is_empty()) {
            let amount = part.split_once('=').and_then(|(name, amount)| Some((name, amount.parse().ok()?)));
            let (name, amount) = amount.ok_or_else(|| {
                StartError::Setting(format!("{RESOURCES}={part}"), "it takes `NAME=N`, with commas between")
            })?;
            resources.insert(name.to_owned(), amount);
        }
        let bind = match variable(BIND).as_deref() {
            None | Some("none") => Bind::None,
            Some("cores") => Bind::Cores,
            Some(other) => {
                return Err(StartError::Setting(format!("{BIND}={other}"), "it takes `cores` or `none`"));
            }
        };
        let overrides = Overrides { cpus: count(CPUS)?, resources, bind, ..Overrides::default() };
        let into = variable(INTO).map(PathBuf::from);
        Ok(Settings { workers: count(WORKERS)?.unwrap_or(1), overrides, into })
    }
}

/// Turns this process into what it was started as, if that is not the program itself; never returns
/// then. A program calls it first, before any thread, descriptor or library exists.
pub fn main_if_asked() {
    spawner::main_if_asked();
}

/// Tells a person something: lines on standard error, in one piece. Nobody has to listen.
pub fn tell(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A program that is running, on rank 0.
pub struct Program {
    name: String,
    directory: String,
    into: Option<PathBuf>,
    /// There once something was computed, or from the start if it was made beforehand.
    run: Option<RunDirectory>,
    /// The directory of the latest computation.
    latest: Option<RunDirectory>,
    computes: u32,
    began: Timestamp,
    /// Tasks finished, failed, aborted and cancelled so far.
    counts: [u32; 4],
}

impl Program {
    /// The program that this process is.
    pub fn new(settings: Settings) -> Self {
        let name = env::args_os().next().map(PathBuf::from);
        let name = name.and_then(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
        Program {
            name: name.unwrap_or_else(|| "program".to_owned()),
            directory: env::current_dir().unwrap_or_default().to_string_lossy().into_owned(),
            into: settings.into,
            run: None,
            latest: None,
            computes: 0,
            began: clock::now(),
            counts: [0; 4],
        }
    }

    /// Its name: that of its file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it was started.
    pub fn directory(&self) -> &str {
        &self.directory
    }

    /// Makes the run directory of the next computation.
    pub fn begin_run(&mut self, graph: &Graph) -> Result<RunDirectory, StartError> {
        let run = self.run()?;
        self.computes += 1;
        let path = run.computes().join(format!("{:04}", self.computes));
        let make = || -> io::Result<RunDirectory> {
            std::fs::create_dir_all(&path)?;
            for shared in ["control", "logs"] {
                symlink(format!("../../{shared}"), path.join(shared))?;
            }
            let directory = RunDirectory::create_at(&path).map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            packed::write(graph, &mut bytes)?;
            publish::publish(&directory.graph(), &bytes)?;
            Description::of_this_process(&self.name, clock::now()).write(&directory.description())?;
            Ok(directory)
        };
        let directory = make().map_err(|error| StartError::Io("make the run's directory", error))?;
        self.latest = Some(directory.clone());
        Ok(directory)
    }

    /// The program's own directory, made if it is not there yet.
    fn run(&mut self) -> Result<RunDirectory, StartError> {
        if let Some(run) = &self.run {
            return Ok(run.clone());
        }
        let refused = |error: LayoutError| StartError::Directory(error.to_string(), error.hint());
        let run = match &self.into {
            Some(path) => RunDirectory::create_at(path),
            None => RunDirectory::create(self.directory.as_ref(), &self.name),
        }
        .map_err(refused)?;
        let write = || -> io::Result<()> {
            logger::start(&run.log(Rank::SCHEDULER))?;
            self.describe(&run).write(&run.description())
        };
        write().map_err(|error| StartError::Io("write the run's directory", error))?;
        self.run = Some(run.clone());
        Ok(run)
    }

    /// What `submit` wrote, with what it could not know; or everything.
    fn describe(&self, run: &RunDirectory) -> Description {
        let mut here = Description::of_this_process(run.name(), self.began);
        match Description::read(&run.description()) {
            Ok(submitted) => {
                Description { host: here.host, started: here.started, batch: here.batch, ..submitted }
            }
            Err(_) => {
                here.program.clone_from(&here.command_line);
                here
            }
        }
    }

    /// Adds up what the latest computation did.
    pub fn end_run(&mut self) {
        let finished = self.latest.as_ref().and_then(|run| Finished::read(&run.finished()).ok().flatten());
        if let Some(Finished { finished, failed, aborted, cancelled, .. }) = finished {
            for (count, more) in self.counts.iter_mut().zip([finished, failed, aborted, cancelled]) {
                *count = count.saturating_add(more);
            }
        }
    }

    /// Says in the program's directory, if there is one, how it ended, and returns the code that the
    /// ranks shall end with: whoever launched a submitted run reads it there instead.
    pub fn end(mut self, exit_code: u8, stopped: Option<StopReason>) -> u8 {
        let is_launched = self.into.as_ref().is_some_and(|path| path.join("launch.toml").exists());
        if self.run.is_none() && self.into.is_none() {
            return exit_code;
        }
        let [finished, failed, aborted, cancelled] = self.counts;
        let outcome = match stopped {
            Some(reason) => Outcome::Stopped(reason),
            None if exit_code == exit::DONE => Outcome::Done,
            None if exit_code == exit::RANK_LOST => Outcome::WorkersLost,
            None => {
                let out_of_memory = exit_code == exit::OUT_OF_MEMORY;
                Outcome::TasksFailed { failed, aborted, out_of_memory }
            }
        };
        let (started, ended) = (self.began, clock::now());
        let marker = Finished { exit_code, outcome, finished, failed, aborted, cancelled, started, ended };
        let written = self.run().map(|run| marker.write(&run.finished()));
        match written {
            Ok(Ok(())) if is_launched => exit::DONE,
            Ok(Ok(())) => exit_code,
            other => {
                tell(&format!("error: cannot write how the program ended: {other:?}\n"));
                exit_code.max(exit::BROKEN)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let variable = |name: &str| {
            variables.iter().find(|(other, _)| *other == name).map(|(_, text)| (*text).to_owned())
        };
        Settings::of_variables(&variable).map_err(|error| error.to_string())
    }

    #[test]
    fn variables_say_what_a_worker_has() {
        let told = settings(&[(WORKERS, "2"), (CPUS, "3"), (RESOURCES, "gpus=1,licence=7"), (BIND, "cores")]);
        let told = told.unwrap();
        assert_eq!((told.workers, told.overrides.cpus, told.overrides.bind), (2, Some(3), Bind::Cores));
        assert_eq!(told.overrides.resources["licence"], 7);
        assert_eq!(settings(&[]).unwrap().workers, 1);
    }

    #[test]
    fn variables_that_say_nothing_are_refused() {
        let cases = [
            ((CPUS, "0"), "cannot understand `DAGMAR_CPUS=0`: it takes a number from 1 on"),
            ((BIND, "x"), "cannot understand `DAGMAR_BIND=x`: it takes `cores` or `none`"),
            (
                (RESOURCES, "gpus=1,x"),
                "cannot understand `DAGMAR_RESOURCES=x`: it takes `NAME=N`, with commas between",
            ),
        ];
        for (variable, expected) in cases {
            assert_eq!(settings(&[variable]), Err(expected.to_owned()));
        }
    }
}
