//! A file on the node's own disk for outputs that left memory.
//!
//! It has no name: it is unlinked as soon as it is open, so nobody else can open it, and the system
//! frees it however this process ends. Nothing is ever left for others to find and delete.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// Parts of the file begin at multiples of this, so that released ones fit others.
const GRAIN: u64 = 4096;

/// The file, and which parts of it are in use.
#[derive(Debug)]
pub struct Scratch {
    file: File,
    directory: PathBuf,
    limit: u64,
    parts: Mutex<Parts>,
}

/// A part of the file that holds the bytes of one output. Dropping it releases it.
#[derive(Debug)]
pub struct Part {
    scratch: Arc<Scratch>,
    begin: u64,
    bytes: u64,
    is_written: bool,
}

/// Released parts by their beginning, and where what was never used begins.
#[derive(Debug, Default)]
struct Parts {
    free: BTreeMap<u64, u64>,
    end: u64,
    /// Bytes in use.
    used: u64,
    /// How often one was released that had been written.
    releases: u64,
}

impl Scratch {
    /// A file in `directory` that holds at most `limit` bytes.
    pub fn create(directory: &Path, limit: u64) -> io::Result<Arc<Self>> {
        // Numbered by process and attempt: threads of one process are workers, too.
        let mut number = 0;
        let file = loop {
            let path = directory.join(format!(".dagmar-{}-{number}", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => {
                    fs::remove_file(&path)?;
                    break file;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        let (directory, parts) = (directory.to_owned(), Mutex::default());
        Ok(Arc::new(Scratch { file, directory, limit, parts }))
    }

    /// Writes bytes into a part of their own.
    pub fn write(self: &Arc<Self>, bytes: &[u8]) -> io::Result<Part> {
        let length = bytes.len() as u64;
        let begin = self.parts().take(length, self.limit).ok_or_else(|| {
            io::Error::new(io::ErrorKind::StorageFull, "outputs may take no more there (`--scratch-limit`)")
        })?;
        let mut part = Part { scratch: self.clone(), begin, bytes: length, is_written: false };
        self.file.write_all_at(bytes, begin)?;
        part.is_written = true;
        Ok(part)
    }

    /// Where the file was made.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> u64 {
        self.parts().used
    }

    /// How often a part that was written was released so far.
    pub fn releases(&self) -> u64 {
        self.parts().releases
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().expect("no thread panics holding this lock")
    }
}

impl Part {
    /// The bytes that were written.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.bytes).map_err(io::Error::other)?];
        self.scratch.file.read_exact_at(&mut bytes, self.begin)?;
        Ok(bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut parts = self.scratch.parts();
        parts.give(self.begin, self.bytes);
        parts.releases += u64::from(self.is_written);
    }
}

fn rounded(bytes: u64) -> u64 {
    bytes.next_multiple_of(GRAIN)
}

impl Parts {
    /// The first part that is large enough, or one at the end.
    fn take(&mut self, bytes: u64, limit: u64) -> Option<u64> {
        let length = rounded(bytes);
        if self.used + length > limit {
            return None;
        }
        self.used += length;
        let fitting = self.free.iter().find(|(_, free)| **free >= length);
        let Some((begin, free)) = fitting.map(|(begin, free)| (*begin, *free)) else {
            self.end += length;
            return Some(self.end - length);
        };
        self.free.remove(&begin);
        if free > length {
            self.free.insert(begin + length, free - length);
        }
        Some(begin)
    }

    /// Released parts that touch each other become one.
    fn give(&mut self, begin: u64, bytes: u64) {
        let mut length = rounded(bytes);
        self.used -= length;
        let mut begin = begin;
        if length == 0 {
            return;
        }
        if let Some(free) = self.free.remove(&(begin + length)) {
            length += free;
        }
        if let Some((&before, &free)) = self.free.range(..begin).next_back()
            && before + free == begin
        {
            (begin, length) = (before, length + free);
        }
        match begin + length == self.end {
            true => {
                self.free.remove(&begin);
                self.end = begin;
            }
            false => drop(self.free.insert(begin, length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_leaves_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(directory.path(), u64::MAX).unwrap();
        let parts: Vec<Part> = (0..5_u8).map(|byte| scratch.write(&vec![byte; 5_000]).unwrap()).collect();
        for (byte, part) in parts.iter().enumerate() {
            assert_eq!(part.read().unwrap(), vec![byte as u8; 5_000]);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn released_parts_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(directory.path(), u64::MAX).unwrap();
        let mut parts: Vec<Part> = (0..4).map(|_| scratch.write(&[1; 4096]).unwrap()).collect();
        let end = scratch.parts().end;
        parts.drain(1..3);
        let large = scratch.write(&[2; 8192]).unwrap();
        assert_eq!((large.begin, scratch.parts().end), (4096, end));
        drop((large, parts));
        let parts = scratch.parts();
        assert_eq!((parts.used, parts.end, parts.free.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_past_its_limit_is_refused_as_by_a_full_disk() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Scratch::create(directory.path(), 10_000).unwrap();
        let first = scratch.write(&[1; 8_000]).unwrap();
        assert_eq!(scratch.write(&[1; 8_000]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(scratch.releases(), 0);
        drop(first);
        assert_eq!(scratch.releases(), 1);
        assert!(scratch.write(&[1; 8_000]).is_ok());
    }
}
