//! What is tortured.

use std::fs;
use std::path::PathBuf;

use super::harness::{Place, Ran, Ranks};
use super::verdict::Verdict;

/// The longest life of a run of rows that is to be killed, for each 250 rows; and of one of the example.
const LIFE_MS_MAX: u64 = 200;
const LIFE_OF_VARIANTS_MS_MAX: u64 = 4_000;
/// Tasks of the example: all are commands, and so durable in the end.
const VARIANTS_TASKS: u64 = 40;

/// A graph whose result is known.
pub enum Subject {
    /// So many rows of four tasks, which know how often they were begun; one number comes out.
    Rows(u64),
    /// `examples/variants`, whose tasks hand on files; these lines come out.
    Variants(Vec<String>),
}

impl Subject {
    /// The example, and what an undisturbed run of it says.
    pub fn variants() -> Self {
        let place = variants();
        place.expect(0, Ranks::Mpi(3), &["run", "g.toml", "--quiet"]);
        Subject::Variants(found(&place))
    }

    /// A folder with the graph and what it reads.
    pub fn place(&self) -> Place {
        match self {
            Subject::Rows(rows) => Place::with(&graph_of_rows(*rows)),
            Subject::Variants(_) => variants(),
        }
    }

    /// What is asked for.
    pub fn keys(&self) -> &'static [&'static str] {
        match self {
            Subject::Rows(_) => &["total"],
            Subject::Variants(_) => &[],
        }
    }

    /// How long a run may live that is to be killed.
    pub fn life_ms_max(&self) -> u64 {
        match self {
            Subject::Rows(rows) => LIFE_MS_MAX * rows / 250,
            Subject::Variants(_) => LIFE_OF_VARIANTS_MS_MAX,
        }
    }

    /// The run has ended well: the result is what it must be, and all that was to be kept is.
    pub fn check_end(&self, place: &Place, ran: &Ran, verdict: &Verdict) {
        match self {
            Subject::Rows(rows) => {
                let total = rows * (rows + 1) / 2 + 2 * rows;
                assert_eq!(ran.text().trim(), total.to_string(), "{ran}");
                verdict.check_more_durable_than(*rows);
            }
            Subject::Variants(lines) => {
                assert_eq!(found(place), *lines, "{ran}");
                verdict.check_more_durable_than(VARIANTS_TASKS - 1);
            }
        }
    }
}

fn variants() -> Place {
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/variants");
    let data = example.join("data");
    assert!(data.is_dir(), "`{}` is missing: examples/variants/fetch gets it", data.display());
    let graph = fs::read_to_string(example.join("variants.toml")).expect("it is a text");
    // Killed programs are tried again in the same life.
    let place = Place::with(&graph.replace("retries = 1\n", "retries = 9\n"));
    std::os::unix::fs::symlink(data, place.path().join("data")).expect("a link can be made");
    place
}

/// The variants, without the lines on how they were found.
fn found(place: &Place) -> Vec<String> {
    let lines: Vec<String> = place
        .read("work/variants.vcf")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    assert!(!lines.is_empty());
    lines
}

/// Rows of a command, a function that takes time, and two that add up; the sum of all is asked for.
fn graph_of_rows(rows: u64) -> String {
    format!(
        r#"
name = "torture"

[tasks.c]
each = {{ i = "1..{rows}" }}
run = ["sh", "-c", "echo $1 $2 >> started; [ $(($1 % 40)) != 0 ] || sleep 0.1; echo $1", "sh", "{{i}}", "{{attempt}}"]
retries = 9

[tasks.w]
each = {{ i = "1..{rows}" }}
call = "spin"
args = [0.0005]

[tasks.g]
each = {{ i = "1..{rows}" }}
call = "add"
args = ["@c[{{i}}]", 1]

[tasks.t]
each = {{ i = "1..{rows}" }}
call = "add"
args = ["@g[{{i}}]", 1]
after = ["w[{{i}}]"]

[tasks.total]
call = "sum"
args = ["@t"]
"#
    )
}
