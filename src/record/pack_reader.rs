//! Finds what tasks left in the packs of all ranks, also while they are being written.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::core::edit::Lineage;
use crate::core::id::{Attempt, TaskId};

use super::encoding::decode_records;
use super::frame_reader::{Damage, FrameError, FrameReader};
use super::layout::RunDirectory;
use super::pack::{Entry, KIND, Piece, graph_of};
use super::piece::Segment;

pub use super::piece::{PackError, PieceReader};

/// Ends a task's chain of entries.
const NONE: u32 = u32::MAX;

/// The packs of a run. Holds 40 bytes a chunk, and no file open.
#[derive(Debug)]
pub struct PackReader {
    directory: PathBuf,
    /// What the tasks of earlier graphs of the run are now.
    lineage: Arc<Lineage>,
    packs: Vec<Pack>,
    chunks: Vec<Chunk>,
    /// Each task's last chunk; the others follow by `previous`.
    last: HashMap<TaskId, u32>,
    damages: Vec<Damage>,
}

#[derive(Debug)]
struct Pack {
    path: PathBuf,
    /// The graph by which it numbers tasks.
    graph: u32,
    index: FrameReader,
    /// Bytes of the pack when its index was read last. Bytes are written before their records.
    length: u64,
}

#[derive(Clone, Copy, Debug)]
struct Chunk {
    entry: Entry,
    pack: u32,
    previous: u32,
}

impl PackReader {
    /// Reads all indexes of a run. Tasks have the numbers that they have in the graph that it goes on with; what
    /// belongs to none of its tasks is left out.
    pub fn of_run(run: &RunDirectory) -> Result<Self, PackError> {
        Self::open_with(&run.output(), run.lineage().clone())
    }

    /// Reads all indexes in `directory`, the `output` of a run that was never edited.
    pub fn open(directory: &Path) -> Result<Self, PackError> {
        Self::open_with(directory, Arc::default())
    }

    fn open_with(directory: &Path, lineage: Arc<Lineage>) -> Result<Self, PackError> {
        let mut reader = PackReader {
            directory: directory.to_owned(),
            lineage,
            packs: Vec::new(),
            chunks: Vec::new(),
            last: HashMap::new(),
            damages: Vec::new(),
        };
        reader.refresh()?;
        Ok(reader)
    }

    /// Reads what was added since, packs of new ranks included.
    pub fn refresh(&mut self) -> Result<(), PackError> {
        self.find_new_packs()?;
        for number in 0..self.packs.len() {
            self.read_index(number)?;
        }
        Ok(())
    }

    /// Places where an index is damaged. What they listed is lost; the rest can be read.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// The last attempt of a task that left anything or ended.
    pub fn latest_attempt(&self, task: TaskId) -> Option<Attempt> {
        self.chunks_of(task).map(|chunk| chunk.entry.attempt).max()
    }

    /// The last attempt of each task that left anything or ended, in any order.
    pub fn latest_attempts(&self) -> impl Iterator<Item = (TaskId, Attempt)> + '_ {
        self.last.keys().filter_map(|&task| Some((task, self.latest_attempt(task)?)))
    }

    /// True if the attempt will add nothing more, and all that it left is known.
    pub fn is_whole(&self, task: TaskId, attempt: Attempt) -> bool {
        self.missing_bytes(task, attempt) == Some(0)
    }

    /// How many of the bytes that an attempt left are in no record, as those are damaged, or behind the end of their
    /// pack; `None` before its end.
    fn missing_bytes(&self, task: TaskId, attempt: Attempt) -> Option<u64> {
        let (mut known, mut all) = (0_u64, None);
        for chunk in self.chunks_of(task).filter(|chunk| chunk.entry.attempt == attempt) {
            let Entry { piece, offset, length, .. } = chunk.entry;
            let is_there = offset.saturating_add(length) <= self.packs[chunk.pack as usize].length;
            match piece {
                None => all = Some(length),
                Some(_) if is_there => known = known.saturating_add(length),
                Some(_) => {}
            }
        }
        // A number that was given out twice makes them more.
        all.map(|all| all.abs_diff(known))
    }

    /// A piece, of the latest attempt if none is named; `None` if the attempt did not leave one. An error if some of
    /// what it left is lost.
    pub fn read(
        &self,
        task: TaskId,
        attempt: Option<Attempt>,
        piece: Piece,
    ) -> Result<Option<Vec<u8>>, PackError> {
        let Some(attempt) = attempt.or_else(|| self.latest_attempt(task)) else { return Ok(None) };
        if let Some(missing @ 1..) = self.missing_bytes(task, attempt) {
            return Err(PackError::Incomplete(self.directory.clone(), task, missing));
        }
        self.reader(task, Some(attempt), piece).map(|mut reader| reader.read_rest()).transpose()
    }

    /// The last `count` bytes of a piece, or all of it when it is shorter.
    pub fn tail(
        &self,
        task: TaskId,
        attempt: Option<Attempt>,
        piece: Piece,
        count: u64,
    ) -> Result<Option<Vec<u8>>, PackError> {
        let Some(mut reader) = self.reader(task, attempt, piece) else { return Ok(None) };
        reader.skip(reader.left_bytes().saturating_sub(count));
        reader.read_rest().map(Some)
    }

    /// Reads a piece bit by bit, as far as it was written at the last `refresh`.
    pub fn reader(&self, task: TaskId, attempt: Option<Attempt>, piece: Piece) -> Option<PieceReader> {
        let attempt = attempt.or_else(|| self.latest_attempt(task))?;
        let wanted = |chunk: &&Chunk| (chunk.entry.attempt, chunk.entry.piece) == (attempt, Some(piece));
        let mut segments: Vec<Segment> =
            self.chunks_of(task).filter(wanted).map(|chunk| self.segment(chunk)).collect();
        segments.reverse();
        PieceReader::new(segments)
    }

    fn segment(&self, chunk: &Chunk) -> Segment {
        let Entry { offset, length, crc, .. } = chunk.entry;
        let path = self.packs[chunk.pack as usize].path.clone();
        Segment::new(path, offset, length, crc)
    }

    /// A task's chunks, the last one first.
    fn chunks_of(&self, task: TaskId) -> impl Iterator<Item = &Chunk> {
        let mut next = self.last.get(&task).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let chunk = self.chunks.get(next as usize)?;
            next = chunk.previous;
            Some(chunk)
        })
    }

    fn find_new_packs(&mut self) -> Result<(), PackError> {
        let fail = |error| PackError::Io(self.directory.clone(), error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            if path.extension().is_some_and(|extension| extension == "index") {
                found.push(path.with_extension("pack"));
            }
        }
        found.sort_unstable();
        found.retain(|path| self.packs.iter().all(|pack| pack.path != *path));
        for path in found {
            let Some(graph) = graph_of(&path) else { continue };
            match FrameReader::open(&path.with_extension("index"), KIND) {
                Ok(index) => self.packs.push(Pack { path, graph, index, length: 0 }),
                // Its writer has created it and not yet written its first bytes.
                Err(FrameError::Header(..)) => (),
                Err(error) => return Err(PackError::Index(error)),
            }
        }
        Ok(())
    }

    fn read_index(&mut self, number: usize) -> Result<(), PackError> {
        loop {
            let index = &mut self.packs[number].index;
            let start = index.offset();
            match index.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let (first, count) = (frame.sequence, frame.count);
                    match decode_records::<Entry>(frame.payload, count) {
                        Ok(entries) => entries.into_iter().for_each(|entry| self.add(entry, number as u32)),
                        Err(_) => self.damages.push(index.passed(start, first)),
                    }
                }
                Err(FrameError::Damaged(_)) => self.damages.extend(index.skip_damage()),
                Err(error) => return Err(PackError::Index(error)),
            }
        }
        let pack = &mut self.packs[number];
        // On a network file system a file that is opened is asked for anew, and one that is only looked at may not be.
        let length = File::open(&pack.path).and_then(|file| file.metadata()).map(|pack| pack.len());
        pack.length = length.unwrap_or(0);
        // A thousand ranks have more files than a process may open.
        pack.index.close();
        Ok(())
    }

    fn add(&mut self, mut entry: Entry, pack: u32) {
        let graph = self.packs[pack as usize].graph;
        if graph != self.lineage.current() {
            let Some(task) = self.lineage.now(graph, entry.task) else { return };
            entry.task = task;
        }
        let number = self.chunks.len() as u32;
        let previous = match self.last.entry(entry.task) {
            Place::Occupied(mut last) => last.insert(number),
            Place::Vacant(last) => {
                last.insert(number);
                NONE
            }
        };
        self.chunks.push(Chunk { entry, pack, previous });
    }
}

#[cfg(test)]
mod tests {
    use super::super::pack::PackWriter;
    use super::*;
    use crate::core::edit::{Edit, Move};
    use crate::core::id::Rank;
    use std::collections::BTreeMap;
    use std::io::Read;

    const FIRST: Attempt = Attempt::FIRST;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn read(reader: &PackReader, task: u32, piece: Piece) -> Option<String> {
        let bytes = reader.read(TaskId(task), None, piece).unwrap();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn pieces_in_interleaved_chunks_come_back_whole() {
        let directory = directory();
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        for round in 0..3 {
            for task in [0, 7] {
                let text = format!("{task}:{round} ");
                writer.append(TaskId(task), FIRST, Piece::Stdout, text.as_bytes()).unwrap();
                writer.append(TaskId(task), FIRST, Piece::Stderr, b"!").unwrap();
            }
            writer.flush().unwrap();
        }
        writer.append(TaskId(7), FIRST, Piece::Value, b"").unwrap();
        writer.end(TaskId(7), FIRST);
        writer.flush().unwrap();
        let reader = PackReader::open(directory.path()).unwrap();
        assert_eq!(read(&reader, 0, Piece::Stdout).unwrap(), "0:0 0:1 0:2 ");
        assert_eq!(read(&reader, 7, Piece::Stderr).unwrap(), "!!!");
        assert_eq!(read(&reader, 7, Piece::Value).unwrap(), "");
        assert_eq!(read(&reader, 0, Piece::Value), None);
        assert_eq!(read(&reader, 1, Piece::Stdout), None);
        assert!(reader.is_whole(TaskId(7), FIRST) && !reader.is_whole(TaskId(0), FIRST));
        let tail = |count| reader.tail(TaskId(7), None, Piece::Stdout, count).unwrap().unwrap();
        assert_eq!(tail(6), b"1 7:2 ");
        assert_eq!(tail(99), b"7:0 7:1 7:2 ");
        assert_eq!(tail(0), b"");
        let mut text = String::new();
        reader.reader(TaskId(7), None, Piece::Stdout).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "7:0 7:1 7:2 ");
    }

    #[test]
    fn a_piece_of_which_a_record_is_lost_is_no_shorter_piece() {
        let directory = directory();
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        let index = directory.path().join("rank-1.index");
        let mut ends = Vec::new();
        for text in ["one ", "two ", "three"] {
            writer.append(TaskId(0), FIRST, Piece::Stdout, text.as_bytes()).unwrap();
            writer.flush().unwrap();
            ends.push(fs::metadata(&index).unwrap().len() as usize);
        }
        writer.end(TaskId(0), FIRST);
        writer.flush().unwrap();
        assert!(PackReader::open(directory.path()).unwrap().is_whole(TaskId(0), FIRST));
        let mut bytes = fs::read(&index).unwrap();
        bytes[ends[1] - 1] ^= 1;
        fs::write(&index, bytes).unwrap();
        let reader = PackReader::open(directory.path()).unwrap();
        assert_eq!(reader.damages().len(), 1);
        assert!(!reader.is_whole(TaskId(0), FIRST));
        let error = reader.read(TaskId(0), None, Piece::Stdout).unwrap_err().to_string();
        assert!(error.ends_with("4 bytes of task 0 are in none"), "{error}");
    }

    #[test]
    fn what_is_behind_the_end_of_a_pack_is_not_whole() {
        let directory = directory();
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        for task in 0..2 {
            writer.append(TaskId(task), FIRST, Piece::Stdout, b"text").unwrap();
            writer.end(TaskId(task), FIRST);
        }
        writer.flush().unwrap();
        let pack = fs::OpenOptions::new().write(true).open(writer.path()).unwrap();
        pack.set_len(6).unwrap();
        let is_whole = |task| PackReader::open(directory.path()).unwrap().is_whole(TaskId(task), FIRST);
        assert_eq!((is_whole(0), is_whole(1)), (true, false));
        fs::remove_file(writer.path()).unwrap();
        assert_eq!((is_whole(0), is_whole(1)), (false, false));
        let next = PackWriter::create(directory.path(), Rank(1)).unwrap();
        assert!(next.path().ends_with("rank-1.2.pack"), "the index of the one that is gone stays its own");
    }

    #[test]
    fn the_latest_attempt_is_meant_unless_one_is_named() {
        let directory = directory();
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        for (attempt, text) in [(2, "second"), (1, "first")] {
            writer.append(TaskId(0), Attempt(attempt), Piece::Stdout, text.as_bytes()).unwrap();
        }
        writer.flush().unwrap();
        let reader = PackReader::open(directory.path()).unwrap();
        assert_eq!(read(&reader, 0, Piece::Stdout).unwrap(), "second");
        assert_eq!(reader.read(TaskId(0), Some(FIRST), Piece::Stdout).unwrap().unwrap(), b"first");
    }

    #[test]
    fn every_life_of_a_rank_has_its_pack_and_readers_follow() {
        let directory = directory();
        let mut reader = PackReader::open(directory.path()).unwrap();
        for life in 0..3 {
            let mut writer = PackWriter::create(directory.path(), Rank(4)).unwrap();
            for _ in 0..2 {
                writer.append(TaskId(life), FIRST, Piece::Stdout, b"x").unwrap();
                writer.flush().unwrap();
                reader.refresh().unwrap();
            }
            assert_eq!(read(&reader, life, Piece::Stdout).unwrap(), "xx");
        }
        let names: Vec<_> =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(names.contains(&"rank-4.pack".into()) && names.contains(&"rank-4.3.index".into()));
    }

    #[test]
    fn what_tasks_left_before_an_edit_is_found_under_their_new_numbers() {
        let directory = directory();
        let run = RunDirectory::create(directory.path(), "g").unwrap();
        let leave = |run: &RunDirectory, task: u32, text: &str| {
            let mut writer = PackWriter::of_run(run, Rank(1)).unwrap();
            writer.append(TaskId(task), FIRST, Piece::Stdout, text.as_bytes()).unwrap();
            writer.flush().unwrap();
        };
        let edited = |graph: u32, carried: &[(u32, u32, u32)]| {
            let carried =
                carried.iter().map(|&(from, to, count)| Move { from: TaskId(from), to: TaskId(to), count });
            Edit { graph, tasks: 9, carried: carried.collect(), ..Edit::default() }
        };
        leave(&run, 0, "zero");
        leave(&run, 1, "one");
        let mut lineage = Lineage::default();
        lineage.push(edited(2, &[(1, 4, 1)]));
        let run = run.with_lineage(Arc::new(lineage.clone()));
        leave(&run, 0, "another");
        leave(&run, 5, "five");
        // A life whose edit never counted.
        let mut lost = lineage.clone();
        lost.push(edited(3, &[]));
        leave(&run.clone().with_lineage(Arc::new(lost)), 4, "lost");
        let reader = PackReader::of_run(&run).unwrap();
        let texts = |reader: &PackReader| {
            let text = |task| read(reader, task, Piece::Stdout).unwrap_or_default();
            [0, 1, 4, 5].map(text)
        };
        assert_eq!(texts(&reader), ["another", "", "one", "five"]);
        lineage.push(edited(4, &[(4, 0, 2)]));
        let reader = PackReader::of_run(&run.with_lineage(Arc::new(lineage))).unwrap();
        assert_eq!(texts(&reader), ["one", "five", "", ""]);
    }

    #[test]
    fn merged_chunks_cost_one_record_of_a_few_bytes() {
        let directory = directory();
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        for task in 0..10_000 {
            for _ in 0..10 {
                writer.append(TaskId(task), FIRST, Piece::Stdout, b"0123456789").unwrap();
            }
        }
        writer.flush().unwrap();
        let index = fs::metadata(directory.path().join("rank-1.index")).unwrap().len();
        assert!(index < 10_000 * 20, "{index} bytes");
    }

    /// What each of three tasks printed, as far as packs that were cut or changed still tell.
    fn read_what_is_left(directory: &Path) -> BTreeMap<u32, String> {
        let Ok(reader) = PackReader::open(directory) else { return BTreeMap::new() };
        let text = |task: u32| reader.read(TaskId(task), None, Piece::Stdout).ok().flatten();
        let texts = (0..3).filter_map(|task| Some((task, text(task)?)));
        texts.map(|(task, bytes)| (task, String::from_utf8(bytes).unwrap())).collect()
    }

    #[test]
    fn packs_cut_or_flipped_anywhere_give_the_truth_or_nothing() {
        let directory = directory();
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        for task in 0..3 {
            writer
                .append(TaskId(task), FIRST, Piece::Stdout, format!("output of {task}").as_bytes())
                .unwrap();
            writer.flush().unwrap();
        }
        let truth = read_what_is_left(directory.path());
        assert_eq!(truth.len(), 3);
        for name in ["rank-1.index", "rank-1.pack"] {
            let path = directory.path().join(name);
            let whole = fs::read(&path).unwrap();
            let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
            let flipped = (0..whole.len()).map(|place| {
                let mut bytes = whole.clone();
                bytes[place] ^= 0x10;
                bytes
            });
            for bytes in cut.chain(flipped) {
                fs::write(&path, bytes).unwrap();
                let left = read_what_is_left(directory.path());
                assert!(left.iter().all(|(task, text)| truth[task] == *text), "{left:?}");
            }
            fs::write(&path, whole).unwrap();
        }
    }
}
