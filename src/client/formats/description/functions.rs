//! Which functions there are, by name.

use std::collections::BTreeSet;

/// The names of the functions that graphs may call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Functions {
    names: BTreeSet<String>,
}

impl Functions {
    /// The functions that are always there.
    pub const BUILT_IN: [&'static str; 20] = [
        "add", "sub", "mul", "div", "sum", "min", "max", "concat", "identity", "list", "get", "len", "range",
        "noop", "sleep", "spin", "kernel", "checksum", "fail", "crash",
    ];

    /// The functions that are always there.
    pub fn built_in() -> Functions {
        Functions::BUILT_IN.into_iter().collect()
    }

    /// True if there is a function of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// All names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The names as a sentence lists them.
    pub(in crate::client::formats) fn listed(&self) -> String {
        self.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    }
}

impl<T: Into<String>> FromIterator<T> for Functions {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Functions { names: names.into_iter().map(Into::into).collect() }
    }
}
