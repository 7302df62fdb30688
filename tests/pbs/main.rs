//! dagmar through a PBS, and through this machine alone: submitted, looked after, ended in every way.
//!
//! The PBS is the one of `harness/fake_pbs`: its commands come first on `PATH`, its only node is this
//! machine, and it really runs the job scripts.

#[path = "../harness/mod.rs"]
mod harness;

mod chain;
mod ends;
mod local;
mod looks;
mod site;
mod submission;
mod templates;
