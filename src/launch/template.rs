//! Cluster templates: what one site's batch system is asked by default, from TOML files.
//!
//! A template is found by name in `./`, in the user's and in the machine's configuration, and among
//! the built-in ones, or is a path. `extends` names the template that it changes: values replace
//! values, lists replace lists, tables are merged name by name. Nothing is checked here but names and
//! shapes; see `request`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::field::nearest;
use super::given::{Given, Source, Value};

mod file;

use file::Content;

/// The templates that dagmar brings along.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("slurm", include_str!("../../slurm/slurm.toml")),
    ("pbs", include_str!("../../pbs/pbs.toml")),
    ("torque", include_str!("../../pbs/torque.toml")),
    ("local", include_str!("local/local.toml")),
];

/// More steps from a template to the one it extends are a mistake.
const DEPTH_MAX: usize = 8;
/// A template is a page of text.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What one site's batch system is asked by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: String,
    /// Where it is, and what it extends, itself first.
    pub origins: Vec<Origin>,
    /// Its values by field.
    pub values: BTreeMap<&'static str, Given>,
}

/// Where a template is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In this program.
    BuiltIn(&'static str),
    /// In this file.
    File(PathBuf),
}

/// Where templates are looked for, in order; the built-in ones come last.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The directories.
    pub directories: Vec<PathBuf>,
}

/// Why there is no template to work with.
#[derive(Debug)]
pub enum TemplateError {
    /// No template of that name: the name, where was looked, and the names that are there.
    NotFound(String, Vec<PathBuf>, Vec<String>),
    /// A file cannot be read.
    Io(PathBuf, io::Error),
    /// A file says something that cannot be: where, what, and what to do.
    Content(Source, String, Option<String>),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::NotFound(name, _, _) => write!(out, "there is no cluster template `{name}`"),
            TemplateError::Io(path, error) => {
                write!(out, "cannot read the cluster template `{}`: {error}", path.display())
            }
            TemplateError::Content(source, why, _) => write!(out, "cannot use {source}: {why}"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl TemplateError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            TemplateError::NotFound(name, places, names) => {
                let places: Vec<_> = places.iter().map(|place| format!("`{}`", place.display())).collect();
                let looked = format!("looked for `{name}.toml` in {}", places.join(", "));
                let near = nearest(name, names.iter().map(String::as_str));
                let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
                Some(match near {
                    Some(near) => format!("the nearest name is `{near}`; {looked}"),
                    None => format!("there are {}; {looked}", names.join(", ")),
                })
            }
            TemplateError::Io(..) => None,
            TemplateError::Content(_, _, hint) => hint.clone(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::BuiltIn(name) => write!(out, "built-in `{name}`"),
            Origin::File(path) => write!(out, "`{}`", path.display()),
        }
    }
}

impl Places {
    /// `cwd`, the user's configuration (`XDG_CONFIG_HOME`, or `.config` at home), the machine's.
    pub fn usual(cwd: &Path) -> Self {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let is_absolute = |path: &PathBuf| path.is_absolute();
        let user = set("XDG_CONFIG_HOME").filter(is_absolute).or_else(|| Some(set("HOME")?.join(".config")));
        let mut directories = vec![cwd.to_owned()];
        directories.extend(user.map(|user| user.join("dagmar/clusters")));
        directories.push("/etc/dagmar/clusters".into());
        Places { directories }
    }

    /// The files and built-in templates, each name once: the one that would be found.
    pub fn list(&self) -> Vec<(String, Origin)> {
        let mut found: BTreeMap<String, Origin> = BTreeMap::new();
        for directory in &self.directories {
            for path in toml_files(directory).into_iter().filter(|path| file::is_template(path)) {
                let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                found.entry(name).or_insert(Origin::File(path));
            }
        }
        for (name, _) in BUILT_IN {
            found.entry((*name).into()).or_insert(Origin::BuiltIn(name));
        }
        found.into_iter().collect()
    }
}

fn toml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    paths.sort();
    paths
}

impl Template {
    /// The template that a user means: a path if there is a `/` or `.toml` in it, else a name.
    pub fn find(argument: &str, places: &Places) -> Result<Self, TemplateError> {
        let origin = locate(argument, places, &[])?;
        let mut contents = Vec::new();
        let mut origins = Vec::new();
        let mut next = Some(origin);
        while let Some(origin) = next {
            let mut content = read(&origin)?;
            next = match content.extends.take() {
                None => None,
                Some((_, source)) if origins.len() + 1 >= DEPTH_MAX => {
                    let why = format!("more than {DEPTH_MAX} templates extend each other");
                    return Err(TemplateError::Content(source, why, None));
                }
                Some((parent, _)) => {
                    origins.push(origin.clone());
                    let parent = locate(&beside(&parent, &origin), &near(places, &origin), &origins)?;
                    origins.pop();
                    Some(parent)
                }
            };
            origins.push(origin);
            contents.push(content);
        }
        let name = match &origins[0] {
            Origin::BuiltIn(name) => (*name).to_owned(),
            Origin::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        };
        Ok(Template { name, origins, values: merge(contents) })
    }

    /// A value, if the template has one.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.values.get(field).map(|given| &given.value)
    }
}

/// A path in a template is meant from the template's directory.
fn beside(parent: &str, origin: &Origin) -> String {
    match origin {
        Origin::File(path) if is_path(parent) => {
            path.parent().unwrap_or(Path::new(".")).join(parent).to_string_lossy().into_owned()
        }
        _ => parent.to_owned(),
    }
}

/// A name in a template is looked for beside the template first.
fn near(places: &Places, origin: &Origin) -> Places {
    let mut places = places.clone();
    if let Origin::File(path) = origin {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        places.directories.insert(0, directory.unwrap_or(Path::new(".")).to_owned());
    }
    places
}

fn is_path(argument: &str) -> bool {
    argument.contains('/') || argument.ends_with(".toml")
}

/// Finds a template; those of `seen` are passed over, so that `slurm.toml` may extend `slurm`.
fn locate(argument: &str, places: &Places, seen: &[Origin]) -> Result<Origin, TemplateError> {
    if is_path(argument) {
        return Ok(Origin::File(argument.into()));
    }
    let files = places.directories.iter().map(|directory| directory.join(format!("{argument}.toml")));
    let found = files.filter(|path| path.is_file()).map(Origin::File).find(|origin| !is_seen(origin, seen));
    let built_in =
        || BUILT_IN.iter().find(|(name, _)| *name == argument).map(|(name, _)| Origin::BuiltIn(name));
    let not_found = || {
        let names = places.list().into_iter().map(|(name, _)| name).collect();
        TemplateError::NotFound(argument.to_owned(), places.directories.clone(), names)
    };
    found.or_else(built_in).ok_or_else(not_found)
}

fn is_seen(origin: &Origin, seen: &[Origin]) -> bool {
    let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    };
    seen.iter().any(|other| match (origin, other) {
        (Origin::File(one), Origin::File(other)) => same(one, other),
        (one, other) => one == other,
    })
}

fn read(origin: &Origin) -> Result<Content, TemplateError> {
    match origin {
        Origin::BuiltIn(name) => {
            let (name, text) =
                BUILT_IN.iter().find(|(known, _)| known == name).expect("a built-in template is in the list");
            file::parse(text, &|line| Source::BuiltIn(name, line))
        }
        Origin::File(path) => {
            let text = read_text(path).map_err(|error| TemplateError::Io(path.clone(), error))?;
            file::parse(&text, &|line| Source::File(path.clone(), line))
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it has more than a megabyte"));
    }
    fs::read_to_string(path)
}

/// What is said first counts most; tables are merged.
fn merge(contents: Vec<Content>) -> BTreeMap<&'static str, Given> {
    let mut merged: BTreeMap<&'static str, Given> = BTreeMap::new();
    for (layer, content) in contents.into_iter().rev().enumerate() {
        for (field, (value, source)) in content.values {
            let value = match (merged.get(field).map(|given| &given.value), value) {
                (Some(Value::Pairs(below)), Value::Pairs(above)) => {
                    Value::Pairs(below.clone().into_iter().chain(above).collect())
                }
                (Some(Value::Amounts(below)), Value::Amounts(above)) => {
                    Value::Amounts(below.clone().into_iter().chain(above).collect())
                }
                (_, value) => value,
            };
            merged.insert(field, Given { value, source, layer });
        }
    }
    merged
}
