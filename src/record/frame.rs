//! Append-only files of numbered, checksummed frames, and how they are written.
//!
//! The journal and the indexes of packs share this format. A file is a header and frames, all
//! numbers little-endian:
//!
//! ```text
//! header  magic 8 | version u32 | id 16 | first sequence u64 | crc u32                  40 bytes
//! frame   mark u32 | length u32 | sequence u64 | count u32 | crc u32 | payload    24 + length
//! ```
//!
//! A frame holds `count` records, the first of which is number `sequence`. Its CRC-32 covers the
//! file's id, length, sequence, count and payload: a frame of another file is not taken for one
//! of this. Written by one process only; read by `frame_reader`.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use crc32fast::Hasher;

use crate::clock;

use super::publish;

/// Bytes of a file's header.
pub(super) const HEADER_BYTES: usize = 40;
/// Bytes of it that its checksum covers.
pub(super) const HEADER_CHECKED_BYTES: usize = 36;
/// Bytes of a frame before its payload.
pub(super) const FRAME_BYTES: usize = 24;
/// Starts every frame, so that whole frames are found again behind damage.
pub(super) const MARK: [u8; 4] = [0xda, b'g', 0x0a, 0xf5];
/// No record has a greater number: no file holds as many, and what follows must be countable.
pub(super) const SEQUENCE_MAX: u64 = u64::MAX / 2;
/// Longest payload: a reader may have to hold one in memory.
const PAYLOAD_MAX: usize = 1 << 30;

/// What sort of file it is: its first bytes, and the version of what the payloads mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The first bytes.
    pub magic: [u8; 8],
    /// The only version that is written and read.
    pub version: u32,
    /// What it is in a user's words: `journal`.
    pub name: &'static str,
}

/// A number no other file has: 128 bits made of the path, the time and the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(pub u128);

impl FileId {
    /// A new id for a file that is about to be created at `path`.
    pub fn fresh(path: &Path) -> Self {
        let time = clock::now().0.to_le_bytes();
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let unique = format!("{} {} {}", place.display(), publish::unique(), process::id());
        FileId(fnv_1a(unique.bytes().chain(time)))
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

/// The 128-bit FNV-1a hash; its constants are those of the published definition.
fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// The head of a frame as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: u32,
    pub sequence: u64,
    pub count: u32,
    pub crc: u32,
}

impl FrameHead {
    pub(super) fn to_bytes(self) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..4].copy_from_slice(&MARK);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    /// `None` where the mark is missing, or no frame has such a number.
    pub(super) fn from_bytes(bytes: &[u8; FRAME_BYTES]) -> Option<Self> {
        let four = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        let eight = u64::from(u32::from_le_bytes(four(12))) << 32 | u64::from(u32::from_le_bytes(four(8)));
        let head = FrameHead {
            length: u32::from_le_bytes(four(4)),
            sequence: eight,
            count: u32::from_le_bytes(four(16)),
            crc: u32::from_le_bytes(four(20)),
        };
        (four(0) == MARK && eight <= SEQUENCE_MAX).then_some(head)
    }

    /// The checksum that belongs to this head, the file's id and a payload.
    pub(super) fn checksum(&self, id: FileId, payload: &[u8]) -> u32 {
        let mut hasher = Hasher::new();
        hasher.update(&id.0.to_le_bytes());
        hasher.update(&self.to_bytes()[..20]);
        hasher.update(payload);
        hasher.finalize()
    }
}

pub(super) fn header_bytes(kind: &Kind, id: FileId, first: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..8].copy_from_slice(&kind.magic);
    bytes[8..12].copy_from_slice(&kind.version.to_le_bytes());
    bytes[12..28].copy_from_slice(&id.0.to_le_bytes());
    bytes[28..36].copy_from_slice(&first.to_le_bytes());
    let crc = crc32fast::hash(&bytes[..HEADER_CHECKED_BYTES]);
    bytes[HEADER_CHECKED_BYTES..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Appends a frame of `count` records to `buffer`; `fill` appends their bytes. A frame that grows
/// beyond 1 GiB is refused and leaves no trace.
pub(super) fn push_frame(
    buffer: &mut Vec<u8>,
    id: FileId,
    sequence: u64,
    count: u32,
    fill: impl FnOnce(&mut Vec<u8>),
) -> io::Result<()> {
    let start = buffer.len();
    buffer.resize(start + FRAME_BYTES, 0);
    fill(buffer);
    let length = buffer.len() - start - FRAME_BYTES;
    if length > PAYLOAD_MAX {
        buffer.truncate(start);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is longer than 1 GiB"));
    }
    let mut head = FrameHead { length: length as u32, sequence, count, crc: 0 };
    head.crc = head.checksum(id, &buffer[start + FRAME_BYTES..]);
    buffer[start..start + FRAME_BYTES].copy_from_slice(&head.to_bytes());
    Ok(())
}

/// Writes one file of frames. Frames are gathered in memory until `flush`.
#[derive(Debug)]
pub struct FrameWriter {
    file: File,
    id: FileId,
    sequence: u64,
    buffer: Vec<u8>,
    /// Where the file's name stands, until the disk has that as well.
    unsynced_directory: Option<PathBuf>,
}

impl FrameWriter {
    /// Creates the file, which must not exist, with its header.
    pub fn create(path: &Path, kind: &Kind) -> io::Result<Self> {
        let id = FileId::fresh(path);
        Self::begin(publish::create_private(path)?, path, id, 0, &header_bytes(kind, id, 0))
    }

    /// Begins a file that was created and is empty: its first bytes, and the number of its first
    /// record.
    pub(super) fn begin(
        mut file: File,
        path: &Path,
        id: FileId,
        sequence: u64,
        head: &[u8],
    ) -> io::Result<Self> {
        file.write_all(head)?;
        let unsynced_directory = path.parent().map(Path::to_owned);
        Ok(FrameWriter { file, id, sequence, buffer: Vec::new(), unsynced_directory })
    }

    /// The file's id.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// The file, for whoever syncs it.
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    /// How many records were pushed so far, with those of the files before.
    pub const fn record_count(&self) -> u64 {
        self.sequence
    }

    /// Bytes that wait for `flush`.
    pub const fn unwritten_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Adds a frame of `count` records; `fill` appends their bytes. A frame that grows beyond
    /// 1 GiB is refused and leaves no trace.
    pub fn push(&mut self, count: u32, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        push_frame(&mut self.buffer, self.id, self.sequence, count, fill)?;
        self.sequence += u64::from(count);
        Ok(())
    }

    /// Writes what was gathered, normally in one call of the system. After an error what did not
    /// get through is kept, so that a later `flush` goes on at the right byte.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut written = 0;
        let mut result = Ok(());
        while written < self.buffer.len() && result.is_ok() {
            match self.file.write(&self.buffer[written..]) {
                Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => result = Err(error),
            }
        }
        self.buffer.drain(..written);
        result
    }

    /// Writes what was gathered and waits until the disk has it, and the first time the file's name.
    pub fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()?;
        if let Some(directory) = &self.unsynced_directory {
            publish::sync_directory(directory)?;
            self.unsynced_directory = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_even_for_one_path_in_one_microsecond() {
        assert_ne!(FileId::fresh(Path::new("/x")), FileId::fresh(Path::new("/x")));
    }

    #[test]
    fn a_head_comes_back_from_its_bytes() {
        let head = FrameHead { length: 7, sequence: 0x0123_4567_89ab_cdef, count: 3, crc: 0xdead_beef };
        assert_eq!(FrameHead::from_bytes(&head.to_bytes()), Some(head));
        assert_eq!(FrameHead::from_bytes(&[0; FRAME_BYTES]), None);
    }

    #[test]
    fn numbers_that_cannot_be_counted_on_from_are_those_of_no_frame() {
        let head = |sequence| FrameHead { length: 0, sequence, count: 1, crc: 0 };
        assert_eq!(FrameHead::from_bytes(&head(SEQUENCE_MAX).to_bytes()), Some(head(SEQUENCE_MAX)));
        assert_eq!(FrameHead::from_bytes(&head(u64::MAX).to_bytes()), None);
    }
}
