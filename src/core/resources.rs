//! What a task asks for and what a worker has: a vector of countable things.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// An amount of every resource: a task's request, a worker's capacity, or what is left of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Cores.
    pub cpus: u32,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// GPUs.
    pub gpus: u32,
    /// Resources that a user named, such as licences, by name.
    pub custom: BTreeMap<String, u64>,
}

impl Resources {
    /// `cpus` cores and nothing else.
    pub fn cores(cpus: u32) -> Self {
        Resources { cpus, ..Resources::default() }
    }

    /// True if every amount of `request` is covered by this one.
    pub fn covers(&self, request: &Resources) -> bool {
        request.cpus <= self.cpus
            && request.memory_bytes <= self.memory_bytes
            && request.gpus <= self.gpus
            // Most ask for nothing else, and this is asked of every worker.
            && (request.custom.is_empty()
                || request.custom.iter().all(|(name, asked)| *asked <= self.amount(name)))
    }

    /// True if `used` and `request` together are covered by this one.
    pub fn covers_besides(&self, used: &Resources, request: &Resources) -> bool {
        // A request may be as large as a number can be.
        let fits =
            |used: u32, asked: u32, here: u32| here.checked_sub(used).is_some_and(|left| asked <= left);
        fits(used.cpus, request.cpus, self.cpus)
            && used.memory_bytes.saturating_add(request.memory_bytes) <= self.memory_bytes
            && fits(used.gpus, request.gpus, self.gpus)
            && request
                .custom
                .iter()
                .all(|(name, asked)| used.amount(name).saturating_add(*asked) <= self.amount(name))
    }

    fn amount(&self, name: &str) -> u64 {
        self.custom.get(name).copied().unwrap_or(0)
    }

    /// The first resource that `request` asks more of than is here: its name, asked, here.
    pub fn first_lack(&self, request: &Resources) -> Option<(String, u64, u64)> {
        let fixed = [
            ("cpus", u64::from(request.cpus), u64::from(self.cpus)),
            ("memory", request.memory_bytes, self.memory_bytes),
            ("gpus", u64::from(request.gpus), u64::from(self.gpus)),
        ];
        let lack = fixed.into_iter().find(|(_, asked, here)| asked > here);
        if let Some((name, asked, here)) = lack {
            return Some((name.to_owned(), asked, here));
        }
        request.custom.iter().find_map(|(name, &asked)| {
            let here = self.custom.get(name).copied().unwrap_or(0);
            (asked > here).then(|| (name.clone(), asked, here))
        })
    }

    /// Takes `request` out of what is here.
    ///
    /// # Panics
    /// When it is not covered: the caller asks `covers` first.
    pub fn take(&mut self, request: &Resources) {
        assert!(self.covers(request), "taking {request:?} from {self:?}");
        self.cpus -= request.cpus;
        self.memory_bytes -= request.memory_bytes;
        self.gpus -= request.gpus;
        for (name, asked) in &request.custom {
            if let Some(here) = self.custom.get_mut(name) {
                *here -= asked;
            }
        }
    }

    /// Gives back what `take` took, several times.
    pub fn give_times(&mut self, request: &Resources, times: u32) {
        self.cpus += request.cpus * times;
        self.memory_bytes += request.memory_bytes * u64::from(times);
        self.gpus += request.gpus * times;
        for (name, amount) in &request.custom {
            *self.custom.entry(name.clone()).or_default() += amount * u64::from(times);
        }
    }

    /// Gives back what `take` took.
    pub fn give(&mut self, request: &Resources) {
        self.cpus += request.cpus;
        self.memory_bytes += request.memory_bytes;
        self.gpus += request.gpus;
        for (name, amount) in &request.custom {
            *self.custom.entry(name.clone()).or_default() += amount;
        }
    }
}

/// A number of bytes for people: `2.1 GiB`.
pub fn spoken_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = (0..UNITS.len() - 1).find(|&unit| bytes >> (10 * unit) < 1000).unwrap_or(UNITS.len() - 1);
    let tenths = (bytes as f64 / (1_u64 << (10 * unit)) as f64 * 10.0).round() as u64;
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        rest => format!("{}.{rest} {}", tenths / 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_request_is_not_covered_besides_another() {
        let (here, used) = (Resources::cores(8), Resources::cores(1));
        let largest = Resources { gpus: u32::MAX, ..Resources::cores(u32::MAX) };
        assert!(!here.covers_besides(&used, &largest));
        assert!(here.covers_besides(&used, &Resources::cores(7)));
    }
}
