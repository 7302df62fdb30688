//! Nodes, workers, cores, memory: what they come to.

use std::collections::BTreeMap;

use crate::launch::batch::System;
use crate::launch::given::{Given, Value};
use crate::launch::rule::Refusal;
use crate::launch::units;

use super::RequestError;

/// The geometry that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Nodes, all of which work.
    pub nodes: u32,
    /// Workers on each of them.
    pub workers_per_node: u32,
    /// Cores of each worker, if that is said.
    pub cpus_per_worker: Option<u32>,
    /// GPUs of each node.
    pub gpus_per_node: Option<u32>,
    /// Memory.
    pub memory: Memory,
}

/// How memory is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Not at all.
    None,
    /// Bytes of each node.
    PerNode(u64),
    /// Bytes of each core.
    PerCpu(u64),
    /// All that the nodes have.
    All,
}

type Values = BTreeMap<&'static str, Given>;

impl Shape {
    /// The geometry that checked values come to.
    pub fn of(values: &Values, system: System) -> Result<Self, RequestError> {
        let nodes = count(values, "nodes").unwrap_or(1);
        let workers_per_node = workers(values)?;
        let cpus_per_worker = cpus(values, workers_per_node)?;
        let gpus_per_node = count(values, "gpus_per_node");
        let memory = memory(values, system)?;
        let shape = Shape { nodes, workers_per_node, cpus_per_worker, gpus_per_node, memory };
        shape.check(values, system)?;
        Ok(shape)
    }

    /// Cores of each node: those of its workers, one for each if nothing is said.
    pub fn cpus_per_node(&self) -> u64 {
        u64::from(self.workers_per_node) * u64::from(self.cpus_per_worker.unwrap_or(1))
    }

    /// Workers on all nodes.
    pub fn workers(&self) -> u64 {
        u64::from(self.nodes) * u64::from(self.workers_per_node)
    }

    /// Bytes of each node, if an amount is said.
    pub fn memory_per_node(&self) -> Option<u64> {
        match self.memory {
            Memory::PerNode(bytes) => Some(bytes),
            Memory::PerCpu(bytes) => Some(bytes.saturating_mul(self.cpus_per_node())),
            Memory::None | Memory::All => None,
        }
    }

    /// GPUs of each worker, if they can be shared out evenly.
    pub fn gpus_per_worker(&self) -> Option<u32> {
        self.gpus_per_node
            .filter(|gpus| gpus % self.workers_per_node == 0)
            .map(|gpus| gpus / self.workers_per_node)
    }

    fn check(&self, values: &Values, system: System) -> Result<(), RequestError> {
        let refuse = |field: &str, why: String, hint: &str| {
            Err(RequestError::of(field, &values[field], Refusal::new(why, hint)))
        };
        if system == System::Local && self.nodes > 1 {
            return refuse("nodes", "this machine is one node".into(), "name a cluster's template");
        }
        if self.cpus_per_node() > 100_000 || self.workers() > 10_000_000 {
            let field = ["cpus_per_worker", "cpus_per_node", "workers_per_node", "nodes"]
                .into_iter()
                .find(|field| values.contains_key(field))
                .expect("large numbers were said by somebody");
            return refuse(field, "no machine is that large".into(), "look for a slip of the finger");
        }
        if let (Some(have), Some(_)) = (count(values, "cpus_per_node"), values.get("cpus_per_worker"))
            && self.cpus_per_node() > u64::from(have)
        {
            let (workers, all) = (self.workers_per_node, self.cpus_per_node());
            let why = format!("{workers} workers a node would need {all} cores, and a node has {have}");
            return refuse(
                "cpus_per_worker",
                why,
                "ask for fewer, or leave it out: they are shared out evenly",
            );
        }
        Ok(())
    }
}

fn count(values: &Values, field: &str) -> Option<u32> {
    let count = values.get(field)?.value.count()?;
    Some(u32::try_from(count).expect("counts were checked"))
}

fn workers(values: &Values) -> Result<u32, RequestError> {
    let Some(given) = values.get("workers_per_node") else { return Ok(1) };
    let (unit, field) = match &given.value {
        Value::Text(text) if text == "socket" => ("socket", "sockets_per_node"),
        Value::Text(_) => ("GPU", "gpus_per_node"),
        _ => return Ok(count(values, "workers_per_node").expect("it is a number")),
    };
    count(values, field).ok_or_else(|| {
        let why = format!("one worker for each {unit} is asked for, and `{field}` is not said");
        RequestError::of(
            "workers_per_node",
            given,
            Refusal::new(why, format!("say `{field}`, or a number of workers")),
        )
    })
}

/// What is said, or an even share of the node.
fn cpus(values: &Values, workers_per_node: u32) -> Result<Option<u32>, RequestError> {
    if let Some(cpus) = count(values, "cpus_per_worker") {
        return Ok(Some(cpus));
    }
    let Some(cpus_per_node) = count(values, "cpus_per_node") else { return Ok(None) };
    match cpus_per_node / workers_per_node {
        0 => {
            let given = &values["cpus_per_node"];
            let why = format!("{workers_per_node} workers cannot share them");
            Err(RequestError::of("cpus_per_node", given, Refusal { why, hint: None }))
        }
        share => Ok(Some(share)),
    }
}

fn memory(values: &Values, system: System) -> Result<Memory, RequestError> {
    let bytes = |text: &str| units::bytes(text).expect("sizes were checked");
    if let Some(text) = values.get("memory_per_cpu").and_then(|given| given.value.text()) {
        return Ok(Memory::PerCpu(bytes(text)));
    }
    let Some(given) = values.get("memory") else { return Ok(Memory::None) };
    match given.value.text().unwrap_or("none") {
        "none" => Ok(Memory::None),
        "all" if matches!(system, System::Pbs | System::Torque) => {
            let hint = "say how much a node has, or `exclusive = true` alone";
            let why = format!("{} has no word for all memory", system.title());
            Err(RequestError::of("memory", given, Refusal::new(why, hint)))
        }
        "all" => Ok(Memory::All),
        text => Ok(Memory::PerNode(bytes(text))),
    }
}
