//! Arguments of calls: from values of the file to what they say.

use crate::client::formats::description::{ArgumentSpec, Hole, Reference, Template, Vocabulary};
use crate::client::formats::text::{Node, Outcome, Tree};
use crate::core::value::Value;

/// Reads one argument; tasks that it names go to `references`.
pub(super) fn read_argument(
    node: &Node,
    vocabulary: Vocabulary<'_>,
    references: &mut Vec<Reference>,
) -> Outcome<ArgumentSpec> {
    if let Some(value) = node.scalar().filter(|value| !matches!(value, Value::Text(_))) {
        return Ok(ArgumentSpec::Value(value));
    }
    match &node.tree {
        Tree::Text(text) => read_text(text, node, vocabulary, references),
        Tree::List(nodes) => {
            let items = nodes.iter().map(|node| read_argument(node, vocabulary, references));
            Ok(fold_list(items.collect::<Outcome<_>>()?))
        }
        Tree::Table(entries) => {
            let items = entries
                .iter()
                .map(|entry| Ok((entry.key.clone(), read_argument(&entry.node, vocabulary, references)?)));
            Ok(fold_map(items.collect::<Outcome<_>>()?))
        }
        Tree::Null | Tree::Bool(_) | Tree::Int(_) | Tree::Float(..) => {
            unreachable!("values without parts were taken before")
        }
    }
}

fn read_text(
    text: &str,
    node: &Node,
    vocabulary: Vocabulary<'_>,
    references: &mut Vec<Reference>,
) -> Outcome<ArgumentSpec> {
    let text = match text.strip_prefix('@') {
        Some(rest) if rest.starts_with('@') => rest,
        Some(key) => {
            let vocabulary = Vocabulary { allowed: &["key"], ..vocabulary };
            references.push(Reference::parse(key, node.span, "args", vocabulary)?);
            return Ok(ArgumentSpec::Reference(references.len() - 1));
        }
        None => text,
    };
    let template = Template::parse(text, node.span, vocabulary)?;
    Ok(match (template.constant(), template.lone()) {
        (Some(text), _) => ArgumentSpec::Value(Value::Text(text.to_owned())),
        (None, Some(hole @ (Hole::Variable(..) | Hole::Inputs | Hole::Outputs))) => {
            ArgumentSpec::Hole(hole, node.span)
        }
        _ => ArgumentSpec::Text(template),
    })
}

/// A list in which nothing expands is one value.
fn fold_list(items: Vec<ArgumentSpec>) -> ArgumentSpec {
    if !items.iter().all(|item| matches!(item, ArgumentSpec::Value(_))) {
        return ArgumentSpec::List(items);
    }
    ArgumentSpec::Value(Value::List(items.into_iter().filter_map(into_value).collect()))
}

fn fold_map(items: Vec<(String, ArgumentSpec)>) -> ArgumentSpec {
    if !items.iter().all(|(_, item)| matches!(item, ArgumentSpec::Value(_))) {
        return ArgumentSpec::Map(items);
    }
    let entries = items.into_iter().filter_map(|(key, item)| Some((key, into_value(item)?)));
    ArgumentSpec::Value(Value::Map(entries.collect()))
}

fn into_value(item: ArgumentSpec) -> Option<Value> {
    match item {
        ArgumentSpec::Value(value) => Some(value),
        _ => None,
    }
}
