//! What a graph file says, before elements exist: one entry for each task or array.

use crate::client::formats::text::Span;
use crate::core::key::Group;
use crate::core::task::TaskOptions;
use crate::core::value::Value;

use super::axes::Variable;
use super::reference::Reference;
use super::template::Template;
use super::vocabulary::Hole;

/// Most tasks of one graph file: more than a scheduler holds, and few enough for its memory.
/// The package `fuzz` has not the time for as many.
pub const TASKS_MAX: u64 = if cfg!(fuzzing) { 2_000 } else { 100_000_000 };

/// Bytes captured of a stream unless the file says otherwise.
pub const CAPTURE_LIMIT_BYTES: u64 = 1 << 30;

/// A whole file.
pub struct GraphSpec {
    pub name: String,
    pub tasks: Vec<TaskSpec>,
}

/// A task or an array.
pub struct TaskSpec {
    pub name: String,
    pub span: Span,
    pub variables: Vec<Variable>,
    pub zipped: bool,
    pub work: Work,
    /// Tasks that must be finished before.
    pub after: Vec<Reference>,
    /// Tasks whose values are taken; arguments and stdin name them by number.
    pub references: Vec<Reference>,
    pub inputs: Vec<Template>,
    pub outputs: Vec<Template>,
    pub options: TaskOptions,
}

pub enum Work {
    Call { function: String, arguments: Vec<ArgumentSpec> },
    Run(Box<RunSpec>),
    Python(Box<PythonSpec>),
}

/// A call of a Python function.
pub struct PythonSpec {
    /// A module, or a file that ends with `.py`.
    pub module: String,
    pub function: String,
    pub arguments: Vec<ArgumentSpec>,
    pub keywords: Vec<(String, ArgumentSpec)>,
    pub environment: Vec<(String, Template)>,
    pub directory: Option<Template>,
}

/// An argument of a call.
pub enum ArgumentSpec {
    Value(Value),
    /// `"{x}"` alone, which keeps its type.
    Hole(Hole, Span),
    Text(Template),
    /// A number in `TaskSpec::references`.
    Reference(usize),
    List(Vec<ArgumentSpec>),
    Map(Vec<(String, ArgumentSpec)>),
}

pub struct RunSpec {
    pub line: LineSpec,
    pub environment: Vec<(String, Template)>,
    pub directory: Option<Template>,
    /// A number in `TaskSpec::references`.
    pub stdin: Option<usize>,
    pub stdout: StreamSpec,
    pub stderr: StreamSpec,
    pub capture_limit_bytes: u64,
    /// Where it says that its files become visible by being renamed.
    pub publish: Option<Span>,
}

pub enum LineSpec {
    Shell(Template),
    Arguments(Vec<Template>),
}

pub enum StreamSpec {
    Capture,
    Forward,
    Discard,
    File(Template),
}

impl TaskSpec {
    /// The names of its tasks.
    pub fn group(&self) -> Group {
        let axes = self.variables.iter().map(|variable| variable.axis.clone()).collect();
        Group { zipped: self.zipped, ..Group::array(self.name.clone(), axes) }
    }

    /// The variables on which what it does depends, a bit each; references are not counted.
    pub fn uses(&self) -> u32 {
        let files = self.inputs.iter().chain(&self.outputs).fold(0, |mask, text| mask | text.uses());
        files
            | match &self.work {
                Work::Call { arguments, .. } => arguments.iter().fold(0, |mask, one| mask | one.uses()),
                Work::Run(run) => run.uses(),
                Work::Python(python) => python.uses(),
            }
    }
}

impl ArgumentSpec {
    fn uses(&self) -> u32 {
        match self {
            ArgumentSpec::Value(_) | ArgumentSpec::Reference(_) => 0,
            ArgumentSpec::Hole(Hole::Variable(number, _), _) => 1 << number,
            ArgumentSpec::Hole(..) => 0,
            ArgumentSpec::Text(text) => text.uses(),
            ArgumentSpec::List(items) => items.iter().fold(0, |mask, item| mask | item.uses()),
            ArgumentSpec::Map(entries) => entries.iter().fold(0, |mask, (_, item)| mask | item.uses()),
        }
    }
}

impl PythonSpec {
    fn uses(&self) -> u32 {
        let keywords = self.keywords.iter().map(|(_, argument)| argument);
        let arguments = self.arguments.iter().chain(keywords).fold(0, |mask, one| mask | one.uses());
        let texts = self.environment.iter().map(|(_, text)| text).chain(&self.directory);
        texts.fold(arguments, |mask, text| mask | text.uses())
    }
}

impl RunSpec {
    fn uses(&self) -> u32 {
        let line = match &self.line {
            LineSpec::Shell(text) => std::slice::from_ref(text),
            LineSpec::Arguments(words) => words,
        };
        let streams = [&self.stdout, &self.stderr].into_iter().filter_map(|stream| match stream {
            StreamSpec::File(text) => Some(text),
            _ => None,
        });
        let environment = self.environment.iter().map(|(_, text)| text);
        let texts = line.iter().chain(streams).chain(environment).chain(&self.directory);
        texts.fold(0, |mask, text| mask | text.uses())
    }
}
