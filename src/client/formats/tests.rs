//! Whole files, from text to graph.

use std::path::Path;

use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::task::{Argument, Body, CommandLine, Ranks, Stdin, Stream, Text};
use crate::core::time::Micros;
use crate::core::value::Value;

use super::{Functions, GraphFileError, Kind, read_bytes};

fn read_text(text: &str) -> Result<Graph, GraphFileError> {
    read_bytes(Path::new("test.toml"), text.as_bytes(), Path::new("/nowhere"), &Functions::built_in())
}

fn graph(text: &str) -> Graph {
    read_text(text).unwrap_or_else(|error| panic!("{}{text}", error.report()))
}

fn task(graph: &Graph, key: &str) -> TaskId {
    let found = graph.keys().find(key).unwrap_or_else(|| panic!("no task {key}"));
    found.tasks().next().unwrap()
}

fn arguments(graph: &Graph, key: &str) -> Vec<Argument> {
    match &graph.operation(task(graph, key)).body {
        Body::Call(call) => call.arguments.clone(),
        other => panic!("{key} is no call: {other:?}"),
    }
}

/// What a command starts, in one line, in its first attempt.
fn line(graph: &Graph, key: &str) -> String {
    let Body::Command(command) = &graph.operation(task(graph, key)).body else {
        panic!("{key} is no command")
    };
    match &command.line {
        CommandLine::Shell(text) => text.resolve(Attempt::FIRST).into_owned(),
        CommandLine::Arguments(words) => {
            words.iter().map(|word| word.resolve(Attempt::FIRST).into_owned()).collect::<Vec<_>>().join("|")
        }
    }
}

fn keys(graph: &Graph, tasks: impl IntoIterator<Item = TaskId>) -> Vec<String> {
    tasks.into_iter().map(|task| graph.key(task)).collect()
}

fn inputs(graph: &Graph, key: &str) -> Vec<String> {
    keys(graph, graph.inputs(task(graph, key)))
}

#[test]
fn the_kind_of_a_file_is_known_by_its_content() {
    let check = |bytes: &[u8], expected| assert_eq!(Kind::of(bytes), expected, "{bytes:?}");
    check(b"dagmar\0\x01", Kind::Packed);
    check(b" \n{\"tasks\": {}}", Kind::Json);
    check(b"\xEF\xBB\xBF{}", Kind::Json);
    check(b"[tasks.x]", Kind::Toml);
    check(b"", Kind::Toml);
}

#[test]
fn toml_and_json_say_the_same() {
    let toml = "name = 'g'\n[tasks.x]\ncall = 'add'\nargs = [2, 3.5]\n[tasks.y]\nrun = ['echo', '{key}']\nstdin = '@x'";
    let json = r#"{"name": "g", "tasks": {
        "x": {"call": "add", "args": [2, 3.5]},
        "y": {"run": ["echo", "{key}"], "stdin": "@x"}}}"#;
    assert_eq!(graph(toml), graph(json));
}

#[test]
fn values_keep_their_types() {
    let graph = graph(
        "[tasks.x]\ncall = 'list'\nargs = [1, 0.5, true, 'a', ['@@b', 2], {k = 'v'}]\n\
         [tasks.y]\neach = {i = '08..09', w = [1, 2.50, 'z']}\ncall = 'list'\nargs = ['{i}', '{i+1}', '{w}', '<{i}{w}>']",
    );
    let value = |value| Argument::Value(value);
    let text = |text: &str| Value::Text(text.into());
    assert_eq!(
        arguments(&graph, "x")[..3],
        [value(Value::Int(1)), value(Value::Float(0.5)), value(Value::Bool(true))]
    );
    assert_eq!(arguments(&graph, "x")[4], value(Value::List(vec![text("@b"), Value::Int(2)])));
    assert_eq!(arguments(&graph, "x")[5], value(Value::Map(vec![("k".into(), text("v"))])));
    let second =
        [value(Value::Int(8)), value(Value::Int(9)), value(Value::Float(2.5)), value(text("<082.50>"))];
    assert_eq!(arguments(&graph, "y[8,2.50]"), second);
    assert_eq!(arguments(&graph, "y[9,z]")[2], value(text("z")));
}

#[test]
fn references_become_positions() {
    let graph = graph(
        "[tasks.a]\neach = {i = '0..3'}\ncall = 'identity'\nargs = ['{i}']\n\
         [tasks.one]\ncall = 'list'\nargs = ['@a[2]', {x = ['@a[2]', '@one_more']}, '@a']\n\
         [tasks.all]\ncall = 'sum'\nargs = ['@a']\n[tasks.one_more]\ncall = 'noop'",
    );
    assert_eq!(arguments(&graph, "all"), [Argument::Inputs { first: 0, count: 4 }]);
    assert_eq!(inputs(&graph, "all"), ["a[0]", "a[1]", "a[2]", "a[3]"]);
    let input = Argument::Input;
    let nested = Argument::List(vec![input(0), input(1)]);
    let all = Argument::List(vec![input(2), input(3), input(0), input(4)]);
    assert_eq!(arguments(&graph, "one"), [input(0), Argument::Map(vec![("x".into(), nested)]), all]);
    assert_eq!(inputs(&graph, "one"), ["a[2]", "one_more", "a[0]", "a[1]", "a[3]"]);
}

#[test]
fn a_stencil_shares_four_operations() {
    let graph = graph(
        "[tasks.s]\neach = {t = '0..9', x = '0..99'}\ncall = 'sum'\n\
         args = ['@s[{t-1},{x-1}]?', '@s[{t-1},{x}]?', '@s[{t-1},{x+1}]?']",
    );
    assert_eq!(graph.len(), 1000);
    assert_eq!(inputs(&graph, "s[4,5]"), ["s[3,4]", "s[3,5]", "s[3,6]"]);
    assert_eq!(inputs(&graph, "s[4,0]"), ["s[3,0]", "s[3,1]"]);
    // The first row, the inside, and either side.
    assert_eq!(graph.columns().operations.len(), 4);
}

#[test]
fn a_million_equal_elements_share_one_operation() {
    let started = std::time::Instant::now();
    let graph = graph("[tasks.n]\neach = {i = '1..1000000'}\ncall = 'noop'");
    assert_eq!((graph.len(), graph.columns().operations.len()), (1_000_000, 1));
    eprintln!("10^6 tasks in {:?}", started.elapsed());
}

#[test]
fn waiting_for_an_array_goes_through_one_join() {
    let graph = graph(
        "[tasks.a]\neach = {i = '1..100'}\ncall = 'noop'\n\
         [tasks.b]\neach = {i = '1..100'}\ncall = 'noop'\nafter = ['a']\n\
         [tasks.c]\ncall = 'noop'\nafter = ['a[*]', 'b']",
    );
    assert_eq!(graph.len(), 203);
    assert_eq!(graph.dependency_count(), 100 + 100 + 100 + 2);
    assert_eq!(keys(&graph, graph.sinks()), ["c"]);
    assert_eq!(graph.tasks().filter(|task| graph.is_join(*task)).count(), 2);
}

#[test]
fn arrays_that_take_an_array_share_its_list() {
    let graph = graph(
        "[tasks.a]\neach = {i = '1..100'}\ncall = 'identity'\nargs = ['{i}']\n\
         [tasks.b]\neach = {i = '1..50'}\ncall = 'get'\nargs = ['@a', '{i}']",
    );
    assert_eq!((graph.len(), graph.dependency_count()), (151, 150));
    assert_eq!(arguments(&graph, "b[7]")[0], Argument::Input(0));
}

#[test]
fn commands_expand_and_quote() {
    let check = |run: &str, expected: &str| {
        let text = format!("[tasks.x]\neach = {{p = ['a b/c.fq.gz'], i = '01..03'}}\nrun = {run}");
        assert_eq!(line(&graph(&text), "x[a%20b/c.fq.gz,2]"), expected, "{run}");
    };
    check("'cat {p} {i}'", "cat 'a b/c.fq.gz' 02");
    check("['cat', '{p}', 'x{i+1}']", "cat|a b/c.fq.gz|x03");
    check("['{p.stem}', '{p.name}', '{p.dir}', '{key}']", "c.fq|c.fq.gz|a b|x[a%20b/c.fq.gz,02]");
    check(
        "'echo ${HOME} {} {print $1} {1..3} {a,b} {{i} {i}'",
        "echo ${HOME} {} {print $1} {1..3} {a,b} {i} 02",
    );
    check("'try {attempt} {key}'", "try 1 'x[a%20b/c.fq.gz,02]'");
    check("['{i-5}', '{i+100}']", "-03|102");
}

#[test]
fn expansions_in_quotes_are_refused_when_they_need_quotes_themselves() {
    let check = |run: &str, word: &str, expected: bool| {
        let text = format!("[tasks.x]\neach = {{p = ['{word}']}}\nrun = '''{run}'''");
        assert_eq!(read_text(&text).is_ok(), expected, "{run} {word}");
    };
    check("echo '{p}'", "plain", true);
    check("echo '{p}'", "a b", false);
    check("echo \"{p}\"", "$(reboot)", false);
    check("echo \"$(cat {p})\"", "a b", true);
}

#[test]
fn outputs_make_dependencies() {
    let graph = graph(
        "[tasks.align]\neach = {part = '00..15'}\nrun = 'touch {outputs}'\noutputs = ['{part}.sam', '/tmp/{part}.log']\n\
         [tasks.sort]\neach = {part = '00..15'}\ninputs = ['./{part}.sam']\nrun = ['sort', '{inputs}', '-o', '{outputs}']\noutputs = ['{part}.bam']\n\
         [tasks.merge]\ninputs = ['*.bam']\nrun = 'merge all.bam {inputs}'\noutputs = ['all.bam']\n\
         [tasks.away]\ninputs = ['*1.sam', '/tmp/0[0-1].log']\ncwd = 'sub'\nrun = ['x', '{inputs}']",
    );
    assert_eq!(line(&graph, "align[3]"), "touch 03.sam /tmp/03.log");
    assert_eq!(inputs(&graph, "sort[07]"), ["align[07]"]);
    assert_eq!(line(&graph, "sort[07]"), "sort|./07.sam|-o|07.bam");
    assert_eq!(inputs(&graph, "merge").len(), 16);
    assert!(line(&graph, "merge").starts_with("merge all.bam 00.bam 01.bam"));
    assert_eq!(line(&graph, "away"), "x|/nowhere/01.sam|/nowhere/11.sam|/tmp/00.log|/tmp/01.log");
    assert_eq!(inputs(&graph, "away"), ["align[00]", "align[01]", "align[11]"]);
    let merge = graph.operation(task(&graph, "merge"));
    assert_eq!(merge.inputs[0], Text::from("/nowhere/00.bam"));
    assert_eq!(merge.outputs, [Text::from("/nowhere/all.bam")]);
}

#[test]
fn an_array_that_takes_the_files_of_an_array_waits_for_one_join() {
    let graph = graph(
        "[tasks.a]\neach = {i = '1..100'}\nrun = 'x'\noutputs = ['{i}.txt']\n\
         [tasks.b]\neach = {i = '1..100'}\nrun = 'cat {inputs} > {i}'\ninputs = ['*.txt']",
    );
    assert_eq!((graph.len(), graph.dependency_count()), (201, 200));
}

#[test]
fn a_pattern_in_an_array_with_outputs_is_matched_once() {
    let graph = graph(
        "[tasks.a]\neach = {i = '1..300'}\nrun = 'x'\noutputs = ['a/{i}']\n\
         [tasks.b]\neach = {i = '1..300'}\nrun = 'x {outputs}'\ninputs = ['a/*']\noutputs = ['b/{i}']",
    );
    assert_eq!((graph.len(), graph.dependency_count()), (601, 600));
    assert_eq!(graph.operation(task(&graph, "b[7]")).inputs.len(), 300);
}

#[test]
fn a_pattern_leaves_out_what_the_task_itself_makes() {
    let graph = graph(
        "[tasks.a]\nrun = 'x'\noutputs = ['0.txt']\n\
         [tasks.b]\neach = {i = '1..3'}\nrun = 'cat {inputs} > {outputs}'\ninputs = ['[0-1].txt']\noutputs = ['{i}.txt']",
    );
    assert_eq!(inputs(&graph, "b[1]"), ["a"]);
    assert_eq!(line(&graph, "b[2]"), "cat 0.txt 1.txt > 2.txt");
}

#[test]
fn a_hundred_thousand_files_are_matched_in_no_time() {
    let started = std::time::Instant::now();
    let text = "[tasks.a]\neach = {i = '1..100000'}\nrun = 'x'\noutputs = ['{i}.txt']\n\
         [tasks.b]\neach = {i = '1..100000'}\nrun = 'x'\ninputs = ['{i}.txt']\n\
         [tasks.c]\neach = {i = '100000..199999'}\nrun = 'x'\ninputs = ['*{i-99999}.txt', '{i-99999}.*']";
    let graph = graph(text);
    assert_eq!(inputs(&graph, "b[77]"), ["a[77]"]);
    eprintln!("3 * 10^5 tasks with files in {:?}", started.elapsed());
}

#[test]
fn defaults_stand_behind_every_task() {
    let graph = graph(
        "[defaults]\nretries = 1\ntimeout = '10m'\nresources = {memory = '1GiB', licence = 2}\nenv = {A = '1', B = '{key}'}\ncwd = 'd'\n\
         [tasks.x]\nrun = 'true'\nresources = {cpus = 4}\nenv = {A = 5}\nretries = 0\n[tasks.y]\ncall = 'noop'",
    );
    let options = graph.options(task(&graph, "x"));
    assert_eq!((options.retries, options.timeout), (0, Some(Micros::from_secs(600))));
    assert_eq!((options.resources.cpus, options.resources.memory_bytes), (4, 1 << 30));
    assert_eq!(options.resources.custom["licence"], 2);
    let Body::Command(command) = &graph.operation(task(&graph, "x")).body else { panic!() };
    assert_eq!(command.environment, [("B".into(), Text::from("x")), ("A".into(), Text::from("5"))]);
    assert_eq!(command.directory, Text::from("/nowhere/d"));
    assert_eq!((command.stdin, &command.stdout), (Stdin::Null, &Stream::Capture));
    let options = graph.options(task(&graph, "y"));
    assert_eq!((options.retries, options.timeout), (1, None));
}

#[test]
fn the_attempt_stays_open() {
    let graph = graph(
        "[tasks.x]\nrun = ['a', 'try-{attempt}']\nstdout = 'log.{attempt}'\noutputs = ['o{attempt}/{key}']",
    );
    assert_eq!(line(&graph, "x"), "a|try-1");
    let operation = graph.operation(task(&graph, "x"));
    assert_eq!(operation.outputs[0].resolve(Attempt(2)), "/nowhere/o2/x");
    let Body::Command(command) = &operation.body else { panic!() };
    let Stream::File(file) = &command.stdout else { panic!() };
    assert_eq!(file.resolve(Attempt(3)), "/nowhere/log.3");
}

#[test]
fn variables_pair_up_when_zipped() {
    let graph = graph(
        "[tasks.x]\neach = {a = '1..3', b = ['u', 'v', 'w']}\nzip = true\nrun = 'echo {a}{b}'\n\
         [tasks.y]\ncall = 'list'\nargs = ['@x[2,v]']",
    );
    assert_eq!(line(&graph, "x[2,v]"), "echo 2v");
    assert_eq!(graph.len(), 4);
}

#[test]
fn elements_with_odd_characters_are_found_from_other_arrays() {
    let graph = graph(
        "[tasks.x]\neach = {f = ['a,b', 'c d', '50%']}\ncall = 'noop'\n\
         [tasks.y]\neach = {f = ['a,b', 'c d', '50%']}\ncall = 'noop'\nafter = ['x[{f}]']\n\
         [tasks.z]\ncall = 'noop'\nafter = ['x[c%20d]', 'x[c d]', 'x[a%2Cb]']\n\
         [tasks.open]\neach = {name = ['x', 'z']}\ncall = 'list'\nargs = ['@{name}']",
    );
    assert_eq!(inputs(&graph, "y[a%2Cb]"), ["x[a%2Cb]"]);
    assert_eq!(inputs(&graph, "z"), ["x[a%2Cb]", "x[c%20d]"]);
    assert_eq!(inputs(&graph, "open[z]"), ["z"]);
}

#[test]
fn keys_arrays_elements_and_files_can_be_asked_for() {
    let graph = graph(
        "[tasks.a]\neach = {i = '1..3'}\nrun = 'x'\noutputs = ['out/{i}.txt']\n[tasks.b]\nrun = 'x'\nafter = ['a']",
    );
    let check = |asked: &[&str], expected: &[&str]| {
        let asked: Vec<String> = asked.iter().map(|key| key.to_string()).collect();
        assert_eq!(keys(&graph, super::resolve(&graph, &asked).unwrap().iter()), expected, "{asked:?}");
    };
    check(&[], &["b"]);
    check(&["a"], &["a[1]", "a[2]", "a[3]"]);
    check(&["a[*]", "b", "a[2]"], &["a[1]", "a[2]", "a[3]", "b"]);
    check(&["a[2]"], &["a[2]"]);
    check(&["out/3.txt", "/nowhere/out/1.txt"], &["a[3]", "a[1]"]);
    let hint = |asked: &str| super::resolve(&graph, &[asked.to_owned()]).unwrap_err().hint();
    assert_eq!(hint("a[9]"), "the nearest name is `a[1]` ... `a[3]`");
    assert_eq!(hint("out/4.txt"), "the nearest name is `out/1.txt`");
    assert_eq!(hint("a[*]:finished"), "the nearest name is `a[1]` ... `a[3]`");
}

#[test]
fn an_outline_counts_what_users_know_of() {
    let graph = graph(
        "[tasks.a]\neach = {i = '1..3'}\nrun = 'x {i}'\n[tasks.b]\ncall = 'noop'\nafter = ['a']\n[tasks.c]\ncall = 'list'\nargs = ['@b']",
    );
    let outline = super::outline::outline(&graph);
    assert_eq!((outline.tasks, outline.depth, outline.width), (5, 3, 3));
    assert_eq!((outline.sources, outline.sinks, outline.dependencies), (3, 1, 5));
    let shown: Vec<String> = outline
        .groups
        .iter()
        .map(|group| format!("{} {:?} {} < {:?}", group.name, group.elements, group.work, group.needs))
        .collect();
    let expected =
        [r#"a Some(3) run x 1 < []"#, r#"b None call noop < ["a"]"#, r#"c None call list < ["b"]"#];
    assert_eq!(shown, expected);
}

#[test]
fn ranks_take_their_cores_on_each_node() {
    let graph = graph(
        "[defaults]\nresources = {nodes = 2}\n[tasks.a]\nrun = 'x'\n[tasks.b]\nrun = 'x'\nresources = {ranks = 7, cpus = 3}\n\
         [tasks.c]\nrun = 'x'\nresources = {nodes = 1, ranks = 4}\n[tasks.d]\ncall = 'noop'",
    );
    let ranks = |count, nodes, cpus| Some(Ranks { count, nodes, cpus });
    let of = |key| {
        let options = graph.options(task(&graph, key));
        (options.resources.cpus, options.ranks)
    };
    assert_eq!(of("a"), (1, ranks(2, 2, 1)), "a rank on each node unless more are asked for");
    assert_eq!(of("b"), (12, ranks(7, 2, 3)), "four ranks on the first node, three cores each");
    assert_eq!(of("c"), (4, ranks(4, 1, 1)));
    assert_eq!(of("d"), (1, None), "the defaults of programs do not reach calls");
}
