//! One rank's connection to the others. Threads of one process and MPI look the same behind it.

use std::fmt;
use std::fs::File;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU8, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use crate::core::id::Rank;

/// A message as it travels: a short head, which the codec knows, and a body that is passed through
/// untouched, such as an output's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// The encoded message.
    pub head: Vec<u8>,
    /// Bytes that come with it; often none. Any length, over 2 GiB too.
    pub body: Body,
}

/// Bytes that are sent from where they lie, or that have come. To clone them copies none.
#[derive(Clone)]
pub struct Body(Bytes);

#[derive(Clone)]
enum Bytes {
    Own(Arc<Vec<u8>>),
    Lent(Arc<dyn Lender>),
    Shared(Arc<SharedFile>),
}

/// Somebody else's bytes: they stay as they are for as long as the transport holds them.
pub trait Lender: Send + Sync {
    /// The bytes.
    fn bytes(&self) -> &[u8];

    /// A memory file of these bytes and no others, which nobody can change any more, if they lie in one.
    fn file(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// A memory file of another rank of this node, opened here.
struct SharedFile {
    file: File,
    length: usize,
    /// Its bytes, once somebody wants those and not the file.
    read: OnceLock<Vec<u8>>,
}

impl Body {
    /// Bytes within something that is kept until they are sent.
    pub fn lent(owner: Arc<dyn Lender>) -> Self {
        Body(Bytes::Lent(owner))
    }

    /// The bytes of a sealed memory file, of which there are so many.
    pub fn shared(file: File, length: usize) -> Self {
        Body(Bytes::Shared(Arc::new(SharedFile { file, length, read: OnceLock::new() })))
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match &self.0 {
            Bytes::Shared(shared) => shared.length,
            _ => (**self).len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory file in which the bytes lie, if they lie in one.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        match &self.0 {
            Bytes::Own(_) => None,
            Bytes::Lent(owner) => owner.file(),
            Bytes::Shared(shared) => Some(shared.file.as_fd()),
        }
    }

    /// The bytes as a vector: themselves if nobody else has them, else a copy.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Bytes::Own(bytes) => Arc::unwrap_or_clone(bytes),
            Bytes::Lent(owner) => owner.bytes().to_vec(),
            Bytes::Shared(shared) => match Arc::try_unwrap(shared) {
                Ok(shared) => shared.read.into_inner().unwrap_or_else(|| read(&shared.file, shared.length)),
                Err(shared) => shared.bytes().to_vec(),
            },
        }
    }
}

impl SharedFile {
    fn bytes(&self) -> &[u8] {
        self.read.get_or_init(|| read(&self.file, self.length))
    }
}

fn read(file: &File, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0).expect("a sealed file in memory has the length that it had");
    bytes
}

impl From<Arc<Vec<u8>>> for Body {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Body(Bytes::Own(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Body::from(Arc::new(bytes))
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::from(Arc::default())
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Bytes::Own(bytes) => bytes,
            Bytes::Lent(owner) => owner.bytes(),
            Bytes::Shared(shared) => shared.bytes(),
        }
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Body {}

impl fmt::Debug for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} bytes", self.len())
    }
}

/// Why bytes could not be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The rank left or is lost.
    Gone(Rank),
    /// The library underneath failed: the call and what it said.
    Failed(&'static str, String),
}

impl fmt::Display for TransportError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransportError::Gone(rank) => write!(out, "rank {rank} is gone"),
            TransportError::Failed(call, why) => write!(out, "`{call}` failed: {why}"),
        }
    }
}

impl std::error::Error for TransportError {}

/// A rank's connection to all others.
///
/// One thread at a time uses it. Parcels from one rank to another arrive in the order they were sent, each
/// once; parcels of different pairs overtake each other. No call waits except `wait` and `close`.
pub trait Endpoint: Send {
    /// This rank.
    fn rank(&self) -> Rank;

    /// How many ranks there are, this one included.
    fn size(&self) -> u32;

    /// Hands over a parcel and returns at once; a large one is still under way then. To itself, a
    /// rank may send too.
    fn send(&mut self, to: Rank, parcel: Parcel) -> Result<(), TransportError>;

    /// The next parcel that has arrived, and who sent it.
    fn receive(&mut self) -> Result<Option<(Rank, Parcel)>, TransportError>;

    /// Lets time pass until something may have happened: a parcel came, the waker was used, or
    /// `limit` is over. May return early. Costs little CPU time however often it is called.
    fn wait(&mut self, limit: Duration);

    /// True if any thread may use it as long as one does so at a time; else only the thread that made it.
    fn is_for_any_thread(&self) -> bool;

    /// True while large parcels are under way, which advance only while somebody asks.
    fn is_in_transfer(&self) -> bool;

    /// What to do before asking again, now that `receive` brought nothing. Sleeps are ended by the waker.
    /// Who is at ease has nothing that waits for what may come, and need not stay awake for it.
    fn rest(&mut self, is_at_ease: bool) -> Rest;

    /// Ends a `wait`, or a sleep of who uses this endpoint, from another thread.
    fn waker(&self) -> Waker;

    /// Sees everything sent off. Nothing may be sent afterwards, and what has not been received is
    /// dropped. All ranks close when a run ends in order: this may wait until they do, but not for
    /// ever, and fails if one does not. To close again changes nothing.
    fn close(&mut self) -> Result<(), TransportError>;
}

/// What to do before asking again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Ask again at once.
    Again,
    /// Let others have the core, if they want it.
    Yield,
    /// Sleep so long, unless woken.
    Sleep(Duration),
    /// Sleep so long, unless woken from this process: what comes from other ranks can wait.
    Doze(Duration),
}

/// Ends the wait of one endpoint; cheap when nobody waits.
///
/// One thread waits, any number wake. What was written before `wake` is seen after the wait that
/// it ended.
#[derive(Clone, Debug)]
pub struct Waker {
    sleeper: Arc<dyn Sleeper>,
}

/// What a waker wakes.
pub trait Sleeper: fmt::Debug + Send + Sync {
    /// See `Waker::wake`.
    fn wake(&self);

    /// See `Waker::ring`.
    fn ring(&self);

    /// See `Waker::stir`.
    fn stir(&self);

    /// See `Waker::wait`.
    fn wait(&self, limit: Duration) -> bool;

    /// See `Waker::doze`.
    fn doze(&self, limit: Duration) -> bool;

    /// See `Waker::take`.
    fn take(&self) -> bool;
}

/// The word is enough for who is awake; lock and condition only put the waiting thread to sleep.
#[derive(Debug, Default)]
struct Wakeup {
    state: AtomicU8,
    lock: Mutex<()>,
    changed: Condvar,
}

/// Nobody waits, nobody called.
const QUIET: u8 = 0;
/// `wake` was called and no wait has ended by it yet.
const CALLED: u8 = 1;
/// The owner sleeps, or is about to, and holds the lock until it does.
const ASLEEP: u8 = 2;
/// The same, but it shall not be woken for what comes from other ranks.
const DOZING: u8 = 3;

impl Default for Waker {
    fn default() -> Self {
        Waker::of(Arc::<Wakeup>::default())
    }
}

impl Waker {
    /// A waker of something that can be woken in another way than from this process only.
    pub fn of(sleeper: Arc<dyn Sleeper>) -> Self {
        Waker { sleeper }
    }

    /// Ends the current wait, or the next one at once. Makes a system call only if the owner sleeps.
    pub fn wake(&self) {
        self.sleeper.wake();
    }

    /// The same, but leaves it alone if it dozes: something came from another rank.
    pub fn ring(&self) {
        self.sleeper.ring();
    }

    /// Ends the current doze, or the next one at once, but no other wait: from now on, what comes from other
    /// ranks cannot wait.
    pub fn stir(&self) {
        self.sleeper.stir();
    }

    /// Waits for `wake`, at most `limit`, but not for `ring`. True if it was called.
    pub fn doze(&self, limit: Duration) -> bool {
        self.sleeper.doze(limit)
    }

    /// Waits for `wake` or `ring`, at most `limit`. True if it was called.
    pub fn wait(&self, limit: Duration) -> bool {
        self.sleeper.wait(limit)
    }

    /// Whether `wake` was called since the last wait, without waiting; forgets it.
    pub fn take(&self) -> bool {
        self.sleeper.take()
    }
}

impl Sleeper for Wakeup {
    fn wake(&self) {
        if [ASLEEP, DOZING].contains(&self.state.swap(CALLED, Ordering::SeqCst)) {
            self.notify();
        }
    }

    fn ring(&self) {
        // Either this sees that it dozes no more, or it sees what came when it looks after its doze.
        fence(Ordering::SeqCst);
        if self.state.load(Ordering::SeqCst) != DOZING {
            self.wake();
        }
    }

    fn stir(&self) {
        let changed = self
            .state
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| (state != ASLEEP).then_some(CALLED));
        if changed == Ok(DOZING) {
            self.notify();
        }
    }

    fn wait(&self, limit: Duration) -> bool {
        self.rest(ASLEEP, limit)
    }

    fn doze(&self, limit: Duration) -> bool {
        self.rest(DOZING, limit)
    }

    fn take(&self) -> bool {
        self.state.load(Ordering::Acquire) == CALLED && self.state.swap(QUIET, Ordering::AcqRel) == CALLED
    }
}

impl Wakeup {
    fn notify(&self) {
        // The owner lets go of the lock by falling asleep: the notice cannot come too early.
        drop(self.lock.lock().expect("no thread panics holding this lock"));
        self.changed.notify_one();
    }

    fn rest(&self, how: u8, limit: Duration) -> bool {
        if limit.is_zero() {
            return self.take();
        }
        let guard = self.lock.lock().expect("no thread panics holding this lock");
        if self.state.compare_exchange(QUIET, how, Ordering::SeqCst, Ordering::Acquire).is_ok() {
            let rests = |_: &mut ()| self.state.load(Ordering::Acquire) == how;
            let waited = self.changed.wait_timeout_while(guard, limit, rests);
            drop(waited.expect("no thread panics holding this lock"));
        }
        self.state.swap(QUIET, Ordering::SeqCst) == CALLED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_in_a_file_is_its_bytes() {
        let file = nix::sys::memfd::memfd_create("body", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
        let file = File::from(file);
        file.write_all_at(b"large", 0).unwrap();
        let body = Body::shared(file, 5);
        assert_eq!((body.len(), body.file().is_some()), (5, true));
        let other = body.clone();
        assert_eq!((&*body, body.clone().into_vec()), (&b"large"[..], b"large".to_vec()));
        drop(body);
        assert_eq!(other.into_vec(), b"large");
    }

    /// A thread that dozes now, and ends with what its doze returns.
    fn dozer(wakeup: &Arc<Wakeup>) -> std::thread::JoinHandle<bool> {
        let owner = Arc::clone(wakeup);
        let dozer = std::thread::spawn(move || owner.doze(Duration::from_secs(60)));
        while wakeup.state.load(Ordering::SeqCst) != DOZING {
            std::thread::yield_now();
        }
        dozer
    }

    #[test]
    fn a_doze_is_ended_by_this_process_and_not_by_other_ranks() {
        let wakeup = Arc::<Wakeup>::default();
        let first = dozer(&wakeup);
        wakeup.ring();
        assert_eq!(wakeup.state.load(Ordering::SeqCst), DOZING);
        wakeup.wake();
        assert!(first.join().unwrap());
        let second = dozer(&wakeup);
        wakeup.stir();
        assert!(second.join().unwrap());
        assert!(!wakeup.doze(Duration::from_millis(1)));
    }

    #[test]
    fn a_sleep_is_ended_by_other_ranks() {
        let waker = Waker::default();
        waker.ring();
        assert!(waker.wait(Duration::from_secs(60)));
        waker.stir();
        assert!(waker.doze(Duration::from_secs(60)));
    }

    #[test]
    fn a_wake_before_the_wait_ends_it_once() {
        let waker = Waker::default();
        waker.wake();
        waker.wake();
        assert!(waker.wait(Duration::from_secs(60)));
        assert!(!waker.wait(Duration::from_millis(1)));
        assert!(!waker.take());
    }

    #[test]
    fn no_wake_is_lost_between_two_threads() {
        let (ping, pong) = (Waker::default(), Waker::default());
        let other = {
            let (ping, pong) = (ping.clone(), pong.clone());
            std::thread::spawn(move || {
                for _ in 0..2_000 {
                    assert!(ping.wait(Duration::from_secs(60)));
                    pong.wake();
                }
            })
        };
        for _ in 0..2_000 {
            ping.wake();
            assert!(pong.wait(Duration::from_secs(60)));
        }
        other.join().expect("the other thread counts along");
    }
}
