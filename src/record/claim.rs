//! `launch.lock`: which process launches a run just now, so that no second one takes the run
//! directory from its ranks.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

use super::publish::{create_private, publish};

/// Whoever launches a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The host it is on.
    pub host: String,
    /// Its process there.
    pub pid: u32,
    /// When that process was born, in the kernel's ticks: numbers are used again.
    pub born: u64,
    /// The batch job it is in, if any.
    pub job: Option<String>,
    /// How often that job was started again before.
    pub restarts: u32,
}

impl Owner {
    /// This process, in this job.
    pub fn this_process(job: Option<String>, restarts: u32) -> Self {
        let pid = process::id();
        Owner { host: host(), pid, born: born(pid).unwrap_or(0), job, restarts }
    }

    /// True if the owner may still be at work, as far as `other` can know.
    fn may_live(&self, other: &Owner) -> bool {
        if self.host == other.host {
            return born(self.pid) == Some(self.born);
        }
        // A job is started again, elsewhere or later, only when its first start is over.
        self.job.is_none() || self.job != other.job
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "process {} on {}", self.pid, self.host)?;
        self.job.as_ref().map_or(Ok(()), |job| write!(out, ", in job {job}"))
    }
}

/// The right to launch a run. Given back when it is dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
}

/// Why a run cannot be claimed.
#[derive(Debug)]
pub enum ClaimError {
    /// Somebody has it: who, and the file that says so.
    Taken(Owner, PathBuf),
    /// The system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for ClaimError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClaimError::Taken(owner, _) => write!(out, "it is being launched already, by {owner}"),
            ClaimError::Io(path, error) => write!(out, "cannot claim `{}`: {error}", path.display()),
        }
    }
}

impl std::error::Error for ClaimError {}

impl Claim {
    /// Takes a run for `owner`, unless another one may still be at work on it.
    pub fn take(path: &Path, owner: &Owner) -> Result<Self, ClaimError> {
        let io = |error| ClaimError::Io(path.to_owned(), error);
        let text = toml::to_string(owner).expect("names and numbers are TOML");
        match create_private(path) {
            Ok(mut file) => file.write_all(text.as_bytes()).map_err(io)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let earlier = fs::read_to_string(path).map_err(io)?;
                // One that was being written when its writer died belongs to nobody.
                if let Ok(earlier) = toml::from_str::<Owner>(&earlier)
                    && earlier.may_live(owner)
                {
                    return Err(ClaimError::Taken(earlier, path.to_owned()));
                }
                publish(path, text.as_bytes()).map_err(io)?;
            }
            Err(error) => return Err(io(error)),
        }
        Ok(Claim { path: path.to_owned() })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn host() -> String {
    hostname::get().map_or_else(|_| "unknown".to_owned(), |host| host.to_string_lossy().into_owned())
}

/// When a process of this host was born; nothing if there is none.
fn born(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may have spaces; the birth is the 20th word behind it.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(host: &str, pid: u32, job: Option<&str>, restarts: u32) -> Owner {
        Owner { host: host.into(), pid, born: born(pid).unwrap_or(1), job: job.map(str::to_owned), restarts }
    }

    #[test]
    fn a_run_is_claimed_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.lock");
        let me = Owner::this_process(Some("7".into()), 0);
        let claim = Claim::take(&path, &me).unwrap();
        let refused = Claim::take(&path, &me).unwrap_err().to_string();
        assert!(refused.contains(", in job 7"), "{refused}");
        drop(claim);
        drop(Claim::take(&path, &me).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn whoever_is_surely_gone_owns_nothing() {
        let here = host();
        let me = owner(&here, process::id(), Some("7"), 1);
        let gone = Owner { pid: u32::MAX, ..owner(&here, 1, None, 0) };
        assert!(!gone.may_live(&me), "no such process on this host");
        let reused = Owner { born: 0, ..me.clone() };
        assert!(!reused.may_live(&me), "another process with its number");
        assert!(!owner("elsewhere", 5, Some("7"), 0).may_live(&me), "the same job, started again");
        assert!(owner("elsewhere", 5, Some("8"), 0).may_live(&me), "another job");
        assert!(owner("elsewhere", 5, None, 0).may_live(&me), "nobody knows");
    }

    #[test]
    fn a_claim_that_was_never_written_belongs_to_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.lock");
        fs::write(&path, "host = \"n1").unwrap();
        Claim::take(&path, &Owner::this_process(None, 0)).unwrap();
    }
}
