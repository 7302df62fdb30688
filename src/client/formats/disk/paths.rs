//! Paths, absolute and as users see them. Nothing here looks whether a file is there.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
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
        None => Err(Fault::whole(Problem::PathNotUtf8(escaped(path.as_os_str())))),
    }
}

/// A path below `directory` as seen from there; any other as it is.
pub fn shown(directory: &str, path: &str) -> String {
    let below = path.strip_prefix(directory).and_then(|rest| rest.strip_prefix('/'));
    below.unwrap_or(path).to_owned()
}

/// A path that may be no text, with `\xff` for each byte that is none and control characters escaped.
pub fn escaped(path: &OsStr) -> String {
    let mut text = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter.is_control() {
                true => text.extend(letter.escape_default()),
                false => text.push(letter),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escaped(OsStr::from_bytes(b"a \xc3\xa9\xff\xc3\n.bin")), "a é\\xff\\xc3\\n.bin");
    }

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
