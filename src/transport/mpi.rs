//! Ranks that are MPI processes: every call of MPI that dagmar makes.
//!
//! The calls go through the C interface, because rsmpi's own functions drop the return codes and
//! because its `Universe` finalizes MPI when it is dropped, even by a panic, which hangs the job.
//! Here MPI is finalized by `Mpi::finish` and by nothing else. No call waits for another rank,
//! except in `start` and `finish`.
//!
//! Small parcels are one message. A large one is announced by a message and follows in pieces,
//! straight from the sender's memory into the receiver's; `departures` and `arrivals` keep count.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::fmt;
use std::ops::Range;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::Duration;

use mpi::ffi::{self, MPI_Comm, MPI_Message, MPI_Request, MPI_Status};
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::prctl;
use nix::unistd::Pid;

use super::arrivals::{Announced, Arrivals, Misfit, Place};
use super::backoff::{Backoff, Pace, Rest};
use super::departures::{Departures, Piece};
use super::endpoint::{Endpoint, Parcel, TransportError, Waker};
use super::launcher::launcher_rank_count;
use crate::clock;
use crate::core::id::Rank;
use crate::core::time::{Micros, Timestamp};

/// The largest single message. Open MPI's shared memory carries 4 KiB at once, its own header
/// included; one byte more costs a round trip (0.3 us become 2.6).
pub const EAGER_BYTES: usize = 4096 - 64;

/// How much of a large part travels in one message. Smaller pieces cost messages, larger ones
/// keep small parcels to the same rank waiting.
pub const PIECE_BYTES: usize = 4 << 20;

/// The message is a head without a body.
const TAG_HEAD: c_int = 1;
/// A head, its body, and the head's length in the last four bytes.
const TAG_WHOLE: c_int = 2;
/// A head, or none if it comes in pieces, and the lengths of head and body in the last 16 bytes.
const TAG_ANNOUNCEMENT: c_int = 3;
/// The next bytes of the first large parcel that is not complete.
const TAG_PIECE: c_int = 4;

/// Messages taken in before requests are looked after again.
const MESSAGES_PER_TURN: usize = 64;

/// How long `close` waits while nothing moves.
const CLOSE_PATIENCE: Micros = Micros::from_secs(30);

/// How long an abort may take before the process just ends.
const ABORT_PATIENCE: Duration = Duration::from_secs(2);

/// Where this process is in MPI's only life.
static LIFE: AtomicU8 = AtomicU8::new(UNBORN);
const UNBORN: u8 = 0;
const RUNNING: u8 = 1;
const ABORTING: u8 = 2;
const FINISHED: u8 = 3;

/// One process's endpoint. There is at most one in a process.
///
/// The thread that started it uses it. Dropping it leaves MPI as it is; see `finish`.
#[derive(Debug)]
pub struct Mpi {
    world: World,
    ranks_on_node: u32,
    waker: Waker,
    backoff: Backoff,
    arrivals: Arrivals,
    departures: Departures,
    sends: InFlight<Outgoing>,
    receives: InFlight<Place>,
    /// What went wrong during a wait, for the next `receive`.
    failure: Option<TransportError>,
    /// The body of parcels that have none.
    no_body: Arc<Vec<u8>>,
}

/// Why MPI could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// It was started in this process before.
    StartedBefore,
    /// It does not allow a program to have threads.
    NoThreads,
    /// The launcher started more ranks than MPI knows of: it is another MPI's launcher.
    WrongLauncher {
        /// The launcher's variable.
        variable: &'static str,
        /// The number of ranks it gives.
        launched: u32,
        /// The number of ranks that MPI knows of.
        known: u32,
    },
    /// The library failed: the call and what it said.
    Failed(&'static str, String),
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::StartedBefore => write!(out, "MPI was started in this process before"),
            StartError::NoThreads => write!(out, "this MPI does not allow a program to have threads"),
            StartError::WrongLauncher { variable, launched, known } => write!(
                out,
                "the launcher started {launched} ranks (`{variable}`), but MPI knows of {known}: \
                 it belongs to another MPI than the one dagmar was built with"
            ),
            StartError::Failed(call, why) => write!(out, "`{call}` failed: {why}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<TransportError> for StartError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::Failed(call, why) => StartError::Failed(call, why),
            TransportError::Gone(rank) => {
                StartError::Failed("MPI_Init_thread", format!("rank {rank} is gone"))
            }
        }
    }
}

impl Mpi {
    /// Starts MPI. All ranks do so together.
    pub fn start() -> Result<Mpi, StartError> {
        if LIFE.swap(RUNNING, Ordering::AcqRel) != UNBORN {
            return Err(StartError::StartedBefore);
        }
        initialize().inspect_err(|_| LIFE.store(FINISHED, Ordering::Release))?;
        let world = World::duplicate()?;
        if let Some((variable, launched)) =
            launcher_rank_count().filter(|(_, launched)| *launched > world.size)
        {
            return Err(StartError::WrongLauncher { variable, launched, known: world.size });
        }
        let node = world.node()?;
        // Sleeps end 50 us late otherwise, which would double the shortest ones.
        let _ = prctl::set_timerslack(1_000);
        let pace = Pace::new(world.rank == Rank::SCHEDULER, node.ranks <= node.cores);
        Ok(Mpi {
            ranks_on_node: node.ranks,
            waker: Waker::default(),
            backoff: Backoff::new(pace, clock::now()),
            arrivals: Arrivals::new(world.size, reserve),
            departures: Departures::default(),
            sends: InFlight::default(),
            receives: InFlight::default(),
            failure: None,
            no_body: Arc::default(),
            world,
        })
    }

    /// How many ranks share this rank's node, this one included.
    pub fn ranks_on_node(&self) -> u32 {
        self.ranks_on_node
    }

    /// The end of MPI in this process. `clean` says that every rank does the same now and none was
    /// lost: MPI is finalized, which waits for the others. Otherwise MPI is left as it is, for
    /// finalizing would hang, and the caller ends the process.
    pub fn finish(self, clean: bool) -> Result<(), TransportError> {
        if !clean {
            return Ok(());
        }
        LIFE.store(FINISHED, Ordering::Release);
        // SAFETY: MPI is running, and this is the thread that started it.
        check("MPI_Finalize", unsafe { ffi::MPI_Finalize() })
    }

    /// Takes in what has come and moves on what is under way. True if anything happened.
    fn advance(&mut self) -> Result<bool, TransportError> {
        let mut matched = 0;
        while matched < MESSAGES_PER_TURN
            && let Some(message) = self.world.probe()?
        {
            self.accept(message)?;
            matched += 1;
        }
        let moved = self.advance_sends()? | self.advance_receives()? | (matched > 0);
        if moved {
            self.backoff.on_traffic(clock::now());
        }
        Ok(moved)
    }

    fn advance_sends(&mut self) -> Result<bool, TransportError> {
        let finished = self.sends.finished()?;
        for outgoing in &finished {
            if let Outgoing::Piece(to, _) = outgoing {
                self.departures.on_sent(*to);
            }
        }
        let mut moved = !finished.is_empty();
        while let Some(piece) = self.departures.next(PIECE_BYTES) {
            self.send_piece(piece)?;
            moved = true;
        }
        Ok(moved)
    }

    fn advance_receives(&mut self) -> Result<bool, TransportError> {
        let finished = self.receives.finished()?;
        for &place in &finished {
            // SAFETY: `arrivals` calls this once every byte up to `length` was received, within
            // the capacity that it reserved.
            self.arrivals.on_piece(place, |bytes, length| unsafe { bytes.set_len(length) });
        }
        Ok(!finished.is_empty())
    }

    fn accept(&mut self, message: Matched) -> Result<(), TransportError> {
        let source = message.source;
        match message.tag {
            TAG_HEAD => {
                let parcel = Parcel { head: message.take()?, body: self.no_body.clone() };
                self.arrivals.add(source, parcel);
                Ok(())
            }
            TAG_WHOLE => {
                let parcel = whole(message.take()?).ok_or_else(|| misfit(source, Misfit::Unannounced))?;
                self.arrivals.add(source, parcel);
                Ok(())
            }
            TAG_ANNOUNCEMENT => {
                let announced =
                    announced(message.take()?).ok_or_else(|| misfit(source, Misfit::Unannounced))?;
                self.arrivals.announce(source, announced).map_err(|why| misfit(source, why))
            }
            _ => {
                let room = self.arrivals.room(source, message.bytes);
                let (place, room) = room.map_err(|why| misfit(source, why))?;
                let request = message.receive_into(room)?;
                self.receives.add(request, place);
                Ok(())
            }
        }
    }

    fn send_message(&mut self, to: Rank, tag: c_int, bytes: Vec<u8>) -> Result<(), TransportError> {
        let request = self.world.send(to, tag, &bytes, 0..bytes.len())?;
        match finished_at_once(request) {
            Ok(None) => Ok(()),
            Ok(Some(request)) => {
                self.sends.add(request, Outgoing::Message(bytes));
                Ok(())
            }
            Err(error) => {
                // Nobody knows whether MPI still reads them.
                std::mem::forget(bytes);
                Err(error)
            }
        }
    }

    fn send_piece(&mut self, piece: Piece) -> Result<(), TransportError> {
        let request = self.world.send(piece.to, TAG_PIECE, &piece.body, piece.range)?;
        self.sends.add(request, Outgoing::Piece(piece.to, piece.body));
        Ok(())
    }

    fn send_in_pieces(&mut self, to: Rank, parcel: Parcel) -> Result<(), TransportError> {
        let (head_bytes, body_bytes) = (parcel.head.len(), parcel.body.len());
        let (mut announcement, head) = if head_bytes + 16 <= EAGER_BYTES {
            (parcel.head, None)
        } else {
            (Vec::new(), Some(parcel.head))
        };
        announcement.extend((head_bytes as u64).to_le_bytes());
        announcement.extend((body_bytes as u64).to_le_bytes());
        self.send_message(to, TAG_ANNOUNCEMENT, announcement)?;
        if let Some(head) = head {
            self.departures.add(to, Arc::new(head));
        }
        if body_bytes > 0 {
            self.departures.add(to, parcel.body);
        }
        self.advance_sends().map(drop)
    }

    fn is_sending(&self) -> bool {
        !(self.sends.is_empty() && self.departures.is_empty())
    }

    /// Rests before asking again, at most `left`. True if the waker ended it.
    fn rest(&mut self, now: Timestamp, left: Micros) -> bool {
        let in_transfer = self.is_sending() || !self.receives.is_empty();
        match self.backoff.rest(now, in_transfer) {
            Rest::Again => std::hint::spin_loop(),
            Rest::Yield => thread::yield_now(),
            Rest::Sleep(pause) => return self.waker.wait(pause.min(left.into())),
        }
        false
    }
}

impl Endpoint for Mpi {
    fn rank(&self) -> Rank {
        self.world.rank
    }

    fn size(&self) -> u32 {
        self.world.size
    }

    fn send(&mut self, to: Rank, parcel: Parcel) -> Result<(), TransportError> {
        if to == self.world.rank {
            self.arrivals.add(to, parcel);
            return Ok(());
        }
        if to.0 >= self.world.size {
            return Err(TransportError::Gone(to));
        }
        self.backoff.on_traffic(clock::now());
        let (head_bytes, body_bytes) = (parcel.head.len(), parcel.body.len());
        if body_bytes == 0 && head_bytes <= EAGER_BYTES {
            self.send_message(to, TAG_HEAD, parcel.head)
        } else if head_bytes + body_bytes + 4 <= EAGER_BYTES {
            self.send_message(to, TAG_WHOLE, in_one(parcel))
        } else {
            self.send_in_pieces(to, parcel)
        }
    }

    fn receive(&mut self) -> Result<Option<(Rank, Parcel)>, TransportError> {
        if !self.arrivals.is_ready() {
            self.failure.take().map_or(Ok(()), Err)?;
            self.advance()?;
        }
        Ok(self.arrivals.next())
    }

    fn wait(&mut self, limit: Duration) {
        let (began, limit) = (clock::now(), Micros::from(limit));
        while !self.arrivals.is_ready() && self.failure.is_none() && !self.waker.take() {
            if let Err(error) = self.advance() {
                self.failure = Some(error);
            }
            if self.arrivals.is_ready() {
                return;
            }
            let now = clock::now();
            let left = limit - now.since(began);
            if left == Micros::ZERO || self.rest(now, left) {
                return;
            }
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until every parcel has left, or nothing has moved for 30 seconds, as when a receiver
    /// died. What comes meanwhile can still be received.
    fn close(&mut self) -> Result<(), TransportError> {
        let mut moved = clock::now();
        while self.is_sending() {
            if self.advance()? {
                moved = clock::now();
            } else if clock::now().since(moved) > CLOSE_PATIENCE {
                let why = "a rank does not take what was sent to it";
                return Err(TransportError::Failed("close", why.to_owned()));
            }
            self.rest(clock::now(), Micros::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Mpi {
    /// MPI may still read and write the memory of what is under way: that memory is never freed.
    fn drop(&mut self) {
        std::mem::forget(std::mem::take(&mut self.sends));
        if !self.receives.is_empty() {
            std::mem::forget(std::mem::replace(&mut self.arrivals, Arrivals::new(0, reserve)));
        }
    }
}

/// Ends the whole job with `code`, from any thread, and does not return. Without MPI it does
/// nothing, and the caller ends the process.
///
/// MPI does not promise that its abort works from any thread and at any time. The process ends in
/// any case after two seconds, and a launcher ends a job that lost a rank.
pub fn abort_job(code: i32) {
    match LIFE.compare_exchange(RUNNING, ABORTING, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => {
            let _ = thread::Builder::new().spawn(move || leave_after(ABORT_PATIENCE, code));
            // SAFETY: MPI is running; the call takes plain numbers and ends the process.
            unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
            leave_after(ABORT_PATIENCE, code)
        }
        Err(ABORTING) => leave_after(2 * ABORT_PATIENCE, code),
        Err(_) => {}
    }
}

fn leave_after(patience: Duration, code: i32) -> ! {
    thread::sleep(patience);
    // SAFETY: ends the process at once, without destructors that could wait for another thread.
    unsafe { libc::_exit(code) }
}

/// What a send reads from until it is done.
#[derive(Debug)]
enum Outgoing {
    #[expect(dead_code, reason = "it is held, not read, while MPI reads it")]
    Message(Vec<u8>),
    #[expect(dead_code, reason = "the body is held, not read, while MPI reads it")]
    Piece(Rank, Arc<Vec<u8>>),
}

/// A parcel as one message: head, body, and the head's length.
fn in_one(parcel: Parcel) -> Vec<u8> {
    let mut bytes = parcel.head;
    let head_bytes = bytes.len() as u32;
    bytes.reserve_exact(parcel.body.len() + 4);
    bytes.extend_from_slice(&parcel.body);
    bytes.extend(head_bytes.to_le_bytes());
    bytes
}

/// What `in_one` made. None if it did not make it.
fn whole(mut bytes: Vec<u8>) -> Option<Parcel> {
    let (rest, head_bytes) = bytes.split_last_chunk()?;
    let head_bytes = u32::from_le_bytes(*head_bytes) as usize;
    let body = rest.get(head_bytes..)?.to_vec();
    bytes.truncate(head_bytes);
    Some(Parcel { head: bytes, body: Arc::new(body) })
}

/// The announcement in `bytes`, if it is one.
fn announced(mut bytes: Vec<u8>) -> Option<Announced> {
    let (rest, body_bytes) = bytes.split_last_chunk()?;
    let (head, head_bytes) = rest.split_last_chunk()?;
    let (head_bytes, body_bytes) = (u64::from_le_bytes(*head_bytes), u64::from_le_bytes(*body_bytes));
    let has_head = head.len() as u64 == head_bytes;
    bytes.truncate(bytes.len() - 16);
    Some(Announced { head: has_head.then_some(bytes), head_bytes, body_bytes })
}

fn misfit(source: Rank, misfit: Misfit) -> TransportError {
    let why = match misfit {
        Misfit::Unannounced => format!("rank {source} sent what it had not announced"),
        Misfit::NoMemory(bytes) => format!("no memory for {bytes} bytes from rank {source}"),
    };
    TransportError::Failed("receive", why)
}

/// Parts from this size on are asked to be in huge pages.
const HUGE_FROM_BYTES: usize = 4 << 20;
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Memory for a large part. In pages of 4 KiB, touching it for the first time takes as long as
/// receiving into it.
fn reserve(bytes: usize) -> Option<Vec<u8>> {
    let mut memory = Vec::<u8>::new();
    memory.try_reserve_exact(bytes).ok()?;
    if bytes >= HUGE_FROM_BYTES {
        let begin = memory.as_mut_ptr();
        let skipped = begin.align_offset(HUGE_PAGE_BYTES);
        let length = (bytes - skipped.min(bytes)) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
        // SAFETY: the pages lie within the vector's memory, and the advice changes no content.
        unsafe { libc::madvise(begin.wrapping_add(skipped).cast(), length, libc::MADV_HUGEPAGE) };
    }
    Some(memory)
}

/// All ranks, as a communicator of our own: no message of a library in this process is in it.
#[derive(Debug)]
struct World {
    all: MPI_Comm,
    rank: Rank,
    size: u32,
}

// SAFETY: the handle names an object of the process, not of a thread; whoever owns the endpoint
// makes all calls with it.
unsafe impl Send for World {}

/// A message that was probed and will be received by nobody else.
#[derive(Debug)]
struct Matched {
    message: MPI_Message,
    source: Rank,
    tag: c_int,
    bytes: usize,
}

/// Who shares this rank's node, and the cores they may use together.
struct Node {
    ranks: u32,
    cores: u32,
}

fn initialize() -> Result<(), StartError> {
    let mut provided = 0;
    // SAFETY: MPI allows null for both arguments; the only caller calls once in a process.
    let code =
        unsafe { ffi::MPI_Init_thread(null_mut(), null_mut(), ffi::RSMPI_THREAD_FUNNELED, &mut provided) };
    check("MPI_Init_thread", code)?;
    // SAFETY: reads a constant of the library.
    if provided < unsafe { ffi::RSMPI_THREAD_FUNNELED } {
        return Err(StartError::NoThreads);
    }
    // SAFETY: MPI is running; both handles are the library's constants.
    let code = unsafe { ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN) };
    Ok(check("MPI_Comm_set_errhandler", code)?)
}

impl World {
    fn duplicate() -> Result<World, TransportError> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: MPI is running, and the error handler is inherited by the copy.
        let mut all = unsafe { ffi::RSMPI_COMM_WORLD };
        // SAFETY: `all` is written by the call, which all ranks make together.
        check("MPI_Comm_dup", unsafe { ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &mut all) })?;
        // SAFETY: `all` is a communicator now, and `rank` is written.
        check("MPI_Comm_rank", unsafe { ffi::MPI_Comm_rank(all, &mut rank) })?;
        // SAFETY: as above, for `size`.
        check("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(all, &mut size) })?;
        Ok(World { all, rank: rank_of(rank), size: rank_of(size).0 })
    }

    /// The ranks of this node and the cores in any of their affinity masks, found together.
    fn node(&self) -> Result<Node, TransportError> {
        let mut mine = [0_u8; CPU_BYTES];
        let cores = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        for core in (0..CpuSet::count()).filter(|&core| cores.is_set(core).unwrap_or(false)) {
            mine[core / 8] |= 1 << (core % 8);
        }
        let (mut shared, mut size) = (self.all, 0);
        let mut all = [0_u8; CPU_BYTES];
        // SAFETY: `shared` is written by the call, which all ranks make together.
        let code = unsafe {
            let kind = ffi::RSMPI_COMM_TYPE_SHARED;
            ffi::MPI_Comm_split_type(self.all, kind, 0, ffi::RSMPI_INFO_NULL, &mut shared)
        };
        check("MPI_Comm_split_type", code)?;
        // SAFETY: `shared` is a communicator now, and `size` is written.
        check("MPI_Comm_size", unsafe { ffi::MPI_Comm_size(shared, &mut size) })?;
        // SAFETY: both arrays have as many bytes as are named, and all ranks of it call together.
        let code = unsafe {
            let (from, to) = (mine.as_ptr().cast(), all.as_mut_ptr().cast());
            ffi::MPI_Allreduce(from, to, CPU_BYTES as c_int, ffi::RSMPI_UINT8_T, ffi::RSMPI_BOR, shared)
        };
        check("MPI_Allreduce", code)?;
        // SAFETY: nobody uses `shared` after this.
        check("MPI_Comm_free", unsafe { ffi::MPI_Comm_free(&mut shared) })?;
        Ok(Node { ranks: rank_of(size).0, cores: all.iter().map(|byte| byte.count_ones()).sum() })
    }

    fn probe(&self) -> Result<Option<Matched>, TransportError> {
        let (mut found, mut count) = (0, 0);
        let mut status = empty_status();
        // SAFETY: reads a constant of the library.
        let mut message = unsafe { ffi::RSMPI_MESSAGE_NULL };
        // SAFETY: all three are written by the call; the communicator is ours.
        let code = unsafe {
            let (source, tag) = (ffi::RSMPI_ANY_SOURCE, ffi::RSMPI_ANY_TAG);
            ffi::MPI_Improbe(source, tag, self.all, &mut found, &mut message, &mut status)
        };
        check("MPI_Improbe", code)?;
        if found == 0 {
            return Ok(None);
        }
        // SAFETY: the status is that of a message, and `count` is written.
        let code = unsafe { ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut count) };
        check("MPI_Get_count", code)?;
        let (source, bytes) = (rank_of(status.MPI_SOURCE), rank_of(count).index());
        Ok(Some(Matched { message, source, tag: status.MPI_TAG, bytes }))
    }

    /// Begins to send a part of `bytes`, which must stay where they are until the request is done.
    fn send(
        &self,
        to: Rank,
        tag: c_int,
        bytes: &[u8],
        part: Range<usize>,
    ) -> Result<MPI_Request, TransportError> {
        let part = &bytes[part];
        let count = c_int::try_from(part.len()).expect("a message is never longer than a piece");
        let to = c_int::try_from(to.0).expect("MPI numbers ranks with C integers");
        // SAFETY: reads a constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: `part` has `count` bytes; the callers keep them until the request is done.
        let code = unsafe {
            let from = part.as_ptr().cast();
            ffi::MPI_Isend(from, count, ffi::RSMPI_UINT8_T, to, tag, self.all, &mut request)
        };
        check("MPI_Isend", code).map(|()| request)
    }
}

/// Bytes of a mask of cores.
const CPU_BYTES: usize = CpuSet::count().div_ceil(8);

impl Matched {
    /// The bytes of a small message. They are here already, so this does not wait.
    fn take(mut self) -> Result<Vec<u8>, TransportError> {
        let mut bytes = Vec::<u8>::with_capacity(self.bytes);
        // SAFETY: there is room for all bytes of the message, which is received once.
        let code = unsafe {
            let (to, count) = (bytes.as_mut_ptr(), self.bytes as c_int);
            let none = ffi::RSMPI_STATUS_IGNORE;
            ffi::MPI_Mrecv(to.cast(), count, ffi::RSMPI_UINT8_T, &mut self.message, none)
        };
        check("MPI_Mrecv", code)?;
        // SAFETY: the call has filled so many bytes.
        unsafe { bytes.set_len(self.bytes) };
        Ok(bytes)
    }

    /// Begins to receive into `room`, which must hold the message and stay until the request is done.
    fn receive_into(mut self, room: *mut u8) -> Result<MPI_Request, TransportError> {
        // SAFETY: reads a constant of the library.
        let mut request = unsafe { ffi::RSMPI_REQUEST_NULL };
        // SAFETY: `arrivals` gave room for the message's bytes and keeps it until told of its end.
        let code = unsafe {
            let count = self.bytes as c_int;
            ffi::MPI_Imrecv(room.cast(), count, ffi::RSMPI_UINT8_T, &mut self.message, &mut request)
        };
        check("MPI_Imrecv", code).map(|()| request)
    }
}

/// Requests that are under way, and what each needs to stay alive until it is done.
#[derive(Debug)]
struct InFlight<T> {
    requests: Vec<MPI_Request>,
    held: Vec<T>,
    indices: Vec<c_int>,
    statuses: Vec<MPI_Status>,
}

// SAFETY: as for `World`: requests belong to the process, and one owner makes all calls.
unsafe impl<T: Send> Send for InFlight<T> {}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        InFlight { requests: Vec::new(), held: Vec::new(), indices: Vec::new(), statuses: Vec::new() }
    }
}

impl<T> InFlight<T> {
    fn is_empty(&self) -> bool {
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

    /// What is done, taken out. After an error, what was done with it is forgotten.
    fn finished(&mut self) -> Result<Vec<T>, TransportError> {
        if self.is_empty() {
            return Ok(Vec::new());
        }
        let mut count = 0;
        // SAFETY: all three arrays have `requests.len()` places, and what the requests read or
        // write is alive in `held` or in the arrivals.
        let code = unsafe {
            let (requests, indices) = (self.requests.as_mut_ptr(), self.indices.as_mut_ptr());
            let statuses = self.statuses.as_mut_ptr();
            ffi::MPI_Testsome(self.requests.len() as c_int, requests, &mut count, indices, statuses)
        };
        // The count is negative if no request was given that is under way.
        let done = usize::try_from(count).unwrap_or(0);
        let finished = self.take_out(done);
        self.check_each(code, done).map(|()| finished)
    }

    /// Takes out the requests whose places are the first `done` of the indices.
    fn take_out(&mut self, done: usize) -> Vec<T> {
        // From the last to the first: taking one out moves only those behind it.
        self.indices[..done].sort_unstable();
        let mut taken = Vec::with_capacity(done);
        for place in (0..done).rev() {
            let place = self.indices[place] as usize;
            self.requests.swap_remove(place);
            taken.push(self.held.swap_remove(place));
        }
        taken
    }

    /// The first error among the requests that are done.
    fn check_each(&self, code: c_int, done: usize) -> Result<(), TransportError> {
        if code != ffi::MPI_ERR_IN_STATUS as c_int {
            return check("MPI_Testsome", code);
        }
        self.statuses[..done].iter().try_for_each(|status| check("MPI_Testsome", status.MPI_ERROR))
    }
}

/// Asks once whether `request` is done; gives it back if not.
fn finished_at_once(mut request: MPI_Request) -> Result<Option<MPI_Request>, TransportError> {
    let mut done = 0;
    // SAFETY: the request is under way, and `done` is written.
    check("MPI_Test", unsafe { ffi::MPI_Test(&mut request, &mut done, ffi::RSMPI_STATUS_IGNORE) })?;
    Ok((done == 0).then_some(request))
}

fn empty_status() -> MPI_Status {
    // SAFETY: a status is made of plain integers in every MPI.
    unsafe { std::mem::zeroed() }
}

/// A number that MPI gives as a C integer though it is never negative.
fn rank_of(number: c_int) -> Rank {
    Rank(u32::try_from(number).expect("MPI gives sizes and ranks of messages that are not negative"))
}

/// What the library says about a return code.
fn check(call: &'static str, code: c_int) -> Result<(), TransportError> {
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
