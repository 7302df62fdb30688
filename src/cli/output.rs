//! What commands print on standard output.

use std::io::{self, BufWriter, ErrorKind, Read, StdoutLock, Write};

use serde::Serialize;

use super::failure::Failure;

/// How a command tells its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON value, for programs.
    Json,
}

/// Standard output, buffered.
pub struct Page {
    out: BufWriter<StdoutLock<'static>>,
    is_in_line: bool,
}

impl Page {
    /// Takes standard output.
    pub fn open() -> Self {
        Page { out: BufWriter::new(io::stdout().lock()), is_in_line: false }
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.is_in_line = bytes.last().map_or(self.is_in_line, |last| *last != b'\n');
        self.out.write_all(bytes).or_else(survive)
    }

    /// Writes everything that `source` gives, bit by bit, and returns how many bytes that were.
    pub fn copy(&mut self, source: &mut impl Read) -> Result<u64, Failure> {
        let mut buffer = vec![0; 65_536];
        let mut total = 0;
        loop {
            let read = source.read(&mut buffer);
            let count = read.map_err(|error| Failure::broken(format!("cannot read the output: {error}")))?;
            if count == 0 {
                return Ok(total);
            }
            total += count as u64;
            self.bytes(&buffer[..count])?;
        }
    }

    /// Ends a line that has begun.
    pub fn end_line(&mut self) -> Result<(), Failure> {
        if self.is_in_line { self.bytes(b"\n") } else { Ok(()) }
    }

    /// Writes a line.
    pub fn line(&mut self, line: impl AsRef<str>) -> Result<(), Failure> {
        self.bytes(line.as_ref().as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a value as one line of JSON.
    pub fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| Failure::broken(error.to_string()))?;
        self.line(text)
    }

    /// Sees everything off.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().or_else(survive)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.out.flush();
    }
}

/// A reader that has seen enough is no failure.
fn survive(error: io::Error) -> Result<(), Failure> {
    match error.kind() {
        ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure::broken(format!("cannot write to standard output: {error}"))),
    }
}

/// Tells a person something that is no result: a line on standard error.
pub fn tell(line: &str) {
    tell_all(&format!("{line}\n"));
}

/// Tells a person some lines, in one piece, as other ranks may write there too. Nobody has to
/// listen: `eprintln!` would panic where standard error is a pipe whose reader is gone.
pub fn tell_all(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
