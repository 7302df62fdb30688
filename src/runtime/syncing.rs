//! Makes outputs durable: a thread that syncs what a worker wrote, so that nobody waits for a disk.
//!
//! All that was written by then is synced at once, and after a while again. What is synced is handed to the
//! worker's loop, which tells rank 0.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, unbounded};

use crate::clock;
use crate::core::id::{Attempt, TaskId};
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};
use crate::record::pack::{PackFiles, PackWriter};

use super::margin::WRITES_PER_SECOND;
use super::sink::SharedPack;

/// How long after a sync the next one begins.
#[derive(Clone, Copy, Debug)]
struct Pause {
    at_least: Micros,
    /// And so many times as long as the last one took.
    per_sync: u64,
}

/// No pause is longer: what has ended since the last sync runs again after a crash.
const PAUSE_MAX: Micros = Micros::from_millis(100);

/// As long as there is work: who writes to a file that is being synced may have to wait.
const AT_WORK: Pause = Pause { at_least: Micros::from_millis(10), per_sync: 9 };
/// When there is none, and the end of the run may wait for what is left.
const IDLE: Pause = Pause { at_least: Micros::from_millis(1), per_sync: 3 };

/// Called when there is something to hear.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

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

/// What is to be synced. Whoever adds to it wakes nobody but a thread that has nothing else to do.
#[derive(Debug, Default)]
pub struct Queue {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: Vec<Written>,
    /// The thread waits for the first, and not only for the end of a pause.
    is_waiting: bool,
    is_idle: bool,
    /// Nothing more will come.
    is_closed: bool,
}

impl Queue {
    /// This is to be durable.
    pub fn push(&self, written: Written) {
        let mut state = self.lock();
        state.written.push(written);
        if state.is_waiting {
            self.news.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more will come.
    fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_one();
    }

    /// What there is, after a pause since the last sync. None if nothing more will come.
    fn take(&self, last: LastSync) -> Option<Vec<Written>> {
        let mut state = self.lock();
        loop {
            let pause = match (state.is_closed, state.is_idle) {
                (true, _) => Micros::ZERO,
                (false, is_idle) => last.not_before(is_idle).since(clock::now()),
            };
            state.is_waiting = state.written.is_empty();
            state = match (state.is_waiting, pause) {
                (true, _) if state.is_closed => return None,
                (true, _) => self.news.wait(state).unwrap_or_else(PoisonError::into_inner),
                (false, Micros::ZERO) => return Some(std::mem::take(&mut state.written)),
                (false, pause) => {
                    let waited = self.news.wait_timeout(state, pause.into());
                    waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
                }
            };
        }
    }
}

/// When a sync was over and how long it took.
#[derive(Clone, Copy, Debug, Default)]
struct LastSync {
    ended: Timestamp,
    took: Micros,
}

impl LastSync {
    fn not_before(self, is_idle: bool) -> Timestamp {
        let Pause { at_least, per_sync } = if is_idle { IDLE } else { AT_WORK };
        self.ended + at_least.max(Micros(self.took.0.saturating_mul(per_sync))).min(PAUSE_MAX)
    }
}

/// What a sync came to.
#[derive(Debug, Default)]
pub struct Synced {
    /// Tasks whose outputs are durable, by try.
    pub durable: Vec<(Vec<Span>, Attempt)>,
    /// Those whose outputs cannot be, as a file is gone.
    pub volatile: Vec<(Vec<Span>, Attempt)>,
}

/// How fast the run directory takes what is written, in bytes per second: the median of the last few large syncs, as
/// a server that hesitates once says nothing.
#[derive(Debug)]
struct Rates(VecDeque<u64>);

impl Rates {
    /// So many are looked at.
    const LAST: usize = 5;
    /// Less says more of waiting than of writing.
    const BYTES_MIN: u64 = 16 << 20;
    /// Some of it had been written before the sync began, so what was measured may be too good.
    const MAX: u64 = 1_000_000_000;

    fn new() -> Self {
        Rates(VecDeque::from([WRITES_PER_SECOND; Rates::LAST]))
    }

    fn measure(&mut self, bytes: u64, took: Micros) {
        if bytes >= Rates::BYTES_MIN {
            let rate = u128::from(bytes) * 1_000_000 / u128::from(took.0.max(1));
            self.0.pop_front();
            self.0.push_back(u64::try_from(rate).unwrap_or(u64::MAX).clamp(1, Rates::MAX));
        }
    }

    fn median(&self) -> u64 {
        let mut rates: Vec<u64> = self.0.iter().copied().collect();
        rates.sort_unstable();
        rates[Rates::LAST / 2]
    }
}

/// The thread, and what it has synced.
#[derive(Debug)]
pub struct Syncing {
    queue: Arc<Queue>,
    writes_per_second: Arc<AtomicU64>,
    is_idle: bool,
    synced: Receiver<io::Result<Synced>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncing {
    /// Shares a pack and begins to sync it.
    pub fn start(pack: PackWriter, wake: Wake) -> io::Result<(SharedPack, Self)> {
        let files = pack.files()?;
        let queue: Arc<Queue> = Arc::default();
        let (sender, synced) = unbounded();
        let pack = SharedPack::new(pack, queue.clone());
        let (shared, ours) = (pack.clone(), queue.clone());
        let writes_per_second = Arc::new(AtomicU64::new(WRITES_PER_SECOND));
        let measured = writes_per_second.clone();
        let builder = thread::Builder::new().name("sync".to_owned());
        let thread = builder.spawn(move || {
            let mut disk = PackDisk {
                pack: shared,
                files,
                known: HashSet::new(),
                synced: 0,
                rates: Rates::new(),
                measured,
            };
            serve(&ours, &mut disk, &|synced| {
                // A loop that is gone needs no word.
                let _ = sender.send(synced);
                wake();
            });
        })?;
        Ok((pack, Syncing { queue, writes_per_second, is_idle: false, synced, thread: Some(thread) }))
    }

    /// How many bytes the run directory takes in a second.
    pub fn writes_per_second(&self) -> u64 {
        self.writes_per_second.load(Ordering::Relaxed)
    }

    /// Whether the worker has nothing to do, so that syncs disturb nobody.
    pub fn set_idle(&mut self, is_idle: bool) {
        if std::mem::replace(&mut self.is_idle, is_idle) != is_idle {
            let mut state = self.queue.lock();
            state.is_idle = is_idle;
            if is_idle && !state.written.is_empty() {
                self.queue.news.notify_one();
            }
        }
    }

    /// What was synced since.
    pub fn take(&self) -> io::Result<Vec<Synced>> {
        self.synced.try_iter().collect()
    }

    /// Syncs what is left and ends the thread.
    pub fn finish(&mut self) -> io::Result<Vec<Synced>> {
        self.queue.close();
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

/// Has what is written synced, until nothing more comes or the first failure.
fn serve(queue: &Queue, disk: &mut impl Disk, tell: &dyn Fn(io::Result<Synced>)) {
    let mut last = LastSync::default();
    while let Some(mut written) = queue.take(last) {
        let began = clock::now();
        if let Err(error) = disk.sync_pack() {
            return tell(Err(error));
        }
        let ended = clock::now();
        last = LastSync { ended, took: ended.since(began) };
        // Those without files are told at once, and the others bit by bit.
        written.sort_by_key(|written| !written.files.is_empty());
        let plain = written.partition_point(|written| written.files.is_empty());
        let (plain, with_files) = written.split_at(plain);
        std::iter::once(plain).chain(with_files.chunks(FILES_AT_ONCE)).for_each(|some| {
            tell(Ok(disk.sync_files(some)));
        });
    }
}

/// The real one.
struct PackDisk {
    pack: SharedPack,
    files: PackFiles,
    /// Directories above those of files, which are synced once: nobody knows who made them.
    known: HashSet<PathBuf>,
    /// Bytes of the pack that were synced.
    synced: u64,
    rates: Rates,
    measured: Arc<AtomicU64>,
}

impl Disk for PackDisk {
    fn sync_pack(&mut self) -> io::Result<()> {
        let bytes = {
            let mut pack = self.pack.lock();
            pack.flush()?;
            pack.flushed()
        };
        let began = clock::now();
        self.files.sync(bytes)?;
        self.rates.measure(bytes.saturating_sub(self.synced), clock::now().since(began));
        self.measured.store(self.rates.median(), Ordering::Relaxed);
        self.synced = bytes;
        Ok(())
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
        assert!((0..100).all(|task| reader.is_whole(TaskId(task), Attempt::FIRST)));
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
        let queue = Queue::default();
        (0..3).for_each(|task| queue.push(written(task, Vec::new())));
        let (mut disk, told) = (Bad(0), std::cell::Cell::new(0));
        serve(&queue, &mut disk, &|synced| told.set(told.get() + usize::from(synced.is_err())));
        assert_eq!((disk.0, told.get()), (1, 1));
    }

    #[test]
    fn one_slow_sync_says_nothing_and_several_do() {
        let mut rates = Rates::new();
        let slow = |rates: &mut Rates| rates.measure(20_000_000, Micros::from_secs(20));
        slow(&mut rates);
        slow(&mut rates);
        rates.measure(1_000, Micros::from_secs(100));
        assert_eq!(rates.median(), WRITES_PER_SECOND);
        slow(&mut rates);
        assert_eq!(rates.median(), 1_000_000);
        (0..3).for_each(|_| rates.measure(20_000_000, Micros(1)));
        assert_eq!(rates.median(), Rates::MAX);
    }

    #[test]
    fn an_idle_worker_does_not_wait_long() {
        let last = LastSync { ended: Timestamp(1_000_000), took: Micros(4_000) };
        let pause = |is_idle| last.not_before(is_idle).since(last.ended);
        assert_eq!((pause(false), pause(true)), (Micros(36_000), Micros(12_000)));
        let long = LastSync { took: Micros::from_secs(1), ..last };
        assert_eq!(long.not_before(false).since(last.ended), PAUSE_MAX);
        let short = LastSync { took: Micros(100), ..last };
        assert_eq!(short.not_before(false).since(last.ended), Micros(10_000));
        assert_eq!(short.not_before(true).since(last.ended), Micros(1_000));
    }

    #[test]
    fn what_comes_during_a_pause_is_taken_with_the_rest() {
        let queue = Arc::new(Queue::default());
        queue.push(written(0, Vec::new()));
        assert_eq!(queue.take(LastSync::default()).map(|taken| taken.len()), Some(1));
        let long = LastSync { ended: clock::now() + Micros::from_secs(1_000), ..LastSync::default() };
        queue.push(written(1, Vec::new()));
        let theirs = queue.clone();
        let taker = thread::spawn(move || theirs.take(long).map(|taken| taken.len()));
        queue.push(written(2, Vec::new()));
        queue.close();
        assert_eq!(taker.join().unwrap(), Some(2));
        assert!(queue.take(long).is_none());
    }
}
