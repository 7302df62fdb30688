//! Large bodies on their way out: which piece leaves next, so that no destination holds up another.
//!
//! No MPI in this file.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::endpoint::Body;
use crate::core::id::Rank;

/// Bodies of which pieces are still to be sent.
#[derive(Debug, Default)]
pub(super) struct Departures {
    /// By destination, and only while something is to be sent there or under way.
    queues: BTreeMap<Rank, Queue>,
    /// Destinations that have a piece to send and room in their window.
    able: VecDeque<Rank>,
}

#[derive(Debug, Default)]
struct Queue {
    bodies: VecDeque<Leaving>,
    under_way: usize,
    is_able: bool,
}

#[derive(Debug)]
struct Leaving {
    body: Body,
    sent: usize,
}

/// A part of a body that is to be sent now.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) to: Rank,
    pub(super) body: Body,
    pub(super) range: Range<usize>,
}

/// Pieces on their way to one destination at a time. Two keep the link busy; the third covers the
/// time until this rank looks again.
const WINDOW: usize = 3;

impl Departures {
    /// Puts a body behind those that go to the same rank. It must not be empty.
    pub(super) fn add(&mut self, to: Rank, body: Body) {
        let queue = self.queues.entry(to).or_default();
        queue.bodies.push_back(Leaving { body, sent: 0 });
        self.consider(to);
    }

    /// True if nothing is left to send or under way.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The next piece of at most `piece_bytes`, by turns among the destinations. It counts as
    /// under way until `on_sent`.
    pub(super) fn next(&mut self, piece_bytes: usize) -> Option<Piece> {
        let to = self.able.pop_front()?;
        let queue = self.queues.get_mut(&to)?;
        queue.is_able = false;
        let leaving = queue.bodies.front_mut()?;
        let end = leaving.body.len().min(leaving.sent + piece_bytes);
        let piece = Piece { to, body: leaving.body.clone(), range: leaving.sent..end };
        leaving.sent = end;
        if end == leaving.body.len() {
            queue.bodies.pop_front();
        }
        queue.under_way += 1;
        self.consider(to);
        Some(piece)
    }

    /// A piece to this rank has been sent off.
    pub(super) fn on_sent(&mut self, to: Rank) {
        if let Some(queue) = self.queues.get_mut(&to) {
            queue.under_way -= 1;
        }
        self.consider(to);
    }

    /// Nothing goes to this rank any more.
    pub(super) fn give_up(&mut self, to: Rank) {
        self.queues.remove(&to);
        self.able.retain(|other| *other != to);
    }

    fn consider(&mut self, to: Rank) {
        let Some(queue) = self.queues.get_mut(&to) else { return };
        if queue.bodies.is_empty() && queue.under_way == 0 {
            self.queues.remove(&to);
        } else if !queue.is_able && queue.under_way < WINDOW && !queue.bodies.is_empty() {
            queue.is_able = true;
            self.able.push_back(to);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: usize) -> Body {
        vec![0; bytes].into()
    }

    fn next(departures: &mut Departures) -> Option<(u32, Range<usize>)> {
        departures.next(10).map(|piece| (piece.to.0, piece.range))
    }

    #[test]
    fn a_body_leaves_in_pieces_within_its_window() {
        let mut departures = Departures::default();
        departures.add(Rank(1), body(35));
        let first: Vec<_> = std::iter::from_fn(|| next(&mut departures)).collect();
        assert_eq!(first, [(1, 0..10), (1, 10..20), (1, 20..30)]);
        departures.on_sent(Rank(1));
        assert_eq!(next(&mut departures), Some((1, 30..35)));
        assert_eq!(next(&mut departures), None);
    }

    #[test]
    fn nothing_goes_to_a_rank_that_was_given_up() {
        let mut departures = Departures::default();
        departures.add(Rank(1), body(35));
        departures.add(Rank(2), body(5));
        assert_eq!(next(&mut departures), Some((1, 0..10)));
        departures.give_up(Rank(1));
        departures.on_sent(Rank(1));
        assert_eq!((next(&mut departures), next(&mut departures)), (Some((2, 0..5)), None));
        departures.on_sent(Rank(2));
        assert!(departures.is_empty());
    }

    #[test]
    fn destinations_take_turns() {
        let mut departures = Departures::default();
        departures.add(Rank(1), body(20));
        departures.add(Rank(2), body(20));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut departures)).map(|(to, _)| to).collect();
        assert_eq!(order, [1, 2, 1, 2]);
    }

    #[test]
    fn bodies_to_one_rank_leave_one_after_the_other() {
        let mut departures = Departures::default();
        departures.add(Rank(1), body(11));
        departures.add(Rank(1), body(5));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut departures)).collect();
        assert_eq!(order, [(1, 0..10), (1, 10..11), (1, 0..5)]);
    }

    #[test]
    fn nothing_is_left_once_all_is_sent() {
        let mut departures = Departures::default();
        departures.add(Rank(1), body(15));
        while next(&mut departures).is_some() {}
        departures.on_sent(Rank(1));
        assert!(!departures.is_empty());
        departures.on_sent(Rank(1));
        assert!(departures.is_empty());
    }
}
