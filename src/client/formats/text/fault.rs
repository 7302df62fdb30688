//! A problem while its place is still a span of bytes.

use super::nearest::nearest;
use super::problem::{GraphFileError, Problem};
use super::tree::{Node, Span};

/// What reading gives internally.
pub type Outcome<T> = Result<T, Box<Fault>>;

/// A problem and where it is; the file turns it into a `GraphFileError`.
#[derive(Debug)]
pub struct Fault {
    span: Option<Span>,
    problem: Problem,
    hint: Option<Hint>,
}

#[derive(Debug)]
enum Hint {
    Text(String),
    Name(String, Option<Span>),
}

impl Fault {
    /// A problem at a place.
    pub fn at(span: Span, problem: Problem) -> Box<Fault> {
        Box::new(Fault { span: Some(span), problem, hint: None })
    }

    /// A problem of the file as a whole.
    pub fn whole(problem: Problem) -> Box<Fault> {
        Box::new(Fault { span: None, problem, hint: None })
    }

    /// A field with a value of another type.
    pub fn wrong_type(field: &str, of: &str, expected: &'static str, node: &Node) -> Box<Fault> {
        let (field, of, found) = (field.to_owned(), of.to_owned(), node.type_name());
        Fault::at(node.span, Problem::WrongType { field, of, expected, found })
    }

    /// A field with a value that makes no sense.
    pub fn bad_value(span: Span, field: &str, of: &str, value: &str, reason: &str) -> Box<Fault> {
        let (field, of) = (field.to_owned(), of.to_owned());
        Fault::at(span, Problem::BadValue { field, of, value: value.to_owned(), reason: reason.to_owned() })
    }

    /// Adds what to do about it.
    pub fn hint(mut self: Box<Self>, hint: impl Into<String>) -> Box<Fault> {
        self.hint = Some(Hint::Text(hint.into()));
        self
    }

    /// Adds the name that was probably meant, and where it stands.
    pub fn meant(mut self: Box<Self>, name: Option<(String, Option<Span>)>) -> Box<Fault> {
        self.hint = name.map(|(name, span)| Hint::Name(name, span)).or(self.hint);
        self
    }

    /// Adds the nearest of the right names if one is near.
    pub fn nearest<'a>(self: Box<Self>, wrong: &str, right: impl IntoIterator<Item = &'a str>) -> Box<Fault> {
        let name = nearest(wrong, right).map(|name| (name.to_owned(), None));
        self.meant(name)
    }

    /// The error as users see it.
    pub fn locate(self, file: &str, text: &str) -> GraphFileError {
        let hint = self.hint.map(|hint| match hint {
            Hint::Text(text) => text,
            Hint::Name(name, None) => format!("the nearest name is `{name}`"),
            Hint::Name(name, Some(span)) => {
                format!("the nearest name is `{name}` (line {})", place(text, span).0)
            }
        });
        let place = self.span.map(|span| place(text, span));
        GraphFileError { file: file.to_owned(), place, problem: Box::new(self.problem), hint }
    }
}

/// Line and column of a span's start, both from 1; columns count characters.
fn place(text: &str, span: Span) -> (usize, usize) {
    let mut start = span.start.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Others' messages as ours begin: without a capital.
pub fn uncapitalised(message: &str) -> String {
    let mut letters = message.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let check = |text: &str, at: usize, expected| {
            assert_eq!(place(text, Span { start: at, end: at }), expected, "{text:?} at {at}")
        };
        check("", 0, (1, 1));
        check("ab\ncd", 4, (2, 2));
        check("é=1", 2, (1, 2));
        check("a\n", 99, (2, 1));
    }
}
