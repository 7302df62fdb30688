//! A worker rank at work: what came in goes to its machine, what the machine answers is done.
//!
//! Whoever has the token takes a turn: slots without work, slots that have something to hand in, and this
//! thread, the keeper, when they do not.

mod hands;
mod summons;
mod token;
mod trust;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::core::graph::Graph;
use crate::core::id::{Incarnation, Rank};
use crate::core::resources::Resources;
use crate::core::time::Micros;
use crate::record::layout::RunDirectory;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Endpoint, TransportError};
use crate::worker::function::Functions;
use crate::worker::hardware::format_list;
use crate::worker::memory::NoRoom;
use crate::worker::pool::Turns;
use crate::worker::share::Share;
use crate::worker::spawner::SpawnerLink;
use crate::worker::{allocator, binding};

use super::envelope::Envelope;
use hands::Hands;
use token::Token;

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
    /// True if what Python functions print goes to the standard streams of rank 0 as well.
    pub is_echoed: bool,
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
    /// Memory and disk are full of outputs, and nothing can release any.
    NoRoom(Box<NoRoom>),
    /// What starts its programs is gone, and a process with threads and MPI cannot start another.
    NoSpawner,
}

impl fmt::Display for WorkerError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WorkerError::Transport(error) => write!(out, "a worker cannot go on: {error}"),
            WorkerError::Garbled(rank, error) => write!(out, "rank {rank} sent what cannot be read: {error}"),
            WorkerError::Io(what, error) => write!(out, "a worker cannot {what}: {error}"),
            WorkerError::NoRoom(no_room) => out.write_str(&hands::tell_no_room(no_room)),
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

/// Works until the scheduler says that the run is over, and returns the endpoint and what it said. If that
/// cannot be done to the end, the scheduler is told why.
pub fn work<E: Endpoint + 'static>(endpoint: E, setup: Setup) -> (E, Result<End, WorkerError>) {
    occupy(&setup.share, &setup.capacity);
    allocator::keep_what_is_dropped();
    let (mut endpoint, worked) = match Hands::new(endpoint, setup) {
        Ok(hands) => run(hands),
        Err((endpoint, error)) => (endpoint, Err(error)),
    };
    if let Err(error) = &worked {
        log::error!("{error}");
        if Envelope::Broken(error.to_string()).send(Rank::SCHEDULER, &mut endpoint).is_ok() {
            await_goodbye(&mut endpoint);
        }
    }
    // Closing waits for all ranks, and those of a broken run do not come.
    let ended = match worked {
        Ok(End::Goodbye(exit_code)) => {
            endpoint.close().map(|()| End::Goodbye(exit_code)).map_err(WorkerError::from)
        }
        other => other,
    };
    (endpoint, ended)
}

fn run<E: Endpoint + 'static>(hands: Hands<E>) -> (E, Result<End, WorkerError>) {
    let pool = hands.pool();
    let token = Arc::new(Token::new(hands));
    let turns: Arc<dyn Turns> = token.clone();
    token.let_commands_take(&turns);
    let worked = match pool.start(&turns) {
        Ok(()) => token.keep(),
        Err(error) => Err(WorkerError::Io("start its threads", error)),
    };
    pool.close();
    (token.take_endpoint(), worked)
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
