//! Parcels on their way in: pieces become bodies, and every pair's order is kept.
//!
//! Messages of one rank are matched in the order they were sent, but a large body is complete
//! only after others behind it have come. What overtakes it waits here. This file makes no call of
//! MPI: the memory that MPI writes is a `Landing`, which the fence owns and this file asks for room.

use std::collections::VecDeque;

use super::endpoint::{Body, Parcel};
use super::mpi::fence::{Filled, Landing, Room};
use crate::core::id::Rank;

/// All parcels that are not complete yet, or wait for one that is not.
#[derive(Debug)]
pub(super) struct Arrivals {
    sources: Vec<Source>,
    ready: VecDeque<(Rank, Parcel)>,
}

/// What one rank has sent and this one has not handed on.
#[derive(Debug, Default)]
struct Source {
    queue: VecDeque<Arriving>,
    /// The number of the queue's first parcel. Numbers count on, so they outlive the queue's moves.
    first: u64,
    /// The numbers of the parcels of which pieces are to come, in the order of their pieces.
    landing: VecDeque<u64>,
}

/// A parcel whose pieces are still coming, or that waits for one.
#[derive(Debug)]
struct Arriving {
    head: Part,
    body: Part,
}

/// A head or a body on its way in.
#[derive(Debug)]
enum Part {
    Here(Body),
    InPieces(Landing),
    /// How it comes will be said.
    Awaited,
}

/// One parcel among the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    source: Rank,
    pub(super) number: u64,
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
    /// None yet, from so many ranks.
    pub(super) fn new(size: u32) -> Self {
        let sources = (0..size).map(|_| Source::default()).collect();
        Arrivals { sources, ready: VecDeque::new() }
    }

    /// The next complete parcel, in its pair's order.
    pub(super) fn next(&mut self) -> Option<(Rank, Parcel)> {
        self.ready.pop_front()
    }

    /// True if a parcel can be had.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// True if nothing is awaited: every parcel that was announced is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.sources.iter().all(|source| source.queue.is_empty())
    }

    /// A complete parcel has come.
    pub(super) fn add(&mut self, source: Rank, parcel: Parcel) {
        let queue = &mut self.sources[source.index()].queue;
        if queue.is_empty() {
            return self.ready.push_back((source, parcel));
        }
        queue.push_back(Arriving { head: Part::Here(parcel.head.into()), body: Part::Here(parcel.body) });
    }

    /// A parcel begins: its head, unless that comes in pieces too, and how long its parts are.
    pub(super) fn announce(&mut self, source: Rank, announced: Announced) -> Result<(), Misfit> {
        let head = match announced.head {
            Some(head) => Part::Here(head.into()),
            None => Part::reserve(announced.head_bytes)?,
        };
        let body = Part::reserve(announced.body_bytes)?;
        let (from, arriving) = (&mut self.sources[source.index()], Arriving { head, body });
        if !arriving.is_matched() {
            from.landing.push_back(from.next_number());
        }
        from.queue.push_back(arriving);
        self.hand_on(source);
        Ok(())
    }

    /// A parcel begins whose body is not to be had yet. Those behind it wait.
    pub(super) fn await_body(&mut self, source: Rank, head: Vec<u8>) -> Place {
        let from = &mut self.sources[source.index()];
        let number = from.next_number();
        from.queue.push_back(Arriving { head: Part::Here(head.into()), body: Part::Awaited });
        Place { source, number }
    }

    /// The awaited body of a parcel comes in pieces after those that were announced before.
    pub(super) fn announce_body(&mut self, source: Rank, number: u64, body_bytes: u64) -> Result<(), Misfit> {
        let from = &mut self.sources[source.index()];
        let index = number.checked_sub(from.first).and_then(|index| usize::try_from(index).ok());
        let awaited = index.and_then(|index| from.queue.get_mut(index)).map(|arriving| &mut arriving.body);
        let Some(body @ Part::Awaited) = awaited else { return Err(Misfit::Unannounced) };
        *body = Part::reserve(body_bytes)?;
        from.landing.push_back(number);
        Ok(())
    }

    /// Where the next piece of `source` belongs, and room for its `bytes`.
    pub(super) fn room(&mut self, source: Rank, bytes: usize) -> Result<(Place, Room), Misfit> {
        let from = &mut self.sources[source.index()];
        let number = *from.landing.front().ok_or(Misfit::Unannounced)?;
        let index = usize::try_from(number - from.first).expect("the queue is in memory");
        let arriving = &mut from.queue[index];
        let part = if arriving.head.is_matched() { &mut arriving.body } else { &mut arriving.head };
        let room = part.room(bytes)?;
        if arriving.is_matched() {
            from.landing.pop_front();
        }
        Ok((Place { source, number }, room))
    }

    /// The piece of the parcel at `place` is there.
    pub(super) fn on_piece(&mut self, place: Place, filled: Filled) {
        let from = &mut self.sources[place.source.index()];
        let Some(index) = place.number.checked_sub(from.first) else {
            // Of a rank that was given up meanwhile.
            return;
        };
        let index = usize::try_from(index).expect("the queue is in memory");
        let arriving = &mut from.queue[index];
        let taken = arriving.head.take_back(filled).or_else(|filled| arriving.body.take_back(filled));
        taken.expect("a room is of the parcel at its place");
        self.hand_on(place.source);
    }

    /// Nothing comes from this rank any more. What is not complete never will be; its memory stays, for a receive
    /// may be under way.
    pub(super) fn give_up(&mut self, source: Rank) {
        let from = &mut self.sources[source.index()];
        from.first += from.queue.len() as u64;
        from.queue.clear();
        from.landing.clear();
    }

    /// Moves what is complete at the front of a source's queue to where it can be had.
    fn hand_on(&mut self, source: Rank) {
        let from = &mut self.sources[source.index()];
        while from.queue.front().is_some_and(Arriving::is_complete) {
            let Some(Arriving { head, body, .. }) = from.queue.pop_front() else { break };
            from.first += 1;
            self.ready
                .push_back((source, Parcel { head: head.into_body().into_vec(), body: body.into_body() }));
        }
    }
}

impl Source {
    /// The number that the next parcel of the queue gets.
    fn next_number(&self) -> u64 {
        self.first + self.queue.len() as u64
    }
}

impl Arriving {
    fn is_matched(&self) -> bool {
        self.head.is_matched() && self.body.is_matched()
    }

    fn is_complete(&self) -> bool {
        self.head.is_complete() && self.body.is_complete()
    }
}

impl Part {
    fn reserve(bytes: u64) -> Result<Part, Misfit> {
        let landing = usize::try_from(bytes).ok().and_then(Landing::reserve);
        landing.map(Part::InPieces).ok_or(Misfit::NoMemory(bytes))
    }

    /// True if no message is still to be matched to it.
    fn is_matched(&self) -> bool {
        match self {
            Part::Here(_) => true,
            Part::InPieces(landing) => landing.is_given(),
            Part::Awaited => false,
        }
    }

    fn is_complete(&self) -> bool {
        match self {
            Part::Here(_) => true,
            Part::InPieces(landing) => landing.is_full(),
            Part::Awaited => false,
        }
    }

    fn room(&mut self, bytes: usize) -> Result<Room, Misfit> {
        let room = match self {
            Part::InPieces(landing) if bytes > 0 => landing.room(bytes),
            _ => None,
        };
        room.ok_or(Misfit::Unannounced)
    }

    /// Takes a filled room back if it is of this part.
    fn take_back(&mut self, filled: Filled) -> Result<(), Filled> {
        match self {
            Part::Here(_) | Part::Awaited => Err(filled),
            Part::InPieces(landing) => landing.take_back(filled),
        }
    }

    /// The bytes of a complete part.
    fn into_body(self) -> Body {
        match self {
            Part::Here(body) => body,
            Part::InPieces(landing) => landing.into_bytes().into(),
            Part::Awaited => unreachable!("what is awaited is not complete"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Rank = Rank(1);

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
        let mut arrivals = Arrivals::new(2);
        arrivals.add(SOURCE, small(1));
        assert!(arrivals.is_ready() && arrivals.is_complete());
        assert_eq!(heads(&mut arrivals), [1]);
    }

    #[test]
    fn a_small_parcel_waits_for_the_large_one_before_it() {
        let mut arrivals = Arrivals::new(3);
        arrivals.announce(SOURCE, announced(1, 10)).expect("10 bytes can be had");
        arrivals.add(SOURCE, small(2));
        arrivals.add(Rank(2), small(3));
        assert_eq!(heads(&mut arrivals), [3]);
        let (place, room) = arrivals.room(SOURCE, 10).expect("the piece was announced");
        assert!(!arrivals.is_complete());
        arrivals.on_piece(place, room.fill(9));
        assert!(arrivals.is_complete());
        assert_eq!(heads(&mut arrivals), [1, 2]);
    }

    #[test]
    fn pieces_that_are_done_in_another_order_make_the_same_body() {
        let mut arrivals = Arrivals::new(2);
        arrivals.announce(SOURCE, announced(1, 7)).expect("7 bytes can be had");
        arrivals.announce(SOURCE, announced(2, 5)).expect("5 bytes can be had");
        let rooms = [4, 3, 5].map(|bytes| arrivals.room(SOURCE, bytes).expect("it was announced"));
        let [first, second, other] = rooms;
        assert_eq!((first.0, other.0.number), (second.0, 1));
        for (place, room) in [other, second] {
            arrivals.on_piece(place, room.fill(2));
            assert!(!arrivals.is_ready());
        }
        arrivals.on_piece(first.0, first.1.fill(1));
        let (_, parcel) = arrivals.next().expect("all its pieces have come");
        assert_eq!(*parcel.body, [1, 1, 1, 1, 2, 2, 2]);
        assert_eq!(heads(&mut arrivals), [2]);
    }

    #[test]
    fn a_large_head_comes_in_pieces_before_its_body() {
        let mut arrivals = Arrivals::new(2);
        let announced = Announced { head: None, head_bytes: 3, body_bytes: 4 };
        arrivals.announce(SOURCE, announced).expect("7 bytes can be had");
        for bytes in [2, 1, 4] {
            let (place, room) = arrivals.room(SOURCE, bytes).expect("it was announced");
            arrivals.on_piece(place, room.fill(9));
        }
        let (_, parcel) = arrivals.next().expect("all pieces have come");
        assert_eq!((parcel.head.len(), parcel.body.len()), (3, 4));
    }

    #[test]
    fn a_body_that_is_awaited_keeps_its_place_and_comes_after_the_pieces_of_others() {
        let mut arrivals = Arrivals::new(2);
        let place = arrivals.await_body(SOURCE, vec![1]);
        arrivals.announce(SOURCE, announced(2, 5)).expect("5 bytes can be had");
        arrivals.add(SOURCE, small(3));
        arrivals.announce_body(SOURCE, place.number, 4).expect("it is awaited");
        assert_eq!(arrivals.announce_body(SOURCE, place.number, 4), Err(Misfit::Unannounced));
        let (other, room) = arrivals.room(SOURCE, 5).expect("it was announced");
        arrivals.on_piece(other, room.fill(2));
        assert!(!arrivals.is_ready() && !arrivals.is_complete());
        let (late, room) = arrivals.room(SOURCE, 4).expect("it was announced later");
        assert_eq!(late, place);
        arrivals.on_piece(late, room.fill(1));
        let (_, first) = arrivals.next().expect("it has come");
        assert_eq!((first.head, &*first.body), (vec![1], &[1; 4][..]));
        assert_eq!(heads(&mut arrivals), [2, 3]);
    }

    #[test]
    fn pieces_that_were_not_announced_are_refused() {
        let mut arrivals = Arrivals::new(2);
        assert_eq!(arrivals.announce_body(SOURCE, 0, 1), Err(Misfit::Unannounced));
        assert_eq!(arrivals.room(SOURCE, 1).err(), Some(Misfit::Unannounced));
        arrivals.announce(SOURCE, announced(0, 4)).expect("4 bytes can be had");
        assert_eq!(arrivals.room(SOURCE, 5).err(), Some(Misfit::Unannounced));
        assert_eq!(arrivals.announce(SOURCE, announced(0, u64::MAX)), Err(Misfit::NoMemory(u64::MAX)));
    }
}
