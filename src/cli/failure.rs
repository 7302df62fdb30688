//! How a command says that it failed: one sentence, the causes, and what to do.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::runtime::exit;

use super::output::tell_all;

/// A failure as a person reads it, or, with exit code 0, why there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What could not be done, to what, and why: completes "error: ".
    pub message: String,
    /// What is behind it, one a line.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code.
    pub exit_code: u8,
}

impl Failure {
    /// A failure with an exit code.
    pub fn new(exit_code: u8, message: impl Into<String>) -> Self {
        Failure { message: message.into(), causes: Vec::new(), hint: None, exit_code }
    }

    /// Wrong usage, or a graph that cannot run.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure::new(exit::USAGE, message)
    }

    /// Something is broken that should not be.
    pub fn broken(message: impl Into<String>) -> Self {
        Failure::new(exit::BROKEN, message)
    }

    /// Adds what to do.
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Prints it and gives the exit code.
    pub fn report(&self) -> u8 {
        tell_all(&self.text());
        self.exit_code
    }

    /// The lines that `report` prints.
    pub fn text(&self) -> String {
        let head = if self.exit_code == exit::DONE { "" } else { "error: " };
        let mut text = format!("{head}{}\n", self.message);
        for cause in &self.causes {
            writeln!(text, "  cause: {cause}").expect("writing to a string cannot fail");
        }
        if let Some(hint) = &self.hint {
            writeln!(text, "  hint: {hint}").expect("writing to a string cannot fail");
        }
        text
    }
}

/// Prints what the parser of the command line says. Help and version are no failures.
pub fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    match error.use_stderr() {
        true => ExitCode::from(exit::USAGE),
        false => ExitCode::from(exit::DONE),
    }
}
