//! Where a program begins: on rank 0, or alone, it runs its own body; every other rank serves.

use std::error::Error as AnyError;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use crate::runtime::cluster::Cluster;
#[cfg(feature = "mpi")]
use crate::runtime::processes;
use crate::runtime::program::{self, Program, Settings};
use crate::runtime::start::Role;
use crate::runtime::{exit, isolation, panic};

use super::failure::Error;
use super::registry;
use super::runtime::Runtime;

/// What a program's body may fail with: its own errors, or those of `compute`.
pub type BodyError = Box<dyn AnyError>;

/// Runs a program on whatever it was started on, and gives the exit code for `main` to return.
///
/// The body runs once: alone, or on rank 0. Under `mpirun` every other rank runs the tasks that it
/// computes, and never the body; so whatever `main` does before this call happens on every rank.
/// It must be called before any thread is started, best in the first line of `main`.
pub fn main(body: impl FnOnce(&mut Runtime) -> Result<(), BodyError>) -> ExitCode {
    program::main_if_asked();
    isolation::main_if_asked(registry::functions);
    ExitCode::from(be_rank(body))
}

fn be_rank(body: impl FnOnce(&mut Runtime) -> Result<(), BodyError>) -> u8 {
    let functions = Arc::new(registry::functions());
    let role = match Role::find() {
        Ok(role) => role,
        Err(error) => return report(&error.into()),
    };
    let started = match role {
        #[cfg(feature = "mpi")]
        Role::Worker(mpi, spawner) => {
            let served = processes::be_worker(mpi, functions, spawner);
            return served.unwrap_or_else(|error| report(&error.into()));
        }
        #[cfg(feature = "mpi")]
        Role::Scheduler(mpi, _) => match Settings::of_environment() {
            Ok(settings) => {
                Cluster::gather(mpi, &settings.overrides, functions).map(|cluster| (cluster, settings))
            }
            Err(error) => {
                let exit_code = report(&error.into());
                processes::dismiss(mpi, exit_code);
                return exit_code;
            }
        },
        Role::Alone => Settings::of_environment().and_then(|settings| {
            let cluster = Cluster::alone(settings.workers, &settings.overrides, functions)?;
            Ok((cluster, settings))
        }),
    };
    match started {
        Ok((cluster, settings)) => run(Runtime::new(cluster, Program::new(settings)), body),
        Err(error) => report(&error.into()),
    }
}

fn run(mut runtime: Runtime, body: impl FnOnce(&mut Runtime) -> Result<(), BodyError>) -> u8 {
    let ended = panic::in_body(|| catch_unwind(AssertUnwindSafe(|| body(&mut runtime))));
    let exit_code = match ended {
        Ok(Ok(())) => exit::DONE,
        Ok(Err(error)) => match error.downcast_ref::<Error>() {
            Some(error) => report(error),
            None => {
                program::tell(&format!("error: {error}\n"));
                exit::BROKEN
            }
        },
        // The panic said why.
        Err(_) => exit::BROKEN,
    };
    runtime.end(exit_code)
}

fn report(error: &Error) -> u8 {
    let mut text = format!("error: {error}\n");
    if let Some(hint) = error.hint() {
        text += &format!("  hint: {hint}\n");
    }
    program::tell(&text);
    error.exit_code()
}
