//! Parcels on their way in: pieces become bodies, and every pair's order is kept.
//!
//! Messages of one rank are matched in the order they were sent, but a large body is complete
//! only after others behind it have come. What overtakes it waits here. No MPI in this file.

use std::collections::VecDeque;
use std::sync::Arc;

use super::endpoint::Parcel;
use crate::core::id::Rank;

/// All parcels that are not complete yet, or wait for one that is not.
#[derive(Debug)]
pub(super) struct Arrivals {
    sources: Vec<Source>,
    ready: VecDeque<(Rank, Parcel)>,
    reserve: Reserve,
}

/// Gets memory for a large part.
pub(super) type Reserve = fn(usize) -> Option<Vec<u8>>;

/// What one rank has sent and this one has not handed on.
#[derive(Debug, Default)]
struct Source {
    queue: VecDeque<Arriving>,
    /// The number of the queue's first parcel. Numbers count on, so they outlive the queue's moves.
    first: u64,
}

/// A parcel whose pieces are still coming, or that waits for one.
#[derive(Debug)]
struct Arriving {
    head: Part,
    body: Part,
    /// Receives into the parts that are not done.
    under_way: u32,
}

/// A head or a body on its way in.
#[derive(Debug)]
struct Part {
    /// Its memory is reserved once and never moves; its length is set when all is there.
    bytes: Vec<u8>,
    length: usize,
    /// Bytes that messages have been matched to.
    matched: usize,
}

/// One parcel among the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    source: Rank,
    number: u64,
}

/// What the first message of a large parcel says.
#[derive(Debug)]
pub(super) struct Announced {
    /// None if the head comes in pieces, before the body's.
    pub(super) head: Option<Vec<u8>>,
    pub(super) head_bytes: u64,
    pub(super) body_bytes: u64,
}

/// Why a message does not fit what its sender has announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// A piece of a body that was not announced, or more of it than announced.
    Unannounced,
    /// There is no memory for a body of so many bytes.
    NoMemory(u64),
}

impl Arrivals {
    /// `reserve` gives an empty vector with room for so many bytes, or None.
    pub(super) fn new(size: u32, reserve: Reserve) -> Self {
        let sources = (0..size).map(|_| Source::default()).collect();
        Arrivals { sources, ready: VecDeque::new(), reserve }
    }

    /// The next complete parcel, in its pair's order.
    pub(super) fn next(&mut self) -> Option<(Rank, Parcel)> {
        self.ready.pop_front()
    }

    /// True if a parcel can be had.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// A complete parcel has come.
    pub(super) fn add(&mut self, source: Rank, parcel: Parcel) {
        let queue = &mut self.sources[source.index()].queue;
        if queue.is_empty() {
            return self.ready.push_back((source, parcel));
        }
        queue.push_back(Arriving {
            head: Part::here(parcel.head),
            body: Part::here(Arc::unwrap_or_clone(parcel.body)),
            under_way: 0,
        });
    }

    /// A parcel begins: its head, unless that comes in pieces too, and how long its parts are.
    pub(super) fn announce(&mut self, source: Rank, announced: Announced) -> Result<(), Misfit> {
        let head = match announced.head {
            Some(head) => Part::here(head),
            None => Part::reserve(announced.head_bytes, self.reserve)?,
        };
        let body = Part::reserve(announced.body_bytes, self.reserve)?;
        self.sources[source.index()].queue.push_back(Arriving { head, body, under_way: 0 });
        Ok(())
    }

    /// Where the next piece of `source` belongs: room for `bytes`, which stays where it is until
    /// `on_piece` is told that the piece is there.
    pub(super) fn room(&mut self, source: Rank, bytes: usize) -> Result<(Place, *mut u8), Misfit> {
        let from = &mut self.sources[source.index()];
        let unfinished = from.queue.iter_mut().zip(from.first..).find(|(arriving, _)| !arriving.is_matched());
        let (arriving, number) = unfinished.ok_or(Misfit::Unannounced)?;
        let part = if arriving.head.is_matched() { &mut arriving.body } else { &mut arriving.head };
        let room = part.room(bytes)?;
        arriving.under_way += 1;
        Ok((Place { source, number }, room))
    }

    /// The piece at `place` is there. If that was the last of its parcel, `set_length` is called
    /// for both parts: all bytes up to the length passed along are filled then.
    pub(super) fn on_piece(&mut self, place: Place, mut set_length: impl FnMut(&mut Vec<u8>, usize)) {
        let from = &mut self.sources[place.source.index()];
        let index = usize::try_from(place.number - from.first).expect("the queue is in memory");
        let arriving = &mut from.queue[index];
        arriving.under_way -= 1;
        if arriving.is_complete() {
            for part in [&mut arriving.head, &mut arriving.body] {
                set_length(&mut part.bytes, part.length);
            }
        }
        self.hand_on(place.source);
    }

    /// Moves what is complete at the front of a source's queue to where it can be had.
    fn hand_on(&mut self, source: Rank) {
        let from = &mut self.sources[source.index()];
        while from.queue.front().is_some_and(Arriving::is_complete) {
            let Some(Arriving { head, body, .. }) = from.queue.pop_front() else { break };
            from.first += 1;
            self.ready.push_back((source, Parcel { head: head.bytes, body: Arc::new(body.bytes) }));
        }
    }
}

impl Arriving {
    fn is_matched(&self) -> bool {
        self.head.is_matched() && self.body.is_matched()
    }

    fn is_complete(&self) -> bool {
        self.is_matched() && self.under_way == 0
    }
}

impl Part {
    fn here(bytes: Vec<u8>) -> Part {
        Part { length: bytes.len(), matched: bytes.len(), bytes }
    }

    fn reserve(bytes: u64, reserve: Reserve) -> Result<Part, Misfit> {
        let length = usize::try_from(bytes).map_err(|_| Misfit::NoMemory(bytes))?;
        let bytes = reserve(length).ok_or(Misfit::NoMemory(bytes))?;
        Ok(Part { bytes, length, matched: 0 })
    }

    fn is_matched(&self) -> bool {
        self.matched == self.length
    }

    fn room(&mut self, bytes: usize) -> Result<*mut u8, Misfit> {
        if bytes == 0 || bytes > self.length - self.matched {
            return Err(Misfit::Unannounced);
        }
        // No slice is made of it: other pieces may be written into the same memory right now.
        let room = self.bytes.as_mut_ptr().wrapping_add(self.matched);
        self.matched += bytes;
        Ok(room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Rank = Rank(1);

    /// Stands for memory that a receive has filled.
    fn filled(body: &mut Vec<u8>, length: usize) {
        body.resize(length, 9);
    }

    fn plainly(bytes: usize) -> Option<Vec<u8>> {
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes).ok().map(|()| memory)
    }

    fn small(head: u8) -> Parcel {
        Parcel { head: vec![head], ..Parcel::default() }
    }

    fn announced(head: u8, body_bytes: u64) -> Announced {
        Announced { head: Some(vec![head]), head_bytes: 1, body_bytes }
    }

    fn heads(arrivals: &mut Arrivals) -> Vec<u8> {
        std::iter::from_fn(|| arrivals.next()).map(|(_, parcel)| parcel.head[0]).collect()
    }

    #[test]
    fn small_parcels_pass_through() {
        let mut arrivals = Arrivals::new(2, plainly);
        arrivals.add(SOURCE, small(1));
        assert!(arrivals.is_ready());
        assert_eq!(heads(&mut arrivals), [1]);
    }

    #[test]
    fn a_small_parcel_waits_for_the_large_one_before_it() {
        let mut arrivals = Arrivals::new(3, plainly);
        arrivals.announce(SOURCE, announced(1, 10)).expect("10 bytes can be had");
        arrivals.add(SOURCE, small(2));
        arrivals.add(Rank(2), small(3));
        assert_eq!(heads(&mut arrivals), [3]);
        let (place, _) = arrivals.room(SOURCE, 10).expect("the piece was announced");
        arrivals.on_piece(place, filled);
        assert_eq!(heads(&mut arrivals), [1, 2]);
    }

    #[test]
    fn pieces_that_are_done_in_another_order_make_the_same_body() {
        let mut arrivals = Arrivals::new(2, plainly);
        arrivals.announce(SOURCE, announced(1, 7)).expect("7 bytes can be had");
        arrivals.announce(SOURCE, announced(2, 5)).expect("5 bytes can be had");
        let places = [4, 3, 5].map(|bytes| arrivals.room(SOURCE, bytes).expect("it was announced").0);
        assert_eq!((places[0], places[2].number), (places[1], 1));
        for place in [places[2], places[1]] {
            arrivals.on_piece(place, filled);
            assert!(!arrivals.is_ready());
        }
        arrivals.on_piece(places[0], filled);
        assert_eq!(heads(&mut arrivals), [1, 2]);
    }

    #[test]
    fn a_large_head_comes_in_pieces_before_its_body() {
        let mut arrivals = Arrivals::new(2, plainly);
        let announced = Announced { head: None, head_bytes: 3, body_bytes: 4 };
        arrivals.announce(SOURCE, announced).expect("7 bytes can be had");
        for bytes in [2, 1, 4] {
            let (place, _) = arrivals.room(SOURCE, bytes).expect("it was announced");
            arrivals.on_piece(place, filled);
        }
        let (_, parcel) = arrivals.next().expect("all pieces have come");
        assert_eq!((parcel.head.len(), parcel.body.len()), (3, 4));
    }

    #[test]
    fn pieces_that_were_not_announced_are_refused() {
        let mut arrivals = Arrivals::new(2, plainly);
        assert_eq!(arrivals.room(SOURCE, 1), Err(Misfit::Unannounced));
        arrivals.announce(SOURCE, announced(0, 4)).expect("4 bytes can be had");
        assert_eq!(arrivals.room(SOURCE, 5), Err(Misfit::Unannounced));
        assert_eq!(arrivals.announce(SOURCE, announced(0, u64::MAX)), Err(Misfit::NoMemory(u64::MAX)));
    }
}
