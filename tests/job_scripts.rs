//! Job scripts, from what is asked to what a batch system and a shell read in them.
#![allow(clippy::unwrap_used)] // clippy.toml allows it only inside test functions

#[path = "job_scripts/allowed.rs"]
mod allowed;
#[path = "job_scripts/asking.rs"]
mod asking;
#[path = "job_scripts/cases.rs"]
mod cases;
#[path = "job_scripts/checking.rs"]
mod checking;
#[path = "job_scripts/documents.rs"]
mod documents;
#[path = "job_scripts/injection.rs"]
mod injection;
#[path = "job_scripts/reading.rs"]
mod reading;
#[path = "job_scripts/running.rs"]
mod running;
#[path = "job_scripts/templates.rs"]
mod templates;
#[path = "job_scripts/testbed.rs"]
mod testbed;

use asking::{Asked, MARK};
use cases::CASES;
use dagmar::launch::batch::System;

#[test]
fn every_combination_has_the_script_of_its_snapshot() {
    insta::with_settings!({ snapshot_path => "job_scripts/snapshots", prepend_module_to_snapshot => false }, {
        for case in CASES {
            insta::assert_snapshot!(case.name, Asked::of(case).script());
        }
    });
}

#[test]
fn there_are_at_least_forty_combinations() {
    assert!(CASES.len() >= 40, "only {}", CASES.len());
}

#[test]
fn every_script_is_good_bash() {
    for case in CASES {
        let script = Asked::of(case).script();
        reading::check_syntax(&script).unwrap_or_else(|error| panic!("{}: {error}\n{script}", case.name));
    }
}

#[test]
fn no_directive_says_an_option_twice_and_every_script_carries_its_mark() {
    for case in CASES {
        let asked = Asked::of(case);
        let script = asked.script();
        let prefix = if asked.request.system == System::Slurm { "#SBATCH" } else { "#PBS" };
        let directives = reading::directives(&script, prefix);
        let mut options: Vec<&str> = directives.iter().map(|words| reading::option(words)).collect();
        options.sort_unstable();
        let own = asked.request.list("directives").len();
        let repeated = options.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!(repeated <= own, "{}: {options:?}", case.name);
        let is_marked = directives.iter().flatten().any(|word| word.contains(MARK));
        let may_be_unmarked = asked.request.system == System::Local
            || ["comment", "environment.export"].iter().any(|field| asked.request.is_removed(field));
        assert!(is_marked || may_be_unmarked, "{}: {directives:?}", case.name);
    }
}
