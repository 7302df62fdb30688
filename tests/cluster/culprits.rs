//! A function that ends the rank it runs in is found out, and nobody else is blamed.

use std::fs;

use crate::harness::{BOTH, Place, Ran, Ranks, json, until};

/// Fifty innocents, one that kills its rank, and one that waits for it.
fn graph(how: &str) -> String {
    format!(
        "name = \"g\"\n[tasks.good]\neach = {{ i = \"1..50\" }}\ncall = \"spin\"\nargs = [0.001]\n\
         [tasks.bad]\ncall = \"crash\"\nargs = [\"{how}\"]\n\
         [tasks.behind]\ncall = \"list\"\nargs = [\"@bad\"]\n\
         [tasks.end]\nrun = \"echo end\"\nafter = [\"good\"]\n"
    )
}

/// The files with last words, and what they say.
fn last_words(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.run().join("output")).expect("a run has outputs").flatten();
    let mut words: Vec<String> = entries
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".last-words"))
        .map(|entry| fs::read_to_string(entry.path()).expect("they are text"))
        .collect();
    words.sort();
    words
}

/// The run ends with the one failure that it must end with.
fn expect_quarantine(ran: &Ran, place: &Place, cause: &str) {
    ran.tells("error: 1 of 53 tasks failed").tells(&format!("`bad` {cause} on rank "));
    ran.tells("51 tasks finished, 1 failed, 1 aborted");
    let status = place.status();
    assert_eq!(
        (&status["exit_code"], &status["report"]["tasks"]["aborted"]),
        (&3.into(), &1.into()),
        "{status}"
    );
}

#[test]
fn a_function_that_kills_its_rank_is_quarantined_and_its_neighbours_finish() {
    let deaths = [
        ("segv", "signal 11", "with signal 11 (SEGV)"),
        ("abort", "signal 6", "with signal 6 (ABRT)"),
        ("overflow", "signal 11", "with signal 11 (SEGV)"),
        ("exit", "exit", "by calling `exit`"),
    ];
    for ranks in BOTH {
        for (how, word, told) in deaths {
            let place = Place::with(&graph(how));
            let lives: [&[&str]; 2] = [&["run", "g.toml", "--crash-limit", "2"], &["resume"]];
            for (before, life) in lives.into_iter().enumerate() {
                let ran = place.dagmar(ranks, &[life, &["--cpus", "2"]].concat());
                assert_ne!(ran.status.code(), Some(0), "{ran}");
                ran.tells("error: the function `crash` (task number 50 of the run, try ");
                let words = last_words(&place);
                assert_eq!(words.len(), before + 1, "{words:?} {ran}");
                let is_whole =
                    |line: &String| line.starts_with("task 50 ") && line.ends_with(&format!("{word}\n"));
                assert!(words.iter().all(is_whole), "{words:?}");
                place.expect_nothing_left();
            }
            let ran = place.expect(3, ranks, &["resume", "--cpus", "2"]);
            expect_quarantine(&ran, &place, &format!("killed its rank 2 times, the last time {told}"));
            // It has not started again, and does not: but for a higher limit.
            let ran = place.expect(3, ranks, &["resume", "--cpus", "2"]);
            ran.tells("`bad` killed its rank 2 times");
            assert_eq!(last_words(&place).len(), 2);
            let ran = place.dagmar(ranks, &["resume", "--cpus", "2", "--crash-limit", "3"]);
            assert_eq!(last_words(&place).len(), 3, "{ran}");
        }
    }
}

/// Open MPI goes on with the ranks that are left if it is told to, and rank 0 gives up those that are silent.
#[cfg(feature = "mpi")]
#[test]
fn a_rank_that_lives_reads_the_last_words_of_those_that_do_not() {
    let place = Place::with(&graph("exit"));
    let mut command = place.command(Ranks::Mpi(4));
    command.env("OMPI_MCA_orte_enable_recovery", "1").env("DAGMAR_SILENCE", "3");
    command.args(["run", "g.toml", "--cpus", "2", "--crash-limit", "2"]);
    let ran = place.spawn(command).end();
    if ran.stderr.contains("mpirun detected that") {
        return println!("skipped: this MPI ends all ranks with the first");
    }
    expect_quarantine(&ran, &place, "killed its rank 2 times, the last time by calling `exit`");
    ran.tells("2 workers lost");
}

/// Each ends the process while others are about to say who does.
#[test]
fn of_functions_that_crash_together_one_is_named() {
    for _ in 0..10 {
        let place = Place::with(
            "name = \"g\"\n[tasks.bad]\neach = { i = \"1..4\" }\ncall = \"crash\"\nargs = [\"segv\"]\n",
        );
        let ran = place.dagmar(Ranks::Alone, &["run", "g.toml", "--cpus", "4"]);
        assert_ne!(ran.status.code(), Some(0), "{ran}");
        let words = last_words(&place);
        assert!(words.len() == 1 && words[0].ends_with(" attempt 1 signal 11\n"), "{words:?} {ran}");
    }
}

#[test]
fn a_process_that_a_function_forked_ends_as_it_likes() {
    let place = Place::with("name = \"g\"\n[tasks.forks]\ncall = \"crash\"\nargs = [\"fork\"]\n");
    place.expect(0, Ranks::Alone, &["run", "g.toml", "--cpus", "1"]);
    assert_eq!(last_words(&place), Vec::<String>::new());
}

#[test]
fn a_signal_from_outside_accuses_nobody() {
    let place = Place::with("name = \"g\"\n[tasks.long]\ncall = \"spin\"\nargs = [1000]\n");
    for signal in ["SEGV", "ABRT", "KILL"] {
        let mut running = place.start(Ranks::Alone, &["run", "g.toml", "--cpus", "1"]);
        until("the task runs", || {
            let runs = place.runs();
            let status = runs.last().map(|run| {
                let told =
                    place.dagmar(Ranks::Alone, &["status", &run.to_string_lossy(), "--output", "json"]);
                if told.stdout.is_empty() { serde_json::Value::Null } else { json(&told.stdout) }
            });
            match status {
                Some(status) if status["groups"][0]["running"] == 1 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        while !running.is_over() {
            running.signal(signal);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(last_words(&place), Vec::<String>::new(), "{signal}");
        fs::remove_dir_all(place.path().join("dagmar-runs")).expect("it can be removed");
        place.expect_nothing_left();
    }
}
