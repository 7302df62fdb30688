//! Outputs that are in the run directory alone: read there by a thread of its own, for tasks that take them.
//!
//! To the machine the run directory is rank 0: it wants an output there, and hears that it came.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{PeerMessage, PeerWord};
use crate::core::task::Body;
use crate::record::pack::Piece;
use crate::record::pack_reader::PackReader;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Endpoint, Waker};
use crate::worker::output::Output;

use super::super::super::envelope::Envelope;
use super::super::WorkerError;
use super::Hands;

/// How long to wait before each further look for what is not there.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What is asked for, and what was read.
pub(super) struct Stored {
    packs: PathBuf,
    waker: Waker,
    /// Who reads, once somebody has asked.
    asked: Option<Sender<Asked>>,
    /// How many were asked for and have not come.
    under_way: usize,
    sender: Sender<Read>,
    receiver: Receiver<Read>,
}

#[derive(Clone, Copy)]
struct Asked {
    task: TaskId,
    attempt: Attempt,
    is_command: bool,
}

type Read = (Asked, Result<Output, String>);

impl Stored {
    /// For outputs in these packs; `waker` is woken when one is there.
    pub fn new(packs: PathBuf, waker: Waker) -> Self {
        let (sender, receiver) = unbounded();
        Stored { packs, waker, asked: None, under_way: 0, sender, receiver }
    }

    /// True if outputs are being read.
    pub fn is_reading(&self) -> bool {
        self.under_way > 0
    }

    fn ask(&mut self, asked: Asked) -> Result<(), String> {
        if self.asked.is_none() {
            let (sender, wanted) = unbounded();
            let (packs, read, waker) = (self.packs.clone(), self.sender.clone(), self.waker.clone());
            let builder = thread::Builder::new().name("stored".to_owned());
            let started = builder.spawn(move || serve(&packs, &wanted, &read, &waker));
            started.map_err(|error| format!("cannot start a thread: {error}"))?;
            self.asked = Some(sender);
        }
        let reader = self.asked.as_ref().expect("started just above");
        reader.send(asked).map_err(|_| "the thread that reads is gone".to_owned())
    }
}

impl<E: Endpoint> Hands<E> {
    pub(super) fn ask_for_stored(&mut self, message: PeerMessage) {
        // What is not wanted any more comes all the same, and is dropped.
        let PeerWord::Want(task, attempt) = message.word else { return };
        let asked = Asked { task, attempt, is_command: is_command(&self.graph, task) };
        self.stored.under_way += 1;
        if let Err(why) = self.stored.ask(asked) {
            let _ = self.stored.sender.send((asked, Err(why)));
        }
    }

    /// Hands on what was read. True if there was anything.
    pub(super) fn take_in_stored(&mut self) -> Result<bool, WorkerError> {
        let mut is_any = false;
        while let Ok((Asked { task, attempt, .. }, output)) = self.stored.receiver.try_recv() {
            is_any = true;
            self.stored.under_way -= 1;
            let word = match &output {
                Ok(_) => PeerWord::Output(task, attempt),
                Err(why) => {
                    log::error!("the output of task {task} was durable and cannot be read: {why}");
                    PeerWord::Unknown(task, attempt)
                }
            };
            let message = PeerMessage { from: Incarnation::default(), to: self.incarnation, word };
            self.on_peer(Rank::SCHEDULER, message, 0, || output.map_err(CodecError::Malformed))?;
            self.act()?;
        }
        Ok(is_any)
    }
}

fn is_command(graph: &Graph, task: TaskId) -> bool {
    matches!(graph.operation(task).body, Body::Command(_))
}

fn serve(packs: &Path, wanted: &Receiver<Asked>, read: &Sender<Read>, waker: &Waker) {
    let mut reader = None;
    for asked in wanted {
        let mut output = read_one(packs, &mut reader, asked);
        for pause in RETRIES {
            if output.is_ok() {
                break;
            }
            // Another node's file may be seen late, and a file system may be away for a moment.
            thread::sleep(pause);
            reader = None;
            output = read_one(packs, &mut reader, asked);
        }
        if read.send((asked, output)).is_err() {
            return;
        }
        waker.wake();
    }
}

/// The indexes are read once, and again for what was written since.
fn read_one(packs: &Path, reader: &mut Option<PackReader>, asked: Asked) -> Result<Output, String> {
    let Asked { task, attempt, is_command } = asked;
    let is_fresh = reader.is_none();
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(PackReader::open(packs).map_err(|error| error.to_string())?),
    };
    if !is_fresh && !reader.is_whole(task, attempt) {
        reader.refresh().map_err(|error| error.to_string())?;
    }
    if !reader.is_whole(task, attempt) {
        return Err("the packs do not have it".to_owned());
    }
    let piece = if is_command { Piece::Stdout } else { Piece::Value };
    let bytes = reader.read(task, Some(attempt), piece).map_err(|error| error.to_string())?;
    match (is_command, bytes) {
        // A command that printed nothing leaves nothing.
        (true, bytes) => Ok(Output::Captured(bytes.unwrap_or_default())),
        (false, Some(bytes)) => Envelope::output_of(&Arc::new(bytes)).map_err(|error| error.to_string()),
        (false, None) => Err("the packs do not have it".to_owned()),
    }
}
