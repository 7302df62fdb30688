//! What this process runs on.

use std::fs;
use std::thread;

use serde::{Deserialize, Serialize};

/// What a process found out about its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// The node's name.
    pub host: String,
    /// Cores this process may run on: its affinity mask, or its cgroup's quota if that is less.
    pub usable_cpus: u32,
    /// Cores the node has online.
    pub node_cpus: u32,
    /// Memory this process may use: its cgroup's limit, or the node's memory if that is less.
    pub memory_bytes: u64,
}

impl Hardware {
    /// Looks at the node.
    pub fn detect() -> Self {
        let usable = thread::available_parallelism().map_or(1, usize::from);
        let usable_cpus = u32::try_from(usable).unwrap_or(u32::MAX);
        Hardware {
            host: hostname::get().map_or_else(|_| "unknown".to_owned(), |host| host.to_string_lossy().into()),
            usable_cpus,
            node_cpus: online_cpus().unwrap_or(usable_cpus).max(usable_cpus),
            memory_bytes: memory_bytes(),
        }
    }

    /// True if the launcher or the batch system gave this process only some of the node's cores.
    pub fn is_bound(&self) -> bool {
        self.usable_cpus < self.node_cpus
    }
}

/// Reads the kernel's list of cores that are online: `0-3,8-11`.
fn online_cpus() -> Option<u32> {
    let list = fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let count = |range: &str| -> Option<u32> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?)? + 1)
    };
    list.trim().split(',').map(count).sum()
}

fn memory_bytes() -> u64 {
    let node = node_memory_bytes().unwrap_or(0);
    match cgroup_memory_bytes() {
        Some(limit) if node == 0 || limit < node => limit,
        _ => node,
    }
}

fn node_memory_bytes() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The tightest `memory.max` from this process's cgroup (version 2) up to the root.
fn cgroup_memory_bytes() -> Option<u64> {
    let membership = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"))?;
    let directory = format!("/sys/fs/cgroup{path}");
    let limits =
        std::path::Path::new(&directory).ancestors().take_while(|path| path.starts_with("/sys/fs/cgroup"));
    limits.filter_map(|path| fs::read_to_string(path.join("memory.max")).ok()?.trim().parse().ok()).min()
}
