//! PILLAR. Batch systems: what is asked of them, what they answer, and how a run is started inside
//! an allocation.

pub mod batch;
pub mod plan;
pub mod start;
pub mod supervise;
