//! A child interpreter, as the thread sees it that calls functions in it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::clock::now;
use crate::core::event::{Cause, Shortage};
use crate::core::id::OperationId;
use crate::core::task::TaskOptions;
use crate::core::time::{Micros, Timestamp};
use crate::worker::function::Context;
use crate::worker::lines::Lines;
use crate::worker::output::Output;
use crate::worker::packet::{receive, retry};
use crate::worker::sink::{CapturedStream, OutputSink};
use crate::worker::spawner::MemoryWatch;

use super::Kind;
use super::frames::{
    Answer, BLOCKS_KEPT, Call, Callee, Definition, read_answer, send_block, send_call, send_unneeded,
};
use super::freeze::Freeze;
use super::object::{Home, PythonObject};
use super::template::signal;

/// What a child prints to, in the order of its pipes.
const STREAMS: [CapturedStream; 2] = [CapturedStream::Stdout, CapturedStream::Stderr];
/// Room for any answer, and for what is read of a stream at once.
const ROOM_BYTES: usize = 64 * 1024;
/// How often a thread looks whether the call shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Once a child was killed, how long its end may take to be told.
const DYING: Micros = Micros::from_secs(5);
/// Bytes of one stream that are kept of a call.
const CAPTURE_LIMIT_BYTES: u64 = 1 << 30;

/// An interpreter that calls one function after the other. Dropping it ends it.
pub struct Child {
    socket: OwnedFd,
    home: Arc<Home>,
    /// What it prints comes here. None once the child has closed its end.
    pipes: [Option<File>; 2],
    pid: i32,
    /// The way to its template, which sends it signals as long as it is there.
    control: OwnedFd,
    kind: Kind,
    /// What it was told last to call.
    known: Option<(u64, OperationId)>,
    /// The blocks of pickled calls that it has, in the order in which they came.
    blocks: VecDeque<u64>,
    /// When it was asked last which of them it may forget.
    unlearned: (u64, u64),
    /// True once it was sent a signal, which may end it at any time from then on.
    is_pressed: bool,
    /// Libraries that it has imported, since that was asked last.
    imported: Vec<String>,
    room: Vec<u8>,
}

/// What a child shall call.
pub enum Work<'a> {
    /// A function by name.
    Defined(Definition<'a>),
    /// One of the calls of a block.
    Pickled { block: u64, place: u32, bytes: Arc<Vec<u8>> },
}

/// Why a child cannot be used any more.
pub enum Broken {
    /// It ended, and how.
    Ended { status: i32, max_rss_bytes: u64 },
    /// It and its template are gone.
    Gone,
    /// A system call failed.
    Failed(io::Error),
    /// It was ended because the attempt had failed already.
    Stopped(Cause),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::Failed(error)
    }
}

impl Child {
    pub fn new(
        (socket, side, stdout, stderr): (OwnedFd, OwnedFd, OwnedFd, OwnedFd),
        (pid, control): (i32, OwnedFd),
        kind: Kind,
    ) -> Self {
        let pipes = [stdout, stderr].map(|pipe| Some(pipe.into()));
        Child {
            socket,
            home: Arc::new(Home::new(side)),
            pipes,
            pid,
            control,
            kind,
            known: None,
            blocks: VecDeque::new(),
            unlearned: (0, 0),
            is_pressed: false,
            imported: Vec::new(),
            room: vec![0; ROOM_BYTES],
        }
    }

    /// What it was made for.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// About how many bytes of these inputs are in it.
    pub fn bytes_of(&self, inputs: &[Arc<Output>]) -> u64 {
        let objects = inputs.iter().filter_map(|input| match &**input {
            Output::Typed(typed) if PythonObject::is(typed) => PythonObject::of_output(typed).ok(),
            _ => None,
        });
        objects
            .filter(|object| object.number_in(&self.home).is_some())
            .map(|object| object.size_bytes())
            .sum()
    }

    /// Libraries that take long to import and are in it by now, if that is news.
    pub fn take_imported(&mut self) -> Vec<String> {
        std::mem::take(&mut self.imported)
    }

    /// True if outputs are in it.
    pub fn has_outputs(&self) -> bool {
        Arc::strong_count(&self.home) > 1
    }

    /// True if it can be called: between calls it says nothing, unless it has ended.
    pub fn is_ready(&self) -> bool {
        let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        !self.is_pressed && matches!(retry(|| poll(&mut watched, PollTimeout::ZERO)), Ok(0))
    }

    /// Calls a function and waits for its end; what it prints meanwhile goes to `sink`, and from there to the
    /// standard streams of rank 0 if it is to be echoed.
    pub fn call(
        &mut self,
        (work, call): (&Work<'_>, &Call<'_>),
        (context, options): (&Context<'_>, &TaskOptions),
        (sink, is_echoed): (&Mutex<Box<dyn OutputSink>>, bool),
    ) -> Result<Result<Arc<Output>, Cause>, Broken> {
        let callee = match work {
            Work::Defined(definition) => {
                let is_known = definition.number.is_some() && self.known == definition.number;
                Callee::Defined((!is_known).then_some(definition))
            }
            Work::Pickled { block, place, bytes } => {
                self.teach(*block, bytes)?;
                Callee::Pickled { block: *block, place: *place }
            }
        };
        if let Err(why) = send_call((self.socket.as_fd(), &self.home), &callee, call)? {
            return Ok(Err(why));
        }
        if let Work::Defined(definition) = work {
            self.known = definition.number;
        }
        let echoed = is_echoed.then(Default::default);
        let mut printed = Printed { sink, context, bytes: [0; 2], echoed, fault: None };
        let answer = self.wait(&mut printed, options);
        printed.end();
        match (answer?, printed.fault) {
            (Answer::Ended { .. }, Some(fault)) => Err(Broken::Stopped(fault)),
            (Answer::Ended { status, max_rss_bytes }, None) => Err(Broken::Ended { status, max_rss_bytes }),
            (_, Some(fault)) => Ok(Err(fault)),
            (Answer::Value(output), None) => Ok(Ok(output)),
            (Answer::HandedOn(addition), None) => Ok(Err(Cause::HandedOn(addition))),
            (Answer::Imported(_), None) => unreachable!("more is waited for after that"),
            (Answer::Failed(raised), None) if raised.pickled.is_empty() => {
                Ok(Err(Cause::Function(raised.text)))
            }
            (Answer::Failed(raised), None) => Ok(Err(Cause::Raised(Box::new(raised)))),
        }
    }

    /// Gives it a block of pickled calls, unless it has that.
    fn teach(&mut self, block: u64, bytes: &[u8]) -> io::Result<()> {
        if self.blocks.contains(&block) {
            return Ok(());
        }
        send_block(self.socket.as_fd(), block, bytes)?;
        self.blocks.push_back(block);
        if self.blocks.len() > BLOCKS_KEPT {
            self.blocks.pop_front();
        }
        Ok(())
    }

    /// Has it forget the blocks that are not needed any more, unless it was asked that already at this time. It may
    /// have ended: then it is found out by whoever calls it next.
    pub fn unlearn(&mut self, when: (u64, u64), is_needed: impl Fn(u64) -> bool) {
        if std::mem::replace(&mut self.unlearned, when) == when {
            return;
        }
        let socket = self.socket.as_fd();
        self.blocks.retain(|&block| is_needed(block) || send_unneeded(socket, block).is_err());
    }

    /// Has it forget a block of which no further call follows.
    pub fn unlearn_one(&mut self, block: u64) {
        let socket = self.socket.as_fd();
        self.blocks.retain(|&other| other != block || send_unneeded(socket, block).is_err());
    }

    /// Waits for the answer, and ends the child if the attempt shall end first.
    fn wait(&mut self, printed: &mut Printed<'_>, options: &TaskOptions) -> Result<Answer, Broken> {
        let limit_bytes = options.resources.memory_bytes;
        let process = Pid::from_raw(self.pid);
        let mut memory = (limit_bytes > 0).then(|| MemoryWatch::begin_at(process, limit_bytes));
        let look = PollTimeout::try_from(LOOK_EVERY).expect("it is short");
        let mut pressed: Option<Timestamp> = None;
        let mut killed = false;
        let mut freeze = Freeze::new(now());
        loop {
            // The socket first: what was printed before an answer is then seen with it. It stands in for a pipe
            // that the child has closed, which would be readable for ever.
            let socket = self.socket.as_fd();
            let pipe = |place: usize| self.pipes[place].as_ref().map_or(socket, AsFd::as_fd);
            let mut watched =
                [socket, pipe(0), pipe(1)].map(|watched| PollFd::new(watched, PollFlags::POLLIN));
            retry(|| poll(&mut watched, look)).map_err(io::Error::from)?;
            let [has_answer, has_out, has_err] = watched.map(|watched| watched.any().unwrap_or(false));
            if has_out || has_err {
                self.take_streams(printed);
            }
            if has_answer {
                let Some((packet, files)) = receive(self.socket.as_fd(), &mut self.room)? else {
                    return Err(Broken::Gone);
                };
                match read_answer(packet, files, &self.home)? {
                    Answer::Imported(modules) => self.imported = modules,
                    answer => return Ok(answer),
                }
            }
            if let Some(memory) = &mut memory
                && memory.is_exceeded()
            {
                let (used_bytes, is_most) = (memory.over_bytes().unwrap_or_default(), false);
                let shortage = Shortage { limit_bytes, used_bytes, is_most };
                printed.fault.get_or_insert(Cause::OutOfMemory(shortage));
            }
            match pressed {
                None if printed.is_over() => {
                    let grace = if printed.fault.is_some() { Micros::ZERO } else { options.grace };
                    pressed = Some(now() + grace);
                    self.send_signal(libc::SIGTERM);
                }
                None if freeze.has_frozen(self.pid, now()) => {
                    log::error!("a Python process stood still for long, and is killed");
                    self.send_signal(libc::SIGKILL);
                    (killed, pressed) = (true, Some(now() + DYING));
                }
                Some(until) if !killed && now() >= until => {
                    self.send_signal(libc::SIGKILL);
                    (killed, pressed) = (true, Some(now() + DYING));
                }
                Some(until) if killed && now() >= until => return Err(Broken::Gone),
                _ => {}
            }
        }
    }

    fn send_signal(&mut self, number: i32) {
        self.is_pressed = true;
        if signal(self.control.as_fd(), self.pid, number).is_err() && !self.has_hung_up() {
            // Its template is gone, and it is not: its number is still its own.
            let _ = killpg(Pid::from_raw(self.pid), Signal::try_from(number).ok());
        }
    }

    fn has_hung_up(&self) -> bool {
        let mut watched = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let looked = retry(|| poll(&mut watched, PollTimeout::ZERO));
        looked.is_err() || watched[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }

    fn take_streams(&mut self, printed: &mut Printed<'_>) {
        for (place, there) in self.pipes.iter_mut().enumerate() {
            while let Some(pipe) = there {
                match pipe.read(&mut self.room) {
                    Ok(0) => *there = None,
                    Ok(count) => printed.take(place, &self.room[..count]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
        }
    }
}

/// What a call has printed so far.
struct Printed<'a> {
    sink: &'a Mutex<Box<dyn OutputSink>>,
    context: &'a Context<'a>,
    bytes: [u64; 2],
    /// The unfinished lines, if lines are handed on.
    echoed: Option<[Lines; 2]>,
    /// Why the attempt has failed, whatever the function returns.
    fault: Option<Cause>,
}

impl Printed<'_> {
    /// True if the attempt has failed, or shall end.
    fn is_over(&self) -> bool {
        self.fault.is_some() || self.context.is_stopped()
    }

    fn take(&mut self, place: usize, bytes: &[u8]) {
        if self.fault.is_some() {
            return;
        }
        let stream = STREAMS[place];
        self.bytes[place] += bytes.len() as u64;
        if self.bytes[place] > CAPTURE_LIMIT_BYTES {
            self.fault = Some(Cause::CaptureLimit(CAPTURE_LIMIT_BYTES));
            return;
        }
        let mut sink = self.sink.lock().expect("no thread panics while it writes what was printed");
        let written = sink.append(self.context.task(), self.context.attempt(), stream, bytes);
        self.fault = written.err().map(Cause::NotRecorded);
        if let Some(lines) = self.echoed.as_mut().and_then(|lines| lines[place].take(bytes)) {
            sink.forward(self.context.task(), stream, &lines);
        }
    }

    /// Hands on what is left.
    fn end(&mut self) {
        for (lines, stream) in self.echoed.take().into_iter().flatten().zip(STREAMS) {
            if let Some(line) = lines.rest() {
                let mut sink = self.sink.lock().expect("no thread panics while it writes what was printed");
                sink.forward(self.context.task(), stream, &line);
            }
        }
    }
}
