//! What Hydra, the launcher of MPICH, has to hear from a rank that ends without `MPI_Finalize`.
//!
//! Each rank has a socket to Hydra's process on its node. Closed unannounced it means a crash: the other ranks of the
//! node are killed, and with them goes what they would have answered with. `MPI_Finalize` announces the end there; so
//! does this, in the same words.
#![allow(unsafe_code)]

use std::env;
use std::io::{Error, ErrorKind};
use std::os::fd::{BorrowedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};
use std::os::fd::AsRawFd;

use super::Result;
use crate::transport::endpoint::TransportError;

/// The end of a process in PMI 1, which Hydra understands in every version, and its answer.
const FINALIZE: &[u8] = b"cmd=finalize\n";
const ANSWER: &[u8] = b"cmd=finalize_ack";

/// How long the answer may take, in milliseconds.
const PATIENCE: u16 = 5_000;

/// Announces the end of this process. Without Hydra nobody needs to hear of it.
pub(in crate::transport::mpi) fn announce_end() -> Result<()> {
    let Some(socket) = socket_in(&|name| env::var(name).ok()) else { return Ok(()) };
    // SAFETY: the launcher opened it for this process, and the library, which uses it between MPI's begin and end,
    // closes it only in `MPI_Finalize`, which is not called any more.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    announce(socket).map_err(|error| TransportError::Failed("PMI_Finalize", error.to_string()))
}

/// Hydra says where its socket is, as all launchers do that speak PMI, and, unlike others, how many ranks the node has.
fn socket_in(lookup: &dyn Fn(&str) -> Option<String>) -> Option<RawFd> {
    lookup("MPI_LOCALNRANKS")?;
    lookup("PMI_FD")?.trim().parse().ok().filter(|&socket| socket >= 0)
}

fn announce(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    send(socket.as_raw_fd(), FINALIZE, MsgFlags::MSG_NOSIGNAL)?;
    if poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::from(PATIENCE))? == 0 {
        return Err(Error::new(ErrorKind::TimedOut, "the launcher does not answer"));
    }
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    match answer[..length].starts_with(ANSWER) {
        true => Ok(()),
        false => Err(Error::other(format!("the launcher answers `{}`", answer[..length].escape_ascii()))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// A launcher that hears `FINALIZE` and answers with `answer`: what the rank makes of it.
    fn told(answer: &'static [u8]) -> std::io::Result<()> {
        let (rank, mut launcher) = UnixStream::pair().unwrap();
        let launcher = thread::spawn(move || {
            let mut heard = [0; FINALIZE.len()];
            launcher.read_exact(&mut heard).unwrap();
            assert_eq!(heard, FINALIZE);
            launcher.write_all(answer).unwrap();
        });
        let outcome = announce(rank.as_fd());
        launcher.join().unwrap();
        outcome
    }

    #[test]
    fn the_launcher_answers() {
        told(b"cmd=finalize_ack\n").unwrap();
        assert!(told(b"cmd=barrier_out\n").unwrap_err().to_string().contains(r"`cmd=barrier_out\n`"));
        assert!(told(b"").is_err());
    }

    #[test]
    fn only_hydra_is_told() {
        let socket = |variables: &[(&str, &str)]| {
            let value = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            socket_in(&value)
        };
        assert_eq!(socket(&[("PMI_FD", "6"), ("MPI_LOCALNRANKS", "2")]), Some(6));
        // Slurm's PMI has words of its own.
        assert_eq!(socket(&[("PMI_FD", "6"), ("SLURM_STEP_ID", "0")]), None);
        assert_eq!(socket(&[("MPI_LOCALNRANKS", "2")]), None);
        assert_eq!(socket(&[("PMI_FD", "-1"), ("MPI_LOCALNRANKS", "2")]), None);
    }
}
