//! Files that become visible in one step: a program writes them into hidden directories beside their places, and
//! they are renamed once it has ended well.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::clock;
use crate::core::event::Cause;
use crate::core::id::Attempt;
use crate::core::task::{Command, Operation, STAGE, Text};
use crate::record::publish::unique;
use crate::record::segment::Fence;
use crate::worker::files::output_paths;

/// The hidden directories of one attempt, which has them for itself. They are removed with it.
#[derive(Debug)]
pub struct Stage {
    /// What each of them is called.
    name: String,
    directories: Vec<PathBuf>,
    fence: Option<Arc<Fence>>,
}

impl Stage {
    /// Makes the directories, beside those outputs, of a command that wants them; `None` for others. Directories of
    /// outputs must be there.
    pub fn make(
        operation: &Operation,
        command: &Command,
        attempt: Attempt,
        fence: Option<Arc<Fence>>,
    ) -> Result<Option<Self>, Cause> {
        if !command.is_staged() {
            return Ok(None);
        }
        let name = format!(".dagmar-{:x}-{}", clock::now().0, unique());
        let mut stage = Stage { name, directories: Vec::new(), fence };
        for target in output_paths(&operation.outputs, attempt) {
            let directory = stage.directory_of(&target);
            if !stage.directories.contains(&directory) {
                let made = DirBuilder::new().mode(0o700).create(&directory);
                made.map_err(|error| {
                    Cause::NotStarted(format!("cannot create `{}`: {error}", directory.display()))
                })?;
                stage.directories.push(directory);
            }
        }
        Ok(Some(stage))
    }

    /// A text as the program is given it.
    pub fn text(&self, text: &str) -> String {
        text.replace(STAGE, &self.name)
    }

    /// Syncs what the program wrote and renames it; returns the size of each output. A file that it did not write is
    /// missing, whatever lies at its place.
    pub fn publish(&self, outputs: &[Text], attempt: Attempt) -> Result<Vec<u64>, Cause> {
        let targets = output_paths(outputs, attempt);
        let written: Vec<PathBuf> = targets.iter().map(|target| self.staged(target)).collect();
        let mut sizes = Vec::with_capacity(written.len());
        for (file, target) in written.iter().zip(&targets) {
            let found = fs::metadata(file);
            sizes.push(found.map_err(|_| Cause::MissingOutput(target.display().to_string()))?.len());
        }
        for file in &written {
            sync_all(file).map_err(not_published("sync", file))?;
        }
        self.check_fence()?;
        for (place, (file, target)) in written.iter().zip(&targets).enumerate() {
            self.clear(place, target).map_err(not_published("put away", target))?;
            fs::rename(file, target).map_err(not_published("put into place", target))?;
        }
        for directory in self.directories.iter().filter_map(|directory| directory.parent()) {
            let synced = File::open(directory).and_then(|directory| directory.sync_all());
            synced.map_err(not_published("sync", directory))?;
        }
        Ok(sizes)
    }

    /// A directory makes no way for another one: the old one goes where it is removed with the stage.
    fn clear(&self, place: usize, target: &Path) -> io::Result<()> {
        match fs::symlink_metadata(target) {
            Ok(found) if found.is_dir() => {
                fs::rename(target, self.directory_of(target).join(format!(".old-{place}")))
            }
            _ => Ok(()),
        }
    }

    /// Whoever was taken for dead must not put its files over those of its successor.
    fn check_fence(&self) -> Result<(), Cause> {
        match self.fence.as_ref().map_or(Ok(false), |fence| fence.is_passed()) {
            Ok(false) => Ok(()),
            Ok(true) => Err(Cause::NotRecorded("another process has taken the run over".to_owned())),
            Err(error) => Err(Cause::NotRecorded(format!("cannot look at the run's journal: {error}"))),
        }
    }

    fn directory_of(&self, target: &Path) -> PathBuf {
        target.parent().unwrap_or(Path::new("/")).join(&self.name)
    }

    fn staged(&self, target: &Path) -> PathBuf {
        self.directory_of(target).join(target.file_name().unwrap_or_default())
    }
}

impl Drop for Stage {
    /// What cannot be removed is hidden, and in nobody's way.
    fn drop(&mut self) {
        for directory in &self.directories {
            if let Err(error) = fs::remove_dir_all(directory) {
                log::warn!("cannot remove `{}`: {error}", directory.display());
            }
        }
    }
}

fn not_published(what: &str, path: &Path) -> impl Fn(io::Error) -> Cause {
    let said = format!("cannot {what} `{}`", path.display());
    move |error| Cause::NotRecorded(format!("{said}: {error}"))
}

/// Syncs a file, or a directory with all that is in it.
fn sync_all(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_symlink() {
                sync_all(&entry.path())?;
            }
        }
    }
    File::open(path)?.sync_all()
}
