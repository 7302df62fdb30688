//! What this process runs on: the CPUs, memory and GPUs that it may use.
//!
//! Everything is read from texts: files of the kernel, variables of the launcher and the batch system.
//! Nothing here divides; that is `runtime::geometry`'s business.

mod cpus;
mod gpus;
mod grant;
mod limits;
mod names;
mod surroundings;

use std::thread;

use serde::{Deserialize, Serialize};

pub use cpus::{Cpu, format_list};
pub use gpus::{Gpu, GpuKind};
use grant::Grant;
pub use names::settle;
use surroundings::{Surroundings, ThisNode};

/// What a process found out about its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// The node's name, as the batch system has it.
    pub host: String,
    /// The CPUs it may run on, by its affinity mask; neighbours stand together. Empty if the kernel
    /// does not tell.
    pub cpus: Vec<Cpu>,
    /// How many they are.
    pub allowed_cpus: u32,
    /// How many CPUs all ranks of the node may use together, where a quota or the batch system says how
    /// many, but not which.
    pub granted_cpus: Option<u32>,
    /// CPUs that its control group leaves it, or that the node has online: what it could run on if
    /// the launcher had not bound it.
    pub node_cpus: u32,
    /// Memory this process may use: its control group's limit, what the batch system gave, or the
    /// node's. Ranks of one node share it.
    pub memory_bytes: u64,
    /// The GPUs it may use.
    pub gpus: Vec<Gpu>,
}

impl Hardware {
    /// Looks at the node.
    pub fn detect() -> Self {
        let host =
            hostname::get().map_or_else(|_| "unknown".to_owned(), |host| host.to_string_lossy().into());
        let counted = thread::available_parallelism().map_or(1, usize::from);
        Hardware::read(&ThisNode, host, u32::try_from(counted).unwrap_or(u32::MAX))
    }

    /// `counted` is what to believe where the kernel's texts are not there.
    fn read(node: &dyn Surroundings, host: String, counted: u32) -> Self {
        let grant = Grant::find(node, &host);
        let ids = cpus::affinity(node).unwrap_or_default();
        let allowed_cpus = if ids.is_empty() { counted } else { ids.len() as u32 };
        let bounds = [limits::quota_cpus(node), grant.cpus];
        Hardware {
            allowed_cpus,
            granted_cpus: bounds.into_iter().flatten().min(),
            node_cpus: node_cpus(node).unwrap_or(allowed_cpus).max(allowed_cpus),
            memory_bytes: memory_bytes(node, &grant),
            gpus: gpus::find(node, &host),
            cpus: cpus::locate(&ids, node),
            host: names::allocated_name(node, &host),
        }
    }

    /// True if the launcher bound this process to some of the CPUs that it could run on.
    pub fn is_bound(&self) -> bool {
        self.allowed_cpus < self.node_cpus
    }
}

fn node_cpus(node: &dyn Surroundings) -> Option<u32> {
    let online = cpus::online(node)?;
    let set = limits::cpuset(node).unwrap_or_else(|| online.clone());
    let here = set.iter().filter(|cpu| online.binary_search(cpu).is_ok()).count();
    u32::try_from(here).ok()
}

fn memory_bytes(node: &dyn Surroundings, grant: &Grant) -> u64 {
    let bounds = [node_memory_bytes(node), limits::memory_bytes(node), grant.memory_bytes];
    bounds.into_iter().flatten().min().unwrap_or(0)
}

fn node_memory_bytes(node: &dyn Surroundings) -> Option<u64> {
    let table = node.text("/proc/meminfo")?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::surroundings::Described;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn node() -> Described {
        Described::new(&[
            ("/sys/devices/system/cpu/online", "0-7\n"),
            ("/proc/thread-self/status", "Name:\tx\nCpus_allowed:\tff\nCpus_allowed_list:\t0-7\n"),
            ("/proc/meminfo", "MemFree: 1 kB\nMemTotal:       1048576 kB\n"),
        ])
    }

    fn read(entries: &[(&str, &str)]) -> Hardware {
        Hardware::read(&node().with(entries), "n1".into(), 3)
    }

    #[test]
    fn a_process_that_is_alone_may_use_the_node() {
        let hardware = read(&[]);
        assert_eq!((hardware.allowed_cpus, hardware.node_cpus, hardware.is_bound()), (8, 8, false));
        assert_eq!(hardware.cpus.iter().map(|cpu| cpu.id).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!((hardware.memory_bytes, hardware.gpus), (1024 * MIB, vec![]));
    }

    #[test]
    fn an_affinity_mask_binds_and_a_cpuset_is_a_smaller_node() {
        let mask = ("/proc/thread-self/status", "Cpus_allowed_list:\t4-5\n");
        let bound = read(&[mask]);
        assert_eq!((bound.allowed_cpus, bound.node_cpus, bound.is_bound()), (2, 8, true));
        let set = [mask, ("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpuset.cpus.effective", "4-5\n")];
        let small = read(&set);
        assert_eq!((small.allowed_cpus, small.node_cpus, small.is_bound()), (2, 2, false));
    }

    #[test]
    fn a_quota_and_the_batch_system_bound_the_count() {
        let quota = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "300000 100000\n")];
        let hardware = read(&quota);
        assert_eq!((hardware.granted_cpus, hardware.cpus.len(), hardware.is_bound()), (Some(3), 8, false));
        let slurm = [("SLURM_JOB_ID", "1"), ("SLURMD_NODENAME", "n1"), ("SLURM_CPUS_ON_NODE", "2")];
        assert_eq!(read(&slurm).granted_cpus, Some(2));
        assert_eq!(read(&[&slurm[..], &quota[..]].concat()).granted_cpus, Some(2));
        assert_eq!(read(&[]).granted_cpus, None);
    }

    #[test]
    fn the_smallest_limit_of_memory_counts() {
        let slurm = [("SLURM_JOB_ID", "1"), ("SLURM_MEM_PER_NODE", "100")];
        assert_eq!(read(&slurm).memory_bytes, 100 * MIB);
        let group = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/memory.max", "1048576\n")];
        assert_eq!(read(&[&slurm[..], &group[..]].concat()).memory_bytes, MIB);
    }

    #[test]
    fn without_the_kernels_texts_the_count_is_believed() {
        let hardware = Hardware::read(&Described::new(&[]), "n1".into(), 3);
        assert_eq!((hardware.allowed_cpus, hardware.node_cpus, hardware.is_bound()), (3, 3, false));
        assert_eq!((hardware.cpus, hardware.memory_bytes), (vec![], 0));
    }

    #[test]
    fn this_node_is_read_as_the_system_counts_it() {
        let hardware = Hardware::detect();
        let counted = thread::available_parallelism().unwrap().get();
        assert!(hardware.cpus.len() >= counted && hardware.memory_bytes > MIB, "{hardware:?}");
    }
}
