//! The graphs of `examples/` give what they say: the variants of the lambda phage are the same
//! serially, alone and under mpirun, and the tutorial's graphs have the values of their comments.
//!
//! Nothing is skipped: a test that lacks a tool fails and says how to get it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use harness::{Place, Ranks, require};
use tempfile::TempDir;

mod harness;

/// What the graph of the tutorial promises at least; it finds 88.
const VARIANTS_MIN: usize = 20;

// ---------------------------------------------------------------- variants

#[test]
fn the_serial_pipeline_finds_variants() {
    let count = serial_records().lines().count();
    assert!(count >= VARIANTS_MIN, "only {count} variants");
}

#[test]
fn dagmar_alone_finds_the_variants_of_the_serial_pipeline() {
    let place = variants_place();
    place.expect(0, Ranks::Alone, &["run", "variants.toml"]);
    assert_eq!(records(&place.path().join("work/variants.vcf")), serial_records());
}

#[cfg(feature = "mpi")]
#[test]
fn dagmar_under_mpirun_finds_the_variants_of_the_serial_pipeline() {
    let place = variants_place();
    place.expect(0, Ranks::Mpi(3), &["run", "variants.toml"]);
    assert_eq!(records(&place.path().join("work/variants.vcf")), serial_records());
}

/// A folder of its own with the graph and the data, so that runs do not meet.
fn variants_place() -> Place {
    let place = Place::new();
    fs::copy(example("variants/variants.toml"), place.path().join("variants.toml"))
        .expect("the graph is copied");
    symlink(fetched_data(), place.path().join("data")).expect("the data is linked");
    place
}

fn serial_records() -> &'static str {
    static RECORDS: OnceLock<String> = OnceLock::new();
    RECORDS.get_or_init(|| {
        fetched_data();
        let place = TempDir::new().expect("a temporary folder");
        let serial = bounded(Command::new(example("variants/serial.sh")).arg(place.path()));
        assert_success("serial.sh", &serial);
        records(&place.path().join("variants.vcf"))
    })
}

/// The records of a VCF file without its header, which names dates and paths.
fn records(path: &Path) -> String {
    let view = bounded(Command::new("bcftools").args(["view", "-H"]).arg(path));
    assert_success(&format!("bcftools view -H {}", path.display()), &view);
    text(&view.stdout)
}

fn fetched_data() -> &'static Path {
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| {
        ["bowtie2", "samtools", "bcftools"].into_iter().for_each(require);
        assert_success("examples/variants/fetch", &bounded(&mut Command::new(example("variants/fetch"))));
        example("variants/data")
    })
}

// ---------------------------------------------------------------- the tutorial

/// A graph, a key, and the value that the graph's first comment promises.
const TUTORIAL: &[(&str, &str, &str)] = &[
    ("first.toml", "total", "8"),
    ("first.toml", "sum", "30"),
    ("add.toml", "total", "8"),
    ("add.json", "total", "8"),
    ("sum.toml", "total", "6"),
    ("map.toml", "result", "[4,5,6,7]"),
    ("map.json", "result", "[4,5,6,7]"),
    ("map.toml", "add_two[3]", "5"),
    ("reduce.toml", "total", "6"),
    ("hello.toml", "shout", "HELLO, WORLD"),
    ("hello.toml", "twice", "20"),
];

#[test]
fn the_graphs_of_the_tutorial_have_their_values_alone() {
    check_tutorial(Ranks::Alone);
}

#[cfg(feature = "mpi")]
#[test]
fn the_graphs_of_the_tutorial_have_their_values_under_mpirun() {
    check_tutorial(Ranks::Mpi(3));
}

fn check_tutorial(ranks: Ranks) {
    let place = Place::new();
    for (graph, key, value) in TUTORIAL {
        let path = example(graph);
        let run = place.expect(0, ranks, &["run", path.to_str().expect("a path in UTF-8"), key]);
        assert_eq!(run.text().trim_end(), *value, "{graph} {key}");
    }
}

// ---------------------------------------------------------------- running programs

/// Runs a command to its end, or for five minutes: a hang is a failure, not a wait.
fn bounded(command: &mut Command) -> Output {
    let mut timed = Command::new("timeout");
    timed.args(["-k", "10", "300"]).arg(command.get_program()).args(command.get_args());
    timed.stdin(std::process::Stdio::null()).output().expect("`timeout` of the coreutils starts")
}

fn assert_success(what: &str, output: &Output) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let hang = if output.status.code() == Some(124) { " (it hung)" } else { "" };
    assert!(output.status.success(), "{what}: {}{hang}\nstdout:\n{stdout}\nstderr:\n{stderr}", output.status);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}
