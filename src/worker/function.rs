//! Runs functions: a pool of threads, one for each slot, and a table of names.
//!
//! An attempt costs one passage through a channel and two looks at the clock. Functions cannot be
//! ended from outside; `Context` tells those that ask that they should return.

mod arguments;
mod builtins;
mod context;
mod number;

use std::cell::Cell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

pub use arguments::Arguments;
pub use context::Context;
use context::Stops;

use super::executor::{Ended, Executor, Job};
use super::files;
use super::keep::Keep;
use super::output::Output;
use crate::clock::now;
use crate::core::event::{Cause, Failure, Success};
use crate::core::id::{Attempt, TaskId};
use crate::core::task::{Argument, Body, Call};
use crate::core::time::{Micros, Timestamp};
use crate::core::value::Value;

/// A function as tasks call it. Its error completes "`task` failed: ".
pub type Function = dyn Fn(&Context, Arguments<'_>) -> Result<Value, String> + Send + Sync;

/// A function of the program itself. It reads its inputs and makes its output by itself, without a
/// detour over `Value`.
pub type NativeFunction =
    dyn Fn(&Context, &[Argument], &[Arc<Output>]) -> Result<Arc<Output>, Cause> + Send + Sync;

/// How deep the value of a task may nest: a list of numbers has one level. Copying, sending and
/// dropping a value take stack for each level, so none may grow along a chain of tasks.
const LEVELS_MAX: u32 = 128;

/// How long dropping an executor waits for functions that do not look whether they should return.
const CLOSING: Duration = Duration::from_secs(2);

/// Functions by name.
#[derive(Clone, Default)]
pub struct Functions {
    table: HashMap<String, Registered>,
    keep: Arc<Keep>,
}

#[derive(Clone)]
enum Registered {
    OfValues(Arc<Function>),
    Native(Arc<NativeFunction>),
}

impl Functions {
    /// The built-in functions.
    pub fn builtin() -> Self {
        let mut functions = Functions::default();
        builtins::register(&mut functions);
        functions
    }

    /// Enters a function; an earlier one of the same name is replaced.
    pub fn register<F>(&mut self, name: impl Into<String>, function: F)
    where
        F: Fn(&Context, Arguments<'_>) -> Result<Value, String> + Send + Sync + 'static,
    {
        self.table.insert(name.into(), Registered::OfValues(Arc::new(function)));
    }

    /// Enters a function of the program itself; an earlier one of the same name is replaced.
    pub fn register_native<F>(&mut self, name: impl Into<String>, function: F)
    where
        F: Fn(&Context, &[Argument], &[Arc<Output>]) -> Result<Arc<Output>, Cause> + Send + Sync + 'static,
    {
        self.table.insert(name.into(), Registered::Native(Arc::new(function)));
    }

    /// Calls a function of the program outside of any executor, as in a process of its own.
    pub fn call_alone(
        &self,
        name: &str,
        (task, attempt): (TaskId, Attempt),
        arguments: &[Argument],
        inputs: &[Arc<Output>],
    ) -> Result<Arc<Output>, Cause> {
        let Some(Registered::Native(function)) = self.get(name) else {
            return Err(Cause::NotStarted(format!("there is no function `{name}` in this program")));
        };
        let stops = Stops::default();
        let context = Context::new(task, attempt, None, &stops);
        in_user_code(|| function(&context, arguments, inputs))
    }

    /// What this process keeps from run to run for the functions that know of it.
    pub fn keep(&self) -> &Arc<Keep> {
        &self.keep
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.table.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn get(&self, name: &str) -> Option<&Registered> {
        self.table.get(name)
    }
}

thread_local! {
    static IN_USER_CODE: Cell<bool> = const { Cell::new(false) };
}

/// True if this thread is inside a task's function, whose panic fails the task and nothing else.
/// The panic hook asks.
pub fn is_running_user_code() -> bool {
    IN_USER_CODE.get()
}

/// Runs the tasks that are calls of functions.
///
/// Dropping it ends all attempts, with `Cause::Stopped`. Functions that do not return are left
/// behind; their thread ends with the process.
pub struct FunctionExecutor {
    jobs: Option<Sender<Job>>,
    stops: Arc<Stops>,
    threads: Vec<JoinHandle<()>>,
    /// Disconnected once every thread has ended.
    alive: Receiver<()>,
}

impl FunctionExecutor {
    /// Starts `slots` threads. After each end sent through `ended`, `wake` is called.
    pub fn new(
        slots: usize,
        functions: Arc<Functions>,
        ended: Sender<Ended>,
        wake: Arc<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<Self> {
        let (jobs, received) = unbounded();
        let (living, alive) = crossbeam_channel::bounded(0);
        let stops = Arc::new(Stops::default());
        let mut threads = Vec::with_capacity(slots);
        for slot in 0..slots {
            let slot_thread = SlotThread {
                jobs: received.clone(),
                functions: functions.clone(),
                stops: stops.clone(),
                ended: ended.clone(),
                wake: wake.clone(),
                _living: living.clone(),
            };
            let builder = std::thread::Builder::new().name(format!("slot {slot}"));
            threads.push(builder.spawn(move || slot_thread.run())?);
        }
        Ok(FunctionExecutor { jobs: Some(jobs), stops, threads, alive })
    }
}

impl Executor for FunctionExecutor {
    fn start(&mut self, job: Job) {
        let jobs = self.jobs.as_ref().expect("jobs are taken until the executor is dropped");
        jobs.send(job).expect("the threads outlive the executor");
    }

    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        self.stops.stop(task, attempt, cause);
    }
}

impl Drop for FunctionExecutor {
    fn drop(&mut self) {
        self.stops.stop_all();
        self.jobs = None;
        let _ = self.alive.recv_timeout(CLOSING);
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// What a call that ended well gives.
struct Returned {
    output: Arc<Output>,
    size_bytes: u64,
    file_sizes: Vec<u64>,
}

/// What one slot's thread holds.
struct SlotThread {
    jobs: Receiver<Job>,
    functions: Arc<Functions>,
    stops: Arc<Stops>,
    ended: Sender<Ended>,
    wake: Arc<dyn Fn() + Send + Sync>,
    _living: Sender<()>,
}

impl SlotThread {
    fn run(self) {
        for job in &self.jobs {
            let (task, attempt) = (job.task, job.attempt);
            let ending = self.attempt(job);
            self.stops.forget(task, attempt);
            // A worker's loop that is gone needs no ends.
            let _ = self.ended.send(Ended { task, attempt, ending });
            (self.wake)();
        }
    }

    fn attempt(&self, job: Job) -> Result<(Success, Option<Arc<Output>>), Failure> {
        let started = now();
        let result = self.call(&job, started);
        let ran = now().since(started);
        match result {
            Ok(Returned { output, size_bytes, file_sizes }) => {
                let success = Success { started, ran, size_bytes, file_sizes };
                let kept = job.keep_value || job.persist;
                Ok((success, kept.then_some(output)))
            }
            Err(cause) => Err(Failure { started, ran, cause }),
        }
    }

    fn call(&self, job: &Job, started: Timestamp) -> Result<Returned, Cause> {
        let operation = job.graph.operation(job.task);
        let Body::Call(call) = &operation.body else {
            return Err(Cause::NotStarted("it is not a call of a function".to_owned()));
        };
        let timeout = job.graph.options(job.task).timeout;
        let context = Context::new(job.task, job.attempt, timeout.map(|limit| started + limit), &self.stops);
        let context = context.bound_to(job.binding.as_ref().map(|binding| &binding.slot));
        context.check()?;
        files::create_directories(&operation.outputs, job.attempt)?;
        let result = self.run_function(job, call, &context);
        context.check()?;
        check_timeout(timeout, started)?;
        let output = result?;
        let size_bytes = size_of_output(&output).ok_or_else(nested_too_deep)?;
        let file_sizes = files::output_sizes(&operation.outputs, job.attempt)?;
        Ok(Returned { output, size_bytes, file_sizes })
    }

    fn run_function(&self, job: &Job, call: &Call, context: &Context) -> Result<Arc<Output>, Cause> {
        let unknown = || Cause::NotStarted(format!("there is no function `{}`", call.function));
        let function = self.functions.get(&call.function).ok_or_else(unknown)?;
        match function {
            Registered::OfValues(function) => {
                let arguments = arguments::resolve(call, job).map_err(Cause::Function)?;
                let value = in_user_code(|| function(context, arguments).map_err(Cause::Function))?;
                Ok(Arc::new(Output::Value(value)))
            }
            Registered::Native(function) => in_user_code(|| function(context, &call.arguments, &job.inputs)),
        }
    }
}

/// Calls what a user wrote: its panic fails the attempt and nothing else.
fn in_user_code<T>(call: impl FnOnce() -> Result<T, Cause>) -> Result<T, Cause> {
    IN_USER_CODE.set(true);
    let caught = catch_unwind(AssertUnwindSafe(call));
    IN_USER_CODE.set(false);
    caught.unwrap_or_else(|payload| Err(Cause::Panic(panic_message(&*payload))))
}

/// A function that outlived its timeout has failed, even if it did not notice.
fn check_timeout(timeout: Option<Micros>, started: Timestamp) -> Result<(), Cause> {
    match timeout {
        Some(limit) if now().since(started) >= limit => Err(Cause::Timeout(limit)),
        _ => Ok(()),
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without a message".to_owned())
}

fn nested_too_deep() -> Cause {
    Cause::Function(format!("its value is nested more than {LEVELS_MAX} levels deep"))
}

/// About how many bytes an output has, which decides where it is worth to be brought.
fn size_of_output(output: &Output) -> Option<u64> {
    match output {
        Output::Captured(bytes) => Some(bytes.len() as u64),
        Output::Value(value) => size_of(value, LEVELS_MAX),
        Output::Typed(typed) => Some(typed.size_bytes()),
    }
}

/// About how many bytes a value holds: those of its texts and numbers, without their frame. None if
/// it nests deeper than `levels`.
fn size_of(value: &Value, levels: u32) -> Option<u64> {
    Some(match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Int(_) | Value::Float(_) => 8,
        Value::Text(text) => text.len() as u64,
        Value::Bytes(bytes) => bytes.len() as u64,
        Value::List(values) => {
            let levels = levels.checked_sub(1)?;
            values.iter().map(|value| size_of(value, levels)).sum::<Option<u64>>()?
        }
        Value::Map(entries) => {
            let levels = levels.checked_sub(1)?;
            let sizes = entries.iter().map(|(name, value)| Some(name.len() as u64 + size_of(value, levels)?));
            sizes.sum::<Option<u64>>()?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, Graph, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::slot::Slot;
    use crate::core::task::{Argument, Operation, TaskOptions, Text};
    use crate::worker::binding::Binding;

    const PATIENCE: Duration = Duration::from_secs(30);

    struct World {
        executor: FunctionExecutor,
        ended: Receiver<Ended>,
    }

    impl World {
        fn new() -> Self {
            let mut functions = Functions::builtin();
            functions.register("panic", |_, _| panic!("ouch {}", 7));
            functions.register("stubborn", |context, _| {
                while !context.is_stopped() {
                    std::thread::yield_now();
                }
                assert!(is_running_user_code());
                Ok(Value::Int(1))
            });
            let (sender, ended) = unbounded();
            let executor = FunctionExecutor::new(2, Arc::new(functions), sender, Arc::new(|| {})).unwrap();
            World { executor, ended }
        }

        fn start(&mut self, graph: &Arc<Graph>, attempt: u32, inputs: Vec<Arc<Output>>) {
            let (graph, attempt) = (graph.clone(), Attempt(attempt));
            let expected_files = Vec::new();
            let (keep_value, persist) = (true, false);
            let task = TaskId(0);
            let (binding, ranks) = (None, None);
            let job =
                Job { graph, task, attempt, inputs, expected_files, keep_value, persist, binding, ranks };
            self.executor.start(job);
        }

        fn next(&self) -> Result<Value, Cause> {
            let ended = self.ended.recv_timeout(PATIENCE).expect("every attempt ends");
            match ended.ending {
                Ok((_, output)) => match &*output.unwrap() {
                    Output::Value(value) => Ok(value.clone()),
                    Output::Captured(_) | Output::Typed(_) => panic!("a function gives a value"),
                },
                Err(failure) => Err(failure.cause),
            }
        }

        fn run(&mut self, graph: &Arc<Graph>, inputs: Vec<Arc<Output>>) -> Result<Value, Cause> {
            self.start(graph, 1, inputs);
            self.next()
        }
    }

    fn call(function: &str, arguments: Vec<Argument>) -> Operation {
        let body = Body::Call(Call { function: function.to_owned(), arguments });
        Operation { body, outputs: vec![], inputs: vec![] }
    }

    fn graph(operation: Operation, options: TaskOptions) -> Arc<Graph> {
        let mut builder = GraphBuilder::new("test", "/");
        builder.declare(Group::single("t")).unwrap();
        // Whatever the operation names as an input belongs to one of these.
        let values = ["one", "two"].map(|name| builder.declare(Group::single(name)).unwrap()).to_vec();
        let (operation, options) = (builder.operation(operation), builder.options(options));
        builder.define(Definition { operation, options, values, ..Definition::default() }).unwrap();
        let source = builder.operation(call("noop", vec![]));
        for _ in 0..2 {
            builder.define(Definition { operation: source, options, ..Definition::default() }).unwrap();
        }
        Arc::new(builder.build().unwrap())
    }

    fn plain(function: &str, arguments: Vec<Argument>) -> Arc<Graph> {
        graph(call(function, arguments), TaskOptions::default())
    }

    fn value(value: impl Into<i64>) -> Argument {
        Argument::Value(Value::Int(value.into()))
    }

    #[test]
    fn a_function_learns_what_its_task_holds() {
        let mut functions = Functions::default();
        functions.register("held", |context, _| {
            Ok(Value::Text(format!("{:?} {:?}", context.gpus(), context.instances("licence"))))
        });
        let (sender, ended) = unbounded();
        let mut executor = FunctionExecutor::new(1, Arc::new(functions), sender, Arc::new(|| {})).unwrap();
        let custom = [("licence".to_owned(), vec![2])].into();
        let slot = Slot { gpus: vec!["GPU-1f".into()], custom, ..Slot::default() };
        for binding in [Some(Box::new(Binding { slot, environment: vec![] })), None] {
            let (graph, inputs) = (plain("held", vec![]), vec![]);
            let (task, attempt, expected_files) = (TaskId(0), Attempt::FIRST, vec![]);
            let (keep_value, persist) = (true, false);
            executor.start(Job {
                graph,
                task,
                attempt,
                inputs,
                expected_files,
                keep_value,
                persist,
                binding,
                ranks: None,
            });
        }
        let texts = ended.iter().take(2).map(|ended| match &*ended.ending.unwrap().1.unwrap() {
            Output::Value(Value::Text(text)) => text.clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["[\"GPU-1f\"] [2]", "[] []"]);
    }

    #[test]
    fn arguments_are_taken_from_inputs() {
        let inputs = [Output::Value(Value::Int(1)), Output::Captured(b"2\n".to_vec())].map(Arc::new).to_vec();
        let list = Argument::List(vec![Argument::Input(0), Argument::Inputs { first: 0, count: 2 }]);
        let map = Argument::Map(vec![("n".to_owned(), Argument::Input(1))]);
        let text = Argument::Text(Text::AroundAttempt(vec!["try ".to_owned(), String::new()]));
        let graph = plain("list", vec![Argument::Input(0), list, map, text]);
        let captured = Value::Text("2\n".to_owned());
        let both = Value::List(vec![Value::Int(1), captured.clone()]);
        let expected = Value::List(vec![
            Value::Int(1),
            Value::List(vec![Value::Int(1), both]),
            Value::Map(vec![("n".to_owned(), captured)]),
            Value::Text("try 1".to_owned()),
        ]);
        assert_eq!(World::new().run(&graph, inputs), Ok(expected));
    }

    #[test]
    fn captured_output_goes_into_numbers() {
        let inputs = vec![Arc::new(Output::Captured(b"40\n".to_vec()))];
        let graph = plain("add", vec![Argument::Input(0), value(2)]);
        assert_eq!(World::new().run(&graph, inputs), Ok(Value::Int(42)));
    }

    #[test]
    fn a_panic_fails_only_its_task() {
        let mut world = World::new();
        for _ in 0..4 {
            assert_eq!(world.run(&plain("panic", vec![]), vec![]), Err(Cause::Panic("ouch 7".to_owned())));
        }
        assert_eq!(world.run(&plain("noop", vec![]), vec![]), Ok(Value::Null));
        assert!(!is_running_user_code());
    }

    #[test]
    fn an_unknown_function_is_named() {
        let cause = Cause::NotStarted("there is no function `ad`".to_owned());
        assert_eq!(World::new().run(&plain("ad", vec![]), vec![]), Err(cause));
    }

    #[test]
    fn a_stop_ends_sleepers_spinners_and_those_who_wait() {
        let mut world = World::new();
        let graphs = ["sleep", "spin", "stubborn"].map(|name| plain(name, vec![value(1000)]));
        for (place, graph) in graphs.iter().enumerate() {
            world.start(graph, place as u32 + 1, vec![]);
        }
        for attempt in (1..=3).rev() {
            world.executor.stop(TaskId(0), Attempt(attempt), Cause::Cancelled);
        }
        for _ in 0..3 {
            assert_eq!(world.next(), Err(Cause::Cancelled));
        }
        assert_eq!(world.run(&plain("noop", vec![]), vec![]), Ok(Value::Null));
    }

    #[test]
    fn a_timeout_ends_a_sleeper() {
        let limit = Micros::from_millis(20);
        let options = TaskOptions { timeout: Some(limit), ..TaskOptions::default() };
        let graph = graph(call("sleep", vec![value(1000)]), options);
        assert_eq!(World::new().run(&graph, vec![]), Err(Cause::Timeout(limit)));
    }

    #[test]
    fn a_value_may_nest_as_deep_as_the_limit_and_no_deeper() {
        let mut world = World::new();
        let nest = plain("list", vec![Argument::Input(0), value(1)]);
        let mut input = Value::Null;
        for _ in 0..LEVELS_MAX {
            input = world.run(&nest, vec![Arc::new(Output::Value(input))]).unwrap();
        }
        let cause = Cause::Function("its value is nested more than 128 levels deep".to_owned());
        let map = plain("identity", vec![Argument::Map(vec![("m".to_owned(), Argument::Input(0))])]);
        for deeper in [nest, map] {
            assert_eq!(world.run(&deeper, vec![Arc::new(Output::Value(input.clone()))]), Err(cause.clone()));
        }
    }

    #[test]
    fn a_declared_file_that_is_not_written_is_named() {
        let path = "/tmp/dagmar-no-such-output";
        let operation = Operation { outputs: vec![path.into()], ..call("noop", vec![]) };
        let cause = Cause::MissingOutput(path.to_owned());
        assert_eq!(World::new().run(&graph(operation, TaskOptions::default()), vec![]), Err(cause));
    }

    #[test]
    fn dropping_the_executor_ends_every_attempt_once() {
        let mut world = World::new();
        let sleeper = plain("sleep", vec![value(1000)]);
        (1..=10).for_each(|attempt| world.start(&sleeper, attempt, vec![]));
        let World { executor, ended } = world;
        drop(executor);
        let causes: Vec<Cause> = ended.iter().map(|ended| ended.ending.unwrap_err().cause).collect();
        assert_eq!(causes, vec![Cause::Stopped; 10]);
    }
}
