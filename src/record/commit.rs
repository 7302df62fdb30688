//! Group commit: a thread that syncs the journal, so that the scheduler's loop never waits for a disk.
//!
//! The loop writes, says up to which record, and goes on; the thread syncs all that was written so
//! far at once. A record is announced once it is synced *and* this life still had the run after
//! that: whoever takes over reads the journal after it has created the next segment, and so finds
//! every record that was announced before.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock;
use crate::core::time::{Micros, Timestamp};

use super::segment::Standing;

/// How long records wait at most for others that are synced with them.
pub const WINDOW: Duration = Duration::from_millis(10);

/// A file that is written by somebody else and synced here.
pub trait Disk: Send {
    /// Waits until the disk has all that was written so far.
    fn sync(&mut self) -> io::Result<()>;

    /// Whether what was written still counts.
    fn standing(&mut self) -> io::Result<Standing>;

    /// The file.
    fn path(&self) -> PathBuf;
}

/// Called whenever there is something new to ask.
pub type OnSynced = Arc<dyn Fn() + Send + Sync>;

/// Syncs one journal. Dropping it ends the thread, after a sync that is under way; what was not
/// asked to be synced by then is not.
#[derive(Debug)]
pub struct Commit {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Why records are not durable, and never will be through this journal.
#[derive(Clone, Debug)]
pub enum CommitError {
    /// The disk refused. It tells of an error once and then forgets what it could not write, so it
    /// is not asked again.
    Sync(PathBuf, Arc<io::Error>),
    /// Another process has taken the run over.
    Superseded(PathBuf),
    /// The journal is no longer where it was.
    Gone(PathBuf),
    /// The thread ended.
    Ended,
}

impl fmt::Display for CommitError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitError::Sync(path, error) => write!(out, "cannot sync `{}`: {error}", path.display()),
            CommitError::Superseded(path) => {
                let path = path.display();
                write!(out, "cannot add to `{path}`: another process has taken the run over")
            }
            CommitError::Gone(path) => {
                write!(out, "cannot add to `{}`: it was moved or removed", path.display())
            }
            CommitError::Ended => write!(out, "cannot sync the journal: its thread has ended"),
        }
    }
}

impl std::error::Error for CommitError {}

impl CommitError {
    /// What the user can do.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            CommitError::Sync(..) => {
                Some("what was recorded before is safe: resume the run once the disk is well")
            }
            CommitError::Superseded(_) => Some(
                "this process had given no sign for long, or was started beside another; the run goes on there",
            ),
            CommitError::Gone(_) => Some("leave a run directory where it is until its run is over"),
            CommitError::Ended => None,
        }
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The thread has something to do.
    work: Condvar,
    /// Something was announced.
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    written: u64,
    synced: u64,
    failure: Option<CommitError>,
    /// The thread waits for more to be written, and not only for the end of a window.
    is_idle: bool,
    /// How many wait and would rather not wait for a window.
    waiting: u32,
    is_over: bool,
}

impl Commit {
    /// Begins with `synced` records that are durable already, and syncs at most once in `window`.
    pub fn start(
        disk: impl Disk + 'static,
        synced: u64,
        window: Duration,
        on_synced: OnSynced,
    ) -> io::Result<Self> {
        let state = State { written: synced, synced, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let ours = Arc::clone(&shared);
        let thread = thread::Builder::new().name("commit".to_owned()).spawn(move || {
            let _end = End(&ours, &*on_synced);
            ours.run(disk, window.into(), &*on_synced);
        })?;
        Ok(Commit { shared, thread: Some(thread) })
    }

    /// Says that the file has all records below number `records`. Never waits for the disk.
    pub fn written(&self, records: u64) {
        let mut state = self.shared.lock();
        state.written = state.written.max(records);
        // At the end of a window the thread looks by itself.
        if state.is_idle && state.written > state.synced {
            state.is_idle = false;
            self.shared.work.notify_one();
        }
    }

    /// How many records are durable, without waiting. The first failure is the answer for ever.
    pub fn synced(&self) -> Result<u64, CommitError> {
        self.shared.lock().answer()
    }

    /// Waits until that many records are durable, which must have been written.
    pub fn wait_until(&self, records: u64) -> Result<(), CommitError> {
        let mut state = self.shared.lock();
        assert!(
            records <= state.written,
            "{records} records cannot be waited for: {} are written",
            state.written
        );
        state.waiting += 1;
        self.shared.work.notify_one();
        while state.answer()? < records {
            state = self.shared.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        Ok(())
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // If it panicked, it has said so.
            let _ = thread.join();
        }
    }
}

impl State {
    fn answer(&self) -> Result<u64, CommitError> {
        self.failure.clone().map_or(Ok(self.synced), Err)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut disk: impl Disk, window: Micros, on_synced: &(dyn Fn() + Send + Sync)) {
        let mut not_before = clock::now();
        while let Some(records) = self.wait_for_work(not_before) {
            not_before = clock::now() + window;
            let result = sync(&mut disk);
            let has_failed = result.is_err();
            self.announce(result.map(|()| records));
            on_synced();
            if has_failed {
                return;
            }
        }
    }

    /// How many records to sync; none when it is over.
    fn wait_for_work(&self, not_before: Timestamp) -> Option<u64> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return None;
            }
            let pause = not_before.since(clock::now());
            let has_work = state.written > state.synced;
            if has_work && (pause == Micros::ZERO || state.waiting > 0) {
                return Some(state.written);
            }
            state.is_idle = !has_work;
            state = if has_work {
                let waited = self.work.wait_timeout(state, pause.into());
                waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state)
            } else {
                self.work.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
            state.is_idle = false;
        }
    }

    fn announce(&self, result: Result<u64, CommitError>) {
        let mut state = self.lock();
        match result {
            Ok(records) => state.synced = records,
            Err(error) => state.failure = Some(error),
        }
        self.news.notify_all();
    }
}

fn sync(disk: &mut impl Disk) -> Result<(), CommitError> {
    let synced = disk.sync();
    // Only now: what was synced after somebody took over does not count.
    let standing = synced.and_then(|()| disk.standing());
    match standing.map_err(|error| CommitError::Sync(disk.path(), Arc::new(error)))? {
        Standing::Last => Ok(()),
        Standing::Superseded => Err(CommitError::Superseded(disk.path())),
        Standing::Gone => Err(CommitError::Gone(disk.path())),
    }
}

/// Says that the thread has ended, however it did: nobody must wait for it in vain.
struct End<'a>(&'a Shared, &'a (dyn Fn() + Send + Sync));

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.lock().failure.get_or_insert(CommitError::Ended);
        self.0.news.notify_all();
        if thread::panicking() {
            (self.1)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What a disk does when it is asked to sync, one after the other; then it does as it is told.
    enum Deed {
        Sync,
        Fail(io::ErrorKind),
        Panic,
        /// Syncs once the test says so.
        Slow,
    }

    #[derive(Clone)]
    struct FakeDisk {
        deeds: Arc<Mutex<VecDeque<Deed>>>,
        standing: Arc<Mutex<Standing>>,
        syncs: Arc<AtomicUsize>,
        gate: Arc<(Mutex<bool>, Condvar)>,
    }

    impl FakeDisk {
        fn new(deeds: impl IntoIterator<Item = Deed>) -> Self {
            FakeDisk {
                deeds: Arc::new(Mutex::new(deeds.into_iter().collect())),
                standing: Arc::new(Mutex::new(Standing::Last)),
                syncs: Arc::default(),
                gate: Arc::default(),
            }
        }

        fn syncs(&self) -> usize {
            self.syncs.load(Ordering::SeqCst)
        }

        fn wait_for_sync(&self, number: usize) {
            while self.syncs() < number {
                thread::yield_now();
            }
        }

        fn open_gate(&self) {
            *self.gate.0.lock().unwrap() = true;
            self.gate.1.notify_all();
        }

        fn commit(&self, window: Duration) -> Commit {
            Commit::start(self.clone(), 0, window, Arc::new(|| ())).unwrap()
        }
    }

    impl Disk for FakeDisk {
        fn sync(&mut self) -> io::Result<()> {
            let deed = self.deeds.lock().unwrap().pop_front().unwrap_or(Deed::Sync);
            self.syncs.fetch_add(1, Ordering::SeqCst);
            match deed {
                Deed::Sync => Ok(()),
                Deed::Fail(kind) => Err(kind.into()),
                Deed::Panic => panic!("the disk of a test does so"),
                Deed::Slow => {
                    let open = self.gate.0.lock().unwrap();
                    drop(self.gate.1.wait_while(open, |open| !*open).unwrap());
                    Ok(())
                }
            }
        }

        fn standing(&mut self) -> io::Result<Standing> {
            Ok(*self.standing.lock().unwrap())
        }

        fn path(&self) -> PathBuf {
            "RUN/journal".into()
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_written_is_synced_at_once_when_idle() {
        let disk = FakeDisk::new([]);
        let commit = disk.commit(Duration::ZERO);
        assert_eq!(commit.synced().unwrap(), 0);
        for records in [3, 5, 5, 9] {
            commit.written(records);
            commit.wait_until(records).unwrap();
            assert_eq!(commit.synced().unwrap(), records);
        }
        assert_eq!(disk.syncs(), 3, "nothing new is nothing to sync");
    }

    #[test]
    fn what_comes_within_a_window_is_synced_together() {
        let disk = FakeDisk::new([]);
        let commit = disk.commit(LONG);
        commit.written(1);
        disk.wait_for_sync(1);
        for records in 2..1000 {
            commit.written(records);
        }
        assert!(commit.synced().unwrap() <= 1);
        assert_eq!(disk.syncs(), 1);
        commit.wait_until(999).unwrap();
        assert_eq!((commit.synced().unwrap(), disk.syncs()), (999, 2), "a waiter does not wait for a window");
    }

    #[test]
    fn nobody_waits_for_a_slow_disk_without_wanting_to() {
        let disk = FakeDisk::new([Deed::Slow]);
        let commit = disk.commit(Duration::ZERO);
        commit.written(1);
        disk.wait_for_sync(1);
        for records in 2..100 {
            commit.written(records);
            assert_eq!(commit.synced().unwrap(), 0);
        }
        disk.open_gate();
        commit.wait_until(1).unwrap();
        commit.wait_until(99).unwrap();
        assert_eq!(disk.syncs(), 2);
    }

    #[test]
    fn a_failed_sync_is_final() {
        for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
            let disk = FakeDisk::new([Deed::Sync, Deed::Fail(kind)]);
            let commit = disk.commit(Duration::ZERO);
            commit.written(1);
            commit.wait_until(1).unwrap();
            commit.written(2);
            let error = commit.wait_until(2).unwrap_err();
            assert!(error.to_string().starts_with("cannot sync `RUN/journal`: "), "{error}");
            commit.written(3);
            assert!(matches!(commit.wait_until(3), Err(CommitError::Sync(..))));
            assert!(matches!(commit.synced(), Err(CommitError::Sync(..))));
            drop(commit);
            assert_eq!(disk.syncs(), 2, "it is never asked again");
        }
    }

    #[test]
    fn what_is_synced_after_somebody_took_over_is_not_announced() {
        let disk = FakeDisk::new([Deed::Sync, Deed::Slow]);
        let commit = disk.commit(Duration::ZERO);
        commit.written(1);
        commit.wait_until(1).unwrap();
        commit.written(2);
        disk.wait_for_sync(2);
        *disk.standing.lock().unwrap() = Standing::Superseded;
        disk.open_gate();
        let error = commit.wait_until(2).unwrap_err();
        assert_eq!(error.to_string(), "cannot add to `RUN/journal`: another process has taken the run over");
        assert!(error.hint().is_some());
        assert!(matches!(commit.synced(), Err(CommitError::Superseded(_))));
    }

    #[test]
    fn a_journal_that_is_gone_takes_nothing() {
        let disk = FakeDisk::new([]);
        *disk.standing.lock().unwrap() = Standing::Gone;
        let commit = disk.commit(Duration::ZERO);
        commit.written(1);
        assert!(matches!(commit.wait_until(1), Err(CommitError::Gone(_))));
    }

    #[test]
    fn the_loop_is_woken_by_every_answer() {
        let disk = FakeDisk::new([Deed::Sync, Deed::Sync, Deed::Fail(io::ErrorKind::Other)]);
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let on_synced: OnSynced = Arc::new(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let commit = Commit::start(disk, 10, Duration::ZERO, on_synced).unwrap();
        assert_eq!(commit.synced().unwrap(), 10);
        for records in [11, 12] {
            commit.written(records);
            commit.wait_until(records).unwrap();
        }
        commit.written(13);
        commit.wait_until(13).unwrap_err();
        drop(commit);
        assert_eq!((calls.load(Ordering::SeqCst), Arc::strong_count(&calls)), (3, 1), "no thread is left");
    }

    #[test]
    fn dropping_ends_the_thread_whatever_it_waits_for() {
        let idle = FakeDisk::new([]);
        drop(idle.commit(LONG));
        let busy = FakeDisk::new([]);
        let commit = busy.commit(LONG);
        commit.written(1);
        commit.wait_until(1).unwrap();
        commit.written(2);
        drop(commit);
        assert_eq!((busy.syncs(), Arc::strong_count(&busy.syncs)), (1, 1));
    }

    #[test]
    fn nobody_waits_for_a_thread_that_is_gone() {
        let disk = FakeDisk::new([Deed::Panic]);
        let commit = disk.commit(Duration::ZERO);
        commit.written(1);
        assert!(matches!(commit.wait_until(1), Err(CommitError::Ended)));
        assert!(matches!(commit.synced(), Err(CommitError::Ended)));
    }
}
