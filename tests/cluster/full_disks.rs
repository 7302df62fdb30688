//! Disks that fill while a run goes on: it ends with the cause, and goes on once there is space, with all that was
//! durable. The disk is a file system in memory, which needs root.

use std::process::Command;

use crate::harness::{BOTH, Place, Ran, Ranks};

/// Runs a script with `disk` as a file system of `size`, alone and under mpirun: `dagmar` starts it.
fn on_small_disk(graph: &str, size: &str, script: &str, check: impl Fn(&Place, &Ran)) {
    on_small_disk_with(&BOTH, graph, size, script, check);
}

fn on_small_disk_with(ways: &[Ranks], graph: &str, size: &str, script: &str, check: impl Fn(&Place, &Ran)) {
    for &ranks in ways {
        let place = Place::with(graph);
        let dagmar = place.command(ranks);
        let words = std::iter::once(dagmar.get_program()).chain(dagmar.get_args());
        let mut words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
        let program = words.pop().expect("there is a program");
        // Launchers have files in TMPDIR as well, and do not come up without.
        let script = format!(
            "set -e; dagmar() {{ {} env TMPDIR=\"${{SCRATCH:-/tmp}}\" {program} \"$@\"; }}
             mkdir disk; mount -t tmpfs -o size={size} tmpfs disk\n{script}",
            words.join(" ")
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "bash", "-c", &script]).current_dir(place.path());
        for (name, value) in dagmar.get_envs() {
            shell.env(name, value.expect("no variable is removed"));
        }
        let ran = place.spawn(shell).end();
        assert_eq!(ran.code(), Some(0), "{ran}");
        check(&place, &ran);
        place.expect_nothing_left();
    }
}

/// What a resume told: durable, to do, repeated.
fn resumed(ran: &Ran) -> Vec<usize> {
    let line = ran.stderr.lines().find_map(|line| line.strip_prefix("resumed: ")).expect("it tells");
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn a_run_whose_journal_found_no_space_goes_on_when_there_is_some() {
    let graph = concat!(
        "[tasks.a]\neach = { i = '1..100000' }\ncall = 'noop'\n",
        "[tasks.end]\nrun = 'echo over'\nafter = ['a']\n",
    );
    // Many small events: the numbers of so many ends do not fit.
    let script = "
        dagmar run g.toml end --into disk/run --cpus 2 2>first && exit 9; test $? = 1
        mount -o remount,size=64m disk
        dagmar resume disk/run --cpus 2";
    on_small_disk(graph, "160k", script, |place, ran| {
        let told = place.read("first");
        assert!(told.contains("cannot write the run's journal: No space left on device"), "{told}");
        assert!(told.contains("`dagmar resume` goes on"), "{told}");
        assert_eq!(ran.text(), "over\n");
    });
}

#[test]
fn a_run_whose_outputs_found_no_space_repeats_nothing_durable() {
    let graph = concat!(
        "[tasks.a]\neach = { i = '1..40' }\n",
        "run = ['sh', '-c', 'echo $1 >> started; sleep 0.02; seq $1', 'sh', '{i}']\n",
        "[tasks.fill]\nrun = 'echo >> started; test -e space || cat /dev/zero > disk/filler; true'\nafter = ['a[20]']\n",
        "[tasks.last]\nrun = 'echo >> started; sleep 0.3; seq 40'\nafter = ['a', 'fill']\n",
        "[tasks.sum]\nrun = 'echo >> started; wc -l'\nstdin = '@last'\n",
    );
    let script = "
        dagmar run g.toml sum --into disk/run --cpus 2 2>first && exit 9; test $? = 1
        cp started before; rm disk/filler; touch space
        dagmar resume disk/run --cpus 2";
    on_small_disk(graph, "1m", script, |place, ran| {
        let told = place.read("first");
        assert!(told.contains("No space left on device"), "{told}");
        assert!(told.contains("`dagmar resume` goes on"), "{told}");
        assert_eq!(ran.text(), "40\n");
        let count = |name: &str| place.read(name).lines().count();
        let [durable, to_do, _] = resumed(ran)[..] else { panic!("{ran}") };
        assert_eq!(durable + to_do, 43, "{ran}");
        assert_eq!(count("started") - count("before"), to_do, "{ran}");
    });
}

#[test]
fn a_task_whose_file_found_no_space_fails_alone() {
    let graph = concat!(
        "[tasks.large]\nrun = 'head -c 2000000 /dev/zero > disk/large'\noutputs = ['disk/large']\n",
        "[tasks.small]\nrun = 'echo small'\n",
    );
    let script = "
        dagmar run g.toml --into run 2>first && exit 9; test $? = 3
        dagmar resume run 2>second && exit 9; test $? = 3
        mount -o remount,size=64m disk
        dagmar resume run";
    on_small_disk(graph, "1m", script, |place, ran| {
        let told = place.read("first");
        assert!(told.contains("error: 1 of 2 tasks failed"), "{told}");
        assert!(told.contains("No space left on device"), "its own words: {told}");
        assert_eq!(resumed(ran), [1, 1, 0], "{ran}");
    });
}

#[test]
fn outputs_that_found_no_room_on_a_scratch_disk_end_the_run_which_goes_on_with_more() {
    let graph = concat!(
        "[tasks.block]\neach = { i = '1..32' }\ncall = 'range'\nargs = [131072]\n",
        "[tasks.one]\neach = { i = '1..32' }\ncall = 'len'\nargs = ['@block[{i}]']\n",
        "[tasks.all]\ncall = 'list'\nargs = ['@one']\n",
        "[tasks.two]\neach = { i = '1..32' }\ncall = 'len'\nargs = ['@block[{i}]']\nafter = ['all']\n",
        "[tasks.sum]\ncall = 'sum'\nargs = ['@two']\n",
    );
    let script = "
        SCRATCH=$PWD/disk
        dagmar run g.toml sum --into run --memory-limit 48MiB 2>first && exit 9; test $? = 1
        mount -o remount,size=256m disk
        dagmar resume run --memory-limit 48MiB";
    // Of several workers, others might take over what is in the way: they have a minute for that.
    on_small_disk_with(&[Ranks::Alone], graph, "4m", script, |place, ran| {
        let told = place.read("first");
        assert!(told.contains("no task can start any more"), "{told}");
        assert!(told.contains("No space left on device"), "{told}");
        assert_eq!(ran.text(), "4194304\n");
    });
}

#[test]
fn nothing_is_begun_where_the_graph_finds_no_space() {
    let graph = "[tasks.a]\neach = { i = '1..2000' }\ncall = 'add'\nargs = ['{i}', 1]\n";
    let script = "
        dagmar run g.toml --into disk/run 2>first && exit 9; test $? = 1
        mount -o remount,size=64m disk
        rm -r disk/run; dagmar run g.toml --into disk/run";
    on_small_disk(graph, "32k", script, |place, _| {
        let told = place.read("first");
        assert!(told.contains("cannot write the run directory"), "{told}");
        assert!(told.contains("No space left on device"), "{told}");
    });
}
