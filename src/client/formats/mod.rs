//! Graph files and everything else that a graph is made from.
//!
//! A file passes five stages, and each imports only from those before it:
//!
//! 1. `text`: bytes become a tree of values that know where they stand, so that every error names a
//!    line. TOML and JSON are the same from here on.
//! 2. `disk`: what graph files name on disk.
//! 3. `description`: the parts that tasks are described with.
//! 4. `schema`: the tree becomes such a description, field by field.
//! 5. `assembly`: the description becomes a `Graph`, element by element.
//!
//! `reader` walks a file through them. `wfformat` takes `text` and goes its own way from
//! there; `quick` and `make` reach a `Graph` without a file; `outline`
//! and `request` look at a finished one. What a stage has for later ones is `pub` and named in its
//! `mod.rs`. Nothing here runs anything. Packed graphs belong to `record`: `Kind::of` tells them apart
//! and the caller reads them.

mod assembly;
mod description;
mod disk;
pub mod make;
pub mod outline;
pub mod quick;
mod reader;
mod request;
mod schema;
#[cfg(test)]
mod tests;
mod text;
mod wfformat;

pub use description::{Functions, quote};
pub use disk::FILE_BYTES_MAX;
pub use reader::{read, read_bytes};
pub use request::{RequestError, resolve};
pub use text::{GraphFileError, Kind, Problem, units};
pub use wfformat::{Pastime, Replay, read_wfformat};
