//! The house rules of `src/`: who may import whom, what the core never touches, and which files
//! alone may do what is dangerous or loud.
//!
//! The sources are read as words, without comments and strings; nothing is compiled. Each rule is a
//! function from a source to its violations, a test that runs it over the whole tree, and a test
//! that shows it refusing small bad snippets.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

// ---------------------------------------------------------------- the rules, as tables

/// What each room may import besides itself: rooms, or single modules of a room.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("main", &["cli", "worker::spawner"]),
    (
        "cli",
        &["api", "client", "runtime", "worker", "launch", "observe", "transport", "record", "clock", "core"],
    ),
    ("python", &["client", "launch", "core"]),
    ("api", &["runtime", "client", "core"]),
    ("client", &["runtime", "record", "transport::control", "core"]),
    ("runtime", &["transport", "worker", "record", "clock", "core"]),
    ("worker", &["record", "clock", "core"]),
    ("launch", &["record", "clock", "core"]),
    ("observe", &["record", "clock", "core"]),
    ("transport", &["clock", "core"]),
    ("record", &["clock", "core"]),
    ("clock", &["core"]),
    ("core", &[]),
];

/// Words that have no innocent meaning in the core, and what they stand for.
const NOT_IN_CORE: &[(&str, &[&str])] = &[
    ("files", &["OpenOptions", "BufReader", "BufWriter"]),
    ("sockets", &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "UnixDatagram"]),
    ("threads", &["Mutex", "RwLock", "Condvar", "JoinHandle", "thread_local", "crossbeam_channel"]),
    ("clocks", &["Instant", "SystemTime", "UNIX_EPOCH"]),
    ("maps of random order", &["HashMap", "HashSet", "RandomState"]),
    ("printing", PRINTING),
];

/// Paths that the core never names, here because their last words alone could mean something else.
const NO_PATH_IN_CORE: &[(&str, &[&str])] = &[
    ("files", &["std::fs", "std::io", "glob", "tempfile"]),
    ("sockets", &["std::net", "std::os", "nix", "hostname"]),
    ("threads", &["std::thread", "std::sync::mpsc", "std::sync::atomic", "std::sync::Barrier"]),
    ("the process around it", &["std::env", "std::process", "signal_hook", "clap", "indicatif"]),
    ("MPI", &["mpi"]),
    ("loggers", &["log"]),
];

/// Seeded randomness is welcome in the core's tests, and only there.
const RANDOM_CRATES: &[&str] = &["rand", "fastrand", "getrandom", "proptest"];

const PRINTING: &[&str] = &["println", "eprintln", "print", "eprint", "dbg"];
const MAY_PRINT: &[&str] =
    &["cli/output.rs", "cli/failure.rs", "cli/progress.rs", "worker/spawner.rs", "runtime/panic.rs"];
const MAY_BE_UNSAFE: &[&str] = &[
    "transport/mpi/fence.rs",
    "transport/mpi/fence/failures.rs",
    "transport/mpi/fence/hydra.rs",
    "transport/mpi/bells.rs",
    "record/mapping.rs",
    "worker/allocator.rs",
    "worker/binding.rs",
    "worker/last_words.rs",
    "worker/packet.rs",
    "worker/spawner.rs",
    "runtime/signals.rs",
];
const MAY_READ_THE_TIME: &[&str] = &["clock.rs"];
const MAY_NAME_MPI: &[&str] = &["transport/mpi/fence.rs", "transport/mpi/fence/failures.rs"];

/// A file is one idea. At 500 lines ask which second idea moved in; past this the test asks.
const LINES_MAX: usize = 600;
/// Files that are longer for now, with their length. It may only shrink: lower the figure with the file.
const LONGER_FOR_NOW: &[(&str, usize)] = &[];

/// Names that say nothing about what is inside, or that gather what belongs elsewhere.
const EMPTY_NAMES: &[&str] = &[
    "error", "errors", "util", "utils", "common", "types", "helper", "helpers", "misc", "manager", "handler",
    "data", "info",
];

// ---------------------------------------------------------------- the rules, over the whole tree

#[test]
fn every_room_imports_only_what_stands_below_it() {
    refuse(forbidden_imports);
}

#[test]
fn every_file_and_folder_of_src_is_a_room_of_the_house() {
    refuse(unknown_room);
}

#[test]
fn the_core_is_pure() {
    refuse(impurities_of_the_core);
}

#[test]
fn only_the_clock_reads_the_time() {
    refuse(readings_of_the_time);
}

#[test]
fn only_the_fence_names_the_mpi_crate() {
    refuse(mentions_of_mpi);
}

#[test]
fn unsafe_code_stays_in_its_files() {
    refuse(misplaced_unsafe);
}

#[test]
fn every_unsafe_block_says_why_it_is_safe() {
    refuse(unexplained_unsafe);
}

#[test]
fn only_the_output_files_print() {
    refuse(misplaced_printing);
}

#[test]
fn no_file_is_too_long() {
    refuse(excess_length);
}

#[test]
fn the_list_of_long_files_only_shrinks() {
    let sources = sources();
    let stale: Vec<String> = LONGER_FOR_NOW
        .iter()
        .filter_map(|(path, length)| {
            let now =
                sources.iter().find(|source| source.path == *path).map_or(0, |source| source.lines.len());
            (now < *length).then(|| format!("{path} has {now} lines now, the list says {length}: lower it"))
        })
        .collect();
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

#[test]
fn no_file_has_an_empty_name() {
    refuse(empty_name);
}

// ---------------------------------------------------------------- the rules, one source at a time

fn forbidden_imports(source: &Source) -> Vec<String> {
    let room = source.room();
    if room == "lib" {
        return Vec::new();
    }
    let Some((_, allowed)) = MAY_IMPORT.iter().find(|(name, _)| *name == room) else { return Vec::new() };
    let mut violations = Vec::new();
    for path in source.own_paths() {
        let target = path.segments.first().map_or("", String::as_str);
        let full = path.segments.join("::");
        if target == room {
            continue;
        }
        if !MAY_IMPORT.iter().any(|(name, _)| *name == target) {
            let what = format!("`crate::{full}` goes through the crate root: name the room it lives in");
            violations.push(source.at(path.line, &what));
        } else if !allowed.iter().any(|allowed| is_prefix(allowed, &full)) {
            let may = if allowed.is_empty() { "nothing of ours".into() } else { allowed.join(", ") };
            violations.push(source.at(path.line, &format!("`{room}` may not import `{full}`, only: {may}")));
        }
    }
    violations
}

fn unknown_room(source: &Source) -> Vec<String> {
    let room = source.room();
    let is_known = room == "lib" || MAY_IMPORT.iter().any(|(name, _)| *name == room);
    if is_known { Vec::new() } else { vec![source.at(1, &format!("`{room}` is no room of the house"))] }
}

fn impurities_of_the_core(source: &Source) -> Vec<String> {
    if source.room() != "core" {
        return Vec::new();
    }
    let mut violations = Vec::new();
    for token in &source.tokens {
        let kind = NOT_IN_CORE.iter().find(|(_, words)| words.contains(&token.text.as_str()));
        if let Some((kind, _)) = kind.filter(|(kind, _)| !(*kind == "printing" && token.in_tests)) {
            violations.push(source.at(token.line, &format!("`{}` in the core: no {kind}", token.text)));
        }
    }
    for path in source.foreign_paths() {
        let full = path.segments.join("::");
        let kind = NO_PATH_IN_CORE.iter().find(|(_, roots)| roots.iter().any(|root| is_prefix(root, &full)));
        if let Some((kind, _)) = kind {
            violations.push(source.at(path.line, &format!("`{full}` in the core: no {kind}")));
        }
        if RANDOM_CRATES.iter().any(|name| is_prefix(name, &full)) && !path.in_tests {
            violations.push(source.at(path.line, &format!("`{full}` in the core: no randomness")));
        }
    }
    violations
}

fn readings_of_the_time(source: &Source) -> Vec<String> {
    if MAY_READ_THE_TIME.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let reads = |path: &NamedPath| {
        let words: Vec<&str> = path.segments.iter().map(String::as_str).collect();
        words.ends_with(&["Instant", "now"]) || words.ends_with(&["SystemTime", "now"])
    };
    let readings = source.foreign_paths().into_iter().filter(|path| reads(path) && !path.in_tests);
    readings.map(|path| source.at(path.line, "the time is read by `clock::now` alone")).collect()
}

fn mentions_of_mpi(source: &Source) -> Vec<String> {
    if MAY_NAME_MPI.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let paths = source.foreign_paths().into_iter().filter(|path| ["mpi", "mpi_sys"].contains(&path.root()));
    let mut violations: Vec<String> = paths
        .map(|path| {
            source.at(
                path.line,
                &format!("`{}`: only transport/mpi/fence.rs names the crate", path.segments.join("::")),
            )
        })
        .collect();
    for window in source.tokens.windows(3) {
        if window[0].text == "extern" && window[1].text == "crate" && window[2].text == "mpi" {
            violations.push(
                source.at(window[0].line, "`extern crate mpi`: only transport/mpi/fence.rs names the crate"),
            );
        }
    }
    violations
}

fn misplaced_unsafe(source: &Source) -> Vec<String> {
    if MAY_BE_UNSAFE.contains(&source.path.as_str()) {
        return Vec::new();
    }
    let unsafe_words = source.tokens.iter().filter(|token| token.text == "unsafe");
    unsafe_words.map(|token| source.at(token.line, "`unsafe` is not for this file")).collect()
}

fn unexplained_unsafe(source: &Source) -> Vec<String> {
    source
        .tokens
        .windows(2)
        .filter(|pair| pair[0].text == "unsafe" && ["{", "impl"].contains(&pair[1].text.as_str()))
        .filter(|pair| !source.is_explained(pair[0].line))
        .map(|pair| source.at(pair[0].line, "no comment with `SAFETY:` stands directly above"))
        .collect()
}

fn misplaced_printing(source: &Source) -> Vec<String> {
    if MAY_PRINT.contains(&source.path.as_str()) {
        return Vec::new();
    }
    source
        .tokens
        .windows(2)
        .filter(|pair| PRINTING.contains(&pair[0].text.as_str()) && pair[1].text == "!" && !pair[0].in_tests)
        .map(|pair| source.at(pair[0].line, &format!("`{}!` is not for this file", pair[0].text)))
        .collect()
}

fn excess_length(source: &Source) -> Vec<String> {
    let known = LONGER_FOR_NOW.iter().find(|(path, _)| *path == source.path);
    let length_max = known.map_or(LINES_MAX, |(_, length)| *length);
    let length = source.lines.len();
    if length <= length_max {
        return Vec::new();
    }
    vec![source.at(length, &format!("{length} lines, at most {length_max}: which second idea moved in?"))]
}

fn empty_name(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/');
    let empty = parts.filter(|part| EMPTY_NAMES.contains(part));
    empty.map(|part| source.at(1, &format!("`{part}` names nothing: say what is inside"))).collect()
}

// ---------------------------------------------------------------- sources

struct Source {
    /// Relative to `src/`, or `python/...`.
    path: String,
    lines: Vec<String>,
    tokens: Vec<Token>,
}

/// A word, `::`, or one other character.
struct Token {
    text: String,
    line: usize,
    in_tests: bool,
}

/// A path with at least two segments, or one that was imported.
#[derive(Clone)]
struct NamedPath {
    segments: Vec<String>,
    line: usize,
    in_tests: bool,
    /// The module it is written in.
    module: Vec<String>,
    /// The name that an import binds here.
    binds: Option<String>,
}

impl NamedPath {
    fn root(&self) -> &str {
        self.segments.first().map_or("", String::as_str)
    }
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let mut tokens = tokenize(text);
        let all = path.split('/').any(|part| part == "tests" || part == "tests.rs");
        mark_tests(&mut tokens, all);
        Source { path: path.into(), lines: text.lines().map(String::from).collect(), tokens }
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }

    fn room(&self) -> &str {
        self.path.split('/').next().map_or("", |first| first.trim_end_matches(".rs"))
    }

    fn module(&self) -> Vec<String> {
        let mut parts: Vec<String> = self.path.trim_end_matches(".rs").split('/').map(String::from).collect();
        if ["mod", "lib", "main"].contains(&parts.last().map_or("", String::as_str)) {
            parts.pop();
        }
        parts
    }

    /// The paths that lead into our crate, from its root.
    fn own_paths(&self) -> Vec<NamedPath> {
        let paths = self.paths().into_iter();
        paths.filter_map(|path| Some(NamedPath { segments: self.resolve(&path)?, ..path })).collect()
    }

    /// The paths that lead out of it, with names that this file imported spelled out.
    fn foreign_paths(&self) -> Vec<NamedPath> {
        let paths = self.paths();
        let bound = bound_names(&paths);
        let is_foreign =
            |path: &NamedPath| self.resolve(path).is_none() && !self.declares_module(path.root());
        let mut foreign: Vec<NamedPath> = paths.iter().filter(|path| is_foreign(path)).cloned().collect();
        for path in &mut foreign {
            if let Some(import) = bound.get(path.root()).filter(|import| import.root() != path.root()) {
                path.segments.splice(..1, import.segments.iter().cloned());
            }
        }
        foreign.retain(|path| self.resolve(path).is_none());
        foreign
    }

    fn declares_module(&self, name: &str) -> bool {
        self.tokens.windows(3).any(|window| {
            window[0].text == "mod" && window[1].text == name && [";", "{"].contains(&window[2].text.as_str())
        })
    }

    /// Where a path leads in our crate, or nothing if it leads out of it.
    fn resolve(&self, path: &NamedPath) -> Option<Vec<String>> {
        let mut rest = path.segments.as_slice();
        let is_ours = self.room() != "python";
        let mut base = match path.root() {
            "dagmar" => Vec::new(),
            "crate" if is_ours => Vec::new(),
            "self" | "super" if is_ours => path.module.clone(),
            _ => return None,
        };
        if path.root() != "super" {
            rest = &rest[1..];
        }
        while rest.first().is_some_and(|segment| segment == "super") {
            base.pop();
            rest = &rest[1..];
        }
        base.extend(rest.iter().cloned());
        Some(base)
    }

    /// Every path of the file: imports with their braces taken apart, and paths in the code.
    fn paths(&self) -> Vec<NamedPath> {
        let tokens = &self.tokens;
        let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
        let mut paths = Vec::new();
        let mut module = self.module();
        let mut open_modules = Vec::new();
        let mut depth = 0;
        let mut index = 0;
        while index < tokens.len() {
            let start = index;
            match text(index) {
                "mod" if is_word(text(index + 1)) && text(index + 2) == "{" => {
                    module.push(text(index + 1).into());
                    open_modules.push(depth);
                    index += 2;
                    continue;
                }
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if open_modules.last() == Some(&depth) {
                        open_modules.pop();
                        module.pop();
                    }
                }
                // Not the `use<'a>` of a return type.
                "use" if text(index + 1) != "<" => {
                    index += 1;
                    let first = paths.len();
                    import_tree(tokens, &mut index, &[], &mut paths);
                    for path in &mut paths[first..] {
                        path.module.clone_from(&module);
                    }
                }
                word if is_word(word) && begins_path(tokens, index) => {
                    let mut segments = vec![word.to_string()];
                    while text(index + 1) == "::" && is_word(text(index + 2)) {
                        segments.push(text(index + 2).into());
                        index += 2;
                    }
                    if segments.len() > 1 {
                        let (line, in_tests) = (tokens[start].line, tokens[start].in_tests);
                        paths.push(NamedPath {
                            segments,
                            line,
                            in_tests,
                            module: module.clone(),
                            binds: None,
                        });
                    }
                }
                _ => {}
            }
            index += 1;
        }
        paths
    }

    /// Whether a comment with `SAFETY:` stands on this line, or directly above its statement.
    fn is_explained(&self, line: usize) -> bool {
        let text = |line: usize| self.lines[line - 1].trim();
        if text(line).contains("SAFETY:") {
            return true;
        }
        let is_comment = |line: usize| text(line).starts_with("//");
        let is_attribute = |line: usize| text(line).starts_with("#[");
        let mut above = line - 1;
        while above > 0 && !is_comment(above) && (is_attribute(above) || continues(text(above))) {
            above -= 1;
        }
        let comments = (1..=above).rev().take_while(|line| is_comment(*line));
        comments.into_iter().any(|line| text(line).contains("SAFETY:"))
    }
}

/// Whether a statement goes on after this line.
fn continues(line: &str) -> bool {
    !line.is_empty() && !line.ends_with([';', '{', '}', ','])
}

fn bound_names(paths: &[NamedPath]) -> BTreeMap<String, NamedPath> {
    paths.iter().filter_map(|path| Some((path.binds.clone()?, path.clone()))).collect()
}

fn is_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn is_word(text: &str) -> bool {
    text.starts_with(|character: char| character.is_alphanumeric() || character == '_')
}

/// A word after `::` continues a path, unless nothing stands before the `::` (`::std::fs`).
fn begins_path(tokens: &[Token], index: usize) -> bool {
    let before =
        |distance: usize| index.checked_sub(distance).map_or("", |index| tokens[index].text.as_str());
    before(1) != "::" || !(is_word(before(2)) || before(2) == ">")
}

/// Reads `a::{b, c::d as e, self, *}` from `index` to its end, the `;` or the `,` or `}` around it.
fn import_tree(tokens: &[Token], index: &mut usize, prefix: &[String], paths: &mut Vec<NamedPath>) {
    let mut segments = prefix.to_vec();
    let mut binds = None;
    let (line, in_tests) = tokens.get(*index).map_or((0, false), |token| (token.line, token.in_tests));
    while let Some(token) = tokens.get(*index) {
        match token.text.as_str() {
            "{" => {
                while tokens.get(*index).is_some_and(|token| token.text != "}") {
                    *index += 1;
                    if tokens.get(*index).is_some_and(|token| token.text != "}") {
                        import_tree(tokens, index, &segments, paths);
                    }
                }
                *index += 1;
                return;
            }
            "," | "}" | ";" => break,
            "as" => {
                *index += 1;
                binds = tokens.get(*index).map(|token| token.text.clone());
            }
            // `a::{self}` is `a`.
            "self" if !segments.is_empty() => {}
            "::" => {}
            word => segments.push(word.into()),
        }
        *index += 1;
    }
    if !segments.is_empty() {
        let binds = binds.or_else(|| segments.last().cloned());
        paths.push(NamedPath { segments, line, in_tests, module: Vec::new(), binds });
    }
}

// ---------------------------------------------------------------- words

/// The words and marks of Rust text. Comments, strings, characters and lifetimes are left out.
fn tokenize(text: &str) -> Vec<Token> {
    let characters: Vec<char> = text.chars().collect();
    let at = |index: usize| characters.get(index).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut index = 0;
    while index < characters.len() {
        let end = match (at(index), at(index + 1)) {
            ('/', '/') => end_of_line(&characters, index),
            ('/', '*') => end_of_block_comment(&characters, index),
            ('"', _) => end_of_string(&characters, index),
            ('\'', '\\') => end_of_quoted(&characters, index, '\''),
            ('\'', _) if at(index + 2) == '\'' => index + 3,
            ('\'', _) => end_of_word(&characters, index + 1),
            ('r', '"' | '#') | ('b' | 'c', 'r') if raw_hashes(&characters, index).is_some() => {
                end_of_raw_string(&characters, index)
            }
            // A raw identifier: `r#type`.
            ('r', '#') => index + 2,
            ('b' | 'c', '"') => end_of_string(&characters, index + 1),
            ('b', '\'') => end_of_quoted(&characters, index + 1, '\''),
            (':', ':') => {
                tokens.push(Token { text: "::".into(), line, in_tests: false });
                index + 2
            }
            (first, _) if first.is_alphanumeric() || first == '_' => {
                let end = end_of_word(&characters, index);
                tokens.push(Token { text: characters[index..end].iter().collect(), line, in_tests: false });
                end
            }
            (first, _) => {
                if !first.is_whitespace() {
                    tokens.push(Token { text: first.into(), line, in_tests: false });
                }
                index + 1
            }
        };
        let end = end.min(characters.len());
        line += characters[index..end].iter().filter(|character| **character == '\n').count();
        index = end;
    }
    tokens
}

fn end_of_line(characters: &[char], start: usize) -> usize {
    characters[start..]
        .iter()
        .position(|character| *character == '\n')
        .map_or(characters.len(), |n| start + n)
}

fn end_of_word(characters: &[char], start: usize) -> usize {
    let is_part = |character: &char| character.is_alphanumeric() || *character == '_';
    start + characters[start..].iter().take_while(|character| is_part(character)).count()
}

/// Block comments nest.
fn end_of_block_comment(characters: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut index = start;
    while index + 1 < characters.len() {
        match (characters[index], characters[index + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                index += 1;
                continue;
            }
        }
        index += 2;
        if depth == 0 {
            return index;
        }
    }
    characters.len()
}

fn end_of_string(characters: &[char], start: usize) -> usize {
    end_of_quoted(characters, start, '"')
}

fn end_of_quoted(characters: &[char], start: usize, quote: char) -> usize {
    let mut index = start + 1;
    while index < characters.len() && characters[index] != quote {
        index += if characters[index] == '\\' { 2 } else { 1 };
    }
    index + 1
}

/// How many `#` a raw string has that begins here (`r"`, `br##"`), or nothing if none does.
fn raw_hashes(characters: &[char], start: usize) -> Option<usize> {
    let after_r = start + characters[start..].iter().position(|character| *character == 'r')? + 1;
    let hashes = characters[after_r..].iter().take_while(|character| **character == '#').count();
    (characters.get(after_r + hashes) == Some(&'"')).then_some(hashes)
}

fn end_of_raw_string(characters: &[char], start: usize) -> usize {
    let hashes = raw_hashes(characters, start).expect("the caller saw a raw string");
    let open =
        start + characters[start..].iter().position(|character| *character == '"').expect("it has a quote");
    let mut index = open + 1;
    while index < characters.len() {
        let closes =
            characters[index + 1..].iter().take(hashes).filter(|character| **character == '#').count();
        if characters[index] == '"' && closes == hashes {
            return index + 1 + hashes;
        }
        index += 1;
    }
    characters.len()
}

/// Marks the items that follow `#[cfg(test)]`, or `#[cfg(all(test, ...))]`.
fn mark_tests(tokens: &mut [Token], all: bool) {
    if all {
        tokens.iter_mut().for_each(|token| token.in_tests = true);
    }
    for start in 0..tokens.len() {
        if tokens[start].text != "#" || tokens.get(start + 2).is_none_or(|token| token.text != "cfg") {
            continue;
        }
        let attribute_end = end_of_group(tokens, start + 1);
        let words: Vec<&str> = tokens[start..attribute_end].iter().map(|token| token.text.as_str()).collect();
        if words.contains(&"test") && !words.contains(&"not") && !words.contains(&"any") {
            let end = end_of_item(tokens, attribute_end);
            tokens[start..end].iter_mut().for_each(|token| token.in_tests = true);
        }
    }
}

/// The end of the brackets that open at `start`.
fn end_of_group(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index + 1;
        }
    }
    tokens.len()
}

/// An item ends with its first braces, or with a `;` before them.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut index = start;
    let mut is_import = false;
    while index < tokens.len() {
        match tokens[index].text.as_str() {
            ";" => return index + 1,
            "use" => is_import = true,
            "{" if !is_import => return end_of_group(tokens, index),
            "(" | "[" | "{" => {
                index = end_of_group(tokens, index);
                continue;
            }
            _ => {}
        }
        index += 1;
    }
    tokens.len()
}

// ---------------------------------------------------------------- the tree

fn refuse(rule: fn(&Source) -> Vec<String>) {
    let violations: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

fn sources() -> Vec<Source> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    read_folder(&home.join("src"), "", &mut sources);
    if home.join("python/src").is_dir() {
        read_folder(&home.join("python/src"), "python/", &mut sources);
    }
    assert!(
        sources.len() > 10,
        "only {} sources under {}: is this the house?",
        sources.len(),
        home.display()
    );
    sources
}

fn read_folder(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot read {}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a readable entry").path()).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}{name}/"), sources);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source is readable text");
            sources.push(Source::new(&format!("{prefix}{name}"), &text));
        }
    }
}

// ---------------------------------------------------------------- the rules refuse what they should

/// Runs a rule over snippets: each must be refused exactly as often as its number says.
fn check(rule: fn(&Source) -> Vec<String>, snippets: &[(usize, &str, &str)]) {
    for (count, path, text) in snippets {
        let found = rule(&Source::new(path, text));
        assert_eq!(found.len(), *count, "in {path}:\n{text}\nfound: {found:#?}");
    }
}

#[test]
fn an_import_upwards_is_refused() {
    check(
        forbidden_imports,
        &[
            (1, "core/graph.rs", "use crate::runtime::start;"),
            (1, "core/graph.rs", "use super::super::runtime::start;"),
            (1, "core/graph.rs", "fn f() -> crate::record::Journal { todo() }"),
            (1, "core/graph.rs", "fn f() { let x = Vec::<crate::clock::Clock>::new(); }"),
            (1, "core/mod.rs", "use super::clock;"),
            (1, "worker/store.rs", "use crate::observe::report;"),
            (2, "worker/store.rs", "use crate::{observe::{self, page}, core::id, clock};"),
            (1, "client/connection.rs", "use crate::transport::{control::Socket, mpi};"),
            (1, "client/connection.rs", "use crate::transport;"),
            (1, "clock.rs", "pub use crate::record::Journal as J;"),
            (1, "core/graph.rs", "#[cfg(test)] mod tests { use super::*; use super::super::super::worker; }"),
            (1, "core/graph.rs", "mod inner { mod deeper { use super::super::super::super::worker::x; } }"),
            (1, "main.rs", "fn main() { dagmar::worker::store::open(); dagmar::worker::spawner::start(); }"),
            (1, "record/journal.rs", "macro_rules! m { () => { $crate::cli::main() } }"),
            (1, "record/journal.rs", "fn f<T: ::dagmar::cli::X>() {}"),
            (1, "python/lib.rs", "use crate::cli; use dagmar::client; use dagmar::cli;"),
        ],
    );
}

#[test]
fn an_import_through_the_crate_root_is_refused() {
    check(
        forbidden_imports,
        &[
            (1, "core/graph.rs", "use crate::TaskGraph;"),
            (1, "core/graph.rs", "use crate::*;"),
            (1, "core/graph.rs", "use crate as root;"),
            (1, "core/graph.rs", "use super::super::*;"),
        ],
    );
}

#[test]
fn an_import_downwards_or_sideways_in_a_room_is_allowed() {
    check(
        forbidden_imports,
        &[
            (0, "core/graph.rs", "use super::id; use crate::core::{task, key::{self, Key}}; use std::fmt;"),
            (
                0,
                "core/graph.rs",
                "pub(crate) fn f() {} pub(in crate::core) struct S; mod tests { use super::*; }",
            ),
            (0, "core/scheduler/machine.rs", "use super::super::graph::Graph; use super::tasks;"),
            (0, "client/connection.rs", "use crate::transport::control; use crate::runtime;"),
            (0, "cli/run.rs", "use crate::{api, client, runtime, launch, observe, core}; use super::output;"),
            (0, "main.rs", "use dagmar::cli; fn main() { dagmar::worker::spawner::start() }"),
            (0, "lib.rs", "pub use crate::core::graph::Graph;"),
            (
                0,
                "core/graph.rs",
                "// use crate::runtime;\nconst A: &str = \"crate::cli::main\"; /* crate::cli /* x */ */",
            ),
            (0, "core/graph.rs", "fn f<'a>(x: &'a str) -> impl Fn() + use<'a> { move || () }"),
        ],
    );
}

#[test]
fn a_file_outside_the_house_is_refused() {
    check(
        unknown_room,
        &[
            (1, "helpers/mod.rs", ""),
            (1, "metrics.rs", ""),
            (0, "clock.rs", ""),
            (0, "lib.rs", ""),
            (0, "core/scheduler/tasks.rs", ""),
        ],
    );
}

#[test]
fn an_impure_core_is_refused() {
    check(
        impurities_of_the_core,
        &[
            (1, "core/graph.rs", "use std::fs;"),
            (1, "core/graph.rs", "use std::{fmt, io::{self}};"),
            (1, "core/graph.rs", "fn f() { ::std::thread::yield_now(); }"),
            (1, "core/graph.rs", "use std::net::*;"),
            (2, "core/graph.rs", "use std::net::TcpStream;"),
            (1, "core/graph.rs", "fn f() -> std::time::Instant { panic!() }"),
            (1, "core/time.rs", "use std::time::SystemTime;"),
            (
                3,
                "core/graph.rs",
                "use std::collections::{BTreeMap, HashMap}; type S = HashMap<u8, HashSet<u8>>;",
            ),
            (1, "core/graph.rs", "use std::sync::{Arc, Mutex};"),
            (1, "core/graph.rs", "fn f() { log::info!(\"x\"); }"),
            (2, "core/graph.rs", "use log as notes; fn f() { notes::info!(\"x\"); }"),
            (2, "core/graph.rs", "use std as s; use s::fs; fn f() { s::fs::read(); }"),
            (1, "core/graph.rs", "fn f() { fastrand::u8(..); }"),
            (1, "core/graph.rs", "use mpi::traits::Communicator;"),
            (1, "core/graph.rs", "fn f() { println!(\"x\"); }"),
            (1, "core/graph.rs", "#[cfg(test)] mod tests { use std::fs; }"),
            (1, "core/graph.rs", "#[cfg(not(test))] use fastrand::Rng;"),
        ],
    );
}

#[test]
fn a_pure_core_is_allowed() {
    check(
        impurities_of_the_core,
        &[
            (0, "core/graph.rs", "use std::{collections::BTreeMap, sync::Arc, path::Path};"),
            (0, "core/graph.rs", "fn f(x: f64, process: u8, thread: u8) -> f64 { x.log(2.0) }"),
            (
                0,
                "core/graph.rs",
                "/// Not a HashMap.\nconst A: &[&str] = &[r#\"a \"HashMap\"\"#, b\"Instant\", \"\\\"log::x\"];",
            ),
            (0, "core/graph.rs", "fn f<'log>() { let quote = '\"'; let other = '\\''; } // Mutex"),
            (0, "core/graph.rs", "#[cfg(test)] mod tests { fn f() { fastrand::seed(7); println!(\"x\"); } }"),
            (0, "runtime/start.rs", "use std::thread; use std::collections::HashMap;"),
        ],
    );
}

#[test]
fn reading_the_time_elsewhere_is_refused() {
    check(
        readings_of_the_time,
        &[
            (1, "runtime/start.rs", "use std::time::Instant; fn f() { Instant::now(); }"),
            (1, "runtime/start.rs", "fn f() { std::time::SystemTime::now(); }"),
            (1, "runtime/start.rs", "use std::time::Instant as Moment; fn f() { Moment::now(); }"),
            (0, "record/layout.rs", "fn f(modified: std::time::SystemTime) { crate::clock::now(); }"),
            (0, "runtime/start.rs", "#[cfg(test)] mod tests { fn f() { std::time::Instant::now(); } }"),
            (0, "clock.rs", "fn f() { std::time::Instant::now(); }"),
        ],
    );
}

#[test]
fn the_mpi_crate_elsewhere_is_refused() {
    check(
        mentions_of_mpi,
        &[
            (1, "runtime/start.rs", "use mpi::ffi;"),
            (1, "runtime/start.rs", "fn f() { mpi::initialize(); }"),
            (1, "transport/mod.rs", "fn f() { ::mpi::initialize(); }"),
            (1, "lib.rs", "extern crate mpi;"),
            (1, "runtime/start.rs", "use {mpi::ffi, std::fmt};"),
            (1, "transport/mpi.rs", "mod fence; use fence::World; use mpi::ffi;"),
            (0, "transport/mpi.rs", "mod fence; use fence::World; fn f() { fence::abort(1) }"),
            (1, "transport/mpi/life.rs", "fn f() { mpi::ffi::MPI_Abort(); }"),
            (0, "transport/mpi/fence.rs", "use mpi::ffi::{self, MPI_Comm};"),
            (0, "transport/arrivals.rs", "use super::mpi::fence::Landing;"),
            (0, "transport/mod.rs", "#[cfg(feature = \"mpi\")] pub mod mpi; pub use mpi::MpiEndpoint;"),
            (0, "runtime/start.rs", "use crate::transport::mpi; fn f() { mpi::start() }"),
            (0, "runtime/start.rs", "use crate::transport::{inproc, mpi::{self}}; fn f() { mpi::start() }"),
            (0, "runtime/start.rs", "fn f() { crate::transport::mpi::start() } // mpi::x"),
        ],
    );
}

#[test]
fn unsafe_code_elsewhere_is_refused() {
    check(
        misplaced_unsafe,
        &[
            (1, "core/graph.rs", "fn f() { unsafe { g() } }"),
            (1, "core/graph.rs", "#[cfg(test)] mod tests { unsafe fn g() {} }"),
            (1, "transport/mpi.rs", "fn f() { unsafe { g() } }"),
            (0, "transport/mpi/fence.rs", "fn f() { unsafe { g() } }"),
            (0, "worker/binding.rs", "unsafe fn g() {}"),
            (0, "core/graph.rs", "#![forbid(unsafe_code)] // unsafe\nconst A: &str = \"unsafe\";"),
        ],
    );
}

#[test]
fn an_unsafe_block_without_a_reason_is_refused() {
    check(
        unexplained_unsafe,
        &[
            (1, "worker/binding.rs", "fn f() {\n    unsafe { g() }\n}"),
            (1, "worker/binding.rs", "// SAFETY: of another.\nfn f() {}\nfn h() {\n    unsafe { g() }\n}"),
            (1, "worker/binding.rs", "unsafe impl Send for X {}"),
            (
                1,
                "worker/binding.rs",
                "fn f() {\n    // SAFETY: one.\n    unsafe { g() };\n    unsafe { g() }\n}",
            ),
            (
                0,
                "worker/binding.rs",
                "fn f() {\n    // SAFETY: no pointer is kept,\n    // as the call copies.\n    let x =\n        unsafe { g() };\n}",
            ),
            (
                0,
                "worker/binding.rs",
                "// SAFETY: it owns what it points to.\n#[allow(unsafe_code)]\nunsafe impl Send for X {}",
            ),
            (0, "worker/binding.rs", "type F = unsafe extern \"C\" fn();"),
        ],
    );
}

#[test]
fn printing_elsewhere_is_refused() {
    check(
        misplaced_printing,
        &[
            (1, "cli/run.rs", "fn f() { println!(\"x\"); }"),
            (2, "runtime/start.rs", "fn f() { dbg!(1); std::eprintln!(); }"),
            (
                0,
                "runtime/start.rs",
                "fn f() { writeln!(x); let print = 1; } #[cfg(test)] mod tests { fn g() { print!(); } }",
            ),
            (1, "runtime/start.rs", "#[cfg(test)] use std::{fmt, fs}; fn g() { print!(); }"),
            (
                1,
                "runtime/start.rs",
                "#[cfg(test)] #[allow(x)] fn f(a: [u8; 2]) { print!(); } fn g() { print!(); }",
            ),
            (0, "cli/output.rs", "fn f() { println!(); }"),
            (0, "runtime/panic.rs", "fn f() { eprintln!(); }"),
        ],
    );
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    let long = "\n".repeat(LINES_MAX + 1);
    let full = "\n".repeat(LINES_MAX);
    check(excess_length, &[(1, "core/graph.rs", &long), (0, "core/graph.rs", &full)]);
}

#[test]
fn an_empty_name_is_refused() {
    check(
        empty_name,
        &[
            (1, "core/errors.rs", ""),
            (1, "cli/utils/mod.rs", ""),
            (1, "worker/types.rs", ""),
            (0, "core/graph.rs", ""),
            (0, "record/journal.rs", ""),
        ],
    );
}

#[test]
fn violations_name_their_line() {
    let source =
        Source::new("core/graph.rs", "/* one\ntwo */\nconst A: &str = \"three\nfour\";\nuse crate::cli;\n");
    assert_eq!(
        forbidden_imports(&source),
        ["core/graph.rs:5: `core` may not import `cli`, only: nothing of ours"]
    );
}
