//! `dagmar cluster`, as a user calls it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// The binary, with no batch system and no templates of anybody's own around.
fn dagmar(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dagmar"));
    command.args(arguments).current_dir(directory).env_clear().env("PATH", directory);
    command.output().expect("dagmar starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn check_says_what_is_asked_where_it_comes_from_and_prints_the_script() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("mysite.toml"), "extends = \"slurm\"\nqueue = \"compute\"\n").unwrap();
    let output = dagmar(directory.path(), &["cluster", "check", "mysite", "-N", "4", "--time", "2h"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for part in [
        "4 nodes, 1 worker on each, and the scheduler beside the first: 5 ranks",
        "compute  (`",
        "mysite.toml` line 2)",
        "4  (`--nodes`)",
        "\n#SBATCH --nodes=4\n",
        "\n#SBATCH --time=02:00:00\n",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn check_in_json_is_one_value() {
    let directory = tempfile::tempdir().unwrap();
    let output = dagmar(directory.path(), &["cluster", "check", "pbs", "--output", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
    assert_eq!(value["system"], "pbs");
    assert!(value["script"].as_str().is_some_and(|script| script.starts_with("#!/bin/bash\n#PBS ")));
}

#[test]
fn wrong_words_are_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], message: &str, hint: &str| {
        let output = dagmar(directory.path(), arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(message) && said.contains(hint), "{said}");
    };
    refused(
        &["cluster", "check", "slrum"],
        "there is no cluster template `slrum`",
        "the nearest name is `slurm`",
    );
    refused(
        &["cluster", "check", "slurm", "-A", "a\nb"],
        "`account = a\\nb` (`--account`)",
        "letters, digits",
    );
    refused(&["cluster", "check", "slurm", "--set", "noodles=4"], "there is no such field", "`nodes`");
    refused(
        &["cluster", "check", "slurm", "--set", "prologue=id"],
        "only a template may say it",
        "of your own",
    );
    refused(&["cluster", "check"], "no cluster is named", "`dagmar cluster list`");
}
