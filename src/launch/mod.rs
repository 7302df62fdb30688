//! PILLAR. Batch systems: what is asked of them, what they answer, and how a run is started inside
//! an allocation.

pub mod allocation;
pub mod batch;
pub mod local;
pub mod pbs;
pub mod plan;
pub mod poll;
pub mod slurm;
