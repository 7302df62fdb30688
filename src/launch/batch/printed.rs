//! What all parsers of printed answers need: words without prefixes, spans of time, numbers.

use crate::core::time::{Micros, Timestamp};

use super::Answer;

/// Characters kept of words that a person will read.
const WORDS_MAX: usize = 1000;

/// What a command complained about, as one line: without the program's name and `error:` before every
/// sentence, without repetitions. What it printed, if it complained about nothing.
pub(crate) fn complaint(answer: &Answer) -> String {
    let stderr = cleaned(&answer.stderr);
    if stderr.is_empty() { cleaned(&answer.stdout) } else { stderr }
}

/// The lines of `text` as one line, without prefixes and repetitions.
pub(crate) fn cleaned(text: &str) -> String {
    let mut sentences: Vec<String> = Vec::new();
    for line in text.lines() {
        let sentence = without_prefixes(line.trim());
        let sentence: String = sentence.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if !sentence.is_empty() && !sentences.contains(&sentence) {
            sentences.push(sentence);
        }
    }
    beginning(&sentences.join("; "))
}

/// The beginning of `text`, for messages.
pub(crate) fn beginning(text: &str) -> String {
    match text.char_indices().nth(WORDS_MAX) {
        Some((end, _)) => format!("{} ...", &text[..end]),
        None => text.to_owned(),
    }
}

fn without_prefixes(line: &str) -> &str {
    const PREFIXES: [&str; 15] = [
        "sbatch:",
        "squeue:",
        "scancel:",
        "scontrol:",
        "sacct:",
        "sinfo:",
        "qsub:",
        "qstat:",
        "qdel:",
        "qselect:",
        "error:",
        "fatal:",
        "slurm_load_jobs error:",
        "allocation failure:",
        "Batch job submission failed:",
    ];
    let mut rest = line;
    while let Some(shorter) = PREFIXES.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
        rest = shorter.trim_start();
    }
    rest
}

/// A span of time as both systems print it: `1-02:03:04`, `02:03:04`, `3:04`, or plain seconds.
pub(crate) fn span(text: &str) -> Option<Micros> {
    let (days, clock) = match text.split_once('-') {
        Some((days, clock)) => (number(days)?, clock),
        None => (0, text),
    };
    let parts: Vec<u64> = clock.split(':').map(number).collect::<Option<_>>()?;
    let of_day = match parts[..] {
        [hours, minutes, seconds] => {
            hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?
        }
        [minutes, seconds] => minutes.checked_mul(60)?.checked_add(seconds)?,
        [seconds] => seconds,
        _ => return None,
    };
    let seconds = days.checked_mul(86_400)?.checked_add(of_day)?;
    seconds.checked_mul(1_000_000).map(Micros)
}

fn number(digits: &str) -> Option<u64> {
    // `parse` would also take a sign.
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().ok() } else { None }
}

/// A moment given in seconds since 1970. Zero, which both systems print for "not yet", is none.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    text.parse().ok().and_then(moment_of)
}

/// The same from a number.
pub(crate) fn moment_of(seconds: u64) -> Option<Timestamp> {
    if seconds == 0 { None } else { seconds.checked_mul(1_000_000).map(Timestamp) }
}

/// What a real command printed once, without the lines that say which command and how it ended.
#[cfg(test)]
pub(crate) fn captured(system: &str, name: &str) -> String {
    let path = format!("{}/tests/captures/{system}/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    if name.ends_with(".json") {
        return text;
    }
    let is_framing =
        |line: &&str| !(line.starts_with("$ ") || (line.starts_with("[exit ") && line.ends_with(']')));
    text.split_inclusive('\n').filter(|line| is_framing(&line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_loses_its_prefixes_and_repetitions() {
        let text = "sbatch: error: invalid partition specified: nosuch\n\
                    sbatch: error: Batch job submission failed: Invalid partition name specified\n\
                    sbatch: error: Batch job submission failed: Invalid partition name specified\n";
        assert_eq!(cleaned(text), "invalid partition specified: nosuch; Invalid partition name specified");
        assert_eq!(cleaned("qsub: Unknown queue\n"), "Unknown queue");
    }

    #[test]
    fn a_complaint_cannot_paint_a_terminal_and_has_an_end() {
        assert_eq!(cleaned("a\u{1b}[2Jb\rc"), "a [2Jb c");
        assert!(cleaned(&"x".repeat(5000)).len() < 1010);
    }

    #[test]
    fn spans_are_read_in_all_their_forms() {
        for (text, seconds) in [
            ("1-02:03:04", 93_784),
            ("7-00:00:00", 604_800),
            ("02:03:04", 7_384),
            ("99:00:00", 356_400),
            ("4:58", 298),
            ("0:00", 0),
            ("42", 42),
        ] {
            assert_eq!(span(text), Some(Micros::from_secs(seconds)), "{text}");
        }
        for text in ["", "UNLIMITED", "INVALID", "1:2:3:4", "-1:00", "+5", "1-", "99999999999999999:00:00"] {
            assert_eq!(span(text), None, "{text}");
        }
    }

    #[test]
    fn no_moment_is_the_beginning_of_time() {
        assert_eq!(moment("1795313621"), Some(Timestamp(1_795_313_621_000_000)));
        assert_eq!(moment("0"), None);
        assert_eq!(moment("N/A"), None);
    }
}
