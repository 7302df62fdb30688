//! Commands, run for real: how they end, what they print, and that nothing of them is left.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use dagmar::core::event::{Cause, Success};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, TaskId};
use dagmar::core::key::Group;
use dagmar::core::task::{Body, Call, Command, CommandLine, Operation, Stdin, Stream, TaskOptions, Text};
use dagmar::core::time::Micros;
use dagmar::core::value::Value;
use dagmar::record::segment::Fence;
use dagmar::worker::command::CommandExecutor;
use dagmar::worker::executor::{Ended, Executor, Job, RankPlaces};
use dagmar::worker::output::Output;
use dagmar::worker::sink::{CapturedStream, OutputSink};
use dagmar::worker::spawner::Spawner;

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

type Ending = Result<(Success, Option<Arc<Output>>), Cause>;

type Streams = HashMap<(u32, CapturedStream), Vec<u8>>;

/// Everything captured and forwarded, by task and stream.
#[derive(Clone, Default)]
struct Captured {
    bytes: Arc<Mutex<Streams>>,
    forwarded: Arc<Mutex<Vec<u8>>>,
    fails: bool,
}

impl OutputSink for Captured {
    fn append(&mut self, task: TaskId, _: Attempt, stream: CapturedStream, new: &[u8]) -> Result<(), String> {
        if self.fails && task == TaskId(0) {
            return Err("`output/rank-1.pack`: no space left on device".to_owned());
        }
        self.bytes.lock().unwrap().entry((task.0, stream)).or_default().extend_from_slice(new);
        Ok(())
    }

    fn forward(&mut self, _: TaskId, _: CapturedStream, bytes: &[u8]) {
        self.forwarded.lock().unwrap().extend_from_slice(bytes);
    }
}

/// An executor, a graph of commands that all carry one token, and what they gave.
struct World {
    executor: Option<CommandExecutor>,
    spawner: u32,
    ended: Receiver<Ended>,
    captured: Captured,
    token: String,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        World::with(Captured::default())
    }

    fn with(captured: Captured) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let token = format!("DAGMAR_TEST={}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let link = Spawner::start_with(Path::new(env!("CARGO_BIN_EXE_dagmar"))).unwrap();
        let spawner = link.pid();
        let (sender, ended) = unbounded();
        let sink = Box::new(captured.clone());
        let executor = CommandExecutor::new(link, sink, sender, Box::new(|| false)).unwrap();
        let directory = tempfile::tempdir().unwrap();
        World { executor: Some(executor), spawner, ended, captured, token, directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn shell(&self, line: &str) -> Task {
        self.task(CommandLine::Shell(line.into()))
    }

    fn words(&self, words: &[&str]) -> Task {
        self.task(CommandLine::Arguments(words.iter().map(|&word| word.into()).collect()))
    }

    fn task(&self, line: CommandLine) -> Task {
        let (name, value) = self.token.split_once('=').unwrap();
        Task {
            command: Command {
                line,
                environment: vec![(name.to_owned(), value.into())],
                directory: self.path("").into(),
                stdin: Stdin::Null,
                stdout: Stream::Capture,
                stderr: Stream::Capture,
                capture_limit_bytes: 1 << 30,
            },
            options: TaskOptions::default(),
            outputs: Vec::new(),
            inputs: Vec::new(),
            expected_files: Vec::new(),
            fence: None,
            keep: false,
            ranks: None,
        }
    }

    fn start(&mut self, tasks: Vec<Task>) -> Arc<Graph> {
        let graph = graph(&tasks);
        for (place, task) in tasks.into_iter().enumerate() {
            let job = Job {
                graph: graph.clone(),
                task: TaskId(place as u32),
                attempt: Attempt::FIRST,
                inputs: task.inputs,
                expected_files: task.expected_files,
                fence: task.fence,
                keep_value: task.keep,
                persist: true,
                ranks: task.ranks,
                binding: None,
            };
            self.executor.as_mut().unwrap().start(job);
        }
        graph
    }

    fn next(&self) -> (u32, Ending) {
        let ended = self.ended.recv_timeout(PATIENCE).expect("every attempt ends");
        (ended.task.0, ended.ending.map_err(|failure| failure.cause))
    }

    /// Runs tasks beside each other.
    fn run(&mut self, tasks: Vec<Task>) -> Vec<Ending> {
        let count = tasks.len();
        self.start(tasks);
        let mut ends: Vec<(u32, Ending)> = (0..count).map(|_| self.next()).collect();
        ends.sort_by_key(|end| end.0);
        ends.into_iter().map(|end| end.1).collect()
    }

    /// Runs a task beside another that must not be disturbed, and sees that nothing is left.
    fn run_beside(&mut self, task: Task) -> Ending {
        let neighbour = self.shell("printf begin; sleep 0.3; printf end");
        let mut ends = self.run(vec![task, neighbour]);
        ends.pop().unwrap().expect("the neighbour is not disturbed");
        assert_eq!(self.stdout(1), b"beginend");
        self.expect_nothing_left();
        ends.pop().unwrap()
    }

    fn stdout(&self, task: u32) -> Vec<u8> {
        let bytes = self.captured.bytes.lock().unwrap();
        bytes.get(&(task, CapturedStream::Stdout)).cloned().unwrap_or_default()
    }

    fn expect_nothing_left(&self) {
        assert_eq!(carriers(&self.token), Vec::<u32>::new(), "processes of ended attempts are left");
    }
}

struct Task {
    command: Command,
    options: TaskOptions,
    outputs: Vec<Text>,
    inputs: Vec<Arc<Output>>,
    expected_files: Vec<(String, u64)>,
    fence: Option<Arc<Fence>>,
    keep: bool,
    ranks: Option<RankPlaces>,
}

impl Task {
    fn outputs(mut self, paths: &[String]) -> Self {
        self.outputs = paths.iter().map(|path| path.as_str().into()).collect();
        self
    }

    fn timeout(mut self, timeout_ms: u64, grace_ms: u64) -> Self {
        self.options.timeout = Some(Micros::from_millis(timeout_ms));
        self.options.grace = Micros::from_millis(grace_ms);
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.command.environment.push((name.to_owned(), value.into()));
        self
    }

    fn stdin(mut self, output: Output) -> Self {
        self.inputs = vec![Arc::new(output)];
        self.command.stdin = Stdin::Input(0);
        self
    }

    fn keep(mut self) -> Self {
        self.keep = true;
        self
    }
}

fn graph(tasks: &[Task]) -> Arc<Graph> {
    let mut builder = GraphBuilder::new("test", "/");
    for (place, _) in tasks.iter().enumerate() {
        builder.declare(Group::single(format!("t{place}"))).unwrap();
    }
    // An input must belong to a task, and none of these needs another: one behind them serves all.
    let source = builder.declare(Group::single("source")).unwrap();
    for task in tasks {
        let body = Body::Command(Box::new(task.command.clone()));
        let operation = builder.operation(Operation { body, outputs: task.outputs.clone(), inputs: vec![] });
        let options = builder.options(task.options.clone());
        let values = task.inputs.iter().map(|_| source).collect();
        builder.define(Definition { operation, options, values, ..Definition::default() }).unwrap();
    }
    let body = Body::Call(Call { function: "noop".to_owned(), arguments: vec![] });
    let operation = builder.operation(Operation { body, outputs: vec![], inputs: vec![] });
    builder.define(Definition { operation, ..Definition::default() }).unwrap();
    Arc::new(builder.build().unwrap())
}

/// The living processes that have `token` in the environment they were started with.
fn carriers(token: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let carries = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == token.as_bytes())
    };
    pids.filter(carries).collect()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The processes below `pid`, zombies included.
fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

fn text(output: &Option<Arc<Output>>) -> String {
    match &**output.as_ref().expect("the value is kept") {
        Output::Captured(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn failure(ending: Ending) -> Cause {
    ending.expect_err("the attempt fails")
}

#[test]
fn a_command_gives_what_it_printed() {
    let mut world = World::new();
    let task =
        world.shell("echo $DAGMAR_KEY $DAGMAR_ATTEMPT $DAGMAR_CPUS $OMP_NUM_THREADS; echo oops >&2").keep();
    let (success, output) = world.run(vec![task]).remove(0).unwrap();
    assert_eq!(text(&output), "t0 1 1 1\n");
    assert_eq!((success.size_bytes, success.file_sizes), (9, vec![]));
    assert_eq!(world.stdout(0), b"t0 1 1 1\n");
    assert_eq!(world.captured.bytes.lock().unwrap()[&(0, CapturedStream::Stderr)], b"oops\n");
}

#[test]
fn the_users_variables_win() {
    let mut world = World::new();
    let task = world.shell("echo $OMP_NUM_THREADS").env("OMP_NUM_THREADS", "7").keep();
    assert_eq!(text(&world.run(vec![task]).remove(0).unwrap().1), "7\n");
}

#[test]
fn an_exit_code_is_told() {
    let mut world = World::new();
    let task = world.shell("exit 3");
    assert_eq!(failure(world.run_beside(task)), Cause::ExitCode(3));
}

#[test]
fn a_signal_is_told_from_an_exit_code() {
    let mut world = World::new();
    let task = world.shell("kill -KILL $$");
    assert_eq!(failure(world.run_beside(task)), Cause::Signal(9));
}

#[test]
fn a_timeout_ends_a_command_and_its_children() {
    let mut world = World::new();
    let task = world.shell("sleep 1000 & sleep 1000 | sleep 1000").timeout(200, 60_000);
    let began = Instant::now();
    assert_eq!(failure(world.run_beside(task)), Cause::Timeout(Micros::from_millis(200)));
    assert!(began.elapsed() < Duration::from_secs(30), "TERM was enough");
}

#[test]
fn a_command_that_ignores_term_is_killed_after_its_grace() {
    let mut world = World::new();
    let task = world.shell("trap '' TERM; echo ready; while :; do sleep 1; done").timeout(200, 300);
    assert_eq!(failure(world.run_beside(task)), Cause::Timeout(Micros::from_millis(200)));
}

#[test]
fn a_grace_is_also_for_what_a_shell_leaves_behind() {
    let mut world = World::new();
    let inner = "trap \"sleep 0.5; echo saved; exit 0\" TERM; echo up; while :; do sleep 0.05; done";
    let task = world.shell(&format!("sh -c '{inner}' & wait")).timeout(1_000_000, 60_000);
    world.start(vec![task]);
    until("the inner shell prints", || world.stdout(0) == b"up\n");
    world.executor.as_mut().unwrap().stop(TaskId(0), Attempt::FIRST, Cause::Cancelled);
    assert_eq!(failure(world.next().1), Cause::Cancelled);
    assert_eq!(world.stdout(0), b"up\nsaved\n");
    world.expect_nothing_left();
}

#[test]
fn an_attempt_that_waits_for_a_file_can_be_stopped() {
    let mut world = World::new();
    let mut task = world.shell("true");
    task.expected_files = vec![(world.path("never"), 4)];
    world.start(vec![task]);
    world.executor.as_mut().unwrap().stop(TaskId(0), Attempt::FIRST, Cause::Cancelled);
    assert_eq!(world.next().1, Err(Cause::Cancelled));
}

#[test]
fn a_stopped_attempt_ends_with_the_cause_it_was_given() {
    let mut world = World::new();
    let graph = world.start(vec![world.shell("echo up; sleep 1000"), world.shell("sleep 0.5; echo fine")]);
    until("the command prints", || world.stdout(0) == b"up\n");
    world.executor.as_mut().unwrap().stop(TaskId(0), Attempt::FIRST, Cause::Cancelled);
    assert_eq!(world.next().1, Err(Cause::Cancelled));
    assert!(world.next().1.is_ok());
    world.expect_nothing_left();
    drop(graph);
}

#[test]
fn a_hundred_megabytes_pass_through() {
    let mut world = World::new();
    let task = world.shell("head -c 100000000 /dev/zero");
    assert_eq!(world.run_beside(task).unwrap().0.size_bytes, 100_000_000);
    assert_eq!(world.stdout(0).len(), 100_000_000);
}

#[test]
fn printing_past_the_limit_ends_the_attempt() {
    let mut world = World::new();
    let mut task = world.shell("cat /dev/zero");
    task.command.capture_limit_bytes = 100_000;
    assert_eq!(failure(world.run_beside(task)), Cause::CaptureLimit(100_000));
    assert_eq!(world.stdout(0).len(), 100_000);
}

/// Runs a command that starts a daemon, and sees that the daemon is gone when the command ends.
fn expect_daemon_gone(how: &str, daemon: &str) {
    let mut world = World::new();
    let path = world.path("pid");
    let wait = format!("while [ ! -s {path} ]; do sleep 0.01; done");
    let task = world.shell(&format!("({how} /bin/sh -c 'echo $$ > {path}; {daemon}' &); {wait}; echo done"));
    world.run_beside(task).unwrap();
    assert_eq!(world.stdout(0), b"done\n");
    let pid = fs::read_to_string(path).unwrap();
    assert!(!Path::new("/proc").join(pid.trim()).exists(), "the daemon {pid} lives");
}

#[test]
fn a_daemon_is_found_and_ended() {
    expect_daemon_gone("setsid", "exec sleep 1000");
}

#[test]
fn a_daemon_that_hides_and_ignores_term_is_found_and_ended() {
    let daemon = "trap \"\" TERM HUP; while :; do /bin/sleep 1; done";
    expect_daemon_gone("setsid env -i", daemon);
}

#[test]
fn what_ends_by_itself_soon_after_its_shell_is_waited_for() {
    let mut world = World::new();
    let task = world.shell("(sleep 0.02; echo late) & echo early");
    world.run_beside(task).unwrap();
    assert_eq!(world.stdout(0), b"early\nlate\n");
}

#[test]
fn a_command_may_close_its_stdout_early() {
    let mut world = World::new();
    let task = world.shell("echo first; exec >&- 2>&-; sleep 0.2");
    world.run_beside(task).unwrap();
    assert_eq!(world.stdout(0), b"first\n");
}

#[test]
fn a_missing_output_is_named() {
    let mut world = World::new();
    let (here, gone) = (world.path("deep/er/here"), world.path("gone"));
    let task = world.shell(&format!("echo x > {here}")).outputs(&[here, gone.clone()]);
    assert_eq!(failure(world.run_beside(task)), Cause::MissingOutput(gone));
}

/// A command that writes `text` where the file `x` is staged.
fn staged(world: &World, text: &str) -> Task {
    let target = Text::from(world.path("x"));
    let Text::Plain(file) = target.staged() else { unreachable!("no attempt stands in it") };
    let mut task = world.words(&["sh", "-c", "printf \"$1\" > \"$2\"", "sh", text, &file]);
    task.outputs = vec![target];
    task
}

#[test]
fn a_staged_file_is_put_into_its_place_with_its_size() {
    let mut world = World::new();
    fs::write(world.path("x"), "old").unwrap();
    let (task, journal) = (staged(&world, "whole"), world.path("journal"));
    fs::write(&journal, "").unwrap();
    let fence = Some(Arc::new(Fence::of(journal.into()).unwrap()));
    let (success, _) = world.run_beside(Task { fence, ..task }).unwrap();
    assert_eq!((success.file_sizes, fs::read(world.path("x")).unwrap()), (vec![5], b"whole".to_vec()));
    assert_eq!(fs::read_dir(world.directory.path()).unwrap().count(), 2, "nothing else is left");
}

#[test]
fn a_worker_of_a_run_that_was_taken_over_puts_no_file_into_its_place() {
    let mut world = World::new();
    fs::write(world.path("x"), "the successor's").unwrap();
    let (task, journal) = (staged(&world, "late"), world.path("journal"));
    let fence = Some(Arc::new(Fence::of(journal.clone().into()).unwrap()));
    fs::write(&journal, "").unwrap();
    fs::write(format!("{journal}.2"), "").unwrap();
    let cause = failure(world.run_beside(Task { fence, ..task }));
    assert_eq!(cause, Cause::NotRecorded("another process has taken the run over".to_owned()));
    assert_eq!(fs::read(world.path("x")).unwrap(), b"the successor's");
    assert_eq!(fs::read_dir(world.directory.path()).unwrap().count(), 3, "nothing else is left");
}

#[test]
fn dropping_the_executor_waits_for_files_on_their_way() {
    let mut world = World::new();
    let task = staged(&world, "whole");
    world.start(vec![task]);
    let target = world.path("x");
    until("the file is there", || Path::new(&target).exists());
    drop(world.executor.take());
    let (_, ending) = world.next();
    assert_eq!(ending.unwrap().0.file_sizes, [5]);
}

#[test]
fn sizes_of_declared_outputs_are_told() {
    let mut world = World::new();
    let (first, second) = (world.path("sub/first"), world.path("second"));
    let line = format!("printf 12345 > {first}; : > {second}");
    let task = world.shell(&line).outputs(&[first, second]);
    assert_eq!(world.run_beside(task).unwrap().0.file_sizes, [5, 0]);
}

#[test]
fn why_a_program_cannot_be_started_is_told() {
    let mut world = World::new();
    let (plain, script) = (world.path("plain"), world.path("script"));
    fs::write(&plain, "no program").unwrap();
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let cases = [
        (world.words(&["no-such-program"]), "program `no-such-program` was not found on PATH".to_owned()),
        (world.words(&["./gone", "x"]), "program `./gone` does not exist".to_owned()),
        (world.words(&[&plain]), format!("program `{plain}` is not executable")),
        (world.words(&[&script]), format!("the interpreter that program `{script}` names does not exist")),
    ];
    for (task, why) in cases {
        assert_eq!(failure(world.run_beside(task)), Cause::NotStarted(why));
        world.captured.bytes.lock().unwrap().clear();
    }
    let mut task = world.shell("true");
    task.command.directory = "/no/such/place".into();
    let why = "its working directory `/no/such/place` does not exist".to_owned();
    assert_eq!(failure(world.run_beside(task)), Cause::NotStarted(why));
}

#[test]
fn a_big_environment_arrives_and_a_bigger_one_is_refused() {
    let mut world = World::new();
    let big = "x".repeat(100_000);
    let mut task = world.shell("echo ${#V0} ${#V9}").keep();
    for place in 0..10 {
        task = task.env(&format!("V{place}"), &big);
    }
    assert_eq!(text(&world.run_beside(task).unwrap().1), "100000 100000\n");
    let task = world.shell("true").env("V", &"x".repeat(1 << 20));
    let Cause::NotStarted(why) = failure(world.run(vec![task]).remove(0)) else { panic!() };
    assert!(why.contains("longer than the system allows"), "{why}");
}

#[test]
fn ten_megabytes_go_in_and_come_out() {
    let mut world = World::new();
    let bytes: Vec<u8> = (0..10_000_000_u32).map(|number| (number % 251) as u8).collect();
    let task = world.words(&["cat"]).stdin(Output::Captured(bytes.clone()));
    world.run_beside(task).unwrap();
    assert!(world.stdout(0) == bytes);
}

#[test]
fn a_command_may_leave_its_input_unread() {
    let mut world = World::new();
    let task = world.shell("head -c 3").stdin(Output::Captured(b"abc".repeat(1_000_000))).keep();
    assert_eq!(text(&world.run_beside(task).unwrap().1), "abc");
}

#[test]
fn values_go_in_as_text_or_json() {
    let mut world = World::new();
    let map = Value::Map(vec![("b".to_owned(), Value::Int(1)), ("a".to_owned(), Value::List(vec![]))]);
    let values = [Value::Text("plain".to_owned()), Value::Int(5), map];
    let tasks = values.into_iter().map(|value| world.words(&["cat"]).stdin(Output::Value(value))).collect();
    assert!(world.run(tasks).iter().all(Result::is_ok));
    assert_eq!((world.stdout(0), world.stdout(1)), (b"plain".to_vec(), b"5".to_vec()));
    assert_eq!(world.stdout(2), br#"{"b":1,"a":[]}"#);
}

#[test]
fn forwarded_lines_are_captured_too() {
    let mut world = World::new();
    let mut task = world.shell("printf 'one\\ntw'; sleep 0.1; printf 'o\\nrest'");
    task.command.stdout = Stream::Forward;
    world.run_beside(task).unwrap();
    assert_eq!(*world.captured.forwarded.lock().unwrap(), b"one\ntwo\nrest");
    assert_eq!(world.stdout(0), b"one\ntwo\nrest");
}

#[test]
fn both_streams_may_share_a_file() {
    let mut world = World::new();
    let path = world.path("logs/both");
    let mut task = world.shell("echo out; echo err >&2; echo out");
    task.command.stdout = Stream::File(path.as_str().into());
    task.command.stderr = Stream::File(path.as_str().into());
    assert_eq!(world.run_beside(task).unwrap().0.size_bytes, 0);
    assert_eq!(fs::read_to_string(path).unwrap(), "out\nerr\nout\n");
}

#[test]
fn a_file_that_is_late_is_waited_for() {
    let mut world = World::new();
    let path = world.path("late");
    let mut task = world.shell(&format!("cat {path}"));
    task.expected_files = vec![(path.clone(), 4)];
    let writer = world.shell(&format!("printf 12 > {path}; sleep 0.2; printf 34 >> {path}"));
    assert!(world.run(vec![task, writer]).iter().all(Result::is_ok));
    assert_eq!(world.stdout(0), b"1234");
}

#[test]
fn a_file_of_another_size_than_its_writer_reported_only_delays() {
    let mut world = World::new();
    let path = world.path("edited");
    fs::write(&path, "longer").unwrap();
    let mut task = world.shell(&format!("cat {path}"));
    task.expected_files = vec![(path, 4)];
    let began = Instant::now();
    world.run_beside(task).unwrap();
    assert_eq!(world.stdout(0), b"longer");
    assert!(began.elapsed() < Duration::from_secs(8), "it waits less than for a file that is absent");
}

#[test]
fn a_file_that_is_absent_is_named_though_another_was_changed() {
    let mut world = World::new();
    let (edited, never) = (world.path("edited"), world.path("never"));
    fs::write(&edited, "longer").unwrap();
    let mut task = world.shell("true");
    task.expected_files = vec![(edited, 4), (never.clone(), 4)];
    assert_eq!(failure(world.run_beside(task)), Cause::MissingInput(never));
}

#[test]
fn a_file_that_never_comes_is_named() {
    let mut world = World::new();
    let path = world.path("never");
    let mut task = world.shell("true");
    task.expected_files = vec![(path.clone(), 4)];
    assert_eq!(failure(world.run_beside(task)), Cause::MissingInput(path));
}

#[test]
fn an_output_that_cannot_be_recorded_fails_its_attempt_alone() {
    let mut world = World::with(Captured { fails: true, ..Captured::default() });
    let task = world.shell("yes");
    let why = "`output/rank-1.pack`: no space left on device".to_owned();
    assert_eq!(failure(world.run_beside(task)), Cause::NotRecorded(why));
}

#[test]
fn programs_inherit_no_descriptors_and_no_ignored_signals() {
    let mut world = World::new();
    let line = "echo $(ls /proc/self/fd); grep -E 'Sig(Blk|Ign)' /proc/self/status | cut -f 2";
    let printed = text(&world.run_beside(world.shell(line).keep()).unwrap().1);
    let [descriptors, blocked, ignored] = printed.lines().collect::<Vec<_>>()[..] else {
        panic!("{printed}")
    };
    // `ls` itself holds 3 open, on the directory.
    assert_eq!((descriptors, blocked), ("0 1 2 3", "0000000000000000"));
    // Above 31 are those that the C library keeps for itself and nobody can set.
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & 0x7fff_ffff, 0);
}

#[test]
fn thousands_of_commands_leave_nothing_open_and_no_zombie() {
    let mut world = World::new();
    let words = |world: &World| (0..8).map(|_| world.words(&["true"])).collect::<Vec<_>>();
    // Eight that wait for each other are eight at once.
    let all = world.path("all");
    let meet = format!("echo >> {all}; until [ $(wc -l < {all}) = 8 ]; do sleep 0.01; done");
    let meeting = (0..8).map(|_| world.shell(&meet)).collect();
    assert!(world.run(meeting).iter().all(Result::is_ok));
    let keepers = children(world.spawner);
    assert_eq!(keepers.len(), 8, "one keeper for each: {keepers:?}");
    let open =
        || keepers.iter().map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()).sum::<usize>();
    let before = open();
    for _ in 0..250 {
        assert!(world.run(words(&world)).iter().all(Result::is_ok));
    }
    assert_eq!((children(world.spawner), open()), (keepers.clone(), before));
    assert!(keepers.iter().all(|&keeper| children(keeper).is_empty()), "zombies are left");
    world.expect_nothing_left();
}

#[test]
fn a_dead_spawner_fails_what_runs_and_what_comes() {
    let mut world = World::new();
    let line = "(setsid sh -c 'exec sleep 1000' &); echo up; sleep 1000";
    world.start(vec![world.shell(line), world.shell(line)]);
    until("both print", || world.stdout(0) == b"up\n" && world.stdout(1) == b"up\n");
    kill(world.spawner);
    for _ in 0..2 {
        assert_eq!(failure(world.next().1), Cause::NoSpawner);
    }
    world.expect_nothing_left();
    let task = world.shell("true");
    assert_eq!(failure(world.run(vec![task]).remove(0)), Cause::NoSpawner);
}

#[test]
fn a_spawner_that_dies_between_commands_is_told_by_the_next() {
    let mut world = World::new();
    let run_one = |world: &mut World| {
        let task = world.words(&["true"]);
        world.run(vec![task]).remove(0)
    };
    assert!(run_one(&mut world).is_ok());
    kill(world.spawner);
    // Its keeper has not heard of it yet and may still run some.
    let cause = (0..1000).find_map(|_| run_one(&mut world).err());
    assert_eq!(cause, Some(Cause::NoSpawner));
    assert_eq!(run_one(&mut world).err(), Some(Cause::NoSpawner));
    assert!(Cause::NoSpawner.is_infrastructure(), "it costs no retry");
}

#[test]
fn a_dead_keeper_fails_its_attempt_alone() {
    let mut world = World::new();
    world.start(vec![world.shell("(setsid sleep 1000 &); echo up; sleep 1000")]);
    until("it prints", || world.stdout(0) == b"up\n");
    kill(children(world.spawner)[0]);
    assert!(matches!(failure(world.next().1), Cause::NotStarted(_)));
    until("its processes are gone", || carriers(&world.token).is_empty());
    let task = world.shell("echo fine");
    assert!(world.run(vec![task]).remove(0).is_ok());
}

#[test]
fn dropping_the_executor_ends_everything() {
    let mut world = World::new();
    let line = "trap '' TERM; echo up; (setsid sleep 1000 &); sleep 1000; sleep 1000";
    world.start(vec![world.shell(line), world.shell("echo up; sleep 1000")]);
    until("both print", || world.stdout(0) == b"up\n" && world.stdout(1) == b"up\n");
    drop(world.executor.take());
    world.expect_nothing_left();
    for _ in 0..2 {
        assert_eq!(world.next().1, Err(Cause::Stopped));
    }
    assert!(!Path::new(&format!("/proc/{}", world.spawner)).exists());
}

/// What a test that starts itself again finds in its environment: where to report to.
const REPORT: &str = "DAGMAR_TEST_REPORT";

/// Starts this test program again for one test, which must see `REPORT` and act its second part.
fn start_again(test: &str, report: &Path) -> process::Command {
    let mut again = process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test]).env(REPORT, report).stdout(process::Stdio::null());
    again
}

/// Kills a rank whose command ignores TERM and has a daemon; `also` is given the spawner before.
fn expect_killed_rank_to_leave_nothing(test: &str, also: fn(u32)) {
    if let Ok(path) = std::env::var(REPORT) {
        return be_the_rank(&path);
    }
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    let mut rank = start_again(test, &report).spawn().unwrap();
    until("the rank's command runs", || report.exists());
    let text = fs::read_to_string(&report).unwrap();
    let (token, spawner) = text.split_once(' ').unwrap();
    assert!(carriers(token).len() >= 2, "the command and its daemon run");
    also(spawner.parse().unwrap());
    rank.kill().unwrap();
    rank.wait().unwrap();
    until("all processes are gone", || carriers(token).is_empty());
    until("the spawner is gone", || !Path::new("/proc").join(spawner).exists());
}

fn be_the_rank(report: &str) {
    let mut world = World::new();
    world.start(vec![world.shell("trap '' TERM; (setsid sleep 1000 &); echo up; sleep 1000; sleep 1000")]);
    until("it prints", || world.stdout(0) == b"up\n" && carriers(&world.token).len() >= 2);
    let draft = format!("{report}.new");
    fs::write(&draft, format!("{} {}", world.token, world.spawner)).unwrap();
    fs::rename(draft, report).unwrap();
    let _ = world.next();
}

#[test]
fn a_killed_rank_takes_its_commands_along() {
    expect_killed_rank_to_leave_nothing("a_killed_rank_takes_its_commands_along", |_| {});
}

#[test]
fn a_rank_killed_with_its_spawner_takes_its_commands_along() {
    expect_killed_rank_to_leave_nothing("a_rank_killed_with_its_spawner_takes_its_commands_along", kill);
}

#[test]
fn a_command_does_not_see_its_ranks_mpi() {
    if let Ok(path) = std::env::var(REPORT) {
        let mut world = World::new();
        let task = world.shell("env").keep();
        return fs::write(path, text(&world.run(vec![task]).remove(0).unwrap().1)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report");
    let mut again = start_again("a_command_does_not_see_its_ranks_mpi", &report);
    let ranks =
        [("OMPI_COMM_WORLD_RANK", "3"), ("PMIX_RANK", "3"), ("SLURM_PROCID", "3"), ("SLURM_JOB_ID", "17")];
    assert!(again.envs(ranks).status().unwrap().success());
    let seen = fs::read_to_string(report).unwrap();
    let seen: Vec<&str> =
        seen.lines().filter(|line| ranks.iter().any(|rank| line.starts_with(rank.0))).collect();
    assert_eq!(seen, ["SLURM_JOB_ID=17"]);
}

fn kill(pid: u32) {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
