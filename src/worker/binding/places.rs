//! Numbered places that are free or taken. Which CPUs go together is decided here.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::worker::hardware::Cpu;

/// Places of which each is as good as another.
#[derive(Debug)]
pub struct Places {
    free: BTreeSet<u32>,
}

impl Places {
    /// The places 0 to `count - 1`, all free.
    pub fn new(count: u32) -> Self {
        Places { free: (0..count).collect() }
    }

    /// Takes the lowest ones.
    ///
    /// # Panics
    /// When fewer are free.
    pub fn take(&mut self, count: u32) -> Vec<u32> {
        let chosen: Vec<u32> = self.free.iter().copied().take(count as usize).collect();
        self.remove(&chosen, count);
        chosen
    }

    /// Makes places free again.
    pub fn give_back(&mut self, places: &[u32]) {
        for &place in places {
            assert!(self.free.insert(place), "place {place} was given back twice");
        }
    }

    fn remove(&mut self, chosen: &[u32], count: u32) {
        assert_eq!(chosen.len(), count as usize, "more is taken than was counted");
        for place in chosen {
            self.free.remove(place);
        }
    }
}

/// CPUs, of which neighbours are better together.
#[derive(Debug)]
pub struct CpuPlaces {
    places: Places,
    /// The CPU of each place. A worker that was told to use more CPUs than it has takes them in turn.
    cpus: Vec<Cpu>,
}

impl CpuPlaces {
    /// As many places as the worker may use at once; none if it is not known which CPUs they are.
    pub fn new(cpus: &[Cpu], count: u32) -> Self {
        let cpus: Vec<Cpu> = cpus.iter().copied().cycle().take(count as usize).collect();
        CpuPlaces { places: Places::new(cpus.len() as u32), cpus }
    }

    /// Takes places in one NUMA node if one has enough, else in one socket if one has enough; in the
    /// fullest of those that have, so that the others stay whole. Neighbours if there are any.
    ///
    /// # Panics
    /// When fewer are free.
    pub fn take(&mut self, count: u32) -> Vec<u32> {
        if self.cpus.is_empty() {
            return Vec::new();
        }
        let chosen = self.choose(count as usize);
        self.places.remove(&chosen, count);
        chosen
    }

    /// Makes places free again.
    pub fn give_back(&mut self, places: &[u32]) {
        self.places.give_back(places);
    }

    /// The numbers of the CPUs at these places, sorted, each once.
    pub fn ids(&self, places: &[u32]) -> Vec<u32> {
        let ids: BTreeSet<u32> = places.iter().map(|&place| self.cpus[place as usize].id).collect();
        ids.into_iter().collect()
    }

    fn choose(&self, count: usize) -> Vec<u32> {
        let nodes = self.free_by(|cpu| (cpu.package, cpu.node));
        let mut chosen = match tightest(&nodes, count) {
            Some(node) => neighbours(node, count),
            None => {
                let sockets = self.free_by(|cpu| cpu.package);
                let all: Vec<u32> = self.places.free.iter().copied().collect();
                self.choose_few_nodes(tightest(&sockets, count).unwrap_or(&all), count)
            }
        };
        chosen.sort_unstable();
        chosen
    }

    /// The free places by where their CPUs are.
    fn free_by<K: Ord>(&self, key: impl Fn(&Cpu) -> K) -> BTreeMap<K, Vec<u32>> {
        let mut domains: BTreeMap<K, Vec<u32>> = BTreeMap::new();
        for &place in &self.places.free {
            domains.entry(key(&self.cpus[place as usize])).or_default().push(place);
        }
        domains
    }

    /// Takes whole NUMA nodes, the one with most free places first.
    fn choose_few_nodes(&self, places: &[u32], count: usize) -> Vec<u32> {
        let mut nodes: BTreeMap<(u32, u32), Vec<u32>> = BTreeMap::new();
        for &place in places {
            let cpu = &self.cpus[place as usize];
            nodes.entry((cpu.package, cpu.node)).or_default().push(place);
        }
        let mut nodes: Vec<Vec<u32>> = nodes.into_values().collect();
        nodes.sort_by_key(|node| Reverse(node.len()));
        let mut chosen = Vec::new();
        for node in nodes {
            let wanted = (count - chosen.len()).min(node.len());
            chosen.extend(neighbours(&node, wanted));
        }
        chosen
    }
}

/// The fullest domain that still has enough.
fn tightest<K>(domains: &BTreeMap<K, Vec<u32>>, count: usize) -> Option<&Vec<u32>> {
    domains.values().filter(|places| places.len() >= count).min_by_key(|places| places.len())
}

/// `count` of these places: out of the shortest row that has enough, else of few rows.
fn neighbours(places: &[u32], count: usize) -> Vec<u32> {
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for &place in places {
        match rows.last_mut() {
            Some(row) if row.last() == Some(&place.wrapping_sub(1)) => row.push(place),
            _ => rows.push(vec![place]),
        }
    }
    let enough = rows.iter().filter(|row| row.len() >= count).min_by_key(|row| row.len());
    if let Some(row) = enough {
        return row[..count].to_vec();
    }
    rows.sort_by_key(|row| Reverse(row.len()));
    rows.into_iter().flatten().take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sockets of two NUMA nodes of four CPUs.
    fn places() -> CpuPlaces {
        let cpus: Vec<Cpu> = (0..16).map(|id| Cpu { id, core: id, node: id / 4, package: id / 8 }).collect();
        CpuPlaces::new(&cpus, 16)
    }

    #[test]
    fn small_tasks_fill_a_node_before_they_open_the_next() {
        let mut places = places();
        for expected in [[0, 1], [2, 3], [4, 5]] {
            assert_eq!(places.take(2), expected);
        }
        assert_eq!(places.take(3), [8, 9, 10]);
        assert_eq!(places.take(1), [11]);
        assert_eq!(places.take(2), [6, 7]);
    }

    #[test]
    fn a_task_stays_in_one_node_or_in_one_socket() {
        let mut places = places();
        assert_eq!(places.take(1), [0]);
        assert_eq!(places.take(4), [4, 5, 6, 7]);
        assert_eq!(places.take(6), [8, 9, 10, 11, 12, 13]);
        assert_eq!(places.take(5), [1, 2, 3, 14, 15]);
    }

    #[test]
    fn the_shortest_row_that_is_long_enough_is_used() {
        let mut places = places();
        let taken: Vec<Vec<u32>> = (0..4).map(|_| places.take(1)).collect();
        places.give_back(&taken[0]);
        places.give_back(&taken[2]);
        places.give_back(&taken[3]);
        assert_eq!(places.take(1), [0]);
        assert_eq!(places.take(2), [2, 3]);
    }

    #[test]
    fn more_places_than_cpus_use_the_cpus_in_turn() {
        let cpus = [Cpu { id: 5, ..Cpu::default() }, Cpu { id: 7, ..Cpu::default() }];
        let mut places = CpuPlaces::new(&cpus, 4);
        let taken: Vec<Vec<u32>> = (0..2).map(|_| places.take(2)).collect();
        assert_eq!(taken, [[0, 1], [2, 3]]);
        assert_eq!(places.ids(&taken[1]), [5, 7]);
        assert_eq!(CpuPlaces::new(&[], 4).take(3), [0; 0]);
    }

    #[test]
    #[should_panic(expected = "more is taken than was counted")]
    fn taking_what_is_not_there_is_a_bug() {
        Places::new(2).take(3);
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_back_what_was_not_taken_is_a_bug() {
        Places::new(2).give_back(&[1]);
    }
}
