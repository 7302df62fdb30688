//! Commands that misbehave fail alone: they hang nothing, leave nothing, and cost no other task
//! its output.

use crate::harness::{BOTH, Place, Ranks, json_lines};

/// Every kind of misbehaviour, among tasks that behave.
const MAYHEM: &str = r#"
name = "mayhem"

[tasks.good]
each = { i = "0..9" }
run = "echo good {i}"

[tasks.total]
run = "sort -n | tail -1"
stdin = "@good[9]"

[tasks.exits]
run = "echo its last words >&2; exit 1"

[tasks.is_killed]
run = "echo it dies >&2; kill -9 $$"

[tasks.takes_long]
run = "echo it is slow >&2; sleep 1000"
timeout = "1s"

[tasks.is_loud]
run = "head -c 100000000 /dev/zero | tr '\\0' x"

[tasks.has_a_daemon]
run = "setsid sleep 1000 & echo its daemon runs"

[tasks.is_mute]
run = "exec >&- 2>&-; true"

[tasks.is_stubborn]
run = "trap '' TERM; echo it stays >&2; while :; do sleep 0.1; done"
timeout = "1s"
grace = "500ms"

[tasks.forgets]
run = "echo it forgets >&2"
outputs = ["never.txt"]

[tasks.is_tried_again]
run = "echo {attempt} >> tries.txt; echo try {attempt} >&2; exit 3"
retries = 2

[tasks.succeeds_later]
run = "test {attempt} = 3 && echo at last"
retries = 5

[tasks.after_exits]
run = "touch aborted"
after = ["exits"]

[tasks.after_that]
run = "touch aborted"
after = ["after_exits", "good"]

[tasks.after_good]
run = "echo it ran"
after = ["good", "has_a_daemon", "succeeds_later"]
"#;

/// What is told of each task that fails, and the end of its standard error.
const FAILURES: [(&str, &str, &str); 7] = [
    ("exits", "exited with 1", "| its last words"),
    ("is_killed", "was killed by signal 9 (KILL)", "| it dies"),
    ("takes_long", "took longer than its timeout of 1", "| it is slow"),
    ("is_stubborn", "took longer than its timeout of 1", "| it stays"),
    ("forgets", "did not write its declared output", "| it forgets"),
    ("is_tried_again", "exited with 3", "| try 3"),
    ("is_tried_again", "after 3 attempts", "| try 3"),
];

fn check_mayhem(ranks: Ranks) {
    let place = Place::with(MAYHEM);
    let run = place.expect(3, ranks, &["run", "g.toml", "--cpus", "4"]);
    for (key, cause, words) in FAILURES {
        let line = run.stderr.lines().find(|line| line.starts_with(&format!("  `{key}` ")));
        let line = line.unwrap_or_else(|| panic!("`{key}` is not named: {run}"));
        assert!(line.contains(cause) && line.contains(" on rank "), "{line}");
        run.tells(words);
    }
    run.tells("error: 6 of 24 tasks failed\n").tells("dagmar logs mayhem-0001");
    assert!(run.stdout.is_empty(), "{run}");
    place.expect_nothing_left();
    check_mayhem_record(&place);
}

fn check_mayhem_record(place: &Place) {
    let status = place.status();
    let tasks = &status["report"]["tasks"];
    assert_eq!((&tasks["finished"], &tasks["failed"], &tasks["aborted"]), (&16.into(), &6.into(), &2.into()));
    assert_eq!(place.read("tries.txt"), "1\n2\n3\n");
    assert!(!place.path().join("aborted").exists());
    let printed = |key: &str| place.expect(0, Ranks::Alone, &["logs", "mayhem-0001", key, "--stdout"]).stdout;
    for i in 0..10 {
        assert_eq!(printed(&format!("good[{i}]")), format!("good {i}\n").into_bytes());
    }
    let texts = [("total", "good 9\n"), ("has_a_daemon", "its daemon runs\n"), ("after_good", "it ran\n")];
    texts.into_iter().for_each(|(key, text)| assert_eq!(printed(key), text.as_bytes(), "{key}"));
    assert_eq!(printed("succeeds_later"), b"at last\n");
    assert_eq!(printed("is_mute"), b"");
    let loud = printed("is_loud");
    assert_eq!(loud.len(), 100_000_000);
    assert!(loud.iter().all(|byte| *byte == b'x'));
}

#[test]
fn every_misbehaviour_stays_with_its_task_alone() {
    check_mayhem(Ranks::Alone);
}

#[cfg(feature = "mpi")]
#[test]
fn every_misbehaviour_stays_with_its_task_under_mpirun() {
    check_mayhem(Ranks::Mpi(3));
}

#[test]
fn what_finished_is_printed_although_another_task_failed() {
    let place = Place::with(
        "[tasks.good]\nrun = 'echo fine'\n[tasks.bad]\nrun = 'echo half; exit 1'\n[tasks.mute]\nrun = 'true'\n",
    );
    for ranks in BOTH {
        let run = place.expect(3, ranks, &["run", "g.toml", "good", "bad", "mute"]);
        let lines = json_lines(&run.stdout);
        let expected = [("good", "fine\n"), ("mute", "")];
        let expected = expected.map(|(key, value)| serde_json::json!({ "key": key, "value": value }));
        assert_eq!(lines, expected, "{run}");
    }
}

#[test]
fn a_failed_task_alone_prints_nothing() {
    let place = Place::with("[tasks.bad]\nrun = 'echo half; exit 1'\n");
    let run = place.expect(3, Ranks::Alone, &["run", "g.toml", "bad"]);
    assert!(run.stdout.is_empty(), "{run}");
    run.tells("error: 1 of 1 task failed").tells("`bad` exited with 1 on rank 1");
}

#[test]
fn what_cannot_be_started_says_why() {
    let place = Place::with(concat!(
        "[tasks.nowhere]\nrun = ['no-such-program']\n",
        "[tasks.no_place]\nrun = 'true'\ncwd = 'no/such/place'\n",
        "[tasks.no_function]\ncall = 'fail'\nargs = ['on purpose']\n",
    ));
    let run = place.expect(3, Ranks::Alone, &["run", "g.toml"]);
    run.tells("`nowhere` could not be started").tells("no-such-program");
    run.tells("`no_place` could not be started").tells("no/such/place");
    run.tells("on purpose");
}

#[test]
fn more_failures_than_fit_a_screen_are_counted() {
    let place = Place::with("[tasks.bad]\neach = { i = '0..99' }\nrun = 'exit 7'\n");
    let run = place.expect(3, Ranks::Alone, &["run", "g.toml"]);
    run.tells("error: 100 of 100 tasks failed").tells("... and 97 more of `bad`");
    assert!(run.stderr.lines().count() < 30, "{run}");
}

#[test]
fn a_task_that_moved_from_a_full_worker_to_an_idle_one_was_not_tried() {
    let place = Place::with(
        r#"
[tasks.warm]
run = "sleep 0.2"
[tasks.t]
each = { i = "0..99" }
after = ["warm"]
run = "echo {attempt}; sleep 0.0$((({i} * 7) % 10))"
"#,
    );
    for _ in 0..3 {
        let run = place.expect(0, Ranks::Alone, &["run", "g.toml", "t", "--workers", "4", "--cpus", "1"]);
        let lines = json_lines(&run.stdout);
        assert_eq!(lines.len(), 100);
        assert!(lines.iter().all(|line| line["value"] == "1\n"), "{run}");
    }
}

#[test]
fn more_failures_than_are_allowed_end_the_run_which_can_be_resumed() {
    let place = Place::with(concat!(
        "[tasks.good]\nrun = 'echo good'\n",
        "[tasks.bad]\neach = { i = '0..9' }\nrun = 'test -e mended'\nafter = ['good']\n",
        "[tasks.slow]\nrun = 'test -e mended || sleep 1000'\nafter = ['good']\n",
    ));
    for ranks in BOTH {
        std::fs::remove_file(place.path().join("mended")).ok();
        let run =
            place.expect(3, ranks, &["run", "g.toml", "--max-fails", "2", "--cpus", "2", "--into", "out"]);
        run.tells("error: 3 of 12 tasks failed").tells("exited with 1").tells("`dagmar resume out`");
        place.expect(3, ranks, &["resume", "out", "--cpus", "2", "--max-fails", "0"]);
        std::fs::write(place.path().join("mended"), "").unwrap();
        place.expect(0, ranks, &["resume", "out", "--cpus", "2"]);
        std::fs::remove_dir_all(place.path().join("out")).unwrap();
    }
}
