//! No batch system: a script that runs on this machine, away from the terminal.
//!
//! A small shell of its own session runs the script, so that it survives the terminal and its end is
//! written down. What is known of it are files in one directory, that of its run: they answer for the
//! job after everybody who started it is gone.

mod process;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::core::launch_variables::is_of_a_rank;
use crate::record::publish::publish;

use super::batch::{
    BatchError, BatchSystem, JobEnd, JobId, JobState, JobView, Link, MARK_VARIABLE, Reason, System,
};
use process::Life;

/// What every file about a job begins with; the mark follows.
const PREFIX: &str = "local-job.";
/// Where the script's output goes, unless it is said.
const OUTPUT: &str = "batch.out";

/// Says who it is, runs the script, and writes down how it ended. Signals are for the script: this
/// shell lives on to see what it makes of them. `$1` is where to write, the rest is the script.
const WRAPPER: &str = r#"
trap : HUP INT QUIT TERM
record=$1; shift
read -r stat < /proc/$$/stat || exit 1
rest=${stat##*) }
started=$(set -- $rest; shift 19; echo "$1")
echo "$$.$started $(uname -n)" > "$record.new" && mv "$record.new" "$record" || exit 1
"$@"
code=$?
echo "$code" > "$record.exit.new" && mv "$record.exit.new" "$record.exit"
exit "$code"
"#;

/// Variables of an allocation around this process, which is not the job's; those of a rank go as well.
const FOREIGN: [&str; 2] = ["SLURM_", "PBS_"];
/// Those of them that say how to reach a batch system.
const KEPT: [&str; 4] = ["SLURM_CONF", "PBS_CONF_FILE", "PBS_SERVER", "PBS_DEFAULT"];

/// This machine as a batch system that starts everything at once.
#[derive(Clone, Debug)]
pub struct Local {
    directory: PathBuf,
    output: PathBuf,
}

impl Local {
    /// Jobs whose files are in `directory`: that of their run.
    pub fn new(directory: impl Into<PathBuf>) -> Local {
        let directory = directory.into();
        let output = directory.join(OUTPUT);
        Local { directory, output }
    }

    /// Sends what scripts print to this file.
    pub fn output(mut self, output: impl Into<PathBuf>) -> Local {
        self.output = output.into();
        self
    }

    /// The file that says who the job with this mark is.
    fn record(&self, mark: &str) -> Result<PathBuf, BatchError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if mark.is_empty() || !mark.bytes().all(is_plain) {
            let what = format!("use the mark `{}`", mark.escape_debug());
            return Err(BatchError::File(
                what,
                "it has other characters than letters, digits, `-` and `_`".into(),
            ));
        }
        let directory = path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        Ok(directory.join(format!("{PREFIX}{mark}")))
    }

    fn start(&self, script: &Path, mark: &str) -> io::Result<u32> {
        let output = OpenOptions::new().create(true).append(true).open(&self.output)?;
        let script = path::absolute(script)?;
        let record = self.record(mark).map_err(io::Error::other)?;
        // Not in a group of its own: to leave one, `setsid` would have to fork, and the id would be another's.
        let mut command = Command::new("setsid");
        command.args(["sh", "-c", WRAPPER, "dagmar-job"]).arg(record);
        command.args(interpreter(&script)?).arg(&script);
        prepare(&mut command, &output, mark)?;
        command.spawn().map(|child| child.id())
    }

    /// What is known of the job, by the file that names it.
    fn known(&self, id: &JobId) -> Option<Known> {
        self.all().into_iter().find(|known| known.id == *id)
    }

    fn all(&self) -> Vec<Known> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let is_record = |name: &str| name.strip_prefix(PREFIX).is_some_and(|mark| !mark.contains('.'));
        let records = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_record));
        records.filter_map(|entry| Known::read(entry.path())).collect()
    }
}

impl BatchSystem for Local {
    fn system(&self) -> System {
        System::Local
    }

    /// What is started here starts at once, so that nothing can wait for another job.
    fn submit(&self, script: &Path, mark: &str, link: Option<&Link>) -> Result<JobId, BatchError> {
        if link.is_some() {
            let what = format!("start `{}` after another job", script.display());
            return Err(BatchError::File(what, "this machine has no queue".to_owned()));
        }
        let record = self.record(mark)?;
        if record.exists() {
            let what = format!("start `{}`", script.display());
            return Err(BatchError::File(what, format!("a job marked `{mark}` was started before")));
        }
        let cannot = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound if !Path::new("/usr/bin/setsid").exists() => BatchError::NoCommand {
                system: System::Local,
                command: "setsid".into(),
                why: "there is no such program here".into(),
            },
            _ => BatchError::File(format!("start `{}`", script.display()), error.to_string()),
        };
        let pid = self.start(script, mark).map_err(cannot)?;
        process::await_record(&record, pid).ok_or_else(|| BatchError::NotUnderstood {
            system: System::Local,
            command: "sh".into(),
            output: format!("process {pid} did not say who it is"),
        })
    }

    fn find(&self, mark: &str) -> Result<Option<JobId>, BatchError> {
        Ok(Known::read(self.record(mark)?).map(|known| known.id))
    }

    fn jobs(&self, ids: &[JobId]) -> Result<BTreeMap<JobId, JobView>, BatchError> {
        let view = |id: &JobId| {
            self.known(id).map_or_else(|| JobView::new(JobState::Vanished), |known| known.view())
        };
        Ok(ids.iter().map(|id| (id.clone(), view(id))).collect())
    }

    /// TERM to all of its session. Nothing is killed: what the script does about it is its own affair.
    fn cancel(&self, id: &JobId) -> Result<(), BatchError> {
        let (system, id) = (System::Local, id.clone());
        let Some(known) = self.known(&id) else { return Err(BatchError::NoSuchJob { system, id }) };
        if known.view().state.is_final() {
            return Err(BatchError::AlreadyEnded { system, id });
        }
        let Some(pid) = known.pid().filter(|_| known.is_here()) else {
            let what = format!("cancel job `{id}`");
            return Err(BatchError::File(
                what,
                format!("it runs on `{}`, and this is another host", known.host),
            ));
        };
        let cannot = |why: String| BatchError::File(format!("cancel job `{id}`"), why);
        publish(&known.beside("cancelled"), b"").map_err(|error| cannot(error.to_string()))?;
        match killpg(Pid::from_raw(pid), Signal::SIGTERM) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(BatchError::AlreadyEnded { system, id }),
            Err(error) => Err(cannot(error.desc().to_owned())),
        }
    }

    fn test(&self, _script: &Path) -> Option<Result<String, BatchError>> {
        None
    }

    fn queued_jobs(&self) -> Result<usize, BatchError> {
        Ok(self.all().iter().filter(|known| !known.view().state.is_final()).count())
    }

    fn queues(&self) -> Result<Vec<String>, BatchError> {
        Ok(Vec::new())
    }
}

/// What the files say of one job.
struct Known {
    record: PathBuf,
    id: JobId,
    host: String,
}

impl Known {
    fn read(record: PathBuf) -> Option<Known> {
        let text = fs::read_to_string(&record).ok()?;
        let (id, host) = text.trim().split_once(' ')?;
        Some(Known { id: JobId::new(id)?, host: host.to_owned(), record })
    }

    fn view(&self) -> JobView {
        let mut view = JobView::new(self.state());
        view.nodes = Some(self.host.clone());
        view.node_count = Some(1);
        if matches!(view.state, JobState::Unknown(_)) {
            let meaning = format!("it was started on `{}`, and this is another host", self.host);
            view.reason = Some(Reason::known(&self.host, &meaning, "ask there", false));
        }
        view
    }

    fn state(&self) -> JobState {
        // The script's end is written before the process is gone, so the process is looked at first.
        let life = if self.is_here() { process::life(&self.id) } else { Life::Elsewhere };
        if let Some(code) = self.exit_code() {
            return JobState::Ended(self.end(code));
        }
        match life {
            Life::Running => JobState::Running,
            Life::Stopped => JobState::Suspended,
            Life::Elsewhere => JobState::Unknown("on another host".to_owned()),
            Life::Gone if self.is_cancelled() => JobState::Ended(JobEnd::Cancelled),
            Life::Gone => {
                let words = "its process is gone and wrote no exit code".to_owned();
                JobState::Ended(JobEnd::Unclear { words })
            }
        }
    }

    /// A shell tells a signal as 128 and its number.
    fn end(&self, code: i32) -> JobEnd {
        match code {
            0 => JobEnd::Completed,
            _ if self.is_cancelled() => JobEnd::Cancelled,
            129..=192 => JobEnd::Killed { signal: code - 128 },
            _ => JobEnd::Failed { exit_code: code },
        }
    }

    fn exit_code(&self) -> Option<i32> {
        fs::read_to_string(self.beside("exit")).ok()?.trim().parse().ok()
    }

    fn is_cancelled(&self) -> bool {
        self.beside("cancelled").exists()
    }

    fn is_here(&self) -> bool {
        hostname::get().is_ok_and(|name| name.to_string_lossy() == self.host)
    }

    fn pid(&self) -> Option<i32> {
        process::parts(&self.id).map(|(pid, _)| pid)
    }

    fn beside(&self, kind: &str) -> PathBuf {
        let mut name = self.record.clone().into_os_string();
        name.push(format!(".{kind}"));
        name.into()
    }
}

/// Streams, variables and directory of a job.
fn prepare(command: &mut Command, output: &File, mark: &str) -> io::Result<()> {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_foreign = FOREIGN.iter().any(|prefix| text.starts_with(prefix)) && !KEPT.contains(&&*text);
        if is_foreign || is_of_a_rank(name.as_bytes()) {
            command.env_remove(&name);
        }
    }
    command.env(MARK_VARIABLE, mark);
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output.try_clone()?);
    Ok(())
}

/// The words of the script's first line after `#!`, as the kernel reads them: a program and at most
/// one argument. A shell, if there is none.
fn interpreter(script: &Path) -> io::Result<Vec<String>> {
    let bytes = fs::read(script)?;
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(first).into_owned();
    let Some(words) = line.strip_prefix("#!").map(str::trim).filter(|words| !words.is_empty()) else {
        return Ok(vec!["/bin/sh".to_owned()]);
    };
    let words = words
        .split_once(char::is_whitespace)
        .map_or(vec![words], |(program, rest)| vec![program, rest.trim()]);
    Ok(words.into_iter().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Micros;

    struct World {
        directory: tempfile::TempDir,
        local: Local,
    }

    impl World {
        fn new() -> World {
            let directory = tempfile::tempdir().unwrap();
            let local = Local::new(directory.path());
            World { directory, local }
        }

        fn submit(&self, mark: &str, script: &str) -> JobId {
            let path = self.directory.path().join(format!("{mark}.sh"));
            fs::write(&path, script).unwrap();
            self.local.submit(&path, mark, None).unwrap()
        }

        fn state(&self, id: &JobId) -> JobState {
            self.local.jobs(std::slice::from_ref(id)).unwrap()[id].state.clone()
        }

        /// Waits until the script has said this.
        fn await_output(&self, words: &str) {
            let path = self.directory.path().join(OUTPUT);
            process::wait_until(Micros::from_secs(20), || {
                fs::read_to_string(&path).is_ok_and(|text| text.contains(words)).then_some(())
            })
            .unwrap_or_else(|| panic!("the script never said {words}"));
        }

        fn await_end(&self, id: &JobId) -> JobState {
            process::wait_until(Micros::from_secs(20), || Some(self.state(id)).filter(JobState::is_final))
                .unwrap_or_else(|| panic!("{id} did not end"))
        }
    }

    #[test]
    fn a_script_runs_to_its_end_and_its_code_is_kept() {
        let world = World::new();
        let id =
            world.submit("a-1", "#!/bin/bash\necho \"$DAGMAR_SUBMISSION ${BASH_VERSION:+bash}\"\nexit 3\n");
        assert_eq!(world.await_end(&id), JobState::Ended(JobEnd::Failed { exit_code: 3 }));
        world.await_output("a-1 bash");
        assert_eq!(world.local.find("a-1").unwrap(), Some(id));
        assert_eq!(world.local.find("a-2").unwrap(), None);
    }

    #[test]
    fn a_script_has_a_session_of_its_own_and_nobody_at_its_input() {
        let world = World::new();
        let script = "read -r line || echo no input; ps -o sid= -p $$ | tr -d ' '; exec sleep 30\n";
        let id = world.submit("a", script);
        let (pid, _) = process::parts(&id).unwrap();
        world.await_output("no input");
        world.await_output(&format!("{pid}\n"));
        assert_eq!(world.state(&id), JobState::Running);
        assert_eq!(world.local.queued_jobs().unwrap(), 1);
        world.local.cancel(&id).unwrap();
        assert_eq!(world.await_end(&id), JobState::Ended(JobEnd::Cancelled));
        assert!(matches!(world.local.cancel(&id), Err(BatchError::AlreadyEnded { .. })));
    }

    #[test]
    fn a_cancelled_script_may_end_in_its_own_way() {
        let world = World::new();
        let id = world
            .submit("a", "trap 'echo stopping; exit 4' TERM\necho ready\nwhile :; do sleep 0.05; done\n");
        world.await_output("ready");
        world.local.cancel(&id).unwrap();
        assert_eq!(world.await_end(&id), JobState::Ended(JobEnd::Cancelled));
        world.await_output("stopping");
        assert_eq!(world.local.all()[0].exit_code(), Some(4));
    }

    #[test]
    fn a_mark_is_used_once_and_must_be_a_plain_name() {
        let world = World::new();
        let id = world.submit("a", "exit 0\n");
        assert_eq!(world.await_end(&id), JobState::Ended(JobEnd::Completed));
        let again = world.local.submit(&world.directory.path().join("a.sh"), "a", None).unwrap_err();
        assert!(again.to_string().ends_with("a job marked `a` was started before"), "{again}");
        for mark in ["", "../a", "a.exit", "a b"] {
            assert!(world.local.find(mark).is_err(), "{mark}");
        }
    }

    #[test]
    fn a_job_whose_shell_was_killed_is_over_and_no_success() {
        let world = World::new();
        let id = world.submit("a", "echo ready; exec sleep 30\n");
        world.await_output("ready");
        killpg(Pid::from_raw(process::parts(&id).unwrap().0), Signal::SIGKILL).unwrap();
        let state = world.await_end(&id);
        assert!(matches!(&state, JobState::Ended(JobEnd::Unclear { .. })), "{state:?}");
    }

    #[test]
    fn a_process_with_a_number_used_again_is_not_the_job() {
        let world = World::new();
        let own = std::process::id();
        let record = world.directory.path().join("local-job.old");
        let host = hostname::get().unwrap().to_string_lossy().into_owned();
        fs::write(&record, format!("{own}.1 {host}\n")).unwrap();
        let id = JobId::new(format!("{own}.1")).unwrap();
        assert!(world.state(&id).is_final());
        fs::write(&record, format!("{own}.1 elsewhere\n")).unwrap();
        assert_eq!(world.state(&id), JobState::Unknown("on another host".into()));
        assert!(world.local.cancel(&id).is_err());
        assert_eq!(world.state(&JobId::new("1.1").unwrap()), JobState::Vanished);
    }
}
