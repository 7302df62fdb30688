//! What Hydra, the launcher of MPICH, has to hear from a rank that ends without `MPI_Finalize`.
//!
//! Each rank has a socket to Hydra's process on its node. Closed unannounced it means a crash: the other ranks of the
//! node are killed, and with them goes what they would have answered with. `MPI_Finalize` announces the end there; so
//! does this, in the same words.
#![allow(unsafe_code)]

use std::env;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::Result;
use crate::clock::now;
use crate::core::time::{Micros, Timestamp};
use crate::transport::endpoint::TransportError;

/// The end of a process in PMI 1, which Hydra understands in every version, and its answer.
const FINALIZE: &[u8] = b"cmd=finalize\n";
const ANSWER: &[u8] = b"cmd=finalize_ack";

/// How long the answer may take.
const PATIENCE: Micros = Micros::from_secs(5);

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

fn announce(socket: BorrowedFd<'_>) -> io::Result<()> {
    send(socket.as_raw_fd(), FINALIZE, MsgFlags::MSG_NOSIGNAL)?;
    await_answer(socket, now() + PATIENCE)?;
    let mut answer = [0; 256];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    match answer[..length].starts_with(ANSWER) {
        true => Ok(()),
        false => Err(io::Error::other(format!("the launcher answers `{}`", answer[..length].escape_ascii()))),
    }
}

/// Signals come just when ranks end; each cuts the waiting short, which then begins again.
fn await_answer(socket: BorrowedFd<'_>, until: Timestamp) -> io::Result<()> {
    loop {
        let left = PollTimeout::try_from(until.since(now()).0.div_ceil(1_000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], left) {
            Err(Errno::EINTR) => {}
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the launcher does not answer")),
            polled => return Ok(polled.map(drop)?),
        }
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
    fn told(answer: &'static [u8]) -> io::Result<()> {
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
