//! Packs: what tasks printed and gave, in two append-only files a rank.
//!
//! `rank-N.pack` is nothing but the bytes, one piece behind the other. `rank-N.index` is a file of
//! frames (`frame`) whose records say which bytes are whose; a record is written after its bytes.
//! A rank that comes back begins `rank-N.2.pack`, so a file has one writer in all its life. Of a run that was edited, names
//! say by which graph tasks are numbered: `rank-N.graph-4.pack`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};

use crate::core::id::{Attempt, Rank, TaskId};

use super::encoding::encode;
use super::frame::{FrameWriter, Kind};
use super::layout::RunDirectory;
use super::publish::{create_private, sync_directory};

/// The magic and version of indexes.
pub const KIND: Kind = Kind { magic: *b"dagmar\0P", version: 2, name: "pack index" };

/// What stands in a pack's name before the number of its graph.
const GRAPH: &str = ".graph-";

/// Bytes gathered before they are written without being asked.
const BUFFER_BYTES: usize = 1 << 20;

/// One of the things that an attempt leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Piece {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// Its value, encoded by the worker.
    Value,
}

/// The number of the graph by which a pack numbers tasks, as its name has it. `None` if that makes no sense.
pub(super) fn graph_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?;
    match name.split_once(GRAPH) {
        None => Some(0),
        Some((_, rest)) => rest.split('.').next()?.parse().ok().filter(|&number| number > 0),
    }
}

/// One record of an index: some consecutive bytes of a piece, or the end of an attempt with the length of all that
/// it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub task: TaskId,
    pub attempt: Attempt,
    /// None at the attempt's end.
    pub piece: Option<Piece>,
    pub offset: u64,
    pub length: u64,
    pub crc: u32,
}

/// Writes the packs of one life of one rank.
#[derive(Debug)]
pub struct PackWriter {
    path: PathBuf,
    pack: File,
    index: FrameWriter,
    /// Where the buffer belongs in the pack.
    start: u64,
    buffer: Vec<u8>,
    entries: Vec<Entry>,
    /// Bytes that attempts which have not ended left so far.
    left_bytes: HashMap<(TaskId, Attempt), u64>,
    /// The checksum of the last entry, which may grow.
    last: Hasher,
}

/// The files of a pack, to be synced while more is written to them.
#[derive(Debug)]
pub struct PackFiles {
    pack: File,
    index: File,
    /// How much of the pack the disk has.
    synced: u64,
    /// Where their names stand, until the disk has those.
    unsynced_directory: Option<PathBuf>,
}

impl PackFiles {
    /// Waits until the disk has all that was flushed before: the bytes, so many, then their records.
    pub fn sync(&mut self, bytes: u64) -> io::Result<()> {
        if bytes > self.synced {
            self.pack.sync_data()?;
            self.synced = bytes;
        }
        self.index.sync_data()?;
        if let Some(directory) = &self.unsynced_directory {
            sync_directory(directory)?;
            self.unsynced_directory = None;
        }
        Ok(())
    }
}

impl PackWriter {
    /// Begins a pack for tasks of the graph that the run goes on with.
    pub fn of_run(run: &RunDirectory, rank: Rank) -> io::Result<Self> {
        let stem = match run.lineage().current() {
            0 => format!("rank-{rank}"),
            graph => format!("rank-{rank}{GRAPH}{graph}"),
        };
        Self::create_named(&run.output(), &stem)
    }

    /// Begins a pack in `directory`, under a name that this rank has not used, for a run that was never edited.
    pub fn create(directory: &Path, rank: Rank) -> io::Result<Self> {
        Self::create_named(directory, &format!("rank-{rank}"))
    }

    fn create_named(directory: &Path, stem: &str) -> io::Result<Self> {
        for life in 1_u32.. {
            let name = if life == 1 { stem.to_owned() } else { format!("{stem}.{life}") };
            let path = directory.join(format!("{name}.pack"));
            let pack = match create_private(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result?,
            };
            let index = match FrameWriter::create(&directory.join(format!("{name}.index")), &KIND) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    // Of a pack that somebody has removed: it would tell of this one.
                    fs::remove_file(&path)?;
                    continue;
                }
                result => result?,
            };
            let (buffer, entries, left_bytes, last) = Default::default();
            return Ok(PackWriter { path, pack, index, start: 0, buffer, entries, left_bytes, last });
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// The pack's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes were flushed.
    pub fn flushed(&self) -> u64 {
        self.start
    }

    /// Adds bytes to a piece of an attempt. A piece may come in many chunks, between those of
    /// others. After an error the bytes are kept, and the next call writes them again.
    pub fn append(&mut self, task: TaskId, attempt: Attempt, piece: Piece, bytes: &[u8]) -> io::Result<()> {
        let offset = self.start + self.buffer.len() as u64;
        self.buffer.extend_from_slice(bytes);
        let same = |last: &&mut Entry| (last.task, last.attempt, last.piece) == (task, attempt, Some(piece));
        match self.entries.last_mut().filter(same) {
            Some(last) => last.length += bytes.len() as u64,
            None => {
                self.seal_last_entry();
                let length = bytes.len() as u64;
                self.entries.push(Entry { task, attempt, piece: Some(piece), offset, length, crc: 0 });
            }
        }
        self.last.update(bytes);
        *self.left_bytes.entry((task, attempt)).or_default() += bytes.len() as u64;
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Says that an attempt will add nothing more, so that readers know even of one that left
    /// nothing, and can tell a whole piece from one that is still growing, or has lost some of its records.
    pub fn end(&mut self, task: TaskId, attempt: Attempt) {
        self.seal_last_entry();
        let length = self.left_bytes.remove(&(task, attempt)).unwrap_or(0);
        self.entries.push(Entry { task, attempt, piece: None, offset: 0, length, crc: 0 });
    }

    /// An attempt leaves nothing that must be whole: it failed, or its output is not to outlive the run.
    pub fn leave_open(&mut self, task: TaskId, attempt: Attempt) {
        self.left_bytes.remove(&(task, attempt));
    }

    /// Writes what was gathered: the bytes, then their records.
    pub fn flush(&mut self) -> io::Result<()> {
        self.pack.write_all_at(&self.buffer, self.start)?;
        self.start += self.buffer.len() as u64;
        self.buffer.clear();
        self.seal_last_entry();
        if !self.entries.is_empty() {
            let entries = &self.entries;
            self.index
                .push(entries.len() as u32, |bytes| entries.iter().for_each(|entry| encode(entry, bytes)))?;
            self.entries.clear();
        }
        self.index.flush()
    }

    /// Its files once more, for another thread to sync.
    pub fn files(&self) -> io::Result<PackFiles> {
        let unsynced_directory = self.path.parent().map(Path::to_owned);
        Ok(PackFiles {
            pack: self.pack.try_clone()?,
            index: self.index.file().try_clone()?,
            synced: 0,
            unsynced_directory,
        })
    }

    fn seal_last_entry(&mut self) {
        let crc = std::mem::take(&mut self.last).finalize();
        if let Some(last) = self.entries.last_mut().filter(|last| last.piece.is_some()) {
            last.crc = crc;
        }
    }
}
