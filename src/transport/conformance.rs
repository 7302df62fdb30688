//! What every transport must do, checked by its ranks together.
//!
//! Each rank calls `check_all` with its endpoint; a rank that sees a fault panics with the story.
//! Traffic is made of numbers that both sides can compute, so every parcel is checked to the byte.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::endpoint::{Body, Endpoint, Lender, Parcel, TransportError};
use crate::clock;
use crate::core::id::Rank;
use crate::core::time::Timestamp;

/// What a test waits for at most before it gives up.
const PATIENCE: Duration = Duration::from_secs(50);

/// What is on its way when an endpoint is closed.
const LARGE_BYTES: usize = 64 << 20;

/// Sizes that the transport under test treats differently, and how much is asked of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Up to this many bytes, head and body together, travel in one message.
    pub eager_bytes: usize,
    /// Larger bodies travel in pieces of this size.
    pub piece_bytes: usize,
    /// Parcels from each rank to each other in the random exchange.
    pub random_parcels: u64,
    /// Also send parcels of this many bytes from rank 0 to the last, one by one: own bytes, then lent ones.
    pub giant_bytes: Option<usize>,
    /// True if each rank is a process, which may take all descriptors from itself.
    pub are_processes: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            eager_bytes: 4096,
            piece_bytes: 1 << 20,
            random_parcels: 50,
            giant_bytes: None,
            are_processes: false,
        }
    }
}

/// A check that all ranks run together.
type Check = fn(&mut Ranks<'_>, &Plan);

/// The checks and their names.
const CHECKS: [(&str, Check); 14] = [
    ("parcels of a pair keep their order", parcels_of_a_pair_keep_their_order),
    ("a rank can send to itself", a_rank_can_send_to_itself),
    ("empty parcels arrive", empty_parcels_arrive),
    ("sizes around every threshold arrive", sizes_around_every_threshold_arrive),
    ("lent bodies arrive and are let go", lent_bodies_arrive_and_are_let_go),
    ("bodies in memory files arrive and are let go", bodies_in_memory_files_arrive_and_are_let_go),
    ("memory files that cannot be opened arrive", memory_files_that_cannot_be_opened_arrive),
    ("small parcels do not overtake large ones", small_parcels_do_not_overtake_large_ones),
    ("many send to one", many_send_to_one),
    ("all send to all", all_send_to_all),
    ("large parcels cross without a deadlock", large_parcels_cross_without_a_deadlock),
    ("a wait keeps its limit", a_wait_keeps_its_limit),
    ("a waker ends a wait", a_waker_ends_a_wait),
    ("giants arrive", giants_arrive),
];

/// Runs every check and closes the endpoint, while a large body is on its way to it.
///
/// # Panics
/// When the transport does not conform.
pub fn check_all<E: Endpoint>(endpoint: &mut E, plan: &Plan) {
    let mut ranks = Ranks { endpoint, early: Vec::new(), stage: 0 };
    for (stage, (name, check)) in (1..).zip(CHECKS) {
        ranks.stage = stage;
        log::debug!("rank {}: {name}", ranks.me());
        check(&mut ranks, plan);
        ranks.meet(name);
    }
    close_while_a_large_body_is_on_its_way(&mut ranks);
}

/// The names of the checks, in their order.
pub fn names() -> Vec<&'static str> {
    CHECKS.iter().map(|(name, _)| *name).collect()
}

/// An endpoint that tells the traffic of one check from that of the next.
struct Ranks<'a> {
    endpoint: &'a mut dyn Endpoint,
    /// What ranks that are a check ahead have sent.
    early: Vec<(Rank, Numbered)>,
    stage: u32,
}

/// A parcel of the checks: the head is the stage, a number, and padding.
struct Numbered {
    stage: u32,
    number: u64,
    parcel: Parcel,
}

/// The stage of parcels with an empty head, which cannot name theirs.
const EMPTY: u32 = u32::MAX;

/// Bytes of the head before its padding.
const HEAD_BYTES: usize = 12;

impl Ranks<'_> {
    fn me(&self) -> u32 {
        self.endpoint.rank().0
    }

    fn size(&self) -> u32 {
        self.endpoint.size()
    }

    fn last(&self) -> u32 {
        self.size() - 1
    }

    /// The next rank in the circle; oneself when alone.
    fn neighbour(&self) -> u32 {
        (self.me() + 1) % self.size()
    }

    fn send(&mut self, to: u32, number: u64, padding: usize, body: usize) {
        self.send_with(to, number, padding, pattern(number, body).into());
    }

    fn send_with(&mut self, to: u32, number: u64, padding: usize, body: Body) {
        let mut head = self.stage.to_le_bytes().to_vec();
        head.extend(number.to_le_bytes());
        head.extend(pattern(number ^ 1, padding));
        let parcel = Parcel { head, body };
        self.endpoint.send(Rank(to), parcel).expect("the receiver is there");
    }

    /// The next parcel of this stage, from whomever.
    fn take(&mut self, story: &str) -> (u32, Numbered) {
        let early = self.early.iter().position(|(_, numbered)| numbered.stage == self.stage);
        if let Some(place) = early {
            let (from, numbered) = self.early.remove(place);
            return (from.0, numbered);
        }
        let began = clock::now();
        loop {
            match self.endpoint.receive().expect("receiving works") {
                Some((from, parcel)) => {
                    let numbered = Numbered::from(parcel);
                    if numbered.stage == self.stage {
                        return (from.0, numbered);
                    }
                    self.early.push((from, numbered));
                }
                None => self.wait_since(began, story),
            }
        }
    }

    /// Lets the transport work, and keeps what it brings.
    fn look_early(&mut self) {
        while let Some((from, parcel)) = self.endpoint.receive().expect("receiving works") {
            self.early.push((from, Numbered::from(parcel)));
        }
    }

    fn wait_since(&mut self, began: Timestamp, story: &str) {
        assert!(elapsed(began) < PATIENCE, "rank {} still waits for: {story}", self.me());
        self.endpoint.wait(Duration::from_millis(100));
    }

    /// Takes a parcel and checks all of it.
    fn expect(&mut self, from: u32, number: u64, padding: usize, body: usize) {
        let story = format!("parcel {number} of rank {from}");
        let (sender, numbered) = self.take(&story);
        assert_eq!((sender, numbered.number), (from, number), "rank {} expected {story}", self.me());
        numbered.check(padding, body);
    }

    /// Waits until every rank has come here. Rank 0 counts.
    fn meet(&mut self, after: &str) {
        self.stage += 1_000;
        if self.me() == 0 {
            for _ in 1..self.size() {
                self.take(after);
            }
            for rank in 1..self.size() {
                self.send(rank, 0, 0, 0);
            }
        } else {
            self.send(0, 0, 0, 0);
            self.take(after);
        }
        self.stage -= 1_000;
    }
}

impl From<Parcel> for Numbered {
    fn from(parcel: Parcel) -> Self {
        if parcel.head.is_empty() {
            return Numbered { stage: EMPTY, number: 0, parcel };
        }
        let (stage, rest) = parcel.head.split_first_chunk().expect("a head of the checks has a stage");
        let (number, _) = rest.split_first_chunk().expect("a head of the checks has a number");
        Numbered { stage: u32::from_le_bytes(*stage), number: u64::from_le_bytes(*number), parcel }
    }
}

impl Numbered {
    fn check(&self, padding: usize, body: usize) {
        let number = self.number;
        assert_eq!(self.parcel.head.len(), HEAD_BYTES + padding, "head of parcel {number}");
        assert_eq!(self.parcel.body.len(), body, "body of parcel {number}");
        assert!(
            self.parcel.head[HEAD_BYTES..] == pattern(number ^ 1, padding),
            "head of {number} is damaged"
        );
        assert!(*self.parcel.body == pattern(number, body), "body of parcel {number} is damaged");
    }
}

fn elapsed(began: Timestamp) -> Duration {
    clock::now().since(began).into()
}

/// Bytes that look random and are the same everywhere: xorshift from a seed made of `number`.
fn pattern(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = mixed(number) | 1;
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn mixed(number: u64) -> u64 {
    let mixed = (number ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

fn parcels_of_a_pair_keep_their_order(ranks: &mut Ranks<'_>, _: &Plan) {
    let (me, size, neighbour) = (ranks.me(), ranks.size(), ranks.neighbour());
    for number in 0..2_000 {
        ranks.send(neighbour, number, 0, 0);
    }
    for number in 0..2_000 {
        ranks.expect((me + size - 1) % size, number, 0, 0);
    }
}

fn a_rank_can_send_to_itself(ranks: &mut Ranks<'_>, plan: &Plan) {
    let me = ranks.me();
    let bodies = [0, 1, plan.eager_bytes, 2 * plan.piece_bytes + 1];
    for (number, body) in (0..).zip(bodies) {
        ranks.send(me, number, 0, body);
    }
    for (number, body) in (0..).zip(bodies) {
        ranks.expect(me, number, 0, body);
    }
}

fn empty_parcels_arrive(ranks: &mut Ranks<'_>, _: &Plan) {
    let neighbour = ranks.neighbour();
    ranks.endpoint.send(Rank(neighbour), Parcel::default()).expect("the receiver is there");
    let stage = std::mem::replace(&mut ranks.stage, EMPTY);
    let (_, numbered) = ranks.take("an empty parcel");
    assert_eq!(numbered.parcel, Parcel::default());
    ranks.stage = stage;
}

fn sizes_around_every_threshold_arrive(ranks: &mut Ranks<'_>, plan: &Plan) {
    let (me, last) = (ranks.me(), ranks.last());
    let mut sizes = vec![(0, 0), (0, 1), (1, 0), (plan.eager_bytes * 3, 1), (plan.eager_bytes, 0)];
    for total in plan.eager_bytes - 20..=plan.eager_bytes + 4 {
        sizes.extend([(0, total - HEAD_BYTES), (total - HEAD_BYTES, 0), (total - HEAD_BYTES - 1, 1)]);
    }
    let piece = plan.piece_bytes;
    sizes.extend([
        (0, piece - 1),
        (0, piece),
        (0, piece + 1),
        (5, 3 * piece + 5),
        (plan.eager_bytes, 2 * piece),
    ]);
    if me == 0 {
        for (number, &(padding, body)) in (0..).zip(&sizes) {
            ranks.send(last, number, padding, body);
        }
    }
    if me == last {
        for (number, &(padding, body)) in (0..).zip(&sizes) {
            ranks.expect(0, number, padding, body);
        }
    }
}

/// Somebody else's bytes, which lie in the middle of something larger.
struct Owner(Vec<u8>);

impl Lender for Owner {
    fn bytes(&self) -> &[u8] {
        &self.0[1..self.0.len() - 1]
    }
}

fn owner(number: u64, body: usize) -> Arc<Owner> {
    let mut bytes = pattern(number, body);
    bytes.insert(0, 0xAA);
    bytes.push(0xAA);
    Arc::new(Owner(bytes))
}

/// The same owner lends to every other rank at once, in one piece and in several, and is free afterwards.
fn lent_bodies_arrive_and_are_let_go(ranks: &mut Ranks<'_>, plan: &Plan) {
    let (me, size) = (ranks.me(), ranks.size());
    let piece = plan.piece_bytes;
    let sizes = [0, 1, plan.eager_bytes - HEAD_BYTES, plan.eager_bytes, piece, piece + 1, 5 * piece + 3];
    let owners: Vec<Arc<Owner>> = (0..).zip(sizes).map(|(number, body)| owner(number, body)).collect();
    let others: Vec<u32> = (0..size).filter(|&rank| rank != me).collect();
    for (number, lent) in (0..).zip(&owners) {
        others.iter().for_each(|&to| ranks.send_with(to, number, 0, Body::lent(lent.clone())));
    }
    let mut next = BTreeMap::new();
    for _ in 0..others.len() * sizes.len() {
        let (from, numbered) = ranks.take("lent bodies of everybody");
        let next: &mut u64 = next.entry(from).or_default();
        assert_eq!(numbered.number, *next, "from rank {from}");
        numbered.check(0, sizes[*next as usize]);
        *next += 1;
    }
    ranks.meet("lent bodies");
    let began = clock::now();
    while owners.iter().any(|lent| Arc::strong_count(lent) > 1) {
        ranks.look_early();
        ranks.wait_since(began, "what was lent to be let go");
    }
}

/// Bytes in a memory file, and the same in this process.
struct InFile(Vec<u8>, File);

impl Lender for InFile {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.1.as_fd())
    }
}

fn in_files(sizes: &[usize]) -> Vec<Arc<InFile>> {
    let in_file = |(number, &body): (u64, &usize)| {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create("body", flags).expect("a memory file can be had"));
        // They are sent under every other number.
        let bytes = pattern(2 * number, body);
        file.write_all(&bytes).expect("it can be written");
        Arc::new(InFile(bytes, file))
    };
    (0..).zip(sizes).map(in_file).collect()
}

/// Bodies in files go to the neighbour, and between them parcels without one.
fn exchange(ranks: &mut Ranks<'_>, in_files: &[Arc<InFile>], other: usize) {
    let (me, size, neighbour) = (ranks.me(), ranks.size(), ranks.neighbour());
    for (number, lent) in (0..).zip(in_files) {
        ranks.send_with(neighbour, 2 * number, 5, Body::lent(lent.clone()));
        ranks.send(neighbour, 2 * number + 1, 0, other);
    }
    for (number, sent) in (0..).zip(in_files) {
        ranks.expect((me + size - 1) % size, 2 * number, 5, sent.0.len());
        ranks.expect((me + size - 1) % size, 2 * number + 1, 0, other);
    }
    ranks.meet("bodies in files");
    let began = clock::now();
    while in_files.iter().any(|lent| Arc::strong_count(lent) > 1) {
        ranks.look_early();
        ranks.wait_since(began, "files to be let go");
    }
}

fn bodies_in_memory_files_arrive_and_are_let_go(ranks: &mut Ranks<'_>, plan: &Plan) {
    let piece = plan.piece_bytes;
    let bodies = in_files(&[1, plan.eager_bytes, piece, piece + 1, 5 * piece + 3]);
    for other in [0, plan.eager_bytes + 1] {
        exchange(ranks, &bodies, other);
    }
}

/// No rank has a descriptor left to open one with. What is open stays so, and all that the ranks say here goes ways
/// that the checks before have opened.
fn memory_files_that_cannot_be_opened_arrive(ranks: &mut Ranks<'_>, plan: &Plan) {
    if !plan.are_processes {
        return;
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("there is a limit of descriptors");
    let piece = plan.piece_bytes;
    let bodies = in_files(&[plan.eager_bytes, piece + 1, 3 * piece + 5]);
    ranks.meet("limits");
    setrlimit(Resource::RLIMIT_NOFILE, 0, hard).expect("a limit can be lowered");
    exchange(ranks, &bodies, piece + 7);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).expect("and raised again");
}

fn small_parcels_do_not_overtake_large_ones(ranks: &mut Ranks<'_>, plan: &Plan) {
    let (me, size, neighbour) = (ranks.me(), ranks.size(), ranks.neighbour());
    let large = 2 * plan.piece_bytes + 77;
    let body = |number: u64| [large, 3, 0, plan.eager_bytes + 1][number as usize % 4];
    for number in 0..16 {
        ranks.send(neighbour, number, 0, body(number));
    }
    for number in 0..16 {
        ranks.expect((me + size - 1) % size, number, 0, body(number));
    }
}

fn many_send_to_one(ranks: &mut Ranks<'_>, plan: &Plan) {
    let body = |number: u64| number as usize % 5 * plan.eager_bytes / 2;
    for number in 0..200 {
        ranks.send(0, number, 0, body(number));
    }
    let mut next = BTreeMap::new();
    let expected = if ranks.me() == 0 { 200 * u64::from(ranks.size()) } else { 0 };
    for _ in 0..expected {
        let (from, numbered) = ranks.take("parcels of everybody");
        let next: &mut u64 = next.entry(from).or_default();
        assert_eq!(numbered.number, *next, "from rank {from}");
        numbered.check(0, body(*next));
        *next += 1;
    }
}

fn all_send_to_all(ranks: &mut Ranks<'_>, plan: &Plan) {
    let (me, size) = (ranks.me(), ranks.size());
    let mut next = vec![0; size as usize];
    let mut expected = plan.random_parcels * u64::from(size);
    for number in 0..plan.random_parcels {
        for to in 0..size {
            let (padding, body) = random_size(me, to, number, plan);
            ranks.send(to, number, padding, body);
        }
    }
    while expected > 0 {
        let (from, numbered) = ranks.take("random parcels of everybody");
        let next: &mut u64 = &mut next[from as usize];
        assert_eq!(numbered.number, *next, "from rank {from}");
        let (padding, body) = random_size(from, me, *next, plan);
        numbered.check(padding, body);
        *next += 1;
        expected -= 1;
    }
}

/// Padding and body of a random parcel: mostly small, some around the limits, few large.
fn random_size(from: u32, to: u32, number: u64, plan: &Plan) -> (usize, usize) {
    let random = mixed(u64::from(from) << 40 | u64::from(to) << 20 | number);
    let share = (random >> 8) as usize & 0xFFFF;
    let most = match random % 16 {
        0 => 2 * plan.piece_bytes,
        1..4 => 3 * plan.eager_bytes,
        _ => plan.eager_bytes / 8,
    };
    (share % 40, most * share / 0xFFFF)
}

fn large_parcels_cross_without_a_deadlock(ranks: &mut Ranks<'_>, plan: &Plan) {
    let (me, size) = (ranks.me(), ranks.size());
    let body = 9 * plan.piece_bytes + 13;
    let others: Vec<u32> = (0..size).filter(|&rank| rank != me).collect();
    for &to in &others {
        ranks.send(to, u64::from(me), 0, body);
    }
    for _ in &others {
        let (from, numbered) = ranks.take("a large parcel of everybody");
        assert_eq!(numbered.number, u64::from(from));
        numbered.check(0, body);
    }
}

fn a_wait_keeps_its_limit(ranks: &mut Ranks<'_>, _: &Plan) {
    // Nothing may come now but signals of ranks that are done here: those end a wait early.
    ranks.endpoint.waker().wake();
    ranks.endpoint.wait(Duration::from_secs(20));
    let began = clock::now();
    ranks.endpoint.wait(Duration::from_millis(30));
    ranks.endpoint.wait(Duration::ZERO);
    assert!(elapsed(began) < Duration::from_secs(10), "a wait of 30 ms took {:?}", elapsed(began));
}

fn a_waker_ends_a_wait(ranks: &mut Ranks<'_>, _: &Plan) {
    let (began, waker) = (clock::now(), ranks.endpoint.waker());
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        waker.wake();
    });
    ranks.endpoint.wait(PATIENCE);
    other.join().expect("the other thread only wakes");
    assert!(elapsed(began) < PATIENCE / 2, "a wait took {:?} though it was woken", elapsed(began));
}

/// The last check, for it closes the endpoint: nobody receives what the neighbour sends.
fn close_while_a_large_body_is_on_its_way(ranks: &mut Ranks<'_>) {
    let neighbour = Rank(ranks.neighbour());
    let large = Parcel { head: Vec::new(), body: vec![1; LARGE_BYTES].into() };
    // The neighbour may have closed before, and a transport may know it.
    if let Err(error) = ranks.endpoint.send(neighbour, large) {
        assert_eq!(error, TransportError::Gone(neighbour));
    }
    for _ in 0..2 {
        ranks.endpoint.close().expect("an endpoint can be closed, and again");
    }
}

fn giants_arrive(ranks: &mut Ranks<'_>, plan: &Plan) {
    let (me, last) = (ranks.me(), ranks.last());
    let Some(bytes) = plan.giant_bytes else { return };
    for (number, is_lent) in [(98, false), (99, true)] {
        if me == 0 {
            match is_lent {
                true => ranks.send_with(last, number, 3, Body::lent(owner(number, bytes))),
                false => ranks.send(last, number, 3, bytes),
            }
        }
        if me == last {
            ranks.expect(0, number, 3, bytes);
        }
        // One at a time: they are large.
        ranks.meet("a giant");
    }
}
