//! A process that has something to itself, described so that others can tell whether it is gone.

use std::fmt;
use std::fs;
use std::io;
use std::process;

use nix::libc;
use serde::{Deserialize, Serialize};

/// A process, and the batch job that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The host it is on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// When that process was born, in the kernel's ticks: numbers are used again. 0 if nobody knows.
    pub born: u64,
    /// Which numbering of processes `pid` belongs to: a container may have its own on the same
    /// host. Empty if nobody knows.
    #[serde(default)]
    pub pid_space: String,
    /// The batch job it is in, if any.
    pub job: Option<String>,
    /// How often that job was started again before.
    pub restarts: u32,
}

impl Owner {
    /// This process, in this job.
    pub fn this_process(job: Option<String>, restarts: u32) -> Self {
        let pid = process::id();
        Owner {
            host: host(),
            pid,
            born: born(pid).ok().flatten().unwrap_or(0),
            pid_space: pid_space(),
            job,
            restarts,
        }
    }

    /// True if the owner may still be at work, as far as `other` can know without waiting: of two
    /// starts of one job, the other is taken for the later one.
    pub(super) fn may_live(&self, other: &Owner) -> bool {
        if self.is_seen_by(other) {
            return !self.is_no_more();
        }
        // A job is started again, elsewhere or later, only when its first start is over.
        self.job.is_none() || self.job != other.job
    }

    /// True if the owner is gone for sure, as far as `other` can know. Two processes of one start
    /// of a job may be two runs that a person began in it.
    pub(super) fn is_gone(&self, other: &Owner) -> bool {
        let job_began_again = self.job.is_some() && self.job == other.job && self.restarts < other.restarts;
        self.is_dead(other) || job_began_again
    }

    /// True if `other`, which must be this process, would see the owner if it lived.
    pub(super) fn is_dead(&self, other: &Owner) -> bool {
        self.is_seen_by(other) && self.born != 0 && self.is_no_more()
    }

    /// True if no process here has its number, or one that was born at another time.
    fn is_no_more(&self) -> bool {
        born(self.pid).is_ok_and(|born| born != Some(self.born))
    }

    /// True if `other`, which must be this process, would see the owner among its own processes.
    fn is_seen_by(&self, other: &Owner) -> bool {
        let is_same_space = self.pid_space.is_empty() || self.pid_space == other.pid_space;
        self.host == other.host && is_same_space
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "process {} on {}", self.pid, self.host)?;
        self.job.as_ref().map_or(Ok(()), |job| write!(out, ", in job {job}"))
    }
}

fn host() -> String {
    hostname::get().map_or_else(|_| "unknown".to_owned(), |host| host.to_string_lossy().into_owned())
}

/// When a process of this host was born; nothing if there is none, or only its exit code is left.
///
/// # Errors
/// When that cannot be found out now, as without memory or descriptors.
fn born(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // It ended while it was looked at.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        read => read?,
    };
    // The name in parentheses may have spaces; the birth is the 20th word behind it.
    let birth = || {
        let mut words = stat.rsplit_once(") ")?.1.split(' ');
        let is_over = ["Z", "X"].contains(&words.next()?);
        words.nth(18)?.parse().ok().filter(|_| !is_over)
    };
    Ok(birth())
}

/// The kernel's name for the numbering of this process: `pid:[4026531836]`.
fn pid_space() -> String {
    let space = fs::read_link("/proc/self/ns/pid");
    space.map_or_else(|_| String::new(), |space| space.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(host: &str, pid: u32, job: Option<&str>, restarts: u32) -> Owner {
        let me = Owner::this_process(job.map(str::to_owned), restarts);
        Owner { host: host.into(), pid, born: born(pid).unwrap().unwrap_or(1), ..me }
    }

    #[test]
    fn whoever_is_surely_gone_owns_nothing() {
        let here = host();
        let me = owner(&here, process::id(), Some("7"), 1);
        let gone = Owner { pid: u32::MAX, ..owner(&here, 1, None, 0) };
        assert!(!gone.may_live(&me) && gone.is_gone(&me), "no such process on this host");
        let reused = Owner { born: 3, ..me.clone() };
        assert!(!reused.may_live(&me) && reused.is_gone(&me), "another process with its number");
        let earlier = owner("elsewhere", 5, Some("7"), 0);
        assert!(!earlier.may_live(&me) && earlier.is_gone(&me), "the same job, started again");
        let stranger = owner("elsewhere", 5, Some("8"), 0);
        assert!(stranger.may_live(&me) && !stranger.is_gone(&me), "another job");
        let unknown = owner("elsewhere", 5, None, 0);
        assert!(unknown.may_live(&me) && !unknown.is_gone(&me), "nobody knows");
    }

    #[test]
    fn what_cannot_be_seen_is_not_gone_for_sure() {
        let here = host();
        let me = owner(&here, process::id(), Some("7"), 1);
        assert!(!me.is_gone(&me));
        let beside = owner("elsewhere", 5, Some("7"), 1);
        assert!(!beside.is_gone(&me), "another process of the same start of the job");
        let contained = Owner { pid: u32::MAX, pid_space: "pid:[5]".into(), ..me.clone() };
        assert!(!contained.is_gone(&me), "another numbering of processes");
        let ageless = Owner { pid: u32::MAX, born: 0, ..me.clone() };
        assert!(!ageless.is_gone(&me), "its system does not tell of processes");
    }
}
