//! Runs that go on with an edited graph: what did not change is kept, whatever its number was, and all else runs.

use std::fs;

use super::ran;
use crate::harness::{BOTH, Place, Ran, Ranks, json_lines, until};

/// Commands that write down that they run; `merge` takes values, `last` a standard input.
const GRAPH: &str = r#"
name = "g"

[tasks.index]
run = "echo index >> log; echo 1 > idx"
outputs = ["idx"]

[tasks.align]
each = { part = "00..07" }
run = ["sh", "-c", "echo align-$1 >> log; echo $1", "sh", "{part}"]
after = ["index"]

[tasks.merge]
call = "concat"
args = ["@align[00]", "@align[07]"]

[tasks.last]
run = "echo last >> log; sed 's/^/got /'"
stdin = "@align[03]"
"#;

/// The value that was printed of a key.
fn value(ran: &Ran, key: &str) -> String {
    let lines = json_lines(&ran.stdout);
    let line = lines.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("{key} in {ran}"));
    line["value"].as_str().expect("it is text").to_owned()
}

/// A place in which the graph has run.
fn done(ranks: Ranks) -> Place {
    let place = Place::with(GRAPH);
    place.expect(0, ranks, &["run", "g.toml", "merge", "last", "align"]);
    assert_eq!(ran(&place).len(), 10);
    place
}

#[test]
fn what_changed_runs_again_with_what_depends_on_it_and_nothing_else() {
    for ranks in BOTH {
        let place = done(ranks);
        place.write("g.toml", GRAPH.replace("s/^/got /", "s/^/GOT /"));
        let edited = place.expect(0, ranks, &["resume", "g-0001", "g.toml"]);
        assert_eq!((ran(&place), value(&edited, "last").as_str()), (vec!["last".to_owned()], "GOT 03\n"));
        assert_eq!(value(&edited, "merge"), "00\n07\n");
        edited.tells("resumed: 10 durable, 1 to do, 0 repeated\n  last runs again: its command changed\n");
        let status = place.status();
        assert_eq!((&status["exit_code"], &status["report"]["tasks"]["finished"]), (&0.into(), &11.into()));
        let logs = place.expect(0, Ranks::Alone, &["logs", "g-0001", "align[05]", "--stdout"]);
        assert_eq!(logs.text(), "05\n");
        // Without a graph it is the latest that goes on.
        place.expect(0, ranks, &["resume"]).tells("g-0001 is done already");
        place.expect(0, Ranks::Alone, &["wait"]).tells("11 finished, 0 failed; exit code 0");
    }
}

#[test]
fn two_edits_one_after_the_other_move_all_tasks() {
    for ranks in BOTH {
        let place = done(ranks);
        // Another order, one more task in front, and elements that have other places.
        let (index, rest) = GRAPH.split_once("[tasks.align]").expect("it is there");
        let (head, index) = index.split_once("[tasks.index]").expect("it is there");
        let second = format!(
            "{head}[tasks.first]\nrun = \"echo first >> log; echo 1st\"\n[tasks.align]{rest}\n[tasks.index]{index}"
        );
        let second = second.replace("00..07", "02..08").replace("@align[00]", "@first");
        place.write("g.toml", &second);
        let edited = place.expect(0, ranks, &["resume", "g-0001", "g.toml"]);
        assert_eq!(ran(&place), ["align-08", "first"]);
        assert_eq!(
            (value(&edited, "merge").as_str(), value(&edited, "last").as_str()),
            ("1st\n07\n", "got 03\n")
        );
        for line in
            ["align[08] is new", "first is new", "merge runs again: it depends on first", "align[00] is gone"]
        {
            edited.tells(line);
        }
        let third = second.replace("{ part = \"02..08\" }", "{ part = [\"08\", \"07\", \"03\"] }");
        let third = third.replace("[tasks.last]", "[tasks.end]");
        place.write("g.toml", third);
        let edited = place.expect(0, ranks, &["resume", "g-0001", "g.toml", "merge", "end", "align[08]"]);
        assert_eq!(ran(&place), ["last"]);
        assert_eq!(
            ["merge", "end", "align[08]"].map(|key| value(&edited, key)),
            ["1st\n07\n", "got 03\n", "08\n"]
        );
        edited.tells("end is new").tells("last is gone").tells("align[02] is gone");
        assert_eq!(
            place.expect(0, Ranks::Alone, &["logs", "g-0001", "align[08]", "--stdout"]).text(),
            "08\n"
        );
        place.expect(2, Ranks::Alone, &["logs", "g-0001", "align[02]"]);
        let edited = place.expect(0, ranks, &["resume"]);
        assert_eq!(value(&edited, "end"), "got 03\n");
    }
}

#[test]
fn an_upstream_change_runs_all_that_depends_on_it_in_whatever_way() {
    let place = done(Ranks::Alone);
    place.write("g.toml", GRAPH.replace("echo 1 > idx", "echo 2 > idx"));
    let edited = place.expect(0, Ranks::Alone, &["resume", "g-0001", "g.toml"]);
    assert_eq!(ran(&place).len(), 10);
    edited.tells("resumed: 0 durable, 11 to do, 0 repeated");
    edited.tells("index runs again: its command changed").tells("align[00] runs again: it depends on index");
    edited.tells("and 1 more, which `logs/rank-0.log` in the run directory names");
    let log = fs::read_to_string(place.run().join("logs/rank-0.log")).expect("there is a log");
    assert!(log.contains("last runs again: it depends on align[03]"), "{log}");
}

#[test]
fn what_does_not_show_in_outputs_may_change_freely() {
    let place = done(Ranks::Alone);
    let options = "after = [\"index\"]\nretries = 3\ntimeout = \"5m\"\npriority = 7\nresources = { cpus = 2, memory = \"1MB\" }";
    place.write("g.toml", GRAPH.replace("after = [\"index\"]", options));
    let edited = place.expect(0, Ranks::Alone, &["resume", "g-0001", "g.toml", "--cpus", "2"]);
    edited.tells("resumed: 11 durable, 0 to do, 0 repeated");
    assert_eq!(ran(&place), Vec::<String>::new());
}

#[test]
fn a_command_that_failed_is_mended_by_an_edit() {
    let graph = "name = \"g\"\n[tasks.a]\nrun = \"echo a >> log; echo 20\"\n[tasks.b]\nrun = \"exit 3\"\n\
                 [tasks.c]\ncall = \"add\"\nargs = [\"@a\", \"@b\"]\n";
    let place = Place::with(graph);
    place.expect(3, Ranks::Alone, &["run", "g.toml", "c"]);
    place.write("g.toml", graph.replace("exit 3", "echo 22"));
    let edited = place.expect(0, Ranks::Alone, &["resume", "g-0001", "g.toml"]);
    assert_eq!((edited.text(), ran(&place)), ("42\n", vec!["a".to_owned()]));
    edited.tells("resumed: 1 durable, 2 to do, 0 repeated\n  b runs: its command changed\n");
}

#[test]
fn another_graph_and_keys_that_it_has_not_are_refused() {
    let place = done(Ranks::Alone);
    place.write("other.toml", GRAPH.replace("name = \"g\"", "name = \"h\""));
    let refused = place.expect(2, Ranks::Alone, &["resume", "g-0001", "other.toml"]);
    refused
        .tells("cannot resume `g-0001` with `other.toml`: that is the graph `h`, and this is a run of `g`");
    place.expect(2, Ranks::Alone, &["resume", "g-0001", "g.toml", "lost"]).tells("`lost`");
    place.expect(2, Ranks::Alone, &["resume", "g-0001", "none.toml"]).tells("cannot read `none.toml`");
    assert!(!place.run().join("journal.2").exists(), "nothing was begun");
}

/// Starts the run of a slow graph and kills everything once so many commands began.
fn cut_off(place: &Place, ranks: Ranks, arguments: &[&str], at: usize) {
    let running = place.start(ranks, arguments);
    let count = || fs::read_to_string(place.path().join("log")).map_or(0, |text| text.lines().count());
    until("commands run", || if count() >= at { Ok(()) } else { Err(count().to_string()) });
    place.processes().iter().for_each(|process| {
        let _ = std::process::Command::new("kill").args(["-9", &process.pid.to_string()]).output();
    });
    drop(running);
    place.expect_nothing_left();
}

#[test]
fn an_edited_run_that_is_killed_goes_on_with_its_new_graph() {
    for ranks in BOTH {
        let slow = GRAPH.replace("echo $1\"", "sleep 0.1; echo $1\"").replace("00..07", "00..39");
        let place = Place::with(&slow.replace("align[07]", "align[39]"));
        cut_off(&place, ranks, &["run", "g.toml", "merge", "last", "align", "--cpus", "2"], 15);
        let first = ran(&place);
        let edit = slow.replace("align[07]", "align[49]").replace("00..39", "10..49");
        place.write("g.toml", edit.replace("align[00]", "align[10]").replace("align[03]", "align[13]"));
        cut_off(&place, ranks, &["resume", "g-0001", "g.toml", "merge", "last", "align", "--cpus", "2"], 10);
        let second = ran(&place);
        let resumed = place.expect(0, ranks, &["resume", "--cpus", "2"]);
        let third = ran(&place);
        assert_eq!(
            (value(&resumed, "merge").as_str(), value(&resumed, "last").as_str()),
            ("10\n49\n", "got 13\n")
        );
        // What ran when a kill came, and what had ended since the last sync, ran again, and nothing else.
        let line = resumed.stderr.lines().find_map(|line| line.strip_prefix("resumed: ")).expect("it tells");
        let numbers = line.split(", ").filter_map(|part| part.split(' ').next()?.parse::<usize>().ok());
        let [durable, to_do, _] = numbers.collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert!(durable > 0 && durable + to_do == 43, "{line}");
        assert_eq!(third.len(), to_do - 1, "{first:?} {second:?} {third:?}");
        let kept = |line: &&String| second.contains(line) && first.contains(line);
        assert!(first.iter().filter(kept).count() < first.len(), "{first:?} {second:?}");
    }
}

#[test]
fn an_edit_that_a_damaged_journal_refused_is_in_nobodys_way() {
    let place = done(Ranks::Alone);
    let journal = place.run().join("journal");
    let mut bytes = fs::read(&journal).expect("it is there");
    bytes[50] ^= 1;
    fs::write(&journal, &bytes).expect("it can be written");
    fs::remove_file(place.run().join("finished")).expect("it was over");
    place.write("g.toml", GRAPH.replace("s/^/got /", "s/^/GOT /"));
    let refused = place.expect(1, Ranks::Alone, &["resume", "g-0001", "g.toml"]);
    refused.tells("`dagmar resume --skip-damage` goes on without");
    assert!(place.run().join("graph.2.dagmar").exists(), "it was not the edit that was refused");
    let resumed = place.expect(0, Ranks::Alone, &["resume", "--skip-damage"]);
    assert_eq!(value(&resumed, "last"), "got 03\n");
    let edited = place.expect(0, Ranks::Alone, &["resume", "g-0001", "g.toml", "--skip-damage"]);
    assert_eq!(value(&edited, "last"), "GOT 03\n");
}

#[test]
fn a_graph_that_was_not_gone_on_with_counts_for_nothing() {
    let place = done(Ranks::Alone);
    // A life that ended between its graph and its first event.
    fs::write(place.run().join("graph.2.dagmar"), "half a graph").expect("it can be written");
    fs::write(place.run().join("journal.2"), "").expect("it can be written");
    fs::remove_file(place.run().join("finished")).expect("it was over");
    let resumed = place.expect(0, Ranks::Alone, &["resume"]);
    resumed.tells("resumed: 11 durable, 0 to do, 0 repeated");
    assert_eq!(value(&resumed, "last"), "got 03\n");
    place.write("g.toml", GRAPH.replace("s/^/got /", "s/^/GOT /"));
    let edited = place.expect(0, Ranks::Alone, &["resume", "g-0001", "g.toml"]);
    assert_eq!(value(&edited, "last"), "GOT 03\n");
    assert!(place.run().join("graph.4.dagmar").exists());
    assert_eq!(place.status()["exit_code"], 0);
}
