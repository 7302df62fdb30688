//! Python in jobs: scripts that are submitted, and clients on the login node.

use std::path::Path;

use crate::testbed::Site;

/// What is called. It is a module, as an interpreter without `cloudpickle` finds functions by name.
const WORK: &str = r#"
import os, time

def double(number):
    time.sleep(0.1)
    return 2 * number

def where(_):
    time.sleep(0.2)
    return os.uname().nodename
"#;

fn site(script: &str) -> Option<Site> {
    let site = Site::with("")?;
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").display().to_string();
    site.place.write(
        "script.py",
        format!("import sys; sys.path.insert(0, {package:?})\nimport dagmar, work\n{script}"),
    );
    site.place.write("work.py", WORK);
    Some(site)
}

#[test]
fn a_script_is_submitted_and_its_code_counts() {
    let script = r#"
client = dagmar.default_client()
print(sum(client.gather(client.map(work.double, range(10)))), sorted(set(client.gather(client.map(work.where, range(20))))))
sys.exit(int(sys.argv[1]))
"#;
    for (code, ends_with) in [("0", 0), ("7", 3)] {
        let Some(site) = site(script) else { return };
        let words =
            ["submit", "script.py", code, "--cluster", "slurm", "-N", "2", "-c", "1", "-t", "5m", "--wait"];
        site.expect(ends_with, &words);
        let said = site.place.read("dagmar-runs/script-0001/batch.out");
        assert!(said.contains("90 ['n"), "{said}");
        assert_eq!(site.status()["exit_code"], ends_with);
    }
}

#[test]
fn a_client_on_the_login_node_has_workers_in_a_job_and_comes_back() {
    let script = r#"
with dagmar.SlurmCluster(nodes=2, cores=1, walltime="5m", job_name="nb", idle_timeout="30s") as cluster:
    client = dagmar.Client(cluster)
    print(sorted(set(client.gather(client.map(work.where, range(20))))))
    print(len(client.submit(bytes, 3_000_000).result()))
    client.publish("four", client.submit(work.double, 2))
    slow = client.submit(work.double, 4)
    # As when a notebook's kernel is gone.
    cluster._runtime.close()
    again = dagmar.attach(cluster.directory)
    print(again.published(), again.published("four").result(), again.submit(work.double, 5).result())
    again.shutdown()
"#;
    let Some(site) = site(script) else { return };
    let ran = site.shell("timeout -k 5 120 python3 script.py");
    assert_eq!(ran.code(), Some(0), "{ran}");
    let lines: Vec<&str> = ran.text().lines().collect();
    assert!(lines[0].matches("'n").count() == 2, "workers on two nodes: {ran}");
    assert_eq!(lines[1..], ["3000000", "['four'] 4 10"], "{ran}");
    site.expect(0, &["wait", "nb-0001"]);
    assert_eq!(site.login_processes(), Vec::<String>::new(), "nothing is left on the login node");
}
