//! Scripts as bash and the batch systems read them.

use std::io::Write;
use std::process::{Command, Stdio};

/// What `bash -n` says.
pub fn check_syntax(script: &str) -> Result<(), String> {
    let mut bash =
        Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = bash.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The words of each directive: lines with `prefix` up to the first line that is no comment.
pub fn directives(script: &str, prefix: &str) -> Vec<Vec<String>> {
    let head = script.lines().take_while(|line| line.trim().is_empty() || line.starts_with('#'));
    head.filter_map(|line| line.strip_prefix(prefix)).map(words).collect()
}

/// Words as `sbatch` and `qsub` both take them apart: quotes of either kind, and `#` begins a comment.
/// Within quotes `sbatch` reads a backslash and `qsub` does not, so there must be none.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_ascii_whitespace() => words.extend(word.take()),
            (None, '#') => break,
            (_, '\\') => panic!("a backslash means different things: {line}"),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    assert_eq!(quote, None, "a quote is open: {line}");
    words.extend(word);
    words
}

/// The option of a directive: `--nodes` of `--nodes=4`, `-l walltime` of `-l walltime=1:00:00`.
pub fn option(words: &[String]) -> &str {
    let word = match words[0].as_str() {
        "-l" | "-W" => &words[1],
        _ => &words[0],
    };
    word.split('=').next().unwrap_or_default()
}
