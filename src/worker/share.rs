//! What of its node a worker may use, thing by thing, where its capacity only counts.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::hardware::{Cpu, Gpu};

/// A worker's part of its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its CPUs, neighbours together. Empty if it is known how many it has, but not which.
    pub cpus: Vec<Cpu>,
    /// Its GPUs: as many as its capacity counts.
    pub gpus: Vec<Gpu>,
    /// Whether tasks are kept on their CPUs.
    pub bind: Bind,
    /// Bytes of memory that outputs may take; none if there is no limit.
    pub memory_limit: Option<u64>,
    /// Bytes that they may take on the node's disk; none if there is no limit.
    pub scratch_limit: Option<u64>,
}

/// What the processes of a task are bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bind {
    /// Nothing: the system moves them among all CPUs that the rank was started with.
    #[default]
    None,
    /// The CPUs of the task's slot.
    Cores,
}

impl Share {
    /// The numbers of its CPUs, sorted.
    pub fn cpu_ids(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.cpus.iter().map(|cpu| cpu.id).collect();
        ids.sort_unstable();
        ids
    }

    /// How many cores its CPUs are in: fewer than CPUs where cores have several hardware threads.
    pub fn core_count(&self) -> usize {
        self.cpus.iter().map(|cpu| (cpu.package, cpu.core)).collect::<BTreeSet<_>>().len()
    }

    /// True if tasks are bound: it was asked for, and it is known to what.
    pub fn is_binding(&self) -> bool {
        self.bind == Bind::Cores && !self.cpus.is_empty()
    }
}
