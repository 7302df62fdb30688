//! A Python script beside rank 0: it is the client of the run, and the run is over when it is.
//!
//! It finds the socket of its run in `DAGMAR_CLIENT`, and may come at any time or never.

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::worker::spawner::{KeeperLink, Launch, Reply, Room, SpawnerLink};

use super::serving::{Door, Visitors, Waiting};

/// Where a script finds the socket of its run.
pub const SOCKET: &str = "DAGMAR_CLIENT";
/// The variable that names another interpreter than `python3`.
const INTERPRETER: &str = "DAGMAR_PYTHON";
/// How long a script may take to end once its run is over.
const ENDING: Duration = Duration::from_secs(10);

/// A script that runs. Dropping it ends it.
pub struct Script {
    keeper: Arc<KeeperLink>,
}

/// How a script ended.
pub enum ScriptEnd {
    /// With this exit code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
    /// It could not be started: why.
    NotStarted(String),
    /// Nobody knows.
    Gone,
}

impl Script {
    /// Starts a script with its arguments in the directory `place`; returns who will come to the run from it.
    pub fn start(
        spawner: &SpawnerLink,
        (script, arguments): (&Path, &[String]),
        place: &Path,
    ) -> io::Result<Waiting> {
        let door = Door::open()?;
        let keeper = Arc::new(spawner.keeper()?);
        let launch = Launch {
            program: env::var(INTERPRETER).unwrap_or_else(|_| "python3".to_owned()),
            arguments: [script.to_string_lossy().into_owned()]
                .into_iter()
                .chain(arguments.iter().cloned())
                .collect(),
            environment: vec![
                (SOCKET.to_owned(), door.socket().to_string_lossy().into_owned()),
                ("PYTHONUNBUFFERED".to_owned(), "1".to_owned()),
            ],
            directory: place.to_string_lossy().into_owned(),
            cpus: Vec::new(),
            memory_bytes: None,
        };
        keeper.launch(&launch, [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()])?;
        let watched = keeper.clone();
        let is_over = move || is_readable(&watched, Duration::ZERO);
        Ok(Waiting::of_script(Script { keeper }, Visitors::Expected(door, Box::new(is_over))))
    }

    /// Waits for its end, which is near: its run is over.
    pub(super) fn wait(self) -> ScriptEnd {
        if !is_readable(&self.keeper, ENDING) {
            let _ = self.keeper.stop(1000);
            is_readable(&self.keeper, ENDING);
        }
        match self.keeper.receive(&mut Room::default()) {
            Ok(Some(Reply::Exited(exit))) if libc::WIFSIGNALED(exit.status) => {
                ScriptEnd::Signal(libc::WTERMSIG(exit.status))
            }
            Ok(Some(Reply::Exited(exit))) => ScriptEnd::Code(libc::WEXITSTATUS(exit.status)),
            Ok(Some(Reply::NotStarted(why))) => ScriptEnd::NotStarted(why),
            Ok(None) | Err(_) => ScriptEnd::Gone,
        }
    }
}

fn is_readable(keeper: &KeeperLink, limit: Duration) -> bool {
    let mut watched = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    matches!(poll(&mut watched, limit), Ok(1..))
}
