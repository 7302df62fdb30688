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

use crate::core::value::Value;

/// A function as tasks call it. Its error completes "`task` failed: ".
pub type Function = dyn Fn(&Context, Arguments<'_>) -> Result<Value, String> + Send + Sync;

/// Functions by name.
#[derive(Clone, Default)]
pub struct Functions {
    table: HashMap<String, Arc<Function>>,
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
        self.table.insert(name.into(), Arc::new(function));
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.table.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn get(&self, name: &str) -> Option<&Arc<Function>> {
        self.table.get(name)
    }
}
