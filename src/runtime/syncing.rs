//! Makes outputs durable: a thread that syncs what a worker wrote, so that nobody waits for a disk.
//!
//! All that was written by then is synced at once, and after a while again. What is synced is handed to the
//! worker's loop, which tells rank 0.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::clock;
use crate::core::id::{Attempt, TaskId};
use crate::core::span::Span;
use crate::core::time::Micros;
use crate::record::pack::{PackFiles, PackWriter};

use super::sink::SharedPack;

/// What is written waits for more of it, at least this long after the sync before,
const WINDOW: Micros = Micros::from_millis(10);
/// and so many times as long as that took: who writes to a file that is being synced may have to wait.
const PAUSE_PER_SYNC: u64 = 9;

/// Tasks whose files are synced before the next are told of.
const FILES_AT_ONCE: usize = 64;

/// An attempt whose output is in the pack, and the files it declared.
#[derive(Debug)]
pub struct Written {
    /// The task.
    pub task: TaskId,
    /// Which try it was.
    pub attempt: Attempt,
    /// Its files.
    pub files: Vec<PathBuf>,
}

/// What the thread hears.
#[derive(Debug)]
pub enum Word {
    /// This is to be durable.
    Written(Written),
    /// Nothing more will come.
    Last,
}

/// What a sync came to.
#[derive(Debug, Default)]
pub struct Synced {
    /// Tasks whose outputs are durable, by try.
    pub durable: Vec<(Vec<Span>, Attempt)>,
    /// Those whose outputs cannot be, as a file is gone.
    pub volatile: Vec<(Vec<Span>, Attempt)>,
}

/// The thread, and what it has synced.
#[derive(Debug)]
pub struct Syncing {
    written: Sender<Word>,
    synced: Receiver<io::Result<Synced>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncing {
    /// Shares a pack and begins to sync it. `wake` is called when there is something to hear.
    pub fn start(pack: PackWriter, wake: Arc<dyn Fn() + Send + Sync>) -> io::Result<(SharedPack, Self)> {
        let files = pack.files()?;
        let (written, words) = unbounded();
        let (sender, synced) = unbounded();
        let pack = SharedPack::new(pack, written.clone());
        let shared = pack.clone();
        let builder = thread::Builder::new().name("sync".to_owned());
        let thread = builder.spawn(move || {
            let mut disk = PackDisk { pack: shared, files, known: HashSet::new() };
            serve(&words, &mut disk, &|synced| {
                // A loop that is gone needs no word.
                let _ = sender.send(synced);
                wake();
            });
        })?;
        Ok((pack, Syncing { written, synced, thread: Some(thread) }))
    }

    /// What was synced since.
    pub fn take(&self) -> io::Result<Vec<Synced>> {
        self.synced.try_iter().collect()
    }

    /// Syncs what is left and ends the thread.
    pub fn finish(&mut self) -> io::Result<Vec<Synced>> {
        let _ = self.written.send(Word::Last);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| io::Error::other("the thread that syncs has panicked"))?;
        }
        self.take()
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// What outputs are synced on.
trait Disk {
    /// Syncs what the pack has.
    fn sync_pack(&mut self) -> io::Result<()>;

    /// Syncs the files of these, whose packs are synced.
    fn sync_files(&mut self, written: &[Written]) -> Synced;
}

/// Gathers what is written and has it synced, until the last word or the first failure.
fn serve(words: &Receiver<Word>, disk: &mut impl Disk, tell: &dyn Fn(io::Result<Synced>)) {
    let mut not_before = clock::now();
    while let Ok(Word::Written(first)) = words.recv() {
        let mut written = vec![first];
        let is_last = gather(words, not_before.since(clock::now()), &mut written);
        let began = clock::now();
        if let Err(error) = disk.sync_pack() {
            return tell(Err(error));
        }
        let took = clock::now().since(began);
        not_before = clock::now() + WINDOW.max(Micros(took.0.saturating_mul(PAUSE_PER_SYNC)));
        // Those without files are told at once, and the others bit by bit.
        written.sort_by_key(|written| !written.files.is_empty());
        let plain = written.partition_point(|written| written.files.is_empty());
        let (plain, with_files) = written.split_at(plain);
        std::iter::once(plain).chain(with_files.chunks(FILES_AT_ONCE)).for_each(|some| {
            tell(Ok(disk.sync_files(some)));
        });
        if is_last {
            return;
        }
    }
}

/// Takes what comes within this time. True if that was the last.
fn gather(words: &Receiver<Word>, within: Micros, written: &mut Vec<Written>) -> bool {
    let until = clock::now() + within;
    loop {
        match words.recv_timeout(until.since(clock::now()).into()) {
            Ok(Word::Written(more)) => written.push(more),
            Ok(Word::Last) | Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

/// The real one.
struct PackDisk {
    pack: SharedPack,
    files: PackFiles,
    /// Directories above those of files, which are synced once: nobody knows who made them.
    known: HashSet<PathBuf>,
}

impl Disk for PackDisk {
    fn sync_pack(&mut self) -> io::Result<()> {
        self.pack.flush()?;
        self.files.sync()
    }

    /// A file that cannot be synced, as somebody has removed it, costs its task what it would be worth after
    /// a crash.
    fn sync_files(&mut self, written: &[Written]) -> Synced {
        let mut places: BTreeMap<&Path, Result<(), String>> = BTreeMap::new();
        let (mut durable, mut volatile) = (Vec::new(), Vec::new());
        for Written { task, attempt, files } in written {
            let synced = files.iter().try_for_each(|file| {
                sync_file(file).map_err(|error| error.to_string())?;
                let place = file.parent().unwrap_or(Path::new("/"));
                places.entry(place).or_insert_with(|| self.sync_place(place)).clone()
            });
            match synced {
                Ok(()) => durable.push((*attempt, *task)),
                Err(why) => {
                    log::warn!("task {task} is not durable, as a file of it cannot be synced: {why}");
                    volatile.push((*attempt, *task));
                }
            }
        }
        Synced { durable: by_try(durable), volatile: by_try(volatile) }
    }
}

impl PackDisk {
    fn sync_place(&mut self, place: &Path) -> Result<(), String> {
        sync_file(place).map_err(|error| error.to_string())?;
        for above in
            place.ancestors().skip(1).take_while(|above| !self.known.contains(*above)).collect::<Vec<_>>()
        {
            // What is not ours cannot be opened, and was there before.
            let _ = sync_file(above);
            self.known.insert(above.to_owned());
        }
        Ok(())
    }
}

fn by_try(mut tasks: Vec<(Attempt, TaskId)>) -> Vec<(Vec<Span>, Attempt)> {
    tasks.sort_unstable();
    let mut spans: BTreeMap<Attempt, Vec<Span>> = BTreeMap::new();
    tasks.into_iter().for_each(|(attempt, task)| Span::add_to(spans.entry(attempt).or_default(), task));
    spans.into_iter().map(|(attempt, tasks)| (tasks, attempt)).collect()
}

fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::Rank;
    use crate::record::pack::Piece;
    use crate::record::pack_reader::PackReader;

    fn written(task: u32, files: Vec<PathBuf>) -> Written {
        Written { task: TaskId(task), attempt: Attempt::FIRST, files }
    }

    fn ids(synced: &[Synced]) -> Vec<u32> {
        let spans = synced.iter().flat_map(|synced| &synced.durable).flat_map(|(spans, _)| spans);
        spans.flat_map(|span| span.tasks()).map(|task| task.0).collect()
    }

    #[test]
    fn what_is_written_is_synced_and_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let pack = PackWriter::create(directory.path(), Rank(1)).unwrap();
        let (pack, mut syncing) = Syncing::start(pack, Arc::new(|| ())).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "x").unwrap();
        for task in 0..100 {
            pack.lock().append(TaskId(task), Attempt::FIRST, Piece::Stdout, b"x").unwrap();
            pack.end(written(task, vec![file.clone()]));
        }
        let mut told = ids(&syncing.finish().unwrap());
        told.sort_unstable();
        assert_eq!(told, (0..100).collect::<Vec<_>>());
        let reader = PackReader::open(directory.path()).unwrap();
        assert!((0..100).all(|task| reader.is_ended(TaskId(task), Attempt::FIRST)));
    }

    #[test]
    fn a_task_whose_file_is_gone_is_not_durable() {
        let directory = tempfile::tempdir().unwrap();
        let pack = PackWriter::create(directory.path(), Rank(1)).unwrap();
        let (pack, mut syncing) = Syncing::start(pack, Arc::new(|| ())).unwrap();
        pack.end(written(0, vec![directory.path().join("gone")]));
        pack.end(written(1, Vec::new()));
        let synced = syncing.finish().unwrap();
        assert_eq!(ids(&synced), [1]);
        assert_eq!(synced.iter().flat_map(|synced| &synced.volatile).count(), 1);
    }

    #[test]
    fn nothing_is_synced_after_a_failure() {
        struct Bad(u32);
        impl Disk for Bad {
            fn sync_pack(&mut self) -> io::Result<()> {
                self.0 += 1;
                Err(io::Error::from_raw_os_error(5))
            }
            fn sync_files(&mut self, _: &[Written]) -> Synced {
                unreachable!("the pack is not synced")
            }
        }
        let (sender, words) = unbounded();
        (0..3).for_each(|task| sender.send(Word::Written(written(task, Vec::new()))).unwrap());
        let (mut disk, told) = (Bad(0), std::cell::Cell::new(0));
        serve(&words, &mut disk, &|synced| told.set(told.get() + usize::from(synced.is_err())));
        assert_eq!((disk.0, told.get()), (1, 1));
    }
}
