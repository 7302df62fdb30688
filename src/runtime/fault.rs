//! Faults on demand, for tests of what cannot be provoked from outside.
//!
//! `DAGMAR_FAULT=panic:RANK` makes this rank panic once the run has begun: a worker when it starts
//! its first task, rank 0 when it first hears of a worker. `deaf:RANK` makes a worker miss every order. Any other
//! value is no fault.

use std::env;

use crate::core::id::Rank;

/// The variable that asks for a fault.
const VARIABLE: &str = "DAGMAR_FAULT";

/// What shall go wrong in one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    panics: bool,
    is_deaf: bool,
}

impl Fault {
    /// The fault that the environment asks of this rank.
    pub fn of(rank: Rank) -> Self {
        let asked = env::var(VARIABLE).ok();
        let is = |what: &str| asked.as_deref().is_some_and(|asked| is_of(asked, what, rank));
        Fault { panics: is("panic"), is_deaf: is("deaf") }
    }

    /// True if orders are to be missed.
    pub const fn is_deaf(self) -> bool {
        self.is_deaf
    }

    /// Called once the run has begun.
    pub fn strike(self) {
        assert!(!self.panics, "`{VARIABLE}` made this rank panic on purpose");
    }
}

fn is_of(asked: &str, what: &str, rank: Rank) -> bool {
    asked.split_once(':').is_some_and(|(fault, number)| fault == what && number.parse() == Ok(rank.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_rank_has_the_fault() {
        let asked = |text| [0, 1, 2].map(|rank| is_of(text, "panic", Rank(rank)));
        assert_eq!(asked("panic:1"), [false, true, false]);
        assert_eq!(asked("panic:"), [false; 3]);
        assert_eq!(asked("hang:1"), [false; 3]);
    }
}
