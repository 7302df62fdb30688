//! Ranks that are MPI processes: parcels as messages, and how long to rest between looking.
//!
//! Every call of MPI, and all `unsafe`, is in `fence`; whether MPI runs is in `life`. MPI is
//! finalized by `Mpi::finish` and by nothing else. No call waits for another rank, except in
//! `start`, `close` and `finish`.
//!
//! Small parcels are one message. A large one is announced by a message and follows in pieces,
//! straight from the sender's memory into the receiver's; `departures` and `arrivals` keep count. One that lies
//! in a memory file is opened by a rank of the same node instead; see `files`.

mod bells;
pub(super) mod fence;
mod files;
pub mod library;
mod life;
mod messages;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::prctl;
use nix::unistd::Pid;

use super::arrivals::{Arrivals, Misfit};
use super::backoff::{Backoff, Pace};
use super::departures::Departures;
use super::endpoint::{Body, Endpoint, Parcel, Rest, TransportError, Waker};
use super::launcher::{launcher_of, launcher_rank_count};
use crate::clock;
use crate::core::id::Rank;
use crate::core::time::{Micros, Timestamp};
use bells::Bells;
use fence::{Neighbours, Outgoing, Probed, Started, Threads, World};
use files::{Lendings, OFFER_BYTES, Offer};
use library::Library;
use messages::{
    TAG_ANNOUNCEMENT, TAG_BODY, TAG_HEAD, TAG_NOT_TAKEN, TAG_OFFER, TAG_PARTING, TAG_PIECE, TAG_TAKEN,
    TAG_WHOLE, announced, in_one, numbers, whole,
};

pub use life::{StartError, abort_job};

/// The largest single message. Open MPI's shared memory carries 4 KiB at once, its own header
/// included; one byte more costs a round trip (0.3 us become 2.6).
pub const EAGER_BYTES: usize = 4096 - 64;

/// How much of a large part travels in one message, if nothing else is said. Smaller pieces cost messages,
/// larger ones keep small parcels to the same rank waiting. Counts of MPI end at 2 GiB.
pub const PIECE_BYTES: usize = 4 << 20;

/// Messages taken in before requests are looked after again.
const MESSAGES_PER_TURN: usize = 64;

/// How long `close` waits while nothing moves to or from this rank.
const CLOSE_PATIENCE: Micros = Micros::from_secs(30);
/// How long MPI may take to end in a world that has lost ranks. A second is much.
const FINALIZING: Duration = Duration::from_secs(10);

/// One process's endpoint. There is at most one in a process.
///
/// One thread at a time uses it; if MPI promises no more, it is always the one that started it. Dropping it
/// leaves MPI as it is; see `finish`.
#[derive(Debug)]
pub struct Mpi {
    world: World,
    library: Library,
    threads: Threads,
    ranks_on_node: u32,
    waker: Waker,
    bells: Option<Arc<Bells>>,
    backoff: Backoff,
    arrivals: Arrivals,
    departures: Departures,
    lendings: Lendings,
    piece_bytes: usize,
    parting: Parting,
    /// What went wrong during a wait, for the next `receive`.
    failure: Option<TransportError>,
    /// The body of parcels that have none.
    no_body: Body,
}

/// How far the ranks are in leaving each other. Plain messages: a barrier that does not block is the
/// one call of MPI that this endpoint would need besides them.
#[derive(Debug, Default)]
struct Parting {
    /// True once this rank has said that it sent its last message.
    has_told: bool,
    /// Who has said so to this rank: at rank 0 the workers, at a worker rank 0.
    heard: BTreeSet<Rank>,
}

impl Mpi {
    /// Starts MPI. All ranks do so together.
    pub fn start() -> Result<Mpi, StartError> {
        life::begin()?;
        let library = library::library();
        let started = start().inspect_err(|_| life::end())?;
        let threads = started.threads;
        let mut world = started.world()?;
        if let Some((variable, launched)) =
            launcher_rank_count().filter(|(_, launched)| *launched > world.size)
        {
            return Err(StartError::WrongLauncher { variable, launched, known: world.size, library });
        }
        let (rank, size) = (world.rank, world.size);
        let (node, bells) =
            world.on_node(|neighbours| Ok((node(neighbours)?, Bells::hang(neighbours, rank, size)?)))?;
        // Sleeps end 50 us late otherwise, which would double the shortest ones.
        let _ = prctl::set_timerslack(1_000);
        let mut pace = Pace::new(rank == Rank::SCHEDULER, node.ranks <= node.cores);
        if bells.is_some() && node.ranks == size {
            pace = pace.rung(rank == Rank::SCHEDULER);
        }
        let waker = match &bells {
            Some(bells) => Waker::of(bells.clone()),
            None => Waker::default(),
        };
        Ok(Mpi {
            library,
            threads,
            ranks_on_node: node.ranks,
            waker,
            bells,
            backoff: Backoff::new(pace, clock::now()),
            arrivals: Arrivals::new(size),
            departures: Departures::default(),
            lendings: Lendings::default(),
            piece_bytes: PIECE_BYTES,
            parting: Parting::default(),
            failure: None,
            no_body: Body::default(),
            world,
        })
    }

    /// Sends large parts in pieces of so many bytes from now on. The receiver takes pieces of any size, so
    /// ranks need not agree.
    ///
    /// # Panics
    /// When a piece would be empty, or longer than MPI can count.
    #[must_use]
    pub fn with_pieces_of(mut self, bytes: usize) -> Self {
        assert!((1..1 << 31).contains(&bytes), "MPI cannot send pieces of {bytes} bytes");
        self.piece_bytes = bytes;
        self
    }

    /// How many ranks share this rank's node, this one included.
    pub fn ranks_on_node(&self) -> u32 {
        self.ranks_on_node
    }

    /// Which MPI this is and how it was started, for the log.
    pub fn description(&self) -> String {
        let (library, threads, ranks) = (&self.library, self.threads.level, self.world.size);
        match launcher_rank_count() {
            Some((variable, _)) => {
                let launcher = launcher_of(variable);
                format!(
                    "{library}, thread level {threads}: {ranks} ranks, started by {launcher} (`{variable}`)"
                )
            }
            None => format!("{library}, thread level {threads}: {ranks} ranks"),
        }
    }

    /// The end of MPI in this process. `clean` says that every rank does the same now and none was
    /// lost: MPI is finalized, which waits for the others. Otherwise MPI is left as it is, for
    /// finalizing would hang, and the caller ends the process. So it is with a library that may hang
    /// even then: `close` has seen that nothing is under way any more.
    pub fn finish(self, clean: bool) -> Result<(), TransportError> {
        let is_on_many_nodes = self.ranks_on_node < self.world.size;
        if !clean {
            return Ok(());
        }
        if is_on_many_nodes && self.library.may_hang_at_the_end() {
            return self.leave();
        }
        life::end();
        self.world.finalize()
    }

    /// From now on this process ends with this exit code if MPI is not finalized in time. For worlds that have lost
    /// ranks: sometimes the launcher has those that are left wait for the lost ones, for ever, in `MPI_Finalize`.
    pub fn limit_finish(&self, exit_code: u8) {
        if self.world.failed().is_empty() {
            return;
        }
        let end = move || {
            thread::sleep(FINALIZING);
            log::warn!("MPI does not end within {} s: the process ends without", FINALIZING.as_secs());
            fence::end_process(exit_code.into())
        };
        if let Err(error) = thread::Builder::new().name("end".to_owned()).spawn(end) {
            log::warn!("no thread that ends this process in time: {error}");
        }
    }

    /// The end of MPI in this process without `MPI_Finalize`, which the launcher is told. Ranks may end at any time
    /// afterwards, each with its own exit code. For MPICH and its kin only: other MPIs take it for a crash.
    pub fn leave(self) -> Result<(), TransportError> {
        life::end();
        fence::hydra::announce_end()
    }

    /// Takes in what has come and moves on what is under way. True if anything happened.
    fn advance(&mut self) -> Result<bool, TransportError> {
        self.world.look_for_failures()?;
        let mut probed = 0;
        while probed < MESSAGES_PER_TURN
            && let Some(message) = self.world.probe()?
        {
            self.accept(message)?;
            probed += 1;
        }
        let moved = self.advance_sends()? | self.advance_receives()? | (probed > 0);
        if moved {
            self.backoff.on_traffic(clock::now());
        }
        Ok(moved)
    }

    fn advance_sends(&mut self) -> Result<bool, TransportError> {
        let finished = self.world.sent()?;
        for outgoing in &finished {
            if let Outgoing::Piece(piece) = outgoing {
                self.departures.on_sent(piece.to);
            }
        }
        let mut moved = !finished.is_empty();
        while let Some(piece) = self.departures.next(self.piece_bytes) {
            let to = piece.to;
            self.world.send_piece(TAG_PIECE, piece)?;
            self.ring(to);
            moved = true;
        }
        Ok(moved)
    }

    fn advance_receives(&mut self) -> Result<bool, TransportError> {
        let finished = self.world.received()?;
        let moved = !finished.is_empty();
        for (place, filled) in finished {
            self.arrivals.on_piece(place, filled);
        }
        Ok(moved)
    }

    fn accept(&mut self, message: Probed) -> Result<(), TransportError> {
        let source = message.source;
        if self.has_failed(source) {
            return self.world.discard(message);
        }
        match message.tag {
            TAG_PIECE => {
                let room = self.arrivals.room(source, message.bytes());
                let (place, room) = room.map_err(|why| misfit(source, why))?;
                self.world.receive(message, place, room)
            }
            tag => match self.world.take(message)? {
                Some(bytes) => self.on_message(source, tag, bytes),
                None => Ok(()),
            },
        }
    }

    fn on_message(&mut self, source: Rank, tag: i32, bytes: Vec<u8>) -> Result<(), TransportError> {
        let unannounced = || misfit(source, Misfit::Unannounced);
        match tag {
            TAG_HEAD => self.arrivals.add(source, Parcel { head: bytes, body: self.no_body.clone() }),
            TAG_WHOLE => self.arrivals.add(source, whole(bytes).ok_or_else(unannounced)?),
            TAG_ANNOUNCEMENT => {
                let announced = announced(bytes).ok_or_else(unannounced)?;
                self.arrivals.announce(source, announced).map_err(|why| misfit(source, why))?;
            }
            TAG_PARTING => drop(self.parting.heard.insert(source)),
            TAG_OFFER => self.take_offer(source, bytes)?,
            TAG_TAKEN => {
                let [number] = numbers(&bytes).ok_or_else(unannounced)?;
                drop(self.lendings.take_back(number, source).ok_or_else(unannounced)?);
            }
            TAG_NOT_TAKEN => {
                let [number, place] = numbers(&bytes).ok_or_else(unannounced)?;
                let body = self.lendings.take_back(number, source).ok_or_else(unannounced)?;
                self.say(source, TAG_BODY, [place, body.len() as u64])?;
                self.departures.add(source, body);
            }
            TAG_BODY => {
                let [place, body_bytes] = numbers(&bytes).ok_or_else(unannounced)?;
                let announced = self.arrivals.announce_body(source, place, body_bytes);
                announced.map_err(|why| misfit(source, why))?;
            }
            _ => return Err(unannounced()),
        }
        Ok(())
    }

    /// A rank has failed, and the MPI goes on: nothing comes from it any more, and nothing goes there.
    fn give_up(&mut self, rank: Rank) {
        self.arrivals.give_up(rank);
        self.departures.give_up(rank);
        self.lendings.give_up(rank);
    }

    /// True if this rank has failed and the MPI goes on without it.
    pub fn has_failed(&self, rank: Rank) -> bool {
        self.world.failed().contains(&rank)
    }

    /// Opens the file that a rank offers, or asks for its bytes.
    fn take_offer(&mut self, source: Rank, mut message: Vec<u8>) -> Result<(), TransportError> {
        let Some(offer) = Offer::read(&mut message) else { return Err(misfit(source, Misfit::Unannounced)) };
        match offer.open() {
            Ok(body) => {
                self.arrivals.add(source, Parcel { head: message, body });
                self.say(source, TAG_TAKEN, [offer.number])
            }
            Err(error) => {
                log::debug!("rank {source} sends bytes, for its file cannot be opened: {error}");
                let place = self.arrivals.await_body(source, message);
                self.say(source, TAG_NOT_TAKEN, [offer.number, place.number])
            }
        }
    }

    /// Sends a message of numbers only.
    fn say<const N: usize>(&mut self, to: Rank, tag: i32, numbers: [u64; N]) -> Result<(), TransportError> {
        self.world.send(to, tag, numbers.iter().flat_map(|number| number.to_le_bytes()).collect())?;
        self.ring(to);
        Ok(())
    }

    /// Offers the file of the body to a rank of this node. The parcel comes back if that cannot be.
    fn offer(&mut self, to: Rank, parcel: Parcel) -> Result<Option<Parcel>, TransportError> {
        let is_near = self.bells.as_ref().is_some_and(|bells| bells.has(to));
        if !is_near || parcel.head.len() + OFFER_BYTES > EAGER_BYTES {
            return Ok(Some(parcel));
        }
        let Parcel { mut head, body } = parcel;
        match self.lendings.lend(to, body) {
            Err(body) => Ok(Some(Parcel { head, body })),
            Ok(offer) => {
                offer.write(&mut head);
                self.world.send(to, TAG_OFFER, head).map(|()| None)
            }
        }
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
        self.world.send(to, TAG_ANNOUNCEMENT, announcement)?;
        if let Some(head) = head {
            self.departures.add(to, head.into());
        }
        if body_bytes > 0 {
            self.departures.add(to, parcel.body);
        }
        self.advance_sends().map(drop)
    }

    /// Ends the sleep of a rank that something was sent to.
    fn ring(&self, to: Rank) {
        if let Some(bells) = &self.bells {
            bells.ring(to);
        }
    }

    fn is_sending(&self) -> bool {
        self.is_leaving() || !self.lendings.is_empty()
    }

    fn is_leaving(&self) -> bool {
        !self.world.sends.is_empty() || !self.departures.is_empty()
    }

    /// True once no rank has anything to send, and what they sent is here.
    ///
    /// A rank with nothing to send must not finalize MPI before: it alone can take in what others
    /// still send to it. Parting says that all sends are done, not that their receives are.
    fn has_parted(&mut self) -> Result<bool, TransportError> {
        let all_sent = !self.is_sending() && self.part()?;
        Ok(all_sent && self.world.receives.is_empty() && self.arrivals.is_complete())
    }

    /// Says, the first time, that this rank has sent its last message. True once all have said so.
    fn part(&mut self) -> Result<bool, TransportError> {
        let is_scheduler = self.world.rank == Rank::SCHEDULER;
        let others = if is_scheduler { 1..self.world.size } else { 0..1 };
        let mut living = others.map(Rank).filter(|rank| !self.has_failed(*rank));
        let is_heard = living.all(|rank| self.parting.heard.contains(&rank));
        // Rank 0 answers when it has heard all; the others begin.
        if !self.parting.has_told && (is_heard || !is_scheduler) {
            self.parting.has_told = true;
            let hearers = if is_scheduler { 1..self.world.size } else { 0..1 };
            for hearer in hearers.map(Rank) {
                if !self.has_failed(hearer) {
                    self.world.send(hearer, TAG_PARTING, vec![0])?;
                    self.ring(hearer);
                }
            }
        }
        Ok(is_heard && !self.is_sending())
    }

    /// What a close has waited for in vain.
    fn kept_waiting(&self) -> TransportError {
        let why = if self.is_sending() {
            "a rank does not take what was sent to it"
        } else {
            "a rank does not leave with the others"
        };
        TransportError::Failed("close", why.to_owned())
    }

    /// Rests before asking again, at most `left`. True if the waker ended it.
    fn pause(&mut self, now: Timestamp, left: Micros) -> bool {
        let in_transfer = self.is_in_transfer();
        match self.backoff.rest(now, in_transfer) {
            Rest::Again => std::hint::spin_loop(),
            Rest::Yield => thread::yield_now(),
            Rest::Sleep(pause) | Rest::Doze(pause) => return self.waker.wait(pause.min(left.into())),
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
        if self.has_failed(to) {
            return Ok(());
        }
        self.backoff.on_traffic(clock::now());
        let (head_bytes, body_bytes) = (parcel.head.len(), parcel.body.len());
        if body_bytes == 0 && head_bytes <= EAGER_BYTES {
            self.world.send(to, TAG_HEAD, parcel.head)?;
        } else if head_bytes + body_bytes + 4 <= EAGER_BYTES {
            self.world.send(to, TAG_WHOLE, in_one(parcel))?;
        } else if let Some(parcel) = self.offer(to, parcel)? {
            self.send_in_pieces(to, parcel)?;
        }
        self.ring(to);
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<(Rank, Parcel)>, TransportError> {
        if !self.arrivals.is_ready() {
            self.failure.take().map_or(Ok(()), Err)?;
            self.advance()?;
            if let Some(rank) = self.world.next_failed() {
                self.give_up(rank);
                return Err(TransportError::Gone(rank));
            }
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
            if left == Micros::ZERO || self.pause(now, left) {
                return;
            }
        }
    }

    fn is_for_any_thread(&self) -> bool {
        self.threads.one_at_a_time
    }

    fn is_in_transfer(&self) -> bool {
        self.is_leaving() || !self.world.receives.is_empty()
    }

    fn rest(&mut self, is_at_ease: bool) -> Rest {
        if self.arrivals.is_ready() || self.failure.is_some() {
            return Rest::Again;
        }
        let (now, in_transfer) = (clock::now(), self.is_in_transfer());
        match is_at_ease {
            true => self.backoff.rest_at_ease(now, in_transfer),
            false => self.backoff.rest(now, in_transfer),
        }
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until all ranks close and every parcel is where it was sent to, or until nothing has
    /// moved here for 30 seconds, as when a rank died. What comes meanwhile is dropped. Afterwards
    /// MPI can be finalized.
    ///
    /// Large parcels that have not begun to leave are sent too: the receiver may wait for what is
    /// behind them.
    fn close(&mut self) -> Result<(), TransportError> {
        let mut last_moved = clock::now();
        loop {
            let moved = self.advance()?;
            while self.arrivals.next().is_some() {}
            if self.has_parted()? {
                return Ok(());
            }
            let now = clock::now();
            if moved {
                last_moved = now;
            } else if now.since(last_moved) > CLOSE_PATIENCE {
                return Err(self.kept_waiting());
            }
            self.pause(now, Micros::from_millis(1));
        }
    }
}

fn start() -> Result<Started, StartError> {
    Started::start()?.ok_or(StartError::NoThreads)
}

fn misfit(source: Rank, misfit: Misfit) -> TransportError {
    let why = match misfit {
        Misfit::Unannounced => format!("rank {source} sent what it had not announced"),
        Misfit::NoMemory(bytes) => format!("no memory for {bytes} bytes from rank {source}"),
    };
    TransportError::Failed("receive", why)
}

/// Who shares this rank's node, and the cores they may use together.
struct Node {
    ranks: u32,
    cores: u32,
}

/// Bytes of a mask of cores.
const CPU_BYTES: usize = CpuSet::count().div_ceil(8);

/// The ranks of this node and the cores in any of their affinity masks, found together.
fn node(neighbours: &Neighbours) -> Result<Node, TransportError> {
    let mut mine = [0_u8; CPU_BYTES];
    let cores = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    for core in (0..CpuSet::count()).filter(|&core| cores.is_set(core).unwrap_or(false)) {
        mine[core / 8] |= 1 << (core % 8);
    }
    let all = neighbours.union(&mine)?;
    Ok(Node { ranks: neighbours.count, cores: all.iter().map(|byte| byte.count_ones()).sum() })
}
