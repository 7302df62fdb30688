//! Job scripts: a request poured into a template.
//!
//! The built-in templates are `slurm/job.sh.j2`, `pbs/job.sh.j2` and, for this machine,
//! `local/job.sh.j2`. A site's own one sees the same values, all of them checked.

use std::fmt;
use std::path::{Path, PathBuf};

use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use super::batch::System;
use super::request::{Request, RequestError};
use super::rule::{self, Refusal};

mod context;

const SLURM: &str = include_str!("../../slurm/job.sh.j2");
const PBS: &str = include_str!("../../pbs/job.sh.j2");
const LOCAL: &str = include_str!("local/job.sh.j2");

/// What a script says beyond what was asked for.
#[derive(Clone, Copy, Debug)]
pub struct ScriptContext<'a> {
    /// The run directory, an absolute path.
    pub run: &'a Path,
    /// The dagmar that launches the run.
    pub program: &'a Path,
    /// The run's name, from which a job gets its own if none was asked for.
    pub name: &'a str,
    /// What identifies this submission.
    pub mark: &'a str,
}

/// Why there is no script.
#[derive(Debug)]
pub enum ScriptError {
    /// A path has no place in a script: what it is of, the path, and why.
    Path(&'static str, PathBuf, Refusal),
    /// A word of dagmar's own has none: what it is, the word, and why.
    Word(&'static str, String, Refusal),
    /// What is asked cannot be said.
    Request(Box<RequestError>),
    /// A template is wrong: its file or name, the line, and why.
    Template(String, Option<usize>, String),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScriptError::Path(what, path, refusal) => {
                let shown = super::given::shown(&path.to_string_lossy());
                write!(out, "cannot write `{shown}`, the path of {what}, into a job script: {}", refusal.why)
            }
            ScriptError::Word(what, word, refusal) => {
                let shown = super::given::shown(word);
                write!(out, "cannot write {what} `{shown}` into a job script: {}", refusal.why)
            }
            ScriptError::Request(error) => error.fmt(out),
            ScriptError::Template(name, Some(line), why) => {
                write!(out, "cannot fill in the job-script template `{name}`, line {line}: {why}")
            }
            ScriptError::Template(name, None, why) => {
                write!(out, "cannot fill in the job-script template `{name}`: {why}")
            }
        }
    }
}

impl std::error::Error for ScriptError {}

impl ScriptError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            ScriptError::Path(_, _, refusal) | ScriptError::Word(_, _, refusal) => refusal.hint.clone(),
            ScriptError::Request(error) => error.hint.clone(),
            ScriptError::Template(..) => {
                Some("`dagmar cluster show NAME --template` prints the one in use".into())
            }
        }
    }
}

/// The job script of a request.
pub fn render(request: &Request, context: &ScriptContext<'_>) -> Result<String, ScriptError> {
    let (name, text) = template(request);
    let values = context::values(request, context)?;
    let environment = environment();
    let filled =
        environment.template_from_named_str(&name, text).and_then(|template| template.render(values));
    let mut script = filled.map_err(|error| wrong(&name, &error))?;
    if !script.ends_with('\n') {
        script.push('\n');
    }
    Ok(script)
}

/// What carries a mark of its own for a further job of the same script, beside which it is said: see `Link`.
pub fn carrier(request: &Request, mark: &str) -> String {
    context::carrier(request, mark)
}

/// The job-script template of a request: its name or path, and its text.
pub fn template(request: &Request) -> (String, &str) {
    match &request.job_script {
        Some((path, text)) => (path.to_string_lossy().into_owned(), text),
        None => {
            let (name, text) = built_in(request.system);
            (name.to_owned(), text)
        }
    }
}

const fn built_in(system: System) -> (&'static str, &'static str) {
    match system {
        System::Slurm => ("slurm/job.sh.j2", SLURM),
        System::Pbs | System::Torque => ("pbs/job.sh.j2", PBS),
        System::Local => ("local/job.sh.j2", LOCAL),
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.add_filter("sh", |text: &str| quote(text));
    environment.add_filter("quoted", |text: &str| format!("\"{text}\""));
    environment.add_filter("without_blank_lines", |text: &str| without_blank_lines(text));
    environment
}

fn without_blank_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.join("\n")
}

/// `text` as one word of a shell, whatever is in it.
pub fn quote(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:=@%+,-".contains(&byte);
    match !text.is_empty() && !text.starts_with('=') && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn wrong(name: &str, error: &minijinja::Error) -> ScriptError {
    let detail = error.detail().map(str::to_owned).unwrap_or_else(|| error.kind().to_string());
    let why = match error.kind() {
        minijinja::ErrorKind::UndefinedError => format!("a name is used that has no value ({detail})"),
        _ => detail,
    };
    ScriptError::Template(name.to_owned(), error.line(), why)
}

/// The longest name that a job can have, made of the run's: the batch systems want a letter first.
fn job_name(system: System, run: &str) -> String {
    let plain = run.chars().map(|letter| match letter.is_ascii_alphanumeric() || "_.+-".contains(letter) {
        true => letter,
        false => '_',
    });
    let plain: String = plain.collect();
    let begins_well = plain.starts_with(|letter: char| letter.is_ascii_alphabetic());
    let full = if begins_well { plain } else { format!("r-{plain}") };
    let most = rule::name_max(system);
    match full.len() > most {
        // The number at the end tells runs apart, so the middle goes.
        true => format!("{}{}", &full[..most - 5], &full[full.len() - 5..]),
        false => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_made_of_the_runs_fits_and_keeps_its_number() {
        assert_eq!(job_name(System::Slurm, "stencil-0007"), "stencil-0007");
        assert_eq!(job_name(System::Slurm, "3d stencil-0007"), "r-3d_stencil-0007");
        assert_eq!(job_name(System::Torque, "a-very-long-name-0007"), "a-very-lon-0007");
        assert_eq!(job_name(System::Slurm, ""), "r-");
    }

    #[test]
    fn words_of_a_shell_are_quoted_when_need_be() {
        assert_eq!(quote("/opt/dagmar-1.0"), "/opt/dagmar-1.0");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("~a"), "'~a'");
    }
}
