//! Where captured bytes go: the contract between running commands and the rank's packs.

use crate::core::id::{Attempt, TaskId};

/// One of the two streams that are captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CapturedStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Where captured bytes go. Called by the thread that serves all commands of a rank, so it must
/// be quick: while it waits, no output is read.
pub trait OutputSink: Send {
    /// Adds a piece of a stream, in order. An error fails the attempt; its text says what could
    /// not be written and why.
    fn append(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        stream: CapturedStream,
        bytes: &[u8],
    ) -> Result<(), String>;

    /// Hands on bytes of a stream that goes to the standard stream of `dagmar run`: whole lines,
    /// except for the end of the stream and for lines over 64 KiB.
    fn forward(&mut self, task: TaskId, stream: CapturedStream, bytes: &[u8]);
}
