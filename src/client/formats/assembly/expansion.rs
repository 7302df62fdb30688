//! The elements of an array one by one, and text expanded for one of them.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::path::Path;

use crate::client::formats::description::{Form, Hole, Piece, TaskSpec, Template, Variable, quote};
use crate::client::formats::text::{Fault, Outcome, Problem, Span};
use crate::core::key::{Group, encode_element};
use crate::core::task::Text;
use crate::core::value::Value;

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

/// The elements of one array, one after the other, without a new list for each.
pub(super) struct Places<'a> {
    spec: &'a TaskSpec,
    pub places: Vec<usize>,
}

impl<'a> Places<'a> {
    /// At the first element.
    pub fn new(spec: &'a TaskSpec) -> Self {
        Places { spec, places: vec![0; spec.variables.len()] }
    }

    /// On to the next element; the last variable runs fastest.
    pub fn advance(&mut self) {
        if self.spec.zipped {
            self.places.iter_mut().for_each(|place| *place += 1);
            return;
        }
        for (place, variable) in self.places.iter_mut().zip(&self.spec.variables).rev() {
            *place += 1;
            if *place < variable.axis.count() {
                return;
            }
            *place = 0;
        }
    }
}

/// What identifiers stand for in the element at these places; it has no files yet.
pub(super) fn scope<'a>(task: &'a TaskSpec, places: &'a [usize], key: &'a ElementKey<'a>) -> Scope<'a> {
    Scope { variables: &task.variables, places, key, inputs: &[], outputs: &[] }
}

impl Template {
    /// The text for one element. An attempt's number stays open.
    pub(super) fn expand(&self, scope: &Scope<'_>, style: Style) -> Outcome<Text> {
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
    pub(super) fn expand_plain(&self, scope: &Scope<'_>, style: Style) -> Outcome<String> {
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
