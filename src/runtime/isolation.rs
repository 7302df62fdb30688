//! Functions in processes of their own: a crash there costs an attempt and not the rank.
//!
//! The child is the same binary, started by the rank's spawner with a hidden first argument. What it
//! shall do lies in a memory file that is its standard input; what came of it, it writes there too.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::core::event::Cause;
use crate::core::id::{Attempt, TaskId};
use crate::core::task::Argument;
use crate::transport::codec;
use crate::worker::function::{Context, Functions};
use crate::worker::keep::Keep;
use crate::worker::output::Output;
use crate::worker::spawner::{KeeperLink, Launch, Reply, Room};

use super::envelope::Envelope;

/// The hidden first argument that makes the binary run one function.
const ROLE: &str = "__function";

/// How often a rank looks whether a child shall end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The time between TERM and KILL for a child that shall end.
const GRACE_MS: u64 = 1_000;

const GAVE: u8 = 0;
const FAILED: u8 = 1;

/// What a child shall do. Behind it lie the bodies of its inputs.
#[derive(Serialize, Deserialize)]
struct Request {
    function: String,
    task: TaskId,
    attempt: Attempt,
    arguments: Vec<Argument>,
    /// How long each body is.
    inputs: Vec<u64>,
}

/// Calls a function in a child, and waits for its end.
pub fn call(
    keep: &Keep,
    function: &str,
    context: &Context<'_>,
    (arguments, inputs): (&[Argument], &[Arc<Output>]),
) -> Result<Arc<Output>, Cause> {
    let spawner = keep.spawner().ok_or_else(|| Cause::NotStarted("its rank has no spawner".to_owned()))?;
    let not_started = |error: io::Error| Cause::NotStarted(format!("no process could be had: {error}"));
    let mut memory = request(function, context, arguments, inputs).map_err(not_started)?;
    let keeper = spawner.keeper().map_err(not_started)?;
    launch(&keeper, &memory).map_err(not_started)?;
    match wait(&keeper, context).map_err(not_started)? {
        Some(Reply::Exited(exit)) if libc::WIFSIGNALED(exit.status) => {
            Err(Cause::Signal(libc::WTERMSIG(exit.status)))
        }
        Some(Reply::Exited(exit)) if exit.status != 0 => Err(Cause::ExitCode(libc::WEXITSTATUS(exit.status))),
        Some(Reply::Exited(_)) => answer(&mut memory),
        Some(Reply::NotStarted(why)) => Err(Cause::NotStarted(why)),
        None if spawner.is_gone() => Err(Cause::NoSpawner),
        None => Err(Cause::NotStarted("the process that kept it is gone, and it was killed".to_owned())),
    }
}

fn request(
    function: &str,
    context: &Context<'_>,
    arguments: &[Argument],
    inputs: &[Arc<Output>],
) -> io::Result<File> {
    let bodies: Vec<Vec<u8>> = inputs.iter().map(|input| Envelope::body_of(input)).collect();
    let head = codec::encode(&Request {
        function: function.to_owned(),
        task: context.task(),
        attempt: context.attempt(),
        arguments: arguments.to_vec(),
        inputs: bodies.iter().map(|body| body.len() as u64).collect(),
    });
    let mut memory = File::from(memfd_create("dagmar-function", MFdFlags::MFD_CLOEXEC)?);
    memory.write_all(&(head.len() as u64).to_le_bytes())?;
    memory.write_all(&head)?;
    bodies.iter().try_for_each(|body| memory.write_all(body))?;
    memory.rewind()?;
    Ok(memory)
}

fn launch(keeper: &KeeperLink, memory: &File) -> io::Result<()> {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let streams: [BorrowedFd<'_>; 3] = [memory.as_fd(), stdout.as_fd(), stderr.as_fd()];
    let launch = Launch {
        program: "/proc/self/exe".to_owned(),
        arguments: vec![ROLE.to_owned()],
        environment: Vec::new(),
        directory: env::current_dir()?.to_string_lossy().into_owned(),
        cpus: Vec::new(),
        memory_bytes: None,
    };
    keeper.launch(&launch, streams)
}

/// Waits for the end of a child, which comes sooner if it shall end.
fn wait(keeper: &KeeperLink, context: &Context<'_>) -> io::Result<Option<Reply>> {
    let mut is_stopped = false;
    let limit = PollTimeout::try_from(LOOK_EVERY).expect("it is short");
    loop {
        let mut watched = [PollFd::new(keeper.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, limit) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return keeper.receive(&mut Room::default()),
            Err(error) => return Err(error.into()),
        }
        if !is_stopped && context.is_stopped() {
            is_stopped = true;
            keeper.stop(GRACE_MS)?;
        }
    }
}

fn answer(memory: &mut File) -> Result<Arc<Output>, Cause> {
    let broken = |why: String| Cause::Function(format!("its process left no output: {why}"));
    let mut bytes = Vec::new();
    memory
        .rewind()
        .and_then(|()| memory.read_to_end(&mut bytes))
        .map_err(|error| broken(error.to_string()))?;
    match bytes.split_last() {
        Some((&GAVE, _)) => {
            bytes.pop();
            let output = Envelope::output_of(&Arc::new(bytes));
            output.map(Arc::new).map_err(|error| broken(error.to_string()))
        }
        Some((&FAILED, rest)) => Err(codec::decode(rest).unwrap_or_else(|error| broken(error.to_string()))),
        _ => Err(broken("it is empty".to_owned())),
    }
}

/// Runs one function and ends, if this process was started for that.
pub fn main_if_asked(functions: impl FnOnce() -> Functions) {
    if env::args_os().nth(1).is_some_and(|argument| argument == OsStr::new(ROLE)) {
        // Whoever panics here is told as a failure, by the rank.
        std::panic::set_hook(Box::new(|_| {}));
        std::process::exit(i32::from(run(&functions()).is_err()));
    }
}

fn run(functions: &Functions) -> io::Result<()> {
    let mut memory = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut bytes = Vec::new();
    memory.read_to_end(&mut bytes)?;
    let (request, inputs) = read(&bytes)?;
    drop(bytes);
    let Request { function, task, attempt, arguments, .. } = request;
    let mut answer = Vec::new();
    match functions.call_alone(&function, (task, attempt), &arguments, &inputs) {
        Ok(output) => {
            answer = Envelope::body_of(&output);
            answer.push(GAVE);
        }
        Err(cause) => {
            codec::encode_into(&cause, &mut answer);
            answer.push(FAILED);
        }
    }
    memory.rewind()?;
    memory.set_len(0)?;
    memory.write_all(&answer)
}

fn read(bytes: &[u8]) -> io::Result<(Request, Vec<Arc<Output>>)> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
    let (head, mut rest) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).ok_or_else(short)?;
    let request: Request = codec::decode(head).map_err(io::Error::other)?;
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for &length in &request.inputs {
        let (body, behind) = rest.split_at_checked(length as usize).ok_or_else(short)?;
        inputs.push(Arc::new(Envelope::output_in(body).map_err(io::Error::other)?));
        rest = behind;
    }
    Ok((request, inputs))
}
