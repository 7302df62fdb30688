//! Everything that descends from this process, read from `/proc`.
//!
//! Looked for only when something must be ended; an attempt that leaves nothing costs no look.

use std::fs;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// A process below this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descendant {
    pub pid: Pid,
    pub parent: Pid,
    pub group: Pid,
}

/// All processes below this one, each behind its parent. Zombies too: a process whose first thread
/// has ended looks like one while its other threads run on.
pub fn descendants() -> Vec<Descendant> {
    let all: Vec<Descendant> = all_processes();
    let mut found: Vec<Descendant> = all.iter().filter(|one| one.parent == Pid::this()).copied().collect();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|one| one.pid) {
        found.extend(all.iter().filter(|one| one.parent == parent));
        next += 1;
    }
    found
}

/// Sends `signal` to every descendant, once to each.
///
/// `group` is a process group whose leader has not been reaped, so that its number cannot have
/// passed to strangers. It gets the signal as a whole, which no fork can slip through.
pub fn signal_all(signal: Signal, group: Option<Pid>) -> usize {
    let found = descendants();
    if let Some(group) = group {
        let _ = killpg(group, signal);
    }
    for one in found.iter().filter(|one| Some(one.group) != group) {
        let _ = kill(one.pid, signal);
    }
    found.len()
}

fn all_processes() -> Vec<Descendant> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.as_bytes()[0].is_ascii_digit()).filter_map(|name| read(&name)).collect()
}

fn read(pid: &str) -> Option<Descendant> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of `/proc/PID/stat`. The name in parentheses may hold anything, so fields are
/// counted from the last one that closes.
fn parse(line: &[u8]) -> Option<Descendant> {
    let line = String::from_utf8_lossy(line);
    let (head, tail) = line.rsplit_once(')')?;
    let number = |text: &str| text.trim().parse().ok().map(Pid::from_raw);
    let pid = number(head.split(' ').next()?)?;
    let mut fields = tail.split_whitespace();
    let _state = fields.next()?;
    Some(Descendant { pid, parent: number(fields.next()?)?, group: number(fields.next()?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_is_read() {
        let one = parse(b"12 (a) b (c) S 7 12 5 0 -1").unwrap();
        let expected =
            Descendant { pid: Pid::from_raw(12), parent: Pid::from_raw(7), group: Pid::from_raw(12) };
        assert_eq!(one, expected);
    }

    #[test]
    fn a_line_that_is_cut_off_is_no_process() {
        assert_eq!(parse(b"12 (a) S 7"), None);
    }
}
