//! `publish = "rename"`: files are visible once, whole, and only of attempts that ended well.

use std::fs;

use crate::harness::{BOTH, Place, Ranks, until};

/// Files written by a list of words, and one that is also a standard output.
const GRAPH: &str = r#"
name = "g"

[defaults]
publish = "rename"

[tasks.a]
each = { i = "1..3" }
run = ["sh", "-c", 'echo part > "$1"; echo $1 >> paths; echo whole > "$1"', "sh", "{outputs}"]
outputs = ["out/a {i}.txt"]

[tasks.b]
run = ["sh", "-c", 'cat out/* > "$1"; echo from stdout', "sh", "{outputs}"]
inputs = ["out/*"]
outputs = ["b.txt", "b.out"]
stdout = "b.out"

[tasks.c]
call = "noop"
"#;

/// What lies in the place besides the run directories and the graph, hidden things too.
fn files(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path()).expect("it is there").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> =
        names.filter(|name| !["dagmar-runs", "g.toml"].contains(&name.as_str())).collect();
    names.sort_unstable();
    names
}

#[test]
fn files_are_renamed_into_their_places_once_a_command_has_ended_well() {
    for ranks in BOTH {
        let place = Place::with(GRAPH);
        place.expect(0, ranks, &["run", "g.toml"]);
        assert_eq!(place.read("b.txt"), "whole\nwhole\nwhole\n");
        assert_eq!(place.read("b.out"), "from stdout\n");
        for line in place.read("paths").lines() {
            assert!(
                line.starts_with("out/.dagmar-") && line.ends_with(".txt") && line.contains("/a "),
                "{line}"
            );
        }
        assert_eq!(place.read("paths").lines().collect::<std::collections::BTreeSet<_>>().len(), 3);
        assert_eq!(files(&place), ["b.out", "b.txt", "out", "paths"]);
        assert_eq!(fs::read_dir(place.path().join("out")).expect("it was made").count(), 3);
    }
}

#[test]
fn a_failed_attempt_leaves_nothing_and_an_old_file_is_no_output() {
    let place = Place::with(
        "name = \"g\"\n[tasks.a]\nrun = \"echo new > {outputs}; test -e good\"\noutputs = [\"x\"]\npublish = \"rename\"\n",
    );
    place.expect(3, Ranks::Alone, &["run", "g.toml"]);
    assert_eq!(files(&place), Vec::<String>::new());
    place.write("x", "old\n");
    place.expect(3, Ranks::Alone, &["run", "g.toml"]);
    assert_eq!((files(&place), place.read("x").as_str()), (vec!["x".to_owned()], "old\n"));
    place.write("good", "");
    place.expect(0, Ranks::Alone, &["resume"]);
    assert_eq!(place.read("x"), "new\n");
    // It says that it writes the file, and does not.
    place.write("g.toml", place.read("g.toml").replace("echo new > {outputs}; test -e good", ": {outputs}"));
    place.expect(3, Ranks::Alone, &["run", "g.toml"]).tells("did not write its declared output");
    assert_eq!((files(&place), place.read("x").as_str()), (vec!["good".to_owned(), "x".to_owned()], "new\n"));
}

#[test]
fn a_directory_takes_the_place_of_the_old_one() {
    let graph = |run: &str| {
        format!(
            "name = \"g\"\n[tasks.a]\nrun = \"mkdir {{outputs}} && touch {{outputs}}/{run}\"\noutputs = [\"d\"]\n\
             publish = \"rename\"\n"
        )
    };
    let place = Place::with("");
    for run in ["first", "second"] {
        place.write("g.toml", graph(run));
        place.expect(0, Ranks::Alone, &["run", "g.toml"]);
        assert!(place.path().join("d").join(run).is_file());
        assert_eq!(fs::read_dir(place.path().join("d")).expect("it was made").count(), 1);
        assert_eq!(files(&place), ["d"]);
    }
}

#[test]
fn a_run_that_is_killed_in_the_middle_leaves_old_files_as_they_were() {
    for ranks in BOTH {
        let place = Place::with(
            "name = \"g\"\n[tasks.a]\nrun = \"echo half > {outputs}; touch begun; test -e go || sleep 600; echo whole > {outputs}\"\n\
             outputs = [\"x\"]\npublish = \"rename\"\n[tasks.b]\nrun = \"cat {inputs}\"\ninputs = [\"x\"]\n",
        );
        place.write("x", "old\n");
        let running = place.start(ranks, &["run", "g.toml", "b"]);
        until(
            "it has begun",
            || if place.path().join("begun").exists() { Ok(()) } else { Err(String::new()) },
        );
        place.processes().iter().for_each(|process| {
            let _ = std::process::Command::new("kill").args(["-9", &process.pid.to_string()]).output();
        });
        drop(running);
        place.expect_nothing_left();
        assert_eq!(place.read("x"), "old\n");
        place.write("go", "");
        assert_eq!(place.expect(0, ranks, &["resume"]).text(), "whole\n");
        assert_eq!(place.read("x"), "whole\n");
    }
}

#[test]
fn a_command_that_takes_too_long_leaves_nothing() {
    let place = Place::with(
        "name = \"g\"\n[tasks.a]\nrun = \"echo half > {outputs}; sleep 600\"\noutputs = [\"x\"]\npublish = \"rename\"\n\
         timeout = \"1s\"\ngrace = \"1s\"\n",
    );
    place.expect(3, Ranks::Alone, &["run", "g.toml"]).tells("took longer than its timeout");
    assert_eq!(files(&place), Vec::<String>::new());
}
