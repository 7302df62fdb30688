//! dagmar on a real Slurm: submitted, run on several nodes, looked after from outside.
//!
//! `scripts/testbed/slurm up` makes the cluster, and `DAGMAR_TESTBED` names its directory. Where it
//! is not set nothing here can run, and each test says so; `scripts/test testbed` does all of it.
#![cfg(feature = "mpi")]

#[path = "../harness/mod.rs"]
mod harness;

mod by_hand;
mod chain;
mod clients;
mod ends;
mod launchers;
mod losses;
mod submission;
mod testbed;
