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

/// A real bash that reads many scripts in one process, with the commands of a script replaced by
/// functions that note what they were called with.
pub struct Shell {
    /// Scripts that wait to be evaluated, with what is expected of them.
    waiting: Vec<(String, Vec<String>, String)>,
}

/// Scripts for one bash.
const BATCH: usize = 400;
const END: &str = "==end of script==";

impl Shell {
    pub fn start() -> Shell {
        Shell { waiting: Vec::new() }
    }

    /// The variable has this value when the run is launched.
    pub fn expect_variable(&mut self, script: &str, name: &str, value: &str, story: String) {
        let seen = format!("note variable \"${name}\"\n");
        self.expect(script, &seen, vec!["variable".into(), value.into()], story);
    }

    /// The module, and no other, is loaded.
    pub fn expect_module(&mut self, script: &str, module: &str, story: String) {
        self.expect(script, "", vec!["module".into(), "load".into(), module.into()], story);
    }

    /// The program is called with the run, and with nothing else.
    pub fn expect_launch(&mut self, script: &str, program: &str, run: &str) {
        let quoted = program.replace('\'', r"'\''");
        let probe = script.replace(&format!("'{quoted}' launch "), "note launch ");
        assert_ne!(probe, script, "the program is not called as expected:\n{script}");
        self.expect(&probe, "", vec!["launch".into(), run.into()], format!("the run {run:?}"));
    }

    /// What follows the directives is the same as without the value.
    pub fn expect_same_commands(&mut self, script: &str, plain: &str, story: String) {
        assert_eq!(commands(script), commands(plain), "{story}");
    }

    /// Evaluates the shell's part up to the launch, then `probe`, and compares everything noted.
    fn expect(&mut self, script: &str, probe: &str, expected: Vec<String>, story: String) {
        let until = script.find("\nlaunch=$!").expect("a script launches");
        let from = until - script[..until].rfind("pass_on USR2' USR2\n").map_or(0, |at| until - at);
        let head = &script[..from];
        let head = &head[..head.rfind("\n# A shell takes signals").expect("the traps have a comment")];
        let launch = script[from..until].lines().skip(1).collect::<Vec<_>>().join("\n");
        let launch = launch.trim_start().trim_start_matches("starting=yes\n");
        let launch = if launch.starts_with("note ") { launch.trim_end_matches('&') } else { "" };
        self.waiting.push((format!("{head}\n{probe}{launch}\n"), expected, story));
        if self.waiting.len() >= BATCH {
            self.finish();
        }
    }

    /// Evaluates what waits.
    pub fn finish(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        let mut input = String::from(
            "note() { printf '%s\\0' \"$@\"; printf '\\1\\0'; }\nmodule() { note module \"$@\"; }\ncd() { :; }\n",
        );
        for (script, _, _) in &waiting {
            let quoted = script.replace('\'', r"'\''");
            input.push_str(&format!("( eval '{quoted}' ); printf '%s\\0' '{END}'\n"));
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("all.sh");
        std::fs::write(&path, input).unwrap();
        let output = Command::new("bash").arg(&path).env_clear().env("LC_ALL", "C.UTF-8").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "bash complains");
        let text = String::from_utf8(output.stdout).expect("scripts are UTF-8");
        let end = format!("{END}\0");
        let mut answers = text.split(&end);
        for (script, expected, story) in waiting {
            let answer = answers.next().expect("each script has an answer");
            let noted: Vec<&str> = answer.split('\0').filter(|word| *word != "\u{1}").collect();
            let noted = &noted[..noted.len() - 1];
            assert_eq!(noted, expected, "{story}\n{script}");
        }
    }
}

/// What follows the directives.
fn commands(script: &str) -> Vec<&str> {
    script.lines().skip_while(|line| line.starts_with('#')).collect()
}
