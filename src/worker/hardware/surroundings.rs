//! What can be looked up about a node: variables, small files, names in directories.

use std::fs;

/// Where everything about the hardware is looked up. Tests describe a node by it.
pub trait Surroundings {
    /// An environment variable, if it is set and is text.
    fn variable(&self, name: &str) -> Option<String>;

    /// A small file of text, such as those under `/sys`.
    fn text(&self, path: &str) -> Option<String>;

    /// The names in a directory; none if there is no such directory.
    fn names(&self, directory: &str) -> Vec<String>;
}

/// The node that this process runs on.
pub struct ThisNode;

impl Surroundings for ThisNode {
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

/// A node made up of a table.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// Variables as `NAME`, files as `/path`.
    table: std::collections::BTreeMap<String, String>,
}

#[cfg(test)]
impl Described {
    /// A node with these variables (`NAME`) and files (`/path`).
    pub fn new(entries: &[(&str, &str)]) -> Self {
        let entries = entries.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Described { table: entries.collect() }
    }

    /// The same node with more entries.
    pub fn with(&self, entries: &[(&str, &str)]) -> Self {
        let mut table = self.table.clone();
        table.extend(Described::new(entries).table);
        Described { table }
    }
}

#[cfg(test)]
impl Surroundings for Described {
    fn variable(&self, name: &str) -> Option<String> {
        self.table.get(name).cloned()
    }

    fn text(&self, path: &str) -> Option<String> {
        self.table.get(path).cloned()
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let inside = format!("{directory}/");
        let below = self.table.keys().filter_map(|path| path.strip_prefix(&inside)?.split('/').next());
        let mut names: Vec<String> = below.map(str::to_owned).collect();
        names.dedup();
        names
    }
}
