//! PILLAR. Bytes from rank to rank, whatever carries them.

pub mod codec;
#[doc(hidden)]
pub mod conformance;
pub mod control;
pub mod endpoint;
pub mod inproc;
pub mod launcher;
#[cfg(feature = "mpi")]
pub mod mpi;

#[cfg(feature = "mpi")]
mod arrivals;
mod backoff;
#[cfg(feature = "mpi")]
mod departures;
mod reader;
