//! Where what tasks print goes, and how an output reaches the next task and the user.

use crate::harness::{BOTH, Place, Ranks, json, json_lines};

fn text(value: &str) -> serde_json::Value {
    value.into()
}

#[test]
fn one_key_prints_its_output_alone_and_bytes_as_they_are() {
    let place = Place::with(concat!(
        "[tasks.bytes]\nrun = \"printf 'a\\\\377\\\\000b'\"\n",
        "[tasks.text]\nrun = 'echo two words'\n",
        "[tasks.open]\nrun = 'printf open'\n",
        "[tasks.list]\ncall = 'list'\nargs = [1, 2.5, 'x', true]\n",
    ));
    for ranks in BOTH {
        let printed = |key: &str| place.expect(0, ranks, &["run", "g.toml", key]).stdout;
        assert_eq!(printed("bytes"), b"a\xff\0b");
        assert_eq!(printed("text"), b"two words\n");
        assert_eq!(printed("open"), b"open\n", "a line is ended");
        assert_eq!(printed("list"), b"[1,2.5,\"x\",true]\n");
    }
}

#[test]
fn several_keys_print_json_lines_in_the_order_asked() {
    let place = Place::with(concat!(
        "[tasks.x]\ncall = 'add'\nargs = [2, 3]\n",
        "[tasks.a]\neach = { i = '08..10' }\nrun = 'echo {i}'\n",
        "[tasks.bytes]\nrun = \"printf '\\\\377'\"\n",
        "[tasks.mute]\nrun = 'true'\n",
    ));
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "bytes", "a", "x", "a[9]", "mute"]);
        let lines = json_lines(&run.stdout);
        let keys: Vec<&str> = lines.iter().filter_map(|line| line["key"].as_str()).collect();
        assert_eq!(keys, ["bytes", "a[08]", "a[09]", "a[10]", "x", "mute"]);
        assert_eq!(lines[0]["hex"], "ff");
        let values: Vec<&serde_json::Value> = lines[1..].iter().map(|line| &line["value"]).collect();
        let expected = [text("08\n"), text("09\n"), text("10\n"), 5.into(), text("")];
        assert_eq!(values, expected.iter().collect::<Vec<_>>());
    }
}

#[test]
fn what_gathers_an_array_is_not_counted() {
    let place = Place::with(concat!(
        "[tasks.d]\neach = { i = '1..4' }\ncall = 'identity'\nargs = ['{i}']\n",
        "[tasks.e]\neach = { i = '1..4' }\ncall = 'len'\nargs = ['@d']\n",
    ));
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "e", "--output", "json"]);
        let told = json(&run.stdout);
        assert_eq!(told["report"]["tasks"]["finished"], 8);
        assert_eq!(told["report"]["tasks"]["waiting"], 0);
    }
}

#[test]
fn without_a_key_only_forwarded_output_is_printed() {
    let place = Place::with(concat!(
        "[tasks.captured]\nrun = 'echo captured'\n",
        "[tasks.forwarded]\nrun = 'echo forwarded; echo told >&2'\nstdout = 'forward'\nstderr = 'forward'\n",
        "[tasks.discarded]\nrun = 'echo discarded'\nstdout = 'discard'\n",
        "[tasks.filed]\nrun = 'echo filed; echo aside >&2'\nstdout = 'out/filed.txt'\nstderr = 'err.txt'\n",
    ));
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml"]);
        assert_eq!(run.text(), "forwarded\n");
        run.tells("told\n");
        assert_eq!(
            (place.read("out/filed.txt"), place.read("err.txt")),
            ("filed\n".into(), "aside\n".into())
        );
        let json = place.expect(0, ranks, &["run", "g.toml", "--output", "json"]);
        assert_eq!(json_lines(&json.stdout).len(), 1, "forwarded output keeps out of the JSON: {json}");
        json.tells("forwarded\n");
    }
}

#[test]
fn a_run_as_json_has_its_stable_fields() {
    let place = Place::with(concat!(
        "[tasks.x]\ncall = 'add'\nargs = [2, 3]\n",
        "[tasks.bad]\nrun = 'exit 9'\n[tasks.after]\nrun = 'true'\nafter = ['bad']\n",
    ));
    for ranks in BOTH {
        let run = json(&place.expect(3, ranks, &["run", "g.toml", "x", "after", "--output", "json"]).stdout);
        assert_eq!(run["exit_code"], 3);
        assert_eq!(run["outputs"], serde_json::json!([{ "key": "x", "value": 5 }]));
        assert_eq!((&run["failures"][0]["key"], &run["failures"][0]["attempt"]), (&text("bad"), &1.into()));
        assert_eq!(run["failures"][0]["cause"], "exited with 9");
        let tasks = &run["report"]["tasks"];
        assert_eq!(
            (&tasks["finished"], &tasks["failed"], &tasks["aborted"]),
            (&1.into(), &1.into(), &1.into())
        );
        let directory = run["directory"].as_str().expect("the directory is told");
        assert!(directory.ends_with(run["run"].as_str().expect("the run is named")));
        let fields = ["outcome", "elapsed_s", "workers", "cpus", "utilisation", "retries", "moved_bytes"];
        fields.into_iter().for_each(|field| assert!(!run["report"][field].is_null(), "{field}: {run}"));
    }
}

#[test]
fn commands_read_outputs_environments_and_directories() {
    let place = Place::with(
        r#"
[tasks.numbers]
run = "seq 100000"
[tasks.lines]
run = ["wc", "-l"]
stdin = "@numbers"
[tasks.twice]
call = "mul"
args = ["@lines", 2]
[tasks.read_value]
run = "cat"
stdin = "@twice"
[tasks.placed]
run = "echo $GREETING; pwd; cat"
cwd = "sub/folder"
env = { GREETING = "hello {key}", LAUNCHER = "" }
[tasks.clean]
run = "env | grep -c -e ^OMPI_ -e ^PMIX || true"
"#,
    );
    std::fs::create_dir_all(place.path().join("sub/folder")).expect("a folder can be made");
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "lines", "twice", "read_value", "placed"]);
        let lines = json_lines(&run.stdout);
        assert_eq!(lines[0]["value"].as_str().map(str::trim), Some("100000"));
        assert_eq!(lines[1]["value"], 200_000);
        assert_eq!(lines[2]["value"].as_str().map(str::trim), Some("200000"));
        let folder = place.path().canonicalize().expect("it is there").join("sub/folder");
        assert_eq!(lines[3]["value"], format!("hello placed\n{}\n", folder.display()), "its input is empty");
    }
}

#[test]
fn commands_do_not_see_the_launcher() {
    let place = Place::with("[tasks.env]\nrun = 'env'\n");
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "env"]);
        let seen = run
            .text()
            .lines()
            .filter(|line| ["OMPI_COMM", "PMIX_", "PMI_"].iter().any(|name| line.starts_with(name)));
        assert_eq!(seen.collect::<Vec<_>>(), Vec::<&str>::new());
    }
}

#[test]
fn large_outputs_move_between_workers_whole() {
    let graph = r#"
[tasks.part]
each = { i = "1..6" }
run = "head -c 3000000 /dev/zero | tr '\\0' {i}"
[tasks.sum]
each = { i = "1..6" }
run = "md5sum | cut -c-32"
stdin = "@part[{i}]"
[tasks.lengths]
call = "list"
args = ["@sum"]
[tasks.joined]
call = "concat"
args = ["@part"]
[tasks.length]
call = "len"
args = ["@joined"]
"#;
    let place = Place::with(graph);
    let outputs = BOTH.map(|ranks| place.expect(0, ranks, &["run", "g.toml", "lengths", "length"]).stdout);
    let lines = json_lines(&outputs[0]);
    assert_eq!(lines[1]["value"], 18_000_000);
    assert!(outputs.iter().all(|output| *output == outputs[0]));
}

#[test]
fn files_make_dependencies_and_are_checked() {
    let place = Place::with(
        r#"
[tasks.part]
each = { i = "0..7" }
run = "echo {i} > {outputs}"
outputs = ["parts/{i}.txt"]
[tasks.all]
inputs = ["parts/*.txt"]
outputs = ["all/sum.txt"]
run = "cat {inputs} > {outputs}; echo made"
"#,
    );
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "all/sum.txt"]);
        assert_eq!(run.text(), "made\n");
        assert_eq!(place.read("all/sum.txt"), "0\n1\n2\n3\n4\n5\n6\n7\n");
        std::fs::remove_dir_all(place.path().join("all")).expect("the output was there");
    }
}

#[test]
fn a_file_that_was_taken_away_is_missed() {
    let place = Place::with(
        r#"
[tasks.make]
run = "echo x > file"
outputs = ["file"]
[tasks.take]
run = "rm file"
after = ["make"]
[tasks.use]
run = "cat {inputs}; touch used"
inputs = ["file"]
after = ["take"]
"#,
    );
    let run = place.expect(3, Ranks::Alone, &["run", "g.toml"]);
    run.tells("`use` did not find its input").tells("/file`");
    assert!(!place.path().join("used").exists());
}

#[test]
fn a_file_may_be_edited_in_place_by_a_later_task() {
    let place = Place::with(
        r#"
        tasks.a = { run = "echo one > conf.txt", outputs = ["conf.txt"] }
        tasks.b = { run = "echo two >> conf.txt", after = ["a"] }
        tasks.c = { run = "cat conf.txt", after = ["a", "b"], inputs = ["conf.txt"] }
        "#,
    );
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "g.toml", "c"]);
        assert_eq!(run.text(), "one\ntwo\n", "{run}");
    }
}

#[test]
fn the_quick_forms_print_what_their_commands_print() {
    let place = Place::new();
    place.write("list.txt", "echo one\necho two >&2\n\necho 'three  words'\n");
    place.write("words.txt", "a b\n$HOME\nplain\n");
    let sorted = |run: &crate::harness::Ran| {
        let mut lines: Vec<String> = run.text().lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for ranks in BOTH {
        let run = place.expect(0, ranks, &["run", "--commands", "list.txt"]);
        assert_eq!(sorted(&run), ["one", "three  words"]);
        let run = place.expect(0, ranks, &["run", "--each", "08..11", "--", "echo", "n{}"]);
        assert_eq!(sorted(&run), ["n08", "n09", "n10", "n11"]);
        let run = place.expect(0, ranks, &["run", "--each-line", "words.txt", "--", "echo", "<{}>"]);
        assert_eq!(sorted(&run), ["<$HOME>", "<a b>", "<plain>"]);
        place.expect(0, ranks, &["run", "--each", "1..1000", "--call", "noop"]).tells("1000 tasks finished");
    }
    place.write("list.txt", "true\nexit 5\n");
    place.expect(3, Ranks::Alone, &["run", "--commands", "list.txt"]).tells("exited with 5");
}

/// Under mpirun the launcher ends rank 0 once a worker has ended with a code: what rank 0 has to print
/// must be printed before.
#[test]
fn a_large_output_is_whole_although_another_task_failed() {
    let graph =
        "[tasks.big]\nrun = \"head -c 50000000 /dev/zero | tr '\\\\0' x\"\n[tasks.bad]\nrun = 'exit 1'\n";
    for ranks in BOTH {
        let place = Place::with(graph);
        let run = place.expect(3, ranks, &["run", "g.toml", "big", "bad"]);
        let bytes = run.stdout.iter().filter(|byte| **byte == b'x').count();
        assert_eq!(bytes, 50_000_000, "{ranks:?}");
        run.tells("error: 1 of 2 tasks failed");
    }
}

#[test]
fn an_output_named_by_its_attempt_is_found_by_its_dependents() {
    let graph = "[tasks.a]\nrun = 'echo {attempt} > o{attempt}.txt; [ {attempt} = 2 ]'\n\
                 outputs = ['o{attempt}.txt']\nretries = 1\n[tasks.b]\nafter = ['a']\nrun = 'cat o2.txt'\n";
    let place = Place::with(graph);
    assert_eq!(place.expect(0, Ranks::Alone, &["run", "g.toml", "b"]).text(), "2\n");
}
