//! Random strings through every field: each is refused, or arrives as it is and changes nothing else.
//!
//! What arrives is read back from the script: directives as `sbatch` and `qsub` take them apart, the
//! rest by a real bash that evaluates many scripts in one process. `DAGMAR_CASES` says how many strings
//! (3,000 if nothing is said), `DAGMAR_SEED` with which seed.

use std::collections::BTreeMap;
use std::env;
use std::path::Path;

use dagmar::launch::batch::System;
use dagmar::launch::field::{FIELDS, Field, Kind, Spelling};
use dagmar::launch::given::{Given, Source, Typed, Value};
use dagmar::launch::plan::LaunchPlan;
use dagmar::launch::request::{Request, may_be_typed};
use dagmar::launch::script::{ScriptContext, render};
use dagmar::launch::template::{Places, Template};

use super::asking::{MARK, RUN};
use super::reading::{self, Shell};

/// One string on its way through one field.
struct Trial {
    system: System,
    field: &'static str,
    text: String,
}

/// A template in which everything is said that other fields lean on, so that each can be tried alone.
fn template(system: System) -> Template {
    let mut template = Template::find(system.name(), &Places::default()).unwrap();
    let mut say = |field, value| {
        template.values.insert(field, Given { value, source: Source::Own("the test"), layer: 0 });
    };
    say("gpus_per_node", Value::Count(2));
    say("sockets_per_node", Value::Count(2));
    say("mail.user", Value::Text("ada@example.org".into()));
    template
}

fn value_of(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Variables => Value::Pairs([("GREETING".to_owned(), text.to_owned())].into()),
        Kind::Amounts => Value::Amounts([(text.to_owned(), 1)].into()),
        kind if kind.is_list() => Value::List(vec![text.to_owned()]),
        _ => Value::Text(text.to_owned()),
    }
}

/// The request that says `text` in a field; by flag and by template the answers must be the same.
fn request(template: &Template, field: &Field, text: &str) -> Option<Request> {
    let mut said = template.clone();
    let value = value_of(field.kind, text);
    said.values.insert(field.name, Given { value, source: Source::Own("the test"), layer: 9 });
    let by_template = Request::new(&said, &[]).ok();
    let splits = matches!(field.kind, Kind::Export | Kind::Modules | Kind::Fields | Kind::Choices(_));
    if may_be_typed(field) && !splits && !matches!(field.kind, Kind::Count | Kind::Flag | Kind::Workers) {
        let typed = match field.kind {
            Kind::Variables => Typed::new("environment.variables.GREETING", text, "--set"),
            _ => Typed::new(field.name, text, "--set"),
        };
        let by_flag = Request::new(template, &[typed]).ok();
        assert_eq!(by_flag.is_some(), by_template.is_some(), "{}: {text:?}", field.name);
    }
    by_template
}

fn context<'a>(run: &'a Path, program: &'a Path) -> ScriptContext<'a> {
    ScriptContext { run, program, name: "variants-0007", mark: MARK }
}

/// Pieces that break careless scripts.
const PIECES: &[&str] = &[
    "\n",
    "\n#SBATCH --nodes=99\n",
    "\n#PBS -l nodes=99\n",
    "#SBATCH",
    " #",
    "#",
    "\"",
    "'",
    "\\",
    "\\\n",
    "$(touch /tmp/x)",
    "`id`",
    "$HOME",
    "${IFS}",
    "-",
    "--",
    "-n",
    " ",
    "\t",
    "%",
    "%j",
    "%%",
    "\0",
    "\r",
    ";",
    "&",
    "|",
    "\u{fc}",
    "\u{2028}",
    "\u{202e}",
    "\u{1f600}",
    "a",
    "Z",
    "0",
    "7",
    "_",
    ".",
    ",",
    ":",
    "=",
    "[1-3]",
    "@",
    "+",
    "/",
    "(",
    ")",
    "*",
    "!",
    "~",
    "{{ 7 }}",
    "{% raw %}",
    "\u{1b}[31m",
    "\u{7f}",
    "EOF\n",
    "afterok:12",
    "bash",
    "#!/bin/bash",
    "2h",
    "64GB",
    "n01",
    "rome",
];

fn random_text(random: &mut fastrand::Rng) -> String {
    match random.u8(..20) {
        0 => "x".repeat(random.usize(..10_000)),
        1 => (0..random.usize(..40)).map(|_| random.char(..)).collect(),
        2..=6 => likely_text(random),
        _ => (0..random.usize(..8)).map(|_| PIECES[random.usize(..PIECES.len())]).collect(),
    }
}

/// Letters, digits and a little more, so that many strings pass.
fn likely_text(random: &mut fastrand::Rng) -> String {
    let letters = b"abcXYZ0189_.-+ :,=/@";
    (0..=random.usize(..12)).map(|_| letters[random.usize(..letters.len())] as char).collect()
}

#[test]
fn every_string_is_refused_or_arrives_unchanged() {
    let number = |name: &str, usual| env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (cases, seed) = (number("DAGMAR_CASES", 3_000), number("DAGMAR_SEED", fastrand::u64(..)));
    println!("DAGMAR_SEED={seed} DAGMAR_CASES={cases} cargo test --test job_scripts every_string");
    let mut random = fastrand::Rng::with_seed(seed);
    let systems = [System::Slurm, System::Pbs, System::Torque];
    let templates: BTreeMap<System, Template> =
        systems.into_iter().map(|system| (system, template(system))).collect();
    let plain: BTreeMap<System, String> =
        systems.into_iter().map(|system| (system, script(&templates[&system]))).collect();
    let tried: Vec<&Field> = FIELDS.iter().filter(|field| is_tried(field)).collect();
    let (mut passed, mut shell) = (BTreeMap::<&str, usize>::new(), Shell::start());
    for turn in 0..cases {
        let system = systems[random.usize(..3)];
        let field = tried[turn as usize % tried.len()];
        let trial = Trial { system, field: field.name, text: random_text(&mut random) };
        let Some(request) = request(&templates[&system], field, &trial.text) else { continue };
        *passed.entry(field.name).or_default() += 1;
        check_arrival(&trial, field, &request, &plain[&system], &mut shell);
    }
    shell.finish();
    let total: usize = passed.values().sum();
    println!("{cases} strings, {total} passed: {passed:?}");
    assert!(total * 20 > cases as usize, "only {total} strings passed: the test shows nothing");
}

/// Files are not there, and a batch system cannot be random.
fn is_tried(field: &Field) -> bool {
    !["batch_system", "job_script", "require", "form"].contains(&field.name)
        && !matches!(field.kind, Kind::Flag | Kind::Count)
}

fn script(template: &Template) -> String {
    let request = Request::new(template, &[]).unwrap();
    render(&request, &context(Path::new(RUN), Path::new("/opt/dagmar"))).unwrap()
}

fn check_arrival(trial: &Trial, field: &Field, request: &Request, plain: &str, shell: &mut Shell) {
    let story = || format!("{} {} = {:?}", trial.system, trial.field, trial.text);
    let program = Path::new("/opt/dagmar");
    let Ok(script) = render(request, &context(Path::new(RUN), program)) else {
        assert_eq!(field.kind, Kind::Path, "only a path can be too long for its line: {}", story());
        return;
    };
    let prefix = if trial.system == System::Slurm { "#SBATCH" } else { "#PBS" };
    // The user's own option may be anything: it stays on its line, and is there word for word.
    if field.kind == Kind::Directives {
        let line = format!("{prefix} {}", trial.text);
        let (ours, theirs): (Vec<&str>, Vec<&str>) = script.lines().partition(|at| *at == line);
        assert_eq!(ours.len(), 1, "{}\n{script}", story());
        assert_eq!(theirs, plain.lines().collect::<Vec<_>>(), "{}", story());
        return;
    }
    // A template's own shell lines stand there word for word, behind the directives.
    if field.kind == Kind::Lines {
        check_lines(trial, field, request, &script, plain);
        return;
    }
    let (is, was) = (reading::directives(&script, prefix), reading::directives(plain, prefix));
    let changed: Vec<&Vec<String>> = is.iter().filter(|words| !was.contains(words)).collect();
    let gone = was.iter().filter(|words| !is.contains(words)).count();
    assert!(changed.len() <= 1 + usize::from(field.kind == Kind::Workers), "{}: {changed:?}", story());
    if is_in_a_directive(field, trial.system) && field.name != "remove" {
        assert!(is.len() <= was.len() + 1 && gone <= 1, "{}: {is:?}", story());
        let arrived = is.iter().any(|words| words.iter().any(|word| carries(trial, field, word)));
        assert!(arrived, "{} did not arrive: {is:?}", story());
    } else if field.name != "remove" {
        assert_eq!(changed.len(), 0, "{}: {changed:?}", story());
    }
    match field.kind {
        Kind::Variables => shell.expect_variable(&script, "GREETING", &trial.text, story()),
        Kind::Modules => shell.expect_module(&script, &trial.text, story()),
        Kind::Words | Kind::Place => check_plan(request, &story()),
        Kind::Shebang => assert_eq!(script.lines().next(), Some(trial.text.as_str()), "{}", story()),
        _ => shell.expect_same_commands(&script, plain, story()),
    }
}

fn is_in_a_directive(field: &Field, system: System) -> bool {
    matches!(field.spelling(system), Spelling::Line(_))
}

/// True if a word of a directive holds the string, exactly, behind its option.
fn carries(trial: &Trial, field: &Field, word: &str) -> bool {
    let behind = word.split_once('=').map_or(word, |(_, behind)| behind);
    let text = trial.text.as_str();
    match field.kind {
        Kind::FreeText => behind == format!("{text} {MARK}"),
        Kind::Path if trial.system == System::Slurm => {
            behind == Path::new(RUN).join(text.replace('%', "%%")).to_str().unwrap()
        }
        Kind::Path => word == Path::new(RUN).join(text).to_str().unwrap(),
        Kind::Word => behind == format!("{text}:2"),
        Kind::Constraint if trial.system != System::Slurm => word.ends_with(&format!(":{text}")),
        // Spelled in the batch system's way.
        Kind::Time
        | Kind::Memory
        | Kind::Size
        | Kind::Choice(_)
        | Kind::Choices(_)
        | Kind::Export
        | Kind::Workers => true,
        _ => behind == text || word == text || word.strip_prefix("depend=") == Some(text),
    }
}

fn check_lines(trial: &Trial, field: &Field, request: &Request, script: &str, plain: &str) {
    if matches!(field.name, "node_start" | "node_stop") {
        assert_eq!(script, plain, "{} = {:?}", field.name, trial.text);
        return check_plan(request, field.name);
    }
    let at =
        script.find(&format!("\n{}\n", trial.text)).unwrap_or_else(|| panic!("{:?}: {script}", trial.text));
    let prefix = if trial.system == System::Slurm { "#SBATCH" } else { "#PBS" };
    let last = reading::directives(plain, prefix).len();
    assert_eq!(reading::directives(script, prefix).len(), last, "{:?}", trial.text);
    assert!(script[..at].contains(MARK), "the lines stand before the directives");
}

/// What does not stand in the script comes through the plan, as it is.
fn check_plan(request: &Request, story: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("launch.toml");
    let plan = request.launch_plan("/opt/dagmar");
    plan.write(&path).unwrap();
    assert_eq!(LaunchPlan::read(&path).unwrap(), plan, "{story}");
}

#[test]
fn paths_of_runs_and_programs_are_refused_or_arrive_unchanged() {
    let mut random = fastrand::Rng::with_seed(7);
    let request = Request::new(&template(System::Slurm), &[]).unwrap();
    let mut shell = Shell::start();
    let mut passed = 0;
    for _ in 0..2000 {
        let text = format!("/home/{}", random_text(&mut random));
        let (run, program) = (Path::new(&text), Path::new("/opt/a b/it's"));
        let Ok(script) = render(&request, &context(run, program)) else { continue };
        passed += 1;
        shell.expect_launch(&script, program.to_str().unwrap(), &text);
        let directives = reading::directives(&script, "#SBATCH");
        let output = format!("--output={}", run.join("batch.out").to_str().unwrap().replace('%', "%%"));
        assert!(directives.contains(&vec![output]), "{text:?}: {directives:?}");
        assert_eq!(directives.len(), 10, "{text:?}: {directives:?}");
    }
    shell.finish();
    assert!(passed > 200, "only {passed} passed");
}
