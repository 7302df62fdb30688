//! Makes outputs durable: a thread that syncs what a worker wrote, so that nobody waits for a disk.
//!
//! All that was written by then is synced at once, and after a while again. What is synced is handed to the
//! worker's loop, which tells rank 0.

use std::collections::{BTreeMap, BTreeSet};
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

/// What is written waits for more of it, but no longer than this.
const WINDOW: Micros = Micros::from_millis(10);

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

/// Tasks whose outputs are durable, by try.
pub type Synced = Vec<(Vec<Span>, Attempt)>;

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
            let sync = |written: Vec<Written>| {
                shared.flush()?;
                sync(written, &files)
            };
            serve(&words, &sync, &|synced| {
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

/// Gathers what is written and has it synced, until the last word or the first failure.
fn serve(
    words: &Receiver<Word>,
    sync: &dyn Fn(Vec<Written>) -> io::Result<Synced>,
    tell: &dyn Fn(io::Result<Synced>),
) {
    let mut synced_at = None;
    while let Ok(Word::Written(first)) = words.recv() {
        let mut written = vec![first];
        let is_last = gather(words, synced_at.map_or(Micros::ZERO, window_left), &mut written);
        synced_at = Some(clock::now());
        let synced = sync(written);
        let is_over = is_last || synced.is_err();
        tell(synced);
        if is_over {
            return;
        }
    }
}

fn window_left(since: crate::core::time::Timestamp) -> Micros {
    WINDOW - clock::now().since(since)
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

/// Syncs the packs, then files. A file that cannot be synced, as somebody has removed it, costs its task
/// what it would be worth after a crash.
fn sync(written: Vec<Written>, packs: &PackFiles) -> io::Result<Synced> {
    packs.sync()?;
    let mut directories = BTreeSet::new();
    let mut synced: BTreeMap<Attempt, Vec<Span>> = BTreeMap::new();
    let mut tasks = Vec::new();
    for Written { task, attempt, files } in &written {
        match files.iter().try_for_each(|file| sync_file(file)) {
            Ok(()) => tasks.push((*attempt, *task)),
            Err(error) => log::warn!("task {task} is not durable, as a file of it cannot be synced: {error}"),
        }
        directories.extend(files.iter().filter_map(|file| file.parent()));
    }
    for directory in directories {
        if let Err(error) = sync_file(directory) {
            log::warn!("cannot sync the directory `{}`: {error}", directory.display());
        }
    }
    tasks.sort_unstable();
    tasks.into_iter().for_each(|(attempt, task)| Span::add_to(synced.entry(attempt).or_default(), task));
    Ok(synced.into_iter().map(|(attempt, tasks)| (tasks, attempt)).collect())
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
        let spans = synced.iter().flatten().flat_map(|(spans, _)| spans);
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
        assert_eq!(ids(&syncing.finish().unwrap()), [1]);
    }

    #[test]
    fn nothing_is_synced_after_a_failure() {
        let (sender, words) = unbounded();
        let (calls, told) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
        (0..3).for_each(|task| sender.send(Word::Written(written(task, Vec::new()))).unwrap());
        let fails = |_| {
            calls.set(calls.get() + 1);
            Err(io::Error::from_raw_os_error(5))
        };
        serve(&words, &fails, &|synced| told.set(told.get() + usize::from(synced.is_err())));
        assert_eq!((calls.get(), told.get()), (1, 1));
    }
}
