//! Taking a run over: a new life of rank 0 learns what the lives before it recorded.
//!
//! The order is what makes it safe. First the next segment's file is created, which ends the
//! segment before: whoever writes that one finds the new file before it announces anything more.
//! Only then is read what counts, to the end of that segment. Then the head of the new one says
//! how much that was, and the disk has it before the first event is appended.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::event::Event;
use crate::core::time::Timestamp;

use super::frame::{FileId, FrameWriter};
use super::journal::{JournalError, JournalWriter};
use super::journal_reader::JournalReader;
use super::publish::sync_directory;
use super::segment::{Followed, Link, NewSegment, head_bytes, last_segment, path_of};

/// What to do about a journal that is damaged in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDamage {
    /// The run is not resumed.
    #[default]
    Refuse,
    /// The run goes on without the events that are lost: what they told is done again.
    GoOn,
}

/// What a life found when it took over.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Events that count, lost ones included.
    pub events: u64,
    /// How many of them are lost, as far as is known.
    pub lost_events: u64,
    /// Bytes behind the last whole event, which were cut: of what was being written when the life
    /// before ended. Told once: what earlier lives cut is not among them.
    pub torn_bytes: u64,
    /// What was passed because the caller said so.
    pub damages: Vec<JournalError>,
    /// The segment that is written from now on.
    pub segment: u32,
}

/// Why a run cannot be taken over.
#[derive(Debug)]
pub enum ResumeError {
    /// Somebody else was faster, and writes this segment.
    Overtaken(PathBuf),
    /// The journal is damaged, or cannot be read.
    Journal(JournalError),
    /// The new segment cannot be written.
    Write(PathBuf, io::Error),
}

impl fmt::Display for ResumeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResumeError::Overtaken(path) => {
                write!(out, "another process has just taken the run over: it writes `{}`", path.display())
            }
            ResumeError::Journal(error) => error.fmt(out),
            ResumeError::Write(path, error) => write!(out, "cannot write `{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for ResumeError {}

impl From<JournalError> for ResumeError {
    fn from(error: JournalError) -> Self {
        ResumeError::Journal(error)
    }
}

impl ResumeError {
    /// True if `OnDamage::GoOn` gets past it.
    pub const fn is_damage(&self) -> bool {
        matches!(self, ResumeError::Journal(error) if error.is_damage())
    }
}

impl JournalWriter {
    /// Takes the run over whose journal begins at `path`, whoever may have it: `Lease::take` asks
    /// first. Every event that counts goes through `on_event`, in order.
    ///
    /// Without a journal it starts one. A run that was refused can be resumed all the same later:
    /// the segment that was created stays empty and is passed over.
    pub fn resume(
        path: &Path,
        on_damage: OnDamage,
        on_event: impl FnMut(Timestamp, &Event),
    ) -> Result<(Self, Resumed), ResumeError> {
        let write = |error| ResumeError::Write(path.to_owned(), error);
        let last = last_segment(path).map_err(write)?;
        let segment = NewSegment::take(path, last).map_err(write)?;
        let segment = segment.ok_or_else(|| ResumeError::Overtaken(path_of(path, last + 1)))?;
        Self::resume_in(segment, on_damage, on_event)
    }

    /// The same for who has the segment already.
    pub fn resume_in(
        segment: NewSegment,
        on_damage: OnDamage,
        on_event: impl FnMut(Timestamp, &Event),
    ) -> Result<(Self, Resumed), ResumeError> {
        let mut resumed = Resumed { segment: segment.number, ..Resumed::default() };
        let earlier = match JournalReader::open_below(&segment.journal, segment.number) {
            Err(error) if on_damage == OnDamage::GoOn && error.is_damage() => {
                resumed.damages.push(error);
                None
            }
            result => result?,
        };
        let mut before = None;
        if let Some(mut reader) = earlier {
            read_all(&mut reader, on_damage, on_event, &mut resumed)?;
            before = Some((reader.id(), reader.part().followed()));
        }
        let written = begin(segment, before, resumed.events);
        Ok((written?, resumed))
    }
}

fn read_all(
    reader: &mut JournalReader,
    on_damage: OnDamage,
    mut on_event: impl FnMut(Timestamp, &Event),
    resumed: &mut Resumed,
) -> Result<(), ResumeError> {
    while let Some(event) = reader.next() {
        match event {
            Ok((time, event)) => on_event(time, &event),
            Err(error) if on_damage == OnDamage::GoOn && error.is_damage() => {
                resumed.lost_events += reader.skip_damage().map_or(0, |damage| damage.lost_records());
                resumed.damages.push(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    resumed.events = reader.record_count();
    resumed.torn_bytes = reader.tail_bytes()?;
    Ok(())
}

/// Writes the head of a segment that holds the records from number `first` on, and waits until the
/// disk has it. `before` is the journal's id and the segment that was read last.
fn begin(
    segment: NewSegment,
    before: Option<(FileId, Followed)>,
    first: u64,
) -> Result<JournalWriter, ResumeError> {
    let own = segment.path();
    let id = FileId::fresh(&own);
    let NewSegment { journal, number, file } = segment;
    let link = Link { number, follows: before.map(|(_, followed)| followed) };
    let frames =
        FrameWriter::begin(file, &own, id, first, &head_bytes(id, first, &link)).and_then(|frames| {
            frames.file().sync_all()?;
            sync_directory(own.parent().unwrap_or(Path::new(".")))?;
            Ok(frames)
        });
    let frames = frames.map_err(|error| ResumeError::Write(own, error))?;
    let id = before.map_or(id, |(id, _)| id);
    Ok(JournalWriter { frames, id, path: journal, segment: number })
}

#[cfg(test)]
mod tests;
