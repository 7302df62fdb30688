//! ROOF. The command line: what was typed (`flags`), what it means, one file per subcommand.

pub mod allocation_flags;
pub mod attach;
pub mod cancel;
pub mod cluster;
pub mod failed_tasks;
pub mod failure;
pub mod flags;
pub mod graph;
pub mod job_watch;
pub mod launch;
pub mod logs;
pub mod output;
pub mod past_run;
pub mod preparation;
pub mod progress;
pub mod resume;
mod run;
pub mod run_job;
pub mod source;
pub mod status;
pub mod submission;
pub mod submit;
pub mod values;
pub mod wait;

use std::process::ExitCode;

use clap::Parser;

use crate::runtime::exit;
use crate::transport::launcher;

use failure::Failure;
use flags::{Command, Flags};

/// Runs the command that the program's arguments ask for. Spawners must be able to start: no thread
/// runs yet.
pub fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        // Under a launcher all ranks read the same arguments: one of them says what is wrong.
        Err(_) if !launcher::is_first() => return ExitCode::from(exit::USAGE),
        Err(error) => return failure::usage(&error),
    };
    let result = match flags.command {
        Command::Run(flags) => run::run(&flags),
        Command::Resume(flags) => resume::run(&flags),
        Command::Submit(flags) => submit::run(&flags),
        Command::Launch(flags) => launch::run(&flags),
        Command::Status(flags) => status::run(&flags),
        Command::Wait(flags) => wait::run(&flags),
        Command::Logs(flags) => logs::run(&flags),
        Command::Attach(flags) => attach::run(&flags),
        Command::Cancel(flags) => cancel::run(&flags),
        Command::Graph(command) => graph::run(command),
        Command::Cluster(command) => cluster::run(*command),
    };
    ExitCode::from(result.unwrap_or_else(|failure| failure.report()))
}

/// What a command ends with: its exit code.
pub type CommandResult = Result<u8, Failure>;

/// The exit code of a command that did what it was asked.
pub const OK: u8 = exit::DONE;
