//! A file that is used where the system keeps it: nothing is copied, and what is not looked at is
//! not read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use crate::core::graph::Numbers;

/// A file's bytes, for as long as this or a column of it lives.
#[derive(Clone)]
pub struct Mapping(Arc<Mmap>);

impl Mapping {
    /// Maps a whole file. It must not become shorter while it is mapped: a look behind its end would
    /// end the process.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the bytes are only read, as numbers, and every number is checked against a length
        // before it is an index; so a file that is changed from outside gives wrong answers, or a
        // panic, and no access outside the columns.
        #[allow(unsafe_code)]
        let mapped = unsafe { Mmap::map(file)? };
        Ok(Mapping(Arc::new(mapped)))
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Numbers of the file, which start at a multiple of four bytes.
    pub fn column(&self, range: Range<usize>) -> Numbers {
        let words: &[u32] = bytemuck::cast_slice(&self.0[range]);
        // SAFETY: the numbers stay where they are until the last `Arc` of the mapping is dropped. The
        // column holds one, and hands out no slice that lives longer than itself.
        #[allow(unsafe_code)]
        let words = unsafe { std::slice::from_raw_parts::<'static, u32>(words.as_ptr(), words.len()) };
        Numbers::lent(words, self.0.clone())
    }
}
