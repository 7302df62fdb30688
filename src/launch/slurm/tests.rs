//! Slurm's commands, played by scripts that print what the real ones printed.

use super::*;

#[test]
fn the_id_of_a_submitted_job_stands_below_any_banner() {
    for (output, id) in [
        ("123\n", "123"),
        ("123;alpha\n", "123;alpha"),
        ("*** 2026: be kind ***\n4711\n", "4711"),
        ("Welcome\nSubmitted batch job 28\n", "28"),
        ("Submitted batch job 28 on cluster alpha\n", "28;alpha"),
        ("99\nSubmitted batch job 28\n", "28"),
    ] {
        assert_eq!(submitted_id(output).map(String::from).as_deref(), Some(id), "{output}");
    }
    for output in ["", "\n\n", "sbatch: verified", "Submitted batch job \n", "Submitted batch job x$(y)"] {
        assert_eq!(submitted_id(output), None, "{output}");
    }
}

#[test]
fn a_version_is_read_from_any_packaging() {
    assert_eq!(version("slurm-wlm 22.05.8\n"), Some((22, 5)));
    assert_eq!(version("slurm 23.11.10-2\n"), Some((23, 11)));
    assert_eq!(version("slurm 24.05.0-0rc1"), Some((24, 5)));
    assert_eq!(version("squeue: unknown"), None);
}

#[test]
fn a_job_of_another_cluster_is_asked_for_there() {
    let id = JobId::new("12;alpha").unwrap();
    assert_eq!(parts(&id), ("12", Some("alpha")));
    assert_eq!(on(parts(&id).1, &["--jobs", "12"]), ["--clusters", "alpha", "--jobs", "12"]);
    assert_eq!(on(None, &["x"]), ["x"]);
}
