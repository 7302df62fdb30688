//! What a user sees of a run while its job waits, runs and is gone.

use crate::harness::until;
use crate::site::{LONG, SHORT, Site, dagmar};

/// `dagmar status`, which is to begin with this.
fn check_status(site: &Site, begin: &str) {
    let said = site.expect(0, &["status"]);
    assert!(said.text().starts_with(begin), "{said}");
}

#[test]
fn status_tells_a_job_that_is_held() {
    let site = Site::with(LONG);
    site.submit(&["--directive=-h"]);
    check_status(
        &site,
        "long-0001  not begun: job 0.server of PBS is held: Hold_Types = u (its owner holds it)",
    );
    let status = site.status();
    assert_eq!(
        (&status["over"], &status["job"]["view"]["state"]),
        (&false.into(), &"held".into()),
        "{status}"
    );
}

#[test]
fn status_tells_a_job_that_can_never_run() {
    let site = Site::with(LONG);
    site.submit(&["--cpus-per-worker", "64"]);
    check_status(
        &site,
        "long-0001  not begun: job 0.server of PBS is queued: Can Never Run: Insufficient amount",
    );
    let said = site.expect(0, &["status"]);
    assert!(said.text().contains("`pbsnodes -aSj` shows what there is; submit with less"), "{said}");
    site.expect(0, &["cancel", "long-0001"]);
    check_status(&site, "long-0001  never begun: job 0.server of PBS was cancelled");
}

#[test]
fn status_tells_a_run_that_goes_on() {
    let site = Site::with(LONG);
    let job = site.submit(&[]);
    site.await_start();
    let said = site.expect(0, &["status"]);
    assert!(said.text().starts_with("long-0001  running, the last event is "), "{said}");
    assert!(said.text().contains(&format!("job {job} of PBS is running on ")), "{said}");
    let status = site.status();
    assert_eq!(status["job"]["view"]["state"], "running", "{status}");
    assert!(status["job"]["view"]["time_left"].is_number(), "{status}");
}

#[test]
fn status_works_where_pbs_cannot_be_asked() {
    let site = Site::with(LONG);
    site.submit(&["--directive=-h"]);
    let site = site.set("PATH", "/nowhere");
    check_status(&site, "long-0001  not begun: its job cannot be asked about: cannot run `qstat`");
}

#[test]
fn a_wait_says_each_thing_once() {
    let site = Site::with("[tasks.a]\nrun = \"sleep 6\"\n");
    site.submit(&[]);
    let waited = site.expect(0, &["wait"]);
    assert_eq!(waited.stderr.matches("is running").count(), 1, "{waited}");
}

#[test]
fn following_a_run_that_has_not_begun_says_what_it_waits_for() {
    let site = Site::with(LONG);
    let job = site.submit(&["--directive=-h"]);
    let follower = site.start(dagmar(), &["logs", "-f"]);
    let words = "long-0001 has not begun: job 0.server of PBS is held";
    until("it says what it waits for", || {
        let told = follower.stderr();
        if told.contains(words) { Ok(()) } else { Err(told) }
    });
    assert_eq!(site.pbs(&["qdel", &job]).code(), Some(0));
    let followed = follower.end();
    assert_eq!(followed.code(), Some(130), "{followed}");
    followed.tells("`long-0001` left no outcome: job 0.server was cancelled");
    assert_eq!(followed.stderr.matches("has not begun").count(), 1, "{followed}");
}

#[test]
fn a_run_is_followed_through_the_queue_to_its_end() {
    let site = Site::with("name = \"first\"\n[tasks.a]\nrun = \"sleep 3\"\n");
    let first = site.submit(&[]);
    site.place.write("g.toml", SHORT);
    site.submit(&["--dependency", &format!("afterok:{first}")]);
    let followed = site.expect(0, &["logs", "short-0001", "-f", "--stdout"]);
    followed.tells("short-0001 has not begun: job 1.server of PBS is held");
    assert!(followed.text().contains("hello\n"), "{followed}");
}
