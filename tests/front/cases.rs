//! What is proved.

use std::path::Path;
use std::process::Command;

use crate::launching::{EVERYWHERE, Ended, On, end, run};

/// One promise.
pub struct Case {
    pub name: &'static str,
    pub prove: fn(),
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), prove: $name }),*];
    };
}

cases![
    every_way_to_hand_an_argument_over_gives_the_value,
    collections_are_computed_and_computations_follow_each_other,
    what_is_persisted_stays_and_does_not_run_again,
    a_failed_task_is_told_and_the_ranks_go_on,
    a_panic_of_a_task_fails_it,
    options_reach_the_task,
    a_programs_own_error_ends_it,
    a_programs_own_panic_ends_all_ranks,
    a_chain_of_any_length_fits,
    a_variable_that_says_nothing_is_refused,
    an_isolated_call_that_crashes_costs_one_attempt,
    tasks_submit_tasks_to_any_depth,
    a_task_submits_as_many_tasks_as_it_finds_files,
    what_a_task_was_given_is_handed_on_unseen,
    failures_of_submitted_tasks_are_told_by_their_path,
    the_examples_check_their_own_results,
    a_submitted_program_runs_in_its_job,
    a_submitted_program_that_fails_is_told,
    the_run_directory_tells_what_was_added,
];

fn every_way_to_hand_an_argument_over_gives_the_value() {
    for &on in EVERYWHERE {
        let world = world();
        let said = run("arguments", &[], on, world.path()).well();
        assert_eq!(said, "3 4 3 [3, 4, 3, 4] [3, 7, 7] [0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]\n", "{on:?}");
    }
}

fn collections_are_computed_and_computations_follow_each_other() {
    for &on in EVERYWHERE {
        let world = world();
        let workers = match on {
            On::Alone(workers) => workers,
            On::Ranks(ranks) => ranks - 1,
        };
        let said = run("collections", &[], on, world.path()).well();
        assert_eq!(said, format!("338350 on {workers} workers\n"));
    }
}

fn what_is_persisted_stays_and_does_not_run_again() {
    for &on in EVERYWHERE {
        let world = world();
        assert_eq!(run("persisting", &[], on, world.path()).well(), "1225\n", "{on:?}");
    }
}

fn a_failed_task_is_told_and_the_ranks_go_on() {
    for &on in EVERYWHERE {
        let world = world();
        let ended = run("failing", &[], on, world.path());
        let story = "`fail[0]` failed: 3 is not to my taste after 3 attempts";
        assert_eq!(ended.stdout, format!("{story}; 1 that need them did not run\n"), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("error: {story}\n")), "{}", ended.stderr);
        assert_eq!(ended.code, Some(3));
    }
}

fn a_panic_of_a_task_fails_it() {
    for &on in EVERYWHERE {
        let world = world();
        let ended = run("panicking", &[], on, world.path());
        assert!(ended.stderr.contains("`divide[0]` panicked: attempt to divide by zero"), "{}", ended.stderr);
        assert_eq!(ended.code, Some(3));
    }
}

fn options_reach_the_task() {
    for &on in EVERYWHERE {
        let world = world();
        let said = run("retrying", &[], on, world.path()).well();
        let expected = "3\n`again_and_again[0]` failed: this is attempt 1\n\
                        task `add[0]` asks for 3 of `cpus`, but no worker has more than 2\n";
        assert_eq!(said, expected, "{on:?}");
    }
}

fn a_programs_own_error_ends_it() {
    for &on in EVERYWHERE {
        let world = world();
        let ended = run("own_error", &[], on, world.path());
        assert!(ended.stderr.contains("error: No such file or directory"), "{}", ended.stderr);
        assert_eq!(ended.code, Some(1));
    }
}

fn a_programs_own_panic_ends_all_ranks() {
    for &on in EVERYWHERE {
        let world = world();
        let ended = run("own_panic", &[], on, world.path());
        assert!(ended.stderr.contains("the program is wrong"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("a bug in dagmar"), "{}", ended.stderr);
        assert_eq!(ended.code, Some(1));
    }
}

fn a_chain_of_any_length_fits() {
    for &on in EVERYWHERE {
        let world = world();
        run("long_chain", &[], on, world.path()).well();
    }
}

fn a_variable_that_says_nothing_is_refused() {
    let world = world();
    let ended = run("wrong_setting", &[], On::Alone(0), world.path());
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(2), "error: cannot understand `DAGMAR_WORKERS=0`: it takes a number from 1 on\n")
    );
}

fn an_isolated_call_that_crashes_costs_one_attempt() {
    for &on in EVERYWHERE {
        let world = world();
        let said = run("isolated", &[], on, world.path()).well();
        let expected = "`crash[0]` was killed by signal 6 (ABRT)\n`crash[0]` exited with 9\n\
                        `crash[0]` panicked: inside of the child\n\
                        `crash[0]` took longer than its timeout of 2.00 s\n";
        assert_eq!(said, expected, "{on:?}");
    }
}

fn tasks_submit_tasks_to_any_depth() {
    for &on in EVERYWHERE {
        let world = world();
        assert_eq!(run("recursion", &[], on, world.path()).well(), "1597\n60\n7\n", "{on:?}");
        assert_eq!(run("quick_sort", &[], on, world.path()).well(), "sorted\n", "{on:?}");
        assert_eq!(run("depths", &[], on, world.path()).well(), "2001000\n300\n21\n", "{on:?}");
    }
}

fn a_task_submits_as_many_tasks_as_it_finds_files() {
    for &on in EVERYWHERE {
        let world = world();
        let said = run("files", &[], on, world.path()).well();
        let missing = "`words_of_all[0]` failed: No such file or directory (os error 2)\n";
        assert_eq!(said, format!("780 words\n0 words\n{missing}{missing}"), "{on:?}");
    }
}

fn what_a_task_was_given_is_handed_on_unseen() {
    for &on in EVERYWHERE {
        let world = world();
        let said = run("handing_on", &[], on, world.path()).well();
        assert_eq!(said, "8\n20\n2\n4999950000\n6\n20\n12\n7\n3112\n3106\n", "{on:?}");
    }
}

fn failures_of_submitted_tasks_are_told_by_their_path() {
    for &on in EVERYWHERE {
        let world = world();
        let said = run("growth_failures", &[], on, world.path()).well();
        let expected = "`fails_below[0]/fails_below[0]/fails_below[0]` failed: 7 is sour; 3 that need them did not run\n\
                        13\n\
                        `twice_then[0]` failed: not yet after 2 attempts\n\
                        `panics[0]` panicked: before it submits anything\n\
                        `greedy[0]` failed: it submitted `what it becomes`, which asks for more than any worker has\n\
                        144\n";
        assert_eq!(said, expected, "{on:?}");
    }
}

/// Its name, its arguments, and part of what it prints.
type Example = (&'static str, &'static [&'static str], &'static str);

fn the_examples_check_their_own_results() {
    let examples: [Example; 6] = [
        ("quadrature", &["7", "0.01"], "checked: "),
        ("matmul", &["96", "3"], "96 x 96 in 27 products"),
        ("sample_sort", &["20000", "5"], "20000 numbers in 5 parts"),
        ("top_k", &["7", "5000", "6"], "the 7 largest of 5000 numbers from 6 blocks, checked"),
        ("large_array", &["2", "4", "1"], "8 MiB in blocks of 1 MiB"),
        ("which_next", &["4", "4", "8"], "one array after the other"),
    ];
    for (example, arguments, expected) in examples {
        for &on in EVERYWHERE {
            let world = world();
            let said = run(example, arguments, on, world.path()).well();
            assert!(said.contains(expected), "{example} {on:?}: {said}");
        }
    }
}

fn world() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory can be made")
}

fn this() -> std::path::PathBuf {
    std::env::current_exe().expect("a program knows its file")
}

/// Calls `dagmar` in a directory, with everything that a submitted program of this file needs.
fn dagmar(arguments: &[&str], directory: &Path) -> Ended {
    dagmar_with("submitted", arguments, directory)
}

/// The same for another program of this file.
fn dagmar_with(program: &str, arguments: &[&str], directory: &Path) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dagmar"));
    command.args(arguments).current_dir(directory).env("DAGMAR_TEST_PROGRAM", program);
    end(command)
}

fn a_submitted_program_runs_in_its_job() {
    let world = world();
    let here = world.path();
    let program = this();
    std::os::unix::fs::symlink(&program, here.join("sums")).expect("a link can be made");
    let line = ["submit", "./sums", "one", "--cluster", "local", "--set", "workers_per_node=2"];
    let line = [&line[..], &["--wait", "--", "--two", "three four"]].concat();
    let ended = dagmar(&line, here);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stdout, ended.stderr);
    let written = std::fs::read_to_string(here.join("written")).expect("the program wrote it");
    assert_eq!(written, r#"["one", "--two", "three four"] 42 2"#);
    let status = dagmar(&["status"], here).well();
    assert!(status.contains("over, exit code 0") && status.contains("add  1 finished"), "{status}");
    dagmar(&["logs"], here).well();
    assert_eq!(dagmar(&["wait"], here).code, Some(0));
}

fn a_submitted_program_that_fails_is_told() {
    let world = world();
    let here = world.path();
    let program = this();
    let dry = dagmar(&["submit", &program.to_string_lossy(), "--cluster", "local", "--dry-run"], here).well();
    assert!(dry.contains(" launch ") && !here.join("dagmar-runs").exists(), "{dry}");
    let line = ["submit", &program.to_string_lossy(), "--cluster", "local", "--wait", "--", "--fail"];
    let ended = dagmar(&line, here);
    assert_eq!(ended.code, Some(3), "{}\n{}", ended.stdout, ended.stderr);
    let status = dagmar(&["status"], here).well();
    assert!(status.contains("over, exit code 3") && status.contains("fail[0]"), "{status}");
    let run = dagmar(&["run", &program.to_string_lossy()], here);
    assert!(run.code == Some(2) && run.stderr.contains("is a program, not a graph"), "{}", run.stderr);
}

fn the_run_directory_tells_what_was_added() {
    let world = world();
    let here = world.path();
    let program = this();
    let line = ["submit", &program.to_string_lossy(), "--cluster", "local"];
    let line = [&line[..], &["--set", "workers_per_node=2", "--wait"]].concat();
    let ended = dagmar_with("growing", &line, here);
    assert_eq!(ended.code, Some(3), "{}\n{}", ended.stdout, ended.stderr);
    let runs = here.join("dagmar-runs");
    let run =
        std::fs::read_dir(&runs).expect("there is a run").next().expect("there is one").expect("it is read");
    let first = run.path().join("computes/0001");
    let status = dagmar(&["status", &first.to_string_lossy()], here).well();
    assert!(status.contains("fibonacci  25 finished"), "{status}");
    let second = run.path().join("computes/0002");
    let status = dagmar(&["status", &second.to_string_lossy()], here).well();
    assert!(
        status.contains("`fails_below[0]/fails_below[0]` failed on rank") && status.contains(": 7 is sour"),
        "{status}"
    );
    assert!(!status.contains("attempts"), "{status}");
    let key = "fails_below[0]/fails_below[0]";
    dagmar(&["logs", &second.to_string_lossy(), key], here).well();
    let unknown = dagmar(&["logs", &second.to_string_lossy(), "fails_below[0]/fails_below[9]"], here);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
}
