//! Bells between the ranks of a node: who sends to a rank that sleeps ends its sleep.
//!
//! No MPI wakes a process, so a rank by itself can only sleep for a moment and ask again. The ranks of a
//! node therefore share a piece of memory with a word for each of them. A rank that goes to sleep says so in
//! its word and waits there (a futex); who has sent it something looks at the word afterwards. The words carry
//! nothing else: if a ring were lost, the rest of a short sleep would be.
//!
//! Either all ranks of a node have bells or none. This knows nothing of messages.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::fence::Neighbours;
use crate::clock;
use crate::core::id::Rank;
use crate::core::time::Micros;
use crate::transport::endpoint::{Sleeper, TransportError};

/// The rank is on another node.
const ABSENT: u32 = 0;
/// It is awake, and nobody called.
const QUIET: u32 = 1;
/// Somebody called since it slept last.
const CALLED: u32 = 2;
/// It sleeps, or is about to.
const ASLEEP: u32 = 3;
/// The same, but it shall not be woken by other ranks.
const DOZING: u32 = 4;

/// Words are so far apart, or a rank that rings would slow its neighbour's neighbour down.
const WORD_BYTES: usize = 64;

/// What the memory begins with: it proves that the file which was opened is the one that was meant.
const MARK_BYTES: usize = 16;

/// The bells of this rank's node.
#[derive(Debug)]
pub(super) struct Bells {
    memory: MmapRaw,
    rank: Rank,
}

impl Bells {
    /// Shares the memory between the ranks of each node; all ranks do so together. None if any rank of
    /// this node cannot.
    pub(super) fn hang(
        neighbours: &Neighbours,
        rank: Rank,
        size: u32,
    ) -> Result<Option<Arc<Bells>>, TransportError> {
        let bytes = WORD_BYTES * (size as usize + 1);
        let mark = mark_of_this_process();
        // The first of them makes the file, and keeps it until the others have opened it.
        let file = neighbours.is_first.then(|| make(bytes, &mark).ok()).flatten();
        let mut mine = [0; MARK_BYTES + 8];
        if let Some(file) = &file {
            mine[..4].copy_from_slice(&std::process::id().to_le_bytes());
            mine[4..8].copy_from_slice(&file.as_raw_fd().to_le_bytes());
            mine[8..].copy_from_slice(&mark);
        }
        let told = neighbours.union(&mine)?;
        let hung = open(&told, bytes).map(|memory| Bells { memory, rank });
        if let Ok(bells) = &hung {
            bells.word(rank).store(QUIET, Ordering::SeqCst);
        }
        let [failures] = neighbours.union(&[u8::from(hung.is_err())])?;
        Ok(hung.ok().filter(|_| failures == 0).map(Arc::new))
    }

    /// True if the rank is on this node.
    pub(super) fn has(&self, rank: Rank) -> bool {
        self.word(rank).load(Ordering::Relaxed) != ABSENT
    }

    /// Ends the sleep of another rank if it is on this node: it was sent something.
    pub(super) fn ring(&self, rank: Rank) {
        let word = self.word(rank);
        // Either this sees that it dozes no more, or it sees what it was sent when it looks after its doze.
        fence(Ordering::SeqCst);
        if ![ABSENT, DOZING].contains(&word.load(Ordering::SeqCst)) {
            call(word);
        }
    }

    fn word(&self, rank: Rank) -> &AtomicU32 {
        let place = WORD_BYTES * (rank.index() + 1);
        assert!(place < self.memory.len(), "there is a word for each rank of the world");
        // SAFETY: the word is within the memory, which lives as long as `self` and was made with its whole
        // length; it lies at a multiple of 64 bytes, and every process touches it by atomic operations only.
        unsafe { AtomicU32::from_ptr(self.memory.as_mut_ptr().add(place).cast()) }
    }
}

impl Sleeper for Bells {
    fn wake(&self) {
        call(self.word(self.rank));
    }

    fn ring(&self) {
        Bells::ring(self, self.rank);
    }

    fn stir(&self) {
        let word = self.word(self.rank);
        let changed = word
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |state| (state != ASLEEP).then_some(CALLED));
        if changed == Ok(DOZING) {
            wake(word);
        }
    }

    fn wait(&self, limit: Duration) -> bool {
        self.rest(ASLEEP, limit)
    }

    fn doze(&self, limit: Duration) -> bool {
        self.rest(DOZING, limit)
    }

    fn take(&self) -> bool {
        let word = self.word(self.rank);
        word.load(Ordering::Acquire) == CALLED && word.swap(QUIET, Ordering::AcqRel) == CALLED
    }
}

impl Bells {
    fn rest(&self, how: u32, limit: Duration) -> bool {
        if limit.is_zero() {
            return self.take();
        }
        let word = self.word(self.rank);
        if word.compare_exchange(QUIET, how, Ordering::SeqCst, Ordering::Acquire).is_ok() {
            let (began, limit) = (clock::now(), Micros::from(limit));
            let mut left = limit;
            while left > Micros::ZERO && word.load(Ordering::Acquire) == how {
                sleep(word, how, left);
                left = limit - clock::now().since(began);
            }
        }
        word.swap(QUIET, Ordering::SeqCst) == CALLED
    }
}

/// Ends the sleep of a rank, or the next one at once.
fn call(word: &AtomicU32) {
    if [ASLEEP, DOZING].contains(&word.swap(CALLED, Ordering::SeqCst)) {
        wake(word);
    }
}

fn mark_of_this_process() -> [u8; MARK_BYTES] {
    let (process, time) = (u64::from(std::process::id()), clock::now().0);
    let mut mark = [0; MARK_BYTES];
    mark[..8].copy_from_slice(&process.to_le_bytes());
    mark[8..].copy_from_slice(&time.to_le_bytes());
    mark
}

/// A file of zeros behind its mark that has no name and is gone with the last who holds it.
fn make(bytes: usize, mark: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create("dagmar-bells", MFdFlags::MFD_CLOEXEC)?);
    file.set_len(bytes as u64)?;
    file.write_all(mark)?;
    Ok(file)
}

/// Maps the file that the first of the neighbours told of. Its numbers may mean another file where the
/// ranks do not see each other's processes.
fn open(told: &[u8; MARK_BYTES + 8], bytes: usize) -> io::Result<MmapRaw> {
    let number = |place: usize| u32::from_le_bytes(told[place..place + 4].try_into().expect("four bytes"));
    let path = format!("/proc/{}/fd/{}", number(0), number(4));
    // Nothing waits here, whatever it is: a pipe or a terminal of somebody else.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    let mut mark = [0; MARK_BYTES];
    if !found.is_file() || found.len() != bytes as u64 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    file.read_exact_at(&mut mark, 0)?;
    if mark != told[8..] {
        return Err(io::ErrorKind::InvalidData.into());
    }
    MmapOptions::new().map_raw(&file)
}

/// Sleeps until the word is woken, at most `limit`, unless it says something else already.
fn sleep(word: &AtomicU32, how: u32, limit: Micros) {
    let limit = Duration::from(limit);
    let (seconds, nanos) = (limit.as_secs() as libc::time_t, limit.subsec_nanos().into());
    let limit = libc::timespec { tv_sec: seconds, tv_nsec: nanos };
    // SAFETY: the word and the time are live for the whole call, which changes neither.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, how, &limit, ptr::null::<u32>(), 0)
    };
}

/// Wakes the process that sleeps at this word.
fn wake(word: &AtomicU32) {
    // SAFETY: the word is live for the whole call, which does not change it.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bells of `count` ranks that are threads here: each has the memory mapped for itself.
    fn hung(count: u32) -> Vec<Bells> {
        let bytes = WORD_BYTES * (count as usize + 1);
        let mark = mark_of_this_process();
        let file = make(bytes, &mark).unwrap();
        let mut told = [0; MARK_BYTES + 8];
        told[..4].copy_from_slice(&std::process::id().to_le_bytes());
        told[4..8].copy_from_slice(&file.as_raw_fd().to_le_bytes());
        told[8..].copy_from_slice(&mark);
        let ranks = (0..count).map(|rank| Bells { memory: open(&told, bytes).unwrap(), rank: Rank(rank) });
        let bells: Vec<Bells> = ranks.collect();
        bells.iter().for_each(|one| one.word(one.rank).store(QUIET, Ordering::SeqCst));
        bells
    }

    #[test]
    fn a_ring_before_the_sleep_ends_it_once() {
        let bells = hung(2);
        bells[0].ring(Rank(1));
        bells[0].ring(Rank(1));
        assert!(!bells[0].take());
        assert!(bells[1].wait(Duration::from_secs(60)));
        assert!(!bells[1].wait(Duration::from_millis(1)));
        assert!(!bells[1].take());
    }

    #[test]
    fn no_ring_is_lost_between_two_ranks() {
        let mut bells = hung(2);
        let (second, first) = (bells.pop().unwrap(), bells.pop().unwrap());
        let other = std::thread::spawn(move || {
            for _ in 0..2_000 {
                assert!(second.wait(Duration::from_secs(60)));
                second.ring(Rank(0));
            }
        });
        for _ in 0..2_000 {
            first.ring(Rank(1));
            assert!(first.wait(Duration::from_secs(60)));
        }
        other.join().expect("the other rank counts along");
    }

    /// A thread that dozes now as this rank, and ends with what its doze returns.
    fn dozer(bells: &Arc<Bells>) -> std::thread::JoinHandle<bool> {
        let owner = Arc::clone(bells);
        let dozer = std::thread::spawn(move || owner.doze(Duration::from_secs(60)));
        while bells.word(bells.rank).load(Ordering::SeqCst) != DOZING {
            std::thread::yield_now();
        }
        dozer
    }

    #[test]
    fn a_rank_that_dozes_is_woken_by_its_own_process_only() {
        let mut bells = hung(2);
        let (second, first) = (Arc::new(bells.pop().unwrap()), bells.pop().unwrap());
        let woken = dozer(&second);
        first.ring(Rank(1));
        assert_eq!(second.word(Rank(1)).load(Ordering::SeqCst), DOZING);
        second.wake();
        assert!(woken.join().unwrap());
        let stirred = dozer(&second);
        second.stir();
        assert!(stirred.join().unwrap());
        assert!(!second.doze(Duration::from_millis(1)));
    }

    #[test]
    fn a_rank_of_another_node_is_left_alone() {
        let bells = hung(3);
        bells[2].word(Rank(2)).store(ABSENT, Ordering::SeqCst);
        bells[0].ring(Rank(2));
        assert_eq!(bells[0].word(Rank(2)).load(Ordering::SeqCst), ABSENT);
    }

    #[test]
    fn another_file_than_the_one_meant_is_refused() {
        let bytes = WORD_BYTES * 2;
        let file = make(bytes, &mark_of_this_process()).unwrap();
        let mut told = [7; MARK_BYTES + 8];
        told[..4].copy_from_slice(&std::process::id().to_le_bytes());
        told[4..8].copy_from_slice(&file.as_raw_fd().to_le_bytes());
        assert_eq!(open(&told, bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(open(&[0; MARK_BYTES + 8], bytes).is_err());
    }
}
