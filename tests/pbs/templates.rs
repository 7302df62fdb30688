//! Sites that want things otherwise: each is a cluster template of a few lines.

use crate::site::{SHORT, Site};

#[test]
fn a_site_with_a_project_and_without_select() {
    let site = Site::with(SHORT);
    let cluster = "extends = \"pbs\"\nform = \"totals\"\nrequire = [\"project\"]\ncpus_per_node = 2\n";
    site.place.write("site.toml", cluster);
    let refused = ["submit", "g.toml", "--cluster", "site.toml", "-t", "2m"];
    site.expect(2, &refused).tells("project");
    let job = site.submit_to("site.toml", &["-t", "2m", "-P", "proj1"]);
    site.expect(0, &["wait"]);
    let script = site.place.read("dagmar-runs/short-0001/job.sh");
    assert!(script.contains("#PBS -P proj1\n") && !script.contains("select"), "{script}");
    let job = site.job(&job, "job_state", "F");
    assert_eq!(job["project"], "proj1", "{job:#}");
    assert_eq!((&job["Resource_List"]["ncpus"], &job["Exit_status"]), (&2.into(), &0.into()), "{job:#}");
}

#[test]
fn a_site_with_equal_chunks() {
    let site = Site::with(SHORT);
    site.place
        .write("site.toml", "extends = \"pbs\"\nform = \"uniform\"\ncpus_per_node = 2\nqueue = \"long\"\n");
    let job = site.submit_to("site.toml", &["-t", "2m"]);
    site.expect(0, &["wait"]);
    let job = site.job(&job, "job_state", "F");
    assert_eq!(job["queue"], "long", "{job:#}");
    assert_eq!((&job["Resource_List"]["nodect"], &job["Exit_status"]), (&1.into(), &0.into()), "{job:#}");
}

#[test]
fn a_site_without_a_walltime() {
    let site = Site::with(SHORT);
    site.place.write("site.toml", "extends = \"pbs\"\nremove = [\"walltime\"]\n");
    site.expect(2, &["submit", "g.toml", "--cluster", "site.toml", "-t", "8s"])
        .tells("leaves `walltime` out");
    let job = site.submit_to("site.toml", &[]);
    site.expect(0, &["wait"]);
    let job = site.job(&job, "job_state", "F");
    assert!(job["Resource_List"].get("walltime").is_none(), "{job:#}");
}

#[test]
fn torque_is_asked_in_its_own_words() {
    let site = Site::with(SHORT);
    let cluster = "extends = \"torque\"\nprologue = [\"export PBS_VERSION=TORQUE-6.1.3\"]\n";
    site.place.write("site.toml", cluster);
    let job = site.submit_to("site.toml", &["--nodes", "1", "-c", "2", "-t", "2m"]);
    site.expect(0, &["wait"]);
    let job = site.job(&job, "job_state", "F");
    assert_eq!(
        (&job["Resource_List"]["nodes"], &job["Exit_status"]),
        (&"1:ppn=2".into(), &0.into()),
        "{job:#}"
    );
    assert_eq!(site.status()["workers"][0]["cpus"], 2);
}

#[test]
fn a_torque_without_history_tells_no_success_of_a_job_that_is_gone() {
    let site = Site::without_history(crate::site::LONG);
    let job = site.submit_to("torque", &["-t", "2m", "--directive=-h"]);
    assert!(site.expect(0, &["status"]).text().contains("of Torque is held"));
    assert_eq!(site.pbs(&["qdel", &job]).code(), Some(0));
    site.expect(5, &["wait"]).tells("left no outcome");
}
