//! The journal: every event of a run in the order in which rank 0 learned of it.
//!
//! Its records are the bincode of `(Timestamp, Event)`, one after the other in frames (`frame`).
//! Rank 0 alone writes it, each life of it a segment of its own (`segment`). Writes are gathered
//! until `flush`; `sync` makes them durable, or a `Commit` does so in a thread of its own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::core::event::Event;
use crate::core::time::Timestamp;

use super::commit::Disk;
use super::encoding::{EncodingError, encode};
use super::frame::{FileId, FrameWriter, Kind};
use super::frame_reader::{Damage, FrameError};
pub use super::journal_reader::JournalReader;
use super::publish::sync_directory;
use super::segment::{Standing, path_of, standing};

/// Events a frame at most: what is lost when one of its bytes is.
const FRAME_EVENTS: usize = 1024;

/// The journal's magic and version.
pub const KIND: Kind = Kind { magic: *b"dagmar\0J", version: 7, name: "journal" };

/// Writes a run's journal.
#[derive(Debug)]
pub struct JournalWriter {
    pub(super) frames: FrameWriter,
    /// The first segment's id.
    pub(super) id: FileId,
    /// The first segment's path.
    pub(super) path: PathBuf,
    pub(super) segment: u32,
}

impl JournalWriter {
    /// Starts a journal. The file must not exist.
    pub fn create(path: &Path) -> io::Result<Self> {
        let frames = FrameWriter::create(path, &KIND)?;
        Ok(JournalWriter { id: frames.id(), frames, path: path.to_owned(), segment: 1 })
    }

    /// The journal's id, which no other run has.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// How many events the journal has, with those of earlier lives and those not yet written.
    pub const fn event_count(&self) -> u64 {
        self.frames.record_count()
    }

    /// Which segment this life writes.
    pub const fn segment(&self) -> u32 {
        self.segment
    }

    /// Adds events behind the others. They reach the file with the next `flush`.
    pub fn append(&mut self, events: &[(Timestamp, Event)]) -> io::Result<()> {
        // What was added may be large, and a frame has a limit: each has its own.
        let is_bulky = |(_, event): &(Timestamp, Event)| {
            matches!(event, Event::TasksAdded { .. } | Event::TasksSubmitted { .. } | Event::GraphEdited(_))
        };
        let pieces = events.chunk_by(|one, next| !is_bulky(one) && !is_bulky(next));
        pieces.flat_map(|piece| piece.chunks(FRAME_EVENTS)).try_for_each(|chunk| {
            self.frames.push(chunk.len() as u32, |bytes| {
                chunk.iter().for_each(|event| encode(event, bytes));
            })
        })
    }

    /// Writes what was appended, normally in one call of the system. Readers see it from now on.
    ///
    /// After an error it may be called again: nothing is lost or written twice.
    pub fn flush(&mut self) -> io::Result<()> {
        self.frames.flush()
    }

    /// Writes what was appended and waits until the disk has it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.frames.sync()
    }

    /// True if another life has taken the run over, or the journal is no longer where it was: then
    /// nothing counts that is written from now on, nor what was not announced before.
    pub fn is_superseded(&self) -> io::Result<bool> {
        Ok(standing(&self.path, self.segment, self.frames.file())? != Standing::Last)
    }

    /// What a `Commit` syncs.
    pub fn disk(&self) -> io::Result<JournalDisk> {
        let (path, segment) = (self.path.clone(), self.segment);
        Ok(JournalDisk { file: self.frames.file().try_clone()?, path, segment, is_name_synced: false })
    }
}

/// The file of one segment, as it is synced while its writer goes on.
#[derive(Debug)]
pub struct JournalDisk {
    file: File,
    /// The first segment's path.
    path: PathBuf,
    segment: u32,
    is_name_synced: bool,
}

impl Disk for JournalDisk {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if !self.is_name_synced {
            sync_directory(self.path.parent().unwrap_or(Path::new(".")))?;
            self.is_name_synced = true;
        }
        Ok(())
    }

    fn standing(&mut self) -> io::Result<Standing> {
        standing(&self.path, self.segment, &self.file)
    }

    fn path(&self) -> PathBuf {
        path_of(&self.path, self.segment)
    }
}

/// Why a journal cannot be read, or not further.
#[derive(Debug)]
pub enum JournalError {
    /// The file or one of its frames is bad.
    Frame(FrameError),
    /// A whole frame holds something else than events: the file, the frame's first event, and why.
    Event(PathBuf, u64, EncodingError),
}

impl std::fmt::Display for JournalError {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            JournalError::Frame(error) => error.fmt(out),
            JournalError::Event(path, sequence, why) => write!(
                out,
                "cannot read the events from number {sequence} on in the journal `{}`: {why}",
                path.display()
            ),
        }
    }
}

impl std::error::Error for JournalError {}

impl JournalError {
    /// The file that is bad.
    pub fn path(&self) -> &Path {
        match self {
            JournalError::Frame(
                FrameError::Io(path, _)
                | FrameError::Foreign(path, _)
                | FrameError::Version(path, ..)
                | FrameError::Header(path, _)
                | FrameError::Damaged(Damage { path, .. }),
            )
            | JournalError::Event(path, ..) => path,
        }
    }

    /// True if the journal is damaged, and what is left of it can be read.
    pub const fn is_damage(&self) -> bool {
        match self {
            JournalError::Frame(error) => matches!(error, FrameError::Damaged(_) | FrameError::Header(..)),
            JournalError::Event(..) => true,
        }
    }
}

impl From<FrameError> for JournalError {
    fn from(error: FrameError) -> Self {
        JournalError::Frame(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::TaskId;
    use std::fs;

    fn event(number: u32) -> (Timestamp, Event) {
        (Timestamp(number.into()), Event::OutputLost { task: TaskId(number) })
    }

    fn journal() -> (tempfile::TempDir, PathBuf, JournalWriter) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let writer = JournalWriter::create(&path).unwrap();
        (directory, path, writer)
    }

    #[test]
    fn whoever_creates_the_next_segment_supersedes_the_writer() {
        let (_directory, path, writer) = journal();
        assert!(!writer.is_superseded().unwrap());
        fs::write(path.with_extension("2"), "").unwrap();
        assert!(writer.is_superseded().unwrap());
    }

    #[test]
    fn a_journal_that_was_moved_or_replaced_or_removed_is_no_place_to_write() {
        let (directory, path, writer) = journal();
        let mut disk = writer.disk().unwrap();
        assert_eq!(disk.standing().unwrap(), Standing::Last);
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        assert_eq!(disk.standing().unwrap(), Standing::Gone);
        let _other = JournalWriter::create(&path).unwrap();
        assert_eq!(disk.standing().unwrap(), Standing::Gone);
        drop(directory);
        assert_eq!(disk.standing().unwrap(), Standing::Gone);
        assert!(writer.is_superseded().unwrap());
    }

    #[test]
    fn what_was_flushed_is_synced_beside_the_writer() {
        let (_directory, path, mut writer) = journal();
        let mut disk = writer.disk().unwrap();
        writer.append(&[event(0)]).unwrap();
        writer.flush().unwrap();
        disk.sync().unwrap();
        disk.sync().unwrap();
        writer.append(&[event(1)]).unwrap();
        writer.sync().unwrap();
        assert_eq!((writer.event_count(), writer.segment()), (2, 1));
        assert_eq!(disk.path(), path);
    }
}
