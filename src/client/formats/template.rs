//! Text with `{identifiers}` in it, and its expansion for one element of an array.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::Path;

use crate::core::key::{Group, encode_element};
use crate::core::task::Text;
use crate::core::value::Value;

use super::axes::Variable;
use super::fault::{Fault, Outcome};
use super::problem::Problem;
use super::shell::{Quoting, quote};
use super::tree::Span;
use super::vocabulary::Vocabulary;

/// Parsed text.
#[derive(Clone, Debug)]
pub(super) struct Template {
    pub span: Span,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(String),
    /// Something to put in, and whether it stands between the shell's quotes.
    Hole(Hole, bool),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hole {
    /// A variable of `each`, by its number.
    Variable(usize, Form),
    Inputs,
    Outputs,
    Key,
    Attempt,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    Whole,
    Plus(i64),
    Stem,
    Name,
    Dir,
}

/// How expansions are written into the text around them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    Plain,
    /// As one word of `sh`.
    Shell,
    /// As literal text of a pattern.
    Pattern,
    /// As an element of a key.
    Element,
}

/// What identifiers stand for in one element of one task.
pub(super) struct Scope<'a> {
    pub variables: &'a [Variable],
    /// The element's place along each variable.
    pub places: &'a [usize],
    pub key: &'a ElementKey<'a>,
    pub inputs: &'a [String],
    pub outputs: &'a [Text],
}

/// The key of an element, written only when it is looked at.
pub(super) struct ElementKey<'a> {
    group: &'a Group,
    element: usize,
    text: OnceCell<String>,
}

impl<'a> ElementKey<'a> {
    /// The key of the n-th element of a group.
    pub fn new(group: &'a Group, element: usize) -> ElementKey<'a> {
        ElementKey { group, element, text: OnceCell::new() }
    }

    /// The key as users see it.
    pub fn text(&self) -> &str {
        self.text.get_or_init(|| self.group.key(self.element))
    }
}

impl Template {
    /// Parses text in which nothing is quoted.
    pub fn parse(text: &str, span: Span, vocabulary: Vocabulary<'_>) -> Outcome<Template> {
        Template::parse_with(text, span, vocabulary, None)
    }

    /// Parses a command for `sh`.
    pub fn parse_shell(text: &str, span: Span, vocabulary: Vocabulary<'_>) -> Outcome<Template> {
        Template::parse_with(text, span, vocabulary, Some(Quoting::default()))
    }

    fn parse_with(
        text: &str,
        span: Span,
        vocabulary: Vocabulary<'_>,
        mut quoting: Option<Quoting>,
    ) -> Outcome<Template> {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, tail) = (&rest[..at], &rest[at..]);
            literal.push_str(before);
            if let Some(after) = tail.strip_prefix("{{") {
                literal.push('{');
                rest = after;
                continue;
            }
            let after_dollar = literal.ends_with('$');
            match inside(tail).filter(|_| !after_dollar) {
                Some(inside) if let Some(hole) = vocabulary.hole(inside, span)? => {
                    let quoted = quoting.as_mut().is_some_and(|quoting| {
                        quoting.follow(&literal);
                        let inside = quoting.is_inside();
                        quoting.follow_expansion();
                        inside
                    });
                    push_literal(&mut pieces, &mut literal);
                    pieces.push(Piece::Hole(hole, quoted));
                    rest = &tail[inside.len() + 2..];
                }
                _ => {
                    literal.push('{');
                    rest = &tail[1..];
                }
            }
        }
        literal.push_str(rest);
        push_literal(&mut pieces, &mut literal);
        Ok(Template { span, pieces })
    }

    /// The only hole of a template that is nothing else.
    pub fn lone(&self) -> Option<Hole> {
        match self.pieces[..] {
            [Piece::Hole(hole, _)] => Some(hole),
            _ => None,
        }
    }

    /// The text if nothing expands in it.
    pub fn constant(&self) -> Option<&str> {
        match &self.pieces[..] {
            [] => Some(""),
            [Piece::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The pieces that are not expanded.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Hole(..) => None,
        })
    }

    /// The variables that it depends on, a bit each; all for the key.
    pub fn uses(&self) -> u32 {
        self.pieces.iter().fold(0, |mask, piece| {
            mask | match piece {
                Piece::Hole(Hole::Variable(number, _), _) => 1 << number,
                Piece::Hole(Hole::Key, _) => u32::MAX,
                _ => 0,
            }
        })
    }

    /// The text for one element. An attempt's number stays open.
    pub fn expand(&self, scope: &Scope<'_>, style: Style) -> Outcome<Text> {
        let mut writer = Writer { scope, style, span: self.span, done: Vec::new(), current: String::new() };
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => writer.current.push_str(text),
                Piece::Hole(hole, quoted) => writer.fill(*hole, *quoted)?,
            }
        }
        Ok(writer.finish())
    }

    /// The text for one element, where no attempt can stand.
    pub fn expand_plain(&self, scope: &Scope<'_>, style: Style) -> Outcome<String> {
        if let Some(text) = self.constant() {
            return Ok(text.to_owned());
        }
        match self.expand(scope, style)? {
            Text::Plain(text) => Ok(text),
            Text::AroundAttempt(_) => {
                Err(Fault::at(self.span, Problem::Inconsistent("an attempt stands where none can")))
            }
        }
    }
}

fn push_literal(pieces: &mut Vec<Piece>, literal: &mut String) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal)));
    }
}

/// What stands between the brace that `text` starts with and the next closing one.
fn inside(text: &str) -> Option<&str> {
    text[1..].split_once('}').map(|(inside, _)| inside)
}

impl Scope<'_> {
    /// A variable's text.
    fn text(&self, number: usize, form: Form, span: Span) -> Outcome<Cow<'_, str>> {
        let (variable, place) = (&self.variables[number], self.places[number]);
        let text = variable.axis.element(place);
        Ok(match form {
            Form::Whole => text,
            Form::Plus(offset) => {
                let sum = variable.axis.number(place).and_then(|number| number.checked_add(offset));
                let sum = sum.ok_or_else(|| Fault::at(span, Problem::NumberTooLarge(text.to_string())))?;
                Cow::Owned(variable.axis.written(sum))
            }
            part => Cow::Owned(path_part(&text, part)),
        })
    }

    /// A variable's value, with its type.
    pub fn value(&self, number: usize, form: Form, span: Span) -> Outcome<Value> {
        let (variable, place) = (&self.variables[number], self.places[number]);
        match form {
            Form::Whole => Ok(variable.value(place)),
            Form::Plus(offset) => {
                let sum = variable.axis.number(place).and_then(|number| number.checked_add(offset));
                let overflow = || Fault::at(span, Problem::NumberTooLarge(format!("{{{}}}", variable.name)));
                sum.map(Value::Int).ok_or_else(overflow)
            }
            part => Ok(Value::Text(self.text(number, part, span)?.into_owned())),
        }
    }
}

/// A part of a path. The directory of a bare name is `.`.
fn path_part(text: &str, part: Form) -> String {
    let path = Path::new(text);
    let found = match part {
        Form::Stem => path.file_stem().and_then(|stem| stem.to_str()),
        Form::Name => path.file_name().and_then(|name| name.to_str()),
        _ => Some(path.parent().and_then(|dir| dir.to_str()).filter(|dir| !dir.is_empty()).unwrap_or(".")),
    };
    found.unwrap_or(text).to_owned()
}

/// Text in the making, with a new piece begun at every attempt's number.
struct Writer<'a> {
    scope: &'a Scope<'a>,
    style: Style,
    span: Span,
    done: Vec<String>,
    current: String,
}

impl Writer<'_> {
    fn fill(&mut self, hole: Hole, quoted: bool) -> Outcome<()> {
        let scope = self.scope;
        match hole {
            Hole::Attempt => self.open(),
            Hole::Key => self.write(scope.key.text(), quoted)?,
            Hole::Variable(number, form) => self.write(&scope.text(number, form, self.span)?, quoted)?,
            Hole::Inputs => {
                for (number, path) in scope.inputs.iter().enumerate() {
                    self.separate(number);
                    self.write(path, quoted)?;
                }
            }
            Hole::Outputs => {
                for (number, path) in scope.outputs.iter().enumerate() {
                    self.separate(number);
                    self.write_open(path, quoted)?;
                }
            }
        }
        Ok(())
    }

    fn write_open(&mut self, text: &Text, quoted: bool) -> Outcome<()> {
        let pieces = match text {
            Text::Plain(text) => return self.write(text, quoted),
            Text::AroundAttempt(pieces) => pieces,
        };
        for (number, piece) in pieces.iter().enumerate() {
            if number > 0 {
                self.open();
            }
            if !piece.is_empty() {
                self.write(piece, quoted)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, text: &str, quoted: bool) -> Outcome<()> {
        match self.style {
            Style::Plain => self.current.push_str(text),
            Style::Pattern => self.current.push_str(&glob::Pattern::escape(text)),
            Style::Element => encode_element(text, &mut self.current),
            Style::Shell => {
                let word = quote(text);
                if quoted && word != text {
                    return Err(self.unquotable(text));
                }
                self.current.push_str(&word);
            }
        }
        Ok(())
    }

    fn unquotable(&self, text: &str) -> Box<Fault> {
        let (task, value) = (self.scope.key.text().to_owned(), text.to_owned());
        Fault::at(self.span, Problem::Unquotable { task, value }).hint(
            "leave out the quotes around it, as dagmar adds its own; or give it to the command through `env`",
        )
    }

    fn open(&mut self) {
        self.done.push(std::mem::take(&mut self.current));
    }

    fn separate(&mut self, number: usize) {
        if number > 0 {
            self.current.push(' ');
        }
    }

    fn finish(mut self) -> Text {
        if self.done.is_empty() {
            return Text::Plain(self.current);
        }
        self.open();
        Text::AroundAttempt(self.done)
    }
}
