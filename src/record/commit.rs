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
