//! Outputs that are in the run directory alone: read there by a thread of its own, for tasks that take them.
//!
//! To the machine the run directory is rank 0: it wants an output there, and hears that it came.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::core::graph::Graph;
use crate::core::id::{Attempt, Incarnation, Rank, TaskId};
use crate::core::message::{PeerMessage, PeerWord};
use crate::core::task::Body;
use crate::record::layout::RunDirectory;
use crate::record::pack::Piece;
use crate::record::pack_reader::PackReader;
use crate::transport::codec::CodecError;
use crate::transport::endpoint::{Endpoint, Waker};
use crate::worker::output::Output;

use super::super::super::envelope::{Envelope, StandardStream};
use super::super::super::sink::Forwarded;
use super::super::WorkerError;
use super::Hands;

/// How long to wait before each further look for what is not there.
const RETRIES: [Duration; 4] =
    [Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Looks in vain that a person is told of.
const TOLD_MAX: u32 = 3;

/// What is asked for, and what was read.
pub(super) struct Stored {
    run: RunDirectory,
    graph: Arc<Graph>,
    /// What a person is told of goes to rank 0.
    forwarded: Sender<Forwarded>,
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
    /// For outputs in the packs of a run; `waker` is woken when one is there.
    pub fn new((run, graph): (RunDirectory, Arc<Graph>), forwarded: Sender<Forwarded>, waker: Waker) -> Self {
        let (sender, receiver) = unbounded();
        Stored { run, graph, forwarded, waker, asked: None, under_way: 0, sender, receiver }
    }

    /// True if outputs are being read.
    pub fn is_reading(&self) -> bool {
        self.under_way > 0
    }

    fn ask(&mut self, asked: Asked) -> Result<(), String> {
        if self.asked.is_none() {
            let (sender, wanted) = unbounded();
            let (run, read, waker) = (self.run.clone(), self.sender.clone(), self.waker.clone());
            let mut trouble =
                Trouble { graph: self.graph.clone(), forwarded: self.forwarded.clone(), told: 0 };
            let builder = thread::Builder::new().name("stored".to_owned());
            let started = builder.spawn(move || serve(&run, &wanted, (&read, &waker), &mut trouble));
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

/// Tells a person why nothing seems to go on, of the first few outputs.
struct Trouble {
    graph: Arc<Graph>,
    forwarded: Sender<Forwarded>,
    told: u32,
}

impl Trouble {
    fn tell(&mut self, task: TaskId, why: &str) {
        let key = match self.graph.began_with(task) {
            true => format!("`{}`", self.graph.key(task)),
            false => format!("task {task}"),
        };
        let line = format!("the output of {key} cannot be read, and is looked for again: {why}");
        log::warn!("{line}");
        self.told += 1;
        if self.told <= TOLD_MAX {
            let _ = self.forwarded.send((StandardStream::Err, format!("warning: {line}\n").into_bytes()));
        }
    }
}

fn serve(
    run: &RunDirectory,
    wanted: &Receiver<Asked>,
    (read, waker): (&Sender<Read>, &Waker),
    trouble: &mut Trouble,
) {
    let mut reader = None;
    // Where waiting did not help, it will not help for the next output either.
    let mut was_in_vain = false;
    for asked in wanted {
        let mut output = read_one(run, &mut reader, asked);
        let is_first = output.is_ok();
        for pause in if was_in_vain { &RETRIES[..1] } else { &RETRIES[..] } {
            if output.is_ok() {
                break;
            }
            // Another node's file may be seen late, and a file system may be away for a moment.
            if let (Err(why), true) = (&output, *pause == RETRIES[1]) {
                trouble.tell(asked.task, why);
                waker.wake();
            }
            thread::sleep(*pause);
            reader = None;
            output = read_one(run, &mut reader, asked);
        }
        if !is_first {
            was_in_vain = output.is_err();
        }
        if read.send((asked, output)).is_err() {
            return;
        }
        waker.wake();
    }
}

/// The indexes are read once, and again for what was written since.
fn read_one(run: &RunDirectory, reader: &mut Option<PackReader>, asked: Asked) -> Result<Output, String> {
    let Asked { task, attempt, is_command } = asked;
    let is_fresh = reader.is_none();
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(PackReader::of_run(run).map_err(|error| error.to_string())?),
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
