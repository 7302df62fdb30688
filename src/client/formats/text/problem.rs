//! What can be wrong with a graph file, in the words that a user reads.

use std::fmt;

/// Why a graph could not be read: what is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct GraphFileError {
    /// The file, or the option, as the user named it.
    pub file: String,
    /// Line and column, both from 1; columns count characters.
    pub place: Option<(usize, usize)>,
    /// What is wrong.
    pub problem: Box<Problem>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl GraphFileError {
    /// What to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error as the command line prints it, the hint included.
    pub fn report(&self) -> String {
        match &self.hint {
            Some(hint) => format!("error: {self}\n  hint: {hint}\n"),
            None => format!("error: {self}\n"),
        }
    }
}

impl fmt::Display for GraphFileError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "cannot read `{}`: ", self.file)?;
        if let Some((line, column)) = self.place {
            write!(out, "line {line}, column {column}: ")?;
        }
        self.problem.fmt(out)
    }
}

impl std::error::Error for GraphFileError {}

/// What is wrong with a graph file. `of` says whose field it is: "task `b`", "`defaults`".
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the variants say what their fields are")]
pub enum Problem {
    /// The operating system refuses; its reason.
    Unreadable(String),
    /// More bytes than are read.
    TooLarge { limit_bytes: u64 },
    /// Lists and tables are nested too deeply.
    TooDeep { limit: usize },
    /// The bytes are no text.
    NotUtf8,
    /// It is a packed graph, which is read elsewhere.
    Packed,
    /// Neither TOML nor JSON could be made of it.
    Syntax(String),
    /// A table has a name twice.
    DuplicateKey(String),
    /// A number does not fit.
    NumberTooLarge(String),
    /// TOML has dates and times, values here have not.
    DateOrTime,
    /// Nothing to run.
    NoTasks,
    /// More tasks than a graph can have.
    TooManyTasks { name: String, limit: u64 },
    /// More dependencies than a graph can have.
    TooManyDependencies,
    /// No such field.
    UnknownField { field: String, of: String },
    /// A field that must be there is not.
    MissingField { field: String, of: String },
    /// A field has a value of another type.
    WrongType { field: String, of: String, expected: &'static str, found: &'static str },
    /// A field has a value of the right type that makes no sense.
    BadValue { field: String, of: String, value: String, reason: String },
    /// Planned, but not in this version.
    Unsupported { field: String, of: String },
    /// A field that `defaults` cannot have.
    NotADefault(String),
    /// A name of a task or graph with other characters than names have.
    BadName { what: &'static str, name: String },
    /// A task without work.
    MissingWork(String),
    /// A task with two kinds of work.
    SeveralWorks { task: String, first: String, second: String },
    /// A field that only goes with another one.
    Misplaced { field: String, task: String, goes_with: &'static str },
    /// No such function.
    UnknownFunction { task: String, function: String },
    /// A task needs one that is not there.
    UnknownTask { task: String, needs: String },
    /// A single value is wanted and a whole array is named.
    WholeArray { task: String, field: String, array: String },
    /// `{identifier}` stands for nothing.
    UnknownIdentifier { identifier: String, field: String, of: String },
    /// `{inputs}` and the like where it cannot be.
    MisplacedIdentifier { identifier: String, field: String, of: String },
    /// `{x+1}` on something else than a range.
    Arithmetic { variable: String, of: String },
    /// The shell would not see the quotes of a word as such: in quotes, a comment, a here-document.
    Unquotable { task: String, value: String },
    /// A variable of `each` without elements.
    NoElements { variable: String, of: String, reason: String },
    /// An element twice in one variable.
    DuplicateElement { variable: String, of: String, element: String },
    /// Zipped variables of different lengths.
    UnequalLengths { of: String, first: (String, usize), second: (String, usize) },
    /// Nothing matches, neither an output nor a file.
    NoFile { task: String, pattern: String },
    /// A text with wildcards that is no pattern.
    BadPattern { pattern: String, reason: String },
    /// A file's path is no text.
    PathNotUtf8(String),
    /// A pattern finds a file whose name is no text.
    NameNotUtf8 { pattern: String, name: String, directory: String },
    /// Two tasks make one file.
    TwoProducers { file: String, first: String, second: String },
    /// Two tasks of one name in a list.
    TwoTasks(String),
    /// A task that was planned, but of which no run is told.
    NotRecorded(String),
    /// These tasks wait for each other.
    Cycle(Vec<String>),
    /// Something that the reader should have prevented.
    Inconsistent(&'static str),
}

/// How many tasks of a cycle are shown.
const CYCLE_SHOWN_MAX: usize = 8;

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Problem::*;
        match self {
            Unreadable(reason) => out.write_str(reason),
            TooLarge { limit_bytes } => write!(out, "it has more than {} MiB", limit_bytes >> 20),
            TooDeep { limit } => write!(out, "lists and tables are nested more than {limit} deep"),
            NotUtf8 => out.write_str("this byte is not UTF-8 text"),
            Packed => out.write_str("it is a packed graph, not TOML or JSON"),
            Syntax(message) => out.write_str(message),
            DuplicateKey(key) => write!(out, "`{key}` stands twice in one table"),
            NumberTooLarge(number) => write!(out, "the number `{number}` does not fit into 64 bits"),
            DateOrTime => out.write_str("values have no dates and times"),
            NoTasks => out.write_str("the graph has no tasks"),
            TooManyTasks { name, limit } => {
                write!(out, "with `{name}` the graph has more than {limit} tasks")
            }
            TooManyDependencies => out.write_str("the graph has more than 4294967295 dependencies"),
            Cycle(keys) => write_cycle(out, keys),
            Inconsistent(how) => out.write_str(how),
            _ => self.write_field(out),
        }
    }
}

impl Problem {
    /// What is wrong with a field or its value.
    fn write_field(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Problem::*;
        match self {
            UnknownField { field, of } => write!(out, "{of} has an unknown field `{field}`"),
            MissingField { field, of } => write!(out, "{of} has no `{field}`"),
            WrongType { field, of, expected, found } => {
                write!(out, "`{field}` of {of} must be {expected}, not {found}")
            }
            BadValue { field, of, value, reason } => {
                write!(out, "`{field}` of {of} cannot be `{value}`: {reason}")
            }
            Unsupported { field, of } => write!(out, "`{field}` of {of} is not supported by this version"),
            NotADefault(field) => write!(out, "`{field}` cannot stand in `defaults`"),
            BadName { what, name } => write!(out, "`{name}` cannot name a {what}"),
            MissingWork(task) => write!(out, "task `{task}` has no work: it needs `run`, `call` or `python`"),
            SeveralWorks { task, first, second } => {
                write!(out, "task `{task}` has both `{first}` and `{second}`")
            }
            Misplaced { field, task, goes_with } => {
                write!(out, "`{field}` of task `{task}` makes sense with {goes_with} only")
            }
            UnknownFunction { task, function } => {
                write!(out, "task `{task}` calls `{function}`, which is no function here")
            }
            _ => self.write_link(out),
        }
    }

    /// What is wrong between tasks, files and elements.
    fn write_link(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Problem::*;
        match self {
            UnknownTask { task, needs } => {
                write!(out, "task `{task}` needs `{needs}`, which the graph does not define")
            }
            WholeArray { task, field, array } => {
                write!(out, "`{field}` of task `{task}` takes one task, and `{array}` is an array")
            }
            UnknownIdentifier { identifier, field, of } => {
                write!(out, "`{{{identifier}}}` in `{field}` of {of} stands for nothing")
            }
            MisplacedIdentifier { identifier, field, of } => {
                write!(out, "`{{{identifier}}}` cannot be used in `{field}` of {of}")
            }
            Arithmetic { variable, of } => {
                write!(out, "`{variable}` of {of} is no range, so nothing can be added to it")
            }
            Unquotable { task, value } => {
                write!(
                    out,
                    "in `run` of task `{task}`, `{value}` needs quotes and stands where they have no meaning"
                )
            }
            NoElements { variable, of, reason } => {
                write!(out, "`{variable}` in `each` of {of} has no elements: {reason}")
            }
            DuplicateElement { variable, of, element } => {
                write!(out, "`{variable}` in `each` of {of} has `{element}` twice")
            }
            UnequalLengths { of, first, second } => write!(
                out,
                "`zip` of {of} pairs lists of different lengths: `{}` has {} and `{}` has {}",
                first.0, first.1, second.0, second.1
            ),
            NoFile { task, pattern } if pattern.contains(['*', '?', '[']) => {
                write!(out, "task `{task}` needs `{pattern}`, which matches neither an output nor a file")
            }
            NoFile { task, pattern } => {
                write!(out, "task `{task}` needs `{pattern}`, which no task makes and which does not exist")
            }
            BadPattern { pattern, reason } => write!(out, "`{pattern}` is no pattern: {reason}"),
            PathNotUtf8(path) => write!(out, "the path `{path}` is not UTF-8 text"),
            NameNotUtf8 { pattern, name, directory } => {
                write!(out, "`{pattern}` matches `{name}` in `{directory}`, and that name is not UTF-8 text")
            }
            TwoProducers { file, first, second } => {
                write!(out, "tasks `{first}` and `{second}` both make `{file}`")
            }
            TwoTasks(name) => write!(out, "`{name}` names two tasks"),
            NotRecorded(task) => write!(out, "task `{task}` was not recorded"),
            other => unreachable!("written before: {other:?}"),
        }
    }
}

fn write_cycle(out: &mut fmt::Formatter<'_>, keys: &[String]) -> fmt::Result {
    if let [key] = keys {
        return write!(out, "task `{key}` waits for itself");
    }
    write!(out, "tasks wait for each other in a circle: ")?;
    for key in keys.iter().take(CYCLE_SHOWN_MAX) {
        write!(out, "`{key}` for ")?;
    }
    if keys.len() > CYCLE_SHOWN_MAX {
        write!(out, "... {} more ... for ", keys.len() - CYCLE_SHOWN_MAX)?;
    }
    write!(out, "`{}`", keys[0])
}
