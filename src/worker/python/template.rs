//! The template: an interpreter that forks all others of a process.

use std::env;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;

use crate::worker::command::pipe_to_read;
use crate::worker::packet::{pair, receive, retry, send};
use crate::worker::spawner::{KeeperLink, Launch, Reply, Room, SpawnerLink};

use super::Kind;
use super::child::Child;

/// What runs in the interpreter, in the order in which it is read: the same build's other half.
const SOURCES: [(&str, &str); 10] = [
    ("_dagmar.packets", include_str!("../../../python/dagmar/child/packets.py")),
    ("_dagmar.definition", include_str!("../../../python/dagmar/child/definition.py")),
    ("_dagmar.pickling", include_str!("../../../python/dagmar/child/pickling.py")),
    ("_dagmar.values", include_str!("../../../python/dagmar/child/values.py")),
    ("_dagmar.subgraph", include_str!("../../../python/dagmar/child/subgraph.py")),
    ("_dagmar.blocks", include_str!("../../../python/dagmar/child/blocks.py")),
    ("_dagmar.live", include_str!("../../../python/dagmar/child/live.py")),
    ("_dagmar.caller", include_str!("../../../python/dagmar/child/caller.py")),
    ("_dagmar.template", include_str!("../../../python/dagmar/child/template.py")),
    ("_dagmar", include_str!("../../../python/dagmar/child/__init__.py")),
];

/// Takes the sources from the socket that is its standard input, and becomes them.
const BOOT: &str = "\
import json, socket, sys
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
control = socket.socket(fileno=0)
sources = json.loads(control.recv(1 << 18))
for name, _ in sources:
    sys.modules[name] = module_from_spec(ModuleSpec(name, None, is_package='.' not in name))
for name, source in sources:
    exec(compile(source, '<dagmar>/' + name, 'exec'), sys.modules[name].__dict__)
sys.modules['_dagmar'].serve(control)
";

/// The variable that names another interpreter than `python3`.
const INTERPRETER: &str = "DAGMAR_PYTHON";

/// An interpreter may have to be read from a file system that many ranks read from.
const STARTING: Duration = Duration::from_secs(120);
/// A fork takes some milliseconds.
const FORKING: Duration = Duration::from_secs(30);

/// A running template. Dropping it ends it and all its children.
pub struct Template {
    control: OwnedFd,
    /// None of one that another has forked, which ends with that.
    _keeper: Option<KeeperLink>,
}

#[derive(Serialize)]
struct ForkRequest<'a> {
    environment: std::collections::BTreeMap<&'a str, &'a str>,
    cpus: &'a [u32],
}

impl Template {
    /// Starts an interpreter and waits until it can fork. An error says why there is none.
    pub fn start(spawner: &SpawnerLink) -> Result<Self, String> {
        let program = env::var(INTERPRETER).unwrap_or_else(|_| "python3".to_owned());
        let unusable = |error: io::Error| format!("cannot start `{program}`: {error}");
        let (control, theirs) = pair().map_err(unusable)?;
        let keeper = spawner.keeper().map_err(unusable)?;
        let streams = [theirs.as_fd(), io::stderr().as_fd(), io::stderr().as_fd()]
            .map(|stream| stream.try_clone_to_owned());
        let streams = streams.into_iter().collect::<io::Result<Vec<_>>>().map_err(unusable)?;
        drop(theirs);
        let launch = Launch {
            program: program.clone(),
            arguments: vec!["-c".to_owned(), BOOT.to_owned()],
            environment: environment(),
            directory: "/".to_owned(),
            cpus: Vec::new(),
            memory_bytes: None,
        };
        keeper
            .launch(&launch, [streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()])
            .map_err(unusable)?;
        drop(streams);
        let sources = serde_json::to_vec(&SOURCES).map_err(|error| unusable(error.into()))?;
        send(control.as_fd(), &sources, &[]).map_err(unusable)?;
        let [has_spoken, has_ended] = wait([control.as_fd(), keeper.as_fd()], STARTING);
        let mut room = [0; 4096];
        let spoken = if has_spoken { receive(control.as_fd(), &mut room).map_err(unusable)? } else { None };
        match spoken.map(|(packet, _)| packet) {
            Some([b'R', executable @ ..]) => {
                log::info!("Python functions run in `{}`", String::from_utf8_lossy(executable));
                Ok(Template { control, _keeper: Some(keeper) })
            }
            Some([b'N', why @ ..]) => Err(String::from_utf8_lossy(why).into_owned()),
            _ if !has_spoken && !has_ended => {
                Err(format!("`{program}` did not start within {} s", STARTING.as_secs()))
            }
            _ => Err(match keeper.receive(&mut Room::default()).map_err(unusable)? {
                Some(Reply::NotStarted(why)) => {
                    format!("{why}; `{INTERPRETER}` may name an interpreter")
                }
                _ => format!(
                    "`{program}` ended as soon as it was started; `{INTERPRETER}` may name another interpreter"
                ),
            }),
        }
    }

    /// Another template, which has imported these libraries before it forks anybody. An error says why there is none;
    /// `Unsupported` that there will be none.
    pub fn warm(&self, modules: &[String]) -> io::Result<Self> {
        let (control, theirs) = pair()?;
        let mut packet = vec![b'T'];
        serde_json::to_writer(&mut packet, modules)?;
        send(self.control.as_fd(), &packet, &[theirs.as_fd()])?;
        drop(theirs);
        let [has_spoken] = wait([control.as_fd()], STARTING);
        let mut room = [0; 4096];
        match if has_spoken { receive(control.as_fd(), &mut room)? } else { None } {
            Some(([b'R', ..], _)) => Ok(Template { control, _keeper: None }),
            Some(([b'N', why @ ..], _)) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, String::from_utf8_lossy(why).into_owned()))
            }
            _ => Err(io::Error::other("it does not answer")),
        }
    }

    /// A new child.
    pub fn fork(&self, kind: &Kind) -> io::Result<Child> {
        let (ours, theirs) = pair()?;
        let (side, their_side) = pair()?;
        let (stdout, stdout_end) = pipe_to_read()?;
        let (stderr, stderr_end) = pipe_to_read()?;
        let environment = kind.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let request = ForkRequest { environment: environment.collect(), cpus: &kind.cpus };
        let mut packet = vec![b'F'];
        serde_json::to_writer(&mut packet, &request)?;
        send(
            self.control.as_fd(),
            &packet,
            &[theirs.as_fd(), their_side.as_fd(), stdout_end.as_fd(), stderr_end.as_fd()],
        )?;
        drop((theirs, their_side, stdout_end, stderr_end));
        let [has_spoken] = wait([ours.as_fd()], FORKING);
        let mut room = [0; 64];
        let spoken = if has_spoken { receive(ours.as_fd(), &mut room)? } else { None };
        let Some(([b'H', pid @ ..], _)) = spoken else {
            return Err(io::Error::other("the interpreter does not fork"));
        };
        let pid = pid.try_into().map_err(|_| io::ErrorKind::InvalidData)?;
        let control = self.control.try_clone()?;
        Ok(Child::new((ours, side, stdout, stderr), (i32::from_le_bytes(pid), control), kind.clone()))
    }
}

/// Has a child and all of its session sent a signal, if it still lives.
pub fn signal(control: BorrowedFd<'_>, pid: i32, signal: i32) -> io::Result<()> {
    let mut packet = vec![b'S'];
    packet.extend_from_slice(&pid.to_le_bytes());
    packet.extend_from_slice(&signal.to_le_bytes());
    send(control, &packet, &[])
}

/// Sets of texts are in the same order in all interpreters of a run, unless the user says otherwise.
fn environment() -> Vec<(String, String)> {
    match env::var_os("PYTHONHASHSEED") {
        Some(_) => Vec::new(),
        None => vec![("PYTHONHASHSEED".to_owned(), "0".to_owned())],
    }
}

/// Waits for any of these, at most `limit`.
fn wait<const N: usize>(watched: [BorrowedFd<'_>; N], limit: Duration) -> [bool; N] {
    let mut watched = watched.map(|watched| PollFd::new(watched, PollFlags::POLLIN));
    let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let _ = retry(|| poll(&mut watched, limit));
    watched.map(|watched| watched.any().unwrap_or(false))
}
