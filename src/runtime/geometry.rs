//! Who gets how much of a node: ranks on one node divide its cores and memory; rank 0 takes none.

use std::collections::BTreeMap;

use crate::core::resources::Resources;
use crate::worker::hardware::Hardware;

/// What the user says a worker has, instead of what is found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Cores of each worker.
    pub cpus: Option<u32>,
    /// Further resources of each worker, by name; `memory` (bytes) and `gpus` are known names.
    pub resources: BTreeMap<String, u64>,
}

/// What each worker has, and what a person should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// One entry per worker, in the order of ranks.
    pub capacities: Vec<Resources>,
    /// Sentences to log.
    pub warnings: Vec<String>,
}

/// Divides the nodes among their workers.
///
/// Workers that the launcher bound have what they are bound to. Unbound ones share the node's
/// cores equally, the first of a node taking what is left over. Each has at least one core.
pub fn divide(workers: &[Hardware], overrides: &Overrides) -> Geometry {
    let mut hosts: BTreeMap<&str, u32> = BTreeMap::new();
    for worker in workers {
        *hosts.entry(&worker.host).or_default() += 1;
    }
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut capacities = Vec::new();
    for worker in workers {
        let sharers = hosts[worker.host.as_str()];
        let place = seen.entry(&worker.host).or_default();
        let capacity = share(worker, *place, sharers, overrides);
        *place += 1;
        if worker.is_bound() && capacity.cpus > worker.usable_cpus {
            warnings.push(format!(
                "a worker on `{}` is bound to {} of {} cores but shall use {}; start it without binding",
                worker.host, worker.usable_cpus, worker.node_cpus, capacity.cpus
            ));
        }
        if worker.is_bound() && overrides.cpus.is_none() && sharers * worker.usable_cpus < worker.node_cpus {
            warnings.push(format!(
                "a worker on `{}` is bound to {} of {} cores and uses no more; `mpirun --bind-to none` gives it the rest",
                worker.host, worker.usable_cpus, worker.node_cpus
            ));
        }
        capacities.push(capacity);
    }
    warnings.dedup();
    Geometry { capacities, warnings }
}

fn share(worker: &Hardware, place: u32, sharers: u32, overrides: &Overrides) -> Resources {
    let cpus = match worker.is_bound() {
        true => worker.usable_cpus,
        false => worker.usable_cpus / sharers + u32::from(place < worker.usable_cpus % sharers),
    };
    let mut capacity = Resources {
        cpus: overrides.cpus.unwrap_or(cpus).max(1),
        memory_bytes: worker.memory_bytes / u64::from(sharers),
        ..Resources::default()
    };
    for (name, &amount) in &overrides.resources {
        match name.as_str() {
            "memory" => capacity.memory_bytes = amount,
            "gpus" => capacity.gpus = u32::try_from(amount).unwrap_or(u32::MAX),
            _ => drop(capacity.custom.insert(name.clone(), amount)),
        }
    }
    capacity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hardware(host: &str, usable_cpus: u32, node_cpus: u32) -> Hardware {
        Hardware { host: host.into(), usable_cpus, node_cpus, memory_bytes: 8_000 }
    }

    fn cpus(workers: &[Hardware], overrides: &Overrides) -> Vec<u32> {
        divide(workers, overrides).capacities.iter().map(|capacity| capacity.cpus).collect()
    }

    #[test]
    fn unbound_workers_share_their_node() {
        let workers = [hardware("a", 5, 5), hardware("b", 4, 4), hardware("a", 5, 5)];
        assert_eq!(cpus(&workers, &Overrides::default()), [3, 4, 2]);
        assert_eq!(divide(&workers, &Overrides::default()).capacities[0].memory_bytes, 4_000);
    }

    #[test]
    fn bound_workers_have_what_they_are_bound_to_and_are_warned() {
        let workers = [hardware("a", 1, 8), hardware("a", 1, 8)];
        assert_eq!(cpus(&workers, &Overrides::default()), [1, 1]);
        assert_eq!(divide(&workers, &Overrides::default()).warnings.len(), 1);
    }

    #[test]
    fn more_workers_than_cores_have_one_each() {
        let workers = vec![hardware("a", 2, 2); 4];
        assert_eq!(cpus(&workers, &Overrides::default()), [1, 1, 1, 1]);
    }

    #[test]
    fn what_the_user_says_counts() {
        let resources = [("memory", 5), ("gpus", 2), ("licence", 3)];
        let resources = resources.into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect();
        let overrides = Overrides { cpus: Some(16), resources };
        let capacity = &divide(&[hardware("a", 2, 2)], &overrides).capacities[0];
        assert_eq!((capacity.cpus, capacity.memory_bytes, capacity.gpus), (16, 5, 2));
        assert_eq!(capacity.custom["licence"], 3);
    }
}
