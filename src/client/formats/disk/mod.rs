//! Second stage: what graph files name on disk.
//!
//! It owns every look at the disk (files read whole, patterns matched, directories made absolute)
//! and how paths are written. It never writes, and it never knows which task a file is for.

mod bytes;
mod paths;
mod patterns;
mod walk;

pub use bytes::{FILE_BYTES_MAX, read_limited, reason};
pub use paths::{absolute, absolute_directory, absolute_text, shown};
pub use patterns::{FilePattern, exists, files_matching, is_wild};
pub use walk::Listings;
