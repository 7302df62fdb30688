//! The journal: every event of a run in the order in which rank 0 learned of it.
//!
//! Its records are the bincode of `(Timestamp, Event)`, one after the other in frames (`frame`).
//! Rank 0 alone writes it. Writes are gathered until `flush`; `sync` makes them durable.

use std::io;
use std::path::{Path, PathBuf};

use crate::core::event::Event;
use crate::core::time::Timestamp;

use super::encoding::{EncodingError, decode_records, encode};
use super::frame::{FileId, FrameWriter, Kind};
use super::frame_reader::{Damage, FrameError, FrameReader};

/// Events a frame at most: what is lost when one of its bytes is.
const FRAME_EVENTS: usize = 1024;

/// The journal's magic and version.
pub const KIND: Kind = Kind { magic: *b"dagmar\0J", version: 4, name: "journal" };

/// Writes a run's journal.
#[derive(Debug)]
pub struct JournalWriter {
    frames: FrameWriter,
}

impl JournalWriter {
    /// Starts a journal. The file must not exist.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(JournalWriter { frames: FrameWriter::create(path, &KIND)? })
    }

    /// The journal's id, which no other run has.
    pub const fn id(&self) -> FileId {
        self.frames.id()
    }

    /// How many events were appended so far.
    pub const fn event_count(&self) -> u64 {
        self.frames.record_count()
    }

    /// Adds events behind the others. They reach the file with the next `flush`.
    pub fn append(&mut self, events: &[(Timestamp, Event)]) -> io::Result<()> {
        // What was added may be large, and a frame has a limit: each has its own.
        let is_bulky = |(_, event): &(Timestamp, Event)| matches!(event, Event::TasksAdded { .. });
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

impl From<FrameError> for JournalError {
    fn from(error: FrameError) -> Self {
        JournalError::Frame(error)
    }
}

/// Reads a journal event by event.
///
/// The iterator ends behind the last whole frame, and goes on when it is asked again after the
/// journal has grown. At damage in the middle it gives the error and then ends, until
/// `skip_damage`.
#[derive(Debug)]
pub struct JournalReader {
    frames: FrameReader,
    ready: std::vec::IntoIter<(Timestamp, Event)>,
    stopped: bool,
}

impl JournalReader {
    /// Opens a journal and checks what it is.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let frames = FrameReader::open(path, KIND)?;
        Ok(JournalReader { frames, ready: Vec::new().into_iter(), stopped: false })
    }

    /// The journal's id, which no other run has.
    pub const fn id(&self) -> FileId {
        self.frames.id()
    }

    /// Bytes behind the last whole frame. Once the run is over they are a torn tail, which was
    /// cut: what the events in it said is lost.
    pub fn tail_bytes(&mut self) -> Result<u64, JournalError> {
        Ok(self.frames.tail_bytes()?)
    }

    /// Goes on behind damage that was reported, and says what was left out. A frame that holds
    /// something else than events has been passed already; for it there is nothing to say.
    pub fn skip_damage(&mut self) -> Option<Damage> {
        self.stopped = false;
        self.frames.skip_damage()
    }

    fn read_frame(&mut self) -> Result<bool, JournalError> {
        let path = self.frames.path().to_owned();
        let Some(frame) = self.frames.next_frame()? else { return Ok(false) };
        let sequence = frame.sequence;
        let events: Result<Vec<_>, _> = decode_records(frame.payload, frame.count);
        self.ready = events.map_err(|why| JournalError::Event(path, sequence, why))?.into_iter();
        Ok(true)
    }
}

impl Iterator for JournalReader {
    type Item = Result<(Timestamp, Event), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.ready.next() {
                return Some(Ok(event));
            }
            if self.stopped {
                return None;
            }
            match self.read_frame() {
                Ok(true) => (),
                Ok(false) => return None,
                Err(error) => {
                    self.stopped = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::batch::Batch;
    use crate::core::event::{Cause, Failure, Success};
    use crate::core::id::{Attempt, Rank, TaskId};
    use std::fs;

    /// Eight events in four frames.
    fn events() -> Vec<(Timestamp, Event)> {
        let failure = Failure { cause: Cause::Function("no such number".into()), ..failure() };
        let (task, attempt, worker) = (TaskId(1), Attempt::FIRST, Rank(2));
        let success = Success { file_sizes: vec![1, 300, 70_000], ..Success::default() };
        let kinds = [
            Event::RunStarted { tasks: 7 },
            Event::TasksFinished { worker, batch: Batch::one(task, attempt, success) },
            Event::AttemptFailed { task, attempt, worker, failure, retried: true },
            Event::OutputLost { task },
        ];
        kinds
            .iter()
            .chain(&kinds)
            .cloned()
            .enumerate()
            .map(|(at, event)| (Timestamp(at as u64), event))
            .collect()
    }

    fn failure() -> Failure {
        Failure { started: Timestamp(1), ran: Default::default(), cause: Cause::Cancelled }
    }

    fn reference() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = JournalWriter::create(&path).unwrap();
        for pair in events().chunks(2) {
            journal.append(pair).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 40);
        journal.flush().unwrap();
        (directory, path)
    }

    /// All that can be read, past all damage, and how many events are said to be lost.
    fn read_all(path: &Path) -> Result<(Vec<(Timestamp, Event)>, u64), JournalError> {
        let mut journal = JournalReader::open(path)?;
        let (mut found, mut lost) = (Vec::new(), 0);
        loop {
            match journal.next() {
                None => return Ok((found, lost)),
                Some(Ok(event)) => found.push(event),
                Some(Err(_)) => lost += journal.skip_damage().map_or(0, |damage| damage.lost_records()),
            }
        }
    }

    #[test]
    fn what_is_appended_is_read_in_order() {
        let (_directory, path) = reference();
        assert_eq!(read_all(&path).unwrap(), (events(), 0));
    }

    #[test]
    fn a_journal_cut_anywhere_gives_every_whole_frame() {
        let (_directory, path) = reference();
        let whole = fs::read(&path).unwrap();
        for length in (0..whole.len()).rev() {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length as u64).unwrap();
            let Ok(mut journal) = JournalReader::open(&path) else {
                assert!(length < 40, "a journal of {length} bytes is refused");
                continue;
            };
            let found: Vec<_> = journal.by_ref().map(Result::unwrap).collect();
            assert_eq!(found, events()[..found.len()]);
            assert_eq!(found.len() % 2, 0);
            let used = journal.frames.offset() + journal.tail_bytes().unwrap();
            assert_eq!(used, length as u64);
        }
    }

    #[test]
    fn a_flipped_byte_costs_one_frame_and_is_located() {
        let (_directory, path) = reference();
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x41;
            fs::write(&path, &bytes).unwrap();
            let Ok((found, lost)) = read_all(&path) else {
                assert!(place < 40, "byte {place} makes the journal unreadable");
                continue;
            };
            assert!(place >= 40);
            assert_eq!(found.len(), 6, "byte {place}");
            let is_in_last_frame = found[..] == events()[..6];
            assert_eq!(lost, if is_in_last_frame { 0 } else { 2 }, "byte {place}");
        }
    }

    #[test]
    fn damage_in_the_middle_is_explained() {
        let (_directory, path) = reference();
        let mut bytes = fs::read(&path).unwrap();
        bytes[70] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let error = JournalReader::open(&path).unwrap().next().unwrap().unwrap_err();
        let text = error.to_string().replace(&path.display().to_string(), "RUN/journal");
        insta::assert_snapshot!(text, @"the journal `RUN/journal` is damaged from byte 40 to byte 92: 2 records are lost, from number 0 on");
    }

    #[test]
    fn another_version_is_refused() {
        let (_directory, path) = reference();
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 9;
        fs::write(&path, &bytes).unwrap();
        let error = JournalReader::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::Frame(FrameError::Version(_, 9, 4))), "{error}");
    }

    #[test]
    fn a_frame_of_another_journal_is_no_frame() {
        let (_directory, path) = reference();
        let (_other_directory, other) = reference();
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(40);
        bytes.extend(&fs::read(&other).unwrap()[40..]);
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_all(&path).unwrap(), (vec![], 0));
    }

    #[test]
    fn a_growing_journal_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = JournalWriter::create(&path).unwrap();
        let mut reader = JournalReader::open(&path).unwrap();
        for event in events() {
            assert!(reader.next().is_none());
            journal.append(std::slice::from_ref(&event)).unwrap();
            assert!(reader.next().is_none(), "nothing is visible before the flush");
            journal.flush().unwrap();
            assert_eq!(reader.next().unwrap().unwrap(), event);
        }
    }

    #[test]
    fn a_half_written_frame_is_read_once_it_is_whole() {
        let (_directory, path) = reference();
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 5]).unwrap();
        let mut reader = JournalReader::open(&path).unwrap();
        assert_eq!(reader.by_ref().count(), 6);
        fs::write(&path, &whole).unwrap();
        assert_eq!(reader.by_ref().count(), 2);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_behind_the_header_are_read_without_a_panic(
            pieces in proptest::collection::vec((0_usize..200, proptest::collection::vec(proptest::num::u8::ANY, 0..40)), 0..8),
        ) {
            let (_directory, path) = reference();
            let whole = fs::read(&path).unwrap();
            let mut bytes = whole[..40].to_vec();
            for (start, noise) in pieces {
                bytes.extend(&whole[40 + start.min(whole.len() - 40)..]);
                bytes.extend(noise);
            }
            fs::write(&path, &bytes).unwrap();
            read_all(&path).unwrap();
        }
    }

    #[test]
    fn a_tail_of_lying_marks_is_passed_quickly() {
        let (_directory, path) = reference();
        let mut bytes = fs::read(&path).unwrap();
        let mark = bytes[40..44].to_vec();
        bytes.extend(mark.repeat(500_000));
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_all(&path).unwrap(), (events(), 0));
    }

    #[test]
    fn a_lying_length_is_a_tail() {
        let (_directory, path) = reference();
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(64);
        bytes[44..48].copy_from_slice(&u32::MAX.to_le_bytes());
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_all(&path).unwrap(), (vec![], 0));
    }
}
