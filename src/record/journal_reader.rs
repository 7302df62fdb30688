//! Reads a journal through all its segments, over or still growing.
//!
//! Which segments count, and up to where, is for `segment` to say. A segment that was the last one
//! may turn out to end earlier than it was read, when a life takes over from one that went on: the
//! reader then goes on with the record that follows the last one that counts.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::core::event::Event;
use crate::core::time::Timestamp;

use super::encoding::decode_records;
use super::frame::FileId;
use super::frame_reader::{Damage, FrameError, FrameReader};
use super::journal::{JournalError, KIND};
use super::segment::{Chain, Part, path_of};

/// Reads a journal event by event.
///
/// The iterator ends behind the last whole frame, and goes on when it is asked again after the
/// journal has grown. At damage in the middle it gives the error and then ends, until
/// `skip_damage`.
#[derive(Debug)]
pub struct JournalReader {
    /// The first segment's path; none if only what is known is read.
    journal: Option<PathBuf>,
    id: FileId,
    /// The segments as they were found last.
    chain: Chain,
    /// The one that is being read.
    part: Part,
    frames: FrameReader,
    /// The number of the record that is wanted next.
    next: u64,
    ready: std::vec::IntoIter<(Timestamp, Event)>,
    /// Nothing more was found, though the next segment says that there is more.
    is_short: bool,
    stopped: bool,
    /// Nothing was asked for since the end was reached, or since the start.
    is_resting: bool,
    /// What was found damaged here and not by `frames`.
    damage: Option<Damage>,
    /// The last unreadable segment that was told of.
    told: u32,
    retracted: u64,
}

impl JournalReader {
    /// Opens a journal and checks what it is.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        File::open(path).map_err(|error| FrameError::Io(path.to_owned(), error))?;
        let mut chain = Chain::find(path, u32::MAX)?;
        let unbegun = chain.unbegun.take();
        let reader = Self::of(chain)?.ok_or_else(|| {
            let is_empty = FrameError::Header(path.to_owned(), "it ends before its first record");
            JournalError::Frame(unbegun.unwrap_or(is_empty))
        })?;
        Ok(JournalReader { journal: Some(path.to_owned()), ..reader })
    }

    /// Opens what lives before segment `below` have left so far; none if they left nothing. What
    /// begins later belongs to a life that `below` was taken from.
    pub(super) fn open_below(path: &Path, below: u32) -> Result<Option<Self>, JournalError> {
        Self::of(Chain::find(path, below)?)
    }

    fn of(mut chain: Chain) -> Result<Option<Self>, JournalError> {
        let Some(part) = chain.parts.first().cloned() else {
            return chain.unreadable.take().map_or(Ok(None), |(_, why)| Err(why.into()));
        };
        Ok(Some(JournalReader {
            journal: None,
            id: part.id,
            chain,
            frames: part.frames(),
            part,
            next: 0,
            ready: Vec::new().into_iter(),
            is_short: false,
            stopped: false,
            is_resting: true,
            damage: None,
            told: 0,
            retracted: 0,
        }))
    }

    /// The journal's id, which no other run has.
    pub const fn id(&self) -> FileId {
        self.id
    }

    /// Bytes behind the last whole frame. Once the run is over they are a torn tail, which was
    /// cut: what the events in it said is lost.
    pub fn tail_bytes(&mut self) -> Result<u64, JournalError> {
        Ok(self.frames.tail_bytes()?)
    }

    /// How many of the events that were given do not count: they were written by a life that did
    /// not know yet that another had taken over. What is given after them is what counts.
    pub const fn retracted_events(&self) -> u64 {
        self.retracted
    }

    /// How many records there are so far, lost ones included.
    pub(super) const fn record_count(&self) -> u64 {
        self.next
    }

    /// The segment that is being read.
    pub(super) const fn part(&self) -> &Part {
        &self.part
    }

    /// Goes on behind damage that was reported, and says what was left out; nothing if that is not
    /// known, or if the error was none that can be passed.
    pub fn skip_damage(&mut self) -> Option<Damage> {
        self.stopped = false;
        let damage = match self.damage.take() {
            None => self.frames.skip_damage().map(|damage| self.within_limit(damage)),
            ours => ours,
        }?;
        self.next = self.next.max(damage.next_sequence);
        Some(damage)
    }

    /// What was written meanwhile may not count: that must be known before it is given.
    fn wake(&mut self) -> Result<(), JournalError> {
        if std::mem::take(&mut self.is_resting) {
            self.find_place()?;
        }
        Ok(())
    }

    /// False if the segment has nothing more.
    fn read_frame(&mut self) -> Result<bool, JournalError> {
        if self.next < self.part.first {
            return Err(self.lose_beginning());
        }
        if self.part.limit.is_some_and(|limit| self.next >= limit) {
            return Ok(false);
        }
        let start = self.frames.offset();
        let frame = match self.frames.next_frame() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(false),
            Err(FrameError::Damaged(damage)) => {
                return Err(FrameError::Damaged(self.within_limit(damage)).into());
            }
            Err(error) => return Err(error.into()),
        };
        let (first, end) = (frame.sequence, frame.sequence.saturating_add(frame.count.into()));
        let events: Vec<(Timestamp, Event)> = match decode_records(frame.payload, frame.count) {
            Ok(events) => events,
            Err(why) => {
                self.damage = Some(self.within_limit(self.frames.passed(start, first)));
                return Err(JournalError::Event(self.part.path.clone(), first, why));
            }
        };
        let limit = self.part.limit.unwrap_or(u64::MAX);
        self.ready = if first >= self.next && end <= limit {
            events.into_iter()
        } else {
            // Those before were given already, from another segment; those behind do not count.
            let wanted = (first..end).zip(events).filter(|(number, _)| (self.next..limit).contains(number));
            wanted.map(|(_, event)| event).collect::<Vec<_>>().into_iter()
        };
        self.next = self.next.max(end.min(limit));
        self.is_short = false;
        Ok(true)
    }

    /// Goes to a later segment if this one has nothing more. True if there may be more now.
    fn follow(&mut self) -> Result<bool, JournalError> {
        if self.find_place()? {
            return Ok(true);
        }
        match self.part.limit {
            None => self.tell_unreadable(),
            Some(limit) => self.lose_end(limit),
        }
    }

    /// Looks at the segments again, and goes to the one that has the next record. False if that is
    /// where it was.
    fn find_place(&mut self) -> Result<bool, JournalError> {
        self.find_later()?;
        let wanted = self.chain.parts.iter().rfind(|part| part.first <= self.next);
        let Some(part) = wanted.or(self.chain.parts.first()).cloned() else { return Ok(false) };
        // A limit that moved may lie behind what was left out for it, so the segment is read again.
        let is_unmoved = self.part.limit.is_none() || self.part.limit == part.limit;
        if part.number == self.part.number && is_unmoved {
            self.part.limit = part.limit;
            return Ok(false);
        }
        self.enter(part);
        Ok(true)
    }

    fn find_later(&mut self) -> Result<(), JournalError> {
        let Some(journal) = &self.journal else { return Ok(()) };
        if path_of(journal, self.part.number + 1).exists() {
            let chain = Chain::find(journal, u32::MAX)?;
            if chain.parts.last().is_some_and(|last| last.number >= self.part.number) {
                let earlier = std::mem::replace(&mut self.chain, chain);
                self.take_back(agreement(&earlier.parts, &self.chain.parts));
            }
        }
        Ok(())
    }

    /// What was given from record `end` on does not count.
    fn take_back(&mut self, end: u64) {
        if end < self.next {
            self.retracted += self.next - end;
            self.next = end;
        }
    }

    fn enter(&mut self, part: Part) {
        self.frames = part.frames();
        self.part = part;
        self.is_short = false;
    }

    /// The segment ends before the record at which the next one begins.
    fn lose_end(&mut self, limit: u64) -> Result<bool, JournalError> {
        if !std::mem::replace(&mut self.is_short, true) {
            // A file that was open for long may have grown elsewhere: opened again, it is as it is.
            self.frames.close();
            return Ok(true);
        }
        let (offset, tail) = (self.frames.offset(), self.frames.tail_bytes()?);
        let damage = Damage {
            path: self.part.path.clone(),
            name: KIND.name,
            offset,
            sequence: self.next,
            next_offset: offset + tail,
            next_sequence: limit,
        };
        self.damage = Some(damage.clone());
        Err(FrameError::Damaged(damage).into())
    }

    /// Nobody knows which segments came before the first that is known.
    fn lose_beginning(&mut self) -> JournalError {
        let damage = Damage {
            path: self.part.path.clone(),
            name: KIND.name,
            offset: 0,
            sequence: self.next,
            next_offset: self.part.start(),
            next_sequence: self.part.first,
        };
        self.damage = Some(damage.clone());
        FrameError::Damaged(damage).into()
    }

    /// A segment behind the last one whose head is damaged is told of once.
    fn tell_unreadable(&mut self) -> Result<bool, JournalError> {
        match self.chain.unreadable.take() {
            Some((number, why)) if number > self.told => {
                self.told = number;
                Err(why.into())
            }
            _ => Ok(false),
        }
    }

    fn within_limit(&self, damage: Damage) -> Damage {
        let limit = self.part.limit.unwrap_or(u64::MAX);
        Damage { next_sequence: damage.next_sequence.min(limit), ..damage }
    }
}

/// The number of the first record that two findings of the segments do not have in common.
fn agreement(one: &[Part], other: &[Part]) -> u64 {
    for (one, other) in one.iter().zip(other) {
        if one.number != other.number {
            return one.first.min(other.first);
        }
        if one.limit != other.limit {
            return one.limit.unwrap_or(u64::MAX).min(other.limit.unwrap_or(u64::MAX));
        }
    }
    u64::MAX
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
            let has_more = match self.wake().and_then(|()| self.read_frame()) {
                Ok(false) => self.follow(),
                result => result,
            };
            match has_more {
                Ok(true) => (),
                Ok(false) => {
                    self.is_resting = true;
                    return None;
                }
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
    use super::super::journal::JournalWriter;
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
        assert!(
            matches!(error, JournalError::Frame(FrameError::Version(_, 9, found)) if found == KIND.version),
            "{error}"
        );
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
