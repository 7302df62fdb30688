//! How much memory the processes of an attempt hold together, and whether that is more than they may.
//!
//! A short program is never looked at. A longer one is looked at so often that it cannot go far beyond its limit in
//! between: the less is left, the sooner. Pages that several processes share count once, and those of files that are
//! mapped or read not at all: the system takes them back when it needs them.

use std::fs;

use nix::unistd::Pid;

use super::descendants::descendants;
use crate::clock::now;
use crate::core::time::{Micros, Timestamp};

/// The first look. Most programs have ended by then.
const FIRST: Micros = Micros::from_millis(100);
/// The next looks come no sooner than this and no later than that.
const SOONEST: Micros = Micros::from_millis(50);
const LATEST: Micros = Micros::from_secs(1);
/// How many times as long as a look took nothing is looked at after it: where much is shared it may take seconds.
const PAUSE_OF_LOOK: u64 = 20;
/// How many bytes a program is expected to take at the most in a microsecond: 2 GB in a second, which a core that
/// clears pages reaches.
const BYTES_PER_US: u64 = 2_000;

/// Looks at what an attempt holds.
#[derive(Debug)]
pub struct MemoryWatch {
    /// The process that it looks at, with all that it has started; this one's children, if none is named.
    process: Option<Pid>,
    limit_bytes: u64,
    next: Timestamp,
    over_bytes: Option<u64>,
}

impl MemoryWatch {
    /// For an attempt that begins now.
    pub fn begin(limit_bytes: u64) -> Self {
        MemoryWatch { process: None, limit_bytes, next: now() + FIRST, over_bytes: None }
    }

    /// The same for an attempt that runs in one process and in what that starts.
    pub fn begin_at(process: Pid, limit_bytes: u64) -> Self {
        MemoryWatch { process: Some(process), ..MemoryWatch::begin(limit_bytes) }
    }

    /// When to look next.
    pub fn next_look(&self) -> Timestamp {
        self.next
    }

    /// What the attempt held when it was too much.
    pub fn over_bytes(&self) -> Option<u64> {
        self.over_bytes
    }

    /// Looks, if it is time to. True once the attempt holds too much.
    pub fn is_exceeded(&mut self) -> bool {
        if self.over_bytes.is_some() {
            return true;
        }
        let began = now();
        if began < self.next {
            return false;
        }
        let processes = match self.process {
            None => processes(),
            Some(process) => below(vec![process]),
        };
        let mut held = own(&processes);
        if held > self.limit_bytes {
            held = own_share(&processes);
        }
        if held > self.limit_bytes {
            self.over_bytes = Some(held);
            return true;
        }
        let ended = now();
        self.next = ended + pause(self.limit_bytes - held, ended.since(began));
        false
    }
}

/// Everything below this process. Whom a thread has started is asked of the system, as a look at every process of the
/// node, by each attempt, would cost more than the attempts; where it cannot say, that is done.
fn processes() -> Vec<Pid> {
    match children(Pid::this()) {
        Some(children) => below(children),
        None => descendants().into_iter().map(|one| one.pid).collect(),
    }
}

/// These processes and everything below them.
fn below(mut found: Vec<Pid>) -> Vec<Pid> {
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        // One that has ended meanwhile has left its children to this process.
        found.extend(children(parent).unwrap_or_default());
        next += 1;
    }
    found
}

fn children(parent: Pid) -> Option<Vec<Pid>> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task")).ok()?.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).ok()?;
        found.extend(text.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw));
    }
    Some(found)
}

/// How soon all that is left may be taken; later where the look itself takes long.
fn pause(left_bytes: u64, look: Micros) -> Micros {
    let soonest = Micros(look.0.saturating_mul(PAUSE_OF_LOOK));
    Micros(left_bytes / BYTES_PER_US).clamp(SOONEST, LATEST).max(soonest)
}

/// Bytes that are in memory and in no file, those that are shared counted for each process: quickly read.
fn own(processes: &[Pid]) -> u64 {
    let of = |one: &Pid| fs::read_to_string(format!("/proc/{one}/status")).ok().map(|text| own_bytes(&text));
    processes.iter().filter_map(of).sum()
}

/// What the status of a process says. Kernels before 4.5 tell files not apart; what has ended holds nothing.
fn own_bytes(status: &str) -> u64 {
    let parts = bytes_of(status, "RssAnon:").zip(bytes_of(status, "RssShmem:"));
    parts.map(|(own, shared)| own + shared).or_else(|| bytes_of(status, "VmRSS:")).unwrap_or(0)
}

/// The same with what is shared divided among those that share it. The system has to look at every page for that.
/// Of a process that may not be read, all that it has counts.
fn own_share(processes: &[Pid]) -> u64 {
    let of = |one: &Pid| {
        let quick = own(std::slice::from_ref(one));
        let text = fs::read_to_string(format!("/proc/{one}/smaps_rollup")).ok();
        // A kernel that tells files not apart here says more than the quick look.
        text.as_deref().and_then(share_bytes).map_or(quick, |share| share.min(quick))
    };
    processes.iter().map(of).sum()
}

/// What a roll-up says. Kernels before 5.4 tell files not apart.
fn share_bytes(rollup: &str) -> Option<u64> {
    let parts = bytes_of(rollup, "Pss_Anon:").zip(bytes_of(rollup, "Pss_Shmem:"));
    parts.map(|(own, shared)| own + shared).or_else(|| bytes_of(rollup, "Pss:"))
}

/// `Pss:  1234 kB` and the like.
fn bytes_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_memory_do_not_count() {
        let rollup = "55d0-7ffc ---p 00000000 00:00 0 [rollup]\nRss:    9000 kB\nPss:     512 kB\n";
        assert_eq!(share_bytes(rollup), Some(512 * 1024));
        let apart = format!("{rollup}Pss_Anon: 7 kB\nPss_File: 500 kB\nPss_Shmem:  5 kB\n");
        assert_eq!(share_bytes(&apart), Some(12 * 1024));
        assert_eq!(share_bytes("Rss: 9 kB\n"), None);
        let status = "Name:\tcat\nVmHWM:\t 99 kB\nVmRSS:\t    90 kB\n";
        assert_eq!(own_bytes(status), 90 * 1024);
        let apart = format!("{status}RssAnon:\t 60 kB\nRssFile:\t 20 kB\nRssShmem:\t 10 kB\n");
        assert_eq!(own_bytes(&apart), 70 * 1024);
        assert_eq!(own_bytes("Name:\tzombie\n"), 0);
    }

    #[test]
    fn the_less_is_left_the_sooner_is_looked() {
        assert_eq!(pause(u64::MAX, Micros(10)), LATEST);
        assert_eq!(pause(1_000_000_000, Micros(10)), Micros::from_millis(500));
        assert_eq!(pause(0, Micros(10)), SOONEST);
    }

    #[test]
    fn a_look_that_takes_long_is_taken_seldom() {
        assert_eq!(pause(0, Micros::from_millis(100)), Micros::from_secs(2));
        assert_eq!(pause(u64::MAX, Micros::from_millis(100)), Micros::from_secs(2));
    }
}
