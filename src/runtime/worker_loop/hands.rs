//! Everything that a worker's machine hears and does: the rank's endpoint, its pool, its executors.

mod doze;
mod heavy;
mod recall;
mod saving;
mod stored;
mod untold;

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};

use crate::clock;
use crate::core::event::Totals;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, FromWorker, PeerMessage, PeerWord, Report};
use crate::core::span::Span;
use crate::core::time::{Micros, Timestamp};
use crate::core::worker::memory::Room;
use crate::core::worker::{Action, Input, Worker};
use crate::record::layout::RunDirectory;
use crate::record::pack::PackWriter;
use crate::record::segment::Fence;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Body as Bytes, Endpoint, Parcel, Rest, TransportError, Waker};
use crate::worker::binding::Slots;
use crate::worker::command::CommandExecutor;
use crate::worker::executor::Ended;
use crate::worker::function::{FunctionExecutor, Stops};
use crate::worker::last_words::{self, Place};
use crate::worker::output::Output;
use crate::worker::pool::{self, Ends, Pool};
use crate::worker::python::PythonCaller;
use crate::worker::store::{Store, Terms};

use super::super::envelope::Envelope;
use super::super::fault::Fault;
use super::super::sink::{Forwarded, PackSink, SharedPack};
use super::super::syncing::Syncing;
use super::summons::Summons;
use super::token::Looked;
use super::{End, Setup, TURN_AT_LEAST_EVERY, WorkerError};
use recall::Recalls;
pub(super) use recall::tell_no_room;
use saving::{Saving, UNSYNCED};
use stored::Stored;
use untold::Untold;

/// A light task that runs for longer than this is told of.
const LONG: Micros = Micros::from_millis(100);
/// Slots hand their ends in themselves when they are due, but not while they are at a task.
const ENDS_WAIT_MAX: Micros = Micros::from_millis(1);
/// How often to look for tasks that run for long.
const LOOK_FOR_LONG_EVERY: Micros = Micros::from_millis(20);

/// Everything that the machine's actions need.
pub(super) struct Hands<E> {
    /// Taken away when the loop is over.
    endpoint: Option<E>,
    /// Ends the keeper's sleep while slots look for what comes from other ranks.
    bell: Waker,
    graph: Arc<Graph>,
    incarnation: Incarnation,
    host: String,
    directory: RunDirectory,
    machine: Worker,
    store: Arc<Store>,
    recalls: Recalls,
    pool: Arc<Pool>,
    /// Calls Python functions.
    python: Arc<PythonCaller>,
    pack: SharedPack,
    syncing: Syncing,
    saving: Saving,
    stored: Stored,
    summons: Summons,
    /// Taken apart when the worker leaves.
    executors: Option<Executors>,
    ended: Receiver<Ended>,
    forwarded: Receiver<Forwarded>,
    /// What running tasks are bound to.
    slots: Slots,
    /// The attempts at heavy tasks that run.
    heavy: HashMap<TaskId, Terms>,
    /// What the pool was told last about its slots, if it does not keep to it yet.
    yielding: Option<u32>,
    totals: Totals,
    fault: Fault,
    /// Tells whether the run has been taken over.
    fence: Arc<Fence>,
    actions: Vec<Action>,
    /// True after a `Watch`, until the ends were looked at once more.
    is_watching: bool,
    last_turn: Timestamp,
    /// True if the keeper dozed since something came.
    has_dozed: bool,
    untold: Untold,
    /// True if the scheduler is to be told by whoever looks next.
    owes: bool,
    /// Cores that were free after the last turn.
    told_free: u32,
    /// Light tasks that the pool has.
    light_count: u32,
    looked_for_long: Timestamp,
    is_leaving: bool,
    end: Option<End>,
}

struct Executors {
    functions: FunctionExecutor,
    commands: CommandExecutor,
}

/// What has come, the weightiest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Come {
    Nothing,
    /// Words of other ranks, after which the scheduler may hear of this one later.
    Words,
    /// Ends of heavy tasks that no task waits for.
    IdleEnds,
    /// Ends of other heavy tasks.
    Ends,
}

impl<E: Endpoint> Hands<E> {
    /// On failure the endpoint is given back.
    pub fn new(endpoint: E, setup: Setup) -> Result<Self, (E, WorkerError)> {
        match Hands::without_endpoint(&endpoint, setup) {
            Ok(hands) => Ok(Hands { endpoint: Some(endpoint), ..hands }),
            Err(error) => Err((endpoint, error)),
        }
    }

    fn without_endpoint(endpoint: &E, setup: Setup) -> Result<Self, WorkerError> {
        let Setup { graph, directory, incarnation, host, capacity, share, functions, spawner, is_echoed } =
            setup;
        let rank = endpoint.rank();
        let (ended_sender, ended) = unbounded();
        let (forward_sender, forwarded) = unbounded();
        let stored =
            Stored::new((directory.clone(), graph.clone()), forward_sender.clone(), endpoint.waker());
        let (bell, waker) = (Waker::default(), endpoint.waker());
        let summons = Summons::new(waker, bell.clone());
        let (wake, take_turn, on_synced) = (summons.clone(), summons.clone(), summons.clone());
        let (wake, take_turn) = (move || wake.wake(), Box::new(move || take_turn.take_turn()));
        let fence = Fence::of(directory.journal());
        let fence = Arc::new(fence.map_err(|error| WorkerError::Io("look at the run's journal", error))?);
        let pack = PackWriter::of_run(&directory, rank);
        let pack = pack.map_err(|error| WorkerError::Io("create its pack", error))?;
        let place = Some(Place::beside(pack.path(), rank));
        last_words::listen();
        let syncing = Syncing::start(pack, Arc::new(move || on_synced.wake()));
        let (pack, syncing) = syncing.map_err(|error| WorkerError::Io("create its pack", error))?;
        let sink = || {
            let (pack, forwarded, waker) = (pack.clone(), forward_sender.clone(), endpoint.waker());
            Box::new(PackSink { pack, forwarded, waker })
        };
        let on_room: Arc<dyn Fn() + Send + Sync> = Arc::new(wake.clone());
        let commands = CommandExecutor::new(spawner, sink(), ended_sender.clone(), take_turn);
        let commands = commands.map_err(|error| WorkerError::Io("serve commands", error))?;
        let stops: Arc<Stops> = Arc::default();
        let python =
            Arc::new(PythonCaller::new(functions.keep().clone(), graph.clone(), (sink(), is_echoed)));
        let heavy_calls = FunctionExecutor::new(
            (functions.clone(), Some(python.clone())),
            stops.clone(),
            place,
            (ended_sender, Arc::new(wake)),
        );
        let heavy_calls = heavy_calls.map_err(|error| WorkerError::Io("start its threads", error))?;
        let store = recall::store(graph.len(), &share);
        store.memory().into_iter().for_each(|memory| memory.on_room(on_room.clone()));
        let pool = Pool::new(pool::Setup {
            graph: graph.clone(),
            slots: capacity.cpus,
            functions,
            python: Some(python.clone()),
            stops,
            store: store.clone(),
            recorder: Arc::new(pack.clone()),
            place,
        });
        Ok(Hands {
            slots: Slots::new(share, &capacity),
            fence,
            machine: Worker::new(graph.clone(), rank, incarnation, host.clone(), capacity),
            fault: Fault::of(rank),
            endpoint: None,
            bell,
            graph,
            incarnation,
            host,
            directory,
            store,
            recalls: Recalls::default(),
            pool: Arc::new(pool),
            python,
            pack,
            syncing,
            saving: Saving::default(),
            stored,
            summons,
            executors: Some(Executors { functions: heavy_calls, commands }),
            ended,
            forwarded,
            heavy: HashMap::new(),
            yielding: None,
            totals: Totals::default(),
            actions: Vec::new(),
            is_watching: false,
            last_turn: Timestamp::default(),
            has_dozed: false,
            untold: Untold::default(),
            owes: false,
            told_free: 0,
            light_count: 0,
            looked_for_long: clock::now(),
            is_leaving: false,
            end: None,
        })
    }

    pub fn is_for_any_thread(&self) -> bool {
        self.endpoint.as_ref().is_some_and(Endpoint::is_for_any_thread)
    }

    pub fn waker(&self) -> Waker {
        self.endpoint.as_ref().expect(IN_USE).waker()
    }

    pub fn bell(&self) -> Waker {
        self.bell.clone()
    }

    pub fn pool(&self) -> Arc<Pool> {
        self.pool.clone()
    }

    /// True if somebody should look once more, after what is more urgent.
    pub fn owes(&self) -> bool {
        self.owes
    }

    pub fn summons(&self) -> &Summons {
        &self.summons
    }

    /// Ends the executors first: their threads may be about to ask for the token.
    pub fn take_endpoint(&mut self) -> E {
        drop(self.executors.take());
        self.endpoint.take().expect(IN_USE)
    }

    /// How the run ended for this worker, once the scheduler has said so.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// True if the worker shall leave: that waits for the slots, so no slot does it.
    pub fn wants_keeper(&self) -> bool {
        self.is_leaving && self.saving.is_empty()
    }

    /// Takes in what has come, and takes a turn if there is reason to.
    pub fn look(&mut self) -> Result<Looked, WorkerError> {
        let come = self.take_in()?;
        self.act()?;
        let now = clock::now();
        self.check_room(now)?;
        let is_pressing = match come {
            Come::Nothing => self.owes,
            Come::Words => self.machine.is_turn_pressing(),
            // What came with them, and more free cores than were told of, are told at once; the ends
            // themselves only after what may start now has been started.
            Come::IdleEnds => {
                self.refill()?;
                let is_much = self.is_much_untold();
                let owes = std::mem::replace(&mut self.owes, is_much);
                owes || self.machine.free_cores() > self.told_free || self.machine.has_pressing_reports()
            }
            Come::Ends => true,
        };
        if is_pressing || self.recalls.is_other_room(self.store.room()) || self.is_turn_due(now) {
            self.turn()?;
        }
        if come != Come::Nothing {
            self.has_dozed = false;
            return Ok(Looked::News);
        }
        // Programs and Python functions run for longer than it takes to wake up, and take the core meanwhile.
        let is_at_ease = self.python.is_used() || (self.light_count == 0 && !self.heavy.is_empty());
        let endpoint = self.endpoint.as_mut().expect(IN_USE);
        let (rest, is_moving) = (endpoint.rest(is_at_ease), endpoint.is_in_transfer());
        if matches!(rest, Rest::Sleep(_)) && self.untold.is_awaited() {
            // Whoever looks may sleep for long now.
            self.turn()?;
        }
        self.syncing.set_idle(self.is_idle() && matches!(rest, Rest::Sleep(_)));
        let rest = self.doze_once(rest);
        let rest = self.untold.shorten(rest, now);
        Ok(if is_moving { Looked::Moving(rest) } else { Looked::Nothing(rest) })
    }

    fn is_turn_due(&self, now: Timestamp) -> bool {
        let silence = now.since(self.last_turn);
        silence >= TURN_AT_LEAST_EVERY.into()
            || (silence >= ENDS_WAIT_MAX && self.pool.has_due_ends(now))
            || self.untold.is_due(now)
            || self.yielding.is_some_and(|slots| self.pool.working() <= slots)
    }

    fn is_much_untold(&self) -> bool {
        self.untold.is_much(self.light_count, self.machine.heavy_count())
    }

    /// Something was left to be handed in. Who waits for it elsewhere gets it at once; the scheduler hears of
    /// it with what follows, unless that may be nothing, or at once if nobody would tell it later.
    pub fn on_due(&mut self, is_last_to_look: bool) -> Result<(), WorkerError> {
        let is_bad = self.hand_in();
        self.act()?;
        if self.machine.could_start() {
            self.refill()?;
        }
        match is_bad || is_last_to_look || self.is_much_untold() || self.is_turn_due(clock::now()) {
            true => self.turn(),
            false => Ok(()),
        }
    }

    /// Hands everything that came to the machine.
    fn take_in(&mut self) -> Result<Come, WorkerError> {
        let mut come = Come::Nothing;
        // What comes behind the end of the run is for whoever waits for the next one.
        while self.end.is_none()
            && let Some((from, parcel)) = self.receive()?
        {
            self.on_parcel(from, parcel)?;
            // What it brought may start before the next one is looked at.
            self.act()?;
            come = Come::Words;
        }
        self.forward()?;
        while let Ok(ended) = self.ended.try_recv() {
            come = come.max(self.on_ended(ended)?);
        }
        if self.take_in_recalled()? {
            come = Come::Ends;
        }
        if self.take_in_stored()? | self.save_a_slice()? {
            come = come.max(Come::Words);
        }
        if self.take_in_synced()? && self.is_idle() {
            // Nothing else would come that it could be told with, and the run may wait for it.
            come = Come::Ends;
        }
        Ok(come)
    }

    /// Without another worker this one goes on: rank 0 hears of that as well, and says what follows.
    fn receive(&mut self) -> Result<Option<(Rank, Parcel)>, WorkerError> {
        loop {
            match self.endpoint.as_mut().expect(IN_USE).receive() {
                Err(TransportError::Gone(rank)) if rank != Rank::SCHEDULER => {
                    log::warn!("rank {rank} is gone");
                }
                received => return Ok(received?),
            }
        }
    }

    /// True if there is no task here.
    fn is_idle(&self) -> bool {
        self.light_count == 0 && self.machine.heavy_count() == 0 && self.saving.is_empty()
    }

    fn forward(&mut self) -> Result<(), WorkerError> {
        while let Ok((stream, bytes)) = self.forwarded.try_recv() {
            self.send(&Envelope::Forward(stream), Arc::new(bytes).into(), Rank::SCHEDULER)?;
        }
        Ok(())
    }

    fn send(&mut self, envelope: &Envelope, body: Bytes, to: Rank) -> Result<(), WorkerError> {
        let endpoint = self.endpoint.as_mut().expect(IN_USE);
        Ok(envelope.send_with(body, to, endpoint)?)
    }

    fn on_parcel(&mut self, from: Rank, parcel: Parcel) -> Result<(), WorkerError> {
        match Envelope::read(&parcel).map_err(|error| WorkerError::Garbled(from, error))? {
            Envelope::ToWorker(_) if self.fault.is_deaf() => {}
            Envelope::ToWorker(message) => self.feed(Input::FromScheduler(message)),
            Envelope::Peer(message) => {
                let bytes = parcel.body.len();
                let output = || Envelope::output_of(&Arc::new(parcel.body.into_vec()));
                self.on_peer(from, message, bytes, output)?;
            }
            Envelope::Plain(message, form) => {
                let bytes = parcel.body.len();
                self.on_peer(from, message, bytes, || Envelope::plain_output_of(form, parcel.body))?;
            }
            Envelope::Block(number) => self.python.learn(number, parcel.body.into_vec()),
            Envelope::Unlearn(blocks) => self.python.unlearn(&blocks),
            Envelope::Rest => self.end = Some(End::Rest),
            Envelope::Goodbye(exit_code) => self.end = Some(End::Goodbye(exit_code)),
            other => log::warn!("rank {from} sent what only the scheduler takes: {other:?}"),
        }
        Ok(())
    }

    fn on_peer(
        &mut self,
        from: Rank,
        message: PeerMessage,
        bytes: usize,
        output: impl FnOnce() -> Result<Output, CodecError>,
    ) -> Result<(), WorkerError> {
        if message.to != self.incarnation {
            // It was said in an earlier run, where the same numbers meant other tasks.
            return Ok(());
        }
        let told = self.actions.len();
        self.feed(Input::FromPeer { peer: from, message });
        let PeerWord::Output(task, attempt) = message.word else { return Ok(()) };
        self.totals.received_bytes += bytes as u64;
        // An output that is dropped at once must set nobody free, and what is to be done with any other
        // is done after this.
        if !self.actions[told..].contains(&Action::Drop(task, attempt)) {
            let output = output().map_err(|error| WorkerError::Garbled(from, error))?;
            self.pool.deliver(task, attempt, Arc::new(output));
        }
        Ok(())
    }

    fn feed(&mut self, input: Input) {
        let now = clock::now();
        self.untold.on_heard(now);
        self.machine.handle(now, input, &mut self.actions);
    }

    /// Hands in what ended, lets the machine decide, and does what it says.
    fn turn(&mut self) -> Result<(), WorkerError> {
        self.hand_in();
        self.tell_room();
        self.tell_moving();
        self.tell_how_fast_saving_is(clock::now());
        loop {
            self.feed(Input::Turn);
            self.untold.forget();
            self.act()?;
            if !self.untold.is_awaited() {
                break;
            }
        }
        self.last_turn = clock::now();
        (self.owes, self.told_free) = (false, self.machine.free_cores());
        Ok(())
    }

    /// Whether there is something to wait for although nothing runs: then the run does not hang.
    fn tell_moving(&mut self) {
        let is_in_transfer = self.endpoint.as_ref().is_some_and(|endpoint| endpoint.is_in_transfer());
        let moves = is_in_transfer || self.stored.is_reading() || self.store.room() > Room::Ample;
        self.machine.handle(clock::now(), Input::Moves(moves), &mut self.actions);
    }

    /// Cores are free: others have them at once, and the scheduler hears of it later.
    fn refill(&mut self) -> Result<(), WorkerError> {
        self.machine.handle(clock::now(), Input::Refill, &mut self.actions);
        self.act()
    }

    /// Does what the machine has said, and what it says to what comes of that.
    fn act(&mut self) -> Result<(), WorkerError> {
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.perform(action)?;
            }
            if std::mem::take(&mut self.is_watching) {
                // What is watched may have ended just before.
                self.hand_in();
            }
        }
        Ok(())
    }

    /// What the pool has to say. What runs for long is told before its end may be. True if anything ended
    /// badly.
    fn hand_in(&mut self) -> bool {
        let now = clock::now();
        if now.since(self.looked_for_long) >= LOOK_FOR_LONG_EVERY {
            self.looked_for_long = now;
            for (task, attempt, started) in self.pool.running_for(LONG, now) {
                self.feed(Input::Runs { task, attempt, started });
            }
        }
        let mut is_bad = false;
        for ends in self.pool.take_ends() {
            is_bad |= !ends.failures.is_empty();
            self.hand_in_ends(ends);
        }
        self.answer_yielded();
        is_bad
    }

    fn hand_in_ends(&mut self, ends: Ends) {
        let count = ends.count() + ends.failures.len() as u32;
        self.untold.on_light_ends(count);
        self.light_count -= count;
        ends.batches.into_iter().for_each(|batch| self.feed(Input::Finished(batch)));
        for (task, attempt, failure) in ends.failures {
            self.feed(Input::Failed { task, attempt, failure });
        }
    }

    /// Says that the pool keeps to its slots, once it does.
    fn answer_yielded(&mut self) {
        if let Some(slots) = self.yielding.filter(|&slots| self.pool.working() <= slots) {
            self.yielding = None;
            self.feed(Input::Yielded(slots));
        }
    }

    fn perform(&mut self, action: Action) -> Result<(), WorkerError> {
        match action {
            Action::ToScheduler(message) => self.report(message)?,
            Action::ToPeer { peer, message } => self.say(peer, message)?,
            Action::Admit(assignment) => self.admit(&assignment),
            Action::Revoke(tasks, attempt) => self.revoke(tasks, attempt),
            Action::Slots(slots) => self.set_slots(slots),
            Action::Watch(task, _) => {
                self.pool.watch(task);
                self.is_watching = true;
            }
            Action::Start(assignment) => self.start(assignment),
            Action::Stop(task, attempt, cause) => self.stop(task, attempt, cause),
            Action::Persist(task, attempt) => self.save(task, attempt),
            Action::Drop(task, attempt) => self.store.remove(task, attempt),
            Action::Leave => self.is_leaving = true,
        }
        Ok(())
    }

    /// Reports only what outlives this process: captured bytes are handed to the system first.
    fn report(&mut self, message: FromWorker) -> Result<(), WorkerError> {
        self.pack.flush().map_err(|error| WorkerError::Io("write its pack", error))?;
        self.send(&Envelope::FromWorker(message), Bytes::default(), Rank::SCHEDULER)
    }

    fn admit(&mut self, assignment: &Assignment) {
        self.fault.strike();
        self.light_count += assignment.tasks.count;
        self.pool.admit(assignment.tasks, terms_of(assignment));
    }

    fn set_slots(&mut self, slots: u32) {
        self.pool.set_slots(slots);
        self.yielding = Some(slots);
        self.answer_yielded();
    }

    fn revoke(&mut self, tasks: Span, attempt: Attempt) {
        let taken_back = self.pool.revoke(tasks);
        self.light_count -= taken_back.revoked.iter().map(|tasks| tasks.count).sum::<u32>();
        taken_back.revoked.into_iter().for_each(|tasks| self.feed(Input::Revoked(tasks, attempt)));
        taken_back.kept.into_iter().for_each(|task| self.feed(Input::Kept(task, attempt)));
    }

    /// Ends everything that runs, and says that the worker has left. Waits for the slots.
    pub fn leave(&mut self) -> Result<(), WorkerError> {
        self.is_leaving = false;
        drop(self.executors.take());
        self.pool.close();
        self.forward()?;
        self.count_spilled();
        let synced = self.syncing.finish().map_err(UNSYNCED)?;
        self.on_synced(synced);
        self.feed(Input::Turn);
        self.act()?;
        let reports = vec![Report::Left(self.totals)];
        self.report(FromWorker { incarnation: self.incarnation, reports })
    }
}

/// Why the endpoint is there.
const IN_USE: &str = "the endpoint is taken away when the loop is over";

fn terms_of(assignment: &Assignment) -> Terms {
    Terms { attempt: assignment.attempt, is_kept: assignment.consumers > 0, is_persisted: assignment.persist }
}
