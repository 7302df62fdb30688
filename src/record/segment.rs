//! The segments of a journal: `journal`, `journal.2`, `journal.3`, one for each life of rank 0.
//!
//! A life takes the run over by creating the next segment's file, which of all who try only one
//! can. From then on the life before may write what it likes: where its segment ends for everybody
//! is written at the head of the next one that was begun, once all before it was read. A segment
//! is never removed, and written by nobody but the life that created it.
//!
//! The first segment begins as every file of frames. The others begin with a head of two blocks,
//! each of which says all: without it, nobody would know where the segment before ends.
//!
//! ```text
//! block, 4096 bytes, twice    header 40 | frame of no records: the `Link` | zeros
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::encoding::{decode, encode};
use super::frame::{
    FRAME_BYTES, FileId, FrameHead, HEADER_BYTES, HEADER_CHECKED_BYTES, header_bytes, push_frame,
};
use super::frame_reader::{FrameError, FrameReader, check_header, read_at};
use super::journal::KIND;
use super::publish::create_private;

/// What a disk loses at once, as far as such a thing can be said.
const BLOCK_BYTES: usize = 4096;
/// Bytes of the head of every segment but the first.
const HEAD_BYTES: usize = 2 * BLOCK_BYTES;

/// The sole right to write a segment, whose file was just created and is empty.
///
/// Dropping it leaves the file, which the next life passes over: a name that was used once must not
/// become free again, for somebody may still be about to write under it.
#[derive(Debug)]
pub struct NewSegment {
    pub(super) journal: PathBuf,
    pub(super) number: u32,
    pub(super) file: File,
}

impl NewSegment {
    /// Creates the segment behind number `last`, 0 if there is none yet. `None` if somebody else
    /// has done so since: the run is theirs.
    pub fn take(journal: &Path, last: u32) -> io::Result<Option<Self>> {
        let number = last + 1;
        let file = match create_private(&path_of(journal, number)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            result => result?,
        };
        // Only a name that somebody has removed lets this happen.
        let is_late = path_of(journal, number + 1).try_exists()?;
        Ok((!is_late).then(|| NewSegment { journal: journal.to_owned(), number, file }))
    }

    /// Which segment it is; the first is 1.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Its file.
    pub fn path(&self) -> PathBuf {
        path_of(&self.journal, self.number)
    }
}

/// The number of the last segment that was created, 0 without one. All before it are there too.
pub fn last_segment(journal: &Path) -> io::Result<u32> {
    look_again(journal)?;
    let mut last = 0;
    while path_of(journal, last + 1).try_exists()? {
        last += 1;
    }
    Ok(last)
}

/// Where segment `number` of a journal lies.
pub(super) fn path_of(journal: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return journal.to_owned();
    }
    let mut path = journal.as_os_str().to_owned();
    path.push(format!(".{number}"));
    path.into()
}

/// Tells whether another life has taken a run over since this was made.
#[derive(Debug)]
pub struct Fence {
    journal: PathBuf,
    last: u32,
}

impl Fence {
    /// For the life of the run that has it now, whether it has begun its journal yet or not.
    pub fn of(journal: PathBuf) -> io::Result<Self> {
        let last = last_segment(&journal)?.max(1);
        Ok(Fence { journal, last })
    }

    /// True if there is a later life.
    pub fn is_passed(&self) -> io::Result<bool> {
        look_again(&self.journal)?;
        path_of(&self.journal, self.last + 1).try_exists()
    }
}

/// How a segment stands that somebody writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the last one.
    Last,
    /// A later one exists: another life has taken the run over.
    Superseded,
    /// Its name is gone, or another file's: the run directory was moved or removed.
    Gone,
}

/// How a segment stands whose writer has it open as `file`.
pub(super) fn standing(journal: &Path, number: u32, file: &File) -> io::Result<Standing> {
    let found = look_again(journal).and_then(|()| {
        if path_of(journal, number + 1).try_exists()? {
            return Ok(Standing::Superseded);
        }
        let (named, ours) = (path_of(journal, number).metadata()?, file.metadata()?);
        let is_ours = (named.dev(), named.ino()) == (ours.dev(), ours.ino());
        Ok(if is_ours { Standing::Last } else { Standing::Gone })
    });
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Gone),
        result => result,
    }
}

/// Makes what others have created in the directory visible. NFS remembers for up to a minute that
/// a name was not there, and asks its server only when something is opened.
fn look_again(journal: &Path) -> io::Result<()> {
    let directory = journal.parent().filter(|directory| !directory.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).map(drop)
}

/// What the head of a later segment says besides its header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Link {
    /// The segment's own number.
    pub number: u32,
    /// The segment whose records come directly before; none if there are no records before.
    pub follows: Option<Followed>,
}

/// A segment as a later one names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Followed {
    pub number: u32,
    pub id: [u8; 16],
    /// The number of its first record.
    pub first: u64,
}

/// The first bytes of segment `link.number`.
pub(super) fn head_bytes(id: FileId, first: u64, link: &Link) -> Vec<u8> {
    let header = header_bytes(&KIND, id, first);
    if link.number == 1 {
        return header.to_vec();
    }
    let mut block = header.to_vec();
    push_frame(&mut block, id, first, 0, |bytes| encode(link, bytes)).expect("a link is short");
    block.resize(BLOCK_BYTES, 0);
    block.repeat(2)
}

/// A segment whose records count, and which of them do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub number: u32,
    pub path: PathBuf,
    pub id: FileId,
    /// The number of its first record.
    pub first: u64,
    /// The number of the first record that does not count; none if it is the last segment.
    pub limit: Option<u64>,
}

impl Part {
    /// Reads its frames.
    pub(super) fn frames(&self) -> FrameReader {
        FrameReader::known(&self.path, KIND, self.id, self.first, self.start())
    }

    /// Where its first frame is.
    pub(super) const fn start(&self) -> u64 {
        if self.number == 1 { HEADER_BYTES as u64 } else { HEAD_BYTES as u64 }
    }

    pub(super) fn followed(&self) -> Followed {
        Followed { number: self.number, id: self.id.0.to_le_bytes(), first: self.first }
    }
}

/// The segments that make up a journal.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// Those whose records count, the first one first.
    pub parts: Vec<Part>,
    /// A segment behind the last of them that nobody can make out: which, and why.
    pub unreadable: Option<(u32, FrameError)>,
    /// Why the first segment is no part if no segment is.
    pub unbegun: Option<FrameError>,
}

impl Chain {
    /// Finds the segments below number `below` that count. The last one that was begun decides: it
    /// names the one it follows, that one the one before it. What it does not name was created by a
    /// life that did not get to write its head, or wrote it when another had taken over.
    pub(super) fn find(journal: &Path, below: u32) -> Result<Self, FrameError> {
        let last = last_segment(journal).map_err(|error| FrameError::Io(journal.to_owned(), error))?;
        let mut chain = Chain::default();
        let mut limit = None;
        let mut next = chain.find_last(journal, last.min(below - 1))?;
        while let Some(head) = next {
            let path = path_of(journal, head.number);
            chain.parts.push(Part { number: head.number, path, id: head.id, first: head.first, limit });
            limit = Some(head.first);
            next = head.follows.map(|followed| Head::of(journal, followed)).transpose()?;
        }
        chain.parts.reverse();
        Ok(chain)
    }

    /// The last segment up to number `last` that was begun.
    fn find_last(&mut self, journal: &Path, last: u32) -> Result<Option<Head>, FrameError> {
        for number in (1..=last).rev() {
            match Head::read(journal, number)? {
                Beginning::Whole(head) => return Ok(Some(head)),
                Beginning::Missing(why) => self.unbegun = Some(why),
                Beginning::Damaged(why) => self.unreadable = Some((number, why)),
            }
        }
        Ok(None)
    }
}

/// What a segment's first bytes say.
#[derive(Clone, Copy, Debug)]
struct Head {
    number: u32,
    id: FileId,
    first: u64,
    follows: Option<Followed>,
}

/// How a segment's first bytes are.
enum Beginning {
    Whole(Head),
    /// They are not there yet, or never will be; nothing stands behind them.
    Missing(FrameError),
    Damaged(FrameError),
}

impl Head {
    /// The head of a segment as a later one names it: the other way round its own may be damaged.
    fn of(journal: &Path, followed: Followed) -> Result<Self, FrameError> {
        let Followed { number, id, first } = followed;
        let (id, mut follows) = (FileId(u128::from_le_bytes(id)), None);
        if number > 1 {
            follows = match Head::read(journal, number) {
                Ok(Beginning::Whole(head)) if head.id == id => head.follows,
                Err(FrameError::Io(path, error)) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FrameError::Io(path, error));
                }
                // Both blocks of its head are lost. Nearly always it followed the one before it.
                _ => Self::guess_below(journal, number)?,
            };
        }
        Ok(Head { number, id, first, follows })
    }

    fn guess_below(journal: &Path, number: u32) -> Result<Option<Followed>, FrameError> {
        for number in (1..number).rev() {
            if let Beginning::Whole(Head { id, first, .. }) = Head::read(journal, number)? {
                return Ok(Some(Followed { number, id: id.0.to_le_bytes(), first }));
            }
        }
        Ok(None)
    }

    fn read(journal: &Path, number: u32) -> Result<Beginning, FrameError> {
        let path = path_of(journal, number);
        let mut bytes = Vec::new();
        let wanted = if number == 1 { HEADER_BYTES } else { HEAD_BYTES };
        let length = File::open(&path).and_then(|file| {
            read_at(&file, 0, wanted, &mut bytes)?;
            Ok(file.metadata()?.len())
        });
        let length = length.map_err(|error| FrameError::Io(path.clone(), error))?;
        let blocks = [0, BLOCK_BYTES].map(|start| {
            let block = bytes.get(start..).unwrap_or_default();
            Self::from_block(&path, number, &block[..block.len().min(BLOCK_BYTES)])
        });
        let why = match blocks {
            [Ok(head), _] | [_, Ok(head)] => return Ok(Beginning::Whole(head)),
            [Err(why), _] => why,
        };
        let is_cut_short = match why {
            FrameError::Version(..) | FrameError::Foreign(..) => false,
            _ if number == 1 => length < HEADER_BYTES as u64,
            _ => length <= HEAD_BYTES as u64,
        };
        Ok(if is_cut_short { Beginning::Missing(why) } else { Beginning::Damaged(why) })
    }

    fn from_block(path: &Path, number: u32, block: &[u8]) -> Result<Self, FrameError> {
        let checked = check_header(path, &KIND, block.get(..HEADER_BYTES).unwrap_or(block));
        if number == 1 {
            return checked.map(|(id, first)| Head { number, id, first, follows: None });
        }
        let damaged = || FrameError::Header(path.to_owned(), "its first bytes are damaged");
        // Only we name files so: what is not ours in one is damage, and so is a version that its
        // own checksum does not know of.
        let (id, first) = checked.map_err(|error| match error {
            FrameError::Version(..) if is_consistent(block) => error,
            FrameError::Header(..) => error,
            _ => damaged(),
        })?;
        let link = link_in(&block[HEADER_BYTES..], id, first).ok_or_else(damaged)?;
        let is_before =
            link.follows.is_none_or(|followed| followed.number < number && followed.first <= first);
        match link.number == number && is_before {
            true => Ok(Head { number, id, first, follows: link.follows }),
            false => Err(damaged()),
        }
    }
}

/// True if a header's checksum is right, whatever the header says.
fn is_consistent(header: &[u8]) -> bool {
    let stored = header[HEADER_CHECKED_BYTES..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    stored == Some(crc32fast::hash(&header[..HEADER_CHECKED_BYTES]))
}

fn link_in(bytes: &[u8], id: FileId, first: u64) -> Option<Link> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_BYTES>()?;
    let head = FrameHead::from_bytes(head)?;
    let payload = rest.get(..head.length as usize)?;
    let is_whole = head.checksum(id, payload) == head.crc && (head.sequence, head.count) == (first, 0);
    decode(payload).ok().filter(|_| is_whole)
}
