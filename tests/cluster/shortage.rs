//! Memory is a promise that is kept: what a command asked for it may take, and no more.

use crate::harness::{BOTH, Place, Ranks};

/// A command that takes so many MiB, in as many processes, and holds them for a while.
fn takes(mib: u32, processes: u32) -> String {
    let each = format!("x=$(head -c {}m /dev/zero | tr '\\0' x)", mib / processes);
    // A shell holds the text about twice, and only as long as it has something to do after the sleep.
    format!("for i in $(seq {processes}); do ({each}; sleep 100; :) & done; wait")
}

#[test]
fn a_command_that_takes_more_than_it_asked_for_is_ended_and_its_neighbours_go_on() {
    let graph = format!(
        "name = \"g\"\n[tasks.modest]\nrun = \"sleep 1; echo ok\"\nresources = {{ memory = \"64MiB\" }}\n\
         [tasks.alone]\nrun = '''{}'''\nresources = {{ memory = \"100MiB\" }}\n\
         [tasks.several]\nrun = '''{}'''\nresources = {{ memory = \"150MiB\" }}\n",
        takes(160, 1),
        takes(240, 4)
    );
    for ranks in BOTH {
        let place = Place::with(&graph);
        let ran = place.expect(7, ranks, &["run", "g.toml", "--cpus", "4"]);
        ran.tells("error: 2 of 3 tasks failed").tells("1 task finished");
        ran.tells("its limit is 100 MiB, it used 1").tells("its limit is 150 MiB, it used ");
        place.expect_nothing_left();
    }
}

#[test]
fn what_is_shared_counts_once() {
    // Each of the eight has all pages of its parent in memory, 60 MiB of them; together they have 60.
    let place = Place::with(concat!(
        "[tasks.a]\nresources = { memory = \"200MiB\" }\nrun = '''\n",
        "x=$(head -c 30m /dev/zero | tr '\\0' x); for i in $(seq 8); do (sleep 2; true) & done; wait; echo ${#x}'''\n",
    ));
    let ran = place.expect(0, Ranks::Alone, &["run", "g.toml", "a", "--cpus", "1"]);
    assert_eq!(ran.text().trim(), (30 << 20).to_string(), "{ran}");
}

/// Has a file of 200 MB in memory, all of it, for longer than it takes until somebody looks.
const MAPS: &str = concat!(
    "#include <fcntl.h>\n#include <stdio.h>\n#include <sys/mman.h>\n#include <unistd.h>\n",
    "int main(int count, char **words) {\n",
    "  const long size = 200000000;\n",
    "  const char *bytes = mmap(0, size, PROT_READ, MAP_SHARED, open(words[1], O_RDONLY), 0);\n",
    "  long sum = 0;\n",
    "  for (long at = 0; at < size; at += 4096) sum += bytes[at];\n",
    "  usleep(1500000);\n",
    "  return printf(\"%ld\\n\", sum) < 0;\n",
    "}\n",
);

#[test]
fn files_that_are_mapped_count_nothing() {
    let place = Place::with(concat!(
        "[tasks.a]\nresources = { memory = \"50MiB\" }\n",
        "run = \"head -c 200000000 /dev/zero > big; ./maps big; rm big\"\n",
    ));
    place.write("maps.c", MAPS);
    let mut compiler = std::process::Command::new("cc");
    let built = compiler.args(["-o", "maps", "maps.c"]).current_dir(place.path()).status();
    assert!(built.expect("there is a C compiler").success());
    let ran = place.expect(0, Ranks::Alone, &["run", "g.toml", "a", "--cpus", "1"]);
    assert_eq!(ran.text().trim(), "0", "{ran}");
}

/// A command of 160 MiB that says what it was given, and how often it was tried.
const GROWS: &str = concat!(
    "name = \"g\"\n[tasks.a]\nresources = { memory = \"50MiB\", memory_max = \"1GiB\" }\n",
    "run = '''x=$(head -c 80m /dev/zero | tr '\\0' x); sleep 1; echo $DAGMAR_MEMORY $DAGMAR_ATTEMPT'''\n",
    "[tasks.b]\nrun = \"cat\"\nstdin = \"@a\"\nafter = [\"a\"]\n",
);

#[test]
fn a_command_that_may_have_more_memory_gets_it() {
    for ranks in BOTH {
        let place = Place::with(GROWS);
        let ran = place.expect(0, ranks, &["run", "g.toml", "b", "--cpus", "1", "--resource", "memory=1GiB"]);
        let said: Vec<u64> =
            ran.text().split_whitespace().map(|word| word.parse().expect("a number")).collect();
        let tries = said[1];
        assert!(tries > 1 && said[0] == (50 << 20) << (tries - 1), "{ran}");
        place.expect_nothing_left();
    }
}

#[test]
fn a_run_goes_on_with_the_memory_that_was_found_out_or_with_what_there_is() {
    let place = Place::with(GROWS);
    let less = ["run", "g.toml", "b", "--cpus", "1", "--resource", "memory=70MiB"];
    place.expect(7, Ranks::Alone, &less).tells("its limit is 70 MiB").tells("; no worker has more for it");
    let ran = place.expect(0, Ranks::Alone, &["resume", "--cpus", "1", "--resource", "memory=1GiB"]);
    let memory: u64 =
        ran.text().split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number");
    assert_eq!(memory % (70 << 20), 0, "it began with what it had: {ran}");
}

#[test]
fn more_memory_is_for_those_that_say_with_how_much_they_begin() {
    let cases = [
        ("{ memory_max = \"1GiB\" }", "there is no `memory` to begin with"),
        ("{ memory = \"2GiB\", memory_max = \"1GiB\" }", "its `memory` is more than that"),
        ("{ memory = \"1GiB\", memory_max = \"2GiB\", nodes = 2 }", "a task of several nodes"),
    ];
    for (resources, why) in cases {
        let place = Place::with(&format!("[tasks.a]\nrun = \"true\"\nresources = {resources}\n"));
        place.expect(2, Ranks::Alone, &["run", "g.toml"]).tells(why).tells("resources.memory_max");
    }
    let place = Place::with("[tasks.a]\ncall = \"noop\"\nresources = { memory = 1, memory_max = 2 }\n");
    place.expect(2, Ranks::Alone, &["run", "g.toml"]).tells("memory_max");
}
