//! Prints what things cost: `DAGMAR_TEST_PROGRAM=measure`, alone or under `mpirun`. Proves nothing.

use std::process::ExitCode;
use std::time::Instant;

use dagmar::{map, reduce};
use serde::{Deserialize, Serialize};

/// 64 MiB of numbers.
const NUMBERS: usize = 8 << 20;

#[derive(Clone, Serialize, Deserialize)]
struct Whole {
    #[serde(with = "dagmar::bulk")]
    cells: Vec<f64>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Single {
    cells: Vec<f64>,
}

#[dagmar::task]
fn large() -> Vec<f64> {
    vec![0.5; NUMBERS]
}

#[dagmar::task]
fn nothing(x: u64) -> u64 {
    x
}

#[dagmar::task]
fn larger(x: u64, y: u64) -> u64 {
    x.max(y)
}

/// Runs the measurements.
pub fn main() -> ExitCode {
    dagmar::main(|run| {
        let cells = vec![0.5_f64; NUMBERS];
        travel("vector of floats", &cells);
        travel("field with bulk", &Whole { cells: cells.clone() });
        travel("field without", &Single { cells: cells.clone() });
        let mut copy = Vec::new();
        timed("plain copy", || copy.extend_from_slice(&cells));
        drop((copy, cells));

        let kept = large();
        run.persist(&kept)?;
        for _ in 0..3 {
            timed("one vector to rank 0", || run.compute(&kept).expect("it is kept"));
        }
        for count in [10_000, 100_000] {
            let began = Instant::now();
            let calls = map(nothing, 0..count);
            let all = reduce(larger, calls.iter().cloned()).expect("there are calls");
            let written = began.elapsed();
            run.compute(&all)?;
            let tasks = 2 * count - 1;
            let each = |span: std::time::Duration| span.as_secs_f64() * 1e6 / tasks as f64;
            println!(
                "{tasks} tasks: {:.2} us each to write down, {:.2} us with running",
                each(written),
                each(began.elapsed())
            );
        }
        Ok(())
    })
}

/// Bytes and back.
fn travel<T: dagmar::Portable>(what: &str, value: &T) {
    for _ in 0..3 {
        let mut bytes = Vec::new();
        timed(&format!("{what}: encode"), || dagmar::runtime::typed::encode_into(value, &mut bytes));
        timed(&format!("{what}: decode"), || {
            dagmar::runtime::typed::decode::<T>(&bytes).expect("it was encoded")
        });
    }
}

fn timed<T>(what: &str, call: impl FnOnce() -> T) {
    let (began, began_cpu) = (Instant::now(), cpu_s());
    let given = call();
    let (took, took_cpu) = (began.elapsed().as_secs_f64(), cpu_s() - began_cpu);
    let rate = |seconds: f64| (NUMBERS * 8) as f64 / seconds / 1e9;
    println!("{what:28} {:8.1} ms, {:6.2} GB in a second of processor time", took * 1e3, rate(took_cpu));
    drop(given);
}

/// Seconds that this thread has been on a processor: on a busy machine they say more than the clock.
fn cpu_s() -> f64 {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = times.split(' ').next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.unwrap_or(f64::NAN) / 1e9
}
