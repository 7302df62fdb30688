//! What is to be run: read and checked before anything starts, written down when it begins.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::formats::resolve;
use crate::clock;
use crate::core::client::{CLIENT, graph_of_client, is_of_client};
use crate::core::event::Outcome;
use crate::core::graph::Graph;
use crate::core::id::Rank;
use crate::core::scheduler::Persist;
use crate::launch::units;
use crate::observe::snapshot::State;
use crate::record::description::Description;
use crate::record::layout::{LayoutError, RunDirectory};
use crate::record::mailbox::Mailbox;
use crate::record::outcome::Finished;
use crate::record::pack_reader::PackReader;
use crate::record::resume::OnDamage;
use crate::record::{edits, packed, publish};
use crate::runtime::beginning;
use crate::runtime::cluster::Plan;
use crate::runtime::edited::{self, TakenOver};
use crate::runtime::exit;
use crate::runtime::left_outputs::lost_output;
use crate::runtime::logger;
use crate::runtime::serving::{Visitors, Waiting};
use crate::runtime::start::StartError;

use super::failure::Failure;
use super::flags::{PersistFlag, ResumeFlags, RunFlags, SourceFlags, SubmitFlags};
use super::output::tell;
use super::past_run::PastRun;
use super::{run, source, values};

/// What is to be run, and where its run directory shall be.
pub struct Preparation {
    /// The graph and what is wanted of it.
    pub plan: Plan,
    /// What was asked for, as it was typed.
    pub keys: Vec<String>,
    /// Where its client comes from, if its tasks come from one that is not there yet.
    pub client: Option<ClientOrigin>,
    /// The file the graph came from.
    file: Option<PathBuf>,
    place: Place,
}

/// Where a run's client comes from.
pub enum ClientOrigin {
    /// It is a Python script that is started with the run.
    Script {
        /// The script.
        path: PathBuf,
        /// What it is told.
        arguments: Vec<String>,
        /// Where it works.
        place: PathBuf,
    },
    /// Anybody who may comes through a door. The run goes on without for so long.
    Door {
        /// How long.
        patience: Duration,
    },
}

/// Where a run writes.
enum Place {
    /// Into a new directory below the current one.
    New,
    /// Into a directory that the user chose.
    At(PathBuf),
    /// Into the one that `submit` made.
    Submitted(RunDirectory),
    /// Into the one that earlier processes of the run left.
    Resumed { directory: RunDirectory, is_launched: bool },
    /// The same, with another graph than they had.
    Edited(RunDirectory),
}

/// How it shall be run.
struct Wishes {
    persist: Persist,
    max_fails: Option<u32>,
    crash_limit: u32,
    if_missing: bool,
}

impl Preparation {
    /// What `dagmar run` was asked for.
    pub fn of_run(flags: &RunFlags) -> Result<Self, Failure> {
        let SourceFlags { graph, commands, each, each_line, .. } = &flags.source;
        let has_source = graph.is_some() || commands.is_some() || each.is_some() || each_line.is_some();
        if let Some(socket) = &flags.client {
            let unreachable = |error| {
                let message = format!("cannot reach the client at `{}`: {error}", socket.display());
                Failure::usage(message)
                    .hint("it is the package `dagmar` for Python that starts dagmar so".to_owned())
            };
            let stream = UnixStream::connect(socket).map_err(unreachable)?;
            let place = flags.into.clone().map_or(Place::New, Place::At);
            let name = flags.name.as_deref().unwrap_or("python");
            let mut preparation = Self::of_client(&flags.source, name, place)?;
            preparation.plan.client = Some(Arc::new(Waiting::new(Visitors::Here(stream))));
            return Ok(preparation);
        }
        if let Some(path) = graph.as_deref().filter(|path| is_script(path)) {
            let place = flags.into.clone().map_or(Place::New, Place::At);
            return Self::of_script(&flags.source, path, place);
        }
        match &flags.into {
            Some(path) if !has_source => Self::of_submitted(path),
            Some(path) => Self::read(&flags.source, Place::At(path.clone())),
            None => Self::read(&flags.source, Place::New),
        }
    }

    /// True if `dagmar launch` started this process and looks after the outcome.
    pub fn is_launched(&self) -> bool {
        matches!(self.place, Place::Submitted(_) | Place::Resumed { is_launched: true, .. })
    }

    /// Tells `dagmar launch` that the run cannot go on.
    pub fn refuse(&self, exit_code: u8) {
        match &self.place {
            Place::Submitted(directory) | Place::Resumed { directory, is_launched: true } => {
                refuse(directory, exit_code);
            }
            _ => {}
        }
    }

    /// What `dagmar submit` was asked for.
    pub fn of_submit(flags: &SubmitFlags) -> Result<Self, Failure> {
        let SubmitFlags { source, client, allocation, idle_timeout, .. } = flags;
        if *client {
            let patience = units::seconds(idle_timeout).map_err(|error| {
                Failure::usage(format!("cannot understand `--idle-timeout {idle_timeout}`: {error}"))
            })?;
            let name = allocation.job_name.as_deref().unwrap_or("session");
            let mut preparation = Self::of_client(source, name, Place::New)?;
            preparation.client = Some(ClientOrigin::Door { patience: Duration::from_secs(patience) });
            return Ok(preparation);
        }
        match source.graph.as_deref().filter(|path| is_script(path)) {
            Some(path) => Self::of_script(source, path, Place::New),
            None => Self::read(source, Place::New),
        }
    }

    /// True if a process is to be started for the client.
    pub fn has_script(&self) -> bool {
        matches!(self.client, Some(ClientOrigin::Script { .. }))
    }

    /// True if its tasks come from a client.
    pub fn has_client(&self) -> bool {
        is_of_client(&self.plan.graph)
    }

    fn read(flags: &SourceFlags, place: Place) -> Result<Self, Failure> {
        let graph = source::find(flags)?;
        let (keys, file) = (flags.keys.clone(), flags.graph.clone());
        let SourceFlags { max_fails, crash_limit, if_missing, .. } = *flags;
        let wishes = Wishes { persist: persist(flags)?, max_fails, crash_limit, if_missing };
        Self::new(graph, keys, wishes, file, place)
    }

    /// The run that `submit` prepared in a directory.
    fn of_submitted(path: &std::path::Path) -> Result<Self, Failure> {
        let directory = RunDirectory::open_unused(path).map_err(refused)?;
        Self::of_directory(&directory, Place::Submitted(directory.clone()))
    }

    /// What is left of a run.
    pub fn of_resumed(flags: &ResumeFlags) -> Result<Self, Failure> {
        let found = RunDirectory::find(flags.run.as_deref(), &source::current_directory()?);
        let directory = found.map_err(refused)?;
        if !directory.graph_of(0).exists() {
            let message = format!("cannot resume `{}`: it has no graph of its own", directory.name());
            let hint = "a program that uses dagmar as a library is started again as a whole";
            return Err(Failure::usage(message).hint(hint.to_owned()));
        }
        refuse_lost_journal(&directory)?;
        let directory = edits::with_edits(directory).map_err(|error| Failure::broken(error.to_string()))?;
        let place = Place::Resumed { directory: directory.clone(), is_launched: flags.launched };
        let mut preparation = Self::of_directory(&directory, place)?;
        if flags.skip_damage {
            preparation.plan.on_damage = OnDamage::GoOn;
        }
        preparation.plan.max_fails = flags.max_fails.or(preparation.plan.max_fails);
        preparation.plan.crash_limit = flags.crash_limit.unwrap_or(preparation.plan.crash_limit);
        if is_of_client(&preparation.plan.graph) {
            let message =
                format!("cannot resume `{}`: its tasks came from a program, which is over", directory.name());
            return Err(Failure::usage(message).hint("start the script again".to_owned()));
        }
        if let Some(path) = &flags.graph {
            return preparation.with_graph(path, &flags.keys, directory);
        }
        let finished = Finished::read(&directory.finished());
        let finished = finished.map_err(|error| Failure::broken(error.to_string()))?;
        let is_done = finished.is_some_and(|finished| finished.outcome == Outcome::Done);
        if is_done && preparation.print_again(&directory, flags.here.quiet)? {
            return Err(Failure::new(exit::DONE, format!("{} is done already", directory.name())));
        }
        Ok(preparation)
    }

    /// What was asked for by name, of a run that is done. False if some of it is lost: then nothing is printed.
    fn print_again(&self, directory: &RunDirectory, quiet: bool) -> Result<bool, Failure> {
        let Preparation { plan, keys, .. } = self;
        if keys.is_empty() {
            return Ok(true);
        }
        let graph = plan.graph.clone();
        let past = PastRun { directory: directory.clone(), graph, place: directory.clone() };
        let events = past.events()?;
        // What is lost of the journal says nothing; a task that was skipped is told.
        let state = |task| match events.snapshot().state(task) {
            State::Skipped => State::Skipped,
            _ => State::Finished,
        };
        let packs = PackReader::of_run(directory).map_err(|error| Failure::broken(error.to_string()))?;
        let is_lost =
            |task| state(task) == State::Finished && lost_output(&plan.graph, &packs, task).is_some();
        if plan.asked.iter().any(is_lost) {
            return Ok(false);
        }
        let skipped = values::print(&plan.graph, directory, (keys, &plan.asked), state)?;
        if !quiet {
            values::tell_skipped(&plan.graph, &skipped);
        }
        Ok(true)
    }

    /// The same run with another graph. The keys that it was begun with are asked for again, as far as they are still
    /// there, unless others are named.
    fn with_graph(self, path: &Path, keys: &[String], directory: RunDirectory) -> Result<Self, Failure> {
        let graph = source::read(path)?;
        let (name, other) = (self.plan.graph.name(), graph.name());
        if name != other {
            let message = format!(
                "cannot resume `{}` with `{}`: that is the graph `{other}`, and this is a run of `{name}`",
                directory.name(),
                path.display()
            );
            let hint = format!(
                "`dagmar run {}` begins a run of it; or write `name = \"{name}\"` into it: a graph without a name has its file's",
                path.display()
            );
            return Err(Failure::usage(message).hint(hint));
        }
        let is_there = |key: &&String| resolve(&graph, std::slice::from_ref(*key)).is_ok();
        let keys: Vec<String> = match keys {
            [] => self.keys.iter().filter(is_there).cloned().collect(),
            keys => keys.to_vec(),
        };
        let persist = match self.plan.persist {
            Persist::None if !keys.is_empty() => return Err(not_persisted(&keys)),
            Persist::Kept if !keys.is_empty() => Persist::Asked,
            persist => persist,
        };
        // Files are looked at if no task was begun yet; else what changed runs whether they are there or not.
        let Plan { max_fails, crash_limit, if_missing, on_damage, .. } = self.plan;
        let wishes = Wishes { persist, max_fails, crash_limit, if_missing };
        let mut edited = Self::new(graph, keys, wishes, Some(path.to_owned()), Place::Edited(directory))?;
        edited.plan.on_damage = on_damage;
        Ok(edited)
    }

    /// The graph in a run directory, and what was asked of it.
    fn of_directory(directory: &RunDirectory, place: Place) -> Result<Self, Failure> {
        let damaged =
            |what: PathBuf, why: String| Failure::broken(format!("cannot read `{}`: {why}", what.display()));
        let description = Description::read(&directory.description());
        let description = description.map_err(|error| damaged(directory.description(), error.to_string()))?;
        let graph = packed::open(&directory.graph());
        let graph = graph.map_err(|error| damaged(directory.graph(), error.to_string()))?;
        let client = client_of(&description);
        let Description { mut keys, mut persist, graph: file, .. } = description;
        let Description { max_fails, crash_limit, if_missing, .. } = description;
        if let Some(edit) = directory.lineage().edits().last() {
            keys.clone_from(&edit.keys);
            if persist == Persist::Kept && !keys.is_empty() {
                persist = Persist::Asked;
            }
        }
        let wishes = Wishes { persist, max_fails, crash_limit, if_missing };
        let mut preparation = Self::new(graph, keys, wishes, file, place)?;
        if client.is_some() {
            preparation.plan.asked = (&[CLIENT]).into();
        }
        Ok(Preparation { client, ..preparation })
    }

    fn new(
        graph: Graph,
        keys: Vec<String>,
        wishes: Wishes,
        file: Option<PathBuf>,
        place: Place,
    ) -> Result<Self, Failure> {
        let asked =
            resolve(&graph, &keys).map_err(|error| Failure::usage(error.to_string()).hint(error.hint()))?;
        let resumes = matches!(place, Place::Resumed { .. } | Place::Edited(_));
        let Wishes { persist, max_fails, crash_limit, if_missing } = wishes;
        let (graph, on_damage) = (Arc::new(graph), OnDamage::Refuse);
        let prints = !keys.is_empty();
        let client = None;
        let plan = Plan {
            graph,
            asked,
            prints,
            persist,
            max_fails,
            crash_limit,
            resumes,
            if_missing,
            on_damage,
            client,
        };
        Ok(Preparation { plan, keys, client: None, file, place })
    }

    /// A run whose tasks a script submits, which is started with it.
    fn of_script(flags: &SourceFlags, path: &Path, place: Place) -> Result<Self, Failure> {
        let path = match path.canonicalize() {
            Ok(path) if path.is_file() => path,
            _ => return Err(Failure::usage(format!("cannot find the script `{}`", path.display()))),
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let mut preparation = Self::of_client(flags, &name, place)?;
        let arguments = flags.keys.iter().chain(&flags.command).cloned().collect();
        let place = source::current_directory()?;
        preparation.client = Some(ClientOrigin::Script { path, arguments, place });
        Ok(preparation)
    }

    /// A run whose tasks a client submits.
    fn of_client(flags: &SourceFlags, name: &str, place: Place) -> Result<Self, Failure> {
        let directory = source::current_directory()?;
        let graph = graph_of_client(name, &directory.to_string_lossy());
        let SourceFlags { max_fails, crash_limit, if_missing, .. } = *flags;
        // What is asked for is the client's to say.
        let persist = persist(&SourceFlags { keys: Vec::new(), ..flags.clone() })?;
        let wishes = Wishes { persist, max_fails, crash_limit, if_missing };
        let mut preparation = Self::new(graph, Vec::new(), wishes, None, place)?;
        preparation.plan.asked = (&[CLIENT]).into();
        Ok(preparation)
    }

    /// Makes the run directory with everything that is known beforehand, and logs there from now on. A run that
    /// was begun before is taken first: another process may be at work on it.
    pub fn begin(&self) -> Result<(RunDirectory, Option<TakenOver>), Failure> {
        let not_taken = |error| run::refused(StartError::Scheduler(error));
        if let Place::Resumed { directory, .. } | Place::Edited(directory) = &self.place {
            beginning::doubt(directory).iter().for_each(|doubt| tell(doubt));
        }
        let (directory, taken) = match &self.place {
            Place::Submitted(directory) => (directory.clone(), None),
            Place::Resumed { directory, .. } => {
                let taken = edited::take(directory).map_err(not_taken)?;
                (directory.clone(), Some(taken))
            }
            Place::Edited(directory) => {
                let taken = edited::take_with(directory.clone(), &self.plan.graph, &self.keys);
                let (directory, taken) = taken.map_err(not_taken)?;
                (directory, Some(taken))
            }
            Place::New | Place::At(_) => (self.make_directory()?, None),
        };
        let write = || -> io::Result<()> {
            logger::start(&directory.log(Rank::SCHEDULER))?;
            match self.place {
                Place::Submitted(_) | Place::Resumed { is_launched: true, .. } => restate(&directory),
                Place::Resumed { .. } | Place::Edited(_) => {
                    // Orders to stop were meant for the processes that have ended.
                    Mailbox::new(directory.control()).collect()?;
                    restate(&directory)
                }
                _ => self.write_into(&directory),
            }
        };
        write().map_err(not_written(&directory))?;
        Ok((directory, taken))
    }

    /// Makes the run directory for a job that begins later, in another process.
    pub fn set_down(&self) -> Result<RunDirectory, Failure> {
        let directory = self.make_directory()?;
        self.write_into(&directory).map_err(not_written(&directory))?;
        Ok(directory)
    }

    fn make_directory(&self) -> Result<RunDirectory, Failure> {
        let made = match &self.place {
            Place::At(path) => RunDirectory::create_at(path),
            _ => RunDirectory::create(&source::current_directory()?, self.plan.graph.name()),
        };
        made.map_err(refused)
    }

    fn write_into(&self, directory: &RunDirectory) -> io::Result<()> {
        let write = |file: &mut std::fs::File| packed::write(&self.plan.graph, io::BufWriter::new(file));
        publish::publish_with(&directory.graph(), write)?;
        let mut description = Description::of_this_process(directory.name(), clock::now());
        description.graph = self.file.clone();
        description.keys = self.keys.clone();
        (description.persist, description.max_fails) = (self.plan.persist, self.plan.max_fails);
        description.crash_limit = self.plan.crash_limit;
        description.if_missing = self.plan.if_missing;
        match &self.client {
            Some(ClientOrigin::Script { path, arguments, .. }) => {
                let words = [path.to_string_lossy().into_owned()];
                description.script = words.into_iter().chain(arguments.iter().cloned()).collect();
            }
            Some(ClientOrigin::Door { patience }) => {
                description.waits_for_clients_s = Some(patience.as_secs());
            }
            None => {}
        }
        description.write(&directory.description())
    }
}

/// Where the client of a run comes from that was submitted with one.
fn client_of(description: &Description) -> Option<ClientOrigin> {
    if let [path, arguments @ ..] = &description.script[..] {
        let (arguments, place) = (arguments.to_vec(), description.directory.clone());
        return Some(ClientOrigin::Script { path: path.into(), arguments, place });
    }
    let patience = description.waits_for_clients_s.map(Duration::from_secs)?;
    Some(ClientOrigin::Door { patience })
}

/// True for what is read by Python.
fn is_script(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "py")
}

/// What `--persist` says, or else: with what was asked for by name, which is printed in the end.
fn persist(flags: &SourceFlags) -> Result<Persist, Failure> {
    Ok(match flags.persist {
        Some(PersistFlag::None) if !flags.keys.is_empty() => {
            return Err(not_persisted(&flags.keys));
        }
        Some(PersistFlag::None) => Persist::None,
        Some(PersistFlag::Asked) => Persist::Asked,
        Some(PersistFlag::All) => Persist::All,
        None if flags.keys.is_empty() => Persist::Kept,
        None => Persist::Asked,
    })
}

fn not_persisted(keys: &[String]) -> Failure {
    let message = format!("cannot print `{}` with `--persist none`", keys.join("`, `"));
    let hint = "what is printed is taken from the run directory; leave one of the two away";
    Failure::usage(message).hint(hint.to_owned())
}

/// A run without a journal has not begun, unless tasks of it left something: then nothing says which of them ran.
fn refuse_lost_journal(directory: &RunDirectory) -> Result<(), Failure> {
    if directory.journal().exists() || directory.has_events() {
        return Ok(());
    }
    let packs = PackReader::of_run(directory).map_err(|error| Failure::broken(error.to_string()))?;
    if packs.latest_attempts().next().is_none() && !directory.may_be_edited() {
        return Ok(());
    }
    let (name, path) = (directory.name(), directory.journal());
    let message = format!(
        "cannot resume `{name}`: its journal `{}` is gone, and outputs of its tasks are there",
        path.display()
    );
    let hint = format!(
        "put it back if there is a copy; else `dagmar run` begins anew, and `dagmar logs {name} KEY` shows what was printed"
    );
    Err(Failure::broken(message).hint(hint))
}

/// Tells `dagmar launch`, to which launchers lie, that the run in this directory cannot go on: to start it again is
/// of no use.
pub fn refuse(directory: &RunDirectory, exit_code: u8) {
    if [exit::USAGE, exit::BROKEN].contains(&exit_code) {
        // If this cannot be written, it is started a few times in vain.
        let _ = publish::publish(&directory.refusal(), exit_code.to_string().as_bytes());
    }
}

/// What the submitting process could not know: where rank 0 is, and in which job.
fn restate(directory: &RunDirectory) -> io::Result<()> {
    let here = Description::of_this_process(directory.name(), clock::now());
    let mut description = Description::read(&directory.description())?;
    description.host = here.host;
    description.started = here.started;
    description.batch = here.batch;
    description.write(&directory.description())
}

/// A run directory that cannot be had.
pub fn refused(error: LayoutError) -> Failure {
    Failure::usage(error.to_string()).hint(error.hint())
}

/// A run directory that cannot be written to.
pub fn not_written(directory: &RunDirectory) -> impl Fn(io::Error) -> Failure {
    let shown = directory.path().display().to_string();
    move |error| Failure::broken(format!("cannot write the run directory `{shown}`: {error}"))
}
