//! What `{identifiers}` stand for in one field of one task.

use crate::client::formats::text::{Fault, Outcome, Problem, Span};

use super::axes::Variable;

/// What may stand in braces in one field of one task.
#[derive(Clone, Copy)]
pub struct Vocabulary<'a> {
    pub variables: &'a [Variable],
    /// Which of `inputs`, `outputs`, `key` and `attempt` may be used here.
    pub allowed: &'static [&'static str],
    pub field: &'a str,
    pub of: &'a str,
}

/// What an identifier stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hole {
    /// A variable of `each`, by its number.
    Variable(usize, Form),
    Inputs,
    Outputs,
    Key,
    Attempt,
}

/// How a variable is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Whole,
    Plus(i64),
    Stem,
    Name,
    Dir,
}

impl Vocabulary<'_> {
    /// What can stand somewhere without being a variable.
    pub const ALL: &'static [&'static str] = &["inputs", "outputs", "key", "attempt"];

    /// What `{inside}` stands for; none if it is no identifier and stays as it is.
    pub fn hole(&self, inside: &str, span: Span) -> Outcome<Option<Hole>> {
        let end = inside.find(['.', '+', '-']).unwrap_or(inside.len());
        let (name, form) = inside.split_at(end);
        if !is_identifier(name) {
            return Ok(None);
        }
        let variable = self.variables.iter().position(|variable| variable.name == name);
        let form = match form.chars().next() {
            None if variable.is_none() => return self.builtin(name, span).map(Some),
            None => Form::Whole,
            Some('.') => match part(&form[1..]) {
                Some(part) => part,
                None if variable.is_none() => return Ok(None),
                None => return Err(self.unknown_part(inside, &form[1..], span)),
            },
            Some(_) => match form.parse() {
                Ok(offset) if form[1..].bytes().all(|byte| byte.is_ascii_digit()) => Form::Plus(offset),
                _ => return Ok(None),
            },
        };
        let number = variable.ok_or_else(|| self.unknown(name, span))?;
        if matches!(form, Form::Plus(_)) && !self.variables[number].is_range() {
            let (variable, of) = (name.to_owned(), self.of.to_owned());
            return Err(Fault::at(span, Problem::Arithmetic { variable, of }));
        }
        Ok(Some(Hole::Variable(number, form)))
    }

    fn builtin(&self, name: &str, span: Span) -> Outcome<Hole> {
        let hole = match name {
            "inputs" => Hole::Inputs,
            "outputs" => Hole::Outputs,
            "key" => Hole::Key,
            "attempt" => Hole::Attempt,
            _ => return Err(self.unknown(name, span)),
        };
        if !self.allowed.contains(&name) {
            let (identifier, field, of) = (name.to_owned(), self.field.to_owned(), self.of.to_owned());
            return Err(Fault::at(span, Problem::MisplacedIdentifier { identifier, field, of }));
        }
        Ok(hole)
    }

    fn unknown(&self, name: &str, span: Span) -> Box<Fault> {
        let (identifier, field, of) = (name.to_owned(), self.field.to_owned(), self.of.to_owned());
        let names = self.variables.iter().map(|variable| variable.name.as_str());
        Fault::at(span, Problem::UnknownIdentifier { identifier, field, of })
            .hint(format!("write `{{{{{name}}}` if the braces are meant literally"))
            .nearest(name, names.chain(self.allowed.iter().copied()))
    }

    fn unknown_part(&self, inside: &str, part: &str, span: Span) -> Box<Fault> {
        let (identifier, field, of) = (inside.to_owned(), self.field.to_owned(), self.of.to_owned());
        Fault::at(span, Problem::UnknownIdentifier { identifier, field, of })
            .hint("the parts of a path are `stem`, `name` and `dir`")
            .nearest(part, ["stem", "name", "dir"])
    }
}

fn part(name: &str) -> Option<Form> {
    match name {
        "stem" => Some(Form::Stem),
        "name" => Some(Form::Name),
        "dir" => Some(Form::Dir),
        _ => None,
    }
}

/// True for `[A-Za-z_][A-Za-z0-9_]*`.
pub fn is_identifier(text: &str) -> bool {
    let starts = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    starts && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
