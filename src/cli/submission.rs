//! What can be submitted: a graph, or a user's own program that makes graphs as it goes.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::clock;
use crate::launch::plan::LaunchPlan;
use crate::record::description::Description;
use crate::record::layout::RunDirectory;

use super::failure::Failure;
use super::flags::{SourceFlags, SubmitFlags};
use super::preparation::{Preparation, not_written, refused};
use super::source;

/// What shall be run in the allocation.
pub enum Work {
    /// A graph, checked.
    Graph(Box<Preparation>),
    /// A program, with its arguments.
    Program(PathBuf, Vec<String>),
}

impl Work {
    /// What `dagmar submit` was asked for.
    pub fn of_flags(flags: &SubmitFlags) -> Result<Self, Failure> {
        match flags.source.graph.as_deref().filter(|path| is_program(path)) {
            Some(path) => Self::of_program(path, &flags.source),
            None => Ok(Work::Graph(Box::new(Preparation::of_submit(flags)?))),
        }
    }

    fn of_program(path: &Path, flags: &SourceFlags) -> Result<Self, Failure> {
        let found = path.canonicalize();
        let found =
            found.map_err(|error| Failure::usage(format!("cannot find `{}`: {error}", path.display())))?;
        Ok(Work::Program(found, flags.keys.iter().chain(&flags.command).cloned().collect()))
    }

    /// What its run is called after.
    pub fn name(&self) -> String {
        match self {
            Work::Graph(preparation) => preparation.plan.graph.name().to_owned(),
            Work::Program(path, _) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// Makes the run directory for a job that begins later, in another process.
    pub fn set_down(&self) -> Result<RunDirectory, Failure> {
        let (path, arguments) = match self {
            Work::Graph(preparation) => return preparation.set_down(),
            Work::Program(path, arguments) => (path, arguments),
        };
        let directory = RunDirectory::create(&source::current_directory()?, &self.name()).map_err(refused)?;
        let mut description = Description::of_this_process(directory.name(), clock::now());
        let words = [path.to_string_lossy().into_owned()];
        description.program = words.into_iter().chain(arguments.iter().cloned()).collect();
        description.write(&directory.description()).map_err(not_written(&directory))?;
        Ok(directory)
    }

    /// Says in the plan what the ranks are, if they are not dagmar itself.
    pub fn enter_into(&self, plan: &mut LaunchPlan) {
        if let Work::Program(path, arguments) = self {
            plan.program.clone_from(path);
            plan.arguments = Some(arguments.clone());
        }
    }
}

/// True if the file is no graph but something that the system can start.
pub fn is_program(path: &Path) -> bool {
    let is_executable =
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    let mut first = [0; 4];
    let begins = File::open(path).and_then(|mut file| file.read(&mut first)).is_ok();
    is_executable
        && begins
        && path.extension().is_none_or(|end| end != "py")
        && (first == *b"\x7fELF" || first.starts_with(b"#!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_a_graph() {
        assert!(is_program(&std::env::current_exe().unwrap()));
        let directory = tempfile::tempdir().unwrap();
        let graph = directory.path().join("graph.toml");
        fs::write(&graph, "[tasks.a]\nrun = \"true\"\n").unwrap();
        fs::set_permissions(&graph, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!is_program(&graph) && !is_program(&directory.path().join("nothing")));
    }
}
