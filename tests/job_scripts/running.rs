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
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("a program's name");
        fs::write(&program, format!("#!/bin/bash\ncd \"$2\"\n{body}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (run, request) = (directory.path(), ask(site, &[]).unwrap());
        let context = ScriptContext { run, program: &program, name: "r-0001", mark: MARK };
        let script = directory.path().join("job.sh");
        fs::write(&script, render(&request, &context).unwrap()).unwrap();
        let child = Command::new("bash").args(["-u", "-e"]).arg(&script).current_dir(run).spawn().unwrap();
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
