//! From a task to what a keeper needs: the command line, the environment and three descriptors.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, OnceLock};

use nix::fcntl::OFlag;

use super::capture::{Capture, pipe_to_read, set_nonblocking};
use super::feed::Feed;
use super::ranks::{self, Hostfile};
use super::staging::Stage;
use crate::core::event::Cause;
use crate::core::id::Attempt;
use crate::core::task::{Body, Command, CommandLine, Stdin, Stream, Text};
use crate::worker::executor::Job;
use crate::worker::files;
use crate::worker::lines::Lines;
use crate::worker::sink::CapturedStream;
use crate::worker::spawner::Launch;

/// A program that is ready to be launched.
pub struct Preparation {
    pub launch: Launch,
    pub stdin: Option<Feed>,
    pub stdout: Option<Capture>,
    pub stderr: Option<Capture>,
    pub hostfile: Option<Hostfile>,
    pub stage: Option<Stage>,
    streams: [Arc<OwnedFd>; 3],
}

impl Preparation {
    /// Makes directories, pipes and texts for an attempt.
    pub fn new(job: &Job) -> Result<Self, Cause> {
        let operation = job.graph.operation(job.task);
        let Body::Command(command) = &operation.body else {
            return Err(Cause::NotStarted("it is not a command".to_owned()));
        };
        files::create_directories(&operation.outputs, job.attempt)?;
        let stage = Stage::make(operation, command, job.attempt, job.fence.clone())?;
        let texts = Texts { attempt: job.attempt, stage: stage.as_ref() };
        let (stdin, stdin_end) = open_stdin(job, command.stdin)?;
        let mut out = Opened::new(job, (command, &texts), CapturedStream::Stdout)?;
        let mut err = Opened::new(job, (command, &texts), CapturedStream::Stderr)?;
        share_file(job, command, &mut out, &mut err)?;
        out.keep(job.keep_value);
        let streams = [stdin_end, out.end, err.end];
        Ok(Preparation {
            launch: launch(job, command, &texts),
            stage,
            stdin,
            stdout: out.capture,
            stderr: err.capture,
            hostfile: Hostfile::write(job)?,
            streams,
        })
    }

    /// What becomes the program's standard streams.
    pub fn streams(&self) -> [BorrowedFd<'_>; 3] {
        self.streams.each_ref().map(|stream| stream.as_fd())
    }
}

/// Texts of a command as its program is given them.
struct Texts<'a> {
    attempt: Attempt,
    stage: Option<&'a Stage>,
}

impl Texts<'_> {
    fn of(&self, text: &Text) -> String {
        let resolved = text.resolve(self.attempt);
        match self.stage {
            Some(stage) => stage.text(&resolved),
            None => resolved.into_owned(),
        }
    }
}

fn launch(job: &Job, command: &Command, texts: &Texts<'_>) -> Launch {
    let (program, arguments) = match &command.line {
        CommandLine::Shell(text) => ("/bin/sh".to_owned(), vec!["-c".to_owned(), texts.of(text)]),
        CommandLine::Arguments(words) => {
            let mut words = words.iter().map(|word| texts.of(word));
            (words.next().unwrap_or_default(), words.collect())
        }
    };
    let directory = texts.of(&command.directory);
    let cpus = job.binding.as_ref().map_or_else(Vec::new, |binding| binding.slot.cpus.clone());
    let memory_bytes = job.graph.options(job.task).resources.memory_bytes;
    let memory_bytes = (memory_bytes > 0).then_some(memory_bytes);
    let environment = environment(job, command, texts);
    Launch { program, arguments, environment, directory, cpus, memory_bytes }
}

/// What is added to the inherited environment. The user's own variables come last and win.
fn environment(job: &Job, command: &Command, texts: &Texts<'_>) -> Vec<(String, String)> {
    let cpus = ranks::cpus_each(job);
    let mut environment = vec![
        ("DAGMAR_KEY".to_owned(), job.graph.key(job.task)),
        ("DAGMAR_ATTEMPT".to_owned(), job.attempt.to_string()),
        ("DAGMAR_CPUS".to_owned(), cpus.to_string()),
        ("OMP_NUM_THREADS".to_owned(), cpus.max(1).to_string()),
    ];
    let memory_bytes = job.graph.options(job.task).resources.memory_bytes;
    if memory_bytes > 0 {
        environment.push(("DAGMAR_MEMORY".to_owned(), memory_bytes.to_string()));
    }
    environment.extend(ranks::environment(job));
    environment.extend(job.binding.iter().flat_map(|binding| binding.environment.iter().cloned()));
    let added = command.environment.iter();
    environment.extend(added.map(|(name, value)| (name.clone(), texts.of(value))));
    environment
}

fn open_stdin(job: &Job, stdin: Stdin) -> Result<(Option<Feed>, Arc<OwnedFd>), Cause> {
    let Stdin::Input(place) = stdin else {
        return Ok((None, nothing_to_read()?));
    };
    let missing = || Cause::NotStarted(format!("its input {place} for standard input is missing"));
    let output = job.inputs.get(place as usize).ok_or_else(missing)?;
    let (theirs, ours) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from).map_err(no_pipe)?;
    set_nonblocking(&ours, true).map_err(no_pipe)?;
    let mut feed = Feed::new(output.clone(), ours)
        .map_err(|why| Cause::NotStarted(format!("its standard input cannot be written: {why}")))?;
    let done = feed.advance();
    Ok(((!done).then_some(feed), Arc::new(theirs)))
}

/// `/dev/null`, opened once for all programs.
fn nothing_to_read() -> Result<Arc<OwnedFd>, Cause> {
    static NOTHING: OnceLock<Arc<OwnedFd>> = OnceLock::new();
    if let Some(nothing) = NOTHING.get() {
        return Ok(nothing.clone());
    }
    let opened = Arc::new(File::open("/dev/null").map_err(not_opened("/dev/null"))?.into());
    Ok(NOTHING.get_or_init(|| opened).clone())
}

/// One of the two streams that a program writes: its end, and ours if it is captured.
struct Opened {
    end: Arc<OwnedFd>,
    capture: Option<Capture>,
}

impl Opened {
    fn new(
        job: &Job,
        (command, texts): (&Command, &Texts<'_>),
        stream: CapturedStream,
    ) -> Result<Self, Cause> {
        let target = match stream {
            CapturedStream::Stdout => &command.stdout,
            CapturedStream::Stderr => &command.stderr,
        };
        match target {
            Stream::Capture => Opened::captured(job, command, stream, false),
            Stream::Forward => Opened::captured(job, command, stream, true),
            Stream::Discard => Opened::file("/dev/null"),
            Stream::File(path) => {
                let path = texts.of(path);
                files::create_parent(&path)?;
                Opened::file(&path)
            }
        }
    }

    fn captured(job: &Job, command: &Command, stream: CapturedStream, forward: bool) -> Result<Self, Cause> {
        let (ours, end) = pipe_to_read().map_err(no_pipe)?;
        let end = Arc::new(end);
        let capture = Capture {
            task: job.task,
            attempt: job.attempt,
            stream,
            limit: command.capture_limit_bytes,
            kept: None,
            line: forward.then(Lines::default),
            size: 0,
            pipe: Some(ours.into()),
            held: Some(end.clone()),
        };
        Ok(Opened { end, capture: Some(capture) })
    }

    /// Opened without blocking, as a FIFO that nobody reads would stop all commands of the rank.
    fn file(path: &str) -> Result<Self, Cause> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let file = options.open(path).map_err(not_opened(path))?;
        set_nonblocking(&file, false).map_err(not_opened(path))?;
        Ok(Opened { end: Arc::new(file.into()), capture: None })
    }

    fn keep(&mut self, keep: bool) {
        if let (Some(capture), true) = (&mut self.capture, keep) {
            capture.kept = Some(Vec::new());
        }
    }
}

/// Two streams into one file share one position in it; otherwise they would overwrite each other.
fn share_file(job: &Job, command: &Command, out: &mut Opened, err: &mut Opened) -> Result<(), Cause> {
    if let (Stream::File(first), Stream::File(second)) = (&command.stdout, &command.stderr)
        && first.resolve(job.attempt) == second.resolve(job.attempt)
    {
        err.end = out.end.clone();
    }
    Ok(())
}

fn not_opened(path: &str) -> impl Fn(io::Error) -> Cause + '_ {
    move |error| Cause::NotStarted(format!("cannot open `{path}`: {error}"))
}

fn no_pipe(error: io::Error) -> Cause {
    Cause::NotStarted(format!("no descriptors for its streams: {error}"))
}
