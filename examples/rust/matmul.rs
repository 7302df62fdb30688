//! A blocked matrix product: `matmul [SIZE] [BLOCKS]`, with BLOCKS blocks along each side.
//!
//! Every block of the result is a chain of tasks, each of which adds one product of two blocks. The
//! blocks of the factors are made where they are needed and never pass through rank 0.
#![allow(unsafe_code)] // The fast product of two blocks is behind a C-like interface.

use std::process::ExitCode;
use std::time::Instant;

use dagmar::Delayed;
use serde::{Deserialize, Serialize};

/// A square block, row by row.
#[derive(Clone, Serialize, Deserialize)]
struct Block {
    side: usize,
    #[serde(with = "dagmar::bulk")]
    cells: Vec<f64>,
}

/// A cell of the first factor (`which` 0) or the second: small whole numbers, so that sums are exact.
fn cell(which: usize, row: usize, column: usize) -> f64 {
    ((row * 31 + column * 17 + which * 7) % 11) as f64 - 5.0
}

#[dagmar::task]
fn factor(which: usize, (row, column): (usize, usize), side: usize) -> Block {
    let cells = (0..side * side).map(|at| cell(which, row * side + at / side, column * side + at % side));
    Block { side, cells: cells.collect() }
}

#[dagmar::task]
fn product(left: &Block, right: &Block) -> Block {
    let mut sum = Block { side: left.side, cells: vec![0.0; left.cells.len()] };
    multiply_add(&mut sum, left, right);
    sum
}

#[dagmar::task]
fn add_product(mut sum: Block, left: &Block, right: &Block) -> Block {
    multiply_add(&mut sum, left, right);
    sum
}

/// Adds `left` times `right` to `sum`.
fn multiply_add(sum: &mut Block, left: &Block, right: &Block) {
    let n = sum.side;
    assert!([&*sum, left, right].iter().all(|block| block.side == n && block.cells.len() == n * n));
    let (left, right, sum) = (left.cells.as_ptr(), right.cells.as_ptr(), sum.cells.as_mut_ptr());
    let row = n as isize;
    // SAFETY: All three have n rows of n cells, as asserted, and the sum is borrowed for us alone.
    unsafe { matrixmultiply::dgemm(n, n, n, 1.0, left, row, 1, right, row, 1, 1.0, sum, row, 1) }
}

/// What can be checked of a block without bringing it here: the cells on its first diagonal places, and
/// the sum of all.
#[dagmar::task]
fn sample(block: &Block) -> (Vec<f64>, f64) {
    let places = 0..block.side.min(4);
    (places.map(|at| block.cells[at * block.side + at]).collect(), block.cells.iter().sum())
}

/// Runs the example.
pub fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let (size, blocks) = (numbers.first().copied().unwrap_or(512), numbers.get(1).copied().unwrap_or(4));
    dagmar::main(move |run| {
        if blocks == 0 || !size.is_multiple_of(blocks) {
            return Err(format!("{size} rows cannot be divided into {blocks} blocks").into());
        }
        let side = size / blocks;
        let factors = |which| -> Vec<Vec<Delayed<Block>>> {
            let row = |row| (0..blocks).map(|column| factor(which, (row, column), side)).collect();
            (0..blocks).map(row).collect()
        };
        let (left, right) = (factors(0), factors(1));
        run.persist(&(&left, &right))?;
        let block = |row: usize, column: usize| {
            let first = product(&left[row][0], &right[0][column]);
            (1..blocks).fold(first, |sum, k| add_product(sum, &left[row][k], &right[k][column]))
        };
        let result: Vec<Delayed<Block>> =
            (0..blocks * blocks).map(|at| block(at / blocks, at % blocks)).collect();
        let began = Instant::now();
        run.persist(&result)?;
        let took = began.elapsed().as_secs_f64();
        check(&run.compute(result.iter().map(sample).collect::<Vec<_>>())?, size, blocks)?;
        let operations = 2.0 * (size as f64).powi(3);
        println!(
            "{size} x {size} in {} products on {} cpus: {took:.3} s, {:.1} Gflop/s, checked",
            blocks.pow(3),
            run.cpus(),
            operations / took / 1e9
        );
        Ok(())
    })
}

/// Compares with products that are computed directly, and with the sum of all cells of each block.
fn check(samples: &[(Vec<f64>, f64)], size: usize, blocks: usize) -> Result<(), String> {
    let side = size / blocks;
    let rows_sum = |block: usize, k: usize| (0..side).map(|row| cell(0, block * side + row, k)).sum::<f64>();
    let columns_sum =
        |block: usize, k: usize| (0..side).map(|column| cell(1, k, block * side + column)).sum::<f64>();
    for (at, (diagonal, sum)) in samples.iter().enumerate() {
        let (row, column) = (at / blocks, at % blocks);
        for (place, found) in diagonal.iter().enumerate() {
            let (row, column) = (row * side + place, column * side + place);
            let direct: f64 = (0..size).map(|k| cell(0, row, k) * cell(1, k, column)).sum();
            if direct != *found {
                return Err(format!("cell ({row}, {column}) is {found}, not {direct}"));
            }
        }
        let direct: f64 = (0..size).map(|k| rows_sum(row, k) * columns_sum(column, k)).sum();
        if direct != *sum {
            return Err(format!("the cells of block ({row}, {column}) add up to {sum}, not {direct}"));
        }
    }
    Ok(())
}
