//! A table by number that reaches as far as it is asked to, for threads that share it without a lock.
//!
//! What it begins with lies in one piece and costs nothing more to look up. Behind that are blocks of twice
//! the length each, which come into being on first use and never move.

use std::sync::OnceLock;

/// Entries of the first block.
const FIRST: usize = 64;
const BLOCKS: usize = u32::BITS as usize;

/// Entries by number, each there once it is asked for.
#[derive(Debug)]
pub struct Growing<T> {
    base: Box<[T]>,
    blocks: Box<[OnceLock<Box<[T]>>]>,
}

impl<T: Default> Growing<T> {
    /// A table that begins with so many entries.
    pub fn new(count: usize) -> Self {
        let blocks = std::iter::repeat_with(OnceLock::new).take(BLOCKS).collect();
        Growing { base: defaults(count), blocks }
    }

    /// An entry.
    #[inline]
    pub fn get(&self, number: usize) -> &T {
        match self.base.get(number) {
            Some(entry) => entry,
            None => self.behind(number - self.base.len()),
        }
    }

    #[cold]
    fn behind(&self, number: usize) -> &T {
        let block = (number / FIRST + 1).ilog2() as usize;
        let before = FIRST * ((1 << block) - 1);
        &self.blocks[block].get_or_init(|| defaults(FIRST << block))[number - before]
    }
}

fn defaults<T: Default>(count: usize) -> Box<[T]> {
    std::iter::repeat_with(T::default).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_number_has_an_entry_of_its_own_that_stays() {
        let table = Growing::<AtomicUsize>::new(3);
        for number in (0..1_000).rev() {
            table.get(number).store(number + 1, Ordering::Relaxed);
        }
        assert!((0..1_000).all(|number| table.get(number).load(Ordering::Relaxed) == number + 1));
        assert_eq!(table.get(30_000_000).load(Ordering::Relaxed), 0);
    }
}
