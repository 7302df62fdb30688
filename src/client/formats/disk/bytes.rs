//! Whole files read into memory, but never more than a file of text has.

use std::io::Read as _;
use std::path::Path;

use crate::client::formats::text::uncapitalised;

/// The largest file that is read as text. Larger graphs have `each`, or are packed.
pub const FILE_BYTES_MAX: u64 = 256 << 20;

/// A file's bytes, or the first of them if it has more than are read.
pub fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An operating system's reason without its number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    uncapitalised(text.split(" (os error").next().unwrap_or(&text))
}
