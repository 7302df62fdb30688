//! A run as its directory tells it, going on or over.

use crate::core::graph::{Graph, GraphBuilder};
use crate::observe::report::ReportBuilder;
use crate::record::description::Description;
use crate::record::journal::JournalReader;
use crate::record::layout::RunDirectory;
use crate::record::outcome::Finished;
use crate::record::packed;

use super::failure::Failure;
use super::output::tell;
use super::{preparation, source};

/// What lies in a run directory.
pub struct PastRun {
    /// Where it lies.
    pub directory: RunDirectory,
    /// The graph that it runs; of a program that runs several, the latest.
    pub graph: Graph,
    /// Where what is known of that graph lies: the same directory, or one within it.
    pub place: RunDirectory,
}

impl PastRun {
    /// The directory of a run: a path, a name, or the latest.
    pub fn directory(argument: Option<&str>) -> Result<RunDirectory, Failure> {
        RunDirectory::find(argument, &source::current_directory()?).map_err(preparation::refused)
    }

    /// Finds a run: a path, a name, or the latest.
    pub fn find(argument: Option<&str>) -> Result<Self, Failure> {
        let directory = Self::directory(argument)?;
        let place = directory.latest_compute().unwrap_or_else(|| directory.clone());
        let path = place.graph();
        if !path.exists() && is_program(&directory) {
            // It has computed nothing yet.
            let graph = GraphBuilder::new(directory.name(), "/").build();
            return Ok(PastRun { graph: graph.expect("nothing contradicts nothing"), directory, place });
        }
        let damaged = |why: String| Failure::broken(format!("cannot read `{}`: {why}", path.display()));
        let graph = packed::open(&path).map_err(|error| damaged(error.to_string()))?;
        Ok(PastRun { directory, graph, place })
    }

    /// Everything that happened so far. Damage is told and skipped.
    pub fn events(&self) -> Result<ReportBuilder<'_>, Failure> {
        let mut events = ReportBuilder::new(&self.graph);
        if !self.place.has_events() {
            // Submitted, and not begun yet.
            return Ok(events);
        }
        let journal = JournalReader::open(&self.place.journal());
        let mut journal = journal.map_err(|error| Failure::broken(error.to_string()))?;
        loop {
            match journal.next() {
                Some(Ok((time, event))) => events.on_event(time, &event),
                Some(Err(error)) => {
                    tell(&format!("warning: {error}"));
                    if journal.skip_damage().is_none() {
                        return Ok(events);
                    }
                }
                None => return Ok(events),
            }
        }
    }

    /// How it ended, if it has.
    pub fn finished(&self) -> Result<Option<Finished>, Failure> {
        Finished::read(&self.directory.finished()).map_err(|error| Failure::broken(error.to_string()))
    }
}

/// True for the run of a user's own program, which has no graph before it computes one.
fn is_program(directory: &RunDirectory) -> bool {
    Description::read(&directory.description()).is_ok_and(|description| !description.program.is_empty())
}
