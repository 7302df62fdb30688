//! One call of a function: its arguments, its panics, its timeout, and what it returns.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::arguments;
use super::context::{Context, Stops};
use super::{Functions, Registered};
use crate::clock::now;
use crate::core::event::Cause;
use crate::core::id::{Attempt, OperationId, TaskId};
use crate::core::task::{Body, Call, Operation, TaskOptions};
use crate::core::time::{Micros, Timestamp};
use crate::core::value::Value;
use crate::worker::binding::Binding;
use crate::worker::files;
use crate::worker::last_words;
use crate::worker::output::Output;
use crate::worker::python::{PythonCall, PythonCaller, PythonFunction};

/// How deep the value of a task may nest: a list of numbers has one level. Copying, sending and
/// dropping a value take stack for each level, so none may grow along a chain of tasks.
pub(super) const LEVELS_MAX: u32 = 128;

thread_local! {
    static IN_USER_CODE: Cell<bool> = const { Cell::new(false) };
}

/// True if this thread is inside a task's function, whose panic fails the task and nothing else.
/// The panic hook asks.
pub fn is_running_user_code() -> bool {
    IN_USER_CODE.get()
}

/// An attempt at a call that begins now.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// The task.
    pub task: TaskId,
    /// What it does.
    pub operation: &'a Operation,
    /// The number of that.
    pub number: OperationId,
    /// What it runs under.
    pub options: &'a TaskOptions,
    /// Which try this is.
    pub attempt: Attempt,
    /// When it began.
    pub started: Timestamp,
    /// The task's value inputs, by position.
    pub inputs: &'a [Arc<Output>],
    /// True if somebody takes the output: it is kept, or written into the run directory.
    pub is_wanted: bool,
    /// What it is bound to, if to anything.
    pub binding: Option<&'a Binding>,
}

/// What a call that ended well gives.
#[derive(Debug)]
pub struct Returned {
    /// Its output, if it is wanted.
    pub output: Option<Arc<Output>>,
    /// About how many bytes its value has.
    pub size_bytes: u64,
    /// Bytes of each file it declared, in the order of declaration.
    pub file_sizes: Vec<u64>,
}

/// Calls functions for one thread.
pub struct Caller {
    functions: Arc<Functions>,
    stops: Arc<Stops>,
    /// Calls functions that are Python's; none in tests that have none.
    python: Option<Arc<PythonCaller>>,
    /// The function called last, which is nearly always the next one, too: to compare names is cheaper
    /// than to look one up.
    last: Option<(String, Registered)>,
}

impl Caller {
    /// A thread that knows these functions and looks here whether it should end a call.
    pub fn new(functions: Arc<Functions>, stops: Arc<Stops>, python: Option<Arc<PythonCaller>>) -> Self {
        Caller { functions, stops, python, last: None }
    }

    /// Runs one attempt to its end.
    pub fn run(&mut self, attempted: Attempted<'_>) -> Result<Returned, Cause> {
        let result = self.call(attempted);
        self.stops.forget(attempted.task, attempted.attempt);
        result
    }

    fn call(&mut self, attempted: Attempted<'_>) -> Result<Returned, Cause> {
        let Attempted { task, operation, options, attempt, started, binding, .. } = attempted;
        let timeout = options.timeout;
        if let Body::Call(call) = &operation.body {
            self.look_up(&call.function)?;
        }
        let context = Context::new(task, attempt, timeout.map(|limit| started + limit), &self.stops);
        let context = context.bound_to(binding.map(|binding| &binding.slot));
        context.check()?;
        files::create_directories(&operation.outputs, attempt)?;
        let result = match &operation.body {
            Body::Call(call) => self.run_function(attempted, call, &context),
            Body::Python(python) => self.run_python(attempted, PythonFunction::Named(python), &context),
            Body::Pickled(block) => self.run_python(attempted, PythonFunction::Pickled(*block), &context),
            Body::PickledCall(call) => {
                self.run_python(attempted, PythonFunction::PickledCall(call), &context)
            }
            Body::Command(_) | Body::Join => {
                Err(Cause::NotStarted("it is not a call of a function".to_owned()))
            }
        };
        context.check()?;
        check_timeout(timeout, started)?;
        let output = result?;
        let size_bytes = size_of_output(&output).ok_or_else(nested_too_deep)?;
        let file_sizes = files::output_sizes(&operation.outputs, attempt)?;
        let output = attempted.is_wanted.then_some(output);
        Ok(Returned { output, size_bytes, file_sizes })
    }

    fn look_up(&mut self, name: &str) -> Result<(), Cause> {
        if self.last.as_ref().is_some_and(|(last, _)| last == name) {
            return Ok(());
        }
        let unknown = || Cause::NotStarted(format!("there is no function `{name}`"));
        let function = self.functions.get(name).ok_or_else(unknown)?;
        self.last = Some((name.to_owned(), function.clone()));
        Ok(())
    }

    fn run_python(
        &self,
        attempted: Attempted<'_>,
        function: PythonFunction<'_>,
        context: &Context<'_>,
    ) -> Result<Arc<Output>, Cause> {
        let Attempted { operation, number, options, inputs, binding, .. } = attempted;
        let caller = self.python.as_ref();
        let caller = caller.ok_or_else(|| Cause::NotStarted("there is no Python here".to_owned()))?;
        caller.call(&PythonCall { operation, function, number, options, inputs, binding }, context)
    }

    fn run_function(
        &self,
        attempted: Attempted<'_>,
        call: &Call,
        context: &Context,
    ) -> Result<Arc<Output>, Cause> {
        let (name, function) = self.last.as_ref().expect("the function was looked up");
        let at = (attempted.task, attempted.attempt);
        match function {
            Registered::OfValues(function) => {
                let arguments = arguments::resolve(call, &attempted).map_err(Cause::Function)?;
                let value = in_user_code(at, name, || function(context, arguments).map_err(Cause::Function))?;
                Ok(Arc::new(Output::Value(value)))
            }
            Registered::Native(function) => {
                in_user_code(at, name, || function(context, &call.arguments, attempted.inputs))
            }
        }
    }
}

/// Calls what a user wrote: its panic fails the attempt and nothing else. Whatever ends the process instead
/// is told by last words.
pub(super) fn in_user_code<T>(
    at: (TaskId, Attempt),
    function: &str,
    call: impl FnOnce() -> Result<T, Cause>,
) -> Result<T, Cause> {
    IN_USER_CODE.set(true);
    let caught = catch_unwind(AssertUnwindSafe(|| last_words::at_attempt(at, function, call)));
    IN_USER_CODE.set(false);
    last_words::is_over();
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
