//! The tasks of a program: what `#[dagmar::task]` registers, and what their calls get.
//!
//! Every rank runs the same binary, so a name is enough to find a function on any of them.

use std::sync::Arc;

use crate::core::event::Cause;
use crate::core::task::Argument;
use crate::core::value::Value;
use crate::runtime::isolation;
use crate::runtime::typed::{self, Context, Functions, Keep, Output, Portable};

use super::argument::Source;
use super::delayed::{Delayed, Node, Standing};
use super::given::Given;
use super::submission;

/// The function that gives an output that this process kept from an earlier run.
pub(super) const KEPT: &str = "dagmar::kept";

/// What stands before the name of a function that shall run in a process of its own.
pub(super) const ISOLATED: &str = "isolated ";

/// The function that gives a value that was there without a call.
const GIVEN: &str = "dagmar::value";

/// The function that gives what it is given.
pub(super) const SAME: &str = "dagmar::same";

/// What stands for a call where a value is there already.
pub(super) static VALUE: Task =
    Task::new("value", GIVEN, |_, _| Err("a value that is there is not called".to_owned()));

/// Calls the function behind a task with arguments from the graph.
pub type Caller = fn(&Context<'_>, &Inputs<'_>) -> Result<Returned, String>;

/// What a function gave.
pub enum Returned {
    /// A value.
    Output(Arc<Output>),
    /// A call, to whose output it leaves its own.
    Call(Arc<Node>),
}

impl Returned {
    /// A value.
    pub fn value<T: Portable>(value: T) -> Self {
        Returned::Output(Arc::new(typed::to_output(Arc::new(value))))
    }

    /// A call, or the value that it is already.
    pub fn delayed<T: Portable>(delayed: Delayed<T>) -> Self {
        match &delayed.node.standing {
            Some(Standing::Value(output)) => Returned::Output(output.clone()),
            _ => Returned::Call(delayed.node.clone()),
        }
    }
}

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
    let here = keep.clone();
    functions.register_native(SAME, move |_, arguments, inputs| match inputs {
        [output] => Ok(kept(&here, arguments, output.clone())),
        _ => Err(Cause::Function("it was not told what to give".to_owned())),
    });
    let here = keep.clone();
    functions.register_native(GIVEN, move |_, arguments, _| match arguments {
        [_, Argument::Value(Value::Text(type_name)), Argument::Value(Value::Bytes(bytes))] => {
            Ok(kept(&here, arguments, Arc::new(typed::output_of(type_name, bytes))))
        }
        _ => Err(Cause::Function("it was not told which value is meant".to_owned())),
    });
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
    let (number, arguments) = match arguments {
        [number, arguments @ ..] => (number.clone(), arguments),
        [] => (Argument::Value(Value::Null), arguments),
    };
    match (task.call)(context, &Inputs { arguments, inputs }).map_err(Cause::Function)? {
        Returned::Output(output) => Ok(output),
        Returned::Call(node) => {
            let addition = submission::addition(&node, number).map_err(Cause::Function)?;
            Err(Cause::HandedOn(Box::new(addition)))
        }
    }
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
            Some(all) => all.map(|one| Ok((*self.element::<E>(place, &one)?).clone())).collect(),
            None => self.owned(place),
        }
    }

    /// A vector whose elements the function only reads: outputs of several tasks are not copied.
    pub fn shared_elements<E: Portable + Clone>(&self, place: usize) -> Result<Vec<Arc<E>>, String> {
        match (self.several(place)?, self.argument(place)?) {
            (Some(all), _) => all.map(|one| self.element(place, &one)).collect(),
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

    /// An argument that the function reads and may hand on.
    pub fn given<T: Portable>(&self, place: usize) -> Result<Given<T>, String> {
        let argument = self.argument(place)?;
        Ok(Given::new(self.shared(place)?, self.source(place, argument)?))
    }

    /// The same of a vector, be it one output or put together of several.
    pub fn given_vector<E: Portable + Clone>(&self, place: usize) -> Result<Given<Vec<E>>, String> {
        let source = match self.several(place)? {
            Some(all) => {
                let nodes = all.map(|one| Ok(self.handle_of::<E>(place, &one)?.node));
                Source::Outputs(nodes.collect::<Result<_, String>>()?)
            }
            None => self.source(place, self.argument(place)?)?,
        };
        Ok(Given::new(self.shared_vector(place)?, source))
    }

    fn source(&self, place: usize, argument: &Argument) -> Result<Source, String> {
        match argument {
            Argument::Input(input) => {
                Ok(Source::Output(Delayed::<()>::standing(Standing::Taken(*input)).node))
            }
            Argument::Value(Value::Bytes(bytes)) => Ok(Source::Value(bytes.clone())),
            _ => Err(wrong(place, "it is no value of this program")),
        }
    }

    /// An argument that the function does not look at, but hands on.
    pub fn handle<T: Portable>(&self, place: usize) -> Result<Delayed<T>, String> {
        self.handle_of(place, self.argument(place)?)
    }

    /// A vector that the function does not look at. If it is put together of several outputs, it is so here.
    pub fn vector_handle<E: Portable + Clone>(&self, place: usize) -> Result<Delayed<Vec<E>>, String> {
        match self.several(place)? {
            Some(_) => self.owned_vector(place).map(Delayed::from),
            None => self.handle(place),
        }
    }

    /// A vector at whose elements the function does not look, but hands them on.
    pub fn handles<E: Portable + Clone>(&self, place: usize) -> Result<Vec<Delayed<E>>, String> {
        match self.several(place)? {
            Some(all) => all.map(|one| self.handle_of(place, &one)).collect(),
            None => Ok(self.owned::<Vec<E>>(place)?.into_iter().map(Delayed::from).collect()),
        }
    }

    fn handle_of<T: Portable>(&self, place: usize, argument: &Argument) -> Result<Delayed<T>, String> {
        match argument {
            Argument::Input(input) => Ok(Delayed::standing(Standing::Taken(*input))),
            argument => self.value(place, argument).map(|value: T| Delayed::from(value)),
        }
    }

    fn argument(&self, place: usize) -> Result<&Argument, String> {
        self.arguments.get(place).ok_or_else(|| wrong(place, "it is missing"))
    }

    /// The outputs that an argument is put together of, if there are several.
    fn several(&self, place: usize) -> Result<Option<Box<dyn Iterator<Item = Argument> + '_>>, String> {
        Ok(match self.argument(place)? {
            Argument::Inputs { first, count } => {
                Some(Box::new((*first..first.saturating_add(*count)).map(Argument::Input)))
            }
            Argument::List(list) => Some(Box::new(list.iter().cloned())),
            _ => None,
        })
    }

    fn element<T: Portable>(&self, place: usize, argument: &Argument) -> Result<Arc<T>, String> {
        match argument {
            Argument::Input(input) => self.input(place, *input),
            argument => self.value(place, argument).map(Arc::new),
        }
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
