//! Reads the bytes of one piece out of the packs, and checks them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crc32fast::Hasher;

use crate::core::id::TaskId;

use super::frame_reader::FrameError;

/// Why a piece cannot be read.
#[derive(Debug)]
pub enum PackError {
    /// The system refused.
    Io(PathBuf, io::Error),
    /// An index is bad.
    Index(FrameError),
    /// The index names bytes that are not in the pack, or are other bytes: the pack, from, length.
    Damaged(PathBuf, u64, u64),
    /// Some records of an index are lost, or the end of a pack is: the packs, whose bytes, how many.
    Incomplete(PathBuf, TaskId, u64),
}

impl fmt::Display for PackError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PackError::Io(path, error) => write!(out, "cannot read `{}`: {error}", path.display()),
            PackError::Index(error) => error.fmt(out),
            PackError::Damaged(path, offset, length) => write!(
                out,
                "`{}` is damaged: the {length} bytes from byte {offset} on are missing or changed",
                path.display()
            ),
            PackError::Incomplete(directory, task, bytes) => write!(
                out,
                "an index or a pack in `{}` is damaged: {bytes} bytes of task {task} are in none",
                directory.display()
            ),
        }
    }
}

impl std::error::Error for PackError {}

impl From<PackError> for io::Error {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Io(_, error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// Bytes of a piece that are in memory while it is only looked at.
const VERIFIED_AT_ONCE: usize = 256 << 10;

/// Reads one piece from its first byte on.
#[derive(Debug)]
pub struct PieceReader {
    segments: Vec<Segment>,
    current: usize,
    open: Option<(PathBuf, File)>,
}

/// Consecutive bytes of a pack.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    offset: u64,
    length: u64,
    crc: u32,
    done: u64,
    /// None once bytes were skipped: then the checksum cannot be computed.
    hasher: Option<Hasher>,
}

impl PieceReader {
    /// `None` without any segment: the attempt left no such piece.
    pub(super) fn new(segments: Vec<Segment>) -> Option<Self> {
        (!segments.is_empty()).then_some(PieceReader { segments, current: 0, open: None })
    }

    /// How many bytes are left to read.
    pub fn left_bytes(&self) -> u64 {
        self.segments[self.current..].iter().fold(0, |sum, part| sum.saturating_add(part.length - part.done))
    }

    /// Passes over bytes without reading them.
    pub fn skip(&mut self, mut count: u64) {
        while let Some(segment) = self.segments.get_mut(self.current).filter(|_| count > 0) {
            let step = count.min(segment.length - segment.done);
            segment.done += step;
            segment.hasher = None;
            count -= step;
            if count > 0 {
                self.current += 1;
            }
        }
    }

    /// Reads all that is left, and keeps nothing of it: an error says that it cannot be read.
    pub fn verify(&mut self) -> Result<(), PackError> {
        let mut bytes = vec![0; VERIFIED_AT_ONCE];
        while let Some(segment) = self.segments.get(self.current) {
            match segment.done == segment.length {
                true => self.close_segment()?,
                false => drop(self.read_some(&mut bytes)?),
            }
        }
        Ok(())
    }

    /// All that is left.
    pub fn read_rest(&mut self) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::new();
        while self.current < self.segments.len() {
            self.read_segment(&mut bytes)?;
        }
        Ok(bytes)
    }

    /// Appends the rest of the current segment, which is allocated only if the pack is that long.
    fn read_segment(&mut self, bytes: &mut Vec<u8>) -> Result<(), PackError> {
        self.open_pack()?;
        let segment = &self.segments[self.current];
        let left = segment.length - segment.done;
        let (path, file) = self.open.as_ref().expect("opened in the first line");
        let pack_bytes = file.metadata().map_err(|error| PackError::Io(path.clone(), error))?.len();
        let start = segment.offset.checked_add(segment.done);
        if start.and_then(|start| start.checked_add(left)).is_none_or(|end| end > pack_bytes) {
            return Err(segment.damaged());
        }
        let from = bytes.len();
        bytes.resize(from + left as usize, 0);
        let mut to = from;
        while to < bytes.len() {
            to += self.read_some(&mut bytes[to..])?;
        }
        self.close_segment()
    }

    /// Reads into `bytes` from the current segment, at least one byte unless it is at its end.
    fn read_some(&mut self, bytes: &mut [u8]) -> Result<usize, PackError> {
        self.open_pack()?;
        let segment = &mut self.segments[self.current];
        let (path, file) = self.open.as_ref().expect("opened in the first line");
        let wanted = bytes.len().min(usize::try_from(segment.length - segment.done).unwrap_or(usize::MAX));
        let place = segment.offset.saturating_add(segment.done);
        let count = match file.read_at(&mut bytes[..wanted], place) {
            Ok(0) if wanted > 0 => return Err(segment.damaged()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(PackError::Io(path.clone(), error)),
        };
        if let Some(hasher) = &mut segment.hasher {
            hasher.update(&bytes[..count]);
        }
        segment.done += count as u64;
        Ok(count)
    }

    /// Compares the checksum of a segment that was read to its end, and goes on to the next.
    fn close_segment(&mut self) -> Result<(), PackError> {
        let segment = &mut self.segments[self.current];
        self.current += 1;
        let found = segment.hasher.take().map(Hasher::finalize);
        match found.is_none_or(|crc| crc == segment.crc) {
            true => Ok(()),
            false => Err(segment.damaged()),
        }
    }

    fn open_pack(&mut self) -> Result<(), PackError> {
        let path = &self.segments[self.current].path;
        if self.open.as_ref().is_none_or(|(open, _)| open != path) {
            let file = File::open(path).map_err(|error| PackError::Io(path.clone(), error))?;
            self.open = Some((path.clone(), file));
        }
        Ok(())
    }
}

impl Read for PieceReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while let Some(segment) = self.segments.get(self.current).filter(|_| !bytes.is_empty()) {
            if segment.done == segment.length {
                self.close_segment()?;
                continue;
            }
            match self.read_some(bytes)? {
                0 => (),
                count => return Ok(count),
            }
        }
        Ok(0)
    }
}

impl Segment {
    pub(super) fn new(path: PathBuf, offset: u64, length: u64, crc: u32) -> Self {
        Segment { path, offset, length, crc, done: 0, hasher: Some(Hasher::new()) }
    }

    fn damaged(&self) -> PackError {
        PackError::Damaged(self.path.clone(), self.offset, self.length)
    }
}
