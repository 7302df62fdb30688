//! The files on disk that a path or a pattern names.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use crate::client::formats::text::{Fault, Outcome, Problem, Span};

use super::paths::{absolute, escaped, shown};
use super::walk::Listings;

/// Patterns match as the shell's do: `*` stops at `/` and finds no dot files.
pub(super) const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// What makes a text a pattern.
pub(super) const WILD: [char; 3] = ['*', '?', '['];

/// True if a text has wildcards.
pub fn is_wild(text: &str) -> bool {
    text.contains(WILD)
}

/// A pattern with an absolute path.
pub struct FilePattern {
    written: String,
    absolute: String,
    pattern: Pattern,
    span: Span,
}

impl FilePattern {
    /// A pattern that starts at `directory`, which is literal text.
    pub fn new(directory: &str, written: &str, span: Span) -> Outcome<FilePattern> {
        let absolute = absolute(&Pattern::escape(directory), written);
        let pattern = Pattern::new(&absolute).map_err(|error| wrong_pattern(written, &error, span))?;
        Ok(FilePattern { written: written.to_owned(), absolute, pattern, span })
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

    /// The files on disk that match, in order.
    pub fn on_disk(&self, listings: &Listings) -> Outcome<Vec<String>> {
        let walked = listings.walk(&self.absolute);
        let paths = walked.map_err(|error| wrong_pattern(&self.written, &error, self.span))?;
        let text =
            |path: PathBuf| path.into_os_string().into_string().map_err(|path| self.not_text(path.as_ref()));
        paths.into_iter().map(text).collect()
    }

    /// Refuses a file that matches and cannot be named in a graph.
    fn not_text(&self, path: &Path) -> Box<Fault> {
        // The part that is no text may be a directory above the file.
        let wrong =
            path.ancestors().filter(|path| path.file_name().is_some_and(|name| name.to_str().is_none()));
        let wrong = wrong.last().unwrap_or(path);
        let problem = Problem::NameNotUtf8 {
            pattern: self.written.clone(),
            name: escaped(wrong.file_name().unwrap_or_default()),
            directory: escaped(wrong.parent().unwrap_or(Path::new("/")).as_os_str()),
        };
        Fault::at(self.span, problem).hint("rename it, or write a pattern that does not match it")
    }
}

/// True if there is a file of this absolute path.
pub fn exists(path: &str) -> bool {
    Path::new(path).exists()
}

/// The files that match a pattern, in order, relative to `directory` where they are below it.
pub fn files_matching(pattern: &str, directory: &Path, span: Span) -> Outcome<Vec<String>> {
    let Some(directory) = directory.to_str() else {
        return Err(Fault::at(span, Problem::PathNotUtf8(escaped(directory.as_os_str()))));
    };
    let paths = FilePattern::new(directory, pattern, span)?.on_disk(&Listings::default())?;
    Ok(paths.iter().map(|path| shown(directory, path)).collect())
}

fn wrong_pattern(pattern: &str, error: &glob::PatternError, span: Span) -> Box<Fault> {
    let (pattern, reason) = (pattern.to_owned(), error.msg.to_owned());
    Fault::at(span, Problem::BadPattern { pattern, reason })
}
