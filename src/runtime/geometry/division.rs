//! Divides things of one node among the workers that may use them.

use std::collections::BTreeSet;

use crate::worker::hardware::Cpu;

/// Gives each worker a part of what it claims; nothing is given to two.
///
/// Workers that claim the same divide it in equal parts that lie together, as `split` does. Workers
/// that claim different things keep them. Where claims overlap in part, the worker with least takes
/// next, as often as there is something.
pub fn divide<T: Clone + Ord>(claims: &[&[T]], split: impl Fn(&[T], usize) -> Vec<Vec<T>>) -> Vec<Vec<T>> {
    let mut shares = vec![Vec::new(); claims.len()];
    for group in overlapping(claims) {
        let claim = claims[group[0]];
        let parts = match group.iter().all(|&member| claims[member] == claim) {
            true => split(claim, group.len()),
            false => take_in_turn(&group.iter().map(|&member| claims[member]).collect::<Vec<_>>()),
        };
        for (member, part) in group.into_iter().zip(parts) {
            shares[member] = part;
        }
    }
    shares
}

/// The workers in groups that have nothing in common with each other, each in order.
fn overlapping<T: Ord>(claims: &[&[T]]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(BTreeSet<&T>, Vec<usize>)> = Vec::new();
    for (worker, claim) in claims.iter().enumerate() {
        let mut things: BTreeSet<&T> = claim.iter().collect();
        let mut members = Vec::new();
        groups.retain_mut(|(other, others)| {
            let is_apart = other.is_disjoint(&things);
            if !is_apart {
                things.append(other);
                members.append(others);
            }
            is_apart
        });
        members.push(worker);
        members.sort_unstable();
        groups.push((things, members));
    }
    groups.into_iter().map(|(_, members)| members).collect()
}

fn take_in_turn<T: Clone + Ord>(claims: &[&[T]]) -> Vec<Vec<T>> {
    let mut left: BTreeSet<&T> = claims.iter().flat_map(|claim| claim.iter()).collect();
    let mut shares: Vec<Vec<T>> = vec![Vec::new(); claims.len()];
    loop {
        let open = |worker: usize| claims[worker].iter().filter(|thing| left.contains(thing)).count();
        let next = (0..claims.len()).map(|worker| (shares[worker].len(), open(worker), worker));
        let Some((_, _, worker)) = next.filter(|(_, open, _)| *open > 0).min() else { return shares };
        let thing = claims[worker].iter().find(|thing| left.contains(thing)).expect("something is open");
        left.remove(thing);
        shares[worker].push(thing.clone());
    }
}

/// Equal parts in order; the first ones are larger by one where it does not come out even.
pub fn split<T: Clone>(things: &[T], parts: usize) -> Vec<Vec<T>> {
    let mut rest = things;
    let take = |part: usize| {
        let (share, others) = rest.split_at(things.len() / parts + usize::from(part < things.len() % parts));
        rest = others;
        share.to_vec()
    };
    (0..parts).map(take).collect()
}

/// The same for CPUs, which stand in the order of their places: no part spans two NUMA nodes if that
/// costs no worker more than one CPU.
pub fn split_cpus(cpus: &[Cpu], parts: usize) -> Vec<Vec<Cpu>> {
    let nodes: Vec<&[Cpu]> =
        cpus.chunk_by(|one, next| (one.package, one.node) == (next.package, next.node)).collect();
    if nodes.len() > 1 && parts >= nodes.len() {
        let aligned: Vec<Vec<Cpu>> = workers_of_nodes(&nodes, parts)
            .into_iter()
            .zip(&nodes)
            .flat_map(|(count, node)| split(node, count))
            .collect();
        let sizes = || aligned.iter().map(Vec::len);
        if sizes().max() <= sizes().min().map(|least| least + 1) {
            return aligned;
        }
    }
    split(cpus, parts)
}

/// How many workers each NUMA node gets: the next one goes where each would have most.
fn workers_of_nodes(nodes: &[&[Cpu]], parts: usize) -> Vec<usize> {
    let mut counts = vec![1; nodes.len()];
    for _ in nodes.len()..parts {
        let crowded = |node: &usize| nodes[*node].len() * 1000 / (counts[*node] + 1);
        let next = (0..nodes.len()).rev().max_by_key(crowded).expect("there are nodes");
        counts[next] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPUs in NUMA nodes of these sizes.
    fn cpus(nodes: &[u32]) -> Vec<Cpu> {
        let places = nodes.iter().zip(0..).flat_map(|(&size, node)| (0..size).map(move |_| node));
        places.zip(0..).map(|(node, id)| Cpu { node, id, core: id, package: 0 }).collect()
    }

    fn sizes(nodes: &[u32], parts: usize) -> Vec<usize> {
        split_cpus(&cpus(nodes), parts).iter().map(Vec::len).collect()
    }

    #[test]
    fn parts_are_equal_and_whole() {
        assert_eq!(split(&[1, 2, 3, 4, 5], 3), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(split(&[1], 3), [vec![1], vec![], vec![]]);
    }

    #[test]
    fn parts_keep_to_numa_nodes_where_that_is_fair() {
        assert_eq!(sizes(&[5, 5], 4), [3, 2, 3, 2]);
        assert_eq!(sizes(&[8, 8], 2), [8, 8]);
        assert_eq!(sizes(&[4, 4], 3), [3, 3, 2]);
        assert_eq!(sizes(&[2, 6], 4), [2, 2, 2, 2]);
        assert_eq!(sizes(&[4, 4, 4, 4], 2), [8, 8]);
        let parts = split_cpus(&cpus(&[5, 5]), 4);
        assert!(parts.iter().all(|part| part.iter().all(|cpu| cpu.node == part[0].node)), "{parts:?}");
    }

    #[test]
    fn who_claims_the_same_divides_it_and_who_claims_another_keeps_it() {
        let claims: [&[i32]; 5] = [&[1, 2, 3], &[7, 8], &[1, 2, 3], &[], &[9]];
        assert_eq!(divide(&claims, split), [vec![1, 2], vec![7, 8], vec![3], vec![], vec![9]]);
    }

    #[test]
    fn overlapping_claims_are_shared_out_fairly() {
        let claims: [&[i32]; 3] = [&[1, 2, 3, 4], &[3, 4], &[4, 5]];
        let shares = divide(&claims, split);
        assert_eq!(shares, [vec![1, 2], vec![3], vec![4, 5]]);
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_given_to_two_or_lost(
            claims in proptest::collection::vec(proptest::collection::btree_set(0..20_u32, 0..12), 1..6),
        ) {
            let claims: Vec<Vec<u32>> = claims.into_iter().map(|claim| claim.into_iter().collect()).collect();
            let claimed: Vec<&[u32]> = claims.iter().map(Vec::as_slice).collect();
            let shares = divide(&claimed, split);
            for (share, claim) in shares.iter().zip(&claims) {
                proptest::prop_assert!(share.iter().all(|thing| claim.contains(thing)));
            }
            let mut given: Vec<u32> = shares.into_iter().flatten().collect();
            given.sort_unstable();
            let all: BTreeSet<u32> = claims.into_iter().flatten().collect();
            proptest::prop_assert_eq!(given, all.into_iter().collect::<Vec<_>>());
        }
    }
}
