//! Text with `{identifiers}` in it, as written.

use crate::client::formats::text::{Outcome, Span};

use super::shell::Quoting;
use super::vocabulary::{Hole, Vocabulary};

/// Parsed text.
#[derive(Clone, Debug)]
pub struct Template {
    pub span: Span,
    pub pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Clone, Debug)]
pub enum Piece {
    Literal(String),
    /// Something to put in, and whether it stands between the shell's quotes.
    Hole(Hole, bool),
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

    /// What expands in it.
    pub fn holes(&self) -> impl Iterator<Item = Hole> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Literal(_) => None,
            Piece::Hole(hole, _) => Some(*hole),
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
