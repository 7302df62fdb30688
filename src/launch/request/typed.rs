//! What was typed, laid onto a template's values.

use std::collections::BTreeMap;

use crate::launch::field::{Field, Kind};
use crate::launch::given::{Given, Source, Typed, Value, shown};
use crate::launch::rule::Refusal;

use super::{RequestError, TYPED_LAYER, may_be_typed};

/// Lays what was typed onto the values, in order. Lists grow, everything else is replaced.
pub fn lay_on(values: &mut BTreeMap<&'static str, Given>, typed: &[Typed]) -> Result<(), RequestError> {
    for typed in typed {
        let (field, value) = read(typed)?;
        let below = values.get(field.name);
        // What only adds to a template's list does not take it over.
        let adds = matches!(field.kind, Kind::Directives | Kind::Fields | Kind::Variables | Kind::Modules);
        let added_before = below.is_some_and(|given| given.layer == TYPED_LAYER);
        let value = match (below.filter(|_| adds || added_before).map(|given| &given.value), value) {
            (Some(Value::List(list)), Value::List(more)) => {
                Value::List(list.iter().cloned().chain(more).collect())
            }
            (Some(Value::Pairs(pairs)), Value::Pairs(more)) => {
                Value::Pairs(pairs.clone().into_iter().chain(more).collect())
            }
            (_, value) => value,
        };
        values.insert(
            field.name,
            Given { value, source: Source::Flag(typed.flag.clone()), layer: TYPED_LAYER },
        );
    }
    Ok(())
}

fn read(typed: &Typed) -> Result<(&'static Field, Value), RequestError> {
    let refuse = |refusal: Refusal| RequestError {
        field: typed.field.clone(),
        value: Some(shown(&typed.text)),
        source: Some(Box::new(Source::Flag(typed.flag.clone()))),
        why: refusal.why,
        hint: refusal.hint,
    };
    if let Some(name) = typed.field.strip_prefix("environment.variables.") {
        let field = Field::find("environment.variables").expect("the table has it");
        return Ok((field, Value::Pairs([(name.to_owned(), typed.text.clone())].into())));
    }
    let Some(field) = Field::find(&typed.field) else {
        let hint = Field::nearest(&typed.field).map(|near| format!("the nearest name is `{near}`"));
        return Err(refuse(Refusal { why: "there is no such field".into(), hint }));
    };
    if !may_be_typed(field) {
        let hint = "write it into a cluster template of your own";
        return Err(refuse(Refusal::new("only a template may say it", hint)));
    }
    value(field.kind, &typed.text).map(|value| (field, value)).map_err(refuse)
}

/// The text in the shape that its kind has.
fn value(kind: Kind, text: &str) -> Result<Value, Refusal> {
    let count = || match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().map(Value::Count),
        false => None,
    };
    match kind {
        Kind::Count => {
            count().ok_or_else(|| Refusal { why: "it is no whole number from 1 on".into(), hint: None })
        }
        Kind::Workers => Ok(count().unwrap_or_else(|| Value::Text(text.to_owned()))),
        Kind::Flag => match text {
            "true" | "yes" => Ok(Value::Flag(true)),
            "false" | "no" => Ok(Value::Flag(false)),
            _ => Err(Refusal::new("it is neither yes nor no", "write `true` or `false`")),
        },
        Kind::Variables => match text.split_once('=') {
            Some((name, value)) => Ok(Value::Pairs([(name.to_owned(), value.to_owned())].into())),
            None => Err(Refusal::new("it has no `=`", "write `NAME=VALUE`")),
        },
        // One word, or one line, at a time: it may contain commas itself.
        Kind::Words | Kind::Directives | Kind::Lines => Ok(Value::List(vec![text.to_owned()])),
        Kind::Choices(_) => Ok(Value::List(text.split(',').map(str::to_lowercase).collect())),
        kind if kind.is_list() => Ok(Value::List(text.split(',').map(str::to_owned).collect())),
        _ => Ok(Value::Text(text.to_owned())),
    }
}

/// How a field is said on the command line.
pub fn flag_of(field: &Field) -> String {
    match FLAGS.iter().find(|(name, _)| *name == field.name) {
        Some((_, flag)) => (*flag).to_owned(),
        None => format!("--set {}=...", field.name),
    }
}

/// The fields that have a flag of their own.
pub const FLAGS: &[(&str, &str)] = &[
    ("nodes", "--nodes"),
    ("walltime", "--walltime"),
    ("queue", "--queue"),
    ("account", "--account"),
    ("project", "--project"),
    ("qos", "--qos"),
    ("reservation", "--reservation"),
    ("constraint", "--constraint"),
    ("gpus_per_node", "--gpus-per-node"),
    ("gpu_type", "--gpu-type"),
    ("memory", "--mem"),
    ("memory_per_cpu", "--mem-per-cpu"),
    ("exclusive", "--exclusive"),
    ("workers_per_node", "--workers-per-node"),
    ("cpus_per_worker", "--cpus-per-worker"),
    ("nodelist", "--nodelist"),
    ("exclude", "--exclude"),
    ("mail.user", "--mail-user"),
    ("mail.types", "--mail-type"),
    ("name", "--name"),
    ("comment", "--comment"),
    ("requeue", "--requeue"),
    ("dependency", "--dependency"),
    ("directives", "--directive"),
    ("remove", "--without"),
    ("launcher.kind", "--launcher"),
];
