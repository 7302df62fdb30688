//! Durations and sizes as people write them.

use crate::core::time::Micros;

use super::tree::{Node, Tree};

/// The longest duration: a hundred years, so that sums of times never overflow.
const SECONDS_MAX: f64 = 100.0 * 366.0 * 86_400.0;

/// Multipliers of sizes; the longest suffixes first, so that `b` does not end `kib`.
const SIZES: [(&str, u64); 16] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("pib", 1 << 50),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("b", 1),
    // As Slurm writes and means them.
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("p", 1 << 50),
];

/// A duration: `"1h 30m"`, or a number of seconds. `Err` says what is wrong.
pub(in crate::client::formats) fn duration(node: &Node) -> Option<Result<Micros, String>> {
    match &node.tree {
        Tree::Int(seconds) => Some(seconds_to_micros(*seconds as f64)),
        Tree::Float(seconds, _) => Some(seconds_to_micros(*seconds)),
        Tree::Text(text) => Some(spoken_duration(text)),
        _ => None,
    }
}

fn seconds_to_micros(seconds: f64) -> Result<Micros, String> {
    match seconds {
        _ if seconds < 0.0 => Err("a duration is not negative".into()),
        _ if seconds <= SECONDS_MAX => Ok(Micros((seconds * 1e6).round() as u64)),
        _ => Err("the longest duration is a hundred years".into()),
    }
}

fn spoken_duration(text: &str) -> Result<Micros, String> {
    let duration = humantime::parse_duration(text.trim())
        .map_err(|_| "a duration is written `90s`, `10m`, `1h 30m`, or as a number of seconds".to_owned())?;
    seconds_to_micros(duration.as_secs_f64())?;
    Ok(duration.into())
}

/// A size: `"2GiB"`, `"2G"` (the same), `"500MB"`, or a number of bytes. `Err` says what is wrong.
pub(in crate::client::formats) fn size(node: &Node) -> Option<Result<u64, String>> {
    match &node.tree {
        Tree::Int(bytes) => Some(u64::try_from(*bytes).map_err(|_| "a size is not negative".into())),
        Tree::Text(text) => Some(spoken_size(text)),
        _ => None,
    }
}

/// A size as people write it: `2GiB`, `500MB`, `4096`.
pub fn spoken_size(text: &str) -> Result<u64, String> {
    let wrong = || "a size is written `2GiB`, `500MB`, or as a number of bytes".to_owned();
    let lower = text.trim().to_ascii_lowercase();
    let split = SIZES.iter().find_map(|(suffix, unit)| Some((lower.strip_suffix(suffix)?, *unit)));
    let (number, unit) = split.ok_or_else(wrong)?;
    let number = number.trim_end();
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(wrong());
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(|| "it does not fit into 64 bits".into());
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * unit as f64;
    (bytes < u64::MAX as f64).then_some(bytes as u64).ok_or_else(|| "it does not fit into 64 bits".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(spoken_size(text).ok(), expected, "{text:?}");
        };
        check("2GiB", Some(2 << 30));
        check("500MB", Some(500_000_000));
        check("8 gb", Some(8_000_000_000));
        check("1.5KiB", Some(1536));
        check("17B", Some(17));
        check("8G", Some(8 << 30));
        check("500m", Some(500 << 20));
        check("64K", Some(64 << 10));
        check("1 T", Some(1 << 40));
        check("8GG", None);
        check("8g b", None);
        check("12", None);
        check("GB", None);
        check("-1MB", None);
        check("1e3MB", None);
        check("99999999PB", None);
    }

    #[test]
    fn durations_are_words_or_seconds() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(spoken_duration(text).ok().map(|micros| micros.0), expected, "{text:?}");
        };
        check("10m", Some(600_000_000));
        check("1h 30m", Some(5_400_000_000));
        check("500ms", Some(500_000));
        check("90", None);
        check("-3s", None);
        check("1000years", None);
        assert_eq!(seconds_to_micros(0.25), Ok(Micros(250_000)));
        assert!(seconds_to_micros(-1.0).is_err() && seconds_to_micros(f64::NAN).is_err());
    }
}
