//! `dagmar attach`: connects whoever starts it with a live run that waits for clients.
//!
//! Bytes go through as they are, so it is a way to the run's socket from wherever a process can be started on the
//! run's node: there directly, from elsewhere by a step of the job, or by ssh. What such a process prints comes in
//! pieces that each end with a line end: Slurm keeps back whatever follows the last one.

use std::env;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::launch::script::quote;
use crate::record::description::Description;
use crate::record::layout::RunDirectory;
use crate::record::outcome::Finished;
use crate::record::rendezvous::Rendezvous;
use crate::record::submission::Submission;
use crate::runtime::exit;

use super::failure::Failure;
use super::flags::AttachFlags;
use super::job_watch::JobWatch;
use super::output::tell;
use super::past_run::PastRun;
use super::preparation::not_written;
use super::{CommandResult, OK};

/// How often to look whether the run has begun.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Bytes that go through at once.
const ROOM_BYTES: usize = 1 << 18;

/// Connects standard input and output with a run.
pub fn run(flags: &AttachFlags) -> CommandResult {
    let directory = PastRun::directory(flags.run.as_deref())?;
    let found = wait_for(&directory)?;
    match connect(&found, flags.here) {
        Some(Ok(stream)) => pass_through(&stream, flags.here).map(|()| OK).map_err(broken),
        Some(Err(error)) => Err(unreachable(&directory, &found, &error)),
        None => bridge(&directory, &found),
    }
}

/// Waits until the run waits for clients.
fn wait_for(directory: &RunDirectory) -> Result<Rendezvous, Failure> {
    let name = directory.name();
    let description = Description::read(&directory.description()).map_err(not_written(directory))?;
    if description.waits_for_clients_s.is_none() {
        let message = format!("cannot attach to `{name}`: it waits for no clients");
        return Err(
            Failure::usage(message).hint("`dagmar submit --client` begins a run that does".to_owned())
        );
    }
    let mut job = JobWatch::new(directory)?;
    loop {
        let finished = Finished::read(&directory.finished());
        if finished.map_err(|error| Failure::broken(error.to_string()))?.is_some() {
            return Err(Failure::usage(format!("cannot attach to `{name}`: it is over")));
        }
        let found = Rendezvous::read(&directory.rendezvous());
        if let Some(found) = found.map_err(|error| Failure::broken(error.to_string()))? {
            return Ok(found);
        }
        if let Some(news) = job.ask()? {
            tell(&format!("{name}: {news}"));
        }
        if job.is_long_over() {
            return Err(Failure::new(
                exit::REFUSED,
                format!("cannot attach to `{name}`: its job ended before it began"),
            )
            .hint(format!("what it printed: `{}`", directory.batch_output().display())));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The run's socket, if it is on this host: a job may have a folder for temporary files that only itself sees.
fn connect(found: &Rendezvous, is_here: bool) -> Option<io::Result<UnixStream>> {
    let host = hostname::get().unwrap_or_default();
    let is_seen = host.to_string_lossy() == found.host.as_str() && found.socket.exists();
    (is_here || is_seen).then(|| UnixStream::connect(&found.socket))
}

fn unreachable(directory: &RunDirectory, found: &Rendezvous, error: &io::Error) -> Failure {
    let (name, socket) = (directory.name(), found.socket.display());
    Failure::new(
        exit::RANK_LOST,
        format!("cannot attach to `{name}`: `{socket}` on `{}`: {error}", found.host),
    )
    .hint(format!("`dagmar status {name}` tells whether it still runs"))
}

/// Starts a process that is the same on the run's node, and passes on what that says.
fn bridge(directory: &RunDirectory, found: &Rendezvous) -> CommandResult {
    let program = env::current_exe().map_err(broken)?;
    let submission = Submission::read(&directory.submission());
    let submission = submission.map_err(|error| Failure::broken(error.to_string()))?;
    let job = submission.filter(|it| it.system == "slurm").and_then(|it| it.jobs.last().cloned());
    let mut command = match job {
        Some(job) => {
            let mut command = Command::new("srun");
            command.args(["--overlap", "--nodes=1", "--ntasks=1", "--quiet", "--mpi=none", "--jobid"]);
            // The number without the array or the cluster.
            command.arg(job.split([';', '.', '_']).next().unwrap_or_default());
            command.arg(format!("--nodelist={}", found.node.as_ref().unwrap_or(&found.host)));
            command
        }
        None => {
            let mut command = Command::new("ssh");
            command.args(["-T", "-o", "BatchMode=yes", &found.host]);
            command
        }
    };
    let words = [program.as_path(), Path::new("attach"), Path::new("--here"), directory.path()];
    // What ssh is given goes through a shell.
    let is_quoted = command.get_program() == "ssh";
    command.args(words.map(|word| match is_quoted {
        true => quote(&word.to_string_lossy()).into(),
        false => word.as_os_str().to_owned(),
    }));
    let with = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| {
        Failure::new(exit::REFUSED, format!("cannot reach `{}` with `{with}`: {why}", found.host))
    };
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| failed(error.to_string()))?;
    let mut from = child.stdout.take().expect("it is a pipe");
    // If nobody takes it any more, nobody is there who could be told.
    while let Ok(Some(piece)) = read_piece(&mut from) {
        let mut to = io::stdout().lock();
        if to.write_all(&piece).and_then(|()| to.flush()).is_err() {
            break;
        }
    }
    drop(from);
    let status = child.wait().map_err(broken)?;
    if status.success() { Ok(OK) } else { Err(failed(status.to_string())) }
}

/// A piece of what the run says, its length, and a line end.
fn write_piece(to: &mut impl Write, piece: &[u8]) -> io::Result<()> {
    let length = (piece.len() as u32).to_le_bytes();
    to.write_all(&[&length[..], piece, b"\n"].concat())?;
    to.flush()
}

/// The next piece. None once there are no more.
fn read_piece(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > ROOM_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it says something else"));
    }
    let mut piece = vec![0; length + 1];
    from.read_exact(&mut piece)?;
    piece.pop();
    Ok(Some(piece))
}

/// Passes what comes to the run, and what the run says back, until it is gone.
fn pass_through(stream: &UnixStream, is_in_pieces: bool) -> io::Result<()> {
    let mut to = stream.try_clone()?;
    thread::Builder::new().name("input".to_owned()).spawn(move || {
        let _ = copy(&mut io::stdin().lock(), |piece| to.write_all(piece));
        // Whoever started this is gone, or has said all.
        let _ = to.shutdown(Shutdown::Write);
    })?;
    let mut to = io::stdout().lock();
    let mut from = stream;
    match is_in_pieces {
        true => copy(&mut from, |piece| write_piece(&mut to, piece)),
        false => copy(&mut from, |piece| to.write_all(piece).and_then(|()| to.flush())),
    }
}

fn copy(from: &mut impl Read, mut put: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut room = vec![0; ROOM_BYTES];
    loop {
        match from.read(&mut room) {
            Ok(0) => return Ok(()),
            Ok(length) => put(&room[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn broken(error: io::Error) -> Failure {
    Failure::broken(format!("cannot pass on what comes: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_arrive_whole_whatever_is_in_them() {
        let mut line = Vec::new();
        for piece in [&b"a\nb"[..], b"", b"\n\0"] {
            write_piece(&mut line, piece).unwrap();
            assert_eq!(line.last(), Some(&b'\n'));
        }
        let mut from = &line[..];
        let mut next = || read_piece(&mut from).unwrap();
        assert_eq!(
            [next(), next(), next(), next()],
            [Some(b"a\nb".to_vec()), Some(vec![]), Some(b"\n\0".to_vec()), None]
        );
        assert!(read_piece(&mut &b"Welcome to n042!\n"[..]).is_err());
    }
}
