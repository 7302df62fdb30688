//! `status` and `logs` tell what a run does, while it goes on and afterwards.

use crate::harness::{BOTH, Place, Ranks, json, until};

const MIXED: &str = r#"
name = "mixed"
[tasks.good]
each = { i = "0..2" }
run = "echo out {i}; echo err {i} >&2"
[tasks.bad]
run = "echo bad out; echo bad err >&2; exit 4"
retries = 1
[tasks.after]
run = "echo never"
after = ["bad"]
"#;

fn mixed(ranks: Ranks) -> Place {
    let place = Place::with(MIXED);
    place.expect(3, ranks, &["run", "g.toml"]);
    place
}

fn logs(place: &Place, arguments: &[&str]) -> String {
    let arguments: Vec<&str> = ["logs"].into_iter().chain(arguments.iter().copied()).collect();
    place.expect(0, Ranks::Alone, &arguments).text().to_owned()
}

#[test]
fn logs_print_the_failed_tasks_first() {
    for ranks in BOTH {
        let place = mixed(ranks);
        let expected = "==> bad <==\nbad out\n==> bad, standard error <==\nbad err\n\
                        ==> bad, attempt 2 <==\nbad out\n==> bad, attempt 2, standard error <==\nbad err\n";
        let errors =
            "==> bad, standard error <==\nbad err\n==> bad, attempt 2, standard error <==\nbad err\n";
        assert_eq!(logs(&place, &[]), expected);
        assert_eq!(logs(&place, &["mixed-0001"]), expected);
        assert_eq!(logs(&place, &["mixed-0001", "bad", "--stderr"]), errors);
        assert_eq!(logs(&place, &["mixed-0001", "good[1]", "--stdout"]), "out 1\n");
        let array = "==> good[0], standard error <==\nerr 0\n==> good[1], standard error <==\nerr 1\n\
                     ==> good[2], standard error <==\nerr 2\n";
        assert_eq!(logs(&place, &["mixed-0001", "good", "--stderr"]), array);
        let path = place.run();
        let path = path.to_str().expect("a path in UTF-8");
        assert_eq!(logs(&place, &[path, "good[1]", "--stdout"]), "out 1\n");
    }
}

#[test]
fn what_is_asked_wrongly_is_refused() {
    let place = mixed(Ranks::Alone);
    place.expect(2, Ranks::Alone, &["logs", "mixed-0001", "goood"]).tells("good");
    place.expect(2, Ranks::Alone, &["logs", "mixed-0002"]).tells("`mixed-0001`");
    place.expect(2, Ranks::Alone, &["status", "mixd-0001"]).tells("the nearest name is `mixed-0001`");
    place.expect(2, Ranks::Alone, &["cancel", "nothing"]).tells("there is no run `nothing`");
    let empty = Place::new();
    empty.expect(2, Ranks::Alone, &["status"]).tells("there are no runs");
    empty.expect(2, Ranks::Alone, &["logs"]).tells("there are no runs");
    let printed = place.expect(0, Ranks::Alone, &["logs", "mixed-0001", "after"]);
    assert!(printed.stdout.is_empty());
    printed.tells("nothing was printed");
}

#[test]
fn status_tells_of_a_run_that_is_over() {
    for ranks in BOTH {
        let place = mixed(ranks);
        let status = place.status();
        assert_eq!((&status["over"], &status["exit_code"]), (&true.into(), &3.into()));
        assert_eq!(status["run"], "mixed-0001");
        assert_eq!(status["report"]["retries"], 1);
        assert_eq!(
            (&status["failures"][0]["key"], &status["failures"][0]["attempt"]),
            (&"bad".into(), &2.into())
        );
        let names: Vec<_> =
            status["groups"].as_array().into_iter().flatten().map(|group| &group["name"]).collect();
        assert_eq!(names, ["good", "bad", "after"]);
        let human = place.expect(0, Ranks::Alone, &["status", "mixed-0001"]);
        for words in
            ["mixed-0001  over, exit code 3", "good   3 finished", "bad    1 failed", "after  1 aborted"]
        {
            assert!(human.text().contains(words), "{human}");
        }
    }
}

#[test]
fn logs_follow_a_run_to_its_end() {
    let graph = r#"
[tasks.slow]
run = "echo begins; while [ ! -e go ]; do sleep 0.05; done; echo ends"
[tasks.later]
run = "echo later"
after = ["slow"]
"#;
    for ranks in BOTH {
        let place = Place::with(graph);
        let running = place.start(ranks, &["run", "g.toml"]);
        until("the run begins", || match place.runs().iter().any(|run| run.join("journal").is_file()) {
            true => Ok(()),
            false => Err(running.stderr()),
        });
        let follower = place.start(Ranks::Alone, &["logs", "-f", "--stdout"]);
        until("the first line is followed", || match String::from_utf8(follower.stdout()) {
            Ok(text) if text == "==> slow <==\nbegins\n" => Ok(()),
            other => Err(format!("{other:?} {}", follower.stderr())),
        });
        until("the task is seen running", || match &place.status()["groups"][0]["running"] {
            count if *count == 1 => Ok(()),
            _ => Err(place.status().to_string()),
        });
        assert_eq!(place.status()["over"], false);
        place.write("go", "");
        assert_eq!(running.end().code(), Some(0));
        let followed = follower.end();
        assert_eq!(followed.code(), Some(0));
        assert_eq!(followed.text(), "==> slow <==\nbegins\nends\n==> later <==\nlater\n");
    }
}

#[test]
fn graphs_can_be_looked_at() {
    let place = Place::with(MIXED);
    place.expect(0, Ranks::Alone, &["graph", "check", "g.toml"]);
    let stats =
        json(&place.expect(0, Ranks::Alone, &["graph", "stats", "g.toml", "--output", "json"]).stdout);
    assert_eq!(stats["tasks"], 5, "{stats}");
    place.expect(0, Ranks::Alone, &["graph", "pack", "g.toml"]);
    let run = place.expect(3, Ranks::Alone, &["run", "g.dagmar"]);
    run.tells("`bad` exited with 4");
    place.expect(2, Ranks::Alone, &["graph", "make", "star"]).tells("there is no shape `star`");
}
