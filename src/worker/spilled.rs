//! One output on the node's disk.

use std::io;
use std::sync::{Arc, Mutex, Weak};

use super::output::Output;
use super::plain::{self, Form};
use super::scratch::{Part, Scratch};

/// How outputs that are no plain bytes are written and read.
#[derive(Clone, Copy, Debug)]
pub struct Coding {
    /// An output as bytes.
    pub encode: fn(&Output) -> Vec<u8>,
    /// The output that bytes stand for, or what is wrong with them.
    pub decode: fn(Vec<u8>) -> Result<Output, String>,
}

/// An output that was written. Its part of the disk is released when nobody has it any more.
#[derive(Debug)]
pub struct Spilled {
    part: Part,
    form: Form,
    bytes: u64,
    /// What was read last, as long as somebody holds it: several that want it at once read it once.
    read: Mutex<Weak<Output>>,
}

impl Spilled {
    /// Writes an output. Plain bytes go from where they lie.
    pub fn write(output: &Output, scratch: &Arc<Scratch>, coding: Coding) -> io::Result<Self> {
        let encoded;
        let (form, bytes) = match plain::plain(output) {
            Some(plain) => plain,
            None => {
                encoded = (coding.encode)(output);
                (Form::Encoded, encoded.as_slice())
            }
        };
        let part = scratch.write(bytes)?;
        Ok(Spilled { part, form, bytes: bytes.len() as u64, read: Mutex::default() })
    }

    /// Reads it. Waits for the disk, so no thread does it that moves messages.
    pub fn read(&self, coding: Coding) -> io::Result<Arc<Output>> {
        let mut read = self.read.lock().expect("no thread panics holding this lock");
        if let Some(output) = read.upgrade() {
            return Ok(output);
        }
        let output = plain::output_of(self.form.clone(), self.part.read()?);
        let output = output.or_else(|encoded| (coding.decode)(encoded).map_err(io::Error::other))?;
        let output = Arc::new(output);
        *read = Arc::downgrade(&output);
        Ok(output)
    }

    /// How many bytes it takes on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
