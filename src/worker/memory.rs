//! The memory of a worker's outputs: what is really held, what leaves for the disk, and what may start.
//!
//! The ledger of the core decides; this file asks it, keeps count of outputs that are gone from the store
//! and still held by somebody, and has the threads that write and read. Small outputs do not take part.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::output::Output;
use super::scratch::Scratch;
use super::spilled::{Coding, Spilled};
use super::store::Store;
use crate::core::worker::memory::{Leaving, Ledger, Room};

/// What a worker's outputs may take, and where they go past it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Bytes that outputs may take in memory.
    pub limit_bytes: u64,
    /// Bytes that they may take on the disk.
    pub scratch_limit_bytes: u64,
    /// A directory of this node.
    pub scratch: PathBuf,
    /// How they are written.
    pub coding: Coding,
}

/// Work for a thread that may wait for the disk.
type Chore = Box<dyn FnOnce(&Store) + Send>;

/// Keeps the outputs of a store within their limit.
pub struct Memory {
    setup: Setup,
    state: Mutex<State>,
    /// The room there is, for whoever is about to start something.
    room: AtomicU8,
    scratch: OnceLock<Result<Arc<Scratch>, String>>,
    writer: OnceLock<Sender<Chore>>,
    reader: OnceLock<Sender<Chore>>,
    written_bytes: AtomicU64,
    read_bytes: AtomicU64,
    /// Who is called when there is more room than before.
    on_room: Mutex<Vec<Arc<dyn Fn() + Send + Sync>>>,
}

/// What changes together.
pub struct State {
    pub(super) ledger: Ledger,
    /// Outputs that are gone from the store and held by somebody.
    lingering: Vec<(Weak<Output>, u64)>,
    /// Why the last write failed.
    refusal: Option<String>,
    /// How often something on the disk was released, as far as the ledger knows.
    releases: u64,
}

/// Why nothing may start any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes of outputs in memory.
    pub held_bytes: u64,
    /// Bytes that they may take.
    pub limit_bytes: u64,
    /// Where outputs are written.
    pub directory: PathBuf,
    /// Bytes of them there.
    pub written_bytes: u64,
    /// Why no more can be written.
    pub refusal: String,
}

impl State {
    /// Bytes in memory besides what the store keeps.
    pub(super) fn held(&mut self) -> u64 {
        self.lingering.retain(|(output, _)| output.strong_count() > 0);
        self.lingering.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The store does not keep this output any more; it counts until nobody else holds it.
    pub(super) fn linger(&mut self, output: Weak<Output>, bytes: u64) {
        let is_counted = self.lingering.iter().any(|(other, _)| other.ptr_eq(&output));
        if output.strong_count() > 0 && !is_counted {
            self.lingering.push((output, bytes));
        }
    }

    /// The store keeps it again.
    pub(super) fn linger_no_more(&mut self, output: &Arc<Output>) {
        self.lingering.retain(|(other, _)| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(output)));
    }

    /// An output could not be written: it stays.
    pub(super) fn refuse(&mut self, leaving: Leaving, why: String) {
        if self.refusal.as_ref() != Some(&why) {
            log::warn!("an output stays in memory: {why}");
        }
        self.refusal = Some(why);
        self.ledger.on_stayed(leaving, true);
    }
}

impl Memory {
    /// Nothing is kept yet.
    pub fn new(setup: Setup) -> Self {
        let ledger = Ledger::new(setup.limit_bytes);
        Memory {
            setup,
            state: Mutex::new(State { ledger, lingering: Vec::new(), refusal: None, releases: 0 }),
            room: AtomicU8::new(Room::Ample as u8),
            scratch: OnceLock::new(),
            writer: OnceLock::new(),
            reader: OnceLock::new(),
            written_bytes: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            on_room: Mutex::default(),
        }
    }

    /// How much room there is.
    pub fn room(&self) -> Room {
        match self.room.load(Ordering::SeqCst) {
            0 => Room::Ample,
            1 => Room::Short,
            2 => Room::Full,
            _ => Room::Closed,
        }
    }

    /// `wake` is called whenever there is more room than before.
    pub fn on_room(&self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.on_room.lock().expect("no thread panics holding this lock").push(wake);
    }

    /// How outputs are written.
    pub fn coding(&self) -> Coding {
        self.setup.coding
    }

    /// Bytes written to the disk, and bytes read back.
    pub fn moved_bytes(&self) -> (u64, u64) {
        (self.written_bytes.load(Ordering::Relaxed), self.read_bytes.load(Ordering::Relaxed))
    }

    /// Something was read back.
    pub fn on_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What may be changed in one step. No cell of the store is locked by who asks.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics holding this lock")
    }

    /// After a change: what is too much leaves, and who waited for room hears of it.
    pub(super) fn settle(&self, mut state: MutexGuard<'_, State>, store: &Store) {
        if let Some(Ok(scratch)) = self.scratch.get()
            && scratch.releases() != state.releases
        {
            state.releases = scratch.releases();
            state.ledger.on_disk_freed();
        }
        let held = state.held();
        let chosen = state.ledger.choose(held, |task| store.is_held(task));
        let room = state.ledger.room(held);
        let before = self.room.swap(room as u8, Ordering::SeqCst);
        drop(state);
        for leaving in chosen {
            self.on_writer(store, Box::new(move |store| store.write_out(leaving)));
        }
        if (room as u8) < before {
            let wakes = self.on_room.lock().expect("no thread panics holding this lock").clone();
            wakes.iter().for_each(|wake| wake());
        }
    }

    /// Writes an output to the disk.
    pub(super) fn write(&self, output: &Output) -> Result<Spilled, String> {
        let scratch = self.scratch()?;
        let written = Spilled::write(output, scratch, self.setup.coding);
        written.map_err(|error| format!("cannot write to `{}`: {error}", scratch.directory().display()))
    }

    /// So much was written.
    pub(super) fn note_write(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The file that outputs are written to, which comes into being with the first.
    fn scratch(&self) -> Result<&Arc<Scratch>, String> {
        let Setup { scratch, scratch_limit_bytes, .. } = &self.setup;
        let create = || {
            warn_of_memory(scratch);
            let created = Scratch::create(scratch, *scratch_limit_bytes);
            created.map_err(|error| format!("cannot make a file in `{}`: {error}", scratch.display()))
        };
        self.scratch.get_or_init(create).as_ref().map_err(Clone::clone)
    }

    /// Why nothing that makes an output can start, if that is so for as long as nothing is released.
    pub fn no_room(&self) -> Option<NoRoom> {
        let mut state = self.lock();
        let held = state.held();
        if state.ledger.is_waiting() || state.ledger.room(held) < Room::Full {
            return None;
        }
        let scratch = self.scratch.get().and_then(|scratch| scratch.as_ref().ok());
        Some(NoRoom {
            held_bytes: state.ledger.here_bytes() + held,
            limit_bytes: self.setup.limit_bytes,
            directory: self.setup.scratch.clone(),
            written_bytes: scratch.map_or(0, |scratch| scratch.used_bytes()),
            refusal: state.refusal.clone().unwrap_or_else(|| "it is full".to_owned()),
        })
    }

    fn on_writer(&self, store: &Store, chore: Chore) {
        let _ = self.writer.get_or_init(|| spawn("spill", store.own())).send(chore);
    }

    /// Does something that waits for the disk on the thread for it.
    pub fn on_reader(&self, store: &Store, chore: Chore) {
        let _ = self.reader.get_or_init(|| spawn("recall", store.own())).send(chore);
    }
}

/// A thread that ends with its store. Without threads the chores are never done: memory then grows as if
/// there were no limit.
fn spawn(name: &str, store: Weak<Store>) -> Sender<Chore> {
    let (sender, chores): (Sender<Chore>, Receiver<Chore>) = unbounded();
    let work = move || {
        for chore in chores {
            let Some(store) = store.upgrade() else { return };
            chore(&store);
        }
    };
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(work) {
        log::error!("cannot start a thread for the disk: {error}");
    }
    sender
}

/// What is written into memory frees none.
fn warn_of_memory(directory: &Path) {
    use nix::sys::statfs::{TMPFS_MAGIC, statfs};
    if statfs(directory).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC) {
        log::warn!("`{}` is in memory itself: set TMPDIR to a directory on a disk", directory.display());
    }
}

/// A directory for what need not outlive the run: the site's, else the system's.
pub fn scratch_directory() -> PathBuf {
    let named = ["DAGMAR_SCRATCH", "TMPDIR"].into_iter().filter_map(std::env::var_os);
    named.map(PathBuf::from).find(|place| place.is_dir()).unwrap_or_else(|| PathBuf::from("/tmp"))
}
