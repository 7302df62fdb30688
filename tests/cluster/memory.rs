//! Outputs within their memory: what is too much goes to the disk and comes back, and what nobody needs is gone.

use std::path::Path;

use serde_json::Value;

use crate::harness::{BOTH, Place, Ranks, json};

fn array() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/array.toml");
    path.to_str().expect("the path of this repository is text").to_owned()
}

/// Runs a graph, and gives the report of the run and the first output asked for.
fn report(place: &Place, code: i32, ranks: Ranks, arguments: &[&str]) -> (Value, Value) {
    let all: Vec<&str> = ["run", "--output", "json"].into_iter().chain(arguments.iter().copied()).collect();
    let told = json(&place.expect(code, ranks, &all).stdout);
    (told["report"].clone(), told["outputs"][0]["value"].clone())
}

#[test]
fn an_array_four_times_the_memory_limit_is_summed_twice() {
    let place = Place::new();
    for (ranks, limit) in BOTH.into_iter().zip(["64MiB", "32MiB"]) {
        let limits = [&array(), "check", "--memory-limit", limit];
        let (report, check) = report(&place, 0, ranks, &limits);
        assert_eq!(check, 598_134_254_206_976_i64, "{ranks:?}");
        for moved in ["spilled_bytes", "read_back_bytes"] {
            assert!(report[moved].as_u64() > Some(20_000_000), "{ranks:?}: {report}");
        }
    }
}

#[test]
fn without_a_limit_that_is_reached_nothing_is_written() {
    let place = Place::new();
    let (report, check) = report(&place, 0, Ranks::Alone, &[&array(), "check", "--memory-limit", "1GiB"]);
    assert_eq!((&report["spilled_bytes"], check), (&0.into(), 598_134_254_206_976_i64.into()));
}

#[test]
fn when_memory_and_disk_are_full_the_run_ends_and_says_so() {
    let place = Place::new();
    let limits = ["run", &array(), "check", "--memory-limit", "64MiB", "--scratch-limit", "20MiB"];
    let run = place.expect(1, Ranks::Alone, &limits);
    run.tells("no task can start any more").tells("(64.0 MiB are allowed)").tells("--memory-limit");
}

#[test]
fn what_was_written_reaches_tasks_of_several_cores() {
    // The blocks are of 1 MiB in memory; those that go first are needed last.
    let place = Place::with(concat!(
        "[tasks.block]\neach = { i = '0..15' }\ncall = 'range'\nargs = [32768]\n",
        "[tasks.all]\ncall = 'list'\nargs = ['@count']\n",
        "[tasks.count]\neach = { i = '0..15' }\ncall = 'len'\nargs = ['@block[{i}]']\n",
        "[tasks.again]\neach = { i = '0..15' }\ncall = 'len'\nargs = ['@block[{i}]']\nafter = ['all']\n",
        "resources = { cpus = 2 }\n",
        "[tasks.sum]\ncall = 'sum'\nargs = ['@again']\n",
    ));
    let limits = ["g.toml", "sum", "--memory-limit", "4MiB", "--cpus", "2"];
    let (report, sum) = report(&place, 0, Ranks::Alone, &limits);
    assert_eq!(sum, 16 * 32_768, "{report}");
    assert!(report["spilled_bytes"].as_u64() > Some(0), "{report}");
}

#[test]
fn calls_of_several_cores_are_held_back_when_memory_and_disk_are_full() {
    // Each block of 1 MiB is counted and done with; 24 of them at once have room nowhere.
    let place = Place::with(concat!(
        "[tasks.block]\neach = { i = '0..23' }\ncall = 'range'\nargs = [32768]\nresources = { cpus = 2 }\n",
        "[tasks.count]\neach = { i = '0..23' }\ncall = 'len'\nargs = ['@block[{i}]']\n",
        "[tasks.sum]\ncall = 'sum'\nargs = ['@count']\n",
    ));
    let limits = ["g.toml", "sum", "--memory-limit", "4MiB", "--scratch-limit", "4KiB", "--cpus", "2"];
    let (report, sum) = report(&place, 0, Ranks::Alone, &limits);
    assert_eq!((sum, &report["spilled_bytes"]), ((24 * 32_768).into(), &0.into()), "{report}");
}

#[test]
fn programs_that_print_little_run_though_memory_and_disk_are_full() {
    // The blocks are needed to the end, and take all the room there is.
    let place = Place::with(concat!(
        "[tasks.block]\neach = { i = '0..3' }\ncall = 'range'\nargs = [32768]\n",
        "[tasks.say]\neach = { i = '0..9' }\nrun = ['echo', '{i}']\nafter = ['block']\n",
        "[tasks.said]\neach = { i = '0..9' }\ncall = 'len'\nargs = ['@say[{i}]']\n",
        "[tasks.count]\neach = { i = '0..3' }\ncall = 'len'\nargs = ['@block[{i}]']\nafter = ['said']\n",
        "[tasks.sum]\ncall = 'sum'\nargs = ['@count']\n",
    ));
    let limits = ["g.toml", "sum", "--memory-limit", "3584KiB", "--scratch-limit", "4KiB", "--cpus", "2"];
    let (report, sum) = report(&place, 0, Ranks::Alone, &limits);
    assert_eq!(sum, 4 * 32_768, "{report}");
}

#[test]
fn a_tree_of_reductions_holds_a_few_blocks_and_not_all_leaves() {
    // 64 leaves of 1 MiB; each reduction takes two blocks and gives one.
    let mut graph = "[tasks.l0]\neach = { i = '0..63' }\ncall = 'range'\nargs = [32768]\n".to_owned();
    for level in 1..=6 {
        for place in 0..64 >> level {
            let (below, left, right) = (level - 1, 2 * place, 2 * place + 1);
            let inputs = match level {
                1 => format!("'@l0[{left}]', '@l0[{right}]'"),
                _ => format!("'@l{below}_{left}', '@l{below}_{right}'"),
            };
            graph += &format!("[tasks.l{level}_{place}]\ncall = 'get'\nargs = [[{inputs}], 0]\n");
        }
    }
    graph += "[tasks.length]\ncall = 'len'\nargs = ['@l6_0']\n";
    let place = Place::with(&graph);
    // Seven blocks on a path to the root, and as many for a second slot. Whoever has all leaves first spills
    // forty; a slot that the system keeps from releasing for a while may cost a few.
    let limits = ["g.toml", "length", "--memory-limit", "24MiB", "--cpus", "2"];
    let (report, length) = report(&place, 0, Ranks::Alone, &limits);
    assert_eq!(length, 32_768, "{report}");
    assert!(report["spilled_bytes"].as_u64() < Some(8 << 20), "{report}");
}

/// More than the counts of MPI hold. It takes 12 GB of memory, so it runs when it is asked for.
#[cfg(feature = "mpi")]
#[test]
fn an_output_of_more_than_two_gibibytes_goes_from_worker_to_worker() {
    // What a command prints is captured up to 1 GiB, so three make it.
    const PART: u64 = 773_000_011;
    if std::env::var_os("DAGMAR_TEST_LARGE").is_none() {
        eprintln!("not run: it takes 12 GB of memory; DAGMAR_TEST_LARGE=1 asks for it");
        return;
    }
    // Each worker has one core. Once it is known how long they take, some count at the worker that lacks the output.
    let place = Place::with(&format!(
        "[tasks.part]\neach = {{ i = '0..2' }}\nrun = 'head -c {PART} /dev/zero'\n\
         [tasks.large]\ncall = 'concat'\nargs = ['@part']\n\
         [tasks.count]\neach = {{ i = '0..3' }}\nrun = 'wc -c; sleep 12'\nstdin = '@large'\n\
         [tasks.sum]\ncall = 'sum'\nargs = ['@count']\n",
    ));
    let (report, sum) = report(&place, 0, Ranks::Mpi(3), &["g.toml", "sum", "--cpus", "1"]);
    assert_eq!(sum, 12 * PART, "{report}");
    assert!(report["moved_bytes"].as_u64() >= Some(3 * PART), "{report}");
}
