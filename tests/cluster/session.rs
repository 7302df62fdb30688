//! Runs that wait for clients: `dagmar submit --client` and `dagmar attach`.

use std::path::Path;

use crate::harness::{MPI_VARIABLES, Place, Ran, Ranks};

/// Runs a script that has `run`, the directory of a run that waits for clients.
fn with_session(idle_timeout: &str, script: &str) -> (Place, Ran) {
    let place = Place::new();
    let words = [
        "submit",
        "--client",
        "--cluster",
        "local",
        "--name",
        "nb",
        "-t",
        "5m",
        "--idle-timeout",
        idle_timeout,
    ];
    let mut submit = place.command(Ranks::Alone);
    submit.args(words).envs(MPI_VARIABLES);
    let submitted = place.spawn(submit).end();
    assert_eq!(submitted.code(), Some(0), "{submitted}");
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").display().to_string();
    place.write(
        "script.py",
        format!("import sys; sys.path.insert(0, {package:?})\nimport dagmar, time\nrun = 'dagmar-runs/nb-0001'\n{script}"),
    );
    let mut command = place.command_of(Path::new("python3"));
    command.arg("script.py").env("DAGMAR", env!("CARGO_BIN_EXE_dagmar"));
    let ran = place.spawn(command).end();
    (place, ran)
}

#[test]
fn what_one_client_leaves_is_there_for_the_next() {
    let (place, ran) = with_session(
        "60s",
        r#"
client = dagmar.attach(run)
print(client.submit(pow, 2, 10).result(), client.published())
slow = client.submit(time.sleep, 2)
client.publish("slow", slow)
client.publish("power", client.submit(pow, 3, 4))
client.publish("failed", client.submit(int, "none"))
unnamed = client.submit(open, "ran", "x")
try:
    dagmar.attach(run).submit(abs, 1).result()
except dagmar.Disconnected as error:
    print(error)
client.close()
time.sleep(0.5)

client = dagmar.attach(run)
print(client.published(), client.published("power").result(), client.published("slow").result())
try:
    client.published("failed").result()
except ValueError as error:
    print("it said:", error)
print(client.submit(sum, [client.published("power"), 1]).result())
client.unpublish("slow")
print(client.published())
client.shutdown()
try:
    dagmar.attach(run).submit(abs, 1).result()
except dagmar.Disconnected as error:
    print(error)
"#,
    );
    assert_eq!(ran.code(), Some(0), "{ran}");
    let lines: Vec<&str> = ran.text().lines().collect();
    let expected = [
        "1024 []",
        "the run does not serve this client: another client is connected with it",
        "['failed', 'power', 'slow'] 81 None",
        "it said: invalid literal for int() with base 10: 'none'",
        "82",
        "['failed', 'power']",
    ];
    assert_eq!(lines[..6], expected, "{ran}");
    assert!(lines[6].ends_with("cannot attach to `nb-0001`: it is over"), "{ran}");
    place.expect(0, Ranks::Alone, &["wait", "nb-0001"]);
    assert!(place.path().join("ran").exists(), "what nobody waited for was done as well");
    place.expect_nothing_left();
}

#[test]
fn a_run_without_clients_ends_once_its_work_is_done() {
    let (place, ran) = with_session(
        "2s",
        "client = dagmar.attach(run)\ntask = client.submit(time.sleep, 4)\nclient._connection.flush()\nclient.close()\n",
    );
    assert_eq!(ran.code(), Some(0), "{ran}");
    place.expect(0, Ranks::Alone, &["wait", "nb-0001"]);
    assert_eq!(place.status()["report"]["tasks"]["finished"], 1, "it was there when the last client went");
}

#[test]
fn other_runs_wait_for_nobody() {
    let place = Place::with("[tasks.a]\nrun = \"true\"\n");
    place.expect(0, Ranks::Alone, &["run", "g.toml"]);
    place
        .expect(2, Ranks::Alone, &["attach"])
        .tells("it waits for no clients")
        .tells("`dagmar submit --client`");
    let words = ["submit", "--client", "--cluster", "local", "--idle-timeout", "soon"];
    place.expect(2, Ranks::Alone, &words).tells("--idle-timeout soon");
    let words = ["submit", "--client", "--cluster", "slurm", "--chain", "2", "--dry-run"];
    place.expect(2, Ranks::Alone, &words).tells("begins anew in each job");
}
