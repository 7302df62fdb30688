//! PILLAR. Readers of events: what a run is doing, and what it did. Nothing here asks the scheduler.

pub mod critical_path;
pub mod report;
#[cfg(test)]
mod scenario;
pub mod snapshot;
