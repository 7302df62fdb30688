//! Ranks that are threads of one process. Parcels change hands by pointer; nothing is copied.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::backoff::{Backoff, Pace};
use super::endpoint::{Endpoint, Parcel, Rest, TransportError, Waker};
use crate::clock;
use crate::core::id::Rank;
use crate::core::time::Micros;

/// One thread's endpoint.
#[derive(Debug)]
pub struct InProcess {
    rank: Rank,
    mailboxes: Arc<[Mailbox]>,
    /// None once closed: then sends to this rank find it gone.
    arrivals: Option<Receiver<(Rank, Parcel)>>,
    backoff: Backoff,
}

/// How long to expect an answer before sleeping. Every parcel ends the sleep, which may be long then.
const PACE: Pace = Pace {
    spin: Micros(50),
    spin_in_transfer: Micros::ZERO,
    turns_per_yield: 1,
    pause_min: Duration::from_secs(1),
    pause_max: Duration::from_secs(1),
    pause_max_idle: Duration::from_secs(1),
};

/// Where the others leave parcels for one rank.
#[derive(Debug)]
struct Mailbox {
    parcels: Sender<(Rank, Parcel)>,
    owner: Waker,
}

/// The endpoints of `size` ranks, in their order.
pub fn world(size: u32) -> Vec<InProcess> {
    let (mailboxes, arrivals): (Vec<_>, Vec<_>) = (0..size)
        .map(|_| {
            let (parcels, arrivals) = unbounded();
            (Mailbox { parcels, owner: Waker::default() }, arrivals)
        })
        .unzip();
    let mailboxes: Arc<[Mailbox]> = mailboxes.into();
    let endpoint = |(rank, arrivals)| InProcess {
        rank: Rank::from(rank),
        mailboxes: mailboxes.clone(),
        arrivals: Some(arrivals),
        backoff: Backoff::new(PACE, clock::now()),
    };
    arrivals.into_iter().enumerate().map(endpoint).collect()
}

impl Endpoint for InProcess {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> u32 {
        Rank::from(self.mailboxes.len()).0
    }

    fn send(&mut self, to: Rank, parcel: Parcel) -> Result<(), TransportError> {
        let mailbox = self.mailboxes.get(to.index()).ok_or(TransportError::Gone(to))?;
        mailbox.parcels.send((self.rank, parcel)).map_err(|_| TransportError::Gone(to))?;
        if to != self.rank {
            mailbox.owner.ring();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<(Rank, Parcel)>, TransportError> {
        let received = self.arrivals.as_ref().and_then(|arrivals| arrivals.try_recv().ok());
        if received.is_some() {
            self.backoff.on_traffic(clock::now());
        }
        Ok(received)
    }

    fn wait(&mut self, limit: Duration) {
        // Who sends puts the parcel down before waking: a parcel missed here ends the wait.
        if self.arrivals.as_ref().is_none_or(Receiver::is_empty) {
            self.mailboxes[self.rank.index()].owner.wait(limit);
        }
    }

    fn is_for_any_thread(&self) -> bool {
        true
    }

    fn is_in_transfer(&self) -> bool {
        false
    }

    fn rest(&mut self, is_at_ease: bool) -> Rest {
        let rest = match is_at_ease {
            true => self.backoff.rest_at_ease(clock::now(), false),
            false => self.backoff.rest(clock::now(), false),
        };
        match rest {
            Rest::Sleep(_) => Rest::Sleep(PACE.pause_max),
            other => other,
        }
    }

    fn waker(&self) -> Waker {
        self.mailboxes[self.rank.index()].owner.clone()
    }

    /// Parcels that have not been received are dropped, and whoever sends to this rank afterwards
    /// is told that it is gone.
    fn close(&mut self) -> Result<(), TransportError> {
        self.arrivals = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::conformance;
    use crate::transport::endpoint::Body;

    fn conform(size: u32) {
        let ranks = world(size).into_iter().map(|mut endpoint| {
            std::thread::spawn(move || conformance::check_all(&mut endpoint, &conformance::Plan::default()))
        });
        for rank in ranks.collect::<Vec<_>>() {
            rank.join().expect("every rank conforms");
        }
    }

    #[test]
    fn one_rank_alone_conforms() {
        conform(1);
    }

    #[test]
    fn two_ranks_conform() {
        conform(2);
    }

    #[test]
    fn five_ranks_conform() {
        conform(5);
    }

    #[test]
    fn a_closed_rank_is_gone() {
        let mut ranks = world(2);
        ranks[1].close().expect("closing does nothing that can fail");
        assert_eq!(ranks[0].send(Rank(1), Parcel::default()), Err(TransportError::Gone(Rank(1))));
        assert_eq!(ranks[1].receive(), Ok(None));
    }

    #[test]
    fn a_dropped_rank_is_gone() {
        let mut ranks = world(2);
        drop(ranks.pop());
        assert_eq!(ranks[0].send(Rank(1), Parcel::default()), Err(TransportError::Gone(Rank(1))));
    }

    #[test]
    fn there_is_no_rank_beyond_the_last() {
        let mut ranks = world(1);
        assert_eq!(ranks[0].send(Rank(1), Parcel::default()), Err(TransportError::Gone(Rank(1))));
    }

    #[test]
    fn a_body_arrives_without_being_copied() {
        let mut ranks = world(2);
        let body = Body::from(vec![7; 1 << 20]);
        ranks[0].send(Rank(1), Parcel { head: vec![], body: body.clone() }).expect("rank 1 is there");
        let (_, parcel) = ranks[1].receive().expect("nothing fails").expect("it has arrived");
        assert_eq!(parcel.body.as_ptr(), body.as_ptr());
    }
}
