//! What a program reads: an output of another task, written into a pipe as the program takes it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::core::value::Value;
use crate::worker::json::to_json;
use crate::worker::output::Output;

/// Bytes on their way into a program. They stay where they are, shared with other tasks.
pub struct Feed {
    bytes: Bytes,
    written: usize,
    pipe: File,
}

enum Bytes {
    Shared(Arc<Output>),
    Made(Vec<u8>),
}

impl Feed {
    /// Bytes of `output` for the pipe: captured bytes, text and bytes as they are, everything
    /// else as JSON. `pipe` does not block.
    pub fn new(output: Arc<Output>, pipe: OwnedFd) -> Result<Self, String> {
        let bytes = match &*output {
            Output::Captured(_) | Output::Value(Value::Text(_) | Value::Bytes(_)) => Bytes::Shared(output),
            Output::Value(value) => Bytes::Made(to_json(value)?),
            Output::Typed(typed) => {
                return Err(format!(
                    "its input is a `{}`, which only functions of its program take",
                    typed.type_name()
                ));
            }
        };
        Ok(Feed { bytes, written: 0, pipe: File::from(pipe) })
    }

    /// The pipe, which is writable when `advance` has something to do.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Writes what the pipe takes. True when all is written or the program reads no more; the
    /// feed must then be dropped, which closes the pipe.
    pub fn advance(&mut self) -> bool {
        let bytes = self.bytes.as_slice();
        while self.written < bytes.len() {
            match self.pipe.write(&bytes[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        true
    }
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Made(bytes) => bytes,
            Bytes::Shared(output) => match &**output {
                Output::Captured(bytes) | Output::Value(Value::Bytes(bytes)) => bytes,
                Output::Value(Value::Text(text)) => text.as_bytes(),
                Output::Value(_) | Output::Typed(_) => &[],
            },
        }
    }
}
