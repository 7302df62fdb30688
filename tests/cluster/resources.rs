//! Tasks get what they ask for, and never more than there is is given out.

use std::fs;

use crate::harness::{BOTH, Place, Ranks, json_lines};

/// A command that tells how many of its kind run at once: each is a file while it runs.
const COUNT: &str = "mkdir -p on && touch on/{i} && sleep 0.05 && ls on | wc -l && rm on/{i}";

/// The most that ran at once, as the tasks saw it.
fn most_at_once(ranks: Ranks, resources: &str, flags: &[&str]) -> i64 {
    let place = Place::with(&format!(
        "[tasks.t]\neach = {{ i = '0..19' }}\nrun = '{COUNT}'\nresources = {{ {resources} }}\n"
    ));
    let mut arguments = vec!["run", "g.toml", "t"];
    arguments.extend_from_slice(flags);
    let run = place.expect(0, ranks, &arguments);
    let lines = json_lines(&run.stdout);
    let counts = lines.iter().filter_map(|line| line["value"].as_str()?.trim().parse().ok());
    let counts: Vec<i64> = counts.collect();
    assert_eq!(counts.len(), 20, "{run}");
    counts.into_iter().max().expect("there are 20")
}

#[test]
fn no_more_run_at_once_than_there_are_cores() {
    assert_eq!(most_at_once(Ranks::Alone, "cpus = 1", &["--cpus", "4"]), 4);
    assert_eq!(most_at_once(Ranks::Alone, "cpus = 2", &["--cpus", "5"]), 2);
    assert_eq!(most_at_once(Ranks::Alone, "cpus = 1", &["--cpus", "2", "--workers", "2"]), 4);
}

#[cfg(feature = "mpi")]
#[test]
fn no_more_run_at_once_than_the_workers_have() {
    assert_eq!(most_at_once(Ranks::Mpi(3), "cpus = 1", &["--cpus", "2"]), 4);
    assert_eq!(most_at_once(Ranks::Mpi(3), "cpus = 2", &["--cpus", "3"]), 2);
}

#[test]
fn memory_and_named_resources_are_counted() {
    let flags = ["--cpus", "8", "--resource", "memory=4GiB", "--resource", "licence=3"];
    assert_eq!(most_at_once(Ranks::Alone, "memory = '2GiB'", &flags), 2);
    assert_eq!(most_at_once(Ranks::Alone, "licence = 1", &flags), 3);
    assert_eq!(most_at_once(Ranks::Alone, "gpus = 1", &["--cpus", "8", "--resource", "gpus=2"]), 2);
}

#[test]
fn a_task_that_fits_nowhere_is_refused_before_anything_runs() {
    let cases =
        [("cpus = 64", "64 of `cpus`", "--cpus N"), ("memory = '900TiB'", "`memory`", "--resource memory=N")];
    for (resources, asked, hint) in
        cases.into_iter().chain([("licence = 1", "1 of `licence`", "--resource licence=N")])
    {
        let graph =
            format!("[tasks.a]\nrun = 'touch ran'\n[tasks.b]\nrun = 'true'\nresources = {{ {resources} }}\n");
        let place = Place::with(&graph);
        for ranks in BOTH {
            let run = place.expect(2, ranks, &["run", "g.toml"]);
            run.tells("error: task `b` asks for ").tells(asked).tells(hint);
            assert!(run.stdout.is_empty() && !place.path().join("ran").exists(), "{run}");
            assert!(place.runs().is_empty());
            place.expect_nothing_left();
        }
        place.expect(0, Ranks::Alone, &["run", "g.toml", "a"]);
    }
}

#[test]
fn the_higher_priority_comes_first() {
    let place = Place::with(
        r#"
[tasks.gate]
run = "true"
[tasks.t]
each = { i = "1..5" }
run = "echo low {i} >> order"
after = ["gate"]
[tasks.urgent]
each = { i = "1..3" }
run = "echo high >> order"
after = ["gate"]
priority = 5
[tasks.late]
run = "echo last >> order"
after = ["gate"]
priority = -1
"#,
    );
    for ranks in [Ranks::Alone].into_iter().chain(BOTH.into_iter().skip(1).map(|_| Ranks::Mpi(2))) {
        place.expect(0, ranks, &["run", "g.toml", "--cpus", "1"]);
        let order = place.read("order");
        let words: Vec<&str> = order.lines().map(|line| line.split(' ').next().unwrap_or("")).collect();
        assert_eq!(words, ["high", "high", "high", "low", "low", "low", "low", "low", "last"]);
        fs::remove_file(place.path().join("order")).expect("the order was written");
    }
}

#[test]
fn workers_and_cores_are_as_asked() {
    let place = Place::with("[tasks.a]\neach = { i = '0..9' }\nrun = 'true'\n");
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--workers", "2", "--cpus", "3"]);
    let status = place.status();
    let cpus: Vec<_> =
        status["workers"].as_array().into_iter().flatten().map(|worker| &worker["cpus"]).collect();
    assert_eq!(cpus, [3, 3], "{status}");
    assert_eq!(status["report"]["cpus"], 6, "{status}");
    for flags in [
        ["--workers", "0"],
        ["--cpus", "0"],
        ["--resource", "x"],
        ["--resource", "x=-1"],
        ["--resource", "cpus=2"],
    ] {
        let run = place.expect(2, Ranks::Alone, &["run", "g.toml", flags[0], flags[1]]);
        assert!(run.stderr.contains("error: "), "{run}");
    }
    assert_eq!(place.runs().len(), 1);
}
