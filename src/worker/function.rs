//! Functions: a table of names, what a call of one is, and the threads that run those that ask for more
//! than one core. All others run in the pool.
//!
//! Functions cannot be ended from outside; `Context` tells those that ask that they should return.

mod arguments;
mod builtins;
mod call;
mod context;
mod executor;
mod kernel;
mod number;

use std::collections::HashMap;
use std::sync::Arc;

pub use arguments::Arguments;
pub use call::{Attempted, Caller, Returned, is_running_user_code};
pub use context::{Context, Stops};
pub use executor::FunctionExecutor;

use crate::core::event::Cause;
use crate::core::id::{Attempt, TaskId};
use crate::core::task::Argument;
use crate::core::value::Value;

use super::keep::Keep;
use super::output::Output;
use call::in_user_code;

/// A function as tasks call it. Its error completes "`task` failed: ".
pub type Function = dyn Fn(&Context, Arguments<'_>) -> Result<Value, String> + Send + Sync;

/// A function of the program itself. It reads its inputs and makes its output by itself, without a
/// detour over `Value`.
pub type NativeFunction =
    dyn Fn(&Context, &[Argument], &[Arc<Output>]) -> Result<Arc<Output>, Cause> + Send + Sync;

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
        in_user_code((task, attempt), name, || function(&context, arguments, inputs))
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
