//! What the process's control groups, of both versions, leave it of the node.

use super::cpus::parse_list;
use super::surroundings::Surroundings;

/// Where control groups are mounted, version 2 or the directories of version 1.
const ROOT: &str = "/sys/fs/cgroup";

/// The CPUs that the control group leaves the process, whatever its affinity mask says.
pub fn cpuset(node: &dyn Surroundings) -> Option<Vec<u32>> {
    let unified = of_group(node, "", "cpuset.cpus.effective");
    let lists = unified.into_iter().chain(of_group(node, "cpuset", "cpuset.cpus"));
    lists.filter_map(|list| parse_list(&list)).find(|list| !list.is_empty())
}

/// How many CPUs' time the tightest quota gives, rounded down, at least one.
pub fn quota_cpus(node: &dyn Surroundings) -> Option<u32> {
    let whole = |quota: u64, period: u64| u32::try_from(quota.checked_div(period)?.max(1)).ok();
    let unified = of_group(node, "", "cpu.max").into_iter().filter_map(|text| {
        let (quota, period) = text.trim().split_once(' ')?;
        whole(quota.parse().ok()?, period.parse().ok()?)
    });
    let quotas = of_group(node, "cpu", "cpu.cfs_quota_us");
    let periods = of_group(node, "cpu", "cpu.cfs_period_us");
    let separate = quotas.iter().zip(&periods).filter_map(|(quota, period)| {
        // No limit is written as -1, which is no `u64`.
        whole(quota.trim().parse().ok()?, period.trim().parse().ok()?)
    });
    unified.chain(separate).min()
}

/// The tightest limit of memory.
pub fn memory_bytes(node: &dyn Surroundings) -> Option<u64> {
    let limits = of_group(node, "", "memory.max").into_iter();
    let limits = limits.chain(of_group(node, "memory", "memory.limit_in_bytes"));
    // No limit is written as `max`, or as a number that no machine has.
    limits.filter_map(|limit| limit.trim().parse().ok()).min()
}

/// A file of the process's group and of all groups above it, from the inside to the outside, where
/// there is one. `controller` is empty for version 2.
///
/// In a container the group's path is often that of the host, and only the root is to be seen.
fn of_group(node: &dyn Surroundings, controller: &str, file: &str) -> Vec<String> {
    let Some(membership) = node.text("/proc/self/cgroup") else { return Vec::new() };
    let path = membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then_some(path)
    });
    let Some(path) = path else { return Vec::new() };
    let root = if controller.is_empty() { ROOT.to_owned() } else { format!("{ROOT}/{controller}") };
    let own = format!("{root}{}", path.trim_end_matches('/'));
    let mut directory = Some(own.as_str());
    let mut texts = Vec::new();
    while let Some(here) = directory.filter(|here| here.len() >= root.len()) {
        texts.extend(node.text(&format!("{here}/{file}")));
        directory = here.rsplit_once('/').map(|(above, _)| above);
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::super::surroundings::Described;
    use super::*;

    #[test]
    fn version_2_gives_the_tightest_limit_on_the_way_up() {
        let node = Described::new(&[
            ("/proc/self/cgroup", "0::/slurm/job_7/step_0\n"),
            ("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "max\n"),
            ("/sys/fs/cgroup/slurm/job_7/memory.max", "4096\n"),
            ("/sys/fs/cgroup/slurm/memory.max", "8192\n"),
            ("/sys/fs/cgroup/slurm/job_7/cpu.max", "250000 100000\n"),
            ("/sys/fs/cgroup/slurm/cpu.max", "max 100000\n"),
            ("/sys/fs/cgroup/slurm/job_7/step_0/cpuset.cpus.effective", "4-7\n"),
            ("/sys/fs/cgroup/cpuset.cpus.effective", "0-7\n"),
        ]);
        assert_eq!(memory_bytes(&node), Some(4096));
        assert_eq!(quota_cpus(&node), Some(2));
        assert_eq!(cpuset(&node), Some(vec![4, 5, 6, 7]));
    }

    #[test]
    fn version_1_has_a_group_for_each_controller() {
        let node = Described::new(&[
            ("/proc/self/cgroup", "9:memory:/a/b\n4:cpu,cpuacct:/c\n3:cpuset:/\n1:name=systemd:/x\n0::/\n"),
            ("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"),
            ("/sys/fs/cgroup/cpu/c/cpu.cfs_quota_us", "50000\n"),
            ("/sys/fs/cgroup/cpu/c/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
            ("/sys/fs/cgroup/cpuset/cpuset.cpus", "0,2\n"),
        ]);
        assert_eq!(memory_bytes(&node), Some(1_048_576));
        assert_eq!(quota_cpus(&node), Some(1));
        assert_eq!(cpuset(&node), Some(vec![0, 2]));
    }

    #[test]
    fn no_group_is_no_limit() {
        for node in [Described::new(&[]), Described::new(&[("/proc/self/cgroup", "0::/\n")])] {
            assert_eq!((memory_bytes(&node), quota_cpus(&node), cpuset(&node)), (None, None, None));
        }
    }
}
