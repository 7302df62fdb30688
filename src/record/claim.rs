//! `launch.lock`: which process launches a run just now, so that no second one takes the run
//! directory from its ranks.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use super::owner::Owner;
use super::publish::{create_private, publish};

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
    /// Takes a run for `owner`, unless another one may still be at work on it. `is_over` is asked about one
    /// in another batch job: whether that job is known to be over.
    pub fn take(path: &Path, owner: &Owner, is_over: &dyn Fn(&str) -> bool) -> Result<Self, ClaimError> {
        let io = |error| ClaimError::Io(path.to_owned(), error);
        let text = toml::to_string(owner).expect("names and numbers are TOML");
        match create_private(path) {
            Ok(mut file) => file.write_all(text.as_bytes()).map_err(io)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let earlier = fs::read_to_string(path).map_err(io)?;
                // One that was being written when its writer died belongs to nobody.
                if let Ok(earlier) = toml::from_str::<Owner>(&earlier)
                    && earlier.may_live(owner)
                    && !earlier.job.as_deref().is_some_and(is_over)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_claimed_once_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.lock");
        let me = Owner::this_process(Some("7".into()), 0);
        let claim = Claim::take(&path, &me, &|_| false).unwrap();
        let refused = Claim::take(&path, &me, &|_| false).unwrap_err().to_string();
        assert!(refused.contains(", in job 7"), "{refused}");
        drop(claim);
        drop(Claim::take(&path, &me, &|_| false).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_claim_that_was_never_written_belongs_to_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.lock");
        fs::write(&path, "host = \"n1").unwrap();
        Claim::take(&path, &Owner::this_process(None, 0), &|_| false).unwrap();
    }

    #[test]
    fn a_claim_of_a_job_that_is_over_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("launch.lock");
        let dead = Owner { host: "elsewhere".into(), ..Owner::this_process(Some("7".into()), 0) };
        fs::write(&path, toml::to_string(&dead).unwrap()).unwrap();
        let me = Owner::this_process(Some("8".into()), 0);
        assert!(matches!(Claim::take(&path, &me, &|_| false), Err(ClaimError::Taken(..))));
        Claim::take(&path, &me, &|job| job == "7").unwrap();
    }
}
