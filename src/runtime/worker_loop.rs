//! A worker rank at work: what came in goes to its machine, what the machine answers is done.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};

use crate::clock;
use crate::core::event::{Cause, Failure, Success, Totals};
use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{Assignment, FromWorker, PeerMessage, PeerWord, Report};
use crate::core::resources::Resources;
use crate::core::task::Body;
use crate::core::time::Micros;
use crate::core::worker::{Action, Input, Worker};
use crate::record::layout::RunDirectory;
use crate::record::pack::{PackWriter, Piece};
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Endpoint, Parcel, TransportError};
use crate::worker::binding::{self, Binding, Slots};
use crate::worker::command::CommandExecutor;
use crate::worker::executor::{Ended, Executor, Job, RankPlaces};
use crate::worker::function::{FunctionExecutor, Functions};
use crate::worker::hardware::format_list;
use crate::worker::output::Output;
use crate::worker::share::Share;
use crate::worker::spawner::SpawnerLink;
use crate::worker::store::Store;

use super::envelope::Envelope;
use super::fault::Fault;
use super::sink::{Forwarded, PackSink, SharedPack};

/// The longest sleep: nothing else tells the machine that a task has been running for a while.
const TURN_AT_LEAST_EVERY: Duration = Duration::from_millis(100);

/// What a worker begins with.
pub struct Setup {
    /// The graph.
    pub graph: Arc<Graph>,
    /// The run's directory.
    pub directory: RunDirectory,
    /// Which life of the worker this is.
    pub incarnation: Incarnation,
    /// The node's name.
    pub host: String,
    /// How much it may use.
    pub capacity: Resources,
    /// Which CPUs and GPUs those are.
    pub share: Share,
    /// The functions it knows.
    pub functions: Arc<Functions>,
    /// Its spawner.
    pub spawner: Arc<SpawnerLink>,
}

/// How a worker's part in a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The run is over, and there may be another one.
    Rest,
    /// The rank shall end with this exit code.
    Goodbye(u8),
}

/// Why a worker cannot go on.
#[derive(Debug)]
pub enum WorkerError {
    /// The connection broke.
    Transport(TransportError),
    /// Something was received that is no message of this version: from whom.
    Garbled(Rank, CodecError),
    /// Something on this node failed: what, and why.
    Io(&'static str, io::Error),
    /// What starts its programs is gone, and a process with threads and MPI cannot start another.
    NoSpawner,
}

impl fmt::Display for WorkerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkerError::Transport(error) => write!(out, "a worker cannot go on: {error}"),
            WorkerError::Garbled(rank, error) => write!(out, "rank {rank} sent what cannot be read: {error}"),
            WorkerError::Io(what, error) => write!(out, "a worker cannot {what}: {error}"),
            WorkerError::NoSpawner => write!(out, "its spawner, which starts all programs, is gone"),
        }
    }
}

impl std::error::Error for WorkerError {}

impl From<TransportError> for WorkerError {
    fn from(error: TransportError) -> Self {
        WorkerError::Transport(error)
    }
}

/// How long a worker that cannot go on waits for rank 0 to end the run: until then, its launcher
/// would end all ranks without a word from rank 0.
const GOODBYE_WITHIN: Micros = Micros::from_secs(5);

/// Works until the scheduler says that the run is over. If that cannot be done to the end, the scheduler
/// is told why.
pub fn work(endpoint: &mut dyn Endpoint, setup: Setup) -> Result<End, WorkerError> {
    let worked = run(endpoint, setup);
    if let Err(error) = &worked {
        log::error!("{error}");
        if Envelope::Broken(error.to_string()).send(Rank::SCHEDULER, endpoint).is_ok() {
            await_goodbye(endpoint);
        }
    }
    // Closing waits for all ranks, and those of a broken run do not come.
    let end = worked?;
    if end != End::Rest {
        endpoint.close()?;
    }
    Ok(end)
}

fn await_goodbye(endpoint: &mut dyn Endpoint) {
    let began = clock::now();
    while clock::now().since(began) < GOODBYE_WITHIN {
        match endpoint.receive() {
            Ok(Some((_, parcel))) if matches!(Envelope::read(&parcel), Ok(Envelope::Goodbye(_))) => return,
            Ok(Some(_)) => {}
            Ok(None) => endpoint.wait(TURN_AT_LEAST_EVERY),
            Err(_) => return,
        }
    }
}

fn run(endpoint: &mut dyn Endpoint, setup: Setup) -> Result<End, WorkerError> {
    let mut hands = Hands::new(endpoint, setup)?;
    loop {
        let received = hands.take_in()?;
        hands.turn()?;
        if let Some(end) = hands.end {
            return Ok(end);
        }
        if !received {
            hands.endpoint.wait(TURN_AT_LEAST_EVERY);
        }
    }
}

/// Everything that the machine's actions need.
struct Hands<'a> {
    endpoint: &'a mut dyn Endpoint,
    graph: Arc<Graph>,
    incarnation: Incarnation,
    host: String,
    directory: RunDirectory,
    machine: Worker,
    store: Store,
    pack: SharedPack,
    /// Taken apart when the worker leaves.
    executors: Option<Executors>,
    ended: Receiver<Ended>,
    forwarded: Receiver<Forwarded>,
    /// What running tasks are bound to.
    slots: Slots,
    /// Running calls whose value goes into the pack.
    persisted: HashSet<TaskId>,
    totals: Totals,
    fault: Fault,
    actions: Vec<Action>,
    end: Option<End>,
}

struct Executors {
    functions: FunctionExecutor,
    commands: CommandExecutor,
}

impl<'a> Hands<'a> {
    fn new(endpoint: &'a mut dyn Endpoint, setup: Setup) -> Result<Self, WorkerError> {
        occupy(&setup.share, &setup.capacity);
        let pack = PackWriter::create(&setup.directory.output(), endpoint.rank());
        let pack = SharedPack::new(pack.map_err(|error| WorkerError::Io("create its pack", error))?);
        let (ended_sender, ended) = unbounded();
        let (forward_sender, forwarded) = unbounded();
        let sink = PackSink { pack: pack.clone(), forwarded: forward_sender, waker: endpoint.waker() };
        let waker = endpoint.waker();
        let commands = CommandExecutor::new(
            setup.spawner,
            Box::new(sink),
            ended_sender.clone(),
            Box::new(move || waker.wake()),
        );
        let commands = commands.map_err(|error| WorkerError::Io("serve commands", error))?;
        let waker = endpoint.waker();
        let slots = setup.capacity.cpus as usize;
        let functions =
            FunctionExecutor::new(slots, setup.functions, ended_sender, Arc::new(move || waker.wake()));
        let functions = functions.map_err(|error| WorkerError::Io("start its threads", error))?;
        Ok(Hands {
            slots: Slots::new(setup.share, &setup.capacity),
            machine: Worker::new(setup.graph.clone(), setup.incarnation, setup.host.clone(), setup.capacity),
            fault: Fault::of(endpoint.rank()),
            endpoint,
            graph: setup.graph,
            incarnation: setup.incarnation,
            host: setup.host,
            directory: setup.directory,
            store: Store::default(),
            pack,
            executors: Some(Executors { functions, commands }),
            ended,
            forwarded,
            persisted: HashSet::new(),
            totals: Totals::default(),
            actions: Vec::new(),
            end: None,
        })
    }

    /// Hands everything that came to the machine. False if nothing did.
    fn take_in(&mut self) -> Result<bool, WorkerError> {
        let mut received = false;
        // What comes behind the end of the run is for whoever waits for the next one.
        while self.end.is_none()
            && let Some((from, parcel)) = self.endpoint.receive()?
        {
            received = true;
            self.on_parcel(from, parcel)?;
        }
        while let Ok((stream, bytes)) = self.forwarded.try_recv() {
            Envelope::Forward(stream).send_with(Arc::new(bytes), Rank::SCHEDULER, self.endpoint)?;
        }
        while let Ok(ended) = self.ended.try_recv() {
            received = true;
            self.on_ended(ended)?;
        }
        Ok(received)
    }

    fn on_parcel(&mut self, from: Rank, parcel: Parcel) -> Result<(), WorkerError> {
        match Envelope::read(&parcel).map_err(|error| WorkerError::Garbled(from, error))? {
            Envelope::ToWorker(message) => self.feed(Input::FromScheduler(message)),
            Envelope::Peer(message) => self.on_peer(from, message, &parcel.body)?,
            Envelope::Rest => self.end = Some(End::Rest),
            Envelope::Goodbye(exit_code) => self.end = Some(End::Goodbye(exit_code)),
            other => log::warn!("rank {from} sent what only the scheduler takes: {other:?}"),
        }
        Ok(())
    }

    fn on_peer(&mut self, from: Rank, message: PeerMessage, body: &Arc<Vec<u8>>) -> Result<(), WorkerError> {
        if message.to != self.incarnation {
            // It was said in an earlier run, where the same numbers meant other tasks.
            return Ok(());
        }
        if let PeerWord::Output(task, attempt) = message.word {
            let output = Envelope::output_of(body).map_err(|error| WorkerError::Garbled(from, error))?;
            self.totals.received_bytes += body.len() as u64;
            self.store.insert(task, attempt, Arc::new(output));
        }
        self.feed(Input::FromPeer { peer: from, message });
        Ok(())
    }

    fn on_ended(&mut self, ended: Ended) -> Result<(), WorkerError> {
        let Ended { task, attempt, ending } = ended;
        if ending.as_ref().is_err_and(|failure| failure.cause == Cause::NoSpawner) {
            return Err(WorkerError::NoSpawner);
        }
        let ending = ending.and_then(|(success, output)| {
            let success = self.persist(task, attempt, success, output.as_deref())?;
            if let Some(output) = output {
                self.store.insert(task, attempt, output);
            }
            Ok(success)
        });
        self.persisted.remove(&task);
        self.slots.give_back(task);
        self.feed(Input::Ended { task, attempt, ending });
        Ok(())
    }

    /// Writes a call's value into the pack if it is wanted there.
    fn persist(
        &mut self,
        task: TaskId,
        attempt: Attempt,
        success: Success,
        output: Option<&Output>,
    ) -> Result<Success, Failure> {
        let wanted = output.filter(|_| self.persisted.contains(&task));
        let Some(output) = wanted else { return Ok(success) };
        let mut pack = self.pack.lock();
        let written = pack.append(task, attempt, Piece::Value, &Envelope::body_of(output));
        match written {
            Ok(()) => {
                pack.end(task, attempt);
                Ok(success)
            }
            Err(error) => {
                let cause = Cause::NotRecorded(format!("cannot write `{}`: {error}", pack.path().display()));
                Err(Failure { started: success.started, ran: success.ran, cause })
            }
        }
    }

    fn feed(&mut self, input: Input) {
        self.machine.handle(clock::now(), input, &mut self.actions);
    }

    fn turn(&mut self) -> Result<(), WorkerError> {
        self.feed(Input::Turn);
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.perform(action)?;
        }
        self.actions = actions;
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<(), WorkerError> {
        match action {
            Action::ToScheduler(message) => self.report(message)?,
            Action::ToPeer { peer, message } => self.say(peer, message)?,
            Action::Start(assignment) => self.start(assignment),
            Action::Stop(task, attempt, cause) => self.stop(task, attempt, cause),
            Action::Drop(task, attempt) => self.store.remove(task, attempt),
            Action::Leave => self.leave()?,
        }
        Ok(())
    }

    /// Reports only what outlives this process: captured bytes are handed to the system first.
    fn report(&mut self, message: FromWorker) -> Result<(), WorkerError> {
        self.pack.flush().map_err(|error| WorkerError::Io("write its pack", error))?;
        Ok(Envelope::FromWorker(message).send(Rank::SCHEDULER, self.endpoint)?)
    }

    fn say(&mut self, peer: Rank, message: PeerMessage) -> Result<(), WorkerError> {
        let body = match message.word {
            PeerWord::Output(task, attempt) => Envelope::body_of(self.store.get(task, attempt)),
            _ => Vec::new(),
        };
        self.totals.sent_bytes += body.len() as u64;
        Ok(Envelope::Peer(message).send_with(Arc::new(body), peer, self.endpoint)?)
    }

    fn start(&mut self, assignment: Assignment) {
        self.fault.strike();
        let Assignment { task, attempt, keep, persist, .. } = assignment;
        let body = &self.graph.operation(task).body;
        let is_call = matches!(body, Body::Call(_));
        if persist && is_call {
            self.persisted.insert(task);
        }
        let binding = self.bind(task, attempt, is_call);
        let inputs = assignment.inputs.iter();
        let job = Job {
            graph: self.graph.clone(),
            task,
            attempt,
            inputs: inputs.map(|input| self.store.get(input.task, input.attempt).clone()).collect(),
            expected_files: expected_files(&self.graph, &assignment),
            keep_value: keep,
            persist,
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
        let Assignment { task, attempt, hosts, .. } = assignment;
        self.graph.options(*task).ranks?;
        let hosts = if hosts.is_empty() { vec![self.host.clone()] } else { hosts.clone() };
        Some(RankPlaces { hosts, hostfile: self.directory.hostfile(*task, *attempt) })
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

    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        let is_call = matches!(self.graph.operation(task).body, Body::Call(_));
        let executors = self.executors.as_mut().expect("nothing runs after the worker left");
        match is_call {
            true => executors.functions.stop(task, attempt, cause),
            false => executors.commands.stop(task, attempt, cause),
        }
    }

    fn leave(&mut self) -> Result<(), WorkerError> {
        drop(self.executors.take());
        while let Ok((stream, bytes)) = self.forwarded.try_recv() {
            Envelope::Forward(stream).send_with(Arc::new(bytes), Rank::SCHEDULER, self.endpoint)?;
        }
        let reports = vec![Report::Left(self.totals)];
        self.report(FromWorker { incarnation: self.incarnation, reports })
    }
}

/// Keeps this thread, and the threads of functions that it is about to start, on the worker's CPUs if
/// tasks are bound.
fn occupy(share: &Share, capacity: &Resources) {
    let ids = share.cpu_ids();
    let which = match ids.is_empty() {
        true => "it is not known which".to_owned(),
        false => format!("{} on {} cores", format_list(&ids), share.core_count()),
    };
    let gpus: Vec<&str> = share.gpus.iter().map(|gpu| gpu.id.as_str()).collect();
    let Resources { cpus, memory_bytes, .. } = capacity;
    log::info!(
        "this worker has {cpus} cpus ({which}), {memory_bytes} bytes of memory, gpus ({})",
        gpus.join(",")
    );
    if share.is_binding()
        && let Err(error) = binding::restrict_this_thread(&ids)
    {
        log::warn!("functions are not kept on the cpus {}: {error}", format_list(&ids));
    }
}

/// The files that tasks before this one reported, with their sizes.
fn expected_files(graph: &Graph, assignment: &Assignment) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    for (task, attempt, sizes) in &assignment.files {
        let outputs = graph.operation(*task).outputs.iter();
        let paths = outputs.map(|path| path.resolve(*attempt).into_owned());
        files.extend(paths.zip(sizes.iter().copied()));
    }
    files
}
