//! Which CPUs a process may run on, and where in the node they are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::surroundings::Surroundings;

/// The most CPUs that a list is read for: a damaged one must not fill the memory.
const CPUS_MAX: usize = 65_536;

/// One logical CPU: a hardware thread, if cores have several. Ordered by place in the node, so that
/// neighbours in the order are neighbours in the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cpu {
    /// The socket it is in.
    pub package: u32,
    /// The NUMA node it is in.
    pub node: u32,
    /// Its core, named by the core's first CPU. CPUs of one core are hyperthread siblings.
    pub core: u32,
    /// Its number, as the kernel counts.
    pub id: u32,
}

/// Reads a list of numbers as the kernel writes it: `0-3,8`. Sorted, each once. `None` if it is
/// something else.
pub fn parse_list(text: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last.checked_sub(first)? as usize + numbers.len() >= CPUS_MAX {
            return None;
        }
        numbers.extend(first..=last);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Some(numbers)
}

/// Writes a list as the kernel does: `0-3,8`.
pub fn format_list(numbers: &[u32]) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let range = |(first, last): (u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

/// The CPUs that the node has online.
pub fn online(node: &dyn Surroundings) -> Option<Vec<u32>> {
    parse_list(&node.text("/sys/devices/system/cpu/online")?)
}

/// The CPUs in this thread's affinity mask.
///
/// From a text and not from `sched_getaffinity`, whose usual mask ends at 1024 CPUs.
pub fn affinity(node: &dyn Surroundings) -> Option<Vec<u32>> {
    let status = node.text("/proc/thread-self/status").or_else(|| node.text("/proc/self/status"))?;
    parse_list(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
}

/// Finds the place of each CPU. What the kernel does not tell is socket 0, node 0, a core of its own.
pub fn locate(ids: &[u32], node: &dyn Surroundings) -> Vec<Cpu> {
    let nodes = numa_nodes(node);
    let locate = |&id: &u32| {
        let topology = format!("/sys/devices/system/cpu/cpu{id}/topology");
        let package = node.text(&format!("{topology}/physical_package_id"));
        let siblings = node.text(&format!("{topology}/thread_siblings_list"));
        Cpu {
            id,
            // The kernel says -1 where it does not know.
            package: package.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            node: nodes.get(&id).copied().unwrap_or(0),
            core: siblings.and_then(|text| parse_list(&text)?.first().copied()).unwrap_or(id),
        }
    };
    let mut cpus: Vec<Cpu> = ids.iter().map(locate).collect();
    cpus.sort_unstable();
    cpus
}

fn numa_nodes(node: &dyn Surroundings) -> BTreeMap<u32, u32> {
    let directory = "/sys/devices/system/node";
    let mut of_cpu = BTreeMap::new();
    for name in node.names(directory) {
        let Some(number) = name.strip_prefix("node").and_then(|number| number.parse().ok()) else { continue };
        let list = node.text(&format!("{directory}/{name}/cpulist")).and_then(|list| parse_list(&list));
        of_cpu.extend(list.into_iter().flatten().map(|cpu| (cpu, number)));
    }
    of_cpu
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::Described;
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        let cases =
            [("0-3,8-9\n", vec![0, 1, 2, 3, 8, 9]), ("5", vec![5]), ("\n", vec![]), ("2,1", vec![1, 2])];
        for (text, numbers) in cases {
            assert_eq!(parse_list(text), Some(numbers), "{text:?}");
        }
        for text in ["a", "3-1", "1-", "0-4294967295", "-1", "0-3:1/2"] {
            assert_eq!(parse_list(text), None, "{text:?}");
        }
        assert_eq!(format_list(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!(format_list(&[]), "");
    }

    #[test]
    fn neighbours_in_the_order_share_a_core_then_a_node_then_a_socket() {
        let node = Described::new(&[
            ("/sys/devices/system/node/node0/cpulist", "0,2,4,6\n"),
            ("/sys/devices/system/node/node1/cpulist", "1,3,5,7\n"),
            ("/sys/devices/system/node/possible", "0-1\n"),
            ("/sys/devices/system/cpu/cpu1/topology/physical_package_id", "1\n"),
            ("/sys/devices/system/cpu/cpu3/topology/physical_package_id", "1\n"),
            ("/sys/devices/system/cpu/cpu5/topology/physical_package_id", "1\n"),
            ("/sys/devices/system/cpu/cpu7/topology/physical_package_id", "1\n"),
            ("/sys/devices/system/cpu/cpu0/topology/physical_package_id", "-1\n"),
            ("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4\n"),
            ("/sys/devices/system/cpu/cpu4/topology/thread_siblings_list", "0,4\n"),
        ]);
        let cpus = locate(&[0, 1, 2, 3, 4, 5, 6, 7], &node);
        let ids: Vec<u32> = cpus.iter().map(|cpu| cpu.id).collect();
        assert_eq!(ids, [0, 4, 2, 6, 1, 3, 5, 7]);
        assert_eq!(cpus[1], Cpu { package: 0, node: 0, core: 0, id: 4 });
        assert_eq!(cpus[7], Cpu { package: 1, node: 1, core: 7, id: 7 });
    }
}
