//! Ranks that are threads of one process. Parcels change hands by pointer; nothing is copied.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::endpoint::{Endpoint, Parcel, TransportError, Waker};
use crate::core::id::Rank;

/// One thread's endpoint.
#[derive(Debug)]
pub struct InProcess {
    rank: Rank,
    mailboxes: Arc<[Mailbox]>,
    /// None once closed: then sends to this rank find it gone.
    arrivals: Option<Receiver<(Rank, Parcel)>>,
}

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
            mailbox.owner.wake();
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Option<(Rank, Parcel)>, TransportError> {
        Ok(self.arrivals.as_ref().and_then(|arrivals| arrivals.try_recv().ok()))
    }

    fn wait(&mut self, limit: Duration) {
        // Who sends puts the parcel down before waking: a parcel missed here ends the wait.
        if self.arrivals.as_ref().is_none_or(Receiver::is_empty) {
            self.mailboxes[self.rank.index()].owner.wait(limit);
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
        let body = Arc::new(vec![7; 1 << 20]);
        ranks[0].send(Rank(1), Parcel { head: vec![], body: body.clone() }).expect("rank 1 is there");
        let (_, parcel) = ranks[1].receive().expect("nothing fails").expect("it has arrived");
        assert!(Arc::ptr_eq(&parcel.body, &body));
    }
}
