//! A journal of one or two segments: read, resumed in both ways, and what it tells folded.
//!
//! The first byte says whether checksums are made to fit and which graph the run had, the next four the length
//! of the first segment.

#![no_main]

use dagmar::core::event::Event;
use dagmar::core::id::TaskId;
use dagmar::core::time::Timestamp;
use dagmar::record::journal::{JournalReader, JournalWriter};
use dagmar::record::resume::OnDamage;
use dagmar_fuzz::journal::{Directory, sign};
use dagmar_fuzz::{Record, go_on, graph};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static DIRECTORY: Directory = Directory::new();
}

fuzz_target!(|bytes: &[u8]| DIRECTORY.with(|directory| read(directory, bytes)));

fn read(directory: &Directory, bytes: &[u8]) {
    let Some((&[which, a, b, c, d], bytes)) = bytes.split_first_chunk() else { return };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    let (first, second) = bytes.split_at(length.min(bytes.len()));
    let mut segments = [first.to_vec(), second.to_vec()];
    if which & 1 == 1 {
        segments.iter_mut().for_each(|segment| sign(segment));
    }
    directory.fill(&segments);
    let path = directory.journal();

    let mut all: Vec<Record> = Vec::new();
    if let Ok(mut reader) = JournalReader::open(&path) {
        // Each error passes some byte or an event, so there is an end of them.
        for _ in 0..=bytes.len() + 16 {
            all.extend(reader.by_ref().map_while(Result::ok));
            if reader.skip_damage().is_none() {
                break;
            }
        }
        let _ = (reader.tail_bytes().map_err(|error| error.to_string()), reader.retracted_events());
    }
    let mut told = Vec::new();
    let refused =
        JournalWriter::resume(&path, OnDamage::Refuse, |time, event| told.push((time, event.clone())));
    let is_whole = refused.is_ok();
    drop(refused.map_err(|error| error.to_string()));
    directory.fill(&segments);
    let mut passed: Vec<Record> = Vec::new();
    let taken =
        JournalWriter::resume(&path, OnDamage::GoOn, |time, event| passed.push((time, event.clone())));
    if let Ok((mut writer, resumed)) = taken {
        assert!(!is_whole || told == passed, "without damage both tell the same");
        let event = Event::OutputLost { task: TaskId(0) };
        writer.append(&[(Timestamp(1), event)]).and_then(|()| writer.flush()).expect("the disk takes it");
        assert_eq!(writer.event_count(), resumed.events.saturating_add(1));
    } else {
        assert!(!is_whole, "what has no damage is resumed in both ways");
    }
    go_on(graph(which >> 1), &passed);
}
