//! What is to be run: read and checked before anything starts, written down when it begins.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::formats::resolve;
use crate::clock;
use crate::core::graph::Graph;
use crate::core::id::Rank;
use crate::record::description::Description;
use crate::record::layout::{LayoutError, RunDirectory};
use crate::record::{packed, publish};
use crate::runtime::cluster::Plan;
use crate::runtime::logger;

use super::failure::Failure;
use super::flags::{RunFlags, SourceFlags};
use super::source;

/// What is to be run, and where its run directory shall be.
pub struct Preparation {
    /// The graph and what is wanted of it.
    pub plan: Plan,
    /// What was asked for, as it was typed.
    pub keys: Vec<String>,
    /// The file the graph came from.
    file: Option<PathBuf>,
    place: Place,
}

/// Where a run writes.
enum Place {
    /// Into a new directory below the current one.
    New,
    /// Into a directory that the user chose.
    At(PathBuf),
    /// Into the one that `submit` made.
    Submitted(RunDirectory),
}

impl Preparation {
    /// What `dagmar run` was asked for.
    pub fn of_run(flags: &RunFlags) -> Result<Self, Failure> {
        let SourceFlags { graph, commands, each, each_line, .. } = &flags.source;
        let has_source = graph.is_some() || commands.is_some() || each.is_some() || each_line.is_some();
        match &flags.into {
            Some(path) if !has_source => Self::of_submitted(path),
            Some(path) => Self::read(&flags.source, Place::At(path.clone())),
            None => Self::read(&flags.source, Place::New),
        }
    }

    /// True if `dagmar submit` made the run directory.
    pub fn is_submitted(&self) -> bool {
        matches!(self.place, Place::Submitted(_))
    }

    /// What `dagmar submit` was asked for.
    pub fn of_source(flags: &SourceFlags) -> Result<Self, Failure> {
        Self::read(flags, Place::New)
    }

    fn read(flags: &SourceFlags, place: Place) -> Result<Self, Failure> {
        let graph = source::find(flags)?;
        Self::new(graph, flags.keys.clone(), flags.graph.clone(), place)
    }

    /// The run that `submit` prepared in a directory.
    fn of_submitted(path: &std::path::Path) -> Result<Self, Failure> {
        let directory = RunDirectory::open_unused(path).map_err(refused)?;
        let damaged =
            |what: PathBuf, why: String| Failure::broken(format!("cannot read `{}`: {why}", what.display()));
        let description = Description::read(&directory.description());
        let description = description.map_err(|error| damaged(directory.description(), error.to_string()))?;
        let graph = packed::open(&directory.graph());
        let graph = graph.map_err(|error| damaged(directory.graph(), error.to_string()))?;
        Self::new(graph, description.keys, description.graph, Place::Submitted(directory))
    }

    fn new(graph: Graph, keys: Vec<String>, file: Option<PathBuf>, place: Place) -> Result<Self, Failure> {
        let asked =
            resolve(&graph, &keys).map_err(|error| Failure::usage(error.to_string()).hint(error.hint()))?;
        let plan = Plan { graph: Arc::new(graph), asked, persist: !keys.is_empty() };
        Ok(Preparation { plan, keys, file, place })
    }

    /// Makes the run directory with everything that is known beforehand, and logs there from now on.
    pub fn begin(&self) -> Result<RunDirectory, Failure> {
        let directory = match &self.place {
            Place::Submitted(directory) => directory.clone(),
            _ => self.make_directory()?,
        };
        let write = || -> io::Result<()> {
            logger::start(&directory.log(Rank::SCHEDULER))?;
            match self.place {
                Place::Submitted(_) => restate(&directory),
                _ => self.write_into(&directory),
            }
        };
        write().map_err(not_written(&directory))?;
        Ok(directory)
    }

    /// Makes the run directory for a job that begins later, in another process.
    pub fn set_down(&self) -> Result<RunDirectory, Failure> {
        let directory = self.make_directory()?;
        self.write_into(&directory).map_err(not_written(&directory))?;
        Ok(directory)
    }

    fn make_directory(&self) -> Result<RunDirectory, Failure> {
        let made = match &self.place {
            Place::At(path) => RunDirectory::create_at(path),
            _ => RunDirectory::create(&source::current_directory()?, self.plan.graph.name()),
        };
        made.map_err(refused)
    }

    fn write_into(&self, directory: &RunDirectory) -> io::Result<()> {
        let write = |file: &mut std::fs::File| packed::write(&self.plan.graph, io::BufWriter::new(file));
        publish::publish_with(&directory.graph(), write)?;
        let mut description = Description::of_this_process(directory.name(), clock::now());
        description.graph = self.file.clone();
        description.keys = self.keys.clone();
        description.write(&directory.description())
    }
}

/// What the submitting process could not know: where rank 0 is, and in which job.
fn restate(directory: &RunDirectory) -> io::Result<()> {
    let here = Description::of_this_process(directory.name(), clock::now());
    let mut description = Description::read(&directory.description())?;
    description.host = here.host;
    description.started = here.started;
    description.batch = here.batch;
    description.write(&directory.description())
}

/// A run directory that cannot be had.
pub fn refused(error: LayoutError) -> Failure {
    Failure::usage(error.to_string()).hint(error.hint())
}

/// A run directory that cannot be written to.
pub fn not_written(directory: &RunDirectory) -> impl Fn(io::Error) -> Failure {
    let shown = directory.path().display().to_string();
    move |error| Failure::broken(format!("cannot write the run directory `{shown}`: {error}"))
}
