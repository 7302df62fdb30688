//! A run as its directory tells it, going on or over.

use std::sync::Arc;

use crate::core::event::Event;
use crate::core::graph::{Graph, GraphBuilder};
use crate::observe::report::ReportBuilder;
use crate::record::description::Description;
use crate::record::journal::JournalReader;
use crate::record::layout::RunDirectory;
use crate::record::outcome::Finished;
use crate::record::{edits, packed};

use super::failure::Failure;
use super::output::tell;
use super::{preparation, source};

/// What lies in a run directory.
pub struct PastRun {
    /// Where it lies.
    pub directory: RunDirectory,
    /// The graph that it runs; of a program that runs several, the latest.
    pub graph: Arc<Graph>,
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
        let place = edits::with_edits(place).map_err(|error| Failure::broken(error.to_string()))?;
        let path = place.graph();
        if !path.exists() && is_program(&directory) {
            // It has computed nothing yet.
            let graph = GraphBuilder::new(directory.name(), "/").build();
            let graph = Arc::new(graph.expect("nothing contradicts nothing"));
            return Ok(PastRun { graph, directory, place });
        }
        let graph = open(&place, place.lineage().current())?;
        Ok(PastRun { directory, graph, place })
    }

    /// The graph of this number, which the run had.
    fn graph_of(&self, number: u32) -> Result<Arc<Graph>, Failure> {
        match number == self.place.lineage().current() {
            true => Ok(self.graph.clone()),
            false => open(&self.place, number),
        }
    }

    /// Everything that happened so far. Damage is told and skipped.
    pub fn events(&self) -> Result<ReportBuilder, Failure> {
        let mut events = ReportBuilder::new(self.graph.clone());
        if !self.place.has_events() {
            // Submitted, and not begun yet.
            return Ok(events);
        }
        let journal = JournalReader::open(&self.place.journal());
        let mut journal = journal.map_err(|error| Failure::broken(error.to_string()))?;
        let edits = self.place.lineage().edits();
        if !edits.is_empty() {
            events.on_graph(self.graph_of(0)?);
        }
        loop {
            match journal.next() {
                Some(Ok((time, event))) => {
                    if let Event::GraphEdited(edit) = &event {
                        if !edits.contains(edit) {
                            // It was just edited: what was so far is told.
                            return Ok(events);
                        }
                        events.on_graph(self.graph_of(edit.graph)?);
                    }
                    events.on_event(time, &event);
                }
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

fn open(directory: &RunDirectory, number: u32) -> Result<Arc<Graph>, Failure> {
    let path = directory.graph_of(number);
    let damaged = |why: String| Failure::broken(format!("cannot read `{}`: {why}", path.display()));
    packed::open(&path).map(Arc::new).map_err(|error| damaged(error.to_string()))
}

/// True for the run of a user's own program, which has no graph before it computes one.
fn is_program(directory: &RunDirectory) -> bool {
    Description::read(&directory.description()).is_ok_and(|description| !description.program.is_empty())
}
