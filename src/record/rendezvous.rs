//! Where a live run waits for clients.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::publish::publish;

/// The socket of a run, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendezvous {
    /// What the host of rank 0 calls itself.
    pub host: String,
    /// What the batch system calls it, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The socket on that host.
    pub socket: PathBuf,
}

impl Rendezvous {
    /// Writes it; replaces an earlier one.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        publish(path, text.as_bytes())
    }

    /// Reads it; none if the run does not wait for anybody yet.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let read = toml::from_str(&text);
        read.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.message().to_owned()))
    }
}
