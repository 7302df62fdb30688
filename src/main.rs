//! The `dagmar` program: start the spawner, parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dagmar::cli::main()
}
