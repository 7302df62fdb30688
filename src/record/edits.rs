//! The graphs that a run had: one that it began with, and one for each time that it was edited.
//!
//! `graph.N.dagmar` is written by life N of rank 0 before its event `GraphEdited` is: a graph that no event names
//! was never gone on with.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::core::edit::Lineage;
use crate::core::event::Event;

use super::journal::{JournalError, JournalReader};
use super::layout::RunDirectory;
use super::segment::path_of;

/// The edits that a run has had by now. What is damaged is passed over: whoever needs it says so.
///
/// Reads the whole journal of a run that may have been edited, and nothing of others.
pub fn read(directory: &RunDirectory) -> Result<Lineage, JournalError> {
    let mut lineage = Lineage::default();
    if !directory.may_be_edited() || !directory.has_events() {
        return Ok(lineage);
    }
    let mut journal = JournalReader::open(&directory.journal())?;
    loop {
        match journal.next() {
            Some(Ok((_, Event::GraphEdited(edit)))) => lineage.push(*edit),
            Some(Ok(_)) => {}
            Some(Err(error)) if !error.is_damage() => return Err(error),
            Some(Err(_)) if journal.skip_damage().is_some() => {}
            Some(Err(_)) | None => return Ok(lineage),
        }
    }
}

/// The directory, and the edits that the run has had by now.
pub fn with_edits(directory: RunDirectory) -> Result<RunDirectory, JournalError> {
    let lineage = Arc::new(read(&directory)?);
    Ok(directory.with_lineage(lineage))
}

/// A graph in the directory that no event names although one may have, if there is one: what it was written with is
/// damaged, or gone.
pub fn unnamed_graph(directory: &RunDirectory, damages: &[JournalError]) -> io::Result<Option<PathBuf>> {
    let is_named = |number: u32| directory.lineage().edits().iter().any(|edit| edit.graph == number);
    let is_whole = |number: u32| {
        let segment = path_of(&directory.journal(), number);
        segment.exists() && damages.iter().all(|damage| damage.path() != segment)
    };
    for entry in fs::read_dir(directory.path())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("graph.").and_then(|rest| rest.strip_suffix(".dagmar"));
        if number
            .and_then(|number| number.parse().ok())
            .is_some_and(|number| !is_named(number) && !is_whole(number))
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
