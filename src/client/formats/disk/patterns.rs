//! The files on disk that a path or a pattern names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use glob::{MatchOptions, Pattern};

use crate::client::formats::text::{Fault, Outcome, Problem, Span};

use super::paths::{absolute, shown};

/// Patterns match as the shell's do: `*` stops at `/` and finds no dot files.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What makes a text a pattern.
const WILD: [char; 3] = ['*', '?', '['];

/// True if a text has wildcards.
pub fn is_wild(text: &str) -> bool {
    text.contains(WILD)
}

/// A pattern with an absolute path.
pub struct FilePattern {
    absolute: String,
    pattern: Pattern,
    span: Span,
}

impl FilePattern {
    /// A pattern that starts at `directory`, which is literal text.
    pub fn new(directory: &str, written: &str, span: Span) -> Outcome<FilePattern> {
        let absolute = absolute(&Pattern::escape(directory), written);
        let pattern = Pattern::new(&absolute).map_err(|error| wrong_pattern(written, &error, span))?;
        Ok(FilePattern { absolute, pattern, span })
    }

    /// True if an absolute path matches.
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.matches_with(path, MATCHING)
    }

    /// What every path that matches begins with.
    pub fn prefix(&self) -> &str {
        &self.absolute[..self.absolute.find(WILD).unwrap_or(self.absolute.len())]
    }

    /// What every path that matches ends with.
    pub fn suffix(&self) -> &str {
        self.absolute.rsplit(['*', '?', ']']).next().unwrap_or_default()
    }
}

/// What was seen of the disk, for many elements look into one directory.
#[derive(Default)]
pub struct Listings {
    by_directory: RefCell<HashMap<String, Rc<Vec<String>>>>,
}

impl Listings {
    /// The files that match. A directory that many elements ask for is listed once.
    pub fn find(&self, pattern: &FilePattern) -> Outcome<Vec<String>> {
        let absolute = pattern.absolute.as_str();
        let (directory, name) = absolute.rsplit_once('/').unwrap_or(("", absolute));
        let directory = unescaped(directory);
        if is_wild(&directory) || name == "**" {
            return glob_disk(absolute, pattern.span);
        }
        let names = self.listing(&directory, pattern.span)?;
        let prefix = &name[..name.find(WILD).unwrap_or(name.len())];
        let start = names.partition_point(|other| other.as_str() < prefix);
        let candidates = names[start..].iter().take_while(|name| name.starts_with(prefix));
        let paths = candidates.map(|name| format!("{directory}/{name}"));
        Ok(paths.filter(|path| pattern.matches(path)).collect())
    }

    fn listing(&self, directory: &str, span: Span) -> Outcome<Rc<Vec<String>>> {
        if let Some(names) = self.by_directory.borrow().get(directory) {
            return Ok(Rc::clone(names));
        }
        let mut names = Vec::new();
        let path = if directory.is_empty() { "/" } else { directory };
        // A directory that is not there has no files; the error then says that nothing matches.
        for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
            match entry.file_name().into_string() {
                Ok(name) => names.push(name),
                Err(name) => return Err(not_text(Path::new(&name), span)),
            }
        }
        names.sort_unstable();
        let names = Rc::new(names);
        self.by_directory.borrow_mut().insert(directory.to_owned(), Rc::clone(&names));
        Ok(names)
    }
}

/// True if there is a file of this absolute path.
pub fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

/// The files that match a pattern, in order, relative to `directory` where they are below it.
pub fn files_matching(pattern: &str, directory: &Path, span: Span) -> Outcome<Vec<String>> {
    let directory = directory.to_str().ok_or_else(|| not_text(directory, span))?;
    let paths = glob_disk(&absolute(&Pattern::escape(directory), pattern), span)?;
    Ok(paths.iter().map(|path| shown(directory, path)).collect())
}

fn glob_disk(absolute: &str, span: Span) -> Outcome<Vec<String>> {
    let paths = glob::glob_with(absolute, MATCHING).map_err(|error| wrong_pattern(absolute, &error, span))?;
    let texts = paths.flatten().map(|path| match path.into_os_string().into_string() {
        Ok(path) => Ok(path),
        Err(path) => Err(not_text(Path::new(&path), span)),
    });
    let mut texts = texts.collect::<Outcome<Vec<_>>>()?;
    texts.sort_unstable();
    Ok(texts)
}

fn not_text(path: &Path, span: Span) -> Box<Fault> {
    Fault::at(span, Problem::PathNotUtf8(path.display().to_string()))
}

fn wrong_pattern(pattern: &str, error: &glob::PatternError, span: Span) -> Box<Fault> {
    let (pattern, reason) = (pattern.to_owned(), error.msg.to_owned());
    Fault::at(span, Problem::BadPattern { pattern, reason })
}

/// Undoes `Pattern::escape`.
fn unescaped(pattern: &str) -> String {
    ["*", "?", "[", "]"]
        .iter()
        .fold(pattern.to_owned(), |text, wild| text.replace(&format!("[{wild}]"), wild))
}
