//! What is asked of a batch system: a template's values with what was typed on top, checked.
//!
//! A `Request` is right once it exists: every value passed its rule for this batch system, every
//! field that the site demands is there, and the geometry adds up. Nothing here renders or submits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::batch::System;
use super::field::{FIELDS, Field, Kind, Spelling};
use super::given::{Given, Source, Typed, Value};
use super::rule::{self, Refusal};
use super::template::Template;
use super::units;

mod plan;
mod shape;
mod typed;

pub use shape::{Memory, Shape};

/// The layer of what was typed: above all templates.
const TYPED_LAYER: usize = usize::MAX;

/// What is asked, checked.
#[derive(Clone, Debug)]
pub struct Request {
    /// The template's name.
    pub cluster: String,
    /// The batch system that is asked.
    pub system: System,
    /// Nodes, workers, cores, memory.
    pub shape: Shape,
    /// The site's own job-script template: where it is, and its text.
    pub job_script: Option<(PathBuf, String)>,
    values: BTreeMap<&'static str, Given>,
    removed: BTreeSet<&'static str>,
}

/// Why something cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// The field.
    pub field: String,
    /// Its value as it is shown, if there is one.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Option<Box<Source>>,
    /// Why it is refused.
    pub why: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for RequestError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.value, &self.source) {
            (Some(value), Some(source)) => {
                write!(out, "cannot ask for `{} = {value}` ({source}): {}", self.field, self.why)
            }
            _ => write!(out, "cannot ask for `{}`: {}", self.field, self.why),
        }
    }
}

impl std::error::Error for RequestError {}

impl RequestError {
    fn of(field: &str, given: &Given, refusal: Refusal) -> Self {
        RequestError {
            field: field.to_owned(),
            value: Some(given.value.to_string()),
            source: Some(Box::new(given.source.clone())),
            why: refusal.why,
            hint: refusal.hint,
        }
    }

    fn missing(field: &str, why: impl Into<String>, hint: impl Into<String>) -> Self {
        let (why, hint) = (why.into(), Some(hint.into()));
        RequestError { field: field.to_owned(), value: None, source: None, why, hint }
    }
}

impl Request {
    /// The template's values with what was typed on top.
    pub fn new(template: &Template, typed: &[Typed]) -> Result<Self, RequestError> {
        let mut values = template.values.clone();
        typed::lay_on(&mut values, typed)?;
        choose_memory(&mut values)?;
        let system = system(template, &values)?;
        check_values(&values, system)?;
        check_form(&values, system)?;
        let removed = removed(&values)?;
        check_required(&values)?;
        let shape = Shape::of(&values, system)?;
        let job_script = read_job_script(&values)?;
        Ok(Request { cluster: template.name.clone(), system, shape, job_script, values, removed })
    }

    /// A value and where it came from, whether its line is left out or not.
    pub fn given(&self, field: &str) -> Option<&Given> {
        self.values.get(field)
    }

    /// All values, by field.
    pub fn values(&self) -> impl Iterator<Item = (&'static str, &Given)> {
        FIELDS.iter().filter_map(|field| Some((field.name, self.values.get(field.name)?)))
    }

    /// True if this field's line is left out.
    pub fn is_removed(&self, field: &str) -> bool {
        self.removed.contains(field)
    }

    /// A text.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.values.get(field)?.value.text()
    }

    /// A list; empty if nothing is said.
    pub fn list(&self, field: &str) -> &[String] {
        self.values.get(field).and_then(|given| given.value.list()).unwrap_or_default()
    }

    /// A whole number.
    pub fn count(&self, field: &str) -> Option<u64> {
        self.values.get(field)?.value.count()
    }

    /// Yes, no, or nothing said.
    pub fn flag(&self, field: &str) -> Option<bool> {
        match self.values.get(field)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// A time in seconds.
    pub fn seconds(&self, field: &str) -> Option<u64> {
        self.text(field).map(|text| units::seconds(text).expect("the request was checked"))
    }

    /// How PBS is asked for nodes.
    pub fn form(&self) -> &str {
        self.text("form").unwrap_or(usual_form(self.system))
    }

    /// The variables of the script, the ranks and the tasks.
    pub fn variables(&self) -> BTreeMap<String, String> {
        match self.values.get("environment.variables").map(|given| &given.value) {
            Some(Value::Pairs(pairs)) => pairs.clone(),
            _ => BTreeMap::new(),
        }
    }
}

fn system(template: &Template, values: &BTreeMap<&'static str, Given>) -> Result<System, RequestError> {
    let Some(given) = values.get("batch_system") else {
        let why = format!("the template `{}` does not say it", template.name);
        return Err(RequestError::missing(
            "batch_system",
            why,
            "write `extends = \"slurm\"` or `\"pbs\"` into it",
        ));
    };
    let systems = [System::Slurm, System::Pbs, System::Torque, System::Local];
    let named = systems.into_iter().find(|system| given.value.text() == Some(system.name()));
    named.ok_or_else(|| {
        let hint = "it may be `slurm`, `pbs`, `torque`, `local`";
        RequestError::of("batch_system", given, Refusal::new("no such batch system is known", hint))
    })
}

/// Of two ways to ask for memory the later one counts.
fn choose_memory(values: &mut BTreeMap<&'static str, Given>) -> Result<(), RequestError> {
    let (Some(node), Some(cpu)) = (values.get("memory"), values.get("memory_per_cpu")) else { return Ok(()) };
    match node.layer.cmp(&cpu.layer) {
        std::cmp::Ordering::Less => values.remove("memory"),
        std::cmp::Ordering::Greater => values.remove("memory_per_cpu"),
        std::cmp::Ordering::Equal => {
            let refusal = Refusal::new("`memory` is said as well", "say one of them");
            return Err(RequestError::of("memory_per_cpu", cpu, refusal));
        }
    };
    Ok(())
}

fn check_values(values: &BTreeMap<&'static str, Given>, system: System) -> Result<(), RequestError> {
    for (name, given) in values {
        let field = Field::find(name).expect("values are stored by their fields' names");
        if field.spelling(system) == Spelling::Unknown && given.value != Value::Flag(false) {
            return Err(RequestError::of(name, given, unknown_there(field, system)));
        }
        rule::check(field, system, &given.value).map_err(|refusal| RequestError::of(name, given, refusal))?;
    }
    Ok(())
}

const fn usual_form(system: System) -> &'static str {
    match system {
        System::Torque => "nodes",
        _ => "select",
    }
}

/// Not every way to ask PBS for nodes can say everything.
fn check_form(values: &BTreeMap<&'static str, Given>, system: System) -> Result<(), RequestError> {
    let form = values.get("form").and_then(|given| given.value.text()).unwrap_or(usual_form(system));
    let is_pbs = system == System::Pbs;
    if system == System::Torque && form != "nodes" {
        let refusal = Refusal::new("Torque has no such form", "leave it out, or take a template for `pbs`");
        return Err(RequestError::of("form", &values["form"], refusal));
    }
    let unsaid: &[&str] = match form {
        "totals" => &["constraint", "exclusive"],
        "nodes" if is_pbs => &["exclusive"],
        _ => &[],
    };
    let asked = |field: &&&str| values.get(**field).is_some_and(|given| given.value != Value::Flag(false));
    match unsaid.iter().find(asked).filter(|_| is_pbs) {
        Some(field) => {
            let why = format!("the form `{form}` has no place for it");
            let hint = "say it in PBS's words with `directives`";
            Err(RequestError::of(field, &values[*field], Refusal::new(why, hint)))
        }
        None => Ok(()),
    }
}

fn unknown_there(field: &Field, system: System) -> Refusal {
    let hint = match (field.name, system) {
        ("project", _) => "write `account`".to_owned(),
        ("gpu_type", _) => "name the kind of GPU in `constraint`, as the site spells it".to_owned(),
        _ => format!("leave it out, or say it in {title}'s words with `directives`", title = system.title()),
    };
    Refusal::new(format!("{} has no such thing", system.title()), hint)
}

/// The fields whose lines are left out. What is typed is never left out in silence.
fn removed(values: &BTreeMap<&'static str, Given>) -> Result<BTreeSet<&'static str>, RequestError> {
    let Some(remove) = values.get("remove") else { return Ok(BTreeSet::new()) };
    let names = remove.value.list().unwrap_or_default();
    let fields: BTreeSet<_> =
        names.iter().filter_map(|name| Field::find(name)).map(|field| field.name).collect();
    let typed = fields.iter().find_map(|field| Some((field, values.get(field)?)));
    match typed.filter(|(_, given)| given.layer == TYPED_LAYER && remove.layer != TYPED_LAYER) {
        Some((field, given)) => {
            let why = format!("{} leaves `{field}` out", remove.source);
            let hint = format!("do without {}, or change the template", given.source);
            Err(RequestError::of(field, given, Refusal::new(why, hint)))
        }
        None => Ok(fields),
    }
}

fn check_required(values: &BTreeMap<&'static str, Given>) -> Result<(), RequestError> {
    let Some(require) = values.get("require") else { return Ok(()) };
    let names = require.value.list().unwrap_or_default();
    let fields = names.iter().filter_map(|name| Field::find(name));
    let Some(field) = fields.into_iter().find(|field| !values.contains_key(field.name)) else {
        return Ok(());
    };
    let why = format!("nothing is said, and the site demands it ({})", require.source);
    let hint = format!("say it with `{}`, or in a template of your own", typed::flag_of(field));
    Err(RequestError::missing(field.name, why, hint))
}

/// The site's own job-script template, which stands beside the file that names it.
fn read_job_script(
    values: &BTreeMap<&'static str, Given>,
) -> Result<Option<(PathBuf, String)>, RequestError> {
    let Some(given) = values.get("job_script") else { return Ok(None) };
    let name = given.value.text().unwrap_or_default();
    let path = match &given.source {
        Source::File(file, _) => file.parent().unwrap_or(Path::new(".")).join(name),
        _ => PathBuf::from(name),
    };
    let text = fs::read_to_string(&path).map_err(|error| {
        let why = format!("cannot read `{}`: {error}", path.display());
        RequestError::of("job_script", given, Refusal { why, hint: None })
    })?;
    Ok(Some((path, text)))
}

/// True for fields that a flag may say.
pub fn may_be_typed(field: &Field) -> bool {
    !field.kind.is_for_templates_alone() && field.kind != Kind::Amounts
}
