//! Paths, absolute and as users see them. Nothing here looks whether a file is there.

use std::path::Path;

use crate::client::formats::text::{Fault, Outcome, Problem};
use crate::core::task::Text;

use super::bytes::reason;

/// `path` made absolute against `directory`, without `.`, `..` and doubled slashes.
pub fn absolute(directory: &str, path: &str) -> String {
    let start = if path.starts_with('/') { "" } else { directory };
    let mut parts: Vec<&str> = Vec::new();
    for part in start.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `absolute` for a text with the attempt's number in it.
pub fn absolute_text(directory: &str, path: Text) -> Text {
    match path {
        Text::Plain(path) => Text::Plain(absolute(directory, &path)),
        Text::AroundAttempt(mut pieces) => {
            if let Some(first) = pieces.first_mut().filter(|first| !first.starts_with('/')) {
                *first = format!("{directory}/{first}");
            }
            Text::AroundAttempt(pieces)
        }
    }
}

/// A directory as an absolute path. Links stay as they are, for they may differ between nodes.
pub fn absolute_directory(directory: &Path) -> Outcome<String> {
    let path =
        std::path::absolute(directory).map_err(|error| Fault::whole(Problem::Unreadable(reason(&error))))?;
    match path.to_str() {
        Some(text) => Ok(absolute("", text)),
        None => Err(Fault::whole(Problem::PathNotUtf8(path.display().to_string()))),
    }
}

/// A path below `directory` as seen from there; any other as it is.
pub fn shown(directory: &str, path: &str) -> String {
    let below = path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
    below.unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_plain() {
        let check = |path: &str, expected: &str| assert_eq!(absolute("/data/run", path), expected, "{path}");
        check("a.txt", "/data/run/a.txt");
        check("./x//y/", "/data/run/x/y");
        check("../a", "/data/a");
        check("/b/../c", "/c");
        check("../../../..", "/");
    }
}
