//! The token: who holds it takes the turns of a worker's loop.
//!
//! Nobody waits for it. Who wants a turn while another thread is at one leaves a note, and whoever lets
//! go of the token looks for a note afterwards: either the note was there and its turn is taken, or the
//! token was free when the note's writer asked for it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::transport::endpoint::{Endpoint, Rest, Waker};
use crate::worker::pool::{Look, Pool, Turns};

use super::hands::Hands;
use super::trust::Trust;
use super::{End, TURN_AT_LEAST_EVERY, WorkerError};

/// The pauses of the keeper while slots are at work or look for news themselves.
const PAUSE_MIN: Duration = Duration::from_micros(50);
const PAUSE_MAX: Duration = Duration::from_millis(1);

/// A worker's loop, for one thread at a time.
pub(super) struct Token<E> {
    hands: Mutex<State<E>>,
    /// The note: something is to be handed in.
    is_due: AtomicBool,
    is_over: AtomicBool,
    /// False if the endpoint may only be used by the keeper.
    is_for_any_thread: bool,
    /// Ends the sleep of who waits for what comes to this rank: the keeper or a slot.
    porter: Waker,
    /// True while somebody sleeps there.
    has_porter: AtomicBool,
    /// Ends the keeper's sleep while slots look after that, when a heavy task ends or when they stop looking.
    bell: Waker,
    /// True while the keeper trusts the slots to hand in what ends there.
    trusts: AtomicBool,
    pool: Arc<Pool>,
}

struct State<E> {
    hands: Hands<E>,
    /// How the loop ended, once it has.
    worked: Option<Result<End, WorkerError>>,
}

/// What a look for news brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Something.
    News,
    /// Nothing.
    Nothing(Rest),
    /// Nothing, but large parcels are under way, which advance only while somebody looks.
    Moving(Rest),
}

impl<E: Endpoint> Token<E> {
    /// A token that nobody holds.
    pub fn new(hands: Hands<E>) -> Self {
        let (pool, porter) = (hands.pool(), hands.waker());
        let rouse = porter.clone();
        pool.on_rouse(Box::new(move || rouse.wake()));
        Token {
            is_due: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_for_any_thread: hands.is_for_any_thread(),
            porter,
            has_porter: AtomicBool::new(false),
            bell: hands.bell(),
            trusts: AtomicBool::new(false),
            pool,
            hands: Mutex::new(State { hands, worked: None }),
        }
    }

    /// Takes the turns that nobody else takes, until the loop is over.
    pub fn keep(&self) -> Result<End, WorkerError> {
        let mut pause = PAUSE_MIN;
        let mut is_called = false;
        let mut trust = Trust::new();
        while !self.is_over() {
            if trust.is_shown() && !self.trusts.load(Ordering::SeqCst) {
                trust.on_short_task();
            }
            if !is_called && self.pool.is_looked_after(clock::now()) {
                is_called = self.bell.wait(PAUSE_MAX);
                continue;
            }
            // What was entered or left untold before is seen now; who does so afterwards sees the trust.
            let is_trusting = trust.show();
            self.trusts.store(is_trusting, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            let looked = self.look_as(State::look_as_keeper);
            // What has begun to move goes on at once, whoever is at work.
            is_called = matches!(looked, Some(Looked::News | Looked::Moving(Rest::Again | Rest::Yield)));
            if matches!(looked, Some(Looked::News)) {
                if !is_trusting {
                    pause = PAUSE_MIN;
                }
                continue;
            }
            let is_busy = self.pool.working() > 0 || self.pool.is_attended();
            match looked {
                Some(Looked::Nothing(Rest::Again)) if !is_busy => std::hint::spin_loop(),
                Some(Looked::Nothing(Rest::Yield)) if !is_busy => thread::yield_now(),
                Some(Looked::Moving(Rest::Again)) => std::hint::spin_loop(),
                Some(Looked::Moving(Rest::Yield)) => thread::yield_now(),
                Some(Looked::Nothing(Rest::Sleep(rest)) | Looked::Moving(Rest::Sleep(rest))) if !is_busy => {
                    self.keep_as_porter(|porter| porter.wait(rest.min(TURN_AT_LEAST_EVERY)));
                }
                Some(Looked::Nothing(Rest::Doze(rest)) | Looked::Moving(Rest::Doze(rest))) if !is_busy => {
                    self.keep_as_porter(|porter| porter.doze(rest));
                }
                Some(Looked::Nothing(Rest::Sleep(rest)))
                    if is_trusting && rest > PAUSE_MAX && !self.pool.has_ends() =>
                {
                    self.keep_as_porter(|porter| porter.wait(rest.min(TURN_AT_LEAST_EVERY)));
                    if self.trusts.load(Ordering::SeqCst) {
                        trust.on_kept();
                    }
                }
                _ => {
                    is_called = self.bell.wait(pause);
                    if pause == PAUSE_MAX && !is_called {
                        trust.on_pause();
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        self.lock().worked.take().expect("a loop that is over has ended somehow")
    }

    /// From now on the thread that serves programs takes the turn when one has ended.
    pub fn let_commands_take(&self, turns: &Arc<dyn Turns>) {
        self.lock().hands.summons().let_take(turns);
    }

    /// The endpoint, once the loop is over.
    pub fn take_endpoint(&self) -> E {
        self.lock().hands.take_endpoint()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, State<E>> {
        self.hands.lock().expect("a panic in a turn ends the process")
    }

    /// The token if nobody holds it and the loop goes on.
    fn try_take(&self) -> Option<MutexGuard<'_, State<E>>> {
        match self.hands.try_lock() {
            Ok(state) => Some(state).filter(|state| state.worked.is_none()),
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(_)) => panic!("a panic in a turn ends the process"),
        }
    }

    /// Looks for news, if nobody holds the token, and then for notes.
    fn look_as(&self, look: impl Fn(&mut State<E>) -> Result<Looked, WorkerError>) -> Option<Looked> {
        let mut state = self.try_take()?;
        let looked = look(&mut state);
        let looked = self.settle(state, looked);
        self.take_due_turns();
        looked
    }

    fn take_due_turns(&self) {
        loop {
            // The holder lets go, then looks for a note; the writer leaves one, then asks for the token.
            fence(Ordering::SeqCst);
            if !self.is_due.load(Ordering::SeqCst) {
                return;
            }
            let Some(mut state) = self.try_take() else { return };
            self.is_due.store(false, Ordering::SeqCst);
            let turned = state.hands.on_due(self.trusts.load(Ordering::SeqCst));
            self.settle(state, turned);
        }
    }

    /// Lets go of the token, and ends the loop if it is at its end.
    fn settle<T>(&self, mut state: MutexGuard<'_, State<E>>, done: Result<T, WorkerError>) -> Option<T> {
        let done = match (done, state.hands.end()) {
            (Err(error), _) => {
                state.worked = Some(Err(error));
                None
            }
            (Ok(_), Some(end)) => {
                state.worked = Some(Ok(end));
                None
            }
            (Ok(done), None) => Some(done),
        };
        if done.is_none() {
            self.is_over.store(true, Ordering::Release);
        }
        let is_wanted = done.is_none() || state.hands.wants_keeper();
        drop(state);
        if is_wanted {
            self.call_keeper();
        }
        done
    }

    /// True if all cores are taken, as far as can be seen without waiting.
    fn is_full(&self) -> bool {
        let is_full = self.try_take().is_none_or(|state| state.hands.is_full());
        // Somebody may have left a note while this held the token.
        self.take_due_turns();
        is_full
    }

    /// Sleeps until something comes to this rank, or its time is over: whether it was woken. None, at once, if
    /// another thread sleeps there.
    fn wait_as_porter(&self, wait: impl FnOnce(&Waker) -> bool) -> Option<bool> {
        if self.has_porter.swap(true, Ordering::Acquire) {
            return None;
        }
        let was_woken = wait(&self.porter);
        self.has_porter.store(false, Ordering::Release);
        Some(was_woken)
    }

    fn keep_as_porter(&self, wait: impl FnOnce(&Waker) -> bool) {
        let was_woken = self.wait_as_porter(wait) == Some(true);
        if was_woken && self.pool.is_attended() {
            // It may have been for a slot that was about to sleep here.
            self.porter.wake();
        }
    }

    fn call_keeper(&self) {
        self.porter.wake();
        self.bell.wake();
    }
}

impl<E: Endpoint> State<E> {
    fn look_as_keeper(&mut self) -> Result<Looked, WorkerError> {
        if self.hands.wants_keeper() {
            self.hands.leave()?;
        }
        self.hands.look()
    }
}

impl<E: Endpoint> Turns for Token<E> {
    fn due(&self) {
        self.is_due.store(true, Ordering::SeqCst);
        match self.is_for_any_thread {
            true => self.take_due_turns(),
            false => self.call_keeper(),
        }
    }

    fn entered(&self) {
        fence(Ordering::SeqCst);
        if self.trusts.load(Ordering::Relaxed) && self.trusts.swap(false, Ordering::SeqCst) {
            self.call_keeper();
        }
    }

    fn ended(&self) -> bool {
        if !self.is_for_any_thread {
            self.call_keeper();
            return false;
        }
        let owes = Cell::new(false);
        let looked = self.look_as(|state| {
            let looked = state.hands.look();
            owes.set(state.hands.owes());
            looked
        });
        match looked {
            // What moves, and what slots do now, is looked after by nobody but a keeper that is awake.
            None | Some(Looked::Moving(_)) => self.call_keeper(),
            _ if self.pool.working() > 0 => self.call_keeper(),
            // What comes next may start at once.
            _ if !self.is_full() => self.porter.stir(),
            _ => {}
        }
        owes.get()
    }

    fn look(&self) -> Look {
        if !self.is_for_any_thread || self.is_over() {
            return Look::Quiet;
        }
        let looked = self.look_as(|state| state.hands.look());
        if looked.is_some() {
            self.pool.on_look(clock::now());
        }
        match looked {
            Some(Looked::News) => Look::News,
            Some(Looked::Nothing(Rest::Again) | Looked::Moving(Rest::Again)) => Look::Again,
            Some(Looked::Nothing(Rest::Sleep(rest)) | Looked::Moving(Rest::Sleep(rest))) => Look::Rest(rest),
            Some(Looked::Nothing(Rest::Doze(_)) | Looked::Moving(Rest::Doze(_))) => Look::Quiet,
            // Somebody else is at it, for a moment.
            Some(Looked::Nothing(Rest::Yield) | Looked::Moving(Rest::Yield)) | None => Look::Yield,
        }
    }

    fn rest(&self, limit: Duration) -> bool {
        let has_rested = self.wait_as_porter(|porter| porter.wait(limit)).is_some();
        if !has_rested {
            self.porter.wake();
        }
        has_rested
    }

    fn leave(&self) {
        if self.is_for_any_thread && !self.is_over() {
            self.call_keeper();
        }
    }
}
