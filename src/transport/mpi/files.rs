//! Bodies that lie in memory files: a rank of the same node opens the file, and gets no bytes at all.
//!
//! The sender names the file as its process has it open, and keeps it until the receiver has said how that
//! went. Ranks that have bells see each other's files; one that cannot open this one gets the bytes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use nix::libc;
use nix::sys::stat::fstat;

use crate::core::id::Rank;
use crate::transport::endpoint::Body;

/// Bodies that were lent to ranks of this node and are not opened there yet.
#[derive(Debug, Default)]
pub(super) struct Lendings {
    lent: BTreeMap<u64, (Rank, Body)>,
    next: u64,
}

/// A file that another rank lends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Which of its lendings this is.
    pub(super) number: u64,
    process: u64,
    descriptor: u64,
    device: u64,
    inode: u64,
    pub(super) body_bytes: u64,
}

/// Bytes of an offer.
pub(super) const OFFER_BYTES: usize = 6 * 8;

impl Lendings {
    /// Keeps a body for a rank that shall open its file. The body comes back if it has none.
    pub(super) fn lend(&mut self, to: Rank, body: Body) -> Result<Offer, Body> {
        let Some(file) = body.file() else { return Err(body) };
        let Ok(found) = fstat(file) else { return Err(body) };
        let offer = Offer {
            number: self.next,
            process: std::process::id().into(),
            descriptor: number_of(file),
            device: found.st_dev,
            inode: found.st_ino,
            body_bytes: body.len() as u64,
        };
        self.next += 1;
        self.lent.insert(offer.number, (to, body));
        Ok(offer)
    }

    /// The rank that it was lent to needs this one no more, or needs its bytes. None if it was lent no such one.
    pub(super) fn take_back(&mut self, number: u64, from: Rank) -> Option<Body> {
        self.lent.get(&number).filter(|(to, _)| *to == from)?;
        self.lent.remove(&number).map(|(_, body)| body)
    }

    /// This rank opens nothing any more.
    pub(super) fn give_up(&mut self, rank: Rank) {
        self.lent.retain(|_, (to, _)| *to != rank);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lent.is_empty()
    }
}

impl Offer {
    /// Appends it to a message.
    pub(super) fn write(&self, message: &mut Vec<u8>) {
        let Offer { number, process, descriptor, device, inode, body_bytes } = *self;
        for part in [number, process, descriptor, device, inode, body_bytes] {
            message.extend(part.to_le_bytes());
        }
    }

    /// Takes it from the end of a message.
    pub(super) fn read(message: &mut Vec<u8>) -> Option<Offer> {
        let offer = message.split_off(message.len().checked_sub(OFFER_BYTES)?);
        let mut parts = offer.as_chunks().0.iter().map(|part| u64::from_le_bytes(*part));
        let mut next = || parts.next();
        Some(Offer {
            number: next()?,
            process: next()?,
            descriptor: next()?,
            device: next()?,
            inode: next()?,
            body_bytes: next()?,
        })
    }

    /// Opens the file. The name may mean another one where ranks do not see each other's processes.
    pub(super) fn open(&self) -> io::Result<Body> {
        let path = format!("/proc/{}/fd/{}", self.process, self.descriptor);
        // Nothing waits here, whatever it is: a pipe or a terminal of somebody else.
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let file: File = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let found = file.metadata()?;
        let is_same = (found.dev(), found.ino()) == (self.device, self.inode);
        if !is_same || !found.is_file() || found.len() != self.body_bytes {
            return Err(io::Error::other("another file has its name"));
        }
        let length = usize::try_from(self.body_bytes).map_err(io::Error::other)?;
        Ok(Body::shared(file, length))
    }
}

fn number_of(file: BorrowedFd<'_>) -> u64 {
    u64::try_from(file.as_raw_fd()).expect("an open file has a number that is not negative")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::sync::Arc;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::*;
    use crate::transport::endpoint::Lender;

    struct InFile(Vec<u8>, File);

    impl Lender for InFile {
        fn bytes(&self) -> &[u8] {
            &self.0
        }

        fn file(&self) -> Option<BorrowedFd<'_>> {
            Some(self.1.as_fd())
        }
    }

    fn body(bytes: &[u8]) -> Body {
        let mut file = File::from(memfd_create("body", MFdFlags::MFD_CLOEXEC).unwrap());
        file.write_all(bytes).unwrap();
        Body::lent(Arc::new(InFile(bytes.to_vec(), file)))
    }

    #[test]
    fn what_was_lent_can_be_opened_and_comes_back_once() {
        let mut lendings = Lendings::default();
        let offer = lendings.lend(Rank(1), body(b"large")).unwrap();
        let mut message = b"head".to_vec();
        offer.write(&mut message);
        assert_eq!(Offer::read(&mut message), Some(offer));
        assert_eq!(message, b"head");
        let opened = offer.open().unwrap();
        assert_eq!((opened.len(), opened.into_vec()), (5, b"large".to_vec()));
        assert_eq!(lendings.take_back(offer.number, Rank(2)), None);
        assert_eq!(lendings.take_back(offer.number, Rank(1)).as_deref(), Some(&b"large"[..]));
        assert!(lendings.take_back(offer.number, Rank(1)).is_none() && lendings.is_empty());
    }

    #[test]
    fn what_lies_in_no_file_is_not_lent() {
        assert_eq!(Lendings::default().lend(Rank(1), vec![7].into()), Err(vec![7].into()));
    }

    #[test]
    fn another_file_of_that_name_is_refused() {
        let mut lendings = Lendings::default();
        let offer = lendings.lend(Rank(1), body(b"large")).unwrap();
        lendings.give_up(Rank(1));
        let _other = body(b"other");
        assert!(lendings.is_empty() && offer.open().is_err());
        assert_eq!(Offer::read(&mut vec![0; OFFER_BYTES - 1]), None);
    }
}
