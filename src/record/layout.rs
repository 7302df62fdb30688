//! The run directory: where it is, what is in it, and how a user's word finds it.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::core::edit::Lineage;
use crate::core::id::{Attempt, Rank, TaskId};

use super::publish::create_private_directory;
use super::segment::{last_segment, path_of};

/// The directory that holds the runs of a project.
pub const RUNS: &str = "dagmar-runs";

/// Longest graph name in a directory's name, in bytes; file systems end at 255.
const NAME_BYTES_MAX: usize = 100;

/// The sub-directories of every run.
const PARTS: [&str; 3] = ["output", "control", "logs"];

/// One run's directory: `dagmar-runs/NAME-0001`. Knows the paths of all that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory {
    path: PathBuf,
    /// The edits of the run, as far as whoever has this was told: see `edits`.
    lineage: Arc<Lineage>,
}

/// Why there is no run directory to work with.
#[derive(Debug)]
pub enum LayoutError {
    /// The directory cannot be made, or not be looked into.
    Io(PathBuf, io::Error),
    /// No run of that name: the name, where was looked, and the runs that are there.
    NotFound(String, PathBuf, Vec<String>),
    /// No run at all in this directory.
    NoRuns(PathBuf),
    /// The directory is there but holds no run.
    NotARun(PathBuf),
    /// A new run cannot have this directory, for it holds one.
    Used(PathBuf),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Io(path, error) => {
                write!(out, "cannot use the run directory `{}`: {error}", path.display())
            }
            LayoutError::NotFound(name, place, _) => {
                write!(out, "there is no run `{name}` in `{}`", place.display())
            }
            LayoutError::NoRuns(place) => write!(out, "there are no runs in `{}`", place.display()),
            LayoutError::NotARun(path) => write!(out, "`{}` is not a run directory", path.display()),
            LayoutError::Used(path) => write!(out, "`{}` holds a run already", path.display()),
        }
    }
}

impl std::error::Error for LayoutError {}

impl LayoutError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            LayoutError::Io(..) => None,
            LayoutError::NotFound(_, _, here) if here.is_empty() => Some("no run is there at all".into()),
            LayoutError::NotFound(name, _, here) => Some(name_runs(name, here)),
            LayoutError::NoRuns(_) => Some(
                "name a run directory, or go to the directory where `dagmar run` or `submit` was called"
                    .into(),
            ),
            LayoutError::NotARun(_) => Some("a run directory contains `run.toml`".into()),
            LayoutError::Used(_) => {
                Some("`--into` takes a directory that was not run in; `dagmar submit` makes one".into())
            }
        }
    }
}

/// The nearest name if one is near, and the latest few.
fn name_runs(wanted: &str, here: &[String]) -> String {
    let nearest = here.iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let nearest = nearest.max_by(|one, other| one.0.total_cmp(&other.0)).filter(|(score, _)| *score > 0.8);
    let latest: Vec<_> = here.iter().take(5).map(|name| format!("`{name}`")).collect();
    let more = if here.len() > 5 { ", ..." } else { "" };
    let listed = format!("the latest here: {}{more}", latest.join(", "));
    nearest.map_or(listed.clone(), |(_, name)| format!("the nearest name is `{name}`; {listed}"))
}

impl RunDirectory {
    /// Makes the directory of a new run below `root/dagmar-runs`, with the next free number.
    pub fn create(root: &Path, graph_name: &str) -> Result<Self, LayoutError> {
        let runs = root.join(RUNS);
        fs::create_dir_all(&runs).map_err(|error| LayoutError::Io(runs.clone(), error))?;
        let name = safe_name(graph_name);
        let mut number = last_number(&runs, &name).map_err(|error| LayoutError::Io(runs.clone(), error))? + 1;
        loop {
            let path = runs.join(format!("{name}-{number:04}"));
            match create_private_directory(&path) {
                Ok(()) => return Self::initialise(&path),
                // Somebody else took the number since.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(LayoutError::Io(path, error)),
            }
        }
    }

    /// Where `create` would make the next run's directory.
    pub fn next(root: &Path, graph_name: &str) -> PathBuf {
        let (runs, name) = (root.join(RUNS), safe_name(graph_name));
        let last = last_number(&runs, &name).unwrap_or(0);
        runs.join(format!("{name}-{:04}", last + 1))
    }

    /// Makes this directory into that of a new run. It may exist, as it does when a job script was
    /// put there, but must not have been run in.
    pub fn create_at(path: &Path) -> Result<Self, LayoutError> {
        let was_used =
            ["journal", "finished", "computes", "graph.dagmar"].iter().any(|part| path.join(part).exists());
        if was_used {
            return Err(LayoutError::Used(path.to_owned()));
        }
        Self::initialise(path)
    }

    /// The directory that `submit` made for a run, which has not begun yet.
    pub fn open_unused(path: &Path) -> Result<Self, LayoutError> {
        let directory = Self::open(path)?;
        match directory.has_begun() {
            true => Err(LayoutError::Used(path.to_owned())),
            false => Ok(directory),
        }
    }

    /// Makes visible what another host has written here: NFS remembers for up to a minute that a name was not there,
    /// and asks its server only when something is opened.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn look_again(&self) -> io::Result<()> {
        [self.path.clone(), self.control()].iter().try_for_each(|place| fs::File::open(place).map(drop))
    }

    /// True once rank 0 has written anything.
    pub fn has_begun(&self) -> bool {
        self.journal().exists() || self.finished().exists() || self.computes().exists()
    }

    /// True once there is anything in the journal to read: rank 0 makes its segment before it has anything to say.
    pub fn has_events(&self) -> bool {
        let journal = self.journal();
        let is_begun = fs::metadata(&journal).is_ok_and(|file| file.len() > 0);
        is_begun || last_segment(&journal).is_ok_and(|last| last > 1)
    }

    /// Moves what an earlier start of this run left into `earlier-N`, so that the run can begin
    /// anew. Graph, plan and job stay.
    pub fn set_aside(&self) -> Result<PathBuf, LayoutError> {
        let free =
            (1..).map(|number| self.path.join(format!("earlier-{number}"))).find(|path| !path.exists());
        let aside = free.expect("some number is free");
        make_directory(&aside)?;
        let refused = |part: &Path, error| LayoutError::Io(self.path.join(part), error);
        let parts =
            ["output", "control", "logs", "finished", "computes", "lease", "client.toml"].map(PathBuf::from);
        // The journal last, and its beginning after all: while that is there, the run has begun, and
        // this can be done again.
        let last = last_segment(&self.journal()).map_err(|error| refused(Path::new("journal"), error))?;
        let segments = (1..=last).rev().map(|number| path_of(Path::new("journal"), number));
        for part in parts.into_iter().chain(segments) {
            match fs::rename(self.path.join(&part), aside.join(&part)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(refused(&part, error));
                }
                _ => {}
            }
        }
        Self::initialise(&self.path)?;
        Ok(aside)
    }

    /// Makes a directory that exists, or this one, into a run directory; does nothing to one that
    /// is a run directory already.
    pub fn initialise(path: &Path) -> Result<Self, LayoutError> {
        make_directory(path)?;
        let path = path.canonicalize().map_err(|error| LayoutError::Io(path.to_owned(), error))?;
        PARTS.iter().try_for_each(|part| make_directory(&path.join(part)))?;
        Ok(RunDirectory { path, lineage: Arc::default() })
    }

    /// The run directory at this path.
    pub fn open(path: &Path) -> Result<Self, LayoutError> {
        let full = path.canonicalize().map_err(|error| LayoutError::Io(path.to_owned(), error))?;
        match is_run(&full) {
            true => Ok(RunDirectory { path: full, lineage: Arc::default() }),
            false => Err(LayoutError::NotARun(path.to_owned())),
        }
    }

    /// The run that a user means: a name below `cwd/dagmar-runs`, a path, or with no argument the
    /// latest below `cwd/dagmar-runs`.
    pub fn find(argument: Option<&str>, cwd: &Path) -> Result<Self, LayoutError> {
        let runs = cwd.join(RUNS);
        let Some(argument) = argument else {
            let latest = runs_by_age(&runs).into_iter().next();
            return Self::open(&runs.join(latest.ok_or(LayoutError::NoRuns(runs.clone()))?));
        };
        let is_name = !argument.contains('/') && is_run(&runs.join(argument));
        if is_name {
            return Self::open(&runs.join(argument));
        }
        let path = cwd.join(argument);
        match path.is_dir() {
            true => Self::open(&path),
            false => Err(LayoutError::NotFound(argument.to_owned(), runs.clone(), runs_by_age(&runs))),
        }
    }

    /// The same directory, of a run that had these edits.
    pub fn with_lineage(self, lineage: Arc<Lineage>) -> Self {
        RunDirectory { lineage, ..self }
    }

    /// The edits of the run.
    pub fn lineage(&self) -> &Arc<Lineage> {
        &self.lineage
    }

    /// The directory itself, an absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's name: `NAME-0001`.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The description of the run.
    pub fn description(&self) -> PathBuf {
        self.path.join("run.toml")
    }

    /// The batch jobs that it was handed to; missing if it was started by hand.
    pub fn submission(&self) -> PathBuf {
        self.path.join("batch.toml")
    }

    /// How its ranks are started in an allocation; missing if it was started by hand.
    pub fn launch_plan(&self) -> PathBuf {
        self.path.join("launch.toml")
    }

    /// Who launches it just now.
    pub fn claim(&self) -> PathBuf {
        self.path.join("launch.lock")
    }

    /// The packed graph that the run goes on with.
    pub fn graph(&self) -> PathBuf {
        self.graph_of(self.lineage.current())
    }

    /// The packed graph of this number: 0 for the one that the run began with, else that of the life that brought it.
    pub fn graph_of(&self, number: u32) -> PathBuf {
        match number {
            0 => self.path.join("graph.dagmar"),
            _ => self.path.join(format!("graph.{number}.dagmar")),
        }
    }

    /// True if there may have been edits: some life of the run has brought a graph.
    pub fn may_be_edited(&self) -> bool {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let mut names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.any(|name| name.starts_with("graph.") && name.ends_with(".dagmar") && name != "graph.dagmar")
    }

    /// The job script.
    pub fn job_script(&self) -> PathBuf {
        self.path.join("job.sh")
    }

    /// The journal; its later segments lie beside it.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Who schedules it just now.
    pub fn lease(&self) -> PathBuf {
        self.path.join("lease")
    }

    /// The outcome; it exists once the run is over.
    pub fn finished(&self) -> PathBuf {
        self.path.join("finished")
    }

    /// What the batch job printed.
    pub fn batch_output(&self) -> PathBuf {
        self.path.join("batch.out")
    }

    /// Where the packs are.
    pub fn output(&self) -> PathBuf {
        self.path.join("output")
    }

    /// Where the runs of a program are that computes several graphs one after the other.
    pub fn computes(&self) -> PathBuf {
        self.path.join("computes")
    }

    /// The latest of those runs.
    pub fn latest_compute(&self) -> Option<RunDirectory> {
        let entries = fs::read_dir(self.computes()).ok()?.flatten().map(|entry| entry.path());
        entries.filter(|path| is_run(path)).max().map(|path| RunDirectory { path, lineage: Arc::default() })
    }

    /// The host file of an attempt that is an MPI program, there while it runs.
    pub fn hostfile(&self, task: TaskId, attempt: Attempt) -> PathBuf {
        self.path.join("hostfiles").join(format!("{task}.{attempt}"))
    }

    /// That rank 0 of a launched run ended by itself, as it cannot go on; the launcher's exit code says nothing.
    pub fn refusal(&self) -> PathBuf {
        self.path.join("control/refused")
    }

    /// Where it waits for clients, if it does.
    pub fn rendezvous(&self) -> PathBuf {
        self.path.join("client.toml")
    }

    /// The mailbox.
    pub fn control(&self) -> PathBuf {
        self.path.join("control")
    }

    /// The log of one rank.
    pub fn log(&self, rank: Rank) -> PathBuf {
        self.path.join(format!("logs/rank-{rank}.log"))
    }
}

fn make_directory(path: &Path) -> Result<(), LayoutError> {
    match create_private_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result.map_err(|error| LayoutError::Io(path.to_owned(), error)),
    }
}

/// A directory that was initialised as a run; a run that has not started has no journal yet.
fn is_run(path: &Path) -> bool {
    path.join("run.toml").is_file() || path.join("journal").is_file() || path.join("control").is_dir()
}

/// `graph_name` as one path component that no shell and no file system minds.
fn safe_name(graph_name: &str) -> String {
    let is_safe = |letter: &char| letter.is_ascii_alphanumeric() || "._+-".contains(*letter);
    let mapped = graph_name.chars().map(|letter| if is_safe(&letter) { letter } else { '_' });
    let name: String = mapped.take(NAME_BYTES_MAX).collect();
    match name.trim_start_matches(['.', '-']) {
        "" => "run".to_owned(),
        name => name.to_owned(),
    }
}

/// The highest number that a run of this name has, 0 without one.
fn last_number(runs: &Path, name: &str) -> io::Result<u64> {
    let mut last = 0;
    for entry in fs::read_dir(runs)? {
        let entry = entry?.file_name();
        let number = entry.to_str().and_then(|entry| entry.strip_prefix(name)?.strip_prefix('-'));
        let number = number.filter(|number| number.len() <= 18).and_then(|number| number.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    Ok(last)
}

/// The names of all runs, the latest first. What cannot be looked at is not there.
fn runs_by_age(runs: &Path) -> Vec<String> {
    let entries = fs::read_dir(runs).into_iter().flatten().flatten();
    let mut found: Vec<(SystemTime, String)> = entries
        .filter(|entry| is_run(&entry.path()))
        .filter_map(|entry| Some((birth(&entry.path())?, entry.file_name().into_string().ok()?)))
        .collect();
    found.sort_unstable_by(|one, other| other.cmp(one));
    found.into_iter().map(|(_, name)| name).collect()
}

/// When a run began: `run.toml` is written then. Not every file system knows a birth time.
fn birth(run: &Path) -> Option<SystemTime> {
    let metadata = fs::metadata(run.join("run.toml")).or_else(|_| fs::metadata(run));
    metadata.ok()?.modified().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn described(root: &Path, name: &str) -> RunDirectory {
        let run = RunDirectory::create(root, name).unwrap();
        fs::write(run.description(), "").unwrap();
        run
    }

    #[test]
    fn runs_of_a_name_are_numbered_and_private() {
        let root = tempfile::tempdir().unwrap();
        let first = RunDirectory::create(root.path(), "variants").unwrap();
        let second = RunDirectory::create(root.path(), "variants").unwrap();
        let other = RunDirectory::create(root.path(), "var").unwrap();
        assert_eq!(
            [first.name(), second.name(), other.name()],
            ["variants-0001", "variants-0002", "var-0001"]
        );
        for path in [first.path().to_owned(), first.output(), first.control()] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }

    #[test]
    fn many_at_once_get_a_number_each() {
        let root = tempfile::tempdir().unwrap();
        let mut names: Vec<String> = std::thread::scope(|scope| {
            let create = || RunDirectory::create(root.path(), "x").unwrap().name();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn all_segments_and_the_lease_of_an_earlier_start_are_set_aside() {
        let root = tempfile::tempdir().unwrap();
        let run = described(root.path(), "x");
        for path in [run.journal(), path_of(&run.journal(), 2), path_of(&run.journal(), 3), run.lease()] {
            fs::write(path, "").unwrap();
        }
        let aside = run.set_aside().unwrap();
        assert!(!run.has_begun() && !run.lease().exists() && run.description().exists());
        assert_eq!(last_segment(&run.journal()).unwrap(), 0);
        assert_eq!(last_segment(&aside.join("journal")).unwrap(), 3);
        assert!(!path_of(&run.journal(), 3).exists());
    }

    #[test]
    fn any_graph_name_makes_a_safe_directory() {
        assert_eq!(safe_name("../../etc"), "_.._etc");
        assert_eq!(safe_name("a b/c;d"), "a_b_c_d");
        assert_eq!(safe_name(""), "run");
        assert_eq!(safe_name("-rf"), "rf");
        assert_eq!(safe_name(&"é".repeat(300)), "_".repeat(100));
    }

    #[test]
    fn a_run_is_found_by_name_by_path_and_as_the_latest() {
        let root = tempfile::tempdir().unwrap();
        let cwd = root.path();
        let (first, second) = (described(cwd, "b"), described(cwd, "a"));
        let found = |argument| RunDirectory::find(argument, cwd).unwrap();
        assert_eq!(found(Some("b-0001")), first);
        assert_eq!(found(Some("dagmar-runs/b-0001")), first);
        assert_eq!(found(first.path().to_str()), first);
        assert_eq!(found(None), second);
        assert_eq!(RunDirectory::initialise(first.path()).unwrap(), first);
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_runs_that_are_there() {
        let root = tempfile::tempdir().unwrap();
        let cwd = root.path();
        let text = |argument| {
            let error = RunDirectory::find(argument, cwd).unwrap_err();
            let text = format!("{error}\nhint: {}", error.hint().unwrap());
            text.replace(&cwd.display().to_string(), ".")
        };
        insta::assert_snapshot!(text(None), @r#"
        there are no runs in `./dagmar-runs`
        hint: name a run directory, or go to the directory where `dagmar run` or `submit` was called
        "#);
        described(cwd, "align");
        described(cwd, "variants");
        insta::assert_snapshot!(text(Some("variant-0001")), @r#"
        there is no run `variant-0001` in `./dagmar-runs`
        hint: the nearest name is `variants-0001`; the latest here: `variants-0001`, `align-0001`
        "#);
        insta::assert_snapshot!(text(Some(".")), @r#"
        `./.` is not a run directory
        hint: a run directory contains `run.toml`
        "#);
    }
}
