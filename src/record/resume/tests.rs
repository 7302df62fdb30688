//! Lives that take a run over from each other, step by step.

use super::*;
use crate::core::id::TaskId;
use crate::record::frame_reader::Damage;
use std::fs;
use std::ops::Range;

struct Run {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Run {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Run { path: directory.path().join("journal"), _directory: directory }
    }

    /// One that a life has begun, which is still there.
    fn begun(events: Range<u64>) -> (Self, JournalWriter) {
        let run = Run::new();
        let mut first = JournalWriter::create(&run.path).unwrap();
        write(&mut first, events);
        (run, first)
    }

    fn segment(&self, number: u32) -> PathBuf {
        path_of(&self.path, number)
    }

    fn resume(&self, on_damage: OnDamage) -> Result<(JournalWriter, Vec<u64>, Resumed), ResumeError> {
        let mut found = Vec::new();
        let (writer, resumed) = JournalWriter::resume(&self.path, on_damage, |time, _| found.push(time.0))?;
        Ok((writer, found, resumed))
    }

    fn resumed(&self) -> (JournalWriter, Vec<u64>, Resumed) {
        self.resume(OnDamage::Refuse).unwrap()
    }

    fn read(&self) -> Vec<u64> {
        news(&mut JournalReader::open(&self.path).unwrap())
    }

    fn take(&self, last: u32) -> NewSegment {
        NewSegment::take(&self.path, last).unwrap().unwrap()
    }

    /// Changes a byte of a segment, counted from its end if the place is negative.
    fn flip(&self, number: u32, place: i64) {
        let mut bytes = fs::read(self.segment(number)).unwrap();
        let place = if place < 0 { bytes.len() as i64 + place } else { place };
        bytes[place as usize] ^= 0x20;
        fs::write(self.segment(number), bytes).unwrap();
    }

    fn text(&self, error: &impl ToString) -> String {
        error.to_string().replace(&self.path.display().to_string(), "RUN/journal")
    }
}

/// Each event is a frame of its own, and known by its time.
fn write(writer: &mut JournalWriter, events: Range<u64>) {
    for number in events {
        writer.append(&[(Timestamp(number), Event::OutputLost { task: TaskId(7) })]).unwrap();
    }
    writer.flush().unwrap();
}

fn news(reader: &mut JournalReader) -> Vec<u64> {
    reader.map(|event| event.unwrap().0.0).collect()
}

#[test]
fn a_life_goes_on_where_the_one_before_ended() {
    let (run, first) = Run::begun(0..3);
    let (mut second, found, resumed) = run.resumed();
    assert_eq!(found, [0, 1, 2]);
    assert_eq!((resumed.events, resumed.segment, resumed.torn_bytes), (3, 2, 0));
    assert_eq!((second.id(), second.event_count(), second.segment()), (first.id(), 3, 2));
    write(&mut second, 3..6);
    drop(second);
    let (mut third, found, _) = run.resumed();
    assert_eq!(found, [0, 1, 2, 3, 4, 5]);
    write(&mut third, 6..7);
    assert_eq!(run.read(), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(JournalReader::open(&run.path).unwrap().id(), first.id());
}

#[test]
fn a_run_without_a_journal_gets_one() {
    let run = Run::new();
    let (mut first, found, resumed) = run.resumed();
    assert_eq!((found.len(), resumed.segment), (0, 1));
    write(&mut first, 0..2);
    assert_eq!(run.read(), [0, 1]);
}

#[test]
fn what_is_written_after_the_end_was_fixed_does_not_count() {
    let (run, mut first) = Run::begun(0..3);
    let (mut second, _, _) = run.resumed();
    write(&mut first, 100..120);
    assert!(first.is_superseded().unwrap());
    write(&mut second, 3..5);
    assert_eq!(run.read(), [0, 1, 2, 3, 4]);
    assert_eq!(run.resumed().1, [0, 1, 2, 3, 4]);
}

#[test]
fn what_is_written_before_it_was_read_counts() {
    let (run, mut first) = Run::begun(0..3);
    let segment = run.take(1);
    write(&mut first, 3..5);
    let (_, resumed) = JournalWriter::resume_in(segment, OnDamage::Refuse, |_, _| ()).unwrap();
    assert_eq!(resumed.events, 5);
}

#[test]
fn a_torn_tail_is_cut_and_told_once() {
    let (run, first) = Run::begun(0..3);
    drop(first);
    let length = fs::metadata(&run.path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&run.path).unwrap().set_len(length - 1).unwrap();
    let frame = (length - 40) / 3;
    let (mut second, found, resumed) = run.resumed();
    assert_eq!((found, resumed.torn_bytes, resumed.lost_events), (vec![0, 1], frame - 1, 0));
    write(&mut second, 2..3);
    assert_eq!((run.resumed().1, run.resumed().2.torn_bytes), (vec![0, 1, 2], 0));
}

#[test]
fn a_segment_whose_life_ended_before_its_head_is_passed_over() {
    let (run, _first) = Run::begun(0..3);
    drop(run.take(1));
    fs::write(run.segment(3), &fs::read(&run.path).unwrap()[..20]).unwrap();
    assert_eq!(run.read(), [0, 1, 2]);
    let (mut fourth, found, resumed) = run.resumed();
    assert_eq!((found, resumed.segment), (vec![0, 1, 2], 4));
    write(&mut fourth, 3..4);
    assert_eq!(run.read(), [0, 1, 2, 3]);
}

#[test]
fn a_first_segment_that_was_never_begun_is_passed_over() {
    let run = Run::new();
    drop(run.take(0));
    let error = JournalReader::open(&run.path).unwrap_err();
    assert_eq!(run.text(&error), "cannot read `RUN/journal`: it ends before its first record");
    let (mut second, found, _) = run.resumed();
    assert_eq!(found.len(), 0);
    write(&mut second, 0..2);
    assert_eq!(run.read(), [0, 1]);
    assert_eq!(run.resumed().1, [0, 1]);
}

/// The second life reads, the third takes over and reads more, the second writes its head.
#[test]
fn a_head_that_comes_late_counts_for_nobody() {
    let (run, mut first) = Run::begun(0..3);
    let mut live = JournalReader::open(&run.path).unwrap();
    let mut third = None;
    let segment = run.take(1);
    let (mut second, _) = JournalWriter::resume_in(segment, OnDamage::Refuse, |time, _| {
        if time.0 == 2 {
            // It has come to the end of what there was; the frame behind is not yet there.
            third = Some(run.take(2));
        }
    })
    .unwrap();
    write(&mut first, 3..6);
    let (mut third, resumed) = JournalWriter::resume_in(third.unwrap(), OnDamage::Refuse, |_, _| ()).unwrap();
    assert_eq!(resumed.events, 3, "the head of the second was there, and ends the first");
    write(&mut second, 100..102);
    assert_eq!(news(&mut live), [0, 1, 2]);
    write(&mut third, 3..5);
    assert_eq!(run.read(), [0, 1, 2, 3, 4]);

    // The same with the third life done before the second writes its head.
    let (run, mut first) = Run::begun(0..3);
    let mut live = JournalReader::open(&run.path).unwrap();
    let segment = run.take(1);
    let mut third = None;
    let (mut second, resumed) = JournalWriter::resume_in(segment, OnDamage::Refuse, |time, _| {
        if time.0 == 2 {
            write(&mut first, 3..6);
            let (writer, resumed) =
                JournalWriter::resume_in(run.take(2), OnDamage::Refuse, |_, _| ()).unwrap();
            assert_eq!(resumed.events, 6);
            third = Some(writer);
        }
    })
    .unwrap();
    let mut third = third.unwrap();
    assert!(second.is_superseded().unwrap());
    write(&mut second, 100..103);
    write(&mut third, 6..8);
    assert_eq!(resumed.events, 6);
    let whole: Vec<u64> = (0..8).collect();
    assert_eq!((run.read(), news(&mut live)), (whole.clone(), whole.clone()));
    assert_eq!(run.resumed().1, whole);
}

#[test]
fn a_live_reader_is_given_what_counts_once_even_behind_what_does_not() {
    let (run, mut first) = Run::begun(0..3);
    let mut live = JournalReader::open(&run.path).unwrap();
    assert_eq!(news(&mut live), [0, 1, 2]);
    let segment = run.take(1);
    assert!(live.next().is_none(), "nothing is fixed yet");
    let (mut second, _) = JournalWriter::resume_in(segment, OnDamage::Refuse, |_, _| ()).unwrap();
    // A file whose growth the reader sees before it sees the next segment.
    fs::rename(run.segment(2), run.segment(9)).unwrap();
    write(&mut first, 100..102);
    assert_eq!(news(&mut live), [100, 101]);
    fs::rename(run.segment(9), run.segment(2)).unwrap();
    write(&mut second, 3..5);
    assert_eq!(news(&mut live), [3, 4]);
    assert_eq!(live.retracted_events(), 2);
    write(&mut first, 102..104);
    write(&mut second, 5..6);
    assert_eq!(news(&mut live), [5]);
    let (mut third, _, _) = run.resumed();
    write(&mut third, 6..8);
    assert_eq!((news(&mut live), live.retracted_events()), (vec![6, 7], 2));
}

#[test]
fn a_reader_of_a_segment_that_turns_out_void_goes_back() {
    let (run, mut first) = Run::begun(0..3);
    // The second life reads three events and has its head where the third does not see it.
    let (mut second, _) = JournalWriter::resume_in(run.take(1), OnDamage::Refuse, |_, _| ()).unwrap();
    write(&mut second, 100..102);
    let mut live = JournalReader::open(&run.path).unwrap();
    assert_eq!(news(&mut live), [0, 1, 2, 100, 101]);
    let late = fs::read(run.segment(2)).unwrap();
    fs::write(run.segment(2), "").unwrap();
    write(&mut first, 3..5);
    let (mut third, found, _) = run.resumed();
    assert_eq!(found, [0, 1, 2, 3, 4]);
    write(&mut third, 5..6);
    fs::write(run.segment(2), late).unwrap();
    assert_eq!((news(&mut live), live.retracted_events()), (vec![3, 4, 5], 2));
    assert_eq!(run.read(), [0, 1, 2, 3, 4, 5]);
}

/// Found by lives that interleave at random.
#[test]
fn a_reader_of_two_void_segments_goes_back_to_before_both() {
    let (run, _first) = Run::begun(0..3);
    let mut live = JournalReader::open(&run.path).unwrap();
    let [second, third, fourth] = [1, 2, 3].map(|last| run.take(last));
    let mut void = Some((second, third));
    let (mut fourth, _) = JournalWriter::resume_in(fourth, OnDamage::Refuse, |_, _| {
        let Some((second, third)) = void.take() else { return };
        for (segment, events) in [(second, 100..102), (third, 200..202)] {
            let (mut writer, _) = JournalWriter::resume_in(segment, OnDamage::Refuse, |_, _| ()).unwrap();
            write(&mut writer, events);
        }
        assert_eq!(news(&mut live), [0, 1, 2, 100, 101, 200, 201]);
    })
    .unwrap();
    write(&mut fourth, 3..5);
    assert_eq!((news(&mut live), live.retracted_events()), (vec![3, 4], 4));
    assert_eq!(run.read(), [0, 1, 2, 3, 4]);
}

#[test]
fn damage_in_the_middle_is_refused_unless_the_caller_goes_on() {
    let (run, _first) = Run::begun(0..5);
    let frame = (fs::metadata(&run.path).unwrap().len() - 40) as i64 / 5;
    run.flip(1, 40 + frame + 10);
    run.flip(1, 40 + 3 * frame + 10);
    let error = run.resume(OnDamage::Refuse).unwrap_err();
    assert!(error.is_damage());
    insta::assert_snapshot!(run.text(&error), @"the journal `RUN/journal` is damaged from byte 67 to byte 94: 1 records are lost, from number 1 on");
    let (mut third, found, resumed) = run.resume(OnDamage::GoOn).unwrap();
    assert_eq!((found, resumed.events, resumed.lost_events), (vec![0, 2, 4], 5, 2));
    assert_eq!((resumed.damages.len(), resumed.segment), (2, 3));
    write(&mut third, 5..6);
    let (_, found, resumed) = run.resume(OnDamage::GoOn).unwrap();
    assert_eq!((found, resumed.lost_events), (vec![0, 2, 4, 5], 2));
}

#[test]
fn an_end_that_a_later_segment_knows_of_is_missed() {
    let (run, _first) = Run::begun(0..5);
    let (mut second, _, _) = run.resumed();
    write(&mut second, 5..6);
    run.flip(1, -1);
    let error = run.resume(OnDamage::Refuse).unwrap_err();
    insta::assert_snapshot!(run.text(&error), @"the journal `RUN/journal` is damaged from byte 148 to byte 175: 1 records are lost, from number 4 on");
    let (_, found, resumed) = run.resume(OnDamage::GoOn).unwrap();
    assert_eq!((found, resumed.lost_events), (vec![0, 1, 2, 3, 5], 1));
}

#[test]
fn a_frame_that_holds_no_events_is_lost_and_counted() {
    let (run, mut first) = Run::begun(0..2);
    first.frames.push(3, |bytes| bytes.extend([255; 9])).unwrap();
    write(&mut first, 5..6);
    let error = run.resume(OnDamage::Refuse).unwrap_err();
    assert!(error.is_damage() && run.text(&error).contains("from number 2 on"), "{error}");
    let (_, found, resumed) = run.resume(OnDamage::GoOn).unwrap();
    assert_eq!((found, resumed.events, resumed.lost_events), (vec![0, 1, 5], 6, 3));
}

#[test]
fn the_head_of_a_segment_survives_the_loss_of_a_block_and_tells_of_the_one_before() {
    let (run, mut first) = Run::begun(0..3);
    let (mut second, _, _) = run.resumed();
    write(&mut second, 3..5);
    write(&mut first, 100..103);
    for start in [0, 4096] {
        let whole = fs::read(run.segment(2)).unwrap();
        let mut bytes = whole.clone();
        bytes[start..start + 4096].fill(0);
        fs::write(run.segment(2), bytes).unwrap();
        assert_eq!(run.read(), [0, 1, 2, 3, 4]);
        fs::write(run.segment(2), whole).unwrap();
    }
    run.flip(1, 20);
    assert_eq!(run.read(), [0, 1, 2, 3, 4], "the second segment knows the id of the first");
}

#[test]
fn a_head_that_nobody_can_make_out_is_refused_unless_the_caller_goes_on() {
    let (run, _first) = Run::begun(0..3);
    let (mut second, _, _) = run.resumed();
    write(&mut second, 3..5);
    run.flip(2, 20);
    run.flip(2, 4096 + 60);
    let mut reader = JournalReader::open(&run.path).unwrap();
    let found: Vec<_> = reader.by_ref().take(3).map(|event| event.unwrap().0.0).collect();
    assert_eq!(found, [0, 1, 2]);
    let error = reader.next().unwrap().unwrap_err();
    assert_eq!(run.text(&error), "cannot read `RUN/journal.2`: its first bytes are damaged");
    assert_eq!((reader.skip_damage(), reader.next().is_none()), (None, true));
    assert!(run.resume(OnDamage::Refuse).unwrap_err().is_damage());
    let (mut fourth, found, resumed) = run.resume(OnDamage::GoOn).unwrap();
    assert_eq!((found, resumed.events, resumed.damages.len()), (vec![0, 1, 2], 3, 1));
    write(&mut fourth, 3..4);
    assert_eq!(run.read(), [0, 1, 2, 3]);
    assert_eq!(run.resumed().1, [0, 1, 2, 3], "it is told once");
}

#[test]
fn a_lost_head_before_the_last_segment_costs_nothing() {
    let (run, _first) = Run::begun(0..3);
    let (mut second, _, _) = run.resumed();
    write(&mut second, 3..5);
    let (mut third, _, _) = run.resumed();
    write(&mut third, 5..6);
    run.flip(2, 20);
    run.flip(2, 4096 + 60);
    assert_eq!(run.read(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_segment_of_another_version_is_refused_whatever_the_caller_says() {
    let (run, _first) = Run::begun(0..3);
    drop(run.resumed());
    let mut bytes = fs::read(run.segment(2)).unwrap();
    for block in [0, 4096] {
        bytes[block + 8] = 9;
        let crc = crc32fast::hash(&bytes[block..block + 36]).to_le_bytes();
        bytes[block + 36..block + 40].copy_from_slice(&crc);
    }
    fs::write(run.segment(2), bytes).unwrap();
    let error = run.resume(OnDamage::GoOn).unwrap_err();
    assert_eq!(run.text(&error), "`RUN/journal.2` has format version 9, and this dagmar reads version 7");
    run.flip(1, 8);
    let error = run.resume(OnDamage::GoOn).unwrap_err();
    assert!(error.to_string().contains("version"), "{error}");
}

#[test]
fn a_journal_of_which_nothing_can_be_read_is_begun_anew_if_the_caller_says_so() {
    let (run, _first) = Run::begun(0..3);
    run.flip(1, 20);
    assert!(run.resume(OnDamage::Refuse).unwrap_err().is_damage());
    let (mut third, found, resumed) = run.resume(OnDamage::GoOn).unwrap();
    assert_eq!((found.len(), resumed.events, resumed.damages.len()), (0, 0, 1));
    write(&mut third, 0..1);
    assert_eq!(run.read(), [0]);
}

#[test]
fn a_segment_that_is_gone_is_an_error_and_no_panic() {
    let (run, _first) = Run::begun(0..3);
    let (mut second, _, _) = run.resumed();
    write(&mut second, 3..5);
    drop(run.resumed());
    fs::rename(run.segment(2), run.segment(9)).unwrap();
    let mut reader = JournalReader::open(&run.path).unwrap();
    assert_eq!(reader.by_ref().take(3).filter_map(Result::ok).count(), 3);
    assert!(reader.next().is_none(), "only the first is there, as far as can be seen");
    let damage: Option<Damage> = reader.skip_damage();
    assert_eq!(damage, None);
}

#[test]
fn of_many_at_once_one_gets_the_segment() {
    let (run, _first) = Run::begun(0..3);
    let winners: usize = std::thread::scope(|scope| {
        let take = || usize::from(NewSegment::take(&run.path, 1).unwrap().is_some());
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((winners, last_segment(&run.path).unwrap()), (1, 2));
}
