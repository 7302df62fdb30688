//! Sums over an array that need not fit into memory: `large_array [MEMORY_MIB] [TIMES] [BLOCK_MIB]`.
//!
//! The array has TIMES times as many bytes as MEMORY_MIB says. Each block is made, used and dropped; what
//! is left of it are three numbers, which a tree of tasks adds up. How many blocks lie in memory at once
//! is a question of the order in which tasks run: the most urgent ones are those that end something.

use std::process::ExitCode;
use std::time::Instant;

use dagmar::{map, reduce};
use serde::{Deserialize, Serialize};

/// What is left of a block.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Moments {
    count: u64,
    sum: f64,
    squares: f64,
}

/// A number of the array. Small and whole, so that sums are exact.
fn number(place: u64) -> f64 {
    (place % 1000) as f64
}

#[dagmar::task]
fn block((first, end): (u64, u64)) -> Vec<f64> {
    (first..end).map(number).collect()
}

#[dagmar::task]
fn moments(block: &[f64]) -> Moments {
    let sums =
        block.iter().fold((0.0, 0.0), |(sum, squares), number| (sum + number, squares + number * number));
    Moments { count: block.len() as u64, sum: sums.0, squares: sums.1 }
}

#[dagmar::task]
fn together(one: Moments, other: Moments) -> Moments {
    Moments { count: one.count + other.count, sum: one.sum + other.sum, squares: one.squares + other.squares }
}

/// Runs the example.
pub fn main() -> ExitCode {
    let words: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let word = |place: usize, usual| words.get(place).copied().unwrap_or(usual).max(1);
    let (memory_mib, times, block_mib) = (word(0, 8), word(1, 4), word(2, 1));
    dagmar::main(move |run| {
        let (numbers, block_numbers) = ((memory_mib * times) << 17, block_mib << 17);
        let began = Instant::now();
        let firsts = (0..numbers).step_by(block_numbers as usize);
        let bytes = block_numbers * 8;
        let part = |first| moments(block((first, numbers.min(first + block_numbers))).memory(bytes));
        let all = reduce(together, map(part, firsts)).ok_or("there are no blocks")?;
        let found = run.compute(all)?;
        let took = began.elapsed().as_secs_f64();
        // A thousand numbers in a row add up to 499500, their squares to 332833500.
        let (rounds, rest) = (numbers / 1000, (numbers % 1000) as f64);
        let expected = Moments {
            count: numbers,
            sum: rounds as f64 * 499_500.0 + rest * (rest - 1.0) / 2.0,
            squares: rounds as f64 * 332_833_500.0 + (rest - 1.0) * rest * (2.0 * rest - 1.0) / 6.0,
        };
        if found != expected {
            return Err(format!("{found:?} is not {expected:?}").into());
        }
        println!("{} MiB in blocks of {block_mib} MiB: {took:.3} s, checked", memory_mib * times);
        Ok(())
    })
}
