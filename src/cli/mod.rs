//! ROOF. The command line: what was typed, what it means, one file per subcommand.

use std::process::ExitCode;

/// Runs the command that the program's arguments ask for.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
