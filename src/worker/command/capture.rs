//! What a program prints: read from a pipe and passed on chunk by chunk, kept only on request.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};

use crate::core::event::Cause;
use crate::core::id::{Attempt, TaskId};
use crate::worker::lines::Lines;
use crate::worker::sink::{CapturedStream, OutputSink};

/// Bytes read at once. Larger ones gain nothing, as a pipe holds as much.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks read from one stream before others get their turn.
const CHUNKS_PER_TURN: usize = 16;

/// One captured stream of a running program.
pub struct Capture {
    pub task: TaskId,
    pub attempt: Attempt,
    pub stream: CapturedStream,
    /// Bytes past which the attempt fails.
    pub limit: u64,
    /// The bytes so far, if other tasks take them.
    pub kept: Option<Vec<u8>>,
    /// The unfinished line, if lines are handed on.
    pub line: Option<Lines>,
    /// Bytes seen so far.
    pub size: u64,
    /// The end that does not block.
    pub pipe: Option<File>,
    /// The program's end, held open here as well: otherwise the end of every program would be heard
    /// first from its pipes, one by one, and then again from its keeper, which alone counts.
    pub held: Option<Arc<OwnedFd>>,
}

impl Capture {
    /// The pipe, while there may be more.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there. An error is a fault that ends the attempt; reading stops with it.
    pub fn advance(&mut self, sink: &mut dyn OutputSink, buffer: &mut [u8]) -> Result<(), Cause> {
        self.read_up_to(CHUNKS_PER_TURN * CHUNK_BYTES, sink, buffer)
    }

    /// Reads what is left once the program is gone, and closes the pipe even if somebody else
    /// still holds the other end.
    pub fn finish(&mut self, sink: &mut dyn OutputSink, buffer: &mut [u8]) -> Result<(), Cause> {
        let result = self.read_rest(sink, buffer);
        (self.pipe, self.held) = (None, None);
        if let Some(line) = self.line.take().and_then(Lines::rest) {
            sink.forward(self.task, self.stream, &line);
        }
        result
    }

    /// Most programs left nothing to read, or no more than fits into one chunk. No more than a full pipe
    /// follows it, as somebody else may write on.
    fn read_rest(&mut self, sink: &mut dyn OutputSink, buffer: &mut [u8]) -> Result<(), Cause> {
        let size = self.size;
        self.read_up_to(1, sink, buffer)?;
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.size > size) else { return Ok(()) };
        let held = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).unwrap_or(0);
        self.read_up_to(usize::try_from(held).unwrap_or(0), sink, buffer)
    }

    fn read_up_to(&mut self, most: usize, sink: &mut dyn OutputSink, buffer: &mut [u8]) -> Result<(), Cause> {
        let mut read = 0;
        while let (Some(pipe), true) = (&mut self.pipe, read < most) {
            match pipe.read(buffer) {
                Ok(0) => self.pipe = None,
                Ok(count) => {
                    read += count;
                    self.take(&buffer[..count], sink).inspect_err(|_| self.pipe = None)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => self.pipe = None,
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8], sink: &mut dyn OutputSink) -> Result<(), Cause> {
        let room = usize::try_from(self.limit - self.size).unwrap_or(usize::MAX);
        let within = &bytes[..bytes.len().min(room)];
        self.size += within.len() as u64;
        if !within.is_empty() {
            sink.append(self.task, self.attempt, self.stream, within).map_err(Cause::NotRecorded)?;
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(within);
        }
        self.forward_lines(within, sink);
        if within.len() < bytes.len() { Err(Cause::CaptureLimit(self.limit)) } else { Ok(()) }
    }

    fn forward_lines(&mut self, bytes: &[u8], sink: &mut dyn OutputSink) {
        if let Some(lines) = self.line.as_mut().and_then(|line| line.take(bytes)) {
            sink.forward(self.task, self.stream, &lines);
        }
    }
}

/// Makes a pipe whose first end, of which one is kept here, does not block.
pub fn pipe_to_read() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // A new pipe has no flags that this could take away.
    fcntl(&ours, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
    Ok((ours, theirs))
}

/// Makes a descriptor block or not.
pub fn set_nonblocking(descriptor: impl AsFd, nonblocking: bool) -> io::Result<()> {
    use nix::fcntl::OFlag;
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    let flags = if nonblocking { flags | OFlag::O_NONBLOCK } else { flags - OFlag::O_NONBLOCK };
    fcntl(&descriptor, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Forwarded(Vec<Vec<u8>>);

    impl OutputSink for Forwarded {
        fn append(&mut self, _: TaskId, _: Attempt, _: CapturedStream, _: &[u8]) -> Result<(), String> {
            Ok(())
        }

        fn forward(&mut self, _: TaskId, _: CapturedStream, bytes: &[u8]) {
            self.0.push(bytes.to_vec());
        }
    }

    fn capture(limit: u64) -> Capture {
        Capture {
            task: TaskId(0),
            attempt: Attempt::FIRST,
            stream: CapturedStream::Stdout,
            limit,
            kept: Some(Vec::new()),
            line: Some(Lines::default()),
            size: 0,
            pipe: None,
            held: None,
        }
    }

    #[test]
    fn lines_are_handed_on_whole() {
        let (mut capture, mut lines) = (capture(100), Forwarded::default());
        for piece in ["a", "b\nc", "\n\nd", "e"] {
            capture.take(piece.as_bytes(), &mut lines).unwrap();
        }
        capture.finish(&mut lines, &mut []).unwrap();
        assert_eq!(lines.0, [&b"ab\n"[..], b"c\n\n", b"de"]);
    }

    #[test]
    fn exactly_the_limit_is_allowed() {
        let (mut capture, mut lines) = (capture(3), Forwarded::default());
        assert_eq!(capture.take(b"abc", &mut lines), Ok(()));
        assert_eq!(capture.take(b"d", &mut lines), Err(Cause::CaptureLimit(3)));
        assert_eq!(capture.kept.unwrap(), b"abc");
    }
}
