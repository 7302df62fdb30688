//! Where a run's clients come from.

use std::env;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::geteuid;

use crate::clock;
use crate::core::time::Micros;
use crate::transport::control::write_frame;

use super::words;

/// How often to look whether a client has come.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The same where nobody waits for it.
const LOOK_RARELY: Duration = Duration::from_millis(100);
/// The longest path that a socket may have.
const PATH_BYTES_MAX: usize = 107;

/// A socket at which clients arrive, in a directory that nobody else may enter. Dropping it removes both.
#[derive(Debug)]
pub struct Door {
    place: PathBuf,
    listener: UnixListener,
}

impl Door {
    /// Makes one where temporary files are.
    pub fn open() -> io::Result<Self> {
        let named = |folder: &Path, number| folder.join(format!("dagmar-{}-{number}", std::process::id()));
        let mut folder = env::temp_dir();
        if named(&folder, 0).join("client").as_os_str().len() > PATH_BYTES_MAX {
            folder = PathBuf::from("/tmp");
        }
        // Another container's process may have the same number, and the same folder.
        let mut number = 0;
        let place = loop {
            let place = named(&folder, number);
            match fs::DirBuilder::new().mode(0o700).create(&place) {
                Ok(()) => break place,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error),
            }
        };
        let listener = UnixListener::bind(place.join("client"))?;
        listener.set_nonblocking(true)?;
        Ok(Door { place, listener })
    }

    /// The path of the socket.
    pub fn socket(&self) -> PathBuf {
        self.place.join("client")
    }

    /// Who has come, if anybody has who may.
    fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                let is_ours = getsockopt(&stream, PeerCredentials)?.uid() == geteuid().as_raw();
                Ok(is_ours.then_some(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.place);
    }
}

/// True once nobody will come any more.
pub type IsOver = Box<dyn Fn() -> bool + Send>;

/// Clients that come one after the other.
pub enum Visitors {
    /// One, which is at the other end.
    Here(UnixStream),
    /// Those that come to this door before this is true.
    Expected(Door, IsOver),
    /// Any number. The run goes on without any, for so long.
    Any(Door, Duration),
    /// No more.
    None,
}

impl Visitors {
    /// True if the run may have another client after the first.
    pub fn are_many(&self) -> bool {
        matches!(self, Visitors::Expected(..) | Visitors::Any(..))
    }

    /// True if what was submitted is done when nobody comes any more.
    pub fn leave_work(&self) -> bool {
        matches!(self, Visitors::Any(..))
    }

    /// Waits for the next one. None if nobody comes any more, or the run `is_over`.
    pub fn next(&mut self, is_over: impl Fn() -> bool) -> Option<UnixStream> {
        let began = clock::now();
        match std::mem::replace(self, Visitors::None) {
            Visitors::Here(stream) => Some(stream),
            Visitors::Expected(door, will_not_come) => {
                let found = loop {
                    // The last one that came before the end counts.
                    let is_late = will_not_come() || is_over();
                    match door.accept() {
                        Ok(Some(stream)) => break stream,
                        Ok(None) if !is_late => thread::sleep(LOOK_EVERY),
                        Ok(None) | Err(_) => return None,
                    }
                };
                *self = Visitors::Expected(door, will_not_come);
                Some(found)
            }
            Visitors::Any(door, patience) => {
                let found = loop {
                    match door.accept() {
                        Ok(Some(stream)) => break stream,
                        Ok(None) if clock::now().since(began) < Micros::from(patience) && !is_over() => {
                            thread::sleep(LOOK_RARELY)
                        }
                        Ok(None) | Err(_) => return None,
                    }
                };
                *self = Visitors::Any(door, patience);
                Some(found)
            }
            Visitors::None => None,
        }
    }

    /// Waits until the client says something. Others that come meanwhile are told that it is there.
    pub fn wait_for(&self, client: &UnixStream) {
        let (Visitors::Any(door, _) | Visitors::Expected(door, _)) = self else { return };
        loop {
            let mut watched =
                [client.as_fd(), door.listener.as_fd()].map(|way| PollFd::new(way, PollFlags::POLLIN));
            if poll(&mut watched, PollTimeout::NONE).is_err() {
                continue;
            }
            if watched[1].any().unwrap_or(false)
                && let Ok(Some(mut other)) = door.accept()
            {
                let _ = write_frame(&mut other, &[&words::not_served("another client is connected with it")]);
            }
            if watched[0].any().unwrap_or(true) {
                return;
            }
        }
    }
}
