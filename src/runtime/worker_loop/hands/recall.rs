//! Outputs on their way out of the store: to other workers, and to heavy tasks.
//!
//! What is on the disk is read by a thread of its own, while messages move on; a peer's is sent and a task
//! is started once it is there. An output that several workers want is encoded once.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::core::event::Cause;
use crate::core::id::{Attempt, Rank, TaskId};
use crate::core::message::{Assignment, PeerMessage, PeerWord};
use crate::core::time::{Micros, Timestamp};
use crate::core::worker::Input;
use crate::core::worker::memory::Room;
use crate::transport::endpoint::{Body, Endpoint};
use crate::worker::memory::{self, Memory, NoRoom};
use crate::worker::output::Output;
use crate::worker::python::is_lost;
use crate::worker::share::Share;
use crate::worker::spilled::{Coding, Spilled};
use crate::worker::store::{Found, Store};

use super::super::super::envelope::{Envelope, Lent};
use super::super::WorkerError;
use super::{Hands, IN_USE};

/// Encoded outputs that are looked after while they are being sent, before those that were are left out.
const BODIES_MAX: usize = 64;
/// How often to look whether there is room again: what was sent or run is let go without a word.
const SETTLE_EVERY: Micros = Micros::from_millis(10);
/// How long a worker whose tasks all wait for memory hopes that another one's tasks release some.
const HOPE: Micros = Micros::from_secs(60);
/// How long it does if there is no other: its own ends may be on their way.
const HOPE_ALONE: Micros = Micros::from_secs(2);

/// What is being read, and what is being sent.
pub(super) struct Recalls {
    sender: Sender<Recalled>,
    receiver: Receiver<Recalled>,
    /// Heavy tasks that start once their inputs are read, and why they shall end at once if they shall.
    tasks: HashMap<TaskId, Option<Cause>>,
    /// Encoded outputs as long as they are being sent.
    bodies: HashMap<(TaskId, Attempt), Weak<Vec<u8>>>,
    /// The room that the machine was told of last.
    room: Room,
    /// When it was looked for room last.
    settled: Timestamp,
    /// Since when everything waits for memory.
    stuck_since: Option<Timestamp>,
}

/// Something was read.
enum Recalled {
    ForPeer(Rank, PeerMessage, io::Result<Arc<Output>>),
    ForTask(Assignment, io::Result<Vec<Arc<Output>>>),
}

impl Default for Recalls {
    fn default() -> Self {
        let (sender, receiver) = unbounded();
        let (tasks, bodies) = (HashMap::new(), HashMap::new());
        Recalls {
            sender,
            receiver,
            tasks,
            bodies,
            room: Room::Ample,
            settled: Timestamp::default(),
            stuck_since: None,
        }
    }
}

/// A store for so many tasks that keeps to its worker's share.
pub(super) fn store(tasks: usize, share: &Share) -> Arc<Store> {
    let Some(limit_bytes) = share.memory_limit else { return Arc::new(Store::new(tasks)) };
    let coding = Coding {
        encode: Envelope::body_of,
        decode: |body| Envelope::output_of(&Arc::new(body)).map_err(|error| error.to_string()),
    };
    let scratch_limit_bytes = share.scratch_limit.unwrap_or(u64::MAX);
    let scratch = memory::scratch_directory();
    Store::within(tasks, memory::Setup { limit_bytes, scratch_limit_bytes, scratch, coding })
}

impl<E: Endpoint> Hands<E> {
    pub(super) fn say(&mut self, peer: Rank, message: PeerMessage) -> Result<(), WorkerError> {
        let is_answer = matches!(message.word, PeerWord::Output(..) | PeerWord::Unknown(..));
        if peer == Rank::SCHEDULER && !is_answer {
            self.ask_for_stored(message);
            return Ok(());
        }
        let PeerWord::Output(task, attempt) = message.word else {
            return self.send(&Envelope::Peer(message), Body::default(), peer);
        };
        match self.find(task, Some(attempt)) {
            Found::Here(output) => self.send_output(peer, message, (task, attempt), output),
            Found::Away(spilled) => {
                self.recall_for_peer(peer, message, spilled);
                Ok(())
            }
        }
    }

    fn send_output(
        &mut self,
        peer: Rank,
        message: PeerMessage,
        of: (TaskId, Attempt),
        output: Arc<Output>,
    ) -> Result<(), WorkerError> {
        if is_lost(&output) {
            let word = PeerWord::Unknown(of.0, of.1);
            return self.send(&Envelope::Peer(PeerMessage { word, ..message }), Body::default(), peer);
        }
        let (envelope, body) = match Lent::of(&output) {
            Some((form, lent)) => (Envelope::Plain(message, form), Body::lent(lent)),
            None => (Envelope::Peer(message), Body::from(self.recalls.encoded(of, &output))),
        };
        self.totals.sent_bytes += body.len() as u64;
        self.send(&envelope, body, peer)
    }

    /// An output that the machine said is here.
    pub(super) fn find(&self, task: TaskId, attempt: Option<Attempt>) -> Found {
        let found = self.store.find(task, attempt);
        found.unwrap_or_else(|| panic!("the output of task {task} is not in the store"))
    }

    fn recall_for_peer(&mut self, peer: Rank, message: PeerMessage, spilled: Arc<Spilled>) {
        let (done, waker) = (self.recalls.sender.clone(), self.endpoint.as_ref().expect(IN_USE).waker());
        let memory = self.store.memory().expect("what is on the disk left memory");
        let chore = move |store: &Store| {
            let memory = store.memory().expect("what is on the disk left memory");
            let output = store.read_for_other(&spilled, memory);
            // A worker's loop that is gone sends nothing.
            let _ = done.send(Recalled::ForPeer(peer, message, output));
            waker.wake();
        };
        memory.on_reader(&self.store, Box::new(chore));
    }

    /// Starts a heavy task, once its inputs are in memory.
    pub(super) fn start(&mut self, assignment: Assignment) {
        self.fault.strike();
        let inputs: Vec<TaskId> = self.graph.value_inputs(assignment.tasks.first).iter().collect();
        let found: Vec<Found> = inputs.iter().map(|&input| self.find(input, None)).collect();
        let here = found.into_iter().map(|found| match found {
            Found::Here(output) => Some(output),
            Found::Away(_) => None,
        });
        match here.collect() {
            Some(inputs) => self.start_with(assignment, inputs),
            None => self.recall_for_task(assignment, inputs),
        }
    }

    fn recall_for_task(&mut self, assignment: Assignment, inputs: Vec<TaskId>) {
        let (done, waker) = (self.recalls.sender.clone(), self.endpoint.as_ref().expect(IN_USE).waker());
        self.recalls.tasks.insert(assignment.tasks.first, None);
        let memory = self.store.memory().expect("what is on the disk left memory");
        let gone = || io::Error::other("it was released");
        let chore = move |store: &Store| {
            let inputs = inputs.into_iter().map(|input| store.take(input)?.ok_or_else(gone));
            let _ = done.send(Recalled::ForTask(assignment, inputs.collect()));
            waker.wake();
        };
        memory.on_reader(&self.store, Box::new(chore));
    }

    /// Does what waited for what was read meanwhile. True if there was anything.
    pub(super) fn take_in_recalled(&mut self) -> Result<bool, WorkerError> {
        let unread = |error| WorkerError::Io("read an output back from its disk", error);
        let mut is_any = false;
        while let Ok(recalled) = self.recalls.receiver.try_recv() {
            is_any = true;
            match recalled {
                Recalled::ForPeer(peer, message, output) => {
                    let PeerWord::Output(task, attempt) = message.word else { continue };
                    self.send_output(peer, message, (task, attempt), output.map_err(unread)?)?;
                }
                Recalled::ForTask(assignment, inputs) => {
                    self.on_recalled(assignment, inputs.map_err(unread)?)
                }
            }
        }
        Ok(is_any)
    }

    fn on_recalled(&mut self, assignment: Assignment, inputs: Vec<Arc<Output>>) {
        if self.executors.is_none() {
            return;
        }
        let (task, attempt) = (assignment.tasks.first, assignment.attempt);
        let cause = self.recalls.tasks.remove(&task).flatten();
        self.start_with(assignment, inputs);
        if let Some(cause) = cause {
            self.stop(task, attempt, cause);
        }
    }

    /// Tells the machine how much room there is, if that has changed.
    pub(super) fn tell_room(&mut self) {
        let room = self.store.room();
        if self.recalls.is_other_room(room) {
            self.recalls.room = room;
            self.feed(Input::Room(room));
        }
    }

    /// Looks for room now and then while memory is short, and refuses to wait when nothing can release any.
    pub(super) fn check_room(&mut self, now: Timestamp) -> Result<(), WorkerError> {
        if self.store.room() > Room::Ample && now.since(self.recalls.settled) >= SETTLE_EVERY {
            self.recalls.settled = now;
            self.store.settle();
        }
        if self.store.room() < Room::Full {
            self.recalls.stuck_since = None;
            return Ok(());
        }
        let is_moving = self.pool.working() > 0 || !self.heavy.is_empty() || !self.recalls.tasks.is_empty();
        let is_held_back = self.pool.waits_for_room() || self.machine.waits_for_room();
        let no_room = match is_moving || !is_held_back {
            true => None,
            false => self.store.memory().and_then(Memory::no_room),
        };
        let Some(no_room) = no_room else {
            self.recalls.stuck_since = None;
            return Ok(());
        };
        let since = *self.recalls.stuck_since.get_or_insert(now);
        let is_alone = self.endpoint.as_ref().expect(IN_USE).size() == 2;
        match now.since(since) >= if is_alone { HOPE_ALONE } else { HOPE } {
            true => Err(WorkerError::NoRoom(Box::new(no_room))),
            false => Ok(()),
        }
    }

    /// Bytes that went to the disk and came back are told with the others.
    pub(super) fn count_spilled(&mut self) {
        if let Some((spilled, read_back)) = self.store.memory().map(Memory::moved_bytes) {
            (self.totals.spilled_bytes, self.totals.read_back_bytes) = (spilled, read_back);
        }
    }
}

impl Recalls {
    /// True if the machine does not know that there is so much room.
    pub fn is_other_room(&self, room: Room) -> bool {
        self.room != room
    }

    /// Notes that a task shall end that is not started yet. False if it is no such task.
    pub fn stop(&mut self, task: TaskId, cause: &Cause) -> bool {
        self.tasks.get_mut(&task).map(|stopped| *stopped = Some(cause.clone())).is_some()
    }

    /// The encoded output, shared with whatever sends it already.
    fn encoded(&mut self, of: (TaskId, Attempt), output: &Output) -> Arc<Vec<u8>> {
        if let Some(body) = self.bodies.get(&of).and_then(Weak::upgrade) {
            return body;
        }
        let body = Arc::new(Envelope::body_of(output));
        if self.bodies.len() >= BODIES_MAX {
            self.bodies.retain(|_, body| body.strong_count() > 0);
        }
        self.bodies.insert(of, Arc::downgrade(&body));
        body
    }
}

/// What a person reads when memory and disk are full.
pub(in super::super) fn tell_no_room(no_room: &NoRoom) -> String {
    let NoRoom { held_bytes, limit_bytes, directory, written_bytes, refusal } = no_room;
    format!(
        "no task can start any more: outputs that are still needed take {} of memory ({} are allowed) and {} in \
         `{}`, which takes no more ({refusal}); give outputs more memory (`--memory-limit`, more nodes) or more disk \
         (`--scratch-limit`, TMPDIR on a larger disk)",
        mebibytes(*held_bytes),
        mebibytes(*limit_bytes),
        mebibytes(*written_bytes),
        directory.display(),
    )
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
