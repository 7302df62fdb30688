//! PILLAR. What is on disk: the run directory, its journal and packs, the mailbox, the lease, the packed
//! graph.
//!
//! Whatever is read here may be damaged, cut short or made up: every length is compared with the
//! bytes that are there before anything is allocated, and nothing that is read can cause a panic.

pub mod claim;
pub mod commit;
pub mod description;
pub mod edits;
pub mod encoding;
pub mod frame;
pub mod frame_reader;
pub mod journal;
mod journal_reader;
pub mod last_words;
pub mod layout;
pub mod lease;
pub mod mailbox;
pub mod mapping;
pub mod outcome;
pub mod owner;
pub mod pack;
pub mod pack_reader;
pub mod packed;
pub mod piece;
pub mod publish;
pub mod rendezvous;
pub mod resume;
pub mod segment;
pub mod submission;
