//! How the threads that run heavy tasks see to it that what ended there is handed in.

use std::sync::{Arc, OnceLock, Weak};

use crate::transport::endpoint::Waker;
use crate::worker::pool::Turns;

/// Ends the sleep of the keeper, or takes its turn.
#[derive(Clone)]
pub(super) struct Summons {
    /// Ends its sleep when something comes to this rank.
    waker: Waker,
    /// Ends its sleep while slots look after that.
    bell: Waker,
    /// Whom to ask for a turn, once there is a token.
    turns: Arc<OnceLock<Weak<dyn Turns>>>,
}

impl Summons {
    /// For a keeper that sleeps in one of these ways.
    pub fn new(waker: Waker, bell: Waker) -> Self {
        Summons { waker, bell, turns: Arc::default() }
    }

    /// From now on `take_turn` takes turns.
    pub fn let_take(&self, turns: &Arc<dyn Turns>) {
        let told = self.turns.set(Arc::downgrade(turns));
        told.unwrap_or_else(|_| panic!("a loop has one token"));
    }

    /// Wakes the keeper.
    pub fn wake(&self) {
        self.waker.wake();
        self.bell.wake();
    }

    /// Takes a turn if nobody is at one, and otherwise wakes the keeper. It spares two wake-ups: the keeper
    /// would only tell the caller's thread what to start next. True if it is to be called again after that.
    pub fn take_turn(&self) -> bool {
        match self.turns.get().and_then(Weak::upgrade) {
            Some(turns) => turns.ended(),
            None => {
                self.wake();
                false
            }
        }
    }
}
