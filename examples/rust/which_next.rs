//! Which task next? One graph under four policies: `which_next [ARRAYS] [BLOCKS] [BLOCK_KIB]`.
//!
//! Several arrays are made of blocks; the sum of each array must not begin before its last block is there.
//! A worker that makes all blocks first holds everything at once; one that ends what it began holds one
//! array. The program says which by priorities, and prints how much lay in memory at most (of one worker
//! if there are several processes), and how long it took.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use dagmar::{Delayed, Runtime, map};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of blocks that are alive in this process, and the most that ever were.
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// A block that is counted while it lives.
struct Block(Vec<f64>);

impl From<Vec<f64>> for Block {
    fn from(numbers: Vec<f64>) -> Self {
        let bytes = numbers.len() as i64 * 8;
        PEAK.fetch_max(LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes, Ordering::Relaxed);
        Block(numbers)
    }
}

impl Serialize for Block {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        dagmar::bulk::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Block {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        dagmar::bulk::deserialize(deserializer).map(Block::from)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        LIVE.fetch_sub(self.0.len() as i64 * 8, Ordering::Relaxed);
    }
}

impl Clone for Block {
    fn clone(&self) -> Self {
        Block::from(self.0.clone())
    }
}

#[dagmar::task]
fn block(array: u64, place: u64, numbers: usize) -> Block {
    Block::from(vec![(array * 100 + place) as f64; numbers])
}

#[dagmar::task]
fn total(blocks: &[Arc<Block>]) -> f64 {
    blocks.iter().flat_map(|block| &block.0).sum()
}

/// Starts counting anew.
#[dagmar::task]
fn reset() -> i64 {
    PEAK.swap(LIVE.load(Ordering::Relaxed), Ordering::Relaxed)
}

/// The order in which the blocks are wanted, as priorities.
type Policy = fn(arrays: u64, array: u64, place: u64) -> i32;

const POLICIES: [(&str, Policy); 4] = [
    ("as it comes", |_, _, _| 0),
    ("one array after the other", |arrays, array, _| (arrays - array) as i32),
    ("across all arrays", |_, _, place| -(place as i32)),
    ("the last array first", |_, array, _| array as i32),
];

/// Runs the example.
pub fn main() -> ExitCode {
    let words: Vec<u64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let word = |place: usize, usual| words.get(place).copied().unwrap_or(usual).max(1);
    let (arrays, blocks, block_kib) = (word(0, 16), word(1, 16), word(2, 64));
    dagmar::main(move |run| {
        println!("{:26} {:>12} {:>10}", "policy", "peak MiB", "seconds");
        for (name, policy) in POLICIES {
            let (peak, took) = measure(run, policy, (arrays, blocks, block_kib))?;
            println!("{name:26} {:12.2} {took:10.3}", peak as f64 / f64::from(1 << 20));
        }
        Ok(())
    })
}

fn measure(
    run: &mut Runtime,
    policy: Policy,
    (arrays, blocks, block_kib): (u64, u64, u64),
) -> Result<(i64, f64), Box<dyn std::error::Error>> {
    let numbers = block_kib as usize * 128;
    run.compute(reset())?;
    let array = |array: u64| -> Delayed<f64> {
        let one = |place| block(array, place, numbers).priority(policy(arrays, array, place));
        // What ends something goes first, whatever the policy says of what begins something.
        total(map(one, 0..blocks)).priority(i32::MAX)
    };
    let began = Instant::now();
    let totals = run.compute(map(array, 0..arrays))?;
    let took = began.elapsed().as_secs_f64();
    let expected = |array: u64| {
        let sum: u64 = (0..blocks).map(|place| array * 100 + place).sum();
        sum as f64 * numbers as f64
    };
    if totals.iter().zip(0..).any(|(found, array)| *found != expected(array)) {
        return Err("a total is wrong".into());
    }
    Ok((run.compute(reset())?, took))
}
