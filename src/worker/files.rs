//! The files that tasks declare: made possible before, waited for, and checked after.

use std::fs;
use std::io;
use std::path::Path;

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

/// The first file that an attempt needs and that is not to be seen yet, or not in its full size.
pub fn first_missing(operation: &Operation, attempt: Attempt, expected: &[(String, u64)]) -> Option<String> {
    let sized = expected.iter().find(|(path, size)| size_of(path).ok() != Some(*size));
    let missing = sized.map(|(path, _)| path.clone());
    missing.or_else(|| {
        let mut paths = operation.inputs.iter().map(|input| input.resolve(attempt));
        paths.find(|path| size_of(path).is_err()).map(|path| path.into_owned())
    })
}

fn size_of(path: &str) -> io::Result<u64> {
    fs::metadata(path).map(|found| found.len())
}
