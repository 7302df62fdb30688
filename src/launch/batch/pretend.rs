//! Commands of a batch system, played by small shell scripts in a directory of their own.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Commands;

/// A directory with pretended commands.
pub(crate) struct Pretended(tempfile::TempDir);

impl Pretended {
    /// Plays each command by its script. What a command is asked stands in the file `asked`.
    pub fn new(scripts: &[(&str, &str)]) -> Pretended {
        let directory = tempfile::tempdir().unwrap();
        for (name, script) in scripts {
            let path = directory.path().join(name);
            let asked = directory.path().join("asked");
            let text = format!("#!/bin/sh\necho \"{name} $*\" >> {}\n{script}\n", asked.display());
            write_program(&path, &text);
        }
        Pretended(directory)
    }

    /// How they are called.
    pub fn commands(&self, submit: &str, status: &str, cancel: &str) -> Commands {
        let words = |name: &str| vec![self.0.path().join(name).to_str().unwrap().to_owned()];
        let time_limit = Duration::from_secs(20);
        Commands {
            submit: words(submit),
            status: words(status),
            cancel: words(cancel),
            time_limit,
            ..Commands::default()
        }
    }

    /// Everything that was asked so far.
    pub fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.0.path().join("asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

/// Writes a file that can be called at once. Another process writes it: what this one has open for writing may be
/// open for a moment in a child that another test has just forked, and then nobody can call it ("text file busy").
fn write_program(path: &Path, text: &str) {
    let mut writer = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 700 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
}
