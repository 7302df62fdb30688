//! Who gets what of a node: its workers divide its CPUs, memory and GPUs; rank 0 takes none.
//!
//! What the launcher or the batch system divided already stays divided: only what several workers of
//! a node may use is shared out among them.

mod division;

use std::collections::{BTreeMap, BTreeSet};

use crate::core::resources::Resources;
use crate::worker::hardware::{Cpu, Gpu, GpuKind, Hardware};
use crate::worker::share::{Bind, Share};
use division::{split, split_cpus};

/// The most GPUs that a worker may be said to have: each has a name.
pub const GPUS_MAX: u64 = 1024;

/// How much of a worker's memory outputs take before they go to the disk. The rest is for tasks that run, and
/// for what is being sent and read.
const OUTPUTS_PERCENT: u64 = 60;

/// Sentences that a person is told at most.
const WARNINGS_MAX: usize = 8;

/// What the user says a worker has, instead of what is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Cores of each worker.
    pub cpus: Option<u32>,
    /// Further resources of each worker, by name; `memory` (bytes) and `gpus` are known names.
    pub resources: BTreeMap<String, u64>,
    /// What tasks are bound to.
    pub bind: Bind,
    /// Bytes of memory that the outputs at each worker may take.
    pub memory_limit: Option<u64>,
    /// Bytes that they may take on the node's disk.
    pub scratch_limit: Option<u64>,
}

/// What each worker has, and what a person should know about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geometry {
    /// How much each worker has, in the order of ranks.
    pub capacities: Vec<Resources>,
    /// Which CPUs and GPUs those are, in the same order.
    pub shares: Vec<Share>,
    /// Sentences to log.
    pub warnings: Vec<String>,
}

impl Geometry {
    /// How much each worker has, and which.
    pub fn workers(&self) -> impl ExactSizeIterator<Item = (&Resources, &Share)> {
        self.capacities.iter().zip(&self.shares)
    }
}

/// Divides the nodes among their workers.
///
/// Workers that the launcher bound have what they are bound to. Those that may use the same CPUs
/// divide them in neighbouring parts, the first of a node taking what is left over. Each has at least
/// one core.
pub fn divide(workers: &[Hardware], overrides: &Overrides) -> Geometry {
    let mut hosts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, worker) in workers.iter().enumerate() {
        hosts.entry(&worker.host).or_default().push(place);
    }
    let mut geometry = Geometry {
        capacities: vec![Resources::default(); workers.len()],
        shares: vec![Share::default(); workers.len()],
        warnings: Vec::new(),
    };
    for members in hosts.into_values() {
        let node = Node { workers: members.iter().map(|&place| &workers[place]).collect(), overrides };
        let parts = node.divide(&mut geometry.warnings);
        for (place, (capacity, share)) in members.into_iter().zip(parts) {
            geometry.capacities[place] = capacity;
            geometry.shares[place] = share;
        }
    }
    shorten(&mut geometry.warnings);
    geometry
}

/// A thousand nodes that are bound in the same wrong way need no thousand sentences.
fn shorten(warnings: &mut Vec<String>) {
    if warnings.len() > WARNINGS_MAX {
        let more = warnings.len() - (WARNINGS_MAX - 1);
        warnings.truncate(WARNINGS_MAX - 1);
        warnings.push(format!("{more} more nodes or workers have such a warning"));
    }
}

/// The workers of one node.
struct Node<'a> {
    workers: Vec<&'a Hardware>,
    overrides: &'a Overrides,
}

impl Node<'_> {
    fn divide(&self, warnings: &mut Vec<String>) -> Vec<(Resources, Share)> {
        let cpus = self.cpus(warnings);
        let gpus = self.gpus(warnings);
        let parts = cpus.into_iter().zip(gpus).zip(&self.workers);
        parts.map(|(((count, cpus), gpus), worker)| self.part(worker, (count, cpus), gpus)).collect()
    }

    fn part(&self, worker: &Hardware, (count, cpus): (u32, Vec<Cpu>), gpus: Vec<Gpu>) -> (Resources, Share) {
        let mut capacity = Resources {
            cpus: count,
            memory_bytes: worker.memory_bytes / self.workers.len() as u64,
            gpus: gpus.len() as u32,
            ..Resources::default()
        };
        for (name, &amount) in &self.overrides.resources {
            match name.as_str() {
                "memory" => capacity.memory_bytes = amount,
                "gpus" => {}
                _ => drop(capacity.custom.insert(name.clone(), amount)),
            }
        }
        let Overrides { bind, memory_limit, scratch_limit, .. } = *self.overrides;
        let found = Some(capacity.memory_bytes / 100 * OUTPUTS_PERCENT).filter(|bytes| *bytes > 0);
        let memory_limit = memory_limit.or(found);
        (capacity, Share { cpus, gpus, bind, memory_limit, scratch_limit })
    }

    /// How many CPUs each worker has, and which if that is known.
    fn cpus(&self, warnings: &mut Vec<String>) -> Vec<(u32, Vec<Cpu>)> {
        let found = match self.limit() {
            Some(limit) => self.counted(limit, warnings),
            None => self.located(),
        };
        self.warn_of_unused(warnings);
        let parts = found.into_iter().zip(&self.workers);
        parts.map(|(found, worker)| self.as_promised(worker, found, warnings)).collect()
    }

    /// How many CPUs the workers have together, if it is not known which those are.
    fn limit(&self) -> Option<u32> {
        let granted = self.granted();
        match self.workers.iter().any(|worker| worker.cpus.is_empty()) {
            true => self.workers.iter().map(|worker| worker.allowed_cpus.min(granted)).max(),
            false => Some(granted).filter(|granted| *granted < self.allowed_together()),
        }
    }

    fn granted(&self) -> u32 {
        self.workers.iter().filter_map(|worker| worker.granted_cpus).min().unwrap_or(u32::MAX)
    }

    /// How many CPUs any of the workers may run on.
    fn allowed_together(&self) -> u32 {
        self.workers.iter().flat_map(|worker| &worker.cpus).collect::<BTreeSet<_>>().len() as u32
    }

    fn counted(&self, limit: u32, warnings: &mut Vec<String>) -> Vec<(u32, Vec<Cpu>)> {
        let (first, sharers) = (self.workers[0], self.workers.len() as u32);
        if self.overrides.bind == Bind::Cores {
            warnings.push(format!(
                "tasks on `{}` are not bound: {limit} of its {} cores may be used, but it is not known which",
                first.host, first.node_cpus
            ));
        }
        let count = |place: u32| limit / sharers + u32::from(place < limit % sharers);
        let counts = (0..sharers).map(count).zip(&self.workers);
        counts.map(|(count, worker)| (count.min(worker.allowed_cpus), Vec::new())).collect()
    }

    fn located(&self) -> Vec<(u32, Vec<Cpu>)> {
        let claims: Vec<&[Cpu]> = self.workers.iter().map(|worker| worker.cpus.as_slice()).collect();
        let mut shares = division::divide(&claims, split_cpus);
        for (place, share) in shares.iter_mut().enumerate().filter(|(_, share)| share.is_empty()) {
            // More workers than CPUs: they have them in turn.
            share.push(claims[place][place % claims[place].len()]);
        }
        shares.into_iter().map(|cpus| (cpus.len() as u32, cpus)).collect()
    }

    fn warn_of_unused(&self, warnings: &mut Vec<String>) {
        let (first, together) = (self.workers[0], self.allowed_together());
        let there = first.node_cpus.min(self.granted());
        let are_bound = self.workers.iter().all(|worker| worker.is_bound());
        if are_bound && self.overrides.cpus.is_none() && together < there {
            warnings.push(format!(
                "a worker on `{}` is bound to {} of {there} cores and uses no more; `mpirun --bind-to none` gives it the rest",
                first.host, first.allowed_cpus
            ));
        }
    }

    /// What a worker was promised counts, unless the launcher bound it to less.
    fn as_promised(
        &self,
        worker: &Hardware,
        (found, mut cpus): (u32, Vec<Cpu>),
        warnings: &mut Vec<String>,
    ) -> (u32, Vec<Cpu>) {
        let Some(promised) = self.overrides.cpus else { return (found.max(1), cpus) };
        if worker.is_bound() && worker.allowed_cpus < promised {
            let warning = format!(
                "a worker on `{}` is bound to {} of {} cores and uses no more, but was promised {promised}; start it without binding",
                worker.host, worker.allowed_cpus, worker.node_cpus
            );
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            return (found.max(1), cpus);
        }
        cpus.truncate(promised as usize);
        (promised, cpus)
    }

    /// Which GPUs each worker has.
    fn gpus(&self, warnings: &mut Vec<String>) -> Vec<Vec<Gpu>> {
        let claims: Vec<&[Gpu]> = self.workers.iter().map(|worker| worker.gpus.as_slice()).collect();
        let shares = division::divide(&claims, split);
        let Some(&wanted) = self.overrides.resources.get("gpus") else { return shares };
        let wanted = wanted.min(GPUS_MAX) as usize;
        let mut all: Vec<Gpu> = Vec::new();
        for gpu in claims.into_iter().flatten() {
            if !all.contains(gpu) {
                all.push(gpu.clone());
            }
        }
        if all.is_empty() {
            return (0..shares.len()).map(|place| numbered(place * wanted, wanted)).collect();
        }
        if shares.iter().any(|share| share.len() < wanted) {
            warnings.push(format!(
                "`--resource gpus={wanted}` is more than each worker's part of the {} found on `{}`: tasks will share them",
                all.len(),
                self.workers[0].host
            ));
        }
        shares.into_iter().map(|share| as_many(share, &all, wanted)).collect()
    }
}

/// GPUs that a person says are there: the workers of a node count on where the one before ended.
fn numbered(first: usize, count: usize) -> Vec<Gpu> {
    (first..first + count).map(|index| Gpu { kind: GpuKind::Unknown, id: index.to_string() }).collect()
}

/// A share of `wanted` GPUs: its own first, then the others of the node, then all of them again.
fn as_many(mut share: Vec<Gpu>, all: &[Gpu], wanted: usize) -> Vec<Gpu> {
    let others: Vec<Gpu> = all.iter().filter(|gpu| !share.contains(gpu)).cloned().collect();
    share.extend(others);
    share.into_iter().cycle().take(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of `node_cpus` CPUs in one socket, of which a process may use these.
    fn hardware(host: &str, ids: impl IntoIterator<Item = u32>, node_cpus: u32) -> Hardware {
        let cpus: Vec<Cpu> = ids.into_iter().map(|id| Cpu { id, core: id, ..Cpu::default() }).collect();
        let allowed_cpus = cpus.len() as u32;
        Hardware {
            host: host.into(),
            cpus,
            allowed_cpus,
            node_cpus,
            memory_bytes: 8_000,
            ..Hardware::default()
        }
    }

    fn with_gpus(host: &str, ids: &[&str]) -> Hardware {
        let gpus = ids.iter().map(|&id| Gpu { kind: GpuKind::Nvidia, id: id.to_owned() }).collect();
        Hardware { gpus, ..hardware(host, 0..8, 8) }
    }

    fn granted(hardware: Hardware, cpus: u32) -> Hardware {
        Hardware { granted_cpus: Some(cpus), ..hardware }
    }

    fn promised(cpus: u32) -> Overrides {
        Overrides { cpus: Some(cpus), ..Overrides::default() }
    }

    fn gpus_said(count: u64) -> Overrides {
        Overrides { resources: [("gpus".to_owned(), count)].into(), ..Overrides::default() }
    }

    fn cpus(workers: &[Hardware], overrides: &Overrides) -> Vec<u32> {
        divide(workers, overrides).capacities.iter().map(|capacity| capacity.cpus).collect()
    }

    fn ids(workers: &[Hardware], overrides: &Overrides) -> Vec<Vec<u32>> {
        divide(workers, overrides).shares.iter().map(Share::cpu_ids).collect()
    }

    /// The GPUs of each worker, as their ids with spaces between.
    fn gpus(workers: &[Hardware], overrides: &Overrides) -> Vec<String> {
        let geometry = divide(workers, overrides);
        for (capacity, share) in geometry.workers() {
            assert_eq!(capacity.gpus as usize, share.gpus.len());
        }
        let words = |share: &Share| share.gpus.iter().map(|gpu| gpu.id.clone()).collect::<Vec<_>>().join(" ");
        geometry.shares.iter().map(words).collect()
    }

    #[test]
    fn unbound_workers_share_their_node() {
        let workers = [hardware("a", 0..5, 5), hardware("b", 0..4, 4), hardware("a", 0..5, 5)];
        assert_eq!(cpus(&workers, &Overrides::default()), [3, 4, 2]);
        assert_eq!(ids(&workers, &Overrides::default()), [vec![0, 1, 2], vec![0, 1, 2, 3], vec![3, 4]]);
        assert_eq!(divide(&workers, &Overrides::default()).capacities[0].memory_bytes, 4_000);
    }

    #[test]
    fn bound_workers_have_what_they_are_bound_to_and_are_warned() {
        let workers = [hardware("a", [2], 8), hardware("a", [5], 8)];
        assert_eq!(ids(&workers, &Overrides::default()), [[2], [5]]);
        let warnings = divide(&workers, &Overrides::default()).warnings;
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("`a` is bound to 1 of 8 cores and uses no more"), "{warnings:?}");
    }

    #[test]
    fn many_nodes_with_the_same_fault_are_told_in_few_sentences() {
        let workers: Vec<Hardware> = (0..100).map(|node| hardware(&format!("n{node}"), [0], 8)).collect();
        let warnings = divide(&workers, &Overrides::default()).warnings;
        assert_eq!((warnings.len(), &warnings[7][..]), (8, "93 more nodes or workers have such a warning"));
    }

    #[test]
    fn bound_workers_that_use_the_whole_job_are_not_warned() {
        let workers = [hardware("a", 0..4, 8), hardware("a", 4..8, 8)];
        assert_eq!(divide(&workers, &Overrides::default()).warnings, [""; 0]);
        let part = [hardware("a", 0..2, 8), hardware("a", 2..4, 8)].map(|worker| granted(worker, 4));
        let geometry = divide(&part, &Overrides::default());
        assert_eq!((geometry.warnings, &geometry.shares[1].cpu_ids()[..]), (vec![], &[2, 3][..]));
    }

    #[test]
    fn workers_bound_to_the_same_cpus_divide_them() {
        let workers = vec![hardware("a", 4..8, 8); 2];
        assert_eq!(ids(&workers, &Overrides::default()), [[4, 5], [6, 7]]);
    }

    #[test]
    fn a_bound_worker_uses_what_it_has_and_not_what_it_was_promised() {
        let workers = [hardware("a", [2], 8), hardware("a", 3..6, 8)];
        let geometry = divide(&workers, &promised(2));
        assert_eq!(geometry.capacities.iter().map(|capacity| capacity.cpus).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(geometry.shares[1].cpu_ids(), [3, 4]);
        assert_eq!(geometry.warnings.len(), 1, "{:?}", geometry.warnings);
        assert!(geometry.warnings[0].contains("but was promised 2"), "{:?}", geometry.warnings);
    }

    #[test]
    fn a_grant_smaller_than_the_node_is_divided_by_count() {
        let workers = vec![granted(hardware("a", 0..8, 8), 5); 2];
        assert_eq!(cpus(&workers, &Overrides::default()), [3, 2]);
        assert_eq!(ids(&workers, &Overrides::default()), [vec![0; 0], vec![]]);
        assert_eq!(divide(&workers, &Overrides::default()).warnings, [""; 0]);
        let bound = Overrides { bind: Bind::Cores, ..Overrides::default() };
        let warnings = divide(&workers, &bound).warnings;
        assert!(
            warnings[0].contains("5 of its 8 cores may be used, but it is not known which"),
            "{warnings:?}"
        );
        assert_eq!(cpus(&[granted(hardware("a", 0..8, 8), 64)], &Overrides::default()), [8]);
    }

    #[test]
    fn more_workers_than_cores_have_one_each() {
        let workers = vec![hardware("a", 0..2, 2); 4];
        assert_eq!(cpus(&workers, &Overrides::default()), [1, 1, 1, 1]);
        assert_eq!(ids(&workers, &Overrides::default()), [[0], [1], [0], [1]]);
        let counted = vec![granted(hardware("a", 0..8, 8), 1); 2];
        assert_eq!(cpus(&counted, &Overrides::default()), [1, 1]);
    }

    #[test]
    fn what_the_user_says_counts() {
        let resources = [("memory", 5), ("gpus", 2), ("licence", 3)];
        let resources = resources.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect();
        let overrides = Overrides { cpus: Some(16), resources, ..Overrides::default() };
        let capacity = &divide(&[hardware("a", 0..2, 2)], &overrides).capacities[0];
        assert_eq!((capacity.cpus, capacity.memory_bytes, capacity.gpus), (16, 5, 2));
        assert_eq!(capacity.custom["licence"], 3);
        let few = vec![hardware("a", 0..8, 8); 2];
        assert_eq!(ids(&few, &promised(2)), [[0, 1], [4, 5]]);
    }

    #[test]
    fn workers_that_see_the_same_gpus_divide_them_and_others_keep_their_own() {
        let same =
            [with_gpus("a", &["0", "1", "2"]), with_gpus("a", &["0", "1", "2"]), with_gpus("b", &["0"])];
        assert_eq!(gpus(&same, &Overrides::default()), ["0 1", "2", "0"]);
        let own = [with_gpus("a", &["2"]), with_gpus("a", &["GPU-1f"]), with_gpus("a", &[])];
        assert_eq!(gpus(&own, &Overrides::default()), ["2", "GPU-1f", ""]);
    }

    #[test]
    fn gpus_that_a_person_says_are_there_are_numbered_through_the_node() {
        let workers = [hardware("a", 0..8, 8), hardware("b", 0..8, 8), hardware("a", 0..8, 8)];
        assert_eq!(gpus(&workers, &gpus_said(2)), ["0 1", "0 1", "2 3"]);
    }

    #[test]
    fn a_person_may_say_fewer_gpus_or_more_than_were_found() {
        let workers = vec![with_gpus("a", &["0", "1", "2", "3"]); 2];
        assert_eq!(gpus(&workers, &gpus_said(1)), ["0", "2"]);
        assert_eq!(divide(&workers, &gpus_said(1)).warnings, [""; 0]);
        assert_eq!(gpus(&workers, &gpus_said(3)), ["0 1 2", "2 3 0"]);
        assert_eq!(gpus(&workers[..1], &gpus_said(5)), ["0 1 2 3 0"]);
        assert_eq!(gpus(&workers, &gpus_said(0)), ["", ""]);
        let warnings = divide(&workers, &gpus_said(3)).warnings;
        assert!(warnings[0].contains("more than each worker's part of the 4 found on `a`"), "{warnings:?}");
    }
}
