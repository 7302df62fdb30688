//! How often the system killed something here for want of memory.
//!
//! The count is that of the rank's cgroup, so it says that someone was killed, not who. It is
//! therefore asked only about programs that ended by KILL, soon after.

use std::fs;
use std::path::PathBuf;

use crate::clock::now;
use crate::core::time::{Micros, Timestamp};

/// A rise counts for every program that ends by KILL within this time: one shortage often kills
/// several at once.
const SHORTAGE: Micros = Micros::from_secs(1);

/// The cgroup's count of out-of-memory kills, and when it last rose.
#[derive(Debug)]
pub struct MemoryEvents {
    file: Option<PathBuf>,
    count: u64,
    rose: Option<Timestamp>,
}

impl MemoryEvents {
    /// Starts to watch the cgroup that this process is in.
    pub fn new() -> Self {
        let file = fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| count_file(&text));
        let mut events = MemoryEvents { file, count: 0, rose: None };
        events.count = events.read();
        events
    }

    /// True if the count rose just now.
    pub fn is_short(&mut self) -> bool {
        let count = self.read();
        if count > self.count {
            self.count = count;
            self.rose = Some(now());
        }
        self.rose.is_some_and(|rose| now().since(rose) <= SHORTAGE)
    }

    fn read(&self) -> u64 {
        let text = self.file.as_ref().and_then(|file| fs::read_to_string(file).ok());
        text.as_deref().and_then(oom_kills).unwrap_or(0)
    }
}

/// The file with the count: of the memory controller if it is mounted the old way, else of the
/// unified hierarchy. The root of the unified hierarchy has none.
fn count_file(cgroups: &str) -> Option<PathBuf> {
    let old = cgroups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let file = PathBuf::from(format!("/sys/fs/cgroup/memory{path}/memory.oom_control"));
        controllers.split(',').any(|one| one == "memory").then_some(file)
    });
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    let unified = unified.map(|path| PathBuf::from(format!("/sys/fs/cgroup{path}/memory.events")));
    old.into_iter().chain(unified).find(|file| file.exists())
}

fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_cgroup_are_read() {
        assert_eq!(oom_kills("low 0\nhigh 0\nmax 3\noom 2\noom_kill 2\n"), Some(2));
        assert_eq!(oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), Some(5));
        assert_eq!(oom_kills("under_oom 0\n"), None);
    }
}
