//! From references to tasks, for one element at a time.

use crate::client::formats::description::{Form, Hole, Reference, Target, Template, VARIABLES_MAX};
use crate::client::formats::text::{Fault, Outcome, Problem};
use crate::core::id::TaskId;
use crate::core::key::{Axis, decode_element};

use super::expansion::{Scope, Style};
use super::names::{Found, NamedGroup, Names};

/// What a reference names in one element; none if it is optional and there is nothing.
pub(super) fn resolve(reference: &Reference, names: &Names, scope: &Scope<'_>) -> Outcome<Option<Found>> {
    let found = match &reference.target {
        Target::Whole { name, starred } => names
            .find(name)
            .map(|number| (number, names.group(number)))
            .filter(|(_, named)| !starred || named.group.is_array())
            .map(|(number, named)| named.whole(number)),
        Target::Element { name, parts, .. } => match names.find(name) {
            Some(number) => element(names.group(number), parts, scope)?.map(Found::One),
            None => None,
        },
        Target::Open(template) => names.find_key(&template.expand_plain(scope, Style::Element)?),
    };
    match found {
        None if reference.optional && is_known(reference, names) => Ok(None),
        None => Err(unknown(reference, names, scope)?),
        found => Ok(found),
    }
}

/// A `?` forgives elements that are not there, but no misspelt name.
fn is_known(reference: &Reference, names: &Names) -> bool {
    match &reference.target {
        Target::Whole { name, .. } | Target::Element { name, .. } => names.find(name).is_some(),
        Target::Open(_) => true,
    }
}

fn element(named: &NamedGroup, parts: &[Template], scope: &Scope<'_>) -> Outcome<Option<TaskId>> {
    if parts.len() != named.group.axes.len() {
        return Ok(None);
    }
    let mut places = [0; VARIABLES_MAX];
    for (axis, part) in parts.iter().enumerate() {
        match place(named, axis, part, scope)? {
            Some(place) => places[axis] = place,
            None => return Ok(None),
        }
    }
    Ok(named.at(&places[..parts.len()]))
}

fn place(named: &NamedGroup, axis: usize, part: &Template, scope: &Scope<'_>) -> Outcome<Option<usize>> {
    // The common case, `{i-1}` into a range, makes no text.
    if let (Some(Hole::Variable(number, form)), Axis::Range { first, step, count, .. }) =
        (part.lone(), &named.group.axes[axis])
        && let Some(here) = scope.variables[number].axis.number(scope.places[number])
        && let Some(offset) = offset(form)
    {
        let distance = i128::from(here) + i128::from(offset) - i128::from(*first);
        let place = distance / i128::from(*step);
        let hit = distance % i128::from(*step) == 0 && (0..i128::from(*count)).contains(&place);
        return Ok(hit.then_some(place as usize));
    }
    let word = part.expand_plain(scope, Style::Plain)?;
    if let Some(place) = named.place(axis, &word) {
        return Ok(Some(place));
    }
    let decoded = part.constant().and_then(decode_element);
    Ok(decoded.and_then(|word| named.place(axis, &word)))
}

fn offset(form: Form) -> Option<i64> {
    match form {
        Form::Whole => Some(0),
        Form::Plus(offset) => Some(offset),
        _ => None,
    }
}

fn unknown(reference: &Reference, names: &Names, scope: &Scope<'_>) -> Outcome<Box<Fault>> {
    let needs = written(reference, scope)?;
    let fault = |needs: &str| {
        Fault::at(
            reference.span,
            Problem::UnknownTask { task: scope.key.text().to_owned(), needs: needs.to_owned() },
        )
    };
    let name = needs.split('[').next().unwrap_or_default();
    if let Some(named) = names.find(name).map(|number| names.group(number)) {
        let axes = named.group.axes.len();
        let parts = needs.matches(',').count() + 1;
        if axes == 0 {
            return Ok(fault(&needs).hint(format!("`{name}` is a single task")));
        }
        if parts != axes {
            let example = named.group.key(0);
            return Ok(fault(&needs).hint(format!("elements of `{name}` are written like `{example}`")));
        }
        if let Some(neighbour) = reference.neighbour() {
            let at = if reference.field == "after" { "" } else { "@" };
            let hint = format!("where there may be none, write `?` behind it: `\"{at}{neighbour}?\"`");
            return Ok(fault(&needs).hint(hint));
        }
    }
    let fault = match reference.field {
        "args" => fault(&needs).hint("a text that starts with `@` is written with two of them"),
        _ => fault(&needs),
    };
    Ok(fault.meant(names.nearest(&needs)))
}

/// The reference as a key.
fn written(reference: &Reference, scope: &Scope<'_>) -> Outcome<String> {
    Ok(match &reference.target {
        Target::Whole { name, starred: false } => name.clone(),
        Target::Whole { name, starred: true } => format!("{name}[*]"),
        Target::Open(template) => template.expand_plain(scope, Style::Element)?,
        Target::Element { name, parts, .. } => {
            let parts = parts.iter().map(|part| part.expand_plain(scope, Style::Element));
            format!("{name}[{}]", parts.collect::<Outcome<Vec<_>>>()?.join(","))
        }
    })
}
