//! `align`, `align[*]`, `align[03]`, `align[{i-1}]?`: how tasks name other tasks.

use crate::client::formats::text::{Outcome, Span};

use super::template::Template;
use super::vocabulary::{Form, Hole, Vocabulary};

/// A task or array that another one needs, as written.
#[derive(Clone, Debug)]
pub struct Reference {
    pub span: Span,
    /// The field that it stands in.
    pub field: &'static str,
    /// Ends with `?`: nothing is needed where there is no such element.
    pub optional: bool,
    pub target: Target,
}

#[derive(Clone, Debug)]
pub enum Target {
    /// A task, or all of an array. `starred` when `[*]` says that it is an array.
    Whole { name: String, starred: bool },
    /// One element; a text for each variable. `written` is for errors, without a `?`.
    Element { name: String, parts: Vec<Template>, written: String },
    /// The name itself has variables in it.
    Open(Template),
}

impl Reference {
    /// Parses a reference without its `@`.
    pub fn parse(
        text: &str,
        span: Span,
        field: &'static str,
        vocabulary: Vocabulary<'_>,
    ) -> Outcome<Reference> {
        let (text, optional) = match text.strip_suffix('?') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let target = parse_target(text, span, vocabulary)?;
        Ok(Reference { span, field, optional, target })
    }

    /// What is written to reach an element at some distance, such as `a[{i-1}]`.
    pub fn neighbour(&self) -> Option<&str> {
        let is_distant = |hole| matches!(hole, Hole::Variable(_, Form::Plus(_)));
        match &self.target {
            Target::Element { parts, written, .. } => {
                parts.iter().any(|part| part.holes().any(is_distant)).then_some(written)
            }
            _ => None,
        }
    }

    /// True if it names the same for every element.
    pub fn is_constant(&self) -> bool {
        match &self.target {
            Target::Whole { .. } => true,
            Target::Element { parts, .. } => parts.iter().all(|part| part.constant().is_some()),
            Target::Open(_) => false,
        }
    }
}

fn parse_target(text: &str, span: Span, vocabulary: Vocabulary<'_>) -> Outcome<Target> {
    let (name, elements) = match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, elements)) => (name, Some(elements)),
        None => (text, None),
    };
    let whole = Template::parse(text, span, vocabulary)?;
    let Some(name) = Template::parse(name, span, vocabulary)?.constant().map(str::to_owned) else {
        return Ok(Target::Open(whole));
    };
    Ok(match elements {
        None => Target::Whole { name, starred: false },
        Some("*") => Target::Whole { name, starred: true },
        Some(elements) => {
            let parts = elements.split(',').map(|part| Template::parse(part.trim(), span, vocabulary));
            Target::Element { name, parts: parts.collect::<Outcome<_>>()?, written: text.to_owned() }
        }
    })
}
