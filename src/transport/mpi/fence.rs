//! The fence around MPI: the only file that names the `mpi` crate, and the transport's only `unsafe`.
//!
//! Behind it: raw calls, handles, and memory that MPI reads and writes on its own time. In front:
//! functions that any code may call. Whoever has the `World` may call MPI. Memory that a call
//! under way needs stays until it is done, or for ever. The fence never decides what is sent.
//!
//! The calls go through the C interface, because rsmpi's own functions drop the return codes and
//! because its `Universe` finalizes MPI when it is dropped, even by a panic, which hangs the job.
#![allow(unsafe_code)]

mod failures;
pub(super) mod hydra;

use std::env;
use std::ffi::{c_char, c_int};
use std::ptr::null_mut;

use mpi::ffi::{self, MPI_Comm, MPI_Request, MPI_Status};
use nix::libc;

use crate::core::id::Rank;
use crate::transport::arrivals::Place;
use crate::transport::departures::Piece;
use crate::transport::endpoint::TransportError;
use failures::Failures;

type Result<T> = std::result::Result<T, TransportError>;

/// Networks that Open MPI shall not use through libfabric: its own list and what it forgets there, the
/// providers that dress plain TCP and UDP up. Through them, up to 4.1 at least, a rank that probes
/// finds messages that it cannot receive. MPI's own TCP takes over.
const LIBFABRIC_EXCLUDED: (&str, &str) =
    ("OMPI_MCA_mtl_ofi_provider_exclude", "shm,sockets,tcp,udp,rstream,usnic,net,tcp;ofi_rxm,udp;ofi_rxd");
/// Set by users who have chosen a provider; Open MPI takes one of the two lists.
const LIBFABRIC_INCLUDED: &str = "OMPI_MCA_mtl_ofi_provider_include";

/// What the library says about itself. MPI need not be started.
pub(super) fn library_version() -> String {
    // SAFETY: reads a constant of the library.
    let room = unsafe { ffi::RSMPI_MAX_LIBRARY_VERSION_STRING };
    let mut text = vec![0_u8; usize::try_from(room).unwrap_or(0) + 1];
    let mut length = 0;
    // SAFETY: there is room for the longest text, which the call may write before MPI is started.
    let code = unsafe { ffi::MPI_Get_library_version(text.as_mut_ptr().cast(), &mut length) };
    if code != ffi::MPI_SUCCESS as c_int {
        return String::new();
    }
    text.truncate(usize::try_from(length).unwrap_or(0));
    String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned()
}

/// MPI, started in this process and not yet finalized.
#[derive(Debug)]
pub(super) struct Started {
    /// What it allows threads to do.
    pub(super) threads: Threads,
}

/// What this MPI allows threads to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Threads {
    /// The standard's word for it.
    pub(super) level: &'static str,
    /// True if any thread may call, as long as one does so at a time.
    pub(super) one_at_a_time: bool,
}

impl Started {
    /// Starts MPI for threads of which one calls at a time, or, if it does not allow that, for one calling
    /// thread among several; None if it allows no threads. Errors are returned from now on. MPI starts
    /// once in a process: `life` sees to it.
    pub(super) fn start() -> Result<Option<Started>> {
        let (name, excluded) = LIBFABRIC_EXCLUDED;
        if env::var_os(name).is_none() && env::var_os(LIBFABRIC_INCLUDED).is_none() {
            // SAFETY: MPI starts before this process has a thread that could read its variables.
            unsafe { env::set_var(name, excluded) };
        }
        let mut provided = 0;
        // SAFETY: both read constants of the library.
        let (funnelled, serialized) = unsafe { (ffi::RSMPI_THREAD_FUNNELED, ffi::RSMPI_THREAD_SERIALIZED) };
        // SAFETY: MPI allows null for both arguments, and `provided` is written.
        let code = unsafe { ffi::MPI_Init_thread(null_mut(), null_mut(), serialized, &mut provided) };
        check("MPI_Init_thread", code)?;
        if provided < funnelled {
            return Ok(None);
        }
        // SAFETY: MPI is running; both handles are the library's constants.
        let code = unsafe { ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN) };
        check("MPI_Comm_set_errhandler", code)?;
        let threads = Threads { level: thread_level(provided), one_at_a_time: provided >= serialized };
        Ok(Some(Started { threads }))
    }

    /// A world of our own. All ranks ask for it together.
    pub(super) fn world(self) -> Result<World> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: reads a constant of the library.
        let mut all = unsafe { ffi::RSMPI_COMM_WORLD };
        // SAFETY: MPI is running; `all` is written, and inherits the error handler.
        check("MPI_Comm_dup", unsafe { ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &mut all) })?;
        // SAFETY: `all` is a communicator now, and `rank` is written.
        check("MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(all, &mut rank) })?;
        // SAFETY: as above, for `size`.
        check("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(all, &mut size) })?;
        let (rank, size) = (rank_of(rank), rank_of(size).0);
        let (sends, receives) = (InFlight::default(), InFlight::default());
        Ok(World { rank, size, sends, receives, failures: Failures::new(), scraps: InFlight::default(), all })
    }
}

fn thread_level(provided: c_int) -> &'static str {
    // SAFETY: both read constants of the library.
    let (serialized, multiple) = unsafe { (ffi::RSMPI_THREAD_SERIALIZED, ffi::RSMPI_THREAD_MULTIPLE) };
    match provided {
        level if level >= multiple => "multiple",
        level if level >= serialized => "serialized",
        _ => "funneled",
    }
}

/// Asks MPI to end all ranks with `code`. Returns if MPI cannot.
pub(super) fn abort(code: i32) {
    // SAFETY: `life` asks only while MPI runs; the call takes plain numbers and ends the process.
    unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
}

/// Ends this process at once, without destructors that could wait for another thread.
pub(super) fn end_process(code: i32) -> ! {
    // SAFETY: the call takes a plain number and runs nothing of this process any more.
    unsafe { libc::_exit(code) }
}

/// All ranks, as a communicator of our own: no message of a library in this process is in it.
/// It holds what is under way, and one thread at a time uses it.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rank: Rank,
    pub(super) size: u32,
    pub(super) sends: InFlight<Outgoing>,
    pub(super) receives: InFlight<(Place, Room)>,
    failures: Failures,
    /// What ranks had sent that have failed since.
    scraps: InFlight<Vec<u8>>,
    all: MPI_Comm,
}

// SAFETY: the handles name objects of the process, not of a thread; whoever owns the world makes
// all calls with it, and gives it to another thread only if MPI allows that (`Threads`).
unsafe impl Send for World {}

/// The ranks of this rank's node, this one included.
pub(super) struct Neighbours {
    shared: MPI_Comm,
    pub(super) count: u32,
    /// True for one of them.
    pub(super) is_first: bool,
}

impl Neighbours {
    /// The bits that any of them sets. All ask together.
    pub(super) fn union<const N: usize>(&self, mine: &[u8; N]) -> Result<[u8; N]> {
        let mut union = [0_u8; N];
        // SAFETY: both arrays have as many bytes as are named, and all ranks of it call together.
        let code = unsafe {
            let (from, to) = (mine.as_ptr().cast(), union.as_mut_ptr().cast());
            ffi::MPI_Allreduce(from, to, N as c_int, ffi::RSMPI_UINT8_T, ffi::RSMPI_BOR, self.shared)
        };
        check("MPI_Allreduce", code)?;
        Ok(union)
    }
}

/// A message that was probed and will be received by nobody else.
#[derive(Debug)]
pub(super) struct Probed {
    pub(super) source: Rank,
    pub(super) tag: i32,
    bytes: usize,
}

/// What a send reads from until it is done.
#[derive(Debug)]
pub(super) enum Outgoing {
    #[expect(dead_code, reason = "it is held, not read, while MPI reads it")]
    Message(Vec<u8>),
    Piece(Piece),
}

impl World {
    /// Lets the ranks of each node agree on something. All ranks of the world do so together.
    pub(super) fn on_node<T>(&mut self, agree: impl FnOnce(&Neighbours) -> Result<T>) -> Result<T> {
        let (mut shared, mut size, mut place) = (self.all, 0, 0);
        // SAFETY: `shared` is written by the call, which all ranks make together.
        let code = unsafe {
            let kind = ffi::RSMPI_COMM_TYPE_SHARED;
            ffi::MPI_Comm_split_type(self.all, kind, 0, ffi::RSMPI_INFO_NULL, &mut shared)
        };
        check("MPI_Comm_split_type", code)?;
        // SAFETY: `shared` is a communicator now, and `size` is written.
        check("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(shared, &mut size) })?;
        // SAFETY: as above, for `place`.
        check("MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(shared, &mut place) })?;
        let agreed = agree(&Neighbours { shared, count: rank_of(size).0, is_first: place == 0 })?;
        // SAFETY: nobody uses `shared` after this.
        check("MPI_Comm_free", unsafe { ffi::MPI_Comm_free(&mut shared) })?;
        Ok(agreed)
    }

    /// The next message that has come, if any. It must be received, by `take` or `receive`.
    pub(super) fn probe(&mut self) -> Result<Option<Probed>> {
        let (mut found, mut count) = (0, 0);
        let mut status = empty_status();
        // Not `MPI_Improbe`: one thread at a time receives here, so the message that was seen is the one
        // that a receive from its source with its tag gets, and not every network matches probes.
        // SAFETY: both are written by the call; the communicator is ours.
        let code = unsafe {
            let (source, tag) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG);
            ffi::MPI_Iprobe(source, tag, self.all, &mut found, &mut status)
        };
        if !self.has_served("MPI_Iprobe", code)? || found == 0 {
            return Ok(None);
        }
        // SAFETY: the status is that of a message, and `count` is written.
        let code = unsafe { ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut count) };
        check("MPI_Get_count", code)?;
        let (source, bytes) = (rank_of(status.MPI_SOURCE), rank_of(count).index());
        Ok(Some(Probed { source, tag: status.MPI_TAG, bytes }))
    }

    /// True if a call did what it should, false if that concerned a rank that has failed.
    fn has_served(&mut self, call: &'static str, code: c_int) -> Result<bool> {
        if !self.failures.is_meant(code) {
            return check(call, code).map(|()| true);
        }
        self.failures.learn(self.all).map(|()| false)
    }

    /// Asks now and then which ranks have failed: not every MPI that tolerates that tells it to one that waits.
    pub(super) fn look_for_failures(&mut self) -> Result<()> {
        if self.failures.is_due() {
            self.failures.look(self.all);
        }
        let failures = &self.failures;
        self.scraps.finished(|code| failures.is_meant(code)).map(drop)
    }

    /// Takes in a message that nobody wants: its sender has failed. It would be found for ever otherwise.
    pub(super) fn discard(&mut self, probed: Probed) -> Result<()> {
        let mut bytes = vec![0_u8; probed.bytes];
        let mut request = no_request();
        // SAFETY: there is room for all bytes of the message, and it is held until the request is done.
        let code = unsafe {
            let (to, count) = (bytes.as_mut_ptr().cast(), bytes.len() as c_int);
            let (source, tag) = (probed.source.0 as c_int, probed.tag);
            ffi::MPI_Irecv(to, count, ffi::RSMPI_UINT8_T, source, tag, self.all, &mut request)
        };
        if self.has_served("MPI_Irecv", code)? {
            self.scraps.add(request, bytes);
        }
        Ok(())
    }

    /// The next rank that has failed, each told once; only an MPI that tolerates it tells of any.
    pub(super) fn next_failed(&mut self) -> Option<Rank> {
        self.failures.next()
    }

    /// The ranks that have failed.
    pub(super) fn failed(&self) -> &[Rank] {
        self.failures.known()
    }

    /// The bytes of a small message. They are here already, so this does not wait. None if its sender failed before
    /// they were.
    pub(super) fn take(&mut self, probed: Probed) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::<u8>::with_capacity(probed.bytes);
        // SAFETY: there is room for all bytes of the message, which is received once.
        let code = unsafe {
            let (to, count) = (bytes.as_mut_ptr().cast(), probed.bytes as c_int);
            let (source, tag) = (probed.source.0 as c_int, probed.tag);
            let status = ffi::RSMPI_STATUS_IGNORE;
            ffi::MPI_Recv(to, count, ffi::RSMPI_UINT8_T, source, tag, self.all, status)
        };
        if !self.has_served("MPI_Recv", code)? {
            return Ok(None);
        }
        // SAFETY: the call has filled so many bytes.
        unsafe { bytes.set_len(probed.bytes) };
        Ok(Some(bytes))
    }

    /// Begins to receive into `room`, which is as large as the message. `received` tells of its end.
    pub(super) fn receive(&mut self, probed: Probed, place: Place, room: Room) -> Result<()> {
        assert_eq!(probed.bytes, room.bytes, "a room is made for its message");
        let mut request = no_request();
        // SAFETY: the room is that large, nobody else has it, and it is held until the request is done.
        let code = unsafe {
            let (to, count) = (room.begin.cast(), room.bytes as c_int);
            let (source, tag) = (probed.source.0 as c_int, probed.tag);
            ffi::MPI_Irecv(to, count, ffi::RSMPI_UINT8_T, source, tag, self.all, &mut request)
        };
        if self.has_served("MPI_Irecv", code)? {
            self.receives.add(request, (place, room));
        }
        Ok(())
    }

    /// The receives that are done.
    pub(super) fn received(&mut self) -> Result<Vec<(Place, Filled)>> {
        let finished = finished(&mut self.receives, &mut self.failures, self.all)?;
        let whole = finished.into_iter().filter(|(_, is_whole)| *is_whole);
        Ok(whole.map(|((place, room), _)| (place, Filled(room))).collect())
    }

    /// Sends a message of its own. Most are gone when this returns; `sent` tells of the others.
    pub(super) fn send(&mut self, to: Rank, tag: i32, bytes: Vec<u8>) -> Result<()> {
        // SAFETY: `bytes` is freed only when the request is done: else it is held, or forgotten.
        let Some(mut request) = (unsafe { self.begin_send(to, tag, &bytes)? }) else { return Ok(()) };
        let mut done = 0;
        // SAFETY: the request is under way, and `done` is written.
        let code = unsafe { ffi::MPI_Test(&mut request, &mut done, ffi::RSMPI_STATUS_IGNORE) };
        match self.has_served("MPI_Test", code) {
            Ok(true) if done == 0 => self.sends.add(request, Outgoing::Message(bytes)),
            Ok(true) => {}
            served => {
                // Nobody knows whether MPI still reads them.
                std::mem::forget(bytes);
                return served.map(drop);
            }
        }
        Ok(())
    }

    /// Begins to send a piece. `sent` tells of its end.
    pub(super) fn send_piece(&mut self, tag: i32, piece: Piece) -> Result<()> {
        // SAFETY: the piece shares the body, whose bytes nobody moves or changes until it is dropped,
        // and it is held until the request is done.
        let request = unsafe { self.begin_send(piece.to, tag, &piece.body[piece.range.clone()])? };
        if let Some(request) = request {
            self.sends.add(request, Outgoing::Piece(piece));
        }
        Ok(())
    }

    /// The sends that are done, without the messages that left at once.
    pub(super) fn sent(&mut self) -> Result<Vec<Outgoing>> {
        let finished = finished(&mut self.sends, &mut self.failures, self.all)?;
        Ok(finished.into_iter().map(|(outgoing, _)| outgoing).collect())
    }

    /// Ends MPI, which waits until all ranks do so.
    pub(super) fn finalize(self) -> Result<()> {
        // SAFETY: MPI is running, and without the world nobody makes another call but the abort.
        check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })
    }

    /// Begins to send `bytes`; none of them if their receiver has failed.
    ///
    /// # Safety
    /// They stay where and as they are until the request is done.
    unsafe fn begin_send(&mut self, to: Rank, tag: i32, bytes: &[u8]) -> Result<Option<MPI_Request>> {
        let to = c_int::try_from(to.0).expect("MPI numbers ranks with C integers");
        let count = c_int::try_from(bytes.len()).expect("a message is never longer than a piece");
        let mut request = no_request();
        // SAFETY: so many bytes are there, and the caller keeps them.
        let code = unsafe {
            let from = bytes.as_ptr().cast();
            ffi::MPI_Isend(from, count, ffi::RSMPI_UINT8_T, to, tag, self.all, &mut request)
        };
        Ok(self.has_served("MPI_Isend", code)?.then_some(request))
    }
}

/// What is done of the requests, and whether it was served: not if it concerned a rank that has failed.
fn finished<T>(requests: &mut InFlight<T>, failures: &mut Failures, all: MPI_Comm) -> Result<Vec<(T, bool)>> {
    let finished = requests.finished(|code| failures.is_meant(code))?;
    if finished.iter().any(|(_, is_served)| !is_served) {
        failures.learn(all)?;
    }
    Ok(finished)
}

impl Probed {
    /// How long it is.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Requests that are under way, and what each needs to stay alive until it is done.
///
/// When it is dropped, MPI may still read and write that memory, so it is never freed.
#[derive(Debug)]
pub(super) struct InFlight<T> {
    requests: Vec<MPI_Request>,
    held: Vec<T>,
    indices: Vec<c_int>,
    statuses: Vec<MPI_Status>,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        InFlight { requests: Vec::new(), held: Vec::new(), indices: Vec::new(), statuses: Vec::new() }
    }
}

impl<T> InFlight<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    fn add(&mut self, request: MPI_Request, held: T) {
        self.requests.push(request);
        self.held.push(held);
        if self.indices.len() < self.requests.len() {
            self.indices.push(0);
            self.statuses.push(empty_status());
        }
    }

    /// What is done, taken out, each with true unless its code is one of those that are `excused`. After any other
    /// error, what was done with it is forgotten.
    fn finished(&mut self, excused: impl Fn(c_int) -> bool) -> Result<Vec<(T, bool)>> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let mut count = 0;
        // SAFETY: all three arrays have `requests.len()` places, and what the requests read or
        // write is alive in `held`.
        let code = unsafe {
            let (requests, indices) = (self.requests.as_mut_ptr(), self.indices.as_mut_ptr());
            let statuses = self.statuses.as_mut_ptr();
            ffi::MPI_Testsome(self.requests.len() as c_int, requests, &mut count, indices, statuses)
        };
        // The count is negative if no request was given that is under way.
        let done = usize::try_from(count).unwrap_or(0);
        let codes = self.codes(code, done)?;
        let served = codes.iter().map(|&code| match excused(code) {
            true => Ok(false),
            false => check("MPI_Testsome", code).map(|()| true),
        });
        let served: Result<Vec<bool>> = served.collect();
        Ok(self.take_out(&served?))
    }

    /// Takes out the requests whose places are the first indices, each with what belongs to it.
    fn take_out(&mut self, served: &[bool]) -> Vec<(T, bool)> {
        let mut places: Vec<(usize, bool)> =
            self.indices.iter().zip(served).map(|(&place, &served)| (place as usize, served)).collect();
        // From the last to the first: taking one out moves only those behind it.
        places.sort_unstable();
        let mut taken = Vec::with_capacity(places.len());
        for (place, served) in places.into_iter().rev() {
            self.requests.swap_remove(place);
            taken.push((self.held.swap_remove(place), served));
        }
        taken
    }

    /// The code of each of the requests that are done, in the order of the indices.
    fn codes(&self, code: c_int, done: usize) -> Result<Vec<c_int>> {
        if code != ffi::MPI_ERR_IN_STATUS as c_int {
            check("MPI_Testsome", code)?;
            return Ok(vec![code; done]);
        }
        Ok(self.statuses[..done].iter().map(|status| status.MPI_ERROR).collect())
    }
}

impl<T> Drop for InFlight<T> {
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.held));
    }
}

fn no_request() -> MPI_Request {
    // SAFETY: reads a constant of the library.
    unsafe { ffi::RSMPI_REQUEST_NULL }
}

fn empty_status() -> MPI_Status {
    // SAFETY: a status is made of plain integers in every MPI.
    unsafe { std::mem::zeroed() }
}

/// Memory for a large part: reserved once, given out as rooms, and bytes once every room is filled.
/// Dropped before, it is never freed, for MPI may still write to it.
#[derive(Debug)]
pub(crate) struct Landing {
    /// Empty until all is filled: no slice may be made of memory that is being written.
    bytes: Vec<u8>,
    length: usize,
    given: usize,
    filled: usize,
}

/// Room for one message in a landing. No other overlaps it.
#[derive(Debug)]
pub(crate) struct Room {
    begin: *mut u8,
    bytes: usize,
}

/// A room that a message has filled.
#[derive(Debug)]
pub(crate) struct Filled(Room);

/// Landings from this size on are asked to be in huge pages.
const HUGE_FROM_BYTES: usize = 4 << 20;
const HUGE_PAGE_BYTES: usize = 2 << 20;

impl Landing {
    /// None if there is no memory. To touch it first, in pages of 4 KiB, takes as long as a receive.
    pub(crate) fn reserve(length: usize) -> Option<Landing> {
        let mut bytes = Vec::<u8>::new();
        bytes.try_reserve_exact(length).ok()?;
        if length >= HUGE_FROM_BYTES {
            let begin = bytes.as_mut_ptr();
            let skipped = begin.align_offset(HUGE_PAGE_BYTES);
            let pages = (length - skipped.min(length)) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
            // SAFETY: the pages lie within the vector's memory, and the advice changes no content.
            unsafe { libc::madvise(begin.wrapping_add(skipped).cast(), pages, libc::MADV_HUGEPAGE) };
        }
        Some(Landing { bytes, length, given: 0, filled: 0 })
    }

    /// The next `bytes` of it; None if it has not so many left.
    pub(crate) fn room(&mut self, bytes: usize) -> Option<Room> {
        let begin = self.bytes.as_mut_ptr().wrapping_add(self.given);
        self.given = self.given.checked_add(bytes).filter(|&end| end <= self.length)?;
        Some(Room { begin, bytes })
    }

    /// True if it was all given out.
    pub(crate) fn is_given(&self) -> bool {
        self.given == self.length
    }

    /// True if it was all filled.
    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.length
    }

    /// Takes a room back if it is of this landing. Addresses tell: no memory with a room is freed.
    pub(crate) fn take_back(&mut self, filled: Filled) -> std::result::Result<(), Filled> {
        let begin = self.bytes.as_ptr();
        if !(begin..begin.wrapping_add(self.length)).contains(&filled.0.begin.cast_const()) {
            return Err(filled);
        }
        self.filled += filled.0.bytes;
        Ok(())
    }

    /// The bytes of a full landing.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        assert!(self.is_full(), "only a full landing is made of bytes");
        // SAFETY: rooms do not overlap and come back once, filled, so every byte up to `length` is.
        unsafe { self.bytes.set_len(self.length) };
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        if self.filled < self.given {
            std::mem::forget(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
impl Room {
    /// Stands for a message.
    pub(crate) fn fill(self, byte: u8) -> Filled {
        // SAFETY: the room lies in a landing's memory, which is not freed, and nobody else has it.
        unsafe { self.begin.write_bytes(byte, self.bytes) };
        Filled(self)
    }
}

/// A number that MPI gives as a C integer though it is never negative.
fn rank_of(number: c_int) -> Rank {
    Rank(u32::try_from(number).expect("MPI gives sizes and ranks of messages that are not negative"))
}

/// What the library says about a return code.
fn check(call: &'static str, code: c_int) -> Result<()> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0 as c_char; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut length = 0;
    // SAFETY: the array has the room that the standard asks for, and `length` is written.
    unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr(), &mut length) };
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let text: Vec<u8> = text[..length].iter().map(|&byte| byte as u8).collect();
    Err(TransportError::Failed(call, String::from_utf8_lossy(&text).into_owned()))
}
