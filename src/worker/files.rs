//! The files that tasks declare: made possible before, waited for, and checked after.

use std::fs;
use std::path::{Path, PathBuf};

use crate::core::event::Cause;
use crate::core::id::Attempt;
use crate::core::task::{Operation, Text};

/// Creates the directories in which the declared outputs will lie.
pub fn create_directories(outputs: &[Text], attempt: Attempt) -> Result<(), Cause> {
    outputs.iter().try_for_each(|output| create_parent(&output.resolve(attempt)))
}

/// Creates the directory in which `file` will lie.
pub fn create_parent(file: &str) -> Result<(), Cause> {
    let Some(directory) = Path::new(file).parent() else { return Ok(()) };
    fs::create_dir_all(directory).map_err(|error| {
        Cause::NotStarted(format!("cannot create the directory `{}`: {error}", directory.display()))
    })
}

/// Where the declared outputs are.
pub fn output_paths(outputs: &[Text], attempt: Attempt) -> Vec<PathBuf> {
    outputs.iter().map(|output| output.resolve(attempt).into_owned().into()).collect()
}

/// The sizes of the declared outputs, or the first that is not there.
pub fn output_sizes(outputs: &[Text], attempt: Attempt) -> Result<Vec<u64>, Cause> {
    let size = |output: &Text| {
        let path = output.resolve(attempt);
        match fs::metadata(&*path) {
            Ok(found) => Ok(found.len()),
            Err(_) => Err(Cause::MissingOutput(path.into_owned())),
        }
    };
    outputs.iter().map(size).collect()
}

/// How the files that an attempt needs look from this node.
#[derive(Debug, PartialEq, Eq)]
pub enum Sight {
    /// As they were left.
    Complete,
    /// All are there, but one has another size than its writer reported: it arrives late, or a later
    /// task has changed it.
    Changed,
    /// This one is not there.
    Absent(String),
}

/// Looks at the files that tasks before this one reported, with their sizes, and at the inputs that
/// its operation declares.
pub fn look(expected: &[(String, u64)], operation: &Operation, attempt: Attempt) -> Sight {
    let mut sight = Sight::Complete;
    for (path, size) in expected {
        match fs::metadata(path) {
            Err(_) => return Sight::Absent(path.clone()),
            Ok(found) if found.len() != *size => sight = Sight::Changed,
            Ok(_) => {}
        }
    }
    let mut inputs = operation.inputs.iter().map(|input| input.resolve(attempt));
    let absent = inputs.find(|path| fs::metadata(&**path).is_err());
    absent.map_or(sight, |path| Sight::Absent(path.into_owned()))
}
