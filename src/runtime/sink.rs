//! Where a worker's captured bytes go: into the rank's pack, and to rank 0 if they are forwarded.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam_channel::Sender;

use crate::core::event::Cause;
use crate::core::id::{Attempt, TaskId};
use crate::record::pack::{PackWriter, Piece};
use crate::transport::endpoint::Waker;
use crate::worker::output::Output;
use crate::worker::pool::Recorder;
use crate::worker::sink::{CapturedStream, OutputSink};

use super::envelope::{Envelope, StandardStream};
use super::syncing::{Queue, Written};

/// The rank's pack, shared by its loop, the thread that serves its commands and the one that syncs it.
#[derive(Clone, Debug)]
pub struct SharedPack {
    pack: Arc<Mutex<PackWriter>>,
    unsynced: Arc<Queue>,
}

impl SharedPack {
    /// Shares a pack. Every output that is to be durable is in `unsynced`, too.
    pub fn new(pack: PackWriter, unsynced: Arc<Queue>) -> Self {
        SharedPack { pack: Arc::new(Mutex::new(pack)), unsynced }
    }

    /// An attempt left everything that it leaves, in the pack and in files.
    pub fn end(&self, written: Written) {
        self.lock().end(written.task, written.attempt);
        // Nobody looks once a sync has failed, and then the run ends.
        self.unsynced.push(written);
    }

    /// The pack, for this thread alone.
    pub fn lock(&self) -> MutexGuard<'_, PackWriter> {
        self.pack.lock().expect("no thread panics while it writes the pack")
    }

    /// Hands everything written so far to the system, so that it outlives this process.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().flush()
    }
}

impl Recorder for SharedPack {
    fn record(
        &self,
        task: TaskId,
        attempt: Attempt,
        output: &Output,
        files: Vec<PathBuf>,
    ) -> Result<(), Cause> {
        let value = Envelope::body_of(output);
        let mut pack = self.lock();
        if let Err(error) = pack.append(task, attempt, Piece::Value, &value) {
            return Err(Cause::NotRecorded(format!("cannot write `{}`: {error}", pack.path().display())));
        }
        drop(pack);
        self.end(Written { task, attempt, files });
        Ok(())
    }
}

/// Bytes on their way to a standard stream of `dagmar run`.
pub type Forwarded = (StandardStream, Vec<u8>);

/// The sink of one rank's commands.
pub struct PackSink {
    /// Where everything goes.
    pub pack: SharedPack,
    /// Where forwarded bytes go besides.
    pub forwarded: Sender<Forwarded>,
    /// Wakes the loop that sends them on.
    pub waker: Waker,
}

impl OutputSink for PackSink {
    fn append(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        stream: CapturedStream,
        bytes: &[u8],
    ) -> Result<(), String> {
        let piece = match stream {
            CapturedStream::Stdout => Piece::Stdout,
            CapturedStream::Stderr => Piece::Stderr,
        };
        let mut pack = self.pack.lock();
        pack.append(task, attempt, piece, bytes)
            .map_err(|error| format!("cannot write `{}`: {error}", pack.path().display()))
    }

    fn forward(&mut self, _task: TaskId, stream: CapturedStream, bytes: &[u8]) {
        let stream = match stream {
            CapturedStream::Stdout => StandardStream::Out,
            CapturedStream::Stderr => StandardStream::Err,
        };
        // The loop ends after its executors, so somebody listens.
        let _ = self.forwarded.send((stream, bytes.to_vec()));
        self.waker.wake();
    }
}
