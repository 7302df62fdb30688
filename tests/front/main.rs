//! The Rust front as its users meet it: whole programs, alone and under `mpirun`.
//!
//! Without `DAGMAR_TEST_PROGRAM` this program starts itself once for each case and reports as Rust's own
//! test program does. With it, it is that program, or one rank of it. `DAGMAR_TEST_MPIRUN` names another
//! launcher than `mpirun`.

mod cases;
mod growing;
mod launching;
mod measuring;
mod programs;

use std::env;
use std::process::ExitCode;

use cases::{CASES, Case};

fn main() -> ExitCode {
    if let Ok(name) = env::var("DAGMAR_TEST_PROGRAM") {
        let program = programs::PROGRAMS.iter().find(|(other, _)| *other == name);
        return program.expect("the program exists").1();
    }
    let arguments: Vec<String> = env::args().skip(1).collect();
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted =
        |case: &&Case| filters.is_empty() || filters.iter().any(|filter| case.name.contains(filter.as_str()));
    let cases: Vec<&Case> = CASES.iter().filter(is_wanted).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    report(&cases)
}

fn report(cases: &[&Case]) -> ExitCode {
    println!("\nrunning {} tests", cases.len());
    let mut failed = 0;
    for case in cases {
        match std::panic::catch_unwind(|| (case.prove)()) {
            Ok(()) => println!("test {} ... ok", case.name),
            Err(_) => {
                println!("test {} ... FAILED", case.name);
                failed += 1;
            }
        }
    }
    let (word, passed) = (if failed == 0 { "ok" } else { "FAILED" }, cases.len() - failed);
    let filtered = CASES.len() - cases.len();
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out\n"
    );
    ExitCode::from(u8::from(failed > 0))
}
