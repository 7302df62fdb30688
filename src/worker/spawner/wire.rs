//! What a rank, its spawner and its keepers say to each other, packet by packet.
//!
//! A packet is one byte that says where the text is, then the text as JSON. Texts that a socket
//! buffer might not take (long command lines, large environments) travel in a memory file, the
//! last of the packet's descriptors.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::worker::packet::{receive, send};

/// Texts up to here travel in the packet.
const INLINE_BYTES: usize = 32 * 1024;

const IN_PACKET: u8 = b'p';
const IN_MEMORY_FILE: u8 = b'm';

/// A program to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// A path, or a name that is looked up on the program's own PATH.
    pub program: String,
    /// What follows the name.
    pub arguments: Vec<String>,
    /// Variables added to what the spawner inherited, later ones winning.
    pub environment: Vec<(String, String)>,
    /// The working directory, an absolute path.
    pub directory: String,
    /// The CPUs that it is kept on; with none it has those of the spawner.
    pub cpus: Vec<u32>,
    /// The most memory that it and all that it starts may hold together; as much as there is, if nothing is said.
    pub memory_bytes: Option<u64>,
}

/// What a rank asks of a keeper, which owns the launch that it receives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request<L = Launch> {
    /// Start a program. Its three streams come as descriptors.
    Launch(L),
    /// End it and all that it started: TERM, then KILL.
    Stop { grace_ms: u64 },
}

/// How a launch ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The program could not be started. Says why.
    NotStarted(String),
    /// It ended, and all that it left behind has ended too.
    Exited(Exit),
}

/// The end of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As `wait` gives it.
    pub status: i32,
    /// The most memory that it, or one of its children that it waited for, held at once.
    pub max_rss_bytes: u64,
    /// What all processes of the attempt held when they were killed for taking more than they may.
    pub over_memory_bytes: Option<u64>,
    /// Processes that even KILL did not end in time; they hang inside the kernel. The keeper
    /// leaves after such a reply and cannot be used again.
    pub remaining: u32,
}

/// Sends `message` as a packet.
pub(super) fn send_json(
    socket: BorrowedFd<'_>,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut packet = vec![IN_PACKET];
    serde_json::to_writer(&mut packet, message)?;
    if packet.len() <= INLINE_BYTES {
        return send(socket, &packet, descriptors);
    }
    let mut memory = File::from(memfd_create("dagmar-launch", MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(&packet[1..])?;
    memory.rewind()?;
    let mut descriptors = descriptors.to_vec();
    descriptors.push(memory.as_fd());
    send(socket, &[IN_MEMORY_FILE], &descriptors)
}

/// Room for any packet. Used again and again, as it is large.
#[derive(Debug)]
pub struct Room(Vec<u8>);

impl Default for Room {
    fn default() -> Self {
        Room(vec![0; INLINE_BYTES])
    }
}

/// Receives a packet, waiting for it. `None` when the other side is gone.
pub(super) fn receive_json<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    room: &mut Room,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((packet, mut descriptors)) = receive(socket, &mut room.0)? else { return Ok(None) };
    let message = match packet[0] {
        IN_MEMORY_FILE => {
            let memory = descriptors.pop().ok_or(io::ErrorKind::InvalidData)?;
            let mut text = Vec::new();
            File::from(memory).read_to_end(&mut text)?;
            serde_json::from_slice(&text)?
        }
        _ => serde_json::from_slice(&packet[1..])?,
    };
    Ok(Some((message, descriptors)))
}
