//! Graphs of known shape have the outputs that their arithmetic promises.

use dagmar::client::formats::make::{Shape, Size, expected};
use dagmar::core::value::Value;

use crate::harness::{BOTH, Place, Ranks, json_lines};

/// Makes a graph, runs it, asks for its sinks, and compares them with what they must be worth.
fn check(ranks: Ranks, shape: Shape, size: Size, sinks: &[String]) {
    let place = Place::new();
    let (name, width, steps) = (shape.to_string(), size.width.to_string(), size.steps.to_string());
    place.expect(0, Ranks::Alone, &["graph", "make", &name, "--width", &width, "--steps", &steps, "-o", "g"]);
    let mut arguments = vec!["run".to_owned(), "g".to_owned()];
    arguments.extend_from_slice(sinks);
    let run = place.expect(0, ranks, &arguments);
    let expected = expected(shape, size).expect("the size is possible");
    let lines = json_lines(&run.stdout);
    assert_eq!(lines.len(), expected.len(), "{name} {ranks:?}");
    for (line, expected) in lines.iter().zip(&expected) {
        // One task alone is printed as it is, an array as objects, even of one element.
        let value = line.get("value").unwrap_or(line);
        assert_eq!(*value, as_json(expected), "{name} {ranks:?} {line}");
    }
}

fn as_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Int(number) => (*number).into(),
        other => panic!("no shape gives {other:?}"),
    }
}

fn size(width: u32, steps: u32) -> Size {
    Size { width, steps, seed: 0 }
}

/// The keys of a last step.
fn last_points(size: Size) -> Vec<String> {
    (0..size.width).map(|point| format!("point[{},{point}]", size.steps - 1)).collect()
}

#[test]
fn a_hundred_thousand_tasks_have_their_outputs() {
    BOTH.into_iter().for_each(|ranks| check(ranks, Shape::Trivial, size(100_000, 1), &["task".into()]));
}

#[test]
fn a_million_tasks_all_finish() {
    for ranks in BOTH {
        let place = Place::new();
        place.expect(0, Ranks::Alone, &["graph", "make", "trivial", "--width", "1000000", "-o", "g"]);
        place.expect(0, ranks, &["run", "g"]).tells("1000000 tasks finished");
        let status = place.status();
        assert_eq!(status["report"]["tasks"]["finished"], 1_000_000, "{status}");
        assert_eq!(status["groups"][0]["finished"], 1_000_000, "{status}");
    }
}

#[test]
fn a_chain_of_ten_thousand_counts_to_ten_thousand() {
    let size = size(1, 10_000);
    BOTH.into_iter().for_each(|ranks| check(ranks, Shape::Chain, size, &last_points(size)));
}

#[test]
fn a_chain_that_nests_its_values_ends_at_a_depth() {
    let place = Place::with("[tasks.a]\neach = { i = '1..20000' }\ncall = 'list'\nargs = ['@a[{i-1}]?']\n");
    for ranks in BOTH {
        let run = place.expect(3, ranks, &["run", "g.toml"]);
        run.tells(": its value is nested more than 128 levels deep");
        let tasks = &place.status()["report"]["tasks"];
        assert_eq!((tasks["finished"].as_u64(), tasks["failed"].as_u64()), (Some(128), Some(1)), "{tasks}");
    }
}

#[test]
fn a_tree_counts_its_leaves() {
    let size = size(1 << 15, 1);
    BOTH.into_iter().for_each(|ranks| check(ranks, Shape::Tree, size, &["level_15".into()]));
}

#[test]
fn a_stencil_passes_every_halo() {
    let size = size(1000, 64);
    BOTH.into_iter().for_each(|ranks| check(ranks, Shape::Stencil1d, size, &last_points(size)));
}

#[cfg(feature = "mpi")]
#[test]
fn shapes_with_far_dependencies_are_right_on_many_ranks() {
    for shape in [Shape::Fft, Shape::AllToAll, Shape::Random] {
        let size = size(32, 12);
        check(Ranks::Mpi(5), shape, size, &last_points(size));
    }
}

/// What the shapes with kernels are worth, 13 wide, 20 steps, 50 iterations and 16 bytes: as
/// benches/taskbench_mpi.c and benches/taskbench_omp.c have it.
const CHECKSUMS: [(&str, i64); 12] = [
    ("trivial", -4367490590190357340),
    ("chain", -7013444141123500172),
    ("no_comm", -7013444141123500172),
    ("stencil_1d", -5017453389701851860),
    ("dom", 663653011129896059),
    ("fan_out", 759635883894163228),
    ("fft", -6651728628207026354),
    ("all_to_all", -8488192482523000032),
    ("nearest", -8293989964949833396),
    ("spread", -5162751542237238034),
    ("random_nearest", -4438366548722812453),
    ("random", 1448337262468721347),
];

#[test]
fn kernels_give_what_the_same_patterns_give_in_c() {
    let size = ["--width", "13", "--steps", "20", "--iterations", "50", "--bytes", "16", "-o", "g"];
    for (shape, checksum) in CHECKSUMS {
        let place = Place::new();
        place.expect(0, Ranks::Alone, &[&["graph", "make", shape][..], &size[..]].concat());
        for ranks in BOTH {
            let run = place.expect(0, ranks, &["run", "g", "checksum"]);
            assert_eq!(run.text().trim(), checksum.to_string(), "{shape} {ranks:?}");
        }
    }
}

#[test]
fn kernels_pass_large_outputs_on() {
    let place = Place::new();
    let size = ["--width", "6", "--steps", "9", "--iterations", "1", "--bytes", "1000000", "-o", "g"];
    place.expect(0, Ranks::Alone, &[&["graph", "make", "stencil_1d"][..], &size[..]].concat());
    let sums: Vec<String> = BOTH
        .into_iter()
        .map(|ranks| place.expect(0, ranks, &["run", "g", "checksum"]).text().to_owned())
        .collect();
    assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:?}");
    place.expect(2, Ranks::Alone, &["graph", "make", "tree", "--width", "4", "--iterations", "1"]);
}
