//! The tasks of a program: what `#[dagmar::task]` registers, and what their calls get.
//!
//! Every rank runs the same binary, so a name is enough to find a function on any of them.

use std::sync::Arc;

use crate::core::event::Cause;
use crate::core::task::Argument;
use crate::core::value::Value;
use crate::runtime::isolation;
use crate::runtime::typed::{self, Context, Functions, Keep, Output, Portable};

/// The function that gives an output that this process kept from an earlier run.
pub(super) const KEPT: &str = "dagmar::kept";

/// What stands before the name of a function that shall run in a process of its own.
pub(super) const ISOLATED: &str = "isolated ";

/// Calls the function behind a task with arguments from the graph.
pub type Caller = fn(&Context<'_>, &Inputs<'_>) -> Result<Arc<Output>, String>;

/// A function that `#[dagmar::task]` was written over.
pub struct Task {
    pub(super) name: &'static str,
    pub(super) id: &'static str,
    pub(super) call: Caller,
}

impl Task {
    /// A function by its name, by what tells it from all others of the program, and how it is called.
    pub const fn new(name: &'static str, id: &'static str, call: Caller) -> Self {
        Task { name, id, call }
    }
}

/// A task's entry in the list of all tasks of the program.
pub struct Entry(pub &'static Task);

inventory::collect!(Entry);

/// All tasks of this program, as the workers know them.
pub(super) fn functions() -> Functions {
    let mut functions = Functions::builtin();
    let keep = functions.keep().clone();
    for Entry(task) in inventory::iter::<Entry> {
        let here = keep.clone();
        functions.register_native(task.id, move |context, arguments, inputs| {
            let output = call(task, context, arguments, inputs)?;
            Ok(kept(&here, arguments, output))
        });
        let here = keep.clone();
        functions.register_native(format!("{ISOLATED}{}", task.id), move |context, arguments, inputs| {
            let output = isolation::call(&here, task.id, context, (arguments, inputs))?;
            Ok(kept(&here, arguments, output))
        });
    }
    functions.register_native(KEPT, move |_, arguments, _| match arguments {
        [Argument::Value(Value::Int(number))] => keep
            .get(*number as u64)
            .ok_or_else(|| Cause::Function("the output that was kept for it is no longer here".to_owned())),
        _ => Err(Cause::Function("it was not told which output is meant".to_owned())),
    });
    functions
}

/// Keeps an output if its call was given a number for it.
fn kept(keep: &Keep, arguments: &[Argument], output: Arc<Output>) -> Arc<Output> {
    if let Some(Argument::Value(Value::Int(number))) = arguments.first() {
        keep.insert(*number as u64, output.clone());
    }
    output
}

fn call(
    task: &Task,
    context: &Context<'_>,
    arguments: &[Argument],
    inputs: &[Arc<Output>],
) -> Result<Arc<Output>, Cause> {
    let arguments = arguments.get(1..).unwrap_or_default();
    (task.call)(context, &Inputs { arguments, inputs }).map_err(Cause::Function)
}

/// What a call gets: values that stand in the graph, and outputs of other tasks.
pub struct Inputs<'a> {
    arguments: &'a [Argument],
    inputs: &'a [Arc<Output>],
}

impl Inputs<'_> {
    /// An argument that the function only reads.
    pub fn shared<T: Portable>(&self, place: usize) -> Result<Arc<T>, String> {
        match self.argument(place)? {
            Argument::Input(input) => self.input(place, *input),
            argument => self.value(place, argument).map(Arc::new),
        }
    }

    /// An argument that the function takes.
    pub fn owned<T: Portable + Clone>(&self, place: usize) -> Result<T, String> {
        match self.argument(place)? {
            Argument::Input(input) => self.input(place, *input).map(|value: Arc<T>| (*value).clone()),
            argument => self.value(place, argument),
        }
    }

    /// A vector that the function only reads, be it one output or put together of several.
    pub fn shared_vector<E: Portable + Clone>(&self, place: usize) -> Result<Arc<Vec<E>>, String> {
        match self.several(place)? {
            Some(_) => self.owned_vector(place).map(Arc::new),
            None => self.shared(place),
        }
    }

    /// A vector that the function takes.
    pub fn owned_vector<E: Portable + Clone>(&self, place: usize) -> Result<Vec<E>, String> {
        match self.several(place)? {
            Some(inputs) => inputs.map(|input| Ok((*self.input::<E>(place, input)?).clone())).collect(),
            None => self.owned(place),
        }
    }

    /// A vector whose elements the function only reads: outputs of several tasks are not copied.
    pub fn shared_elements<E: Portable + Clone>(&self, place: usize) -> Result<Vec<Arc<E>>, String> {
        match (self.several(place)?, self.argument(place)?) {
            (Some(inputs), _) => inputs.map(|input| self.input(place, input)).collect(),
            (None, Argument::Input(input)) => {
                let values: Arc<Vec<E>> = self.input(place, *input)?;
                Ok(values.iter().cloned().map(Arc::new).collect())
            }
            (None, argument) => {
                let values: Vec<E> = self.value(place, argument)?;
                Ok(values.into_iter().map(Arc::new).collect())
            }
        }
    }

    fn argument(&self, place: usize) -> Result<&Argument, String> {
        self.arguments.get(place).ok_or_else(|| wrong(place, "it is missing"))
    }

    /// The outputs that an argument is put together of, if there are several.
    fn several(&self, place: usize) -> Result<Option<Box<dyn Iterator<Item = u32> + '_>>, String> {
        Ok(match self.argument(place)? {
            Argument::Inputs { first, count } => Some(Box::new(*first..first.saturating_add(*count))),
            Argument::List(list) => Some(Box::new(list.iter().filter_map(|one| match one {
                Argument::Input(input) => Some(*input),
                _ => None,
            }))),
            _ => None,
        })
    }

    fn input<T: Portable>(&self, place: usize, input: u32) -> Result<Arc<T>, String> {
        let output = self.inputs.get(input as usize).ok_or_else(|| wrong(place, "it is missing"))?;
        typed::from_output(output).map_err(|error| wrong(place, &error.to_string()))
    }

    fn value<T: Portable>(&self, place: usize, argument: &Argument) -> Result<T, String> {
        match argument {
            Argument::Value(Value::Bytes(bytes)) => typed::decode(bytes).map_err(|why| wrong(place, &why)),
            _ => Err(wrong(place, "it is no value of this program")),
        }
    }
}

fn wrong(place: usize, why: &str) -> String {
    format!("argument {}: {why}", place + 1)
}
