//! Graph files against the real world: a shell that reads quoted words back, and files on disk.

use std::path::Path;
use std::process::Command;

use dagmar::client::formats::{Functions, quote, read, read_bytes};
use dagmar::core::graph::Graph;
use dagmar::core::id::Attempt;
use dagmar::core::task::{Body, CommandLine};
use proptest::prelude::*;

/// The lines that the tasks of a graph give to `sh -c`.
fn shell_lines(graph: &Graph) -> Vec<String> {
    let lines = graph.tasks().filter_map(|task| match &graph.operation(task).body {
        Body::Command(command) => match &command.line {
            CommandLine::Shell(text) => Some(text.resolve(Attempt::FIRST).into_owned()),
            CommandLine::Arguments(_) => None,
        },
        _ => None,
    });
    lines.collect()
}

fn sh(line: &str) -> Vec<u8> {
    let output = Command::new("sh").arg("-c").arg(line).output().expect("sh starts");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_quoted_word_comes_back_from_the_shell(word in "[^\0]{0,40}") {
        prop_assert_eq!(sh(&format!("printf %s {}", quote(&word))), word.as_bytes());
    }

    #[test]
    fn an_element_reaches_the_command_as_it_is(words in prop::collection::btree_set("[^\0\r\n]{1,20}", 1..5)) {
        let words: Vec<String> = words.into_iter().collect();
        let json = serde_json::json!({"tasks": {"x": {"each": {"w": &words}, "run": "printf %s {w}"}}});
        let graph = read_bytes(Path::new("x.json"), json.to_string().as_bytes(), Path::new("/"), &Functions::built_in());
        let graph = graph.expect("every word can be an element");
        for (word, line) in words.iter().zip(shell_lines(&graph)) {
            prop_assert_eq!(sh(&line), word.as_bytes());
        }
        for task in graph.tasks() {
            let found = graph.keys().find(&graph.key(task)).expect("every key names its task");
            prop_assert_eq!(found.tasks().collect::<Vec<_>>(), [task]);
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read_bytes(Path::new("x"), &bytes, Path::new("/nowhere"), &Functions::built_in());
    }

    #[test]
    fn no_text_of_a_field_makes_the_reader_panic(
        field in "(run|call|after|inputs|outputs|stdin|stdout|cwd|timeout|args|each|retries)",
        text in "[{}@\\[\\]a-z0-9.*?,'\"+ -]{0,30}",
    ) {
        for value in [serde_json::json!(&text), serde_json::json!([&text]), serde_json::json!({"i": &text})] {
            let json = serde_json::json!({"tasks": {"a": {"each": {"i": "1..3"}, "run": "x", &field: value}}});
            let bytes = json.to_string();
            let _ = read_bytes(Path::new("x"), bytes.as_bytes(), Path::new("/nowhere"), &Functions::built_in());
        }
    }
}

#[test]
fn nothing_in_an_element_is_executed() {
    let around = [
        "printf %s {w}",
        "printf %s '{w}'",
        "printf %s \"{w}\"",
        "printf %s \\{w}",
        "printf %s a{w}b",
        "# {w}\nprintf %s x",
        "cat <<END\n{w}\nEND",
        "cat <<'END'\n{w}\nEND",
        "printf %s \"$(printf %s {w})\"",
        "printf %s \"$(printf %s \"{w}\")\"",
        "printf %s `printf %s {w}`",
        "printf %s \"`printf %s \"{w}\"`\"",
        "printf %s \"$(case x in x) printf %s \"{w}\";; esac)\"",
        "printf %s it\\'s {w} it\\'s",
        "A={w}; printf %s \"$A\"",
    ];
    // Whatever runs one of these prints 42, which the words themselves do not contain.
    let words = [
        "$(expr 40 + 2)",
        "`expr 40 + 2`",
        "';expr 40 + 2;'",
        "\";expr 40 + 2;\"",
        "\nexpr 40 + 2",
        "'$(expr 40 + 2)'",
    ];
    let mut accepted = 0;
    for (around, word) in around.iter().flat_map(|around| words.map(|word| (*around, word))) {
        let json = serde_json::json!({"tasks": {"x": {"each": {"w": [word]}, "run": around}}});
        let graph =
            read_bytes(Path::new("x"), json.to_string().as_bytes(), Path::new("/"), &Functions::built_in());
        let Ok(graph) = graph else { continue };
        accepted += 1;
        let output = Command::new("sh").arg("-c").arg(&shell_lines(&graph)[0]).output().expect("sh starts");
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.contains("42"), "{around} with {word} printed {output}");
    }
    assert!(accepted >= 5 * words.len(), "only {accepted} were accepted");
}

#[test]
fn files_on_disk_are_found_beside_the_graph_file() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::create_dir(directory.path().join("parts")).unwrap();
    for name in ["parts/b.fq", "parts/a 1.fq", "parts/.hidden.fq", "parts/c.txt"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    std::fs::write(directory.path().join("list.txt"), "\u{feff}one\n\ntwo three\n").unwrap();
    let text = r#"
[tasks.align]
each = { file = { glob = "parts/*.fq" } }
run = "align {file} > {file.stem}.sam"

[tasks.list]
each = { line = { lines = "list.txt" } }
run = "echo {line}"

[tasks.all]
inputs = ["parts/*.fq", "parts/c.txt"]
run = "cat {inputs}"
"#;
    let path = directory.path().join("graph.toml");
    std::fs::write(&path, text).unwrap();
    let graph = read(&path, &Functions::built_in()).unwrap_or_else(|error| panic!("{}", error.report()));
    assert_eq!(graph.name(), "graph");
    let expected = [
        "align 'parts/a 1.fq' > 'a 1'.sam",
        "align parts/b.fq > b.sam",
        "echo one",
        "echo 'two three'",
        "cat 'parts/a 1.fq' parts/b.fq parts/c.txt",
    ];
    assert_eq!(shell_lines(&graph), expected);
}

/// The files that `each` finds on disk, or the error's text after its place.
fn found(directory: &Path, pattern: &str) -> String {
    let text = format!("[tasks.a]\neach = {{ f = {{ glob = '{pattern}' }} }}\nrun = 'x {{f}}'\n");
    match read_bytes(Path::new("x"), text.as_bytes(), directory, &Functions::built_in()) {
        Ok(graph) => shell_lines(&graph).join(" ").replace("x ", ""),
        Err(error) => error.problem.to_string(),
    }
}

#[test]
fn patterns_walk_directories_and_follow_no_links_into_circles() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let root = directory.path().join("[odd]*");
    std::fs::create_dir_all(root.join("a/b")).unwrap();
    std::fs::create_dir(root.join(".git")).unwrap();
    for name in ["1.dat", "a/2.dat", "a/b/3.dat", ".git/4.dat", "a/.5.dat", "a/b.txt"] {
        std::fs::write(root.join(name), "").unwrap();
    }
    std::os::unix::fs::symlink(&root, root.join("a/circle")).unwrap();
    let check = |pattern: &str, expected: &str| assert_eq!(found(&root, pattern), expected, "{pattern}");
    check("*.dat", "1.dat");
    check("*/*.dat", "a/2.dat");
    check("**/*.dat", "1.dat a/2.dat a/b/3.dat");
    check("**/b/**/*.dat", "a/b/3.dat");
    check("**/**/?.dat", "1.dat a/2.dat a/b/3.dat");
    check("a/**", "a/2.dat a/b.txt a/b/3.dat a/circle");
    check("a/circle/*.dat", "a/circle/1.dat");
    check("[12]*/*", "`f` in `each` of task `a` has no elements: no file matches `[12]*/*`");
    check("[a/b]*", "`[a/b]*` is no pattern: invalid range pattern");
    check("a/../*.dat", "1.dat");
    check("a/2.dat", "a/2.dat");
}

#[test]
fn names_that_are_not_utf8_are_in_the_way_only_where_they_match() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let temporary = tempfile::tempdir().expect("a temporary directory can be made");
    let directory = temporary.path();
    std::fs::create_dir(directory.join("d")).unwrap();
    std::fs::write(directory.join("d/a.dat"), "").unwrap();
    std::fs::write(directory.join("d").join(OsStr::from_bytes(b"bad\xff.bin")), "").unwrap();
    let odd = directory.join(OsStr::from_bytes(b"e\xfe"));
    std::fs::create_dir(&odd).unwrap();
    std::fs::write(odd.join("c.txt"), "").unwrap();
    for pattern in ["d/*.dat", "*/*.dat", "**/*.dat", "d/[!b]*"] {
        assert_eq!(found(directory, pattern), "d/a.dat", "{pattern}");
    }
    let shown = directory.display();
    for pattern in ["d/*", "d/*.bin", "d/bad?.bin", "**/b*"] {
        let expected =
            format!("`{pattern}` matches `bad\\xff.bin` in `{shown}/d`, and that name is not UTF-8 text");
        assert_eq!(found(directory, pattern), expected);
    }
    let expected = format!("`*/c.txt` matches `e\\xfe` in `{shown}`, and that name is not UTF-8 text");
    assert_eq!(found(directory, "*/c.txt"), expected);
    let task = |inputs: &str| {
        let text = format!("[tasks.a]\ninputs = '{inputs}'\nrun = 'x {{inputs}}'\n");
        read_bytes(Path::new("x"), text.as_bytes(), directory, &Functions::built_in())
    };
    assert_eq!(shell_lines(&task("d/*.dat").unwrap()), ["x d/a.dat"]);
    let error = task("d/*").unwrap_err().report();
    assert!(error.contains("`bad\\xff.bin`") && error.contains("hint: rename it"), "{error}");
}

#[test]
fn a_file_that_is_not_there_says_so() {
    let error = read(Path::new("nothing.toml"), &Functions::built_in()).unwrap_err();
    assert_eq!(error.report(), "error: cannot read `nothing.toml`: no such file or directory\n");
}

#[test]
fn a_hundred_thousand_single_tasks_are_read_in_seconds() {
    for json in [false, true] {
        let mut text = String::from(if json { "{\"tasks\": {\"x0\": {\"call\": \"noop\"}" } else { "" });
        for number in 1..100_000_u64 {
            // Names in no order, which is the hard case for an index.
            let name = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            text += &match json {
                true => format!(",\n\"x{name}\": {{\"call\": \"noop\"}}"),
                false => format!("[tasks.x{name}]\ncall = \"noop\"\n"),
            };
        }
        text += if json { "}}" } else { "" };
        let started = std::time::Instant::now();
        let graph = read_bytes(Path::new("x"), text.as_bytes(), Path::new("/"), &Functions::built_in());
        assert!(graph.unwrap_or_else(|error| panic!("{error}")).len() >= 99_999);
        let took = started.elapsed();
        assert!(took.as_secs() < 20, "{took:?}");
        eprintln!("json {json}: {took:?}");
    }
}

/// Every example of the reference, up to the directory's files that it mentions.
#[test]
fn the_examples_of_the_reference_can_be_read() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::create_dir(directory.path().join("parts")).unwrap();
    for name in ["lambda.fa", "parts/00.fq", "parts/01.fq", "list.txt"] {
        std::fs::write(directory.path().join(name), "a\nb\n").unwrap();
    }
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/graph-files.md")).unwrap();
    let mut count = 0;
    for kind in ["toml", "json"] {
        for example in page.split(&format!("```{kind}\n")).skip(1) {
            let example = example.split("```").next().unwrap_or_default();
            let graph =
                read_bytes(Path::new(kind), example.as_bytes(), directory.path(), &Functions::built_in());
            if let Err(error) = graph {
                panic!("{}{example}", error.report());
            }
            count += 1;
        }
    }
    assert!(count >= 7, "only {count} examples");
}
