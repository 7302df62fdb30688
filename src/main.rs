//! The `dagmar` program: start the spawner, parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    dagmar::worker::spawner::main_if_asked();
    dagmar::cli::main()
}
