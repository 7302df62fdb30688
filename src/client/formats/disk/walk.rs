//! The walk that finds what a pattern names: directory by directory, only where it can match.
//!
//! The `glob` crate's own walk is not used because it panics where a directory has a name that is
//! not UTF-8 (0.3.4). Names that are not are matched with `U+FFFD` for each wrong sequence, so that
//! only those that a pattern really finds are in anyone's way.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use glob::{Pattern, PatternError};

use super::patterns::{MATCHING, WILD};

/// What was seen of the disk, for many elements look into one directory.
#[derive(Default)]
pub struct Listings {
    by_directory: RefCell<HashMap<PathBuf, Rc<Vec<Name>>>>,
}

/// A name in a directory.
struct Name {
    /// As patterns see it.
    text: String,
    /// As it is, where that is no text.
    raw: Option<OsString>,
    /// A directory itself, not a link to one: links could lead in circles.
    is_directory: bool,
    /// Certainly nothing that has names below it.
    is_file: bool,
}

/// What stands between two slashes of a pattern.
enum Part {
    /// A name without wildcards.
    Name(String),
    /// Names that match, and what they all begin with.
    Wild(Pattern, String),
    /// `**`: directories, any number of them; at the end, every file below.
    Below,
}

impl Listings {
    /// The files that match an absolute pattern, in order. A directory that many elements ask for
    /// is listed once.
    pub fn walk(&self, pattern: &str) -> Result<Vec<PathBuf>, PatternError> {
        let parts = pattern.split('/').filter(|part| !part.is_empty());
        let parts: Vec<Part> = parts.map(Part::new).collect::<Result<_, _>>()?;
        let mut found = Vec::new();
        self.descend(Path::new("/"), &parts, &mut found);
        found.sort_unstable_by(|left, right| left.as_os_str().cmp(right.as_os_str()));
        // With two `**` there is more than one way to a file.
        found.dedup();
        Ok(found)
    }

    fn descend(&self, directory: &Path, parts: &[Part], found: &mut Vec<PathBuf>) {
        let Some((part, rest)) = parts.split_first() else { return found.push(directory.to_owned()) };
        match part {
            Part::Name(name) => {
                let path = directory.join(name);
                if !rest.is_empty() || path.exists() {
                    self.descend(&path, rest, found);
                }
            }
            Part::Wild(pattern, prefix) => {
                let names = self.listing(directory);
                let start = names.partition_point(|name| name.text < *prefix);
                let candidates = names[start..].iter().take_while(|name| name.text.starts_with(prefix));
                for name in candidates.filter(|name| rest.is_empty() || !name.is_file) {
                    if pattern.matches_with(&name.text, MATCHING) {
                        self.descend(&name.below(directory), rest, found);
                    }
                }
            }
            Part::Below => self.descend_below(directory, parts, found),
        }
    }

    /// What `**`, the first of `parts`, finds in a directory and below it.
    fn descend_below(&self, directory: &Path, parts: &[Part], found: &mut Vec<PathBuf>) {
        let rest = &parts[1..];
        if !rest.is_empty() {
            self.descend(directory, rest, found);
        }
        for name in self.listing(directory).iter().filter(|name| !name.text.starts_with('.')) {
            match name.is_directory {
                true => self.descend_below(&name.below(directory), parts, found),
                false if rest.is_empty() => found.push(name.below(directory)),
                false => {}
            }
        }
    }

    fn listing(&self, directory: &Path) -> Rc<Vec<Name>> {
        if let Some(names) = self.by_directory.borrow().get(directory) {
            return Rc::clone(names);
        }
        // A directory that is not there has no files; the error then says that nothing matches.
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut names: Vec<Name> = entries.map(|entry| Name::new(&entry)).collect();
        names.sort_unstable_by(|left, right| left.text.cmp(&right.text));
        let names = Rc::new(names);
        self.by_directory.borrow_mut().insert(directory.to_owned(), Rc::clone(&names));
        names
    }
}

impl Name {
    fn new(entry: &std::fs::DirEntry) -> Name {
        let kind = entry.file_type().ok();
        let (text, raw) = match entry.file_name().into_string() {
            Ok(text) => (text, None),
            Err(raw) => (raw.to_string_lossy().into_owned(), Some(raw)),
        };
        let is_directory = kind.is_some_and(|kind| kind.is_dir());
        Name { text, raw, is_directory, is_file: kind.is_some_and(|kind| kind.is_file()) }
    }

    fn below(&self, directory: &Path) -> PathBuf {
        match &self.raw {
            Some(raw) => directory.join(raw),
            None => directory.join(&self.text),
        }
    }
}

impl Part {
    fn new(part: &str) -> Result<Part, PatternError> {
        if part == "**" {
            return Ok(Part::Below);
        }
        let (prefix, is_whole) = literal(part);
        match is_whole {
            true => Ok(Part::Name(prefix)),
            false => Ok(Part::Wild(Pattern::new(part)?, prefix)),
        }
    }
}

/// What every name that matches begins with, and whether that is the whole name. Undoes
/// `Pattern::escape`.
fn literal(part: &str) -> (String, bool) {
    let mut name = String::new();
    let mut rest = part;
    while let Some(letter) = rest.chars().next() {
        let escaped = ["[*]", "[?]", "[[]", "[]]"].iter().find(|escaped| rest.starts_with(**escaped));
        match escaped {
            Some(escaped) => name.push_str(&escaped[1..2]),
            None if WILD.contains(&letter) => return (name, false),
            None => name.push(letter),
        }
        rest = &rest[escaped.map_or(letter.len_utf8(), |escaped| escaped.len())..];
    }
    (name, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_wildcards_are_letters() {
        let check = |part: &str, prefix: &str, whole| {
            assert_eq!(literal(part), (prefix.to_owned(), whole), "{part}");
        };
        check("a.txt", "a.txt", true);
        check("a*.txt", "a", false);
        check("[ab]", "", false);
        let name = "é[1]*?";
        check(&Pattern::escape(name), name, true);
        check(&format!("{}*", Pattern::escape(name)), name, false);
    }
}
