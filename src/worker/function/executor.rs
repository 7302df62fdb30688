//! Threads for calls that ask for more than one core: as many as run at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Functions;
use super::call::{Attempted, Caller};
use super::context::Stops;
use crate::clock::now;
use crate::core::event::{Cause, Failure, Success};
use crate::core::id::{Attempt, TaskId};
use crate::worker::executor::{Ended, Executor, Job};
use crate::worker::last_words::{self, Place};
use crate::worker::output::Output;
use crate::worker::python::PythonCaller;

/// How long dropping an executor waits for functions that do not look whether they should return.
pub const CLOSING: Duration = Duration::from_secs(2);

/// Runs calls of functions that ask for more than one core. It begins with one thread; others come into
/// being when they are needed, and stay.
///
/// Dropping it ends all attempts, with `Cause::Stopped`. Functions that do not return are left
/// behind; their thread ends with the process.
pub struct FunctionExecutor {
    /// Taken away when it is dropped.
    ways_in: Option<(Sender<Job>, JobThread)>,
    threads: Vec<JoinHandle<()>>,
    /// Attempts that were started and have not ended.
    running: Arc<AtomicUsize>,
    stops: Arc<Stops>,
    /// Disconnected once every thread has ended.
    alive: Receiver<()>,
}

impl FunctionExecutor {
    /// After each end sent through `ended`, `wake` is called.
    pub fn new(
        (functions, python): (Arc<Functions>, Option<Arc<PythonCaller>>),
        stops: Arc<Stops>,
        place: Option<&'static Place>,
        (ended, wake): (Sender<Ended>, Arc<dyn Fn() + Send + Sync>),
    ) -> io::Result<Self> {
        let (jobs, received) = unbounded();
        let (living, alive) = crossbeam_channel::bounded(0);
        let running = Arc::new(AtomicUsize::new(0));
        let first = JobThread {
            jobs: received,
            functions,
            python,
            stops: stops.clone(),
            place,
            running: running.clone(),
            ended,
            wake,
            _living: living,
        };
        let threads = vec![spawn(first.clone(), 0)?];
        Ok(FunctionExecutor { ways_in: Some((jobs, first)), threads, running, stops, alive })
    }
}

fn spawn(thread: JobThread, number: usize) -> io::Result<JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(format!("call {number}"));
    builder.spawn(move || thread.run())
}

impl Executor for FunctionExecutor {
    fn start(&mut self, job: Job) {
        let (jobs, thread) = self.ways_in.as_ref().expect("jobs are taken until the executor is dropped");
        if self.running.fetch_add(1, Ordering::AcqRel) >= self.threads.len() {
            match spawn(thread.clone(), self.threads.len()) {
                Ok(thread) => self.threads.push(thread),
                Err(error) => log::warn!("a call waits for the end of another: {error}"),
            }
        }
        jobs.send(job).expect("the threads outlive the executor");
    }

    fn stop(&mut self, task: TaskId, attempt: Attempt, cause: Cause) {
        self.stops.stop(task, attempt, cause);
    }
}

impl Drop for FunctionExecutor {
    fn drop(&mut self) {
        self.stops.stop_all();
        self.ways_in = None;
        let _ = self.alive.recv_timeout(CLOSING);
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }
}

/// What one thread holds.
#[derive(Clone)]
struct JobThread {
    jobs: Receiver<Job>,
    functions: Arc<Functions>,
    python: Option<Arc<PythonCaller>>,
    stops: Arc<Stops>,
    /// Where it leaves its last words.
    place: Option<&'static Place>,
    running: Arc<AtomicUsize>,
    ended: Sender<Ended>,
    wake: Arc<dyn Fn() + Send + Sync>,
    _living: Sender<()>,
}

impl JobThread {
    fn run(self) {
        last_words::work_at(self.place);
        let mut caller = Caller::new(self.functions.clone(), self.stops.clone(), self.python.clone());
        for job in &self.jobs {
            self.finish(job, &mut caller);
        }
    }

    fn finish(&self, job: Job, caller: &mut Caller) {
        let (task, attempt) = (job.task, job.attempt);
        let ending = attempt_at(&job, caller);
        self.running.fetch_sub(1, Ordering::AcqRel);
        // A worker's loop that is gone needs no ends.
        let _ = self.ended.send(Ended { task, attempt, ending });
        (self.wake)();
    }
}

fn attempt_at(job: &Job, caller: &mut Caller) -> Result<(Success, Option<Arc<Output>>), Failure> {
    let started = now();
    let result = caller.run(Attempted {
        task: job.task,
        operation: job.graph.operation(job.task),
        number: job.graph.operation_id(job.task),
        options: job.graph.options(job.task),
        attempt: job.attempt,
        started,
        inputs: &job.inputs,
        is_wanted: job.keep_value || job.persist,
        binding: job.binding.as_deref(),
    });
    let ran = now().since(started);
    match result {
        Ok(returned) => {
            let (size_bytes, file_sizes) = (returned.size_bytes, returned.file_sizes);
            Ok((Success { started, ran, size_bytes, file_sizes }, returned.output))
        }
        Err(cause) => Err(Failure { started, ran, cause }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::call::{LEVELS_MAX, is_running_user_code};
    use super::*;
    use crate::core::graph::{Definition, Graph, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::slot::Slot;
    use crate::core::task::{Argument, Body, Call, Operation, TaskOptions, Text};
    use crate::core::time::Micros;
    use crate::core::value::Value;
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
            let executor = FunctionExecutor::new(
                (Arc::new(functions), None),
                Arc::default(),
                None,
                (sender, Arc::new(|| {})),
            )
            .unwrap();
            World { executor, ended }
        }

        fn start(&mut self, graph: &Arc<Graph>, attempt: u32, inputs: Vec<Arc<Output>>) {
            let (graph, attempt) = (graph.clone(), Attempt(attempt));
            let expected_files = Vec::new();
            let (keep_value, persist) = (true, false);
            let task = TaskId(0);
            let (binding, ranks) = (None, None);
            let job = Job {
                graph,
                task,
                attempt,
                inputs,
                expected_files,
                fence: None,
                keep_value,
                persist,
                binding,
                ranks,
            };
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
        let mut executor = FunctionExecutor::new(
            (Arc::new(functions), None),
            Arc::default(),
            None,
            (sender, Arc::new(|| {})),
        )
        .unwrap();
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
                fence: None,
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
        // Two threads run them, in any order.
        assert_eq!(texts.collect::<BTreeSet<_>>(), ["[\"GPU-1f\"] [2]", "[] []"].map(String::from).into());
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
