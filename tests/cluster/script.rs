//! Python scripts as clients of their run: `dagmar run script.py`, alone and under mpirun.

use std::path::Path;

use crate::harness::{BOTH, Place, Ranks, kill, until};

/// What the scripts here have called. It is a module, as an interpreter without `cloudpickle` finds functions by name.
const WORK: &str = r#"
import os, time

def double(number):
    return 2 * number

def total(numbers, more=0):
    return sum(numbers) + more

def fail(why):
    raise LookupError(why)

def nap(seconds, _=None):
    time.sleep(seconds)
    return os.getpid()
"#;

fn place(script: &str) -> Place {
    let place = Place::new();
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("python");
    let path =
        format!("import sys; sys.path.insert(0, {:?})\nimport dagmar, work\n", package.display().to_string());
    place.write("script.py", path + script);
    place.write("work.py", WORK);
    place
}

#[test]
fn a_script_is_the_client_of_its_run() {
    for ranks in BOTH {
        let place = place(
            r#"
client = dagmar.default_client()
doubled = client.map(work.double, range(100))
print(client.submit(work.total, doubled, more=doubled[1]).result(), len(sys.argv), client.slots)
"#,
        );
        let ran = place.expect(0, ranks, &["run", "script.py", "one", "two"]);
        assert!(ran.text().starts_with("9902 3 "), "{}", ran.text());
        ran.tells("101 tasks");
        place.expect_nothing_left();
    }
}

#[test]
fn what_a_task_raises_is_raised_in_the_script() {
    for ranks in BOTH {
        let place = place(
            r#"
client = dagmar.default_client()
try:
    client.submit(work.total, [client.submit(work.fail, "not here")]).result()
except LookupError as error:
    print("caught", error)
"#,
        );
        // The script went on, so all is well.
        let ran = place.expect(0, ranks, &["run", "script.py"]);
        assert_eq!(ran.text(), "caught not here\n");
    }
}

#[test]
fn a_script_that_fails_ends_its_run_with_3() {
    for ranks in BOTH {
        let place = place("dagmar.default_client().submit(work.double, 1).result()\nsys.exit(7)\n");
        place.expect(3, ranks, &["run", "script.py"]).tells("the script exited with 7");
    }
}

#[test]
fn a_script_may_do_without_its_run() {
    let place = place("print('by itself')\n");
    assert_eq!(place.expect(0, Ranks::Alone, &["run", "script.py"]).text(), "by itself\n");
    place.expect(2, Ranks::Alone, &["run", "other.py"]).tells("cannot find the script `other.py`");
}

#[test]
fn a_run_that_is_stopped_ends_its_script() {
    let place = place("client = dagmar.default_client()\nclient.submit(work.nap, 600).result()\n");
    let running = place.start(Ranks::Alone, &["run", "script.py"]);
    until("the task runs", || {
        let status = place.dagmar(Ranks::Alone, &["status", "--output", "json"]);
        match status.text().contains("\"running\": 1") || status.text().contains("\"running\":1") {
            true => Ok(()),
            false => Err(status.text().to_owned()),
        }
    });
    running.signal("TERM");
    let ran = running.end();
    assert_eq!(ran.code(), Some(4), "{}", ran.text());
    ran.tells("the run is over");
    place.expect_nothing_left();
    // What was pickled is gone with the script.
    place.expect(2, Ranks::Alone, &["resume"]).tells("start the script again");
}

#[test]
fn a_process_that_is_killed_costs_no_result() {
    let place = place(
        r#"
client = dagmar.default_client()
pid = client.submit(work.nap, 0).result()
print(pid, flush=True)
slow = client.submit(work.nap, 5)
print(slow.result() != pid)
"#,
    );
    let running = place.start(Ranks::Alone, &["run", "script.py", "--cpus", "1"]);
    let pid = until("the first call has ended", || {
        let text = String::from_utf8(running.stdout()).expect("it is text");
        text.lines().next().and_then(|line| line.parse().ok()).ok_or(text)
    });
    std::thread::sleep(std::time::Duration::from_secs(1));
    kill("KILL", pid);
    let ran = running.end();
    assert_eq!((ran.code(), ran.text().lines().last()), (Some(0), Some("True")), "{}", ran.text());
}
