//! From the login node: submitted and logged out, refused in words, never twice.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::harness::json;
use crate::testbed::{Site, hosts_at_work};

#[test]
fn the_variants_come_out_of_four_nodes_after_the_shell_is_gone() {
    check_variants("4", &["n1", "n2", "n3", "n4"]);
}

#[test]
fn the_variants_come_out_of_one_node_as_well() {
    check_variants("1", &[]);
}

/// Submits from a shell of its own session that is killed at once, as by a closed connection.
fn check_variants(nodes: &str, hosts: &[&str]) {
    let Some(site) = Site::with("") else { return };
    let example = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/variants").join(name);
    fs::copy(example("variants.toml"), site.place.path().join("g.toml")).expect("the graph is copied");
    symlink(example("data"), site.place.path().join("data")).expect("the data is linked");
    let fetched = site.shell(&example("fetch").display().to_string());
    assert_eq!(fetched.code(), Some(0), "{fetched}");
    let line = format!(
        "\"$DAGMAR\" submit g.toml --cluster slurm --nodes {nodes} --cpus-per-worker 2 --walltime 10m; kill -KILL $$"
    );
    let gone = site.shell(&line);
    assert!(gone.text().starts_with("submitted variants-0001 as job "), "{gone}");
    assert_eq!(site.login_processes(), Vec::<String>::new(), "nothing is left on the login node");
    site.expect(0, &["wait"]);
    let status = site.status();
    assert_eq!((&status["over"], &status["exit_code"]), (&true.into(), &0.into()), "{status}");
    if !hosts.is_empty() {
        assert_eq!(hosts_at_work(&status), hosts, "{status}");
    }
    site.expect(0, &["logs", "variants-0001", "align", "--stderr"]);
    let serial = site
        .shell(&format!("{} serial && bcftools view -H serial/variants.vcf", example("serial.sh").display()));
    let here = site.shell("bcftools view -H work/variants.vcf");
    assert!(here.text().lines().count() > 20, "{here}");
    assert_eq!(here.text(), serial.text(), "{serial}");
}

#[test]
fn a_dry_run_prints_the_script_and_leaves_nothing() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"true\"\n") else { return };
    let words = ["submit", "g.toml", "--cluster", "slurm", "-N", "3", "-t", "5m", "-p", "long", "--dry-run"];
    let script = site.expect(0, &words);
    for line in ["#SBATCH --nodes=3\n", "#SBATCH --time=00:05:00\n", "#SBATCH --partition=long\n"] {
        assert!(script.text().contains(line), "{script}");
    }
    assert!(site.place.runs().is_empty());
    site.place.write("job.sh", script.text());
    let accepted = site.slurm(&["sbatch", "--test-only", "job.sh"]);
    assert_eq!(accepted.code(), Some(0), "{accepted}");
}

#[test]
fn a_refusal_is_told_in_the_batch_systems_words_and_leaves_nothing() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"true\"\n") else { return };
    let refused = site.expect(6, &["submit", "g.toml", "--cluster", "slurm", "--queue", "gpuu"]);
    refused.tells("Slurm refused").tells("invalid partition").tells("`short`");
    assert!(site.place.runs().is_empty());
}

#[test]
fn bad_graphs_and_bad_fields_never_reach_the_batch_system() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"true\"\nafter = [\"b\"]\n") else { return };
    site.expect(2, &["submit", "g.toml", "--cluster", "slurm"]).tells("`b`");
    site.place.write("g.toml", "[tasks.a]\nrun = \"true\"\n");
    site.expect(2, &["submit", "g.toml", "--cluster", "slurm", "--account", "a\n#SBATCH --uid=0"])
        .tells("account");
    site.expect(2, &["submit", "g.toml", "--cluster", "nowhere"]).tells("nowhere");
    site.place.write("g.toml", "[tasks.a]\nrun = \"true\"\nresources = { cpus = 3 }\n");
    let unfit = site.expect(2, &["submit", "g.toml", "--cluster", "slurm", "-c", "2"]);
    unfit.tells("task `a` asks for 3 of `cpus`, but no worker has more than 2").tells("--cpus-per-worker");
    assert!(site.place.runs().is_empty());
}

#[test]
fn a_lost_answer_does_not_submit_twice() {
    let Some(site) = Site::with("[tasks.a]\nrun = \"true\"\n") else { return };
    let deaf = site.place.write("sbatch", "#!/bin/sh\nunset LC_ALL\n/usr/bin/env -S sbatch \"$@\" >/dev/null\n\
        echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2\nexit 1\n");
    fs::set_permissions(&deaf, fs::Permissions::from_mode(0o755)).expect("the wrapper can be called");
    let cluster = format!(
        "extends = \"slurm\"\n[commands]\nsubmit = [\"{}\"]\nstatus = [\"squeue\"]\n",
        deaf.display()
    );
    site.place.write("deaf.toml", cluster);
    let name = format!("deaf-{}", std::process::id());
    let words = ["submit", "g.toml", "--cluster", "deaf.toml", "--name", &name, "--output", "json"];
    let said = json(&site.expect(0, &words).stdout);
    assert_eq!(said["was_looked_up"], true, "{said}");
    let jobs = site.slurm(&["squeue", "-h", "-t", "all", "-n", &name, "-o", "%i"]);
    assert_eq!(jobs.text().trim(), said["job"].as_str().unwrap_or(""), "{jobs}");
    site.expect(0, &["wait"]);
}
