//! Runs that were cut off go on where they were: what is durable is not run again.

use std::fs;
#[cfg(feature = "mpi")]
use std::path::Path;

#[cfg(feature = "mpi")]
use crate::harness::kill;
use crate::harness::{BOTH, Place, Ran, Ranks, until};

/// Forty commands that write down that they began, and the sum of what they print.
const GRAPH: &str = r#"
name = "g"

[tasks.a]
each = { i = "1..40" }
run = ["sh", "-c", "echo $1 >> started; sleep 0.1; echo $1", "sh", "{i}"]

[tasks.sum]
call = "sum"
args = ["@a"]
"#;

fn started(place: &Place) -> usize {
    fs::read_to_string(place.path().join("started")).map_or(0, |text| text.lines().count())
}

/// Starts the graph and kills everything once so many commands began.
fn cut_off(place: &Place, ranks: Ranks, at: usize) {
    let running = place.start(ranks, &["run", "g.toml", "sum", "--cpus", "2"]);
    until("commands run", || if started(place) >= at { Ok(()) } else { Err(started(place).to_string()) });
    place.processes().iter().for_each(|process| {
        let _ = std::process::Command::new("kill").args(["-9", &process.pid.to_string()]).output();
    });
    drop(running);
    place.expect_nothing_left();
}

/// How many tasks were durable and how many were to do, as a resume tells.
fn resumed(ran: &Ran) -> (usize, usize) {
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("resumed: "));
    let mut numbers = line.expect("it tells").split(", ").map(|part| part.split_whitespace().next());
    let mut next = || numbers.next().flatten().and_then(|number| number.parse().ok()).expect("a number");
    (next(), next())
}

#[test]
fn a_killed_run_goes_on_behind_what_is_durable() {
    for ranks in BOTH {
        let place = Place::with(GRAPH);
        cut_off(&place, ranks, 20);
        let before = started(&place);
        let ran = place.expect(0, ranks, &["resume", "--cpus", "2"]);
        assert_eq!(ran.text().trim(), "820", "{ran}");
        // What ran when the kill came, and what had ended since the last sync, runs again, and nothing else.
        let (durable, to_do) = resumed(&ran);
        assert!(durable > 0 && durable + to_do == 41, "{ran}");
        assert_eq!(started(&place), before + to_do - 1, "{before} starts before, {ran}");
        assert_eq!(place.status()["exit_code"], 0);
    }
}

/// Takes the outcome away.
fn unfinish(place: &Place) {
    fs::remove_file(place.run().join("finished")).expect("it was over");
}

#[test]
fn a_run_that_is_done_is_told_once_more() {
    let place = Place::with(GRAPH);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "8"]);
    let ran = place.expect(0, Ranks::Alone, &["resume"]);
    assert_eq!((ran.text().trim(), started(&place)), ("820", 40));
    assert_eq!(ran.stderr, "g-0001 is done already\n");
    assert!(!place.run().join("journal.2").exists());
    // It was killed just before it could say so.
    unfinish(&place);
    let ran = place.expect(0, Ranks::Alone, &["resume"]);
    assert_eq!((ran.text().trim(), started(&place)), ("820", 40));
    ran.tells("resumed: 41 durable, 0 to do, 0 repeated");
}

#[test]
fn what_an_index_does_not_tell_any_more_is_an_error_and_not_a_shorter_output() {
    let place = Place::with(GRAPH);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "8"]);
    let index = place.run().join("output/rank-1.index");
    let whole = fs::read(&index).expect("it is there");
    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&index, bytes).expect("it can be written");
    };
    flip(whole.len() - 1);
    let ran = place.expect(0, Ranks::Alone, &["resume"]);
    ran.tells("resumed: 40 durable, 1 to do, 0 repeated\n  sum runs again: its output is in no pack");
    assert_eq!((ran.text().trim(), started(&place)), ("820", 40));
    flip(whole.len() / 2);
    place.expect(1, Ranks::Alone, &["logs"]).tells("some of what was printed is lost");
}

#[test]
fn an_asked_for_output_that_cannot_be_read_any_more_is_made_again() {
    let place = Place::with(GRAPH);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "8"]);
    let pack = place.run().join("output/rank-1.pack");
    let mut bytes = fs::read(&pack).expect("it is there");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&pack, bytes).expect("it can be written");
    let ran = place.expect(0, Ranks::Alone, &["resume"]);
    ran.tells("resumed: 40 durable, 1 to do, 0 repeated\n  sum runs again: ");
    assert_eq!((ran.text().trim(), started(&place)), ("820", 40));
    assert_eq!(place.expect(0, Ranks::Alone, &["resume"]).stderr, "g-0001 is done already\n");
}

#[test]
fn a_stopped_run_is_resumed_and_a_cancelled_one_too() {
    for (signal, code) in [("TERM", 4), ("INT", 130)] {
        let place = Place::with(GRAPH);
        let running = place.start(Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "4"]);
        until("commands run", || if started(&place) >= 8 { Ok(()) } else { Err(String::new()) });
        running.signal(signal);
        let ran = running.end();
        assert_eq!(ran.code(), Some(code), "{ran}");
        ran.tells("; `dagmar resume g-0001` goes on with what is left").tells("not finished in");
        assert_eq!(place.expect(0, Ranks::Alone, &["resume", "--cpus", "4"]).text().trim(), "820");
    }
}

#[test]
fn what_failed_is_tried_again() {
    let graph = "name = \"g\"\n[tasks.a]\nrun = \"test -e there && echo 7\"\n[tasks.b]\ncall = \"add\"\nargs = [\"@a\", 1]\n";
    let place = Place::with(graph);
    place.expect(3, Ranks::Alone, &["run", "g.toml", "b"]);
    place.write("there", "");
    assert_eq!(place.expect(0, Ranks::Alone, &["resume"]).text().trim(), "8");
}

#[test]
fn a_file_that_is_gone_is_made_again_if_somebody_needs_it() {
    let graph = "name = \"g\"\n[tasks.a]\nrun = \"echo made >> log; echo x > out\"\noutputs = [\"out\"]\n\
                 [tasks.b]\nrun = \"test -e there && cat {inputs}\"\ninputs = [\"out\"]\n";
    let place = Place::with(graph);
    place.expect(3, Ranks::Alone, &["run", "g.toml", "b"]);
    place.expect(3, Ranks::Alone, &["resume"]).tells("resumed: 1 durable, 1 to do, 0 repeated");
    fs::remove_file(place.path().join("out")).expect("it was made");
    place.write("there", "");
    assert_eq!(place.expect(0, Ranks::Alone, &["resume"]).text(), "x\n");
    assert_eq!(place.read("log").lines().count(), 2);
    fs::remove_file(place.path().join("out")).expect("it was made");
    unfinish(&place);
    place.expect(0, Ranks::Alone, &["resume"]);
    assert_eq!(place.read("log").lines().count(), 2, "`b` is durable, and nobody else needs it");
}

#[test]
fn an_output_that_cannot_be_read_is_told_of_and_made_again() {
    for ranks in BOTH {
        let graph = "name = \"g\"\n[tasks.a]\nrun = \"echo made >> log; echo 20\"\n\
                     [tasks.b]\nrun = \"test -e there && cat\"\nstdin = \"@a\"\n";
        let place = Place::with(graph);
        place.expect(3, ranks, &["run", "g.toml", "b"]);
        for entry in fs::read_dir(place.run().join("output")).expect("it is there").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "pack") {
                let text = fs::read_to_string(entry.path()).expect("it is text");
                fs::write(entry.path(), text.replace("20", "21")).expect("it can be written");
            }
        }
        place.write("there", "");
        let resumed = place.expect(0, ranks, &["resume"]);
        assert_eq!((resumed.text(), place.read("log").lines().count()), ("20\n", 2), "{resumed}");
        resumed.tells("warning: the output of `a` cannot be read, and is looked for again: `");
    }
}

#[test]
fn only_one_process_has_a_run() {
    let place = Place::with(GRAPH);
    let running = place.start(Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "2"]);
    until("commands run", || if started(&place) >= 4 { Ok(()) } else { Err(String::new()) });
    let refused = place.expect(2, Ranks::Alone, &["resume"]);
    refused.tells("cannot take the run: it is being scheduled already, by process");
    assert_eq!(running.end().text().trim(), "820");
    assert_eq!(started(&place), 40);
}

#[test]
fn of_many_that_resume_at_once_one_does() {
    let place = Place::with(GRAPH);
    cut_off(&place, Ranks::Alone, 10);
    let running: Vec<_> =
        (0..6).map(|_| place.start(Ranks::Alone, &["resume", "--cpus", "4", "--quiet"])).collect();
    let codes: Vec<_> = running.into_iter().map(|running| running.end().code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| [Some(0), Some(2)].contains(code)), "{codes:?}");
    assert_eq!(place.status()["exit_code"], 0);
}

#[test]
fn a_journal_that_is_damaged_is_refused_and_named() {
    let place = Place::with(GRAPH);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "8"]);
    unfinish(&place);
    let journal = place.run().join("journal");
    let mut bytes = fs::read(&journal).expect("there is a journal");
    bytes[60] ^= 1;
    fs::write(&journal, bytes).expect("it can be written");
    let refused = place.expect(1, Ranks::Alone, &["resume"]);
    refused.tells("is damaged from byte 40 to byte").tells("`dagmar resume --skip-damage` goes on without");
    // What is told behind the damage counts.
    let before = started(&place);
    let ran = place.expect(0, Ranks::Alone, &["resume", "--skip-damage"]);
    ran.tells("events are lost, and what they told is done again: ");
    let (durable, to_do) = resumed(&ran);
    assert_eq!((ran.text().trim(), durable + to_do), ("820", 41), "{ran}");
    assert_eq!(started(&place), before + to_do.saturating_sub(1), "{ran}");
    assert_eq!(place.status()["exit_code"], 0);
    // What is damaged stays so.
    unfinish(&place);
    place.expect(1, Ranks::Alone, &["resume"]).tells("is damaged from byte 40 to byte");
}

#[test]
fn a_run_whose_journal_is_gone_is_not_begun_anew() {
    let place = Place::with(GRAPH);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "sum", "--cpus", "8"]);
    unfinish(&place);
    fs::remove_file(place.run().join("journal")).expect("it was there");
    let refused = place.expect(1, Ranks::Alone, &["resume"]);
    refused
        .tells("cannot resume `g-0001`: its journal `")
        .tells("` is gone, and outputs of its tasks are there");
    place.expect(1, Ranks::Alone, &["resume", "g-0001", "g.toml"]).tells("is gone");
    assert_eq!(started(&place), 40);
    place.expect(0, Ranks::Alone, &["logs", "g-0001", "a[7]", "--stdout"]).tells("");
}

#[test]
fn nothing_is_durable_that_nobody_persists() {
    let place = Place::with(GRAPH);
    place
        .expect(2, Ranks::Alone, &["run", "g.toml", "sum", "--persist", "none"])
        .tells("cannot print `sum` with `--persist none`");
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--persist", "none", "--cpus", "8"]);
    unfinish(&place);
    place
        .expect(0, Ranks::Alone, &["resume", "--cpus", "8"])
        .tells("resumed: 0 durable, 41 to do, 41 repeated");
    assert_eq!(started(&place), 80);
}

#[test]
fn functions_are_durable_when_all_is_persisted() {
    let graph = "name = \"g\"\n[tasks.a]\neach = { i = \"1..9\" }\ncall = \"add\"\nargs = [\"{i}\", 1]\n\
                 [tasks.sum]\ncall = \"sum\"\nargs = [\"@a\"]\n";
    let place = Place::with(graph);
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--persist", "all"]);
    unfinish(&place);
    place.expect(0, Ranks::Alone, &["resume"]).tells("resumed: 10 durable, 0 to do, 0 repeated");
}

#[cfg(feature = "mpi")]
#[test]
fn a_worker_that_stands_still_is_given_up_and_its_work_done_by_others() {
    let place = Place::with(GRAPH);
    let mut command = place.command(Ranks::Mpi(3));
    command.env("DAGMAR_SILENCE", "3").args(["run", "g.toml", "sum", "--cpus", "2"]);
    let running = place.spawn(command);
    until("commands run", || if started(&place) >= 8 { Ok(()) } else { Err(String::new()) });
    let rank =
        |pid: i32| fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
    let is_second = |pid: i32| {
        let marks = [b"OMPI_COMM_WORLD_RANK=2".as_slice(), b"PMI_RANK=2"];
        rank(pid).split(|byte| *byte == 0).any(|variable| marks.contains(&variable))
    };
    let frozen = place.named("dagmar").into_iter().find(|process| is_second(process.pid));
    kill("STOP", frozen.expect("rank 2 runs").pid);
    let ran = running.end();
    assert_eq!(ran.text().trim(), "820", "{ran}");
    ran.tells("1 worker lost");
    place.expect_nothing_left();
}

#[test]
fn nothing_is_started_that_would_not_be_over_in_time() {
    let graph = "name = \"g\"\n[tasks.long]\nrun = \"echo long >> began\"\nexpected = \"1h\"\n\
                 [tasks.short]\nrun = \"echo short >> began\"\nexpected = \"1s\"\n";
    let place = Place::with(graph);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let mut command = place.command(Ranks::Alone);
    command.env("DAGMAR_UNTIL", (now.as_secs() + 60).to_string()).args(["run", "g.toml"]);
    let ran = place.spawn(command).end();
    assert_eq!((ran.code(), place.read("began").as_str()), (Some(4), "short\n"), "{ran}");
    place.expect(0, Ranks::Alone, &["resume"]);
    assert_eq!(place.read("began"), "short\nlong\n");
}

/// As long as nothing is known of it, a run directory is taken to write 100 MB in a second.
#[test]
fn a_run_that_holds_much_stops_early_enough_to_save_it() {
    let graph = "name = \"g\"\n[tasks.block]\neach = { i = \"1..3\" }\ncall = \"range\"\nargs = [3000000]\n\
                 [tasks.wait]\nrun = \"test -e there || sleep 1000\"\n\
                 [tasks.len]\neach = { i = \"1..3\" }\ncall = \"len\"\nargs = [\"@block[{i}]\"]\nafter = [\"wait\"]\n";
    let place = Place::with(graph);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let mut command = place.command(Ranks::Alone);
    command.env("DAGMAR_UNTIL", (now.as_secs() + 8).to_string()).args(["run", "g.toml", "--cpus", "2"]);
    let ran = place.spawn(command).end();
    assert_eq!(ran.code(), Some(4), "{ran}");
    place.write("there", "");
    let ran = place.expect(0, Ranks::Alone, &["resume"]);
    ran.tells("resumed: 3 durable, 4 to do, 0 repeated");
}
