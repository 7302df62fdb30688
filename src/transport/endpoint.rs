//! One rank's connection to the others. Threads of one process and MPI look the same behind it.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use crate::core::id::Rank;

/// A message as it travels: a short head, which the codec knows, and a body that is passed through
/// untouched, such as an output's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parcel {
    /// The encoded message.
    pub head: Vec<u8>,
    /// Bytes that come with it; often none. Any length, over 2 GiB too.
    pub body: Arc<Vec<u8>>,
}

/// Why bytes could not be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportError {
    /// The rank left or is lost.
    Gone(Rank),
    /// The library underneath failed: the call and what it said.
    Failed(&'static str, String),
}

/// A rank's connection to all others.
///
/// One thread owns it. Parcels from one rank to another arrive in the order they were sent, each
/// once; parcels of different pairs overtake each other. No call waits except `wait`.
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

    /// Ends a `wait` of this endpoint from another thread.
    fn waker(&self) -> Waker;

    /// Sees everything sent off. Nothing may be sent afterwards.
    fn close(&mut self) -> Result<(), TransportError>;
}

/// Ends the wait of one endpoint; cheap when nobody waits.
#[derive(Clone, Debug, Default)]
pub struct Waker {
    shared: Arc<Wakeup>,
}

#[derive(Debug, Default)]
struct Wakeup {
    called: Mutex<bool>,
    changed: Condvar,
}

impl Waker {
    /// Ends the current wait, or the next one at once.
    pub fn wake(&self) {
        let mut called = self.shared.called.lock().expect("no thread panics holding this lock");
        if !*called {
            *called = true;
            self.shared.changed.notify_one();
        }
    }

    /// Waits for `wake`, at most `limit`. True if it was called.
    pub fn wait(&self, limit: Duration) -> bool {
        let called = self.shared.called.lock().expect("no thread panics holding this lock");
        let waited = self.shared.changed.wait_timeout_while(called, limit, |called| !*called);
        let (mut called, _) = waited.expect("no thread panics holding this lock");
        std::mem::take(&mut *called)
    }
}
