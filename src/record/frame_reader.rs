//! Reads files of frames, whole, torn, damaged or still growing.
//!
//! What follows the last whole frame is a tail: it may be torn, or not yet written, and is left
//! alone. A bad place with a whole frame behind it is damage: it is located and counted, and
//! reading goes on only when told to.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::frame::{FRAME_BYTES, FileId, FrameHead, HEADER_BYTES, Kind, MARK, SEQUENCE_MAX, header_bytes};

/// How much is read from the file at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Why a file of frames cannot be read, or not further.
#[derive(Debug)]
pub enum FrameError {
    /// The system refused.
    Io(PathBuf, io::Error),
    /// The file is another sort of file.
    Foreign(PathBuf, &'static str),
    /// The file was written in another version of its format: the file, found, known.
    Version(PathBuf, u32, u32),
    /// The file ends within its header, or the header is damaged.
    Header(PathBuf, &'static str),
    /// Records are missing in the middle.
    Damaged(Damage),
}

/// A bad place in the middle of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What the file is, in a user's words.
    pub name: &'static str,
    /// The first bad byte's frame starts here.
    pub offset: u64,
    /// The number of the first record that is missing.
    pub sequence: u64,
    /// Where the next whole frame starts.
    pub next_offset: u64,
    /// The number of the first record behind the damage.
    pub next_sequence: u64,
}

impl Damage {
    /// How many records are missing.
    pub const fn lost_records(&self) -> u64 {
        self.next_sequence - self.sequence
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::Io(path, error) => write!(out, "cannot read `{}`: {error}", path.display()),
            FrameError::Foreign(path, name) => write!(out, "`{}` is not a {name} of dagmar", path.display()),
            FrameError::Version(path, found, known) => write!(
                out,
                "`{}` has format version {found}, and this dagmar reads version {known}",
                path.display()
            ),
            FrameError::Header(path, why) => write!(out, "cannot read `{}`: {why}", path.display()),
            FrameError::Damaged(damage) => write!(
                out,
                "the {} `{}` is damaged from byte {} to byte {}: {} records are lost, from number {} on",
                damage.name,
                damage.path.display(),
                damage.offset,
                damage.next_offset,
                damage.lost_records(),
                damage.sequence
            ),
        }
    }
}

impl std::error::Error for FrameError {}

/// A whole frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Number of its first record.
    pub sequence: u64,
    /// How many records it holds.
    pub count: u32,
    /// The records' bytes.
    pub payload: &'a [u8],
}

/// Reads one file of frames from its start, and what is added to it afterwards.
#[derive(Debug)]
pub struct FrameReader {
    path: PathBuf,
    kind: Kind,
    file: Option<File>,
    id: FileId,
    offset: u64,
    sequence: u64,
    window: Window,
    damage: Option<Damage>,
    searched_to: u64,
}

/// A piece of the file in memory.
#[derive(Debug, Default)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
}

impl FrameReader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path, kind: Kind) -> Result<Self, FrameError> {
        let fail = |error| FrameError::Io(path.to_owned(), error);
        let file = File::open(path).map_err(fail)?;
        let mut header = Vec::new();
        read_at(&file, 0, HEADER_BYTES, &mut header).map_err(fail)?;
        let (id, sequence) = check_header(path, &kind, &header)?;
        let reader = Self::known(path, kind, id, sequence, HEADER_BYTES as u64);
        Ok(FrameReader { file: Some(file), ..reader })
    }

    /// Reads a file whose header says nothing new, and may be damaged: its id is known, and that
    /// record number `sequence` is the first behind `offset`.
    pub(super) fn known(path: &Path, kind: Kind, id: FileId, sequence: u64, offset: u64) -> Self {
        FrameReader {
            path: path.to_owned(),
            kind,
            file: None,
            id,
            offset,
            sequence,
            window: Window::default(),
            damage: None,
            searched_to: 0,
        }
    }

    /// The file's id.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the next frame starts.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next whole frame; `None` when there is none yet. Asking again later reads on.
    ///
    /// At damage every call gives the same error, until `skip_damage`.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        if let Some(damage) = &self.damage {
            return Err(FrameError::Damaged(damage.clone()));
        }
        let head = self.head_at(self.offset)?.filter(|head| head.sequence == self.sequence);
        let Some(head) = head else {
            self.look_behind_bad_place()?;
            return Ok(None);
        };
        let start = self.offset + FRAME_BYTES as u64;
        self.offset = start + u64::from(head.length);
        self.sequence = self.sequence.saturating_add(u64::from(head.count));
        let first = (start - self.window.start) as usize;
        let payload = &self.window.bytes[first..first + head.length as usize];
        Ok(Some(Frame { sequence: head.sequence, count: head.count, payload }))
    }

    /// Goes on behind the damage that was reported, and says what was left out.
    pub fn skip_damage(&mut self) -> Option<Damage> {
        let damage = self.damage.take()?;
        self.offset = damage.next_offset;
        self.sequence = damage.next_sequence;
        // There may be more of it behind.
        self.searched_to = 0;
        Some(damage)
    }

    /// The last frame as damage, for whoever finds its checksum right and its payload senseless:
    /// where it starts, and the number of its first record.
    pub fn passed(&self, start: u64, first: u64) -> Damage {
        Damage {
            path: self.path.clone(),
            name: self.kind.name,
            offset: start,
            sequence: first,
            next_offset: self.offset,
            next_sequence: self.sequence,
        }
    }

    /// Bytes behind the last whole frame. Once the writer is gone, they are a torn tail.
    pub fn tail_bytes(&mut self) -> Result<u64, FrameError> {
        Ok(self.file_bytes()?.saturating_sub(self.offset))
    }

    /// Lets go of the file and the memory; the next reading opens it again.
    pub fn close(&mut self) {
        self.file = None;
        self.window = Window::default();
    }

    /// Finds out whether the bad place at `offset` is a tail (nothing to do) or damage.
    fn look_behind_bad_place(&mut self) -> Result<(), FrameError> {
        // What was read may have been half written, so the next call must read it again.
        self.window = Window::default();
        let end = self.file_bytes()?;
        if end == self.searched_to {
            return Ok(());
        }
        self.searched_to = end;
        let Some((next_offset, head)) = self.search(end)? else { return Ok(()) };
        // Its writer may have finished it since it was looked at.
        self.window = Window::default();
        if self.head_at(self.offset)?.is_some_and(|head| head.sequence == self.sequence) {
            self.searched_to = 0;
            return Ok(());
        }
        let damage = Damage {
            path: self.path.clone(),
            name: self.kind.name,
            offset: self.offset,
            sequence: self.sequence,
            next_offset,
            next_sequence: head.sequence,
        };
        self.damage = Some(damage.clone());
        Err(FrameError::Damaged(damage))
    }

    /// The first whole frame from `offset` on that is not older than the one that is missing.
    fn search(&mut self, end: u64) -> Result<Option<(u64, FrameHead)>, FrameError> {
        let mut place = self.offset;
        while place + FRAME_BYTES as u64 <= end {
            let available = self.window_at(place, FRAME_BYTES)?;
            if available.len() < FRAME_BYTES {
                return Ok(None); // the file has become shorter
            }
            let skip = available.windows(MARK.len()).position(|bytes| bytes == MARK);
            let Some(skip) = skip else {
                place += (available.len() - MARK.len() + 1) as u64;
                continue;
            };
            place += skip as u64;
            match self.head_at(place)? {
                Some(head) if head.sequence >= self.sequence && head.count > 0 => {
                    return Ok(Some((place, head)));
                }
                _ => place += 1,
            }
        }
        Ok(None)
    }

    /// The head of the frame at this place, if the frame is there and whole. The window then
    /// holds all of it.
    fn head_at(&mut self, place: u64) -> Result<Option<FrameHead>, FrameError> {
        let id = self.id;
        let head = self.window_at(place, FRAME_BYTES)?.first_chunk().and_then(FrameHead::from_bytes);
        let Some(head) = head else { return Ok(None) };
        let length = FRAME_BYTES + head.length as usize;
        // A length that lies must cost no memory, so it is compared with the file's first.
        if !self.window.covers(place, length) && place + length as u64 > self.file_bytes()? {
            return Ok(None);
        }
        let frame = self.window_at(place, length)?.get(FRAME_BYTES..length);
        Ok(frame.is_some_and(|payload| head.checksum(id, payload) == head.crc).then_some(head))
    }

    /// What the file has from `start` on: `wanted` bytes or more, fewer only when it is shorter.
    fn window_at(&mut self, start: u64, wanted: usize) -> Result<&[u8], FrameError> {
        if !self.window.covers(start, wanted) {
            let available = self.file_bytes()?.saturating_sub(start);
            let length = wanted.max(WINDOW_BYTES).min(usize::try_from(available).unwrap_or(usize::MAX));
            self.fill_window(start, length)?;
        }
        Ok(&self.window.bytes[(start - self.window.start) as usize..])
    }

    fn fill_window(&mut self, start: u64, length: usize) -> Result<(), FrameError> {
        self.open_file()?;
        let file = self.file.as_ref().expect("opened in the line before");
        self.window.start = start;
        let read = read_at(file, start, length, &mut self.window.bytes);
        read.map_err(|error| FrameError::Io(self.path.clone(), error))
    }

    fn file_bytes(&mut self) -> Result<u64, FrameError> {
        self.open_file()?;
        let file = self.file.as_ref().expect("opened in the line before");
        let metadata = file.metadata().map_err(|error| FrameError::Io(self.path.clone(), error))?;
        Ok(metadata.len())
    }

    fn open_file(&mut self) -> Result<(), FrameError> {
        if self.file.is_none() {
            let file = File::open(&self.path).map_err(|error| FrameError::Io(self.path.clone(), error))?;
            self.file = Some(file);
        }
        Ok(())
    }
}

impl Window {
    fn covers(&self, start: u64, length: usize) -> bool {
        self.start <= start && start + length as u64 <= self.start + self.bytes.len() as u64
    }
}

/// The id and the first sequence number that a header names.
pub(super) fn check_header(path: &Path, kind: &Kind, header: &[u8]) -> Result<(FileId, u64), FrameError> {
    let magic = header.get(..8.min(header.len())).unwrap_or_default();
    if !kind.magic.starts_with(magic) {
        return Err(FrameError::Foreign(path.to_owned(), kind.name));
    }
    let Some(header) = header.first_chunk::<HEADER_BYTES>() else {
        return Err(FrameError::Header(path.to_owned(), "it ends before its first record"));
    };
    let (version, rest) = header[8..].split_first_chunk().expect("32 bytes are left");
    let (id, rest) = rest.split_first_chunk().expect("28 bytes are left");
    let (first, _) = rest.split_first_chunk().expect("12 bytes are left");
    let (version, id) = (u32::from_le_bytes(*version), FileId(u128::from_le_bytes(*id)));
    let first = u64::from_le_bytes(*first);
    // The version stands before the checksum: another version may compute another checksum.
    if version != kind.version {
        return Err(FrameError::Version(path.to_owned(), version, kind.version));
    }
    match header_bytes(kind, id, first) == *header && first <= SEQUENCE_MAX {
        true => Ok((id, first)),
        false => Err(FrameError::Header(path.to_owned(), "its first bytes are damaged")),
    }
}

/// Replaces `bytes` by `length` bytes of the file, fewer where the file ends.
pub(super) fn read_at(file: &File, start: u64, length: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(length, 0);
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], start + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(())
}
