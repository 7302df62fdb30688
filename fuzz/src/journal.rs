//! Files of a journal, made of any bytes.

use std::fs;
use std::path::PathBuf;

/// Bytes of a file's header, and of a frame before its payload.
const HEADER: usize = 40;
const FRAME: usize = 24;
/// What a frame begins with.
const MARK: [u8; 4] = [0xda, b'g', 0x0a, 0xf5];

/// A place for one journal at a time, in memory where that is possible.
pub struct Directory(PathBuf);

impl Directory {
    /// An empty one.
    pub fn new() -> Self {
        let memory = PathBuf::from("/dev/shm");
        let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
        let path = root.join(format!("dagmar-fuzz-{}", std::process::id()));
        fs::create_dir_all(&path).expect("the directory can be made");
        Directory(path)
    }

    /// Where the journal begins.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// Nothing but these segments; an empty second one is none.
    pub fn fill(&self, segments: &[Vec<u8>; 2]) {
        for entry in fs::read_dir(&self.0).expect("the directory is there").flatten() {
            let _ = fs::remove_file(entry.path());
        }
        fs::write(self.journal(), &segments[0]).expect("the disk takes it");
        if !segments[1].is_empty() {
            fs::write(self.0.join("journal.2"), &segments[1]).expect("the disk takes it");
        }
    }
}

impl Default for Directory {
    fn default() -> Self {
        Directory::new()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the checksums of all headers and frames fit.
pub fn sign(segment: &mut [u8]) {
    let mut id = [0; 16];
    for start in [0, 4096] {
        let Some(header) = segment.get_mut(start..start + HEADER) else { continue };
        if header.starts_with(b"dagmar\0J") {
            id.copy_from_slice(&header[12..28]);
            let crc = crc32fast::hash(&header[..36]);
            header[36..].copy_from_slice(&crc.to_le_bytes());
        }
    }
    let mut at = 0;
    while let Some(frame) = segment.get_mut(at..).filter(|rest| rest.len() >= FRAME) {
        let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        let end = FRAME.saturating_add(length);
        if !frame.starts_with(&MARK) || end > frame.len() {
            at += 1;
            continue;
        }
        let mut hasher = crc32fast::Hasher::new();
        [&id[..], &frame[..20], &frame[FRAME..end]].into_iter().for_each(|part| hasher.update(part));
        frame[20..FRAME].copy_from_slice(&hasher.finalize().to_le_bytes());
        at += end;
    }
}
