//! The programs: small ones for one promise each, and the examples.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use dagmar::{Context, Delayed, map, reduce};
use serde::{Deserialize, Serialize};

use crate::growing;

#[path = "../../examples/rust/large_array.rs"]
mod large_array;
#[path = "../../examples/rust/matmul.rs"]
mod matmul;
#[path = "../../examples/rust/quadrature.rs"]
mod quadrature;
#[path = "../../examples/rust/sample_sort.rs"]
mod sample_sort;
#[path = "../../examples/rust/top_k.rs"]
mod top_k;
#[path = "../../examples/rust/which_next.rs"]
mod which_next;

/// A program's name and its `main`.
type Program = (&'static str, fn() -> ExitCode);

/// All programs.
pub const PROGRAMS: &[Program] = &[
    ("arguments", arguments),
    ("collections", collections),
    ("persisting", persisting),
    ("failing", failing),
    ("panicking", panicking),
    ("retrying", retrying),
    ("own_error", own_error),
    ("own_panic", own_panic),
    ("long_chain", long_chain),
    ("isolated", isolated),
    ("submitted", submitted),
    ("recursion", growing::recursion),
    ("quick_sort", growing::quick_sort),
    ("files", growing::files),
    ("handing_on", growing::handing_on),
    ("growth_failures", growing::failures),
    ("depths", growing::depths),
    ("growing", growing::told),
    ("quadrature", quadrature::main),
    ("matmul", matmul::main),
    ("sample_sort", sample_sort::main),
    ("top_k", top_k::main),
    ("large_array", large_array::main),
    ("which_next", which_next::main),
    ("measure", crate::measuring::main),
    ("wrong_setting", || dagmar::main(|_| Ok(()))),
];

#[dagmar::task]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[dagmar::task]
fn square(x: i64) -> i64 {
    x * x
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Block {
    rows: usize,
    names: BTreeMap<String, i32>,
    #[serde(with = "dagmar::bulk")]
    cells: Vec<f64>,
}

#[dagmar::task]
fn block(rows: usize, name: &str) -> Block {
    Block { rows, names: BTreeMap::from([(name.to_owned(), rows as i32)]), cells: vec![0.5; rows * 2] }
}

/// Every way to take an argument.
#[dagmar::task]
fn describe<'a>(
    block: &Block,
    whole: Arc<Block>,
    cells: &'a [f64],
    several: &[Arc<Block>],
    pieces: Vec<Arc<Block>>,
    mut owned: Vec<i64>,
    _: (u8, Option<String>),
) -> Result<String, std::num::ParseIntError> {
    owned.push("7".parse()?);
    let rows: Vec<usize> = several.iter().chain(&pieces).map(|block| block.rows).collect();
    Ok(format!("{} {} {} {rows:?} {owned:?}", block.rows, whole.names["b"], cells.iter().sum::<f64>()))
}

#[dagmar::task]
fn cells(block: Block) -> Vec<f64> {
    block.cells
}

#[dagmar::task]
fn nothing() {}

fn arguments() -> ExitCode {
    dagmar::main(|run| {
        let (a, b) = (block(3, "a"), block(4, "b"));
        let elements = vec![add(1, 2), add(3, 4)];
        let text = describe(
            &a,
            &b,
            cells(&a),
            [a.clone(), b.clone(), a.clone()],
            vec![b.clone()],
            elements,
            (1, None),
        );
        let (text, unit, block, same) = run.compute((&text, &nothing(), &b, &b))?;
        assert_eq!(text, "3 4 3 [3, 4, 3, 4] [3, 7, 7]");
        assert_eq!((unit, &block), ((), &same));
        println!("{text} {:?}", block.cells);
        Ok(())
    })
}

fn collections() -> ExitCode {
    dagmar::main(|run| {
        let squares = map(square, 1..=100);
        let total = reduce(add, squares.iter().cloned()).expect("there are squares");
        let (squares, total) = run.compute((&squares, &total))?;
        assert_eq!(squares, (1..=100).map(|x| x * x).collect::<Vec<i64>>());
        assert_eq!(total, squares.iter().sum::<i64>());
        assert!(reduce(add, []).is_none());
        // One computation after the other, on the same ranks.
        for round in 0..10 {
            assert_eq!(run.compute(add(round, square(round)))?, round + round * round);
        }
        println!("{total} on {} workers", run.workers());
        Ok(())
    })
}

#[dagmar::task]
fn note(directory: &str, name: i64) -> i64 {
    use std::io::Write;
    let path = std::path::Path::new(directory).join("noted");
    let mut file = std::fs::File::options().create(true).append(true).open(path).expect("it can be written");
    writeln!(file, "{name}").expect("it can be written");
    name
}

/// How often `note` ran.
fn noted() -> usize {
    std::fs::read_to_string("noted").unwrap_or_default().lines().count()
}

fn persisting() -> ExitCode {
    dagmar::main(|run| {
        let here = std::env::current_dir()?.to_string_lossy().into_owned();
        let notes = map(|name| note(&here, name), 1..=20);
        run.persist(&notes)?;
        assert_eq!(noted(), 20);
        let total = reduce(add, notes.iter().cloned()).expect("there are notes");
        assert_eq!(run.compute(&total)?, 210);
        assert_eq!(run.compute(&notes)?, (1..=20).collect::<Vec<i64>>());
        assert_eq!(noted(), 20, "what was persisted does not run again");
        drop(total);
        run.persist(&notes)?;
        let last = notes.last().cloned().expect("there are notes");
        drop(notes);
        assert_eq!(run.compute(add(&last, &last))?, 40);
        assert_eq!(noted(), 20);
        assert_eq!(run.compute(note(&here, 1))?, 1);
        assert_eq!(noted(), 21, "what was not persisted runs again");
        // Steps that each forget the one before.
        let mut state = add(0, 0);
        for step in 0..50 {
            state = add(&state, step);
            run.persist(&state)?;
        }
        println!("{}", run.compute(&state)?);
        Ok(())
    })
}

#[dagmar::task]
fn fail(x: i64) -> Result<i64, String> {
    Err(format!("{x} is not to my taste"))
}

fn failing() -> ExitCode {
    dagmar::main(|run| {
        let failed = fail(add(1, 2)).retries(2);
        let error = run.compute(add(&failed, 1)).expect_err("it fails");
        println!("{error}");
        // The ranks are still there.
        assert_eq!(run.compute(add(1, 1))?, 2);
        run.compute(&failed)?;
        unreachable!("it fails again");
    })
}

#[dagmar::task]
fn divide(a: i64, b: i64) -> i64 {
    a / b
}

fn panicking() -> ExitCode {
    dagmar::main(|run| {
        run.compute(divide(1, 0))?;
        unreachable!("it fails");
    })
}

#[dagmar::task]
fn third_time(context: &Context<'_>) -> Result<u32, String> {
    match context.attempt().0 {
        3 => Ok(3),
        other => Err(format!("this is attempt {other}")),
    }
}

fn retrying() -> ExitCode {
    dagmar::main(|run| {
        let named = third_time().retries(5).cpus(2).priority(3).name("again and again");
        println!("{}", run.compute(&named)?);
        let error = run.compute(third_time().name("again and again")).expect_err("it is tried once");
        println!("{error}");
        let error = run.compute(add(1, 2).cpus(3)).expect_err("there are two cores");
        println!("{error}");
        Ok(())
    })
}

fn own_error() -> ExitCode {
    dagmar::main(|run| {
        run.compute(add(1, 2))?;
        std::fs::read("there/is/no/such/file")?;
        Ok(())
    })
}

fn own_panic() -> ExitCode {
    dagmar::main(|run| {
        let three = run.compute(add(1, 2))?;
        assert_eq!(three, 4, "the program is wrong");
        Ok(())
    })
}

fn long_chain() -> ExitCode {
    dagmar::main(|run| {
        let links = 20_000;
        let mut chain = add(0, 0);
        for _ in 0..links {
            chain = add(&chain, 1);
        }
        let unused: Delayed<i64> = (0..links).fold(add(0, 0), |chain, _| add(chain, 1));
        drop(unused);
        assert_eq!(run.compute(chain)?, links);
        Ok(())
    })
}

#[dagmar::task]
fn process_and(block: &Block, context: &Context, more: Vec<i64>) -> (u32, f64) {
    assert!(context.attempt().0 == 1 && !context.is_stopped());
    (std::process::id(), block.cells[0] + more.iter().sum::<i64>() as f64)
}

#[dagmar::task]
fn crash_once(context: &Context) -> u32 {
    if context.attempt().0 == 1 {
        std::process::abort();
    }
    context.attempt().0
}

#[dagmar::task]
fn crash(how: u32) -> u32 {
    match how {
        0 => std::process::abort(),
        1 => std::process::exit(9),
        2 => panic!("inside of the child"),
        _ => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
    }
}

fn isolated() -> ExitCode {
    dagmar::main(|run| {
        let elsewhere = process_and(block(2, "x"), vec![add(1, 2), add(3, 4)]).isolated();
        let (process, sum) = run.compute(&elsewhere)?;
        assert!(process != std::process::id() && sum == 10.5);
        assert_eq!(run.compute(crash_once().isolated().retries(1))?, 2);
        for how in 0..4 {
            let crashed = crash(how).isolated().timeout(Duration::from_secs(2));
            println!("{}", run.compute(crashed).expect_err("it crashes"));
        }
        let kept = square(5).isolated();
        run.persist(&kept)?;
        assert_eq!(run.compute(square(&kept))?, 625);
        Ok(())
    })
}

fn submitted() -> ExitCode {
    dagmar::main(|run| {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let value = run.compute(add(40, 2))?;
        std::fs::write("written", format!("{words:?} {value} {}", run.workers()))?;
        if words.iter().any(|word| word == "--fail") {
            run.compute(fail(7))?;
        }
        Ok(())
    })
}
