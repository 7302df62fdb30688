//! Numbers side by side: the graph's own, or lent by whoever keeps a file in memory.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Numbers side by side. Read like a slice.
#[derive(Clone)]
pub struct Numbers(Words);

#[derive(Clone)]
enum Words {
    Owned(Vec<u32>),
    Lent {
        words: &'static [u32],
        /// Keeps what `words` points to. Nobody reads it.
        _lender: Arc<dyn Send + Sync>,
    },
}

impl Numbers {
    /// No numbers.
    pub const fn new() -> Self {
        Numbers(Words::Owned(Vec::new()))
    }

    /// Numbers that stay where they are for as long as `lender` lives. No slice of this column lives
    /// longer than the column, which keeps the lender.
    pub fn lent(words: &'static [u32], lender: Arc<dyn Send + Sync>) -> Self {
        Numbers(Words::Lent { words, _lender: lender })
    }

    /// Adds a number behind the others.
    pub(super) fn push(&mut self, number: u32) {
        self.owned().push(number);
    }

    /// Adds numbers behind the others.
    pub(super) fn extend(&mut self, numbers: impl IntoIterator<Item = u32>) {
        self.owned().extend(numbers);
    }

    /// Puts numbers into the place of the last ones.
    pub(super) fn replace_last(&mut self, numbers: &[u32]) {
        let start = self.len() - numbers.len();
        self.owned()[start..].copy_from_slice(numbers);
    }

    /// Gives back memory that is not used.
    pub(super) fn shrink(&mut self) {
        self.owned().shrink_to_fit();
    }

    /// The numbers as the graph's own: copied if they are lent.
    fn owned(&mut self) -> &mut Vec<u32> {
        if let Words::Lent { words, .. } = self.0 {
            self.0 = Words::Owned(words.to_vec());
        }
        match &mut self.0 {
            Words::Owned(words) => words,
            Words::Lent { .. } => unreachable!("lent numbers were just copied"),
        }
    }
}

impl Deref for Numbers {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Words::Owned(words) => words,
            Words::Lent { words, .. } => words,
        }
    }
}

impl Default for Numbers {
    fn default() -> Self {
        Numbers::new()
    }
}

impl From<Vec<u32>> for Numbers {
    fn from(words: Vec<u32>) -> Self {
        Numbers(Words::Owned(words))
    }
}

impl PartialEq for Numbers {
    fn eq(&self, other: &Self) -> bool {
        self[..] == other[..]
    }
}

impl Eq for Numbers {}

impl fmt::Debug for Numbers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self[..].fmt(out)
    }
}
