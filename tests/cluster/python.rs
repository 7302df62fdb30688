//! Python functions: what goes in and out, and what they may do to their processes.

use serde_json::json;

use crate::harness::{BOTH, Place, Ranks, json_lines, kill};

/// What the graphs here call.
const FUNCTIONS: &str = r#"
import os, signal, subprocess, sys, time

class Point:
    def __init__(self, x, y=0):
        self.x, self.y = x, y

    def moved(self, by):
        return Point(self.x + by, self.y)

def add(*numbers, times=1):
    return sum(numbers) * times

def same(value):
    return value

def type_of(value):
    return type(value).__name__

def x_of(point):
    return point.x

def blob(size):
    return memoryview(bytes(range(256)) * (size // 256)).toreadonly().obj

def array(size):
    import array
    return array.array("B", bytes(range(256)) * (size // 256))

def tail(values):
    return [len(values), values[-1]]

def where():
    return [os.path.basename(os.getcwd()), os.environ["WHO"], os.environ["DAGMAR_KEY"], os.environ["DAGMAR_CPUS"]]

def pid(_=None):
    return os.getpid()

def speak(word):
    print("it says", word)
    print("and minds", word, file=sys.stderr)
    subprocess.run(["echo", "so does its program"])
    os.write(1, b"without a line's end")

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def fail(why):
    raise KeyError(why)

def leave(code):
    os._exit(code)

def die(number):
    os.kill(os.getpid(), number)

def hang(stubborn=False):
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "1000"])
    time.sleep(1000)

def lock():
    import threading
    return threading.Lock()

class Deep:
    @staticmethod
    def down(x):
        return -x
"#;

fn place(graph: &str) -> Place {
    let place = Place::with(graph);
    place.write("functions.py", FUNCTIONS);
    place
}

/// What tasks gave, one after the other.
fn values(place: &Place, ranks: Ranks, keys: &[&str]) -> Vec<serde_json::Value> {
    let arguments = [&["run", "g.toml"], keys].concat();
    let ran = place.expect(0, ranks, &arguments);
    let lines = json_lines(&ran.stdout);
    let value = |key: &&str| lines.iter().find(|line| line["key"] == **key).map(|line| line["value"].clone());
    keys.iter().map(|key| value(key).unwrap_or_else(|| panic!("{key} in {ran}"))).collect()
}

#[test]
fn values_go_in_and_out_of_every_kind_of_task() {
    let place = place(
        r#"
        [tasks.one]
        python = "functions.py:add"
        args = [1, 2]
        kwargs = { times = 3 }

        [tasks.squares]
        each = { i = "1..4" }
        python = "functions:add"
        args = ["{i}", "@one"]

        [tasks.total]
        call = "sum"
        args = ["@squares"]

        [tasks.told]
        run = "cat"
        stdin = "@text"

        [tasks.text]
        python = "functions:same"
        args = ["äöü"]

        [tasks.of_told]
        python = "functions:same"
        args = ["@told"]

        [tasks.nested]
        python = "functions:same"
        args = [{ a = [1, 2.5, "@one", true], b = { c = "@text" } }]

        [tasks.bytes]
        run = "printf '\\377'"

        [tasks.type_of_bytes]
        python = "functions:type_of"
        args = ["@bytes"]

        [tasks.sum_of_floats]
        python = "functions:add"
        args = [0.1, 0.2]

        [tasks.method]
        python = "functions:Deep.down"
        args = [5]
        "#,
    );
    let keys = ["one", "total", "of_told", "nested", "type_of_bytes", "sum_of_floats", "method"];
    for ranks in BOTH {
        let nested = json!({ "a": [1, 2.5, 9, true], "b": { "c": "äöü" } });
        let told = values(&place, ranks, &keys);
        let expected =
            [json!(9), json!(46), json!("äöü"), nested, json!("bytes"), json!(0.1 + 0.2), json!(-5)];
        assert_eq!(told, expected);
        place.expect_nothing_left();
    }
}

#[test]
fn objects_of_any_size_go_from_task_to_task() {
    let place = place(
        r#"
        [tasks.point]
        python = "functions:Point"
        args = [3]

        [tasks.moved]
        python = "functions:Point.moved"
        args = ["@point", 4]

        [tasks.x]
        python = "functions:x_of"
        args = ["@moved"]

        [tasks.small]
        python = "functions:array"
        args = [1024]

        [tasks.large]
        python = "functions:array"
        args = [10000128]

        [tasks.ends]
        each = { of = ["small", "large"] }
        python = "functions:tail"
        args = ["@small"]

        [tasks.large_end]
        each = { i = "0..3" }
        python = "functions:tail"
        args = ["@large"]

        [tasks.many]
        each = { i = "0..999" }
        python = "functions:Point"
        args = ["{i}"]

        [tasks.how_many]
        python = "functions:tail"
        args = ["@many_x"]

        [tasks.many_x]
        each = { i = "0..999" }
        python = "functions:x_of"
        args = ["@many[{i}]"]

        [tasks.raw]
        python = "functions:blob"
        args = [1000192]

        [tasks.raw_end]
        python = "functions:tail"
        args = ["@raw"]
        "#,
    );
    for ranks in BOTH {
        let told = values(&place, ranks, &["x", "ends[small]", "large_end[3]", "how_many", "raw_end"]);
        assert_eq!(told[0], 7);
        assert_eq!(
            told[1..],
            [[1024, 255], [10000128, 255], [1000, 999], [1000192, 255]].map(|pair| json!(pair))
        );
    }
    let refused = place.expect(2, Ranks::Alone, &["run", "g.toml", "point"]);
    refused.tells("cannot print `point`: it is a Python object");
}

#[test]
fn a_function_that_fails_says_why_and_others_go_on() {
    let graph = r#"
        [tasks.fails]
        python = "functions:fail"
        args = ["not there"]

        [tasks.leaves]
        python = "functions:leave"
        args = [7]

        [tasks.leaves_well]
        python = "functions:leave"
        args = [0]

        [tasks.dies]
        python = "functions:die"
        args = [11]

        [tasks.has_no_module]
        python = "no_such_module:x"

        [tasks.has_no_function]
        python = "functions:no_such"

        [tasks.cannot_be_called]
        python = "functions:same"
        args = [1, 2]

        [tasks.gives_what_cannot_leave]
        python = "functions:lock"

        [tasks.forgets]
        python = "functions:same"
        args = [1]
        outputs = ["never.txt"]

        [tasks.good]
        each = { i = "0..19" }
        python = "functions:same"
        args = ["{i}"]

        [tasks.total]
        call = "sum"
        args = ["@good"]
        "#;
    for ranks in BOTH {
        let place = place(graph);
        let ran = place.expect(3, ranks, &["run", "g.toml"]);
        ran.tells("`fails` failed").tells("KeyError: 'not there'").tells("functions.py:");
        ran.tells("`leaves` exited with 7")
            .tells("`leaves_well` failed")
            .tells("its process ended before it returned");
        ran.tells("`dies` was killed by signal 11");
        ran.tells("ModuleNotFoundError: No module named 'no_such_module'");
        ran.tells("AttributeError: module 'functions' has no attribute 'no_such'");
        ran.tells("TypeError: same() takes 1 positional argument but 2 were given");
        ran.tells("cannot pickle '_thread.lock' object");
        ran.tells("`forgets`").tells("never.txt");
        assert_eq!(place.status()["report"]["tasks"]["finished"], 21, "{ran}");
        place.expect_nothing_left();
    }
}

#[test]
fn a_function_that_hangs_is_ended_with_all_that_it_started() {
    let graph = r#"
        [tasks.hangs]
        python = "functions:hang"
        timeout = "500ms"

        [tasks.hangs_on]
        python = "functions:hang"
        kwargs = { stubborn = true }
        timeout = "500ms"
        grace = "300ms"

        [tasks.good]
        python = "functions:same"
        args = [1]
        "#;
    for ranks in BOTH {
        let place = place(graph);
        let ran = place.expect(3, ranks, &["run", "g.toml"]);
        ran.tells("`hangs` took longer than its timeout").tells("`hangs_on` took longer than its timeout");
        assert_eq!(place.status()["report"]["tasks"]["finished"], 1, "{ran}");
        place.expect_nothing_left();
    }
}

#[test]
fn what_a_function_prints_is_in_the_log_of_its_task() {
    let graph = r#"
        [tasks.speak]
        each = { word = ["yes", "no"] }
        python = "functions:speak"
        args = ["{word}"]

        [tasks.fails]
        python = "functions:fail"
        args = ["why"]
        "#;
    for ranks in BOTH {
        let place = place(graph);
        place.expect(3, ranks, &["run", "g.toml"]);
        let log = |key: &str| place.expect(0, Ranks::Alone, &["logs", "g-0001", key]).text().to_owned();
        for (key, word, other) in [("speak[yes]", "yes", "no"), ("speak[no]", "no", "yes")] {
            let log = log(key);
            let said =
                [format!("it says {word}"), format!("and minds {word}"), "so does its program".to_owned()];
            assert!(said.iter().all(|line| log.contains(line)), "{log}");
            assert!(log.contains("without a line's end") && !log.contains(&format!("says {other}")), "{log}");
        }
        let log = log("fails");
        assert!(log.contains("Traceback") && log.contains("KeyError: 'why'"), "{log}");
    }
}

#[test]
fn a_function_runs_where_and_as_its_task_says() {
    let place = place(
        r#"
        [defaults]
        env = { WHO = "me" }

        [tasks.here]
        python = "functions:where"

        [tasks.there]
        python = "functions:where"
        cwd = "sub"
        env = { WHO = "try {attempt}" }
        resources = { cpus = 2 }

        [tasks.writes]
        python = "functions:write"
        args = ["{outputs}", "done"]
        outputs = ["made/file.txt"]

        [tasks.reads]
        inputs = ["made/file.txt"]
        run = "cat {inputs}"
        "#,
    );
    std::fs::create_dir(place.path().join("sub")).expect("it is a new folder");
    place.write("functions.py", FUNCTIONS.replace("open(path, \"w\")", "open(path[0], \"w\")"));
    let here = place.path().file_name().expect("it has a name").to_string_lossy().into_owned();
    let told = values(&place, Ranks::Alone, &["here", "there", "reads"]);
    assert_eq!(told[0], json!([here, "me", "here", "1"]));
    assert_eq!(told[1], json!(["sub", "try 1", "there", "2"]));
    assert_eq!(told[2], "done");
}

#[test]
fn interpreters_stay_for_later_calls_and_are_gone_with_their_rank() {
    let place = place(
        r#"
        [tasks.pid]
        each = { i = "0..99" }
        python = "functions:pid"
        args = ["{i}"]

        [tasks.pids]
        call = "list"
        args = ["@pid"]

        [tasks.hang]
        python = "functions:hang"
        after = ["pid"]
        "#,
    );
    let ran = place.expect(0, Ranks::Alone, &["run", "g.toml", "pids"]);
    let pids: Vec<Vec<u64>> = serde_json::from_slice(&ran.stdout).expect("a list of lists");
    let mut pids = pids.concat();
    pids.sort_unstable();
    pids.dedup();
    assert!(pids.len() <= 16, "an interpreter for each core at most: {pids:?}");
    for ranks in BOTH {
        let mut running = place.start(ranks, &["run", "g.toml", "hang"]);
        place.await_sleeps(1);
        assert!(!running.is_over());
        match ranks {
            Ranks::Alone => kill("KILL", running.pid()),
            Ranks::Mpi(_) => running.signal("TERM"),
        }
        running.end();
        place.expect_nothing_left();
    }
}

#[test]
fn without_an_interpreter_the_task_fails_and_says_so() {
    let place = place("[tasks.one]\npython = \"functions:same\"\nargs = [1]\n");
    let mut command = place.command(Ranks::Alone);
    command.args(["run", "g.toml"]).env("DAGMAR_PYTHON", "/no/such/python");
    let ran = place.spawn(command).end();
    assert_eq!(ran.code(), Some(3), "{ran}");
    ran.tells("program `/no/such/python` does not exist").tells("`DAGMAR_PYTHON` may name an interpreter");
}

#[test]
fn strange_names_are_refused_where_they_stand() {
    let faults = [
        ("python = \"functions\"", "it names no function"),
        ("python = \"functions:1x\"", "what follows the colon is no name of a function"),
        ("python = \"a-b:f\"", "what is before the colon is neither a module nor a file"),
        ("python = \"functions:same\"\nkwargs = { \"a b\" = 1 }", "a keyword argument has a name"),
        ("python = \"functions:same\"\nrun = \"true\"", "has both"),
        (
            "python = \"functions:same\"\nstdout = \"forward\"",
            "`stdout` of task `one` makes sense with `run` only",
        ),
        ("call = \"noop\"\nkwargs = { a = 1 }", "`kwargs` of task `one` makes sense with `python` only"),
    ];
    for (work, why) in faults {
        let place = place(&format!("[tasks.one]\n{work}\n"));
        place.expect(2, Ranks::Alone, &["run", "g.toml"]).tells(why);
    }
}

#[test]
fn a_function_that_takes_too_much_memory_is_ended_and_tried_with_more() {
    let place = place(
        r#"
        [tasks.greedy]
        python = "functions:grow"
        args = [300]
        resources = { memory = "150MiB", memory_max = "600MiB" }

        [tasks.boundless]
        python = "functions:grow"
        args = [2000]
        resources = { memory = "150MiB" }
        "#,
    );
    let grow = "\ndef grow(mebibytes):\n    kept = []\n    for _ in range(mebibytes):\n        kept.append(b'x' * (1 << 20))\n        \
                time.sleep(0.005)\n    return len(kept)\n";
    place.write("functions.py", format!("{FUNCTIONS}{grow}"));
    let arguments = ["run", "--memory-limit", "4GiB", "g.toml", "greedy", "boundless"];
    let ran = place.expect(7, Ranks::Alone, &arguments);
    ran.tells("`boundless` ran out of memory on rank").tells("its limit is 150 MiB");
    assert!(json_lines(&ran.stdout).iter().any(|line| line["value"] == 300), "{ran}");
}
