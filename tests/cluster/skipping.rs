//! `run --if-missing`: what has its files is not run again, as make does it.

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use super::ran;
use crate::harness::{BOTH, MPI_VARIABLES, Place, Ranks, json};

/// Commands that write down that they run. `names` has no files, and `count` takes its value.
const GRAPH: &str = r#"
name = "g"

[tasks.names]
run = "echo names >> log; echo n"

[tasks.part]
each = { i = "1..4" }
run = "echo part{i} >> log; cat in/{i} > out/{i}"
inputs = ["in/{i}"]
outputs = ["out/{i}"]

[tasks.count]
run = "echo count >> log; cat > counted"
stdin = "@names"
outputs = ["counted"]

[tasks.all]
run = "echo all >> log; cat {inputs} > all"
inputs = ["out/*"]
outputs = ["all"]
"#;

fn place() -> Place {
    let place = Place::with(GRAPH);
    fs::create_dir(place.path().join("in")).expect("there is room");
    (1..=4).for_each(|number| drop(place.write(&format!("in/{number}"), format!("{number}\n"))));
    place
}

/// Makes a file as if it had been written so many seconds ago; negative: from now on.
fn age(place: &Place, name: &str, seconds: i64) {
    let shift = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let time = if seconds < 0 { now + shift } else { now - shift };
    File::options()
        .write(true)
        .open(place.path().join(name))
        .and_then(|file| file.set_modified(time))
        .expect("it is there");
}

#[test]
fn what_has_its_files_is_skipped() {
    for ranks in BOTH {
        let place = place();
        let first = place.expect(0, ranks, &["run", "g.toml", "--if-missing"]);
        assert_eq!(ran(&place).len(), 7);
        assert!(!first.stderr.contains("skipped"), "{first}");
        let second = place.expect(0, ranks, &["run", "g.toml", "--if-missing"]);
        second.tells("skipped: 6 (their outputs are there)").tells("0 tasks finished, 6 skipped");
        assert_eq!(ran(&place), Vec::<String>::new());
        let status = place.status();
        assert_eq!((&status["exit_code"], &status["report"]["tasks"]["skipped"]), (&0.into(), &6.into()));
        let groups =
            json(&place.expect(0, Ranks::Alone, &["status", "--output", "json"]).stdout)["groups"].clone();
        assert_eq!(
            (&groups[1]["name"], &groups[1]["skipped"], &groups[1]["finished"]),
            (&"part".into(), &4.into(), &0.into())
        );
        // Without the flag everything runs.
        place.expect(0, ranks, &["run", "g.toml"]);
        assert_eq!(ran(&place).len(), 7);
    }
}

#[test]
fn what_is_missing_or_old_runs_with_what_depends_on_it() {
    let place = place();
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    ran(&place);
    // An input is newer than what was made of it.
    age(&place, "in/3", -100);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--if-missing"]).tells("skipped: 4");
    assert_eq!(ran(&place), ["all", "part3"]);
    age(&place, "in/3", 100);
    // A file is gone. Nothing else runs, and neither does what no task needs that runs.
    fs::remove_file(place.path().join("all")).expect("it was made");
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--if-missing"]).tells("skipped: 5");
    assert_eq!((ran(&place), place.read("all").as_str()), (vec!["all".to_owned()], "1\n2\n3\n4\n"));
    // A value is needed by what runs.
    fs::remove_file(place.path().join("counted")).expect("it was made");
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--if-missing"]).tells("skipped: 5");
    assert_eq!(
        (ran(&place), place.read("counted").as_str()),
        (vec!["count".to_owned(), "names".to_owned()], "n\n")
    );
    // Files of which one is older than another, and none older than an input, are up to date.
    age(&place, "out/1", 50);
    age(&place, "in/1", 60);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--if-missing"]).tells("skipped: 6");
    assert_eq!(ran(&place), Vec::<String>::new());
}

#[test]
fn what_is_asked_for_and_has_no_files_runs() {
    let place = place();
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    ran(&place);
    let asked = place.expect(0, Ranks::Alone, &["run", "g.toml", "names", "--if-missing"]);
    assert_eq!((asked.text(), ran(&place)), ("n\n", vec!["names".to_owned(),]));
    let asked = place.expect(0, Ranks::Alone, &["run", "g.toml", "part", "--if-missing"]);
    assert_eq!((asked.text(), ran(&place)), ("", Vec::new()));
    // What is not printed is told, of a run that is done already, too.
    let told = "`part[1]` and 3 more were skipped: their values are not printed\n";
    asked.tells(told);
    let again = place.expect(0, Ranks::Alone, &["resume"]);
    again.tells("is done already").tells(told);
    assert_eq!((again.text(), ran(&place)), ("", Vec::new()));
    let one = place.expect(0, Ranks::Alone, &["run", "g.toml", "all", "names", "--if-missing"]);
    one.tells("`all` was skipped: its value is not printed\n");
    assert_eq!(one.text(), "{\"key\":\"names\",\"value\":\"n\\n\"}\n");
    let again = place.expect(0, Ranks::Alone, &["resume", "--quiet"]);
    assert_eq!((again.text(), again.stderr.contains("`all`")), (one.text(), false));
    let words = ["run", "g.toml", "part[2]", "names", "--if-missing", "--output", "json"];
    let outputs = json(&place.expect(0, Ranks::Alone, &words).stdout)["outputs"].clone();
    assert_eq!(
        (&outputs[0]["key"], &outputs[0]["skipped"], &outputs[1]["value"]),
        (&"part[2]".into(), &true.into(), &"n\n".into())
    );
}

#[test]
fn a_run_that_goes_on_skips_what_it_skipped() {
    for ranks in BOTH {
        let graph = "name = \"g\"\n\
            [tasks.a]\nrun = \"echo a >> log; echo a > a\"\noutputs = [\"a\"]\n\
            [tasks.b]\nrun = \"echo b >> log; test -e there && cat a > b\"\ninputs = [\"a\"]\noutputs = [\"b\"]\n\
            [tasks.c]\nrun = \"echo c >> log; cat a b > c\"\ninputs = [\"a\", \"b\"]\noutputs = [\"c\"]\n";
        let place = Place::with(graph);
        place.write("a", "a\n");
        place
            .expect(3, ranks, &["run", "g.toml", "--if-missing"])
            .tells("skipped: 1 (their outputs are there)");
        let resumed = place.expect(3, ranks, &["resume"]);
        resumed.tells("resumed: 0 durable, 2 to do, 0 repeated");
        assert!(!resumed.stderr.contains("skipped: "), "it was told when it was decided: {resumed}");
        assert_eq!(ran(&place), ["b", "b"]);
        // Its file is gone meanwhile: then it runs after all.
        fs::remove_file(place.path().join("a")).expect("it was there");
        place.write("there", "");
        let resumed = place.expect(0, ranks, &["resume"]);
        resumed.tells("resumed: 0 durable, 3 to do, 0 repeated").tells("a runs again: `");
        assert_eq!(
            (ran(&place), place.read("c").as_str()),
            (vec!["a".into(), "b".into(), "c".into()], "a\na\n")
        );
        assert_eq!(place.status()["report"]["tasks"]["skipped"], 0);
    }
}

#[test]
fn a_submitted_run_skips_when_it_begins() {
    let place = place();
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    ran(&place);
    fs::remove_file(place.path().join("out/2")).expect("it was made");
    let words = ["submit", "g.toml", "--if-missing", "--cluster", "local", "--wait"];
    let mut command = place.command(Ranks::Alone);
    command.args(words).envs(MPI_VARIABLES);
    let submitted = place.spawn(command).end();
    let batch = fs::read_to_string(place.path().join("dagmar-runs/g-0002/batch.out")).unwrap_or_default();
    assert_eq!(submitted.code(), Some(0), "{submitted}\n{batch}");
    assert_eq!(ran(&place), ["all", "part2"]);
    assert_eq!(place.status()["report"]["tasks"]["skipped"], 4);
}

#[test]
fn what_need_not_run_is_decided_again_if_the_journal_was_torn() {
    let place = place();
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--if-missing"]);
    ran(&place);
    let run = place.path().join("dagmar-runs/g-0002");
    let whole = fs::read(run.join("journal")).expect("it is there");
    for end in (0..whole.len()).step_by(whole.len() / 12) {
        fs::remove_file(run.join("finished")).expect("it was done");
        let _ = fs::remove_file(run.join("lease"));
        (2..9).for_each(|number| drop(fs::remove_file(run.join(format!("journal.{number}")))));
        fs::write(run.join("journal"), &whole[..end]).expect("there is room");
        place.expect(0, Ranks::Alone, &["resume"]);
        assert_eq!(ran(&place), Vec::<String>::new(), "{end} bytes of {}", whole.len());
    }
}

#[test]
fn a_run_that_was_edited_before_it_began_looks_for_files() {
    let place = place();
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    ran(&place);
    // As if it had been submitted and had not begun: nothing is written but what it shall do.
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--if-missing"]);
    let run = place.path().join("dagmar-runs/g-0002");
    ["finished", "journal"].iter().for_each(|name| fs::remove_file(run.join(name)).expect("it is there"));
    place.write(
        "g.toml",
        GRAPH.replace("cat {inputs} > all", "cat {inputs} > every").replace("\"all\"", "\"every\""),
    );
    let edited = place.expect(0, Ranks::Alone, &["resume", "g-0002", "g.toml"]);
    edited.tells("skipped: 5 (their outputs are there)");
    assert_eq!(ran(&place), ["all"]);
}
