//! The fields of cluster templates: everything that can be asked of a batch system, in one table.
//!
//! Flags, checks, `dagmar cluster show` and the documentation are made from it. What a value may be is
//! said by its kind, see `rule`; what becomes of it stands in the job-script templates.

use super::batch::System;

mod table;

pub use table::FIELDS;

/// One thing that can be asked.
#[derive(Debug)]
pub struct Field {
    /// Its name in templates and after `--set`; a dot leads into a table.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// How Slurm spells it.
    pub slurm: Spelling,
    /// How PBS spells it.
    pub pbs: Spelling,
    /// How Torque spells it.
    pub torque: Spelling,
    /// What it means, in a line.
    pub doc: &'static str,
}

/// How a batch system spells a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// As this option, or part of one.
    Line(&'static str),
    /// Not at all, as the batch system need not know.
    Silent,
    /// It cannot be asked there: a value is refused.
    Unknown,
}

/// What a value may be; `rule` has the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from 1 on.
    Count,
    /// A number, `socket` or `gpu`.
    Workers,
    /// Yes or no.
    Flag,
    /// A time.
    Time,
    /// A size, `none` or `all`.
    Memory,
    /// A size.
    Size,
    /// A job's name.
    Name,
    /// A word without separators.
    Word,
    /// A name that an administrator gave: an account, a reservation.
    Identifier,
    /// Such names, with commas between them.
    Identifiers,
    /// Host names, with ranges in brackets.
    Nodes,
    /// Features of nodes, in the batch system's own notation.
    Constraint,
    /// Jobs to wait for, in the batch system's own notation.
    Dependency,
    /// Words for people.
    FreeText,
    /// A file, below the run directory unless it begins with `/`.
    Path,
    /// A directory on the nodes.
    Place,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of some of these words.
    Choices(&'static [&'static str]),
    /// `all`, `none`, or a list of variables.
    Export,
    /// Variables and their values.
    Variables,
    /// Names and whole numbers.
    Amounts,
    /// The first line of the script.
    Shebang,
    /// A list of options for the batch system, as they are.
    Directives,
    /// A list of modules.
    Modules,
    /// Shell lines, as they are.
    Lines,
    /// A command's words.
    Words,
    /// A list of names of fields.
    Fields,
    /// A file beside the template.
    File,
}

impl Kind {
    /// True if a value is a list, to which flags add.
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Kind::Choices(_)
                | Kind::Export
                | Kind::Directives
                | Kind::Modules
                | Kind::Lines
                | Kind::Words
                | Kind::Fields
        )
    }

    /// True if only a template may have a value: it is code, or belongs to the file.
    pub const fn is_for_templates_alone(self) -> bool {
        matches!(self, Kind::Lines | Kind::File | Kind::Shebang)
    }

    /// True for values that are a table of their own.
    pub const fn is_table(self) -> bool {
        matches!(self, Kind::Variables | Kind::Amounts)
    }
}

impl Field {
    /// The field of this name, or of a name that it also has.
    pub fn find(name: &str) -> Option<&'static Field> {
        let name = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
        FIELDS.iter().find(|field| field.name == name)
    }

    /// How `system` spells it.
    pub const fn spelling(&self, system: System) -> Spelling {
        match system {
            System::Slurm => self.slurm,
            System::Pbs => self.pbs,
            System::Torque => self.torque,
            System::Local => Spelling::Silent,
        }
    }

    /// The name that `wrong` was probably meant to be.
    pub fn nearest(wrong: &str) -> Option<&'static str> {
        nearest(wrong, FIELDS.iter().map(|field| field.name).chain(ALIASES.iter().map(|(alias, _)| *alias)))
    }
}

/// Other names of fields, as Slurm's users know them.
pub const ALIASES: &[(&str, &str)] = &[
    ("partition", "queue"),
    ("time", "walltime"),
    ("job_name", "name"),
    ("output", "stdout"),
    ("error", "stderr"),
    ("cpus_per_task", "cpus_per_worker"),
    ("mem", "memory"),
    ("mem_per_cpu", "memory_per_cpu"),
    ("wall_time", "walltime"),
    ("variables", "environment.variables"),
    ("export", "environment.export"),
];

/// Similarity below which a name is no suggestion.
const SIMILARITY_MIN: f64 = 0.6;

/// The most similar name, if any is similar at all.
pub fn nearest<'a>(wrong: &str, right: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase().replace('-', "_");
    let scored = right.into_iter().map(|name| (strsim::normalized_damerau_levenshtein(&wrong, name), name));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0));
    best.filter(|(score, _)| *score >= SIMILARITY_MIN).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_named_once_and_every_alias_leads_to_one() {
        let mut names: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        names.extend(ALIASES.iter().map(|(alias, _)| *alias));
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        assert!(ALIASES.iter().all(|(alias, _)| Field::find(alias).is_some()));
    }

    #[test]
    fn slips_find_their_field() {
        assert_eq!(Field::nearest("acount"), Some("account"));
        assert_eq!(Field::nearest("cpus-per-workers"), Some("cpus_per_worker"));
        assert_eq!(Field::nearest("xyzzy"), None);
    }
}
