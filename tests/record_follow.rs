//! Readers that follow a run while it is written see a prefix of it, never anything else.

#![allow(clippy::unwrap_used)] // clippy.toml allows it only inside test functions

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use dagmar::core::event::Event;
use dagmar::core::id::{Attempt, Rank, TaskId};
use dagmar::core::time::Timestamp;
use dagmar::record::journal::{JournalReader, JournalWriter};
use dagmar::record::pack::{PackWriter, Piece};
use dagmar::record::pack_reader::PackReader;

const EVENTS: u32 = 20_000;
const LINES: usize = 2_000;

#[test]
fn a_journal_is_followed_to_its_end_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let mut journal = JournalWriter::create(&path).unwrap();
    let mut reader = JournalReader::open(&path).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for task in 0..EVENTS {
                let event = (Timestamp(task.into()), Event::OutputLost { task: TaskId(task) });
                journal.append(&[event]).unwrap();
                if task % 7 == 0 || task + 1 == EVENTS {
                    journal.flush().unwrap();
                }
            }
        });
        let mut expected = 0;
        while expected < EVENTS {
            match reader.next() {
                None => thread::yield_now(),
                Some(event) => {
                    assert_eq!(event.unwrap().0, Timestamp(expected.into()));
                    expected += 1;
                }
            }
        }
    });
}

#[test]
fn a_stream_is_followed_to_its_end_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let line = |number: usize| format!("line {number}\n");
    let whole: String = (0..LINES).map(line).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
            for number in 0..LINES {
                writer.append(TaskId(3), Attempt::FIRST, Piece::Stdout, line(number).as_bytes()).unwrap();
                writer.append(TaskId(4), Attempt::FIRST, Piece::Stdout, b"another task's").unwrap();
                writer.flush().unwrap();
            }
            writer.end(TaskId(3), Attempt::FIRST);
            writer.flush().unwrap();
            is_over.store(true, Ordering::Release);
        });
        let mut reader = PackReader::open(directory.path()).unwrap();
        loop {
            let was_over = is_over.load(Ordering::Acquire);
            reader.refresh().unwrap();
            let seen = reader.read(TaskId(3), None, Piece::Stdout).unwrap().unwrap_or_default();
            assert!(whole.as_bytes().starts_with(&seen));
            if reader.is_whole(TaskId(3), Attempt::FIRST) {
                assert_eq!(seen.len(), whole.len());
                break;
            }
            assert!(!was_over, "the writer is gone and the end was not seen");
        }
    });
}
