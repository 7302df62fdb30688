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
mod python;
mod resources;
mod resuming;
mod script;
mod session;
mod shapes;
mod shortage;
mod signals;
mod skipping;
mod slots;
mod ulfm;
mod views;

use std::fs;

use harness::Place;

/// The lines that tasks have written into the file `log` since the last look, sorted.
fn ran(place: &Place) -> Vec<String> {
    let path = place.path().join("log");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let _ = fs::remove_file(path);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}
