//! What the batch system gave the job on this node, by its variables.
//!
//! They bound what a process uses where nothing else does. A launcher may have copied the variables
//! of the first node to all others: what only the first node's value can be is used there alone.

use super::surroundings::Surroundings;

const MIB: u64 = 1 << 20;

/// What a job has on one node, as far as its variables tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Logical CPUs, at most.
    pub cpus: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

impl Grant {
    /// What Slurm or PBS gave on the node called `host`.
    pub fn find(node: &dyn Surroundings, host: &str) -> Self {
        if node.variable("SLURM_JOB_ID").is_some() {
            let cpus = slurm_cpus(node, host);
            return Grant { cpus, memory_bytes: slurm_memory_bytes(node, cpus) };
        }
        match node.variable("PBS_JOBID") {
            Some(_) => Grant { cpus: pbs_cpus(node, host), memory_bytes: None },
            None => Grant::default(),
        }
    }
}

/// True if Slurm's variables about "this node" are about the node called `host`: it bears that name, or
/// the job has no other.
pub fn slurm_speaks_of(node: &dyn Surroundings, host: &str) -> bool {
    let has_name = node.variable("SLURMD_NODENAME").is_some_and(|name| is_same_host(&name, host));
    has_name || node.variable("SLURM_JOB_NUM_NODES").is_some_and(|count| count == "1")
}

/// True if both name one host, with or without its domain.
pub fn is_same_host(one: &str, other: &str) -> bool {
    short_name(one).eq_ignore_ascii_case(short_name(other))
}

/// A host's name without its domain.
pub fn short_name(host: &str) -> &str {
    host.split_once('.').map_or(host, |(name, _)| name)
}

/// The larger of what the job and what the step has here: a launcher may start its daemons in a step
/// of one CPU, and what they start has all of the job's.
fn slurm_cpus(node: &dyn Surroundings, host: &str) -> Option<u32> {
    let speaks = slurm_speaks_of(node, host);
    let of_nodes = node.variable("SLURM_JOB_CPUS_PER_NODE").and_then(|list| expand(&list));
    let of_nodes = of_nodes.unwrap_or_default();
    let place = || node.variable("SLURM_NODEID")?.parse::<usize>().ok();
    let of_job = match speaks {
        true => place().and_then(|place| of_nodes.get(place).copied()),
        false => None,
    };
    // Of a node whose place is not known, no more can be said than the most of any.
    let of_job = of_job.or_else(|| of_nodes.iter().max().copied());
    let of_step = node.variable("SLURM_CPUS_ON_NODE").filter(|_| speaks).and_then(|count| count.parse().ok());
    of_job.max(of_step)
}

/// Reads Slurm's list of one number for each node: `2(x3),1`.
fn expand(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (count, times) = match part.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse::<u16>().ok()?),
            None => (part, 1),
        };
        all.extend(std::iter::repeat_n(count.parse::<u32>().ok()?, usize::from(times)));
    }
    Some(all)
}

/// Slurm counts memory in MiB, and says 0 when the job has all of the node's.
fn slurm_memory_bytes(node: &dyn Surroundings, cpus: Option<u32>) -> Option<u64> {
    let mebibytes = |name: &str| node.variable(name)?.parse::<u64>().ok().filter(|amount| *amount > 0);
    let of_cpus = || Some(mebibytes("SLURM_MEM_PER_CPU")? * u64::from(cpus?));
    mebibytes("SLURM_MEM_PER_NODE").or_else(of_cpus)?.checked_mul(MIB)
}

/// PBS tells the first host of the node file only. Torque writes a line there for every CPU.
fn pbs_cpus(node: &dyn Surroundings, host: &str) -> Option<u32> {
    let hosts = node.text(&node.variable("PBS_NODEFILE")?)?;
    let lines = hosts.lines().map(str::trim).filter(|line| !line.is_empty());
    let here = lines.clone().filter(|line| is_same_host(line, host)).count();
    if node.variable("PBS_NUM_PPN").is_some() {
        return u32::try_from(here).ok().filter(|count| *count > 0);
    }
    let is_first = lines.clone().next().is_some_and(|first| is_same_host(first, host));
    node.variable("NCPUS").filter(|_| is_first)?.parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::Described;
    use super::*;

    fn slurm(entries: &[(&str, &str)]) -> Grant {
        let node = Described::new(&[("SLURM_JOB_ID", "7"), ("SLURMD_NODENAME", "n2")]).with(entries);
        Grant::find(&node, "n2.cluster")
    }

    #[test]
    fn slurm_tells_the_cpus_of_this_node() {
        assert_eq!(slurm(&[("SLURM_CPUS_ON_NODE", "4")]).cpus, Some(4));
        let list = ("SLURM_JOB_CPUS_PER_NODE", "2(x3),1");
        assert_eq!(slurm(&[list, ("SLURM_NODEID", "3")]).cpus, Some(1));
        assert_eq!(slurm(&[list, ("SLURM_NODEID", "0"), ("SLURM_CPUS_ON_NODE", "1")]).cpus, Some(2));
        assert_eq!(slurm(&[]).cpus, None);
    }

    #[test]
    fn what_slurm_says_of_another_node_is_only_the_most_there_can_be() {
        let foreign = [("SLURMD_NODENAME", "n1"), ("SLURM_CPUS_ON_NODE", "16"), ("SLURM_NODEID", "0")];
        assert_eq!(slurm(&foreign).cpus, None);
        let list = [("SLURM_JOB_CPUS_PER_NODE", "16,8(x2)")];
        let node = Described::new(&[("SLURM_JOB_ID", "7")]).with(&foreign).with(&list);
        assert_eq!(Grant::find(&node, "n2").cpus, Some(16));
        assert_eq!(Grant::find(&node.with(&[("SLURM_JOB_NUM_NODES", "3")]), "n2").cpus, Some(16));
        let uniform = node.with(&[("SLURM_JOB_CPUS_PER_NODE", "8(x3)")]);
        assert_eq!(Grant::find(&uniform, "n2").cpus, Some(8));
    }

    #[test]
    fn the_node_of_a_job_with_one_node_may_bear_another_name() {
        let other = [("SLURMD_NODENAME", "gpu-01"), ("SLURM_CPUS_ON_NODE", "3")];
        assert_eq!(slurm(&other).cpus, None);
        assert_eq!(slurm(&[&other[..], &[("SLURM_JOB_NUM_NODES", "1")]].concat()).cpus, Some(3));
    }

    #[test]
    fn slurm_counts_memory_by_node_or_by_cpu() {
        assert_eq!(slurm(&[("SLURM_MEM_PER_NODE", "512")]).memory_bytes, Some(512 * MIB));
        let by_cpu = [("SLURM_MEM_PER_CPU", "100"), ("SLURM_CPUS_ON_NODE", "4")];
        assert_eq!(slurm(&by_cpu).memory_bytes, Some(400 * MIB));
        assert_eq!(slurm(&[("SLURM_MEM_PER_NODE", "0")]).memory_bytes, None);
        assert_eq!(slurm(&[("SLURM_MEM_PER_CPU", "100")]).memory_bytes, None);
    }

    #[test]
    fn pbs_tells_the_cpus_of_the_first_host_and_torque_those_of_all() {
        let pbs = Described::new(&[
            ("PBS_JOBID", "0.server"),
            ("PBS_NODEFILE", "/var/aux/0"),
            ("/var/aux/0", "m1.site\nm1.site\nm2.site\n"),
            ("NCPUS", "8"),
        ]);
        assert_eq!(Grant::find(&pbs, "m1").cpus, Some(8));
        assert_eq!(Grant::find(&pbs, "m2").cpus, None);
        let torque = pbs.with(&[("PBS_NUM_PPN", "2")]);
        assert_eq!(Grant::find(&torque, "m1").cpus, Some(2));
        assert_eq!(Grant::find(&torque, "m2").cpus, Some(1));
        assert_eq!(Grant::find(&torque, "m3").cpus, None);
    }

    #[test]
    fn outside_of_a_job_nothing_is_granted_and_nonsense_is_no_grant() {
        let node = Described::new(&[("NCPUS", "8"), ("SLURM_CPUS_ON_NODE", "4")]);
        assert_eq!(Grant::find(&node, "n2"), Grant::default());
        let nonsense = [("SLURM_JOB_CPUS_PER_NODE", "2(x"), ("SLURM_CPUS_ON_NODE", "many")];
        assert_eq!(slurm(&nonsense), Grant::default());
        assert_eq!(expand("1(x65535),2(x65536)"), None);
    }
}
