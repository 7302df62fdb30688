//! What one task is: its operation, and the options it runs under.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::id::Attempt;
use super::resources::Resources;
use super::time::Micros;
use super::value::Value;

/// What a task does. Tasks that do the same share one entry of their graph's table, because
/// arguments name inputs by position and not by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// The work itself.
    pub body: Body,
    /// Files that must exist once the task has ended well: absolute paths.
    pub outputs: Vec<Text>,
    /// Files that must be visible before it starts: absolute paths. Sorted.
    pub inputs: Vec<Text>,
}

/// The work of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// Nothing: it is finished once its inputs are. Stands for "all elements of an array" and is
    /// hidden from users. The scheduler finishes it by itself.
    Join,
    /// A function, built in or registered.
    Call(Call),
    /// A program of its own.
    Command(Box<Command>),
    /// A Python function, in an interpreter that is a process of its own.
    Python(Box<Python>),
    /// One of the Python calls that a client pickled together: the number of that block. Which of them it is
    /// stands with the task.
    Pickled(u32),
    /// A Python call that a task submitted: a block of it alone, as its process pickled it.
    PickledCall(Arc<Vec<u8>>),
}

impl Body {
    /// True if it is a function, whatever language it is written in: it takes values and gives one.
    pub const fn is_function(&self) -> bool {
        matches!(self, Body::Call(_) | Body::Python(_)) || self.is_pickled()
    }

    /// True if it is a Python call that somebody pickled while the run went on.
    pub const fn is_pickled(&self) -> bool {
        matches!(self, Body::Pickled(_) | Body::PickledCall(_))
    }
}

/// A call of a function by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The name it is registered under.
    pub function: String,
    /// Its arguments in order.
    pub arguments: Vec<Argument>,
}

/// A call of a Python function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Python {
    /// Where it is defined: the name of a module, or the absolute path of a file that ends with `.py`.
    pub module: String,
    /// Its name there; dots lead into classes.
    pub function: String,
    /// Its positional arguments in order.
    pub arguments: Vec<Argument>,
    /// Its keyword arguments.
    pub keywords: Vec<(String, Argument)>,
    /// Variables that the environment has besides during the call, in order.
    pub environment: Vec<(String, Text)>,
    /// The working directory during the call, an absolute path.
    pub directory: Text,
}

impl Python {
    /// Every argument, with a name or without.
    pub fn all_arguments(&self) -> impl Iterator<Item = &Argument> {
        self.arguments.iter().chain(self.keywords.iter().map(|(_, argument)| argument))
    }
}

/// One argument of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Argument {
    /// A value that stands in the graph.
    Value(Value),
    /// The output of the task's n-th value input.
    Input(u32),
    /// The outputs of `count` value inputs from the `first` on, as one list.
    Inputs {
        /// Position of the first.
        first: u32,
        /// How many.
        count: u32,
    },
    /// A list with inputs somewhere in it.
    List(Vec<Argument>),
    /// A map with inputs somewhere in it.
    Map(Vec<(String, Argument)>),
    /// Text with the attempt's number in it.
    Text(Text),
}

/// A program of its own: what to start, where, and where its streams go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    /// What is started.
    pub line: CommandLine,
    /// Variables added to the inherited environment, in order.
    pub environment: Vec<(String, Text)>,
    /// The working directory, an absolute path. It must exist.
    pub directory: Text,
    /// What it reads.
    pub stdin: Stdin,
    /// Where its standard output goes. Captured, it is the task's value.
    pub stdout: Stream,
    /// Where its standard error goes.
    pub stderr: Stream,
    /// Bytes captured of one stream, past which the attempt fails.
    pub capture_limit_bytes: u64,
}

/// How a program is named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum CommandLine {
    /// A string for `sh -c`.
    Shell(Text),
    /// A program and its arguments, started without a shell. Never empty.
    Arguments(Vec<Text>),
}

/// What a program reads from its standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stdin {
    /// Nothing: `/dev/null`.
    Null,
    /// The output of the task's n-th value input.
    Input(u32),
}

/// Where one of a program's streams goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Stream {
    /// Into the run directory.
    Capture,
    /// To the standard stream of `dagmar run` (through rank 0), and into the run directory.
    Forward,
    /// Nowhere.
    Discard,
    /// Into a file, truncated first: an absolute path.
    File(Text),
}

/// Stands, in the texts of a command that publishes its files by renaming them, for the name of the hidden directories
/// that each attempt has for itself. No argument, variable or path can have this character.
pub const STAGE: char = '\0';

impl Command {
    /// True if it writes its files into hidden directories first.
    pub fn is_staged(&self) -> bool {
        let is_staged_line = match &self.line {
            CommandLine::Shell(text) => text.is_staged(),
            CommandLine::Arguments(words) => words.iter().any(Text::is_staged),
        };
        let is_staged_stream = |stream: &Stream| matches!(stream, Stream::File(path) if path.is_staged());
        is_staged_line
            || self.environment.iter().any(|(_, text)| text.is_staged())
            || is_staged_stream(&self.stdout)
            || is_staged_stream(&self.stderr)
    }
}

/// Text that is complete except for the number of the attempt, which only the worker knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Text {
    /// Complete.
    Plain(String),
    /// Pieces with the attempt's number between them.
    AroundAttempt(Vec<String>),
}

impl Text {
    /// The text for one attempt.
    pub fn resolve(&self, attempt: Attempt) -> Cow<'_, str> {
        match self {
            Text::Plain(text) => Cow::Borrowed(text),
            Text::AroundAttempt(pieces) => Cow::Owned(pieces.join(&attempt.to_string())),
        }
    }
}

impl Text {
    /// True if the name of hidden directories stands in it.
    pub fn is_staged(&self) -> bool {
        match self {
            Text::Plain(text) => text.contains(STAGE),
            Text::AroundAttempt(pieces) => pieces.iter().any(|piece| piece.contains(STAGE)),
        }
    }

    /// A path, but in a hidden directory beside it.
    pub fn staged(&self) -> Text {
        let mut pieces = match self {
            Text::Plain(text) => vec![text.clone()],
            Text::AroundAttempt(pieces) => pieces.clone(),
        };
        let last = pieces.len() - 1;
        let slash = pieces.iter().enumerate().rev().find_map(|(number, piece)| {
            // A directory may be written with a slash at its end.
            let name = if number == last { piece.trim_end_matches('/') } else { piece };
            Some((number, name.rfind('/')?))
        });
        let (number, at) = slash.map_or((0, 0), |(number, at)| (number, at + 1));
        pieces[number].insert_str(at, &format!("{STAGE}/"));
        match self {
            Text::Plain(_) => Text::Plain(pieces.swap_remove(0)),
            Text::AroundAttempt(_) => Text::AroundAttempt(pieces),
        }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text::Plain(text.to_owned())
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::Plain(text)
    }
}

/// The ranks of a task that is an MPI program. Its own launcher starts them, on nodes that it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranks {
    /// How many.
    pub count: u32,
    /// The nodes they are spread over evenly; the first ones get one more where they do not divide.
    /// Not more than ranks.
    pub nodes: u32,
    /// Cores of each rank.
    pub cpus: u32,
}

impl Ranks {
    /// How many ranks are on the n-th node.
    pub const fn on_node(self, number: u32) -> u32 {
        self.count / self.nodes + (number < self.count % self.nodes) as u32
    }

    /// The most ranks that are on one node.
    pub const fn on_node_max(self) -> u32 {
        self.count.div_ceil(self.nodes)
    }
}

/// How a task runs, whatever it does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskOptions {
    /// What it occupies while it runs, on each of its nodes.
    pub resources: Resources,
    /// An attempt that ran out of memory is made again with twice as much, up to this many bytes; 0: it is not.
    pub memory_max_bytes: u64,
    /// Its ranks, if it is an MPI program.
    pub ranks: Option<Ranks>,
    /// Further attempts after one that failed by its own fault.
    pub retries: u32,
    /// The time one attempt may take.
    pub timeout: Option<Micros>,
    /// The time between TERM and KILL.
    pub grace: Micros,
    /// Higher runs first.
    pub priority: i32,
    /// The run time its author expects.
    pub expected: Option<Micros>,
    /// Persist its output even if nobody asked for it.
    pub keep: bool,
}

impl TaskOptions {
    /// The nodes of a multi-node task; none for a task of one worker.
    pub fn several_nodes(&self) -> Option<u32> {
        self.ranks.map(|ranks| ranks.nodes).filter(|&nodes| nodes > 1)
    }
}

impl Default for TaskOptions {
    fn default() -> Self {
        TaskOptions {
            resources: Resources::cores(1),
            memory_max_bytes: 0,
            ranks: None,
            retries: 0,
            timeout: None,
            grace: Micros::from_secs(10),
            priority: 0,
            expected: None,
            keep: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staged_path_keeps_its_name_and_lies_beside() {
        let around =
            |pieces: &[&str]| Text::AroundAttempt(pieces.iter().map(|&piece| piece.into()).collect());
        let cases = [
            (Text::from("/d/e/x.bam"), "/d/e/\0/x.bam"),
            (Text::from("x.bam"), "\0/x.bam"),
            (Text::from("/d/e/"), "/d/\0/e/"),
            (around(&["/d/x", ".bam"]), "/d/\0/x7.bam"),
            (around(&["/d", "/x.bam"]), "/d7/\0/x.bam"),
            (around(&["", ".bam"]), "\0/7.bam"),
        ];
        for (path, expected) in cases {
            assert_eq!(path.staged().resolve(Attempt(7)), expected);
            assert!(path.staged().is_staged() && !path.is_staged());
        }
    }
}
