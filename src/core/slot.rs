//! What a running task is bound to: which CPUs, GPUs and instances, where `resources` only counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The things that one attempt holds while it runs. Nobody else on its worker holds them too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The CPUs that its processes may run on, by their numbers on the node. Empty if it is not bound.
    pub cpus: Vec<u32>,
    /// Its GPUs, as they are called on the node.
    pub gpus: Vec<String>,
    /// Which instances it has of each named resource, counted from 0 on its worker.
    pub custom: BTreeMap<String, Vec<u32>>,
}

impl Slot {
    /// True if the task holds nothing in particular.
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty() && self.gpus.is_empty() && self.custom.is_empty()
    }
}
