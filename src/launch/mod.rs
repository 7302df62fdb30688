//! PILLAR. Batch systems: what is asked of them, what they answer, and how a run is started inside
//! an allocation.

pub mod allocation;
pub mod batch;
pub mod field;
pub mod given;
pub mod limits;
pub mod local;
pub mod pbs;
pub mod plan;
pub mod poll;
pub mod request;
pub mod rule;
pub mod script;
pub mod slurm;
pub mod start;
pub mod supervise;
pub mod template;
pub mod units;
