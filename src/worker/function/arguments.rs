//! A call's arguments, with its inputs put in their places.

use std::borrow::Cow;

use crate::core::task::{Argument, Call};
use crate::core::value::Value;
use crate::worker::output::Output;
use crate::worker::python::PythonObject;

use super::call::Attempted;

/// A function's arguments in order. Those that stand in the graph or are a function's output are
/// borrowed; `into_owned` copies them.
pub type Arguments<'a> = Vec<Cow<'a, Value>>;

/// The arguments of `call` for an attempt.
pub(super) fn resolve<'a>(call: &'a Call, job: &Attempted<'a>) -> Result<Arguments<'a>, String> {
    let mut arguments = Vec::with_capacity(call.arguments.len());
    for argument in &call.arguments {
        arguments.push(resolve_one(argument, job)?);
    }
    Ok(arguments)
}

fn resolve_one<'a>(argument: &'a Argument, job: &Attempted<'a>) -> Result<Cow<'a, Value>, String> {
    Ok(match argument {
        Argument::Value(value) => Cow::Borrowed(value),
        Argument::Input(place) => input(*place, job)?,
        Argument::Inputs { first, count } => {
            let places = *first..first.saturating_add(*count);
            let values = places.map(|place| input(place, job).map(Cow::into_owned));
            Cow::Owned(Value::List(values.collect::<Result<_, String>>()?))
        }
        Argument::List(items) => {
            let values = items.iter().map(|item| resolve_one(item, job).map(Cow::into_owned));
            Cow::Owned(Value::List(values.collect::<Result<_, String>>()?))
        }
        Argument::Map(entries) => {
            let entries = entries
                .iter()
                .map(|(name, item)| resolve_one(item, job).map(|value| (name.clone(), value.into_owned())));
            Cow::Owned(Value::Map(entries.collect::<Result<_, String>>()?))
        }
        Argument::Text(text) => Cow::Owned(Value::Text(text.resolve(job.attempt).into_owned())),
    })
}

/// An input as a value: what a command printed is text if it is UTF-8, else bytes.
fn input<'a>(place: u32, job: &Attempted<'a>) -> Result<Cow<'a, Value>, String> {
    let output = job.inputs.get(place as usize).ok_or_else(|| format!("its input {place} is missing"))?;
    Ok(match &**output {
        Output::Value(value) => Cow::Borrowed(value),
        Output::Captured(bytes) => Cow::Owned(match std::str::from_utf8(bytes) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Bytes(bytes.clone()),
        }),
        Output::Typed(typed) if PythonObject::is(typed) => {
            return Err(format!("its input {place} is a Python object, which only Python functions take"));
        }
        Output::Typed(typed) => {
            let name = typed.type_name();
            return Err(format!("its input {place} is a `{name}`, which only functions of its program take"));
        }
    })
}
