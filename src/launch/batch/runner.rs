//! Runs the commands of a batch system: never through a shell, never for ever, never without bound.

use std::env;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::clock;
use crate::core::launch_variables::is_of_a_rank;
use crate::core::time::Micros;

use super::{BatchError, Commands, System};

/// Bytes kept of what a command prints. Ten thousand jobs in JSON are about 40 MB.
const OUTPUT_MAX: usize = 96 << 20;
/// How long a command that is to end may take over it before it is killed.
const GRACE: Duration = Duration::from_secs(1);
/// How often a running command is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The exit code of `ssh` for its own errors, as its manual has it.
const CONNECTION_LOST: i32 = 255;

/// Runs the commands of one batch system.
#[derive(Clone, Debug)]
pub struct Runner {
    system: System,
    commands: Commands,
}

/// What a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The program, by the system's own name for it.
    pub program: String,
    /// Its exit code, if no signal ended it.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it printed, with whatever is not UTF-8 replaced.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Answer {
    /// What a program that refused says when it prints this everywhere.
    pub(crate) fn printed(program: &str, text: &str) -> Answer {
        let (stdout, stderr) = (text.to_owned(), text.to_owned());
        Answer { program: program.to_owned(), exit_code: Some(1), signal: None, stdout, stderr }
    }

    /// True if the command ended with code 0.
    pub fn is_success(&self) -> bool {
        self.exit_code == Some(0)
    }

    /// True if the command did not end in a way of its own: a signal, or the code by which `ssh` says that
    /// the connection was lost. What it was told may have been heard.
    pub fn was_cut_off(&self) -> bool {
        self.signal.is_some() || self.exit_code == Some(CONNECTION_LOST)
    }

    /// `exited with 1`, `was killed by signal 9`.
    pub fn exit(&self) -> String {
        match (self.exit_code, self.signal) {
            (Some(code), _) => format!("exited with {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        }
    }
}

impl Runner {
    /// Runs the commands of `system` as `commands` says.
    pub fn new(system: System, commands: Commands) -> Runner {
        Runner { system, commands }
    }

    /// Which words call them.
    pub fn commands(&self) -> &Commands {
        &self.commands
    }

    /// Whose commands they are.
    pub fn system(&self) -> System {
        self.system
    }

    /// Runs `program` (by the system's own name) with `args` and waits for its end, but not for ever.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Answer, BatchError> {
        let mut command = self.command(program, args);
        let mut child = command.spawn().map_err(|error| self.no_command(&command, &error))?;
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let Some(status) = wait(&mut child, self.commands.time_limit) else {
            end(&mut child);
            let after = Micros::from(self.commands.time_limit);
            return Err(BatchError::NoAnswer { system: self.system, command: program.to_owned(), after });
        };
        self.answer(program, status, stdout.take(), stderr.take())
    }

    fn answer(
        &self,
        program: &str,
        status: ExitStatus,
        out: Taken,
        err: Taken,
    ) -> Result<Answer, BatchError> {
        if out.is_cut {
            let output = format!("more than {} MiB", OUTPUT_MAX >> 20);
            return Err(BatchError::NotUnderstood {
                system: self.system,
                command: program.to_owned(),
                output,
            });
        }
        Ok(Answer {
            program: program.to_owned(),
            exit_code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&out.bytes).into_owned(),
            stderr: String::from_utf8_lossy(&err.bytes).into_owned(),
        })
    }

    /// The command has a process group of its own, so that Ctrl-C does not cut a submission in two
    /// and all of it can be killed.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let words = self.commands.words(self.system, program);
        let crosses_a_shell = words.iter().any(|word| word.rsplit('/').next() == Some("ssh"));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        for arg in args {
            // ssh joins its arguments and hands them to the other side's shell.
            if crosses_a_shell {
                command.arg(quoted(arg))
            } else {
                command.arg(arg)
            };
        }
        forget_the_rank(&mut command, env::vars_os().map(|(name, _)| name));
        command.env("LC_ALL", "C");
        if program != "sbatch" {
            // Seconds need no time zone. What sbatch says is read by a person.
            command.env("SLURM_TIME_FORMAT", "%s");
        }
        for name in ["SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SQUEUE_STATES", "SACCT_FORMAT", "SINFO_FORMAT"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        command
    }

    fn no_command(&self, command: &Command, error: &io::Error) -> BatchError {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such program here".to_owned(),
            _ => error.to_string(),
        };
        let command = command.get_program().to_string_lossy().into_owned();
        BatchError::NoCommand { system: self.system, command, why }
    }
}

/// A shell of an MPI program, or of a Slurm step, may submit: its job is no rank of that program.
fn forget_the_rank(command: &mut Command, names: impl Iterator<Item = OsString>) {
    for name in names.filter(|name| is_of_a_rank(name.as_bytes())) {
        command.env_remove(name);
    }
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./=:,+@".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The status of a command that ended before the limit.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = clock::now() + Micros::from(limit);
    loop {
        // A child that cannot be waited for has been waited for; there is no more to learn of it.
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if clock::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}

/// Ends a command and whatever it started.
fn end(child: &mut Child) {
    let group = Pid::from_raw(child.id() as i32);
    let _ = killpg(group, Signal::SIGTERM);
    if wait(child, GRACE).is_none() {
        let _ = killpg(group, Signal::SIGKILL);
        let _ = child.wait();
    }
}

/// Bytes that a thread reads from a pipe, so that a full pipe never stops a command.
struct Collected(Receiver<Vec<u8>>);

struct Taken {
    bytes: Vec<u8>,
    is_cut: bool,
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let (sender, receiver) = channel();
    if let Some(pipe) = pipe {
        thread::spawn(move || read_all(pipe, &sender));
    }
    Collected(receiver)
}

/// Reads to the end; what is past the bound is read and dropped.
fn read_all(mut pipe: impl Read, sender: &Sender<Vec<u8>>) {
    let mut buffer = vec![0; 64 << 10];
    let mut kept = 0;
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) if kept <= OUTPUT_MAX => {
                kept += count;
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

impl Collected {
    /// All that was read. The command has ended; something that it left behind may still hold the
    /// pipe open, and that is not waited for.
    fn take(self) -> Taken {
        let mut bytes = Vec::new();
        while let Ok(piece) = self.0.recv_timeout(GRACE) {
            bytes.extend_from_slice(&piece);
        }
        let is_cut = bytes.len() > OUTPUT_MAX;
        Taken { bytes, is_cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launch::field::Field;

    /// A runner whose `squeue` is `sh -c SCRIPT`; what it is asked follows as `$1`, `$2` ...
    fn shell(script: &str, limit_ms: u64) -> Runner {
        let status = ["sh", "-c", script, "squeue"].map(str::to_owned).to_vec();
        let time_limit = Duration::from_millis(limit_ms);
        Runner::new(System::Slurm, Commands { status, time_limit, ..Commands::default() })
    }

    #[test]
    fn arguments_arrive_as_they_are() {
        let args = ["%i|%T", "$(touch x)", "a b", "'", ""];
        let answer = shell("printf '<%s>' \"$@\"", 10_000).run("squeue", &args).unwrap();
        assert_eq!(answer.stdout, "<%i|%T><$(touch x)><a b><'><>");
        assert!(answer.is_success());
    }

    #[test]
    fn arguments_that_cross_a_shell_arrive_as_they_are() {
        for arg in ["%i|%T", "$(x)", "a b", "it's", "", "a\nb", "plain-1.sh"] {
            let script = format!("printf %s {}", quoted(arg));
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), arg);
        }
    }

    #[test]
    fn a_command_speaks_a_known_language() {
        let answer = shell("echo $LC_ALL; exit 3", 10_000).run("squeue", &[]).unwrap();
        assert_eq!((answer.stdout.as_str(), answer.exit().as_str()), ("C\n", "exited with 3"));
    }

    #[test]
    fn a_submission_from_within_a_step_does_not_pass_its_rank_on() {
        let variables =
            [("PMI_RANK", "1"), ("SLURM_STEP_ID", "0"), ("SLURM_NTASKS", "4"), ("PMIX_RANK", "2")];
        let kept = [("SLURM_CONF", "/etc/slurm.conf"), ("OMPI_MCA_btl", "tcp")];
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo ${PMI_RANK-} ${SLURM_STEP_ID-} ${SLURM_NTASKS-} ${PMIX_RANK-} $SLURM_CONF $OMPI_MCA_btl",
        ]);
        command.envs(variables).envs(kept);
        forget_the_rank(&mut command, variables.iter().chain(&kept).map(|(name, _)| OsString::from(name)));
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "/etc/slurm.conf tcp\n");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_with_all_it_started() {
        let runner = shell("trap : TERM; (sleep 50; echo late) & echo $$; sleep 50; sleep 50", 200);
        let began = clock::now();
        let error = runner.run("squeue", &[]).unwrap_err();
        assert!(matches!(&error, BatchError::NoAnswer { command, .. } if command == "squeue"), "{error}");
        assert!(error.is_ambiguous() && error.is_transient());
        assert!(clock::now().since(began) < Micros::from_secs(20));
    }

    #[test]
    fn what_a_command_leaves_behind_is_not_waited_for() {
        let began = clock::now();
        let answer = shell("echo said; sleep 30 & exit 0", 20_000).run("squeue", &[]).unwrap();
        assert_eq!(answer.stdout, "said\n");
        assert!(clock::now().since(began) < Micros::from_secs(20));
    }

    #[test]
    fn output_that_never_ends_does_not_fill_the_memory() {
        let error = shell("head -c 120000000 /dev/zero", 60_000).run("squeue", &[]).unwrap_err();
        assert!(
            matches!(&error, BatchError::NotUnderstood { output, .. } if output == "more than 96 MiB"),
            "{error}"
        );
    }

    #[test]
    fn a_missing_command_is_told_with_what_to_do() {
        let status = vec!["/nowhere/squeue".to_owned()];
        let runner = Runner::new(System::Slurm, Commands { status, ..Commands::default() });
        let error = runner.run("squeue", &[]).unwrap_err();
        assert_eq!(error.to_string(), "cannot run `/nowhere/squeue`: there is no such program here");
        assert!(error.hint().unwrap().contains("Load the module"));
        let field =
            error.hint().unwrap().split(['`', ' ']).find(|word| word.ends_with(".submit")).map(str::to_owned);
        assert!(Field::find(&field.expect("the hint names a field")).is_some());
    }
}
