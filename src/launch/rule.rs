//! What a value may be, by the place where it ends up.
//!
//! Three readers take a job script apart: the batch system's own parser of directives, the shell, and
//! the system's server. A value passes only if all of them read it as the same string. Within double
//! quotes `sbatch`, `qsub` and a shell agree on every character but `"`, `\`, `$` and the backtick;
//! everywhere else only words without blanks, quotes and `#` pass. Values that end up in the shell's
//! part are put into single quotes, where anything is allowed but NUL.

use super::batch::System;
use super::field::{Field, Kind, nearest};
use super::given::Value;
use super::units;

mod notation;
mod variable;

pub use notation::name_max;
pub use variable::is_variable_name;

/// Longest text of a kind, in bytes.
const NAME_MAX: usize = 200;
const IDENTIFIER_MAX: usize = 255;
const LIST_MAX: usize = 8000;
const FREE_TEXT_MAX: usize = 512;
/// Slurm refuses paths of 1024 bytes.
const PATH_MAX: usize = 900;
const DIRECTIVE_MAX: usize = 1000;
/// Linux reads no more of a script's first line.
const SHEBANG_MAX: usize = 120;

/// Why a value is refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Completes "... : ".
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal and what to do about it.
    pub fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal { why: why.into(), hint: Some(hint.into()) }
    }

    fn because(why: impl Into<String>) -> Self {
        Refusal { why: why.into(), hint: None }
    }
}

/// Checks a value of a field for a batch system.
pub fn check(field: &Field, system: System, value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Count(count) => check_count(*count),
        Value::Flag(_) => Ok(()),
        Value::Text(text) => check_text(field.kind, system, text),
        Value::List(list) => check_list(field.kind, system, list),
        Value::Pairs(pairs) => pairs.iter().try_for_each(|(name, text)| variable::check(name, text)),
        Value::Amounts(amounts) => amounts.iter().try_for_each(|(name, count)| {
            is_plain(name, "_", "_-").then_some(()).ok_or_else(|| {
                Refusal::because(format!("`{}` is no name of a resource", super::given::shown(name)))
            })?;
            check_count(*count)
        }),
    }
}

fn check_count(count: u64) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::because("it is less than 1")),
        count if count > u64::from(u32::MAX) / 4 => Err(Refusal::because("it is too large")),
        _ => Ok(()),
    }
}

fn check_text(kind: Kind, system: System, text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(Refusal::new("it is empty", "leave the field out, or name it in `remove`"));
    }
    if text.contains('\0') {
        return Err(Refusal::because("it contains a NUL byte"));
    }
    match kind {
        Kind::Name => notation::name(system, text),
        Kind::Word => words_of(text, "_", "_.-", IDENTIFIER_MAX),
        Kind::Identifier => words_of(text, "_", "_.@:/+-", IDENTIFIER_MAX),
        Kind::Identifiers => words_of(text, "_", "_.@:/+-,", IDENTIFIER_MAX),
        Kind::Nodes => notation::nodes(text),
        Kind::Constraint => notation::constraint(system, text),
        Kind::Dependency => notation::dependency(system, text),
        Kind::FreeText => quotable(text, FREE_TEXT_MAX),
        Kind::Path => path(system, text),
        Kind::Shebang => shebang(text),
        Kind::Directives => directive(text),
        Kind::Modules => words_of(text, "_", "_.@:/+=~-", IDENTIFIER_MAX),
        Kind::Place | Kind::File => no_control(text),
        Kind::Time => units::seconds(text).map(|_| ()).map_err(|why| {
            Refusal::new(why, "write `2h`, `90m`, `1-12:00:00`, `HH:MM:SS`, or minutes as a plain number")
        }),
        Kind::Memory if ["none", "all"].contains(&text) => Ok(()),
        Kind::Memory | Kind::Size => units::bytes(text)
            .map(|_| ())
            .map_err(|why| Refusal::new(why, "write a whole number and a unit: `64GB`, `64GiB`, `4000M`")),
        Kind::Choice(words) => choice(words, text),
        Kind::Choices(words) => choice(words, text).and_then(|()| mail_type(system, text)),
        Kind::Workers if ["socket", "gpu"].contains(&text) => Ok(()),
        Kind::Workers => Err(Refusal::because("it is neither a number nor `socket` nor `gpu`")),
        Kind::Fields => named_field(text),
        Kind::Export => variable::check_name(text),
        Kind::Lines | Kind::Words => Ok(()),
        Kind::Count | Kind::Flag | Kind::Variables | Kind::Amounts => Err(Refusal::because("it is a text")),
    }
}

fn check_list(kind: Kind, system: System, list: &[String]) -> Result<(), Refusal> {
    if kind == Kind::Export && (list == ["all"] || list == ["none"]) {
        return Ok(());
    }
    // An empty word is an argument like another one; a line of a script may be empty as well.
    let may_be_empty = matches!(kind, Kind::Words | Kind::Lines);
    let mut checked = list.iter().filter(|text| !may_be_empty || !text.is_empty());
    checked.try_for_each(|text| check_text(kind, system, text))
}

/// Letters, digits and `inner`; the first a letter, a digit or one of `first`.
fn is_plain(text: &str, first: &str, inner: &str) -> bool {
    let is_in = |byte: u8, more: &str| byte.is_ascii_alphanumeric() || more.as_bytes().contains(&byte);
    text.bytes().next().is_some_and(|byte| is_in(byte, first)) && text.bytes().all(|byte| is_in(byte, inner))
}

/// A plain text of at most `length_max` bytes, or why it is none.
fn words_of(text: &str, first: &str, inner: &str, length_max: usize) -> Result<(), Refusal> {
    too_long(text, length_max)?;
    if text.starts_with('-') {
        return Err(Refusal::because("it begins with a dash, like an option"));
    }
    if is_plain(text, first, inner) {
        return Ok(());
    }
    let spaced: Vec<String> = inner.chars().map(|letter| format!("`{letter}`")).collect();
    Err(Refusal::new(strange(text, inner), format!("letters, digits and {} may be in it", spaced.join(" "))))
}

/// Names the first character that is not plain.
fn strange(text: &str, inner: &str) -> String {
    let is_strange = |letter: &char| !letter.is_ascii_alphanumeric() && !inner.contains(*letter);
    match text.chars().find(is_strange) {
        Some(letter) => format!("it contains {}", letter_name(letter)),
        None => format!("it begins with `{}`", text.chars().next().unwrap_or(' ')),
    }
}

fn letter_name(letter: char) -> String {
    match letter {
        '\n' | '\r' => "a line break".into(),
        ' ' => "a blank".into(),
        '\t' => "a tab".into(),
        '`' => "a backtick".into(),
        letter if letter.is_control() => format!("the control character U+{:04X}", u32::from(letter)),
        letter => format!("`{letter}`"),
    }
}

fn too_long(text: &str, length_max: usize) -> Result<(), Refusal> {
    match text.len() {
        length if length > length_max => {
            Err(Refusal::because(format!("it has {length} bytes, at most {length_max} fit")))
        }
        _ => Ok(()),
    }
}

fn no_control(text: &str) -> Result<(), Refusal> {
    match text.chars().find(|letter| letter.is_control()) {
        Some(letter) => Err(Refusal::because(format!("it contains {}", letter_name(letter)))),
        None => Ok(()),
    }
}

/// Text that everybody reads alike within double quotes.
fn quotable(text: &str, length_max: usize) -> Result<(), Refusal> {
    too_long(text, length_max)?;
    no_control(text)?;
    match text.chars().find(|letter| "\"\\$`".contains(*letter)) {
        Some(letter) => Err(Refusal::new(
            format!("it contains {}", letter_name(letter)),
            "`\"`, `\\`, `$` and backticks are read differently by shells and batch systems",
        )),
        None => Ok(()),
    }
}

/// A path in a directive. PBS takes printable ASCII alone.
fn path(system: System, text: &str) -> Result<(), Refusal> {
    quotable(text, PATH_MAX)?;
    let is_pbs = matches!(system, System::Pbs | System::Torque);
    match text.chars().find(|letter| is_pbs && !letter.is_ascii()) {
        Some(letter) => {
            Err(Refusal::because(format!("it contains `{letter}`, and PBS takes paths in ASCII")))
        }
        None => Ok(()),
    }
}

fn shebang(text: &str) -> Result<(), Refusal> {
    too_long(text, SHEBANG_MAX)?;
    no_control(text)?;
    if !text.starts_with("#!/") || !text.is_ascii() || !text.contains("bash") {
        return Err(Refusal::new(
            "it is no bash",
            "write `#!/bin/bash`, `#!/bin/bash -l` or `#!/usr/bin/env bash`",
        ));
    }
    Ok(())
}

/// The user's own words for the batch system: whatever they are, they stay on their line.
fn directive(text: &str) -> Result<(), Refusal> {
    too_long(text, DIRECTIVE_MAX)?;
    no_control(text)?;
    match text.starts_with('-') {
        true => Ok(()),
        false => Err(Refusal::new(
            "it does not begin with a dash",
            "write the option alone, without `#SBATCH` or `#PBS`: `--switches=2`",
        )),
    }
}

fn choice(words: &[&str], text: &str) -> Result<(), Refusal> {
    if words.contains(&text) {
        return Ok(());
    }
    let listed: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    let hint = match nearest(text, words.iter().copied()) {
        Some(word) => format!("did you mean `{word}`? It may be {}", listed.join(", ")),
        None => format!("it may be {}", listed.join(", ")),
    };
    Err(Refusal::new("it is not one of the words for it", hint))
}

/// PBS sends mail on three occasions only.
fn mail_type(system: System, text: &str) -> Result<(), Refusal> {
    let is_pbs = matches!(system, System::Pbs | System::Torque);
    match is_pbs && !["none", "begin", "end", "fail", "all"].contains(&text) {
        true => {
            Err(Refusal::new("PBS sends no such mail", "it may be `begin`, `end`, `fail`, `all`, `none`"))
        }
        false => Ok(()),
    }
}

fn named_field(text: &str) -> Result<(), Refusal> {
    if Field::find(text).is_some() {
        return Ok(());
    }
    let hint = Field::nearest(text).map(|name| format!("the nearest name is `{name}`"));
    Err(Refusal { why: "there is no such field".into(), hint })
}
