//! PILLAR. Bytes from rank to rank, whatever carries them.

pub mod endpoint;
