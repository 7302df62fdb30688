//! Values that have a notation of their own: names of jobs, nodes, features, dependencies.

use crate::launch::batch::System;

use super::{LIST_MAX, NAME_MAX, Refusal, is_plain, strange, too_long, words_of};

/// Longest job name by system, in bytes. PBS Pro's server takes 230; Torque's takes 15.
pub const fn name_max(system: System) -> usize {
    match system {
        System::Torque => 15,
        _ => NAME_MAX,
    }
}

/// A job's name begins with a letter, as PBS wants.
pub fn name(system: System, text: &str) -> Result<(), Refusal> {
    if text.bytes().next().is_some_and(|first| first.is_ascii_digit() || first == b'_') {
        return Err(Refusal::new(
            "it does not begin with a letter",
            "PBS takes no other names, so nobody does",
        ));
    }
    words_of(text, "", "_.+-", name_max(system))
}

/// `n[1-4,7],gpu05`.
pub fn nodes(text: &str) -> Result<(), Refusal> {
    words_of(text, "", "_.-[],", LIST_MAX)?;
    match has_pairs(text, '[', ']') {
        true => Ok(()),
        false => Err(Refusal { why: "its brackets do not match".into(), hint: None }),
    }
}

/// Slurm's `[rack1|rack2]&gpu*2`; what follows a chunk in PBS: `model=rome:bigmem=true`.
pub fn constraint(system: System, text: &str) -> Result<(), Refusal> {
    too_long(text, 1000)?;
    let (first, inner) = match system {
        System::Slurm | System::Local => ("[(", "_.:=-&|*,()[]!@/"),
        System::Pbs | System::Torque => ("", "_.:=-/"),
    };
    if !is_plain(text, first, inner) {
        return Err(Refusal::new(
            strange(text, inner),
            "names of features, and how they are joined, see the manual",
        ));
    }
    match has_pairs(text, '[', ']') && has_pairs(text, '(', ')') {
        true => Ok(()),
        false => Err(Refusal { why: "its brackets do not match".into(), hint: None }),
    }
}

/// True if brackets open and close in turn, one within the other at no time.
fn has_pairs(text: &str, open: char, close: char) -> bool {
    let mut is_open = false;
    for letter in text.chars().filter(|letter| *letter == open || *letter == close) {
        if (letter == open) == is_open {
            return false;
        }
        is_open = letter == open;
    }
    !is_open
}

const SLURM_CONDITIONS: &[&str] =
    &["after", "afterany", "afterburstbuffer", "aftercorr", "afternotok", "afterok", "singleton"];
const PBS_CONDITIONS: &[&str] = &[
    "after",
    "afterok",
    "afternotok",
    "afterany",
    "before",
    "beforeok",
    "beforenotok",
    "beforeany",
    "on",
    "runone",
];

/// Conditions and jobs: `afterok:12:13,afterany:14`.
pub fn dependency(system: System, text: &str) -> Result<(), Refusal> {
    too_long(text, LIST_MAX)?;
    let is_slurm = matches!(system, System::Slurm | System::Local);
    let (conditions, joints) = if is_slurm { (SLURM_CONDITIONS, ",?") } else { (PBS_CONDITIONS, ",") };
    let hint = || match conditions.contains(&"singleton") {
        true => "write `afterok:123`, or `afterany`, `afternotok`, `after`, `singleton`",
        false => "write `afterok:123.server`, or `afterany`, `afternotok`, `after`",
    };
    for item in text.split(|letter| joints.contains(letter)) {
        let mut parts = item.split(':');
        let condition = parts.next().unwrap_or_default();
        if !conditions.contains(&condition) {
            return Err(Refusal::new("it names no condition that is known", hint()));
        }
        let jobs: Vec<&str> = parts.collect();
        if jobs.is_empty() != (condition == "singleton") {
            return Err(Refusal::new("a condition stands without its jobs, or the other way round", hint()));
        }
        if !jobs.iter().all(|job| is_plain(job, "", "_.-+[]@") && has_pairs(job, '[', ']')) {
            return Err(Refusal::new("it names something that is no job", hint()));
        }
    }
    Ok(())
}
