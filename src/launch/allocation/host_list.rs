//! Slurm's short form of many host names: `n[1-3,07,10-12],login1`.

use std::fmt;

/// More hosts than any machine has, and more bytes than their names take: a list that would make more is damaged.
const HOSTS_MAX: usize = 200_000;
const BYTES_MAX: usize = 16 << 20;

/// Why a host list cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostListError {
    /// A bracket without its other half.
    Bracket(String),
    /// A range that is none.
    Range(String),
    /// It would name too many hosts, or hosts with names that are too long.
    TooMany,
}

impl fmt::Display for HostListError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostListError::Bracket(text) => {
                write!(out, "a bracket without its other half in `{}`", text.escape_debug())
            }
            HostListError::Range(text) => write!(out, "`{}` is no range of numbers", text.escape_debug()),
            HostListError::TooMany => {
                write!(
                    out,
                    "it names more than {HOSTS_MAX} hosts, or takes more than {BYTES_MAX} bytes for them"
                )
            }
        }
    }
}

impl std::error::Error for HostListError {}

/// All host names in the order in which Slurm has them. Zeros before a range's first number are kept.
pub fn expand(list: &str) -> Result<Vec<String>, HostListError> {
    let mut names = Vec::new();
    for part in parts(list)? {
        let more = expand_part(part)?;
        if names.len() + more.len() > HOSTS_MAX {
            return Err(HostListError::TooMany);
        }
        names.extend(more);
    }
    Ok(names)
}

/// The parts between commas that are not in brackets.
fn parts(list: &str) -> Result<Vec<&str>, HostListError> {
    let mut parts = Vec::new();
    let (mut start, mut is_inside) = (0, false);
    for (at, byte) in list.bytes().enumerate() {
        match (byte, is_inside) {
            (b'[', false) => is_inside = true,
            (b']', true) => is_inside = false,
            (b'[', true) | (b']', false) => return Err(HostListError::Bracket(list.to_owned())),
            (b',' | b' ' | b'\n', false) => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if is_inside {
        return Err(HostListError::Bracket(list.to_owned()));
    }
    parts.push(&list[start..]);
    parts.retain(|part| !part.is_empty());
    Ok(parts)
}

/// One name with any number of brackets. The last one runs fastest; of those before it, and this is
/// Slurm's own order, the first one does.
fn expand_part(part: &str) -> Result<Vec<String>, HostListError> {
    let mut names = vec![String::new()];
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('[') {
        let unpaired = || HostListError::Bracket(part.to_owned());
        let (ranges, after) = after.split_once(']').ok_or_else(unpaired)?;
        let numbers = numbers(ranges)?;
        refuse_too_many(
            names.len().saturating_mul(numbers.len()),
            longest(&names) + before.len() + longest(&numbers),
        )?;
        let join = |(name, number): (&String, &String)| format!("{name}{before}{number}");
        names = if after.contains('[') {
            numbers.iter().flat_map(|number| names.iter().map(move |name| (name, number))).map(join).collect()
        } else {
            names.iter().flat_map(|name| numbers.iter().map(move |number| (name, number))).map(join).collect()
        };
        rest = after;
    }
    refuse_too_many(names.len(), longest(&names) + rest.len())?;
    Ok(names.into_iter().map(|name| name + rest).collect())
}

fn longest(texts: &[String]) -> usize {
    texts.iter().map(String::len).max().unwrap_or(0)
}

/// Before so many texts of so many bytes each are made.
fn refuse_too_many(count: usize, bytes_each: usize) -> Result<(), HostListError> {
    match count > HOSTS_MAX || count.saturating_mul(bytes_each) > BYTES_MAX {
        true => Err(HostListError::TooMany),
        false => Ok(()),
    }
}

/// `1-3,07,10-12` as `1 2 3 07 10 11 12`.
fn numbers(ranges: &str) -> Result<Vec<String>, HostListError> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bad = || HostListError::Range(range.to_owned());
        let (from, to) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if from > to {
            return Err(bad());
        }
        let (width, count) =
            (first.len(), usize::try_from(to - from).unwrap_or(usize::MAX).saturating_add(1));
        refuse_too_many(numbers.len().saturating_add(count), width.max(last.len()))?;
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

/// Digits, and no more than a name has room for.
fn number(digits: &str) -> Option<u64> {
    let is_number = (1..=18).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::batch::printed::captured;
    use proptest::prelude::*;

    fn expanded(list: &str) -> String {
        expand(list).unwrap().join(" ")
    }

    #[test]
    fn lists_are_expanded_as_slurm_expands_them() {
        // Each block: `# LIST`, then what `scontrol show hostnames LIST` printed.
        let text = captured("slurm-22.05", "scontrol-show-hostnames-many.txt");
        let blocks: Vec<&str> = text.split("# ").filter(|block| !block.trim().is_empty()).collect();
        assert!(blocks.len() >= 10, "only {} lists", blocks.len());
        for block in blocks {
            let (list, names) = block.split_once('\n').unwrap();
            assert_eq!(expand(list).unwrap(), names.lines().collect::<Vec<_>>(), "{list}");
        }
        let four = captured("slurm-22.05", "scontrol-show-hostnames.txt");
        assert_eq!(expand("n[1-4]").unwrap(), four.lines().collect::<Vec<_>>());
    }

    #[test]
    fn zeros_and_what_follows_a_bracket_are_kept() {
        assert_eq!(expanded("n[08-11,7]x,login1"), "n08x n09x n10x n11x n7x login1");
        assert_eq!(expanded("n[1-3,07,10-12]x"), "n1x n2x n3x n07x n10x n11x n12x");
        assert_eq!(expanded(""), "");
    }

    #[test]
    fn damaged_lists_are_refused() {
        for list in ["n[1-3", "n1]", "n[[1]]", "n[]", "n[3-1]", "n[a-b]", "n[-1]", "n[1-]", "n[1--2]"] {
            assert!(expand(list).is_err(), "{list}");
        }
        assert_eq!(expand("n[0-999999999]"), Err(HostListError::TooMany));
        assert_eq!(expand("n[0-9999]m[0-9999]"), Err(HostListError::TooMany));
        assert_eq!(expand("n[0-999998],m[1-3]"), Err(HostListError::TooMany));
        let long = "n".repeat(1000);
        for list in [format!("{long}[1-99999]"), format!("n[1-99999]{long}")] {
            assert_eq!(expand(&list), Err(HostListError::TooMany));
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[n0-9\\[\\],\\-é \\n]{0,40}") {
            let _ = expand(&text);
        }

        #[test]
        fn a_shortened_list_names_what_it_was_made_of(
            ranges in proptest::collection::vec((0u64..2000, 0u64..20, 0usize..5), 1..6),
            prefix in "[a-z]{1,5}",
            suffix in "[a-z]{0,3}",
        ) {
            let mut names = Vec::new();
            let mut short = Vec::new();
            for (first, length, width) in &ranges {
                let (last, width) = (first + length, *width);
                // Only the first number's zeros count.
                let width = format!("{first:0width$}").len();
                names.extend((*first..=last).map(|number| format!("{prefix}{number:0width$}{suffix}")));
                short.push(format!("{first:0width$}-{last:0width$}"));
            }
            let list = format!("{prefix}[{}]{suffix}", short.join(","));
            prop_assert_eq!(expand(&list).unwrap(), names);
        }
    }
}
