//! Sorts numbers that are spread over all workers: `sample_sort [NUMBERS] [PARTS]`.
//!
//! Each part is sorted where it was made and gives a sample; the samples together say where to cut; each
//! part is cut, and the pieces of one range are merged. Everybody sends to everybody, but only once.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use dagmar::{Delayed, map};

/// The n-th number of a sequence without order (the finaliser of SplitMix64).
fn number(n: u64) -> u64 {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[dagmar::task]
fn sorted_part(first: u64, count: u64) -> Vec<u64> {
    let mut part: Vec<u64> = (first..first + count).map(number).collect();
    part.sort_unstable();
    part
}

/// Evenly spaced numbers of a sorted part.
#[dagmar::task]
fn sample(part: &[u64], count: usize) -> Vec<u64> {
    (0..count).filter_map(|at| part.get((2 * at + 1) * part.len() / (2 * count)).copied()).collect()
}

/// The numbers at which all parts are cut, one fewer than there are ranges.
#[dagmar::task]
fn cuts(samples: &[Arc<Vec<u64>>], ranges: usize) -> Vec<u64> {
    let mut all: Vec<u64> = samples.iter().flat_map(|sample| sample.iter().copied()).collect();
    all.sort_unstable();
    (1..ranges).filter_map(|range| all.get(range * all.len() / ranges).copied()).collect()
}

/// The numbers of a sorted part that belong to one range.
#[dagmar::task]
fn piece(part: &[u64], cuts: &[u64], range: usize) -> Vec<u64> {
    let from = range.checked_sub(1).map_or(0, |before| part.partition_point(|number| *number < cuts[before]));
    let to = cuts.get(range).map_or(part.len(), |cut| part.partition_point(|number| number < cut));
    part[from..to].to_vec()
}

#[dagmar::task]
fn merged(pieces: &[Arc<Vec<u64>>]) -> Vec<u64> {
    let mut all: Vec<u64> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
    // Runs that are in order already are found and merged.
    all.sort();
    all
}

/// What tells whether a range is right: its ends, whether it is in order, how many numbers it has, and
/// two sums that do not depend on their order.
#[dagmar::task]
fn summary(range: &[u64]) -> (Option<(u64, u64)>, bool, u64, u64, u64) {
    let ends = range.first().copied().zip(range.last().copied());
    let sums = range.iter().fold((0_u64, 0_u64), |(sum, squares), &number| {
        (sum.wrapping_add(number), squares.wrapping_add(number.wrapping_mul(number)))
    });
    (ends, range.is_sorted(), range.len() as u64, sums.0, sums.1)
}

/// Runs the example.
pub fn main() -> ExitCode {
    let words: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (numbers, parts) =
        (words.first().copied().unwrap_or(200_000), words.get(1).copied().unwrap_or(8).max(1));
    dagmar::main(move |run| {
        let began = Instant::now();
        let bounds: Vec<u64> = (0..=parts).map(|part| numbers * part / parts).collect();
        let sorted = map(|pair: &[u64]| sorted_part(pair[0], pair[1] - pair[0]), bounds.windows(2));
        let samples = map(|part| sample(part, 4 * parts as usize), &sorted);
        let cuts = cuts(samples, parts as usize);
        let range = |range| merged(map(|part| piece(part, &cuts, range), &sorted));
        let ranges: Vec<Delayed<Vec<u64>>> = map(range, 0..parts as usize);
        run.persist(&ranges)?;
        let took = began.elapsed().as_secs_f64();
        let summaries = run.compute(map(summary, &ranges))?;
        let (mut count, mut sums, mut last) = (0, (0_u64, 0_u64), None);
        for (ends, is_sorted, length, sum, squares) in summaries {
            if let Some((first, end)) = ends {
                if !is_sorted || last.is_some_and(|last| first < last) {
                    return Err("the numbers are not in order".into());
                }
                last = Some(end);
            }
            count += length;
            sums = (sums.0.wrapping_add(sum), sums.1.wrapping_add(squares));
        }
        let given = (0..numbers).map(number).fold((0_u64, 0_u64), |(sum, squares), number| {
            (sum.wrapping_add(number), squares.wrapping_add(number.wrapping_mul(number)))
        });
        if (count, sums) != (numbers, given) {
            return Err("these are other numbers than those that were to be sorted".into());
        }
        println!("{numbers} numbers in {parts} parts on {} cpus: {took:.3} s, checked", run.cpus());
        Ok(())
    })
}
