//! The product as users meet it: the real binary, alone and under `mpirun`.
//!
//! Each module shows one promise of the design. Everything waits for conditions with a bound.

#[path = "../harness/mod.rs"]
mod harness;

mod bad_graphs;
mod culprits;
mod editing;
mod failures;
mod faults;
mod full_disks;
mod imports;
mod memory;
mod mpi_programs;
mod obstacles;
mod outputs;
mod publishing;
mod resources;
mod resuming;
mod shapes;
mod shortage;
mod signals;
mod skipping;
mod slots;
mod ulfm;
mod views;
