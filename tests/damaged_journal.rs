//! A reference journal of two lives, damaged in every place: no panic, no large allocation, never a
//! wrong event, and what is lost is counted.

#![allow(clippy::unwrap_used)] // clippy.toml allows it only inside test functions
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use dagmar::core::addition::{Addition, NewTask, Numbering, Source, Work};
use dagmar::core::batch::Batch;
use dagmar::core::edit::{Edit, Move};
use dagmar::core::event::{
    Cause, Death, Event, Failure, Outcome, Raised, Shortage, StopReason, Success, Totals,
};
use dagmar::core::id::{Attempt, Incarnation, OperationId, OptionsId, Rank, TaskId};
use dagmar::core::resources::Resources;
use dagmar::core::slot::Slot;
use dagmar::core::span::Span;
use dagmar::core::task::{Argument, Body, Call, Operation, TaskOptions};
use dagmar::core::time::{Micros, Timestamp};
use dagmar::core::value::Value;
use dagmar::record::frame_reader::FrameError;
use dagmar::record::journal::{JournalError, JournalReader, JournalWriter};
use dagmar::record::resume::OnDamage;

/// No allocation may be larger, whatever the bytes say.
const BYTES_MAX: usize = 64 << 20;

// ---------------------------------------------------------------- what a thread allocates

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(size: usize, change: isize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The largest allocation of a deed, and how much it had at once.
fn memory_of<T>(deed: impl FnOnce() -> T) -> (T, usize, usize) {
    LARGEST.set(0);
    let before = LIVE.get();
    PEAK.set(before);
    let result = deed();
    (result, LARGEST.get(), (PEAK.get() - before) as usize)
}

// ---------------------------------------------------------------- the reference journal

/// Events of every kind, and in them every kind of cause and outcome.
fn kinds() -> Vec<Event> {
    let (task, attempt, worker, incarnation) = (TaskId(70_000), Attempt(2), Rank(3), Incarnation(1));
    let (started, ran) = (Timestamp(1_790_000_000_000_000), Micros(1234));
    let custom = BTreeMap::from([("licence".to_owned(), 2)]);
    let capacity = Resources { cpus: 128, memory_bytes: 1 << 39, gpus: 4, custom };
    let success = Success { started, ran, size_bytes: 1 << 33, file_sizes: vec![1, 300, 70_000] };
    let custom = BTreeMap::from([("licence".to_owned(), vec![0, 1])]);
    let slot = Slot { cpus: vec![0, 1, 64], gpus: vec!["GPU-7".into()], custom };
    let mut events = vec![
        Event::RunStarted { tasks: 1_000_000 },
        Event::RunResumed { life: 2, to_do: vec![Span { first: TaskId(7), count: 90 }] },
        Event::TasksDurable { worker, attempt, tasks: vec![Span::one(task), Span::one(TaskId(3))] },
        Event::WorkerJoined { worker, incarnation, host: "n042".into(), capacity },
        Event::WorkerLost { worker, incarnation },
        Event::WorkerLeft { worker, totals: Totals { sent_bytes: 1 << 40, ..Totals::default() } },
        Event::TaskStarted { task, attempt, worker, started },
        Event::TasksFinished { worker, batch: Batch::one(task, attempt, success) },
        Event::OutputLost { task },
        Event::TaskAborted { task, because: TaskId(3) },
        Event::TaskCancelled { task },
        Event::MultiNodeAssigned { task, attempt, workers: vec![worker], hosts: vec!["n042".into()] },
        Event::TaskBound { task, attempt, worker, slot: Box::new(slot) },
        Event::TasksAdded {
            task,
            attempt,
            worker,
            started,
            ran,
            numbering: Numbering {
                task: TaskId(9),
                operation: OperationId(4),
                options: OptionsId(1),
                submitted: 2,
                version: 1,
            },
            addition: Box::new(addition()),
        },
        Event::MemorySet {
            task,
            numbering: Numbering {
                task: TaskId(9),
                operation: OperationId(4),
                options: OptionsId(1),
                submitted: 0,
                version: 0,
            },
            memory_bytes: 1 << 34,
        },
        Event::TasksSubmitted {
            client: TaskId(0),
            numbering: Numbering {
                task: TaskId(9),
                operation: OperationId(4),
                options: OptionsId(1),
                submitted: 8,
                version: 0,
            },
            addition: Box::new(Addition { becomes: None, ..addition() }),
        },
        Event::TasksSkipped { tasks: vec![Span { first: TaskId(7), count: 90 }] },
        Event::GraphEdited(Box::new(edit())),
    ];
    let reasons = [StopReason::Interrupted, StopReason::Terminated, StopReason::Cancelled];
    events.extend(reasons.map(|reason| Event::RunStopping { reason }));
    let failed = Outcome::TasksFailed { failed: 2, aborted: 300, out_of_memory: true };
    let outcomes = [Outcome::Done, failed, Outcome::Stopped(StopReason::Terminated), Outcome::WorkersLost];
    events.extend(outcomes.map(|outcome| Event::RunFinished { outcome }));
    events.extend(causes().into_iter().map(|cause| {
        let failure = Failure { started, ran, cause };
        Event::AttemptFailed { task, attempt, worker, failure, retried: true }
    }));
    events
}

fn causes() -> Vec<Cause> {
    vec![
        Cause::ExitCode(-1),
        Cause::Signal(9),
        Cause::Timeout(Micros(60_000_000)),
        Cause::OutOfMemory(Shortage { limit_bytes: 1 << 31, used_bytes: 1 << 32, is_most: false }),
        Cause::MissingOutput("/home/ada/über".into()),
        Cause::MissingInput("/x".into()),
        Cause::CaptureLimit(1 << 34),
        Cause::NotStarted("no such file".into()),
        Cause::Function("no such number".into()),
        Cause::Panic("index out of bounds".into()),
        Cause::NotRecorded("the disk is full".into()),
        Cause::LostRank(Rank(5)),
        Cause::NoSpawner,
        Cause::Cancelled,
        Cause::Stopped,
        Cause::HandedOn(Box::new(addition())),
        Cause::KilledRank { death: Death::Signal(11), times: 1, limit: 3 },
        Cause::KilledRank { death: Death::Exit, times: 3, limit: 3 },
        Cause::Raised(Box::new(Raised { text: "ValueError: no".into(), pickled: vec![128, 5, 46] })),
    ]
}

fn addition() -> Addition {
    let argument = Argument::Value(Value::List(vec![Value::Int(-7), Value::Text("a".into())]));
    let call = Call { function: "identity".into(), arguments: vec![argument, Argument::Input(0)] };
    let operation = Operation { body: Body::Call(call), outputs: vec![], inputs: vec![] };
    let work =
        Work { operation: 0, place: 0, options: 0, values: vec![Source::Known(TaskId(4)), Source::New(0)] };
    Addition {
        operations: vec![Arc::new(operation)],
        options: vec![Arc::new(TaskOptions::default())],
        names: vec!["part".into()],
        tasks: vec![NewTask { name: 0, work: Work::default() }],
        becomes: Some(work),
    }
}

fn edit() -> Edit {
    let moved = |from, to, count| Move { from: TaskId(from), to: TaskId(to), count };
    let (carried, changed) = (vec![moved(0, 9, 300), moved(70_000, 3, 1)], vec![moved(400, 0, 2)]);
    Edit { graph: 3, tasks: 1_000_000, keys: vec!["merge".to_owned()], carried, changed }
}

/// Which kind an event is. A new kind does not compile here: give `kinds` one of it.
fn kind(event: &Event) -> u8 {
    match event {
        Event::RunStarted { .. } => 0,
        Event::WorkerJoined { .. } => 1,
        Event::WorkerLost { .. } => 2,
        Event::WorkerLeft { .. } => 3,
        Event::TaskStarted { .. } => 4,
        Event::TasksFinished { .. } => 5,
        Event::AttemptFailed { .. } => 6,
        Event::OutputLost { .. } => 7,
        Event::TaskAborted { .. } => 8,
        Event::TaskCancelled { .. } => 9,
        Event::RunStopping { .. } => 10,
        Event::RunFinished { .. } => 11,
        Event::MultiNodeAssigned { .. } => 12,
        Event::TaskBound { .. } => 13,
        Event::TasksAdded { .. } => 14,
        Event::TasksSubmitted { .. } => 20,
        Event::MemorySet { .. } => 19,
        Event::TasksDurable { .. } => 15,
        Event::RunResumed { .. } => 16,
        Event::TasksSkipped { .. } => 17,
        Event::GraphEdited(_) => 18,
    }
}

type Record = (Timestamp, Event);

/// Two lives: the first one went on writing after the second had taken over, and was cut in the
/// middle of a frame. An event's time is its number.
struct Reference {
    _directory: tempfile::TempDir,
    path: PathBuf,
    /// What counts.
    truth: Vec<Record>,
    /// How much of it the first life wrote, and what else that wrote.
    first: usize,
    late: Vec<Record>,
    segments: [Vec<u8>; 2],
}

impl Reference {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let all: Vec<Event> = kinds().into_iter().chain(kinds()).collect();
        let numbered = |(number, event): (usize, Event)| (Timestamp(number as u64), event);
        let truth: Vec<Record> = all.iter().cloned().enumerate().map(numbered).collect();
        let late: Vec<Record> =
            truth[..8].iter().map(|(at, event)| (Timestamp(at.0 + 1000), event.clone())).collect();
        let first = truth.len() / 2 - 3;
        let mut earlier = JournalWriter::create(&path).unwrap();
        write(&mut earlier, &truth[..first]);
        let (mut later, resumed) = JournalWriter::resume(&path, OnDamage::Refuse, |_, _| ()).unwrap();
        assert_eq!(resumed.events, first as u64);
        write(&mut earlier, &late);
        write(&mut later, &truth[first..]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 3).unwrap();
        let segments = [1, 2].map(|number| fs::read(segment(&path, number)).unwrap());
        Reference { _directory: directory, path, truth, first, late, segments }
    }

    /// Calls `look` with each damaged version in place, and mends it.
    fn with(&self, number: usize, change: impl FnOnce(&File), look: impl FnOnce()) {
        let path = segment(&self.path, number);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        change(&file);
        look();
        let bytes = &self.segments[number - 1];
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
    }

    fn with_byte(&self, number: usize, place: usize, byte: u8, look: impl FnOnce()) {
        let path = segment(&self.path, number);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[byte], place as u64).unwrap();
        look();
        file.write_all_at(&[self.segments[number - 1][place]], place as u64).unwrap();
    }
}

/// In frames of one to four events.
fn write(journal: &mut JournalWriter, mut events: &[Record]) {
    for length in [1, 2, 3, 4].into_iter().cycle() {
        let (frame, rest) = events.split_at(length.min(events.len()));
        journal.append(frame).unwrap();
        journal.flush().unwrap();
        events = rest;
        if events.is_empty() {
            return;
        }
    }
}

fn segment(path: &Path, number: usize) -> PathBuf {
    if number == 1 { path.to_owned() } else { path.with_extension(number.to_string()) }
}

// ---------------------------------------------------------------- reading what is damaged

#[derive(Debug, Default)]
struct Story {
    found: Vec<Record>,
    lost: Vec<Range<u64>>,
    /// A segment of which nothing can be made out.
    unreadable: u32,
    /// The journal cannot be opened at all.
    is_refused: bool,
    tail_bytes: u64,
}

fn read(path: &Path) -> Story {
    let (story, largest, _) = memory_of(|| {
        let mut story = Story::default();
        let Ok(mut journal) = JournalReader::open(path) else {
            return Story { is_refused: true, ..story };
        };
        loop {
            match journal.next() {
                None => break,
                Some(Ok(record)) => story.found.push(record),
                Some(Err(error)) => {
                    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
                    match journal.skip_damage() {
                        Some(damage) => {
                            assert!(damage.offset <= damage.next_offset, "{damage:?}");
                            story.lost.push(damage.sequence..damage.next_sequence);
                        }
                        None => {
                            assert!(matches!(error, JournalError::Frame(FrameError::Header(..))), "{error}");
                            story.unreadable += 1;
                        }
                    }
                }
            }
        }
        story.tail_bytes = journal.tail_bytes().unwrap();
        story
    });
    assert!(largest < BYTES_MAX, "{largest} bytes at once");
    story
}

impl Story {
    /// What was found is part of the truth, in order, and what is missing was said to be lost, but
    /// for the end.
    fn check(&self, truth: &[Record], what: &str) {
        let mut next = 0;
        for record in &self.found {
            let place = record.0.0 as usize;
            assert!(place >= next, "{what}: event {place} stands behind event {next}");
            assert!(
                truth.get(place) == Some(record),
                "{what}: event {place} is not the one that was written"
            );
            next = place + 1;
        }
        let found: BTreeSet<u64> = self.found.iter().map(|record| record.0.0).collect();
        let lost: Vec<u64> = self.lost.iter().cloned().flatten().collect();
        let missing: Vec<u64> = (0..truth.len() as u64).filter(|number| !found.contains(number)).collect();
        assert!(missing.starts_with(&lost), "{what}: {missing:?} are missing, {lost:?} are said to be");
        let untold = &missing[lost.len()..];
        let end = truth.len() as u64 - untold.len() as u64;
        assert!(
            untold.iter().eq((end..truth.len() as u64).collect::<Vec<_>>().iter()),
            "{what}: {untold:?} are not said"
        );
    }

    fn found_or_lost(&self) -> u64 {
        self.found.len() as u64 + self.lost.iter().map(|range| range.end - range.start).sum::<u64>()
    }
}

#[test]
fn the_reference_has_events_of_every_kind_in_both_lives() {
    let reference = Reference::new();
    let (first, second) = reference.truth.split_at(reference.first);
    let kinds_of = |records: &[Record]| records.iter().map(|record| kind(&record.1)).collect::<BTreeSet<_>>();
    assert_eq!(kinds_of(&reference.truth), (0..21).collect());
    assert!(kinds_of(first).len() > 12 && kinds_of(second).len() > 12);
    assert!(reference.truth.len() >= 50, "{}", reference.truth.len());
    let story = read(&reference.path);
    assert!(story.found == reference.truth);
    assert_eq!((story.lost.len(), story.unreadable, story.tail_bytes), (0, 0, 0));
}

#[test]
fn a_flipped_byte_costs_one_frame_at_most_and_is_counted() {
    let reference = Reference::new();
    for number in [1, 2] {
        let bytes = &reference.segments[number - 1];
        let is_last = number == 2;
        for (place, byte) in bytes.iter().enumerate() {
            for mask in [0x01, 0x80, 0x41, 0xff] {
                let what = format!("byte {place} of segment {number} flipped by {mask:#x}");
                reference.with_byte(number, place, byte ^ mask, || {
                    let story = read(&reference.path);
                    assert!(!story.is_refused && story.unreadable == 0, "{what}: {story:?}");
                    story.check(&reference.truth, &what);
                    assert!(story.found.len() + 4 >= reference.truth.len(), "{what}");
                    // The last frame of all cannot be told from a torn one.
                    if story.tail_bytes == 0 || !is_last {
                        assert_eq!(story.found_or_lost(), reference.truth.len() as u64, "{what}");
                    }
                });
            }
        }
    }
}

#[test]
fn a_zeroed_block_is_counted() {
    let reference = Reference::new();
    for number in [1, 2] {
        let length = reference.segments[number - 1].len();
        for start in (0..length).step_by(32) {
            let what = format!("64 bytes of zeros in segment {number} at {start}");
            let zeros = vec![0; 64.min(length - start)];
            let change = |file: &File| file.write_all_at(&zeros, start as u64).unwrap();
            reference.with(number, change, || {
                let story = read(&reference.path);
                assert!(!story.is_refused && story.unreadable == 0, "{what}");
                story.check(&reference.truth, &what);
                if story.tail_bytes == 0 {
                    assert_eq!(story.found_or_lost(), reference.truth.len() as u64, "{what}");
                }
            });
        }
    }
}

#[test]
fn a_first_life_cut_anywhere_is_missed_to_the_event() {
    let reference = Reference::new();
    for length in 0..reference.segments[0].len() {
        let what = format!("segment 1 cut to {length} bytes");
        reference.with(
            1,
            |file| file.set_len(length as u64).unwrap(),
            || {
                let story = read(&reference.path);
                story.check(&reference.truth, &what);
                assert_eq!(story.found_or_lost(), reference.truth.len() as u64, "{what}");
            },
        );
    }
}

#[test]
fn a_second_life_cut_anywhere_loses_its_end_or_never_was() {
    let reference = Reference::new();
    // As if the second had never begun, what the first wrote late counts as well.
    let alone = [&reference.truth[..reference.first], &reference.late[..6]].concat();
    let mut begun = 0;
    for length in 0..reference.segments[1].len() {
        let what = format!("segment 2 cut to {length} bytes");
        reference.with(
            2,
            |file| file.set_len(length as u64).unwrap(),
            || {
                let story = read(&reference.path);
                assert!(
                    !story.is_refused && story.unreadable == 0 && story.lost.is_empty(),
                    "{what}: {story:?}"
                );
                if story.found.iter().any(|record| record.0.0 >= 1000) {
                    assert_eq!(begun, 0, "{what}");
                    assert!(story.found == alone, "{what}: {} of {}", story.found.len(), alone.len());
                } else {
                    begun += 1;
                    story.check(&reference.truth, &what);
                    assert!(story.found.len() >= reference.first, "{what}");
                }
            },
        );
    }
    assert!(begun + 200 > reference.segments[1].len(), "the head is whole with its first block");
}

/// What a third life makes of it is what readers see, and it refuses unless it is told to go on.
#[test]
fn a_life_that_takes_over_a_damaged_journal_counts_as_readers_do() {
    let reference = Reference::new();
    let third = segment(&reference.path, 3);
    let places =
        (1..3).flat_map(|number| (0..reference.segments[number - 1].len()).map(move |place| (number, place)));
    for (number, place) in places.step_by(61) {
        let what = format!("byte {place} of segment {number}");
        let byte = reference.segments[number - 1][place] ^ 0x41;
        reference.with_byte(number, place, byte, || {
            let story = read(&reference.path);
            let refused = JournalWriter::resume(&reference.path, OnDamage::Refuse, |_, _| ());
            assert_eq!(refused.is_err(), !story.lost.is_empty(), "{what}");
            fs::remove_file(&third).unwrap();
            let mut found = Vec::new();
            let taken = JournalWriter::resume(&reference.path, OnDamage::GoOn, |time, event| {
                found.push((time, event.clone()));
            });
            let (journal, resumed) = taken.unwrap();
            assert!(found == story.found, "{what}");
            assert_eq!(resumed.events, story.found_or_lost(), "{what}");
            assert_eq!(
                (resumed.torn_bytes, journal.event_count()),
                (story.tail_bytes, resumed.events),
                "{what}"
            );
            assert_eq!(resumed.lost_events + found.len() as u64, resumed.events, "{what}");
            assert!(read(&reference.path).found == found, "{what}: its head says the same");
            fs::remove_file(&third).unwrap();
        });
    }
}

#[test]
fn journals_damaged_in_many_places_never_tell_of_what_did_not_happen() {
    let reference = Reference::new();
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("SEED={seed} cargo test --test damaged_journal journals_damaged");
    let mut random = fastrand::Rng::with_seed(seed);
    let records: Vec<&Record> = reference.truth.iter().chain(&reference.late).collect();
    for case in 0..4000 {
        let mut segments = reference.segments.clone();
        for _ in 0..random.usize(1..6) {
            damage(&mut segments, &mut random);
        }
        for (number, bytes) in (1..).zip(&segments) {
            // Not by `fs::write`: ext4 flushes a file that was emptied and written again.
            let file = OpenOptions::new().write(true).open(segment(&reference.path, number)).unwrap();
            file.write_all_at(bytes, 0).unwrap();
            file.set_len(bytes.len() as u64).unwrap();
        }
        let story = read(&reference.path);
        let places: Vec<_> = story
            .found
            .iter()
            .map(|record| {
                records
                    .iter()
                    .position(|known| *known == record)
                    .unwrap_or_else(|| panic!("case {case}: {record:?}"))
            })
            .collect();
        assert!(places.is_sorted_by(|one, next| one < next), "case {case}: {places:?}");
    }
}

fn damage(segments: &mut [Vec<u8>; 2], random: &mut fastrand::Rng) {
    let other = segments[random.usize(..2)].clone();
    let bytes = &mut segments[random.usize(..2)];
    if bytes.is_empty() || other.is_empty() {
        return;
    }
    let start = random.usize(..bytes.len());
    let end = (start + random.usize(1..400)).min(bytes.len());
    match random.u8(..6) {
        0 => bytes[start] ^= random.u8(1..),
        1 => bytes[start..end].fill(0),
        2 => bytes[start..end].fill_with(|| random.u8(..)),
        3 => bytes.truncate(start),
        4 => drop(bytes.drain(start..end)),
        _ => {
            let from = random.usize(..other.len());
            let piece = other[from..(from + 300).min(other.len())].to_vec();
            bytes.splice(start..start, piece);
        }
    }
}

#[test]
fn taking_a_million_events_over_takes_little_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = JournalWriter::create(&path).unwrap();
    for first in (0..1_000_000).step_by(1000) {
        let event = |number: u32| (Timestamp(number.into()), Event::OutputLost { task: TaskId(number) });
        journal.append(&(first..first + 1000).map(event).collect::<Vec<_>>()).unwrap();
        journal.flush().unwrap();
    }
    let (began, mut next) = (Instant::now(), 0);
    let (taken, largest, peak) = memory_of(|| {
        JournalWriter::resume(&path, OnDamage::Refuse, |time, _| {
            assert_eq!(time, Timestamp(next));
            next += 1;
        })
    });
    println!("{:?}, at most {peak} bytes, {largest} at once", began.elapsed());
    assert_eq!((taken.unwrap().1.events, next), (1_000_000, 1_000_000));
    assert!(peak < 8 << 20, "{peak} bytes");
}
