//! The K largest of many numbers: `top_k [K] [NUMBERS] [BLOCKS]`.
//!
//! Every block gives its own K largest, and a tree of tasks puts them together two by two: no task ever
//! sees more than 2 K numbers.

use std::process::ExitCode;

use dagmar::{map, reduce};

/// The n-th number: all are different, in no order.
fn number(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17)
}

#[dagmar::task]
fn largest((first, end): (u64, u64), k: usize) -> Vec<u64> {
    keep_largest((first..end).map(number).collect(), k)
}

#[dagmar::task]
fn larger(left: &[u64], right: &[u64], k: usize) -> Vec<u64> {
    keep_largest([left, right].concat(), k)
}

fn keep_largest(mut numbers: Vec<u64>, k: usize) -> Vec<u64> {
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    numbers.truncate(k);
    numbers
}

/// Runs the example.
pub fn main() -> ExitCode {
    let words: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let word = |place: usize, usual| words.get(place).copied().unwrap_or(usual);
    let (k, numbers, blocks) = (word(0, 10) as usize, word(1, 100_000), word(2, 16).max(1));
    dagmar::main(move |run| {
        let block = |block| largest((numbers * block / blocks, numbers * (block + 1) / blocks), k);
        let found = reduce(|left, right| larger(left, right, k), map(block, 0..blocks));
        let found = run.compute(found)?.unwrap_or_default();
        // The same without tasks, and without sorting what does not matter.
        let mut all: Vec<u64> = (0..numbers).map(number).collect();
        if k > 0 && k < all.len() {
            all.select_nth_unstable_by(k - 1, |one, other| other.cmp(one));
        }
        if found != keep_largest(all.into_iter().take(k).collect(), k) {
            return Err("these are not the largest".into());
        }
        println!("the {} largest of {numbers} numbers from {blocks} blocks, checked", found.len());
        Ok(())
    })
}
