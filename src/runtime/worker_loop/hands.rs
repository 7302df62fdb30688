//! Everything that a worker's machine hears and does: the rank's endpoint, its pool, its executors.

mod doze;
mod recall;

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, unbounded};

use crate::clock;
use crate::core::batch::Batch;
use crate::core::event::{Cause, Failure, Success, Totals};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, FromWorker, PeerMessage, PeerWord, Report};
use crate::core::span::Span;
use crate::core::task::Body;
use crate::core::time::{Micros, Timestamp};
use crate::core::worker::{Action, Input, Worker};
use crate::record::layout::RunDirectory;
use crate::record::pack::PackWriter;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Body as Bytes, Endpoint, Parcel, Rest, Waker};
use crate::worker::binding::{Binding, Slots};
use crate::worker::command::CommandExecutor;
use crate::worker::executor::{Ended, Executor, Job, RankPlaces};
use crate::worker::function::{FunctionExecutor, Stops};
use crate::worker::output::Output;
use crate::worker::plain;
use crate::worker::pool::{self, Ends, Pool, Recorder};
use crate::worker::store::{Store, Terms};

use super::super::envelope::Envelope;
use super::super::fault::Fault;
use super::super::sink::{Forwarded, PackSink, SharedPack};
use super::summons::Summons;
use super::token::Looked;
use super::{End, Setup, TURN_AT_LEAST_EVERY, WorkerError};
use recall::Recalls;
pub(super) use recall::tell_no_room;

/// A light task that runs for longer than this is told of.
const LONG: Micros = Micros::from_millis(100);
/// Slots hand their ends in themselves when they are due, but not while they are at a task.
const ENDS_WAIT_MAX: Micros = Micros::from_millis(1);
/// What was handed in waits so long for more of it, before the scheduler is told, if nothing follows.
const REPORT_AFTER_SILENCE: Micros = Micros(200);
/// What was handed in waits no longer than this.
const REPORT_AFTER: Micros = Micros::from_millis(1);
/// So many ends do not wait.
const REPORT_AT: u32 = 256;
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
    pack: SharedPack,
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
    actions: Vec<Action>,
    /// True after a `Watch`, until the ends were looked at once more.
    is_watching: bool,
    last_turn: Timestamp,
    /// True if the keeper dozed since something came.
    has_dozed: bool,
    /// When the machine heard something for the first and for the last time since its last turn.
    heard: Option<(Timestamp, Timestamp)>,
    /// Ends that it heard of since then.
    heard_ends: u32,
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
    /// Ends of heavy tasks.
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
        let Setup { graph, directory, incarnation, host, capacity, share, functions, spawner } = setup;
        let rank = endpoint.rank();
        let pack = PackWriter::create(&directory.output(), rank);
        let pack = SharedPack::new(pack.map_err(|error| WorkerError::Io("create its pack", error))?);
        let (ended_sender, ended) = unbounded();
        let (forward_sender, forwarded) = unbounded();
        let sink = PackSink { pack: pack.clone(), forwarded: forward_sender, waker: endpoint.waker() };
        let (bell, waker) = (Waker::default(), endpoint.waker());
        let summons = Summons::new(waker, bell.clone());
        let (wake, take_turn) = (summons.clone(), summons.clone());
        let (wake, take_turn) = (move || wake.wake(), Box::new(move || take_turn.take_turn()));
        let on_room: Arc<dyn Fn() + Send + Sync> = Arc::new(wake.clone());
        let commands = CommandExecutor::new(spawner, Box::new(sink), ended_sender.clone(), take_turn);
        let commands = commands.map_err(|error| WorkerError::Io("serve commands", error))?;
        let stops: Arc<Stops> = Arc::default();
        let heavy_calls =
            FunctionExecutor::new(functions.clone(), stops.clone(), ended_sender, Arc::new(wake));
        let heavy_calls = heavy_calls.map_err(|error| WorkerError::Io("start its threads", error))?;
        let store = recall::store(graph.len(), &share);
        store.memory().into_iter().for_each(|memory| memory.on_room(on_room.clone()));
        let pool = Pool::new(pool::Setup {
            graph: graph.clone(),
            slots: capacity.cpus,
            functions,
            stops,
            store: store.clone(),
            recorder: Arc::new(pack.clone()),
        });
        Ok(Hands {
            slots: Slots::new(share, &capacity),
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
            pack,
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
            heard: None,
            heard_ends: 0,
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
        self.is_leaving
    }

    /// Takes in what has come, and takes a turn if there is reason to.
    pub fn look(&mut self) -> Result<Looked, WorkerError> {
        let come = self.take_in()?;
        self.act()?;
        let now = clock::now();
        self.check_room(now)?;
        let is_pressing = match come {
            Come::Nothing => false,
            Come::Words => self.machine.is_turn_pressing(),
            Come::Ends => true,
        };
        if is_pressing || self.recalls.is_other_room(self.store.room()) || self.is_turn_due(now) {
            self.turn()?;
        }
        if come != Come::Nothing {
            self.has_dozed = false;
            return Ok(Looked::News);
        }
        // Programs run for longer than it takes to wake up.
        let is_at_ease = self.light_count == 0 && !self.heavy.is_empty();
        let endpoint = self.endpoint.as_mut().expect(IN_USE);
        let (rest, is_moving) = (endpoint.rest(is_at_ease), endpoint.is_in_transfer());
        if matches!(rest, Rest::Sleep(_)) && self.heard.is_some() {
            // Whoever looks may sleep for long now.
            self.turn()?;
        }
        let rest = self.doze_once(rest);
        Ok(if is_moving { Looked::Moving(rest) } else { Looked::Nothing(rest) })
    }

    fn is_turn_due(&self, now: Timestamp) -> bool {
        let silence = now.since(self.last_turn);
        silence >= TURN_AT_LEAST_EVERY.into()
            || (silence >= ENDS_WAIT_MAX && self.pool.has_due_ends(now))
            || self.heard.is_some_and(|(first, last)| {
                now.since(first) >= REPORT_AFTER || now.since(last) >= REPORT_AFTER_SILENCE
            })
            || self.yielding.is_some_and(|slots| self.pool.working() <= slots)
    }

    /// Something was left to be handed in. Who waits for it elsewhere gets it at once; the scheduler hears of
    /// it with what follows, unless that may be nothing.
    pub fn on_due(&mut self) -> Result<(), WorkerError> {
        let is_bad = self.hand_in();
        self.act()?;
        // The scheduler gives more while half of it is still to do.
        let is_much = self.heard_ends >= self.light_count.min(REPORT_AT);
        match is_bad || is_much || self.is_turn_due(clock::now()) {
            true => self.turn(),
            false => Ok(()),
        }
    }

    /// Hands everything that came to the machine.
    fn take_in(&mut self) -> Result<Come, WorkerError> {
        let mut come = Come::Nothing;
        // What comes behind the end of the run is for whoever waits for the next one.
        while self.end.is_none()
            && let Some((from, parcel)) = self.endpoint.as_mut().expect(IN_USE).receive()?
        {
            self.on_parcel(from, parcel)?;
            come = Come::Words;
        }
        self.forward()?;
        while let Ok(ended) = self.ended.try_recv() {
            come = Come::Ends;
            self.on_ended(ended)?;
        }
        if self.take_in_recalled()? {
            come = Come::Ends;
        }
        Ok(come)
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
            Envelope::ToWorker(message) => self.feed(Input::FromScheduler(message)),
            Envelope::Peer(message) => {
                let bytes = parcel.body.len();
                let output = || Envelope::output_of(&Arc::new(parcel.body.into_vec()));
                self.on_peer(from, message, bytes, output)?;
            }
            Envelope::Plain(message, form) => {
                let bytes = parcel.body.len();
                let encoded =
                    |_| CodecError::Malformed("an output that is not what it is said to be".to_owned());
                let output = || plain::output_of(form, parcel.body.into_vec()).map_err(encoded);
                self.on_peer(from, message, bytes, output)?;
            }
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

    fn on_ended(&mut self, ended: Ended) -> Result<(), WorkerError> {
        let Ended { task, attempt, ending } = ended;
        if ending.as_ref().is_err_and(|failure| failure.cause == Cause::NoSpawner) {
            return Err(WorkerError::NoSpawner);
        }
        let terms = self.heavy.remove(&task).expect("what ends was started");
        self.slots.give_back(task);
        let ending = ending.and_then(|(success, output)| self.persist(task, terms, success, output));
        match ending {
            Ok((success, output)) => {
                if let Some(output) = output.filter(|_| terms.is_kept) {
                    self.pool.deliver(task, attempt, output);
                }
                self.feed(Input::Finished(Batch::one(task, attempt, success)));
            }
            Err(failure) => self.feed(Input::Failed { task, attempt, failure }),
        }
        Ok(())
    }

    /// Writes a call's value into the pack if it is wanted there. A command's is there already.
    fn persist(
        &self,
        task: TaskId,
        terms: Terms,
        success: Success,
        output: Option<Arc<Output>>,
    ) -> Result<(Success, Option<Arc<Output>>), Failure> {
        let is_call = matches!(self.graph.operation(task).body, Body::Call(_));
        if let Some(output) = output.as_deref().filter(|_| is_call && terms.is_persisted) {
            let Success { started, ran, .. } = success;
            let recorded = self.pack.record(task, terms.attempt, output);
            recorded.map_err(|cause| Failure { started, ran, cause })?;
        }
        Ok((success, output))
    }

    fn feed(&mut self, input: Input) {
        let now = clock::now();
        self.heard = Some((self.heard.map_or(now, |(first, _)| first), now));
        self.machine.handle(now, input, &mut self.actions);
    }

    /// Hands in what ended, lets the machine decide, and does what it says.
    fn turn(&mut self) -> Result<(), WorkerError> {
        self.hand_in();
        self.tell_room();
        loop {
            self.feed(Input::Turn);
            (self.heard, self.heard_ends) = (None, 0);
            self.act()?;
            if self.heard.is_none() {
                break;
            }
        }
        self.last_turn = clock::now();
        Ok(())
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
        self.heard_ends += count;
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

    /// Starts a heavy task.
    fn start_with(&mut self, assignment: Assignment, inputs: Vec<Arc<Output>>) {
        let (task, attempt, terms) = (assignment.tasks.first, assignment.attempt, terms_of(&assignment));
        let is_call = matches!(self.graph.operation(task).body, Body::Call(_));
        self.heavy.insert(task, terms);
        let binding = self.bind(task, attempt, is_call);
        let job = Job {
            graph: self.graph.clone(),
            task,
            attempt,
            inputs,
            expected_files: expected_files(&self.graph, &assignment),
            keep_value: terms.is_kept,
            persist: terms.is_persisted,
            ranks: self.rank_places(&assignment),
            binding,
        };
        let executors = self.executors.as_mut().expect("nothing starts after the worker left");
        match is_call {
            true => executors.functions.start(job),
            false => executors.commands.start(job),
        }
    }

    /// The nodes of an MPI program: those that came with a multi-node task, or this one.
    fn rank_places(&self, assignment: &Assignment) -> Option<RankPlaces> {
        let (task, attempt, hosts) = (assignment.tasks.first, assignment.attempt, assignment.hosts());
        self.graph.options(task).ranks?;
        let hosts = if hosts.is_empty() { vec![self.host.clone()] } else { hosts.to_vec() };
        Some(RankPlaces { hosts, hostfile: self.directory.hostfile(task, attempt) })
    }

    /// Takes a slot for a task that starts, and tells of it if there is anything to tell.
    fn bind(&mut self, task: TaskId, attempt: Attempt, is_call: bool) -> Option<Box<Binding>> {
        let request = &self.graph.options(task).resources;
        let binding = match is_call {
            true => self.slots.take_for_call(task, request)?,
            false => self.slots.take_for_command(task, request),
        };
        if !binding.slot.is_empty() {
            let slot = Box::new(binding.slot.clone());
            self.feed(Input::Bound { task, attempt, slot });
        }
        Some(binding)
    }

    /// Ends an attempt. Calls look at one table, whether the pool runs them or not.
    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        if self.recalls.stop(task, &cause) {
            return;
        }
        let is_call = matches!(self.graph.operation(task).body, Body::Call(_));
        let executors = self.executors.as_mut().expect("nothing runs after the worker left");
        match is_call {
            true => executors.functions.stop(task, attempt, cause),
            false => executors.commands.stop(task, attempt, cause),
        }
    }

    /// Ends everything that runs, and says that the worker has left. Waits for the slots.
    pub fn leave(&mut self) -> Result<(), WorkerError> {
        self.is_leaving = false;
        drop(self.executors.take());
        self.pool.close();
        self.forward()?;
        self.count_spilled();
        let reports = vec![Report::Left(self.totals)];
        self.report(FromWorker { incarnation: self.incarnation, reports })
    }
}

/// Why the endpoint is there.
const IN_USE: &str = "the endpoint is taken away when the loop is over";

fn terms_of(assignment: &Assignment) -> Terms {
    Terms { attempt: assignment.attempt, is_kept: assignment.consumers > 0, is_persisted: assignment.persist }
}

/// The files that tasks before this one reported, with their sizes.
fn expected_files(graph: &Graph, assignment: &Assignment) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    let Some(special) = &assignment.special else { return files };
    for (task, attempt, sizes) in &special.files {
        let outputs = graph.operation(*task).outputs.iter();
        let paths = outputs.map(|path| path.resolve(*attempt).into_owned());
        files.extend(paths.zip(sizes.iter().copied()));
    }
    files
}
