//! Packets between processes of a node, with descriptors on the side.
//!
//! Everything crosses sockets of whole packets that are made in pairs: they have no name, so nobody else can
//! talk to them.
#![allow(unsafe_code)]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

/// Descriptors that are received with a packet at most.
const RECEIVED_MAX: usize = 4;

/// Two ends of a new way.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// Sends a packet, which must not be empty.
pub fn send(socket: BorrowedFd<'_>, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_parts(socket, &[packet], descriptors)
}

/// The same of a packet in pieces.
pub fn send_parts(socket: BorrowedFd<'_>, parts: &[&[u8]], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let bytes: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    retry(|| sendmsg::<()>(socket.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None))?;
    Ok(())
}

/// Receives a packet into `room`, with its descriptors. `None` when the other side is gone.
pub fn receive<'a>(
    socket: BorrowedFd<'_>,
    room: &'a mut [u8],
) -> io::Result<Option<(&'a [u8], Vec<OwnedFd>)>> {
    let mut control = nix::cmsg_space!([RawFd; RECEIVED_MAX]);
    let mut bytes = [IoSliceMut::new(room)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = match retry(|| {
        recvmsg::<()>(socket.as_raw_fd(), &mut bytes, Some(&mut control), flags).map(|received| {
            let rights = received.cmsgs().map(|messages| messages.flat_map(adopted).collect());
            (received.bytes, rights)
        })
    }) {
        Err(Errno::ECONNRESET) => return Ok(None),
        other => other?,
    };
    let (length, descriptors) = (received.0, received.1?);
    Ok((length > 0).then_some((&room[..length], descriptors)))
}

fn adopted(message: ControlMessageOwned) -> Vec<OwnedFd> {
    match message {
        ControlMessageOwned::ScmRights(raw) => raw.into_iter().map(adopt).collect(),
        _ => Vec::new(),
    }
}

/// Takes over a descriptor that a message brought.
fn adopt(descriptor: RawFd) -> OwnedFd {
    // SAFETY: The kernel made the number for this message, and nobody else has seen it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Repeats a system call for as long as signals interrupt it.
pub fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => continue,
            other => return other,
        }
    }
}
