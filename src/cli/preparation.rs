//! What is to be run: read and checked before anything starts, written down when it begins.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::formats::resolve;
use crate::clock;
use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::Rank;
use crate::core::scheduler::Persist;
use crate::record::description::Description;
use crate::record::layout::{LayoutError, RunDirectory};
use crate::record::lease::Taken;
use crate::record::mailbox::Mailbox;
use crate::record::outcome::Finished;
use crate::record::{packed, publish};
use crate::runtime::beginning;
use crate::runtime::cluster::Plan;
use crate::runtime::exit;
use crate::runtime::logger;
use crate::runtime::start::StartError;

use super::failure::Failure;
use super::flags::{PersistFlag, ResumeFlags, RunFlags, SourceFlags};
use super::{run, source, values};

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
    /// Into the one that earlier processes of the run left.
    Resumed { directory: RunDirectory, is_launched: bool },
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

    /// True if `dagmar launch` started this process and looks after the outcome.
    pub fn is_launched(&self) -> bool {
        matches!(self.place, Place::Submitted(_) | Place::Resumed { is_launched: true, .. })
    }

    /// Tells `dagmar launch` that the run cannot go on.
    pub fn refuse(&self, exit_code: u8) {
        match &self.place {
            Place::Submitted(directory) | Place::Resumed { directory, is_launched: true } => {
                refuse(directory, exit_code);
            }
            _ => {}
        }
    }

    /// What `dagmar submit` was asked for.
    pub fn of_source(flags: &SourceFlags) -> Result<Self, Failure> {
        Self::read(flags, Place::New)
    }

    fn read(flags: &SourceFlags, place: Place) -> Result<Self, Failure> {
        let graph = source::find(flags)?;
        let (keys, file) = (flags.keys.clone(), flags.graph.clone());
        Self::new(graph, keys, (persist(flags)?, flags.max_fails), file, place)
    }

    /// The run that `submit` prepared in a directory.
    fn of_submitted(path: &std::path::Path) -> Result<Self, Failure> {
        let directory = RunDirectory::open_unused(path).map_err(refused)?;
        Self::of_directory(&directory, Place::Submitted(directory.clone()))
    }

    /// What is left of a run.
    pub fn of_resumed(flags: &ResumeFlags) -> Result<Self, Failure> {
        let found = RunDirectory::find(flags.run.as_deref(), &source::current_directory()?);
        let directory = found.map_err(refused)?;
        if !directory.graph().exists() {
            let message = format!("cannot resume `{}`: it has no graph of its own", directory.name());
            let hint = "a program that uses dagmar as a library is started again as a whole";
            return Err(Failure::usage(message).hint(hint.to_owned()));
        }
        let place = Place::Resumed { directory: directory.clone(), is_launched: flags.launched };
        let mut preparation = Self::of_directory(&directory, place)?;
        preparation.plan.max_fails = flags.max_fails.or(preparation.plan.max_fails);
        let finished = Finished::read(&directory.finished());
        let finished = finished.map_err(|error| Failure::broken(error.to_string()))?;
        if finished.is_some_and(|finished| finished.outcome == Outcome::Done) {
            let Preparation { plan, keys, .. } = &preparation;
            if !keys.is_empty() {
                values::print(&plan.graph, &directory, (keys, &plan.asked), |_| true)?;
            }
            return Err(Failure::new(exit::DONE, format!("{} is done already", directory.name())));
        }
        Ok(preparation)
    }

    /// The graph in a run directory, and what was asked of it.
    fn of_directory(directory: &RunDirectory, place: Place) -> Result<Self, Failure> {
        let damaged =
            |what: PathBuf, why: String| Failure::broken(format!("cannot read `{}`: {why}", what.display()));
        let description = Description::read(&directory.description());
        let description = description.map_err(|error| damaged(directory.description(), error.to_string()))?;
        let graph = packed::open(&directory.graph());
        let graph = graph.map_err(|error| damaged(directory.graph(), error.to_string()))?;
        let Description { keys, persist, max_fails, graph: file, .. } = description;
        Self::new(graph, keys, (persist, max_fails), file, place)
    }

    fn new(
        graph: Graph,
        keys: Vec<String>,
        (persist, max_fails): (Persist, Option<u32>),
        file: Option<PathBuf>,
        place: Place,
    ) -> Result<Self, Failure> {
        let asked =
            resolve(&graph, &keys).map_err(|error| Failure::usage(error.to_string()).hint(error.hint()))?;
        let resumes = matches!(place, Place::Resumed { .. });
        let plan = Plan { graph: Arc::new(graph), asked, persist, max_fails, resumes };
        Ok(Preparation { plan, keys, file, place })
    }

    /// Makes the run directory with everything that is known beforehand, and logs there from now on. A run that
    /// was begun before is taken first: another process may be at work on it.
    pub fn begin(&self) -> Result<(RunDirectory, Option<Taken>), Failure> {
        let directory = match &self.place {
            Place::Submitted(directory) | Place::Resumed { directory, .. } => directory.clone(),
            _ => self.make_directory()?,
        };
        let taken = match self.place {
            Place::Resumed { .. } => {
                let taken = beginning::take(&directory).map_err(StartError::Scheduler);
                Some(taken.map_err(run::refused)?)
            }
            _ => None,
        };
        let write = || -> io::Result<()> {
            logger::start(&directory.log(Rank::SCHEDULER))?;
            match self.place {
                Place::Submitted(_) | Place::Resumed { is_launched: true, .. } => restate(&directory),
                Place::Resumed { .. } => {
                    // Orders to stop were meant for the processes that have ended.
                    Mailbox::new(directory.control()).collect()?;
                    restate(&directory)
                }
                _ => self.write_into(&directory),
            }
        };
        write().map_err(not_written(&directory))?;
        Ok((directory, taken))
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
        (description.persist, description.max_fails) = (self.plan.persist, self.plan.max_fails);
        description.write(&directory.description())
    }
}

/// What `--persist` says, or else: with what was asked for by name, which is printed in the end.
fn persist(flags: &SourceFlags) -> Result<Persist, Failure> {
    Ok(match flags.persist {
        Some(PersistFlag::None) if !flags.keys.is_empty() => {
            let message = format!("cannot print `{}` with `--persist none`", flags.keys.join("`, `"));
            let hint = "what is printed is taken from the run directory; leave one of the two away";
            return Err(Failure::usage(message).hint(hint.to_owned()));
        }
        Some(PersistFlag::None) => Persist::None,
        Some(PersistFlag::Asked) => Persist::Asked,
        Some(PersistFlag::All) => Persist::All,
        None if flags.keys.is_empty() => Persist::Kept,
        None => Persist::Asked,
    })
}

/// Tells `dagmar launch`, to which launchers lie, that the run in this directory cannot go on: to start it again is
/// of no use.
pub fn refuse(directory: &RunDirectory, exit_code: u8) {
    if [exit::USAGE, exit::BROKEN].contains(&exit_code) {
        // If this cannot be written, it is started a few times in vain.
        let _ = publish::publish(&directory.refusal(), exit_code.to_string().as_bytes());
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
