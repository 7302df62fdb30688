//! Graphs without a file: a list of commands, or one command or call for each element.

use std::collections::HashSet;
use std::path::Path;

use crate::core::graph::{Definition, Graph, GraphBuilder, GraphError};
use crate::core::key::{Axis, Group};
use crate::core::task::{
    Argument, Body, Call, Command, CommandLine, Operation, Stdin, Stream, TaskOptions, Text,
};
use crate::core::value::Value;

use super::description::{CAPTURE_LIMIT_BYTES, Functions, parse_range};
use super::disk::{FILE_BYTES_MAX, absolute_directory, read_limited, reason};
use super::text::{Fault, GraphFileError, Node, Outcome, Problem, Span, Tree, json, without_mark};

/// Where the elements of `--each` come from.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// A range such as `1..1000`.
    Range(&'a str),
    /// The lines of a file, blank ones left out.
    Lines(&'a Path),
}

/// What is done with each element. `{}` is the element.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// A program and its arguments.
    Command(&'a [String]),
    /// A function and its arguments, each as JSON.
    Call {
        /// Its name.
        function: &'a str,
        /// As JSON; a bare `{}` is the element, and a number if it comes from a range.
        arguments: &'a [String],
    },
}

/// A task for each line of a file, named by the line's number: `line[17]`. Lines that are blank or
/// start with `#` are skipped. Commands run in `directory`.
pub fn commands(list: &Path, directory: &Path, options: &TaskOptions) -> Result<Graph, GraphFileError> {
    let file = list.display().to_string();
    let text = read_text(list).map_err(|fault| fault.locate(&file, ""))?;
    build_commands(&text, directory, options).map_err(|fault| fault.locate(&file, &text))
}

/// A task for each element, named by it: `task[17]`. Commands run in `directory`.
pub fn each(
    elements: Elements<'_>,
    work: Work<'_>,
    directory: &Path,
    options: &TaskOptions,
    functions: &Functions,
) -> Result<Graph, GraphFileError> {
    let file = match elements {
        Elements::Range(range) => format!("--each {range}"),
        Elements::Lines(path) => path.display().to_string(),
    };
    build_each(elements, work, directory, options, functions).map_err(|fault| fault.locate(&file, ""))
}

fn read_text(path: &Path) -> Outcome<String> {
    let unreadable = |error: std::io::Error| Fault::whole(Problem::Unreadable(reason(&error)));
    let bytes = read_limited(path).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::whole(Problem::TooLarge { limit_bytes: FILE_BYTES_MAX }));
    }
    let text = std::str::from_utf8(without_mark(&bytes)).map_err(|_| Fault::whole(Problem::NotUtf8))?;
    Ok(text.to_owned())
}

fn build_commands(text: &str, directory: &Path, options: &TaskOptions) -> Outcome<Graph> {
    let directory = absolute_directory(directory)?;
    let is_command = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| is_command(line))
        .map(|(at, line)| (at + 1, line))
        .collect();
    if let Some((number, _)) = lines.iter().find(|(_, line)| line.contains('\0')) {
        return Err(Fault::whole(Problem::BadValue {
            field: format!("line {number}"),
            of: "the list".into(),
            value: "...".into(),
            reason: "it has a NUL byte".into(),
        }));
    }
    let axis = match lines.last() {
        None => return Err(Fault::whole(Problem::NoTasks)),
        Some((last, _)) if *last == lines.len() => parse_range(&format!("1..{last}")).map_err(no_range)?,
        Some(_) => Axis::Words(lines.iter().map(|(number, _)| number.to_string()).collect()),
    };
    let mut builder = GraphBuilder::new("commands", directory.as_str());
    builder.declare(Group::array("line", vec![axis])).map_err(fault)?;
    let options = builder.options(options.clone());
    for (_, line) in lines {
        let line = CommandLine::Shell(Text::from(line.trim()));
        let operation = builder.operation(command(line, &directory));
        builder.define(Definition { operation, options, ..Definition::default() }).map_err(fault)?;
    }
    builder.build().map_err(fault)
}

fn command(line: CommandLine, directory: &str) -> Operation {
    let command = Command {
        line,
        environment: vec![],
        directory: Text::from(directory),
        stdin: Stdin::Null,
        stdout: Stream::Forward,
        stderr: Stream::Capture,
        capture_limit_bytes: CAPTURE_LIMIT_BYTES,
    };
    Operation { body: Body::Command(Box::new(command)), inputs: vec![], outputs: vec![] }
}

/// Elements by name and by what is put in for `{}`; the two differ when lines repeat.
struct Elementary {
    axis: Axis,
    lines: Option<Vec<String>>,
}

impl Elementary {
    fn value(&self, place: usize) -> Value {
        match (&self.lines, self.axis.number(place)) {
            (Some(lines), _) => Value::Text(lines[place].clone()),
            (None, Some(number)) => Value::Int(number),
            (None, None) => Value::Text(self.axis.element(place).into_owned()),
        }
    }

    fn text(&self, place: usize) -> String {
        match &self.lines {
            Some(lines) => lines[place].clone(),
            None => self.axis.element(place).into_owned(),
        }
    }
}

fn read_elements(elements: Elements<'_>) -> Outcome<Elementary> {
    let path = match elements {
        Elements::Range(range) => {
            let axis = parse_range(range).map_err(|reason| no_elements(range, reason))?;
            return Ok(Elementary { axis, lines: None });
        }
        Elements::Lines(path) => path,
    };
    let text = read_text(path)?;
    let lines: Vec<String> = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    if lines.is_empty() {
        return Err(Fault::whole(Problem::NoTasks));
    }
    let mut seen = HashSet::new();
    if lines.iter().all(|line| seen.insert(line)) {
        return Ok(Elementary { axis: Axis::Words(lines), lines: None });
    }
    let axis = parse_range(&format!("1..{}", lines.len())).map_err(no_range)?;
    Ok(Elementary { axis, lines: Some(lines) })
}

/// Refuses what `--each` cannot take. What does not even look like a range was meant otherwise.
fn no_elements(written: &str, reason: String) -> Box<Fault> {
    let is_part = |byte: u8| byte.is_ascii_digit() || b".- ".contains(&byte);
    if written.contains("..") && written.bytes().all(is_part) {
        return no_range(reason);
    }
    no_range("it is no range".into()).hint(
        "`--each` takes a range such as `1..1000`, `00..15` or `1..9..2`; \
         for other elements, write one a line into a file for `--each-line`",
    )
}

fn no_range(reason: String) -> Box<Fault> {
    Fault::whole(Problem::Syntax(reason))
}

fn build_each(
    elements: Elements<'_>,
    work: Work<'_>,
    directory: &Path,
    options: &TaskOptions,
    functions: &Functions,
) -> Outcome<Graph> {
    let elements = read_elements(elements)?;
    let directory = absolute_directory(directory)?;
    let form = read_work(work, functions)?;
    let mut builder = GraphBuilder::new("each", directory.as_str());
    builder.declare(Group::array("task", vec![elements.axis.clone()])).map_err(fault)?;
    let options = builder.options(options.clone());
    let count = elements.axis.count();
    if form.is_constant() && count > 0 {
        let operation = builder.operation(form.operation(&elements, 0, &directory));
        builder.define_alike(count as u32, (operation, options), &[], &[]).map_err(fault)?;
        return builder.build().map_err(fault);
    }
    for place in 0..count {
        let operation = builder.operation(form.operation(&elements, place, &directory));
        builder.define(Definition { operation, options, ..Definition::default() }).map_err(fault)?;
    }
    builder.build().map_err(fault)
}

fn fault(error: GraphError) -> Box<Fault> {
    match error {
        GraphError::Key(_) => {
            Fault::whole(Problem::TooManyTasks { name: "--each".into(), limit: u64::from(u32::MAX) - 1 })
        }
        _ => Fault::whole(Problem::TooManyDependencies),
    }
}

/// `Work` once it is checked.
enum Form<'a> {
    Command(&'a [String]),
    Call { function: &'a str, arguments: Vec<Node> },
}

fn read_work<'a>(work: Work<'a>, functions: &Functions) -> Outcome<Form<'a>> {
    let (function, arguments) = match work {
        Work::Command([]) => return Err(Fault::whole(Problem::Syntax("the command is empty".into()))),
        Work::Command(words) => return Ok(Form::Command(words)),
        Work::Call { function, arguments } => (function, arguments),
    };
    if !functions.contains(function) {
        let (task, function) = ("task".to_owned(), function.to_owned());
        return Err(Fault::whole(Problem::UnknownFunction { task, function: function.clone() })
            .nearest(&function, functions.names()));
    }
    let arguments = arguments.iter().map(|argument| read_json(argument)).collect::<Outcome<_>>()?;
    Ok(Form::Call { function, arguments })
}

fn read_json(argument: &str) -> Outcome<Node> {
    if argument == "{}" {
        return Ok(Node { span: Span::default(), tree: Tree::Text("{}".into()) });
    }
    json::parse(argument).map_err(|_| {
        Fault::whole(Problem::Syntax(format!("the argument `{argument}` is not JSON")))
            .hint(format!("text has quotes of its own: '\"{argument}\"'"))
    })
}

impl Form<'_> {
    /// True if every element's operation is the same.
    fn is_constant(&self) -> bool {
        match self {
            Form::Command(words) => !words.iter().any(|word| word.contains("{}")),
            Form::Call { arguments, .. } => !arguments.iter().any(mentions_element),
        }
    }

    fn operation(&self, elements: &Elementary, place: usize, directory: &str) -> Operation {
        match self {
            Form::Command(words) => {
                let element = elements.text(place);
                let words = words.iter().map(|word| Text::from(word.replace("{}", &element)));
                command(CommandLine::Arguments(words.collect()), directory)
            }
            Form::Call { function, arguments } => {
                let arguments = arguments.iter().map(|node| Argument::Value(value(node, elements, place)));
                let call = Call { function: (*function).to_owned(), arguments: arguments.collect() };
                Operation { body: Body::Call(call), inputs: vec![], outputs: vec![] }
            }
        }
    }
}

fn mentions_element(node: &Node) -> bool {
    match &node.tree {
        Tree::Text(text) => text.contains("{}"),
        Tree::List(nodes) => nodes.iter().any(mentions_element),
        Tree::Table(entries) => entries.iter().any(|entry| mentions_element(&entry.node)),
        _ => false,
    }
}

fn value(node: &Node, elements: &Elementary, place: usize) -> Value {
    match &node.tree {
        Tree::Text(text) if text == "{}" => elements.value(place),
        Tree::Text(text) => Value::Text(text.replace("{}", &elements.text(place))),
        Tree::List(nodes) => Value::List(nodes.iter().map(|node| value(node, elements, place)).collect()),
        Tree::Table(entries) => {
            let entries = entries.iter();
            Value::Map(
                entries.map(|entry| (entry.key.clone(), value(&entry.node, elements, place))).collect(),
            )
        }
        _ => node.scalar().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::formats::outline::work;

    fn make(range: &str, work: Work<'_>) -> Result<Graph, GraphFileError> {
        let options = TaskOptions::default();
        each(Elements::Range(range), work, Path::new("/nowhere"), &options, &Functions::built_in())
    }

    #[test]
    fn lines_are_commands_named_by_their_number() {
        let text = "echo a\n\n# nothing\n  echo b | wc \n";
        let graph = build_commands(text, Path::new("/nowhere"), &TaskOptions::default()).unwrap();
        let shown: Vec<String> =
            graph.tasks().map(|task| format!("{}: {}", graph.key(task), work(&graph, task))).collect();
        assert_eq!(shown, ["line[1]: run echo a", "line[4]: run echo b | wc"]);
        let Body::Command(command) = &graph.operation(graph.tasks().next().unwrap()).body else { panic!() };
        assert_eq!((&command.stdout, &command.directory), (&Stream::Forward, &Text::from("/nowhere")));
    }

    #[test]
    fn a_byte_order_mark_belongs_to_no_line() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("list.txt");
        std::fs::write(&list, "\u{feff}one\r\ntwo\n").unwrap();
        let options = TaskOptions::default();
        let graph = commands(&list, directory.path(), &options).unwrap();
        assert_eq!(work(&graph, graph.tasks().next().unwrap()), "run one");
        let words = ["x".to_owned(), "{}".to_owned()];
        let (lines, echo) = (Elements::Lines(&list), Work::Command(&words));
        let graph = each(lines, echo, directory.path(), &options, &Functions::built_in()).unwrap();
        assert_eq!(graph.key(graph.tasks().next().unwrap()), "task[one]");
    }

    #[test]
    fn braces_are_the_element() {
        let words = ["./prog".to_owned(), "in/{}.txt".to_owned(), "{x}".to_owned()];
        let graph = make("08..10", Work::Command(&words)).unwrap();
        assert_eq!(work(&graph, graph.tasks().nth(1).unwrap()), "run ./prog in/09.txt {x}");
        assert_eq!(graph.key(graph.tasks().nth(1).unwrap()), "task[09]");
    }

    #[test]
    fn arguments_of_calls_are_json_and_keep_numbers() {
        let arguments = ["{}".to_owned(), r#"["{}", "n{}", 0.5]"#.to_owned()];
        let graph = make("1..3", Work::Call { function: "list", arguments: &arguments }).unwrap();
        let Body::Call(call) = &graph.operation(graph.tasks().nth(2).unwrap()).body else { panic!() };
        let list = vec![Value::Int(3), Value::Text("n3".into()), Value::Float(0.5)];
        assert_eq!(call.arguments, [Argument::Value(Value::Int(3)), Argument::Value(Value::List(list))]);
    }

    #[test]
    fn equal_calls_share_one_operation() {
        let graph = make("1..100000", Work::Call { function: "noop", arguments: &[] }).unwrap();
        assert_eq!((graph.len(), graph.columns().operations.len()), (100_000, 1));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let check = |range: &str, function: &str, argument: &str, expected: &str| {
            let arguments = [argument.to_owned()];
            let error = make(range, Work::Call { function, arguments: &arguments }).unwrap_err();
            assert_eq!(error.report(), expected);
        };
        check(
            "9..1",
            "noop",
            "1",
            "error: cannot read `--each 9..1`: its end cannot be reached by its step\n",
        );
        for other in ["{1..3}", "a,b,c", "7"] {
            let expected = format!(
                "error: cannot read `--each {other}`: it is no range\n  \
                 hint: `--each` takes a range such as `1..1000`, `00..15` or `1..9..2`; \
                 for other elements, write one a line into a file for `--each-line`\n"
            );
            check(other, "noop", "1", &expected);
        }
        check(
            "1..9",
            "noob",
            "1",
            "error: cannot read `--each 1..9`: task `task` calls `noob`, which is no function here\n  \
             hint: the nearest name is `noop`\n",
        );
        check(
            "1..9",
            "noop",
            "x",
            "error: cannot read `--each 1..9`: the argument `x` is not JSON\n  \
             hint: text has quotes of its own: '\"x\"'\n",
        );
    }
}
