//! Where a graph comes from: a file in any format, or a quick form.

use std::env;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::client::formats::quick::{self, Elements, Work};
use crate::client::formats::{Functions, GraphFileError, Kind, read_bytes};
use crate::core::graph::Graph;
use crate::core::task::TaskOptions;
use crate::record::packed;

use super::failure::Failure;
use super::flags::SourceFlags;
use super::submission::is_program;

/// Reads a graph file, whatever its format.
pub fn read(path: &Path) -> Result<Graph, Failure> {
    let shown = path.display();
    if is_program(path) {
        let hint = "start it itself, alone or with mpirun; `dagmar submit` runs it in a job";
        return Err(Failure::usage(format!("`{shown}` is a program, not a graph")).hint(hint.to_owned()));
    }
    let failed = |error: &dyn fmt::Display| Failure::usage(format!("cannot read `{shown}`: {error}"));
    if is_packed_file(path) {
        return packed::open(path).map_err(|error| failed(&error));
    }
    let bytes = fs::read(path).map_err(|error| failed(&error))?;
    if Kind::of(&bytes) == Kind::Packed {
        return packed::read(&bytes).map_err(|error| failed(&error));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read_bytes(path, &bytes, directory, &Functions::built_in()).map_err(refused)
}

/// True for a packed graph that can be looked at twice, which what comes through a pipe cannot.
fn is_packed_file(path: &Path) -> bool {
    let mut start = [0; 16];
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    let mut read = || fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok();
    is_file && read() && Kind::of(&start) == Kind::Packed
}

/// The graph that was asked for.
pub fn find(flags: &SourceFlags) -> Result<Graph, Failure> {
    let options = TaskOptions::default();
    if let Some(path) = &flags.graph {
        if !flags.command.is_empty() {
            let message = format!("cannot hand arguments to `{}`: it is a graph", path.display());
            return Err(Failure::usage(message).hint("a command after `--` goes with `--each`".to_owned()));
        }
        return read(path);
    }
    let directory = current_directory()?;
    if let Some(list) = &flags.commands {
        return quick::commands(list, &directory, &options).map_err(refused);
    }
    let elements = match (&flags.each, &flags.each_line) {
        (Some(range), _) => Elements::Range(range),
        (None, Some(file)) => Elements::Lines(file),
        (None, None) => {
            let hint = "name a graph file, or use `--commands FILE` or `--each RANGE -- COMMAND`";
            return Err(Failure::usage("there is nothing to run").hint(hint.to_owned()));
        }
    };
    let functions = Functions::built_in();
    let work = match &flags.call {
        Some(name) => Work::Call { function: name, arguments: &flags.command },
        None if flags.command.is_empty() => {
            return Err(Failure::usage("`--each` needs a command").hint("write it after `--`".to_owned()));
        }
        None => Work::Command(&flags.command),
    };
    quick::each(elements, work, &directory, &options, &functions).map_err(refused)
}

/// What is wrong with a graph file, as a failure of the command.
pub(super) fn refused(error: GraphFileError) -> Failure {
    Failure::usage(error.to_string()).hint(error.hint().map(str::to_owned))
}

/// The shell's directory.
pub fn current_directory() -> Result<PathBuf, Failure> {
    env::current_dir().map_err(|error| Failure::broken(format!("cannot find the current directory: {error}")))
}
