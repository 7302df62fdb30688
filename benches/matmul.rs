//! A blocked matrix product in dagmar, and the same product by one call of the same BLAS: `matmul blocks SIZE SIDE`
//! with blocks of SIDE rows, or `matmul whole SIZE THREADS`. `scripts/bench matmul` runs both by turns.
//!
//! The BLAS is OpenBLAS (Debian: `libopenblas-dev`), opened when this program runs: nothing is linked with it, and
//! where it is missing the program says so. It computes with one thread inside tasks. The factors are made before the
//! clock starts, in both; the product of whole numbers is checked to the last bit.
#![allow(unsafe_code)] // OpenBLAS is a C library.

use std::ffi::{CStr, c_int, c_void};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use dagmar::Delayed;
use nix::libc;
use serde::{Deserialize, Serialize};

/// A square block, row by row.
#[derive(Clone, Serialize, Deserialize)]
struct Block {
    side: usize,
    #[serde(with = "dagmar::bulk")]
    cells: Vec<f64>,
}

/// The functions of OpenBLAS that are called here.
struct Blas {
    dgemm: Dgemm,
    set_threads: unsafe extern "C" fn(c_int),
}

/// `cblas_dgemm`: order, transpositions, sizes, then `c = alpha a b + beta c` with a row length after each matrix.
type Dgemm = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    f64,
    *const f64,
    c_int,
    *const f64,
    c_int,
    f64,
    *mut f64,
    c_int,
);

const ROW_MAJOR: c_int = 101;
const AS_IT_IS: c_int = 111;

impl Blas {
    /// None if it is not installed.
    fn open() -> Option<Blas> {
        // SAFETY: the name ends with a zero; opening it runs the library's own set-up and nothing else.
        let library = unsafe { libc::dlopen(c"libopenblas.so.0".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        let (dgemm, set_threads) =
            (symbol(library, c"cblas_dgemm")?, symbol(library, c"openblas_set_num_threads")?);
        // SAFETY: both are functions of these types in every OpenBLAS with 32-bit integers, which this one is by its name.
        unsafe {
            Some(Blas {
                dgemm: std::mem::transmute::<*mut c_void, Dgemm>(dgemm),
                set_threads: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int)>(set_threads),
            })
        }
    }

    fn set_threads(&self, count: usize) {
        // SAFETY: the call takes a plain number.
        unsafe { (self.set_threads)(integer(count)) }
    }

    /// Adds `left` times `right` to `sum`; all have `side` rows and columns.
    fn multiply_add(&self, side: usize, left: &[f64], right: &[f64], sum: &mut [f64]) {
        assert!([left.len(), right.len(), sum.len()].iter().all(|&cells| cells == side * side));
        let n = integer(side);
        let (left, right, sum) = (left.as_ptr(), right.as_ptr(), sum.as_mut_ptr());
        // SAFETY: all three have n rows of n cells, as asserted, and the sum is borrowed for this call alone.
        unsafe { (self.dgemm)(ROW_MAJOR, AS_IT_IS, AS_IT_IS, n, n, n, 1.0, left, n, right, n, 1.0, sum, n) }
    }
}

fn symbol(library: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the library is open and stays so, and the name ends with a zero.
    let found = unsafe { libc::dlsym(library, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

fn integer(number: usize) -> c_int {
    c_int::try_from(number).expect("the sides of matrices are C integers")
}

/// OpenBLAS with one thread, as tasks use it.
fn blas() -> &'static Blas {
    static BLAS: OnceLock<Blas> = OnceLock::new();
    BLAS.get_or_init(|| {
        let blas = Blas::open().expect("the program has opened it before");
        blas.set_threads(1);
        blas
    })
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
    blas().multiply_add(sum.side, &left.cells, &right.cells, &mut sum.cells);
    sum
}

#[dagmar::task]
fn add_product(mut sum: Block, left: &Block, right: &Block) -> Block {
    blas().multiply_add(sum.side, &left.cells, &right.cells, &mut sum.cells);
    sum
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<usize>().ok().filter(|&number| number > 0);
    let (mode, size, last) = match words[..] {
        [mode, size, last] => (mode, number(size), number(last)),
        _ => ("", None, None),
    };
    let (Some(size), Some(last)) = (size, last) else {
        println!(
            "usage: matmul blocks SIZE SIDE | matmul whole SIZE THREADS (`scripts/bench matmul` runs both)"
        );
        return ExitCode::SUCCESS;
    };
    if Blas::open().is_none() {
        eprintln!("error: OpenBLAS is not installed\n  hint: apt-get install libopenblas-dev");
        return ExitCode::from(2);
    }
    match mode {
        "blocks" => blocks(size, last),
        "whole" => whole(size, last),
        other => {
            eprintln!("error: `{other}` is neither `blocks` nor `whole`");
            ExitCode::from(2)
        }
    }
}

fn blocks(size: usize, side: usize) -> ExitCode {
    dagmar::main(move |run| {
        if !size.is_multiple_of(side) {
            return Err(format!("{size} rows cannot be divided into blocks of {side}").into());
        }
        let count = size / side;
        let factors = |which| -> Vec<Vec<Delayed<Block>>> {
            let row = |row| (0..count).map(|column| factor(which, (row, column), side)).collect();
            (0..count).map(row).collect()
        };
        let (left, right) = (factors(0), factors(1));
        run.persist(&(&left, &right))?;
        let block = |row: usize, column: usize| {
            let first = product(&left[row][0], &right[0][column]);
            (1..count).fold(first, |sum, k| add_product(sum, &left[row][k], &right[k][column]))
        };
        let result: Vec<Delayed<Block>> =
            (0..count * count).map(|at| block(at / count, at % count)).collect();
        let began = Instant::now();
        run.persist(&result)?;
        tell(size, began.elapsed().as_secs_f64());
        let expected = Sums::new(size, side);
        for (at, block) in result.into_iter().enumerate() {
            let block = run.compute(block)?;
            let (first_row, first_column) = (at / count * side, at % count * side);
            expected.check(&block.cells, (first_row, first_column), side)?;
        }
        Ok(())
    })
}

fn whole(size: usize, threads: usize) -> ExitCode {
    let blas = blas();
    blas.set_threads(threads);
    let factor = |which| (0..size * size).map(|at| cell(which, at / size, at % size)).collect::<Vec<f64>>();
    let (left, right) = (factor(0), factor(1));
    let began = Instant::now();
    let mut sum = vec![0.0; size * size];
    blas.multiply_add(size, &left, &right, &mut sum);
    tell(size, began.elapsed().as_secs_f64());
    let width = if size.is_multiple_of(8) { size / 8 } else { size };
    match Sums::new(size, width).check(&sum, (0, 0), size) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn tell(size: usize, seconds: f64) {
    let rate = 2.0 * (size as f64).powi(3) / seconds / 1e9;
    println!("{{\"program\":\"matmul\",\"size\":{size},\"seconds\":{seconds:.6},\"gflops\":{rate:.1}}}");
}

/// The sums of cells of the product that stand side by side in a row, computed without the product: a row of the first
/// factor times the sums of the second factor's cells.
struct Sums {
    size: usize,
    width: usize,
    /// For each part of the columns, `width` of them: the sum of each row of the second factor.
    right: Vec<Vec<f64>>,
}

impl Sums {
    fn new(size: usize, width: usize) -> Self {
        let part = |first: usize| -> Vec<f64> {
            (0..size).map(|k| (first..first + width).map(|column| cell(1, k, column)).sum()).collect()
        };
        Sums { size, width, right: (0..size).step_by(width).map(part).collect() }
    }

    /// Checks all rows of the product's part that begins at a row and a column; its rows are `side` long.
    fn check(
        &self,
        cells: &[f64],
        (first_row, first_column): (usize, usize),
        side: usize,
    ) -> Result<(), String> {
        for (row, cells) in (first_row..).zip(cells.chunks(side)) {
            let left: Vec<f64> = (0..self.size).map(|k| cell(0, row, k)).collect();
            for (column, cells) in (first_column..).step_by(self.width).zip(cells.chunks(self.width)) {
                let right = &self.right[column / self.width];
                let expected: f64 = left.iter().zip(right).map(|(left, right)| left * right).sum();
                let found: f64 = cells.iter().sum();
                if found != expected {
                    return Err(format!(
                        "the cells from ({row}, {column}) on add up to {found}, not {expected}"
                    ));
                }
            }
        }
        Ok(())
    }
}
