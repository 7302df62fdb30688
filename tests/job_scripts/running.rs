//! Scripts that really run, with a stand-in for the program they launch.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use dagmar::launch::script::{ScriptContext, render};

use super::asking::{MARK, ask};

/// A script of this site whose program does what `body` says.
struct Job {
    directory: tempfile::TempDir,
    child: Child,
}

const PATIENCE: u32 = 1000;

impl Job {
    fn start(site: &str, body: &str) -> Job {
        Job::start_in("bash", site, body, |script| script)
    }

    /// In another shell, and with the script changed first.
    fn start_in(shell: &str, site: &str, body: &str, change: impl Fn(String) -> String) -> Job {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("a program's name");
        fs::write(&program, format!("#!/bin/bash\ncd \"$2\"\n{body}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (run, request) = (directory.path(), ask(site, &[]).unwrap());
        let context = ScriptContext { run, program: &program, name: "r-0001", mark: MARK };
        let script = directory.path().join("job.sh");
        fs::write(&script, change(render(&request, &context).unwrap())).unwrap();
        let child = Command::new(shell).args(["-u", "-e"]).arg(&script).current_dir(run).spawn().unwrap();
        Job { directory, child }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn wait_for(&self, name: &str) {
        let is_there = |_| {
            Path::exists(&self.file(name)) || {
                thread::sleep(Duration::from_millis(20));
                false
            }
        };
        assert!((0..PATIENCE).any(is_there), "`{name}` never came");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn end(&mut self) -> ExitStatus {
        for _ in 0..PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.child.kill().unwrap();
        panic!("the script never ended");
    }
}

const WAITS: &str = "trap 'touch usr1' USR1\ntrap 'touch term; exit 4' TERM\ntouch ready\n\
                     for i in $(seq 400); do sleep 0.05; done; exit 9";

#[test]
fn a_script_ends_with_the_code_of_the_run_after_its_epilogue() {
    for site in ["slurm", "pbs", "torque", "local"] {
        let site = format!("extends = \"{site}\"\nepilogue = \"touch epilogue\"\n");
        let mut job = Job::start(&site, "[ \"$1\" = launch ] || exit 99; exit 3");
        assert_eq!(job.end().code(), Some(3), "{site}");
        assert!(job.file("epilogue").exists(), "{site}");
    }
}

#[test]
fn signals_reach_the_run_and_the_script_waits_on() {
    let mut job = Job::start("extends = \"slurm\"\nepilogue = \"touch epilogue\"\n", WAITS);
    job.wait_for("ready");
    job.signal("USR1");
    job.wait_for("usr1");
    job.signal("TERM");
    job.wait_for("term");
    assert_eq!(job.end().code(), Some(4));
    assert!(job.file("epilogue").exists());
}

#[test]
fn an_interrupt_reaches_the_run_as_term() {
    let mut job = Job::start("extends = \"pbs\"\n", WAITS);
    job.wait_for("ready");
    job.signal("INT");
    assert_eq!(job.end().code(), Some(4));
}

#[test]
fn a_program_that_is_not_there_is_no_success() {
    let mut job = Job::start("extends = \"local\"\nprologue = \"rm \\\"a program's name\\\"\"\n", "");
    assert_eq!(job.end().code(), Some(127));
}

/// The script with a line of shell after the only line that ends so.
fn with_after(script: &str, end: &str, line: &str) -> String {
    let end = format!("{end}\n");
    assert_eq!(script.matches(&end).count(), 1, "{script}");
    script.replace(&end, &format!("{end}{line}\n"))
}

#[test]
fn a_signal_before_the_run_is_known_reaches_it_all_the_same() {
    for site in ["slurm", "pbs", "local"] {
        let early = |script: String| with_after(&script, " &", "sleep 0.5; kill -TERM $$");
        let mut job = Job::start_in("bash", &format!("extends = \"{site}\"\n"), WAITS, early);
        assert_eq!(job.end().code(), Some(4), "{site}");
        assert!(job.file("term").exists(), "{site}");
    }
}

#[test]
fn a_shell_that_forgets_a_code_does_not_change_it() {
    for (shell, code) in [("bash", 1), ("dash", 1), ("dash", 3), ("dash", 0)] {
        // The signal comes when the code is known.
        let line = "    [ -e once ] || { touch once; kill -USR1 $$; }";
        let late = |script: String| with_after(&script, "code=$status; fi", line);
        let mut job = Job::start_in(shell, "extends = \"local\"\n", &format!("exit {code}"), late);
        assert_eq!(job.end().code(), Some(code), "{shell}");
        assert!(job.file("once").exists());
    }
}

#[test]
fn a_job_does_not_believe_to_be_a_rank_of_who_submitted_it() {
    for site in ["slurm", "pbs"] {
        let body = "env > seen";
        let pretend = |script: String| {
            let (first, rest) = script.split_once('\n').expect("it has lines");
            format!("{first}\nexport PMI_RANK=1 PMI_SIZE=4 OMPI_COMM_WORLD_SIZE=4 PMIX_RANK=1\n{rest}")
        };
        let mut job = Job::start_in("bash", &format!("extends = \"{site}\"\n"), body, pretend);
        assert_eq!(job.end().code(), Some(0));
        let seen = fs::read_to_string(job.file("seen")).unwrap();
        assert!(!seen.contains("PMI_") && !seen.contains("OMPI_COMM") && !seen.contains("PMIX_"), "{seen}");
    }
}
