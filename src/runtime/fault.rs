//! Faults on demand, for tests of what cannot be provoked from outside.
//!
//! `DAGMAR_FAULT=panic:RANK` makes this rank panic once the run has begun: a worker when it starts
//! its first task, rank 0 when it first hears of a worker. Any other value is no fault.

use std::env;

use crate::core::id::Rank;

/// The variable that asks for a fault.
const VARIABLE: &str = "DAGMAR_FAULT";

/// What shall go wrong in one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    panics: bool,
}

impl Fault {
    /// The fault that the environment asks of this rank.
    pub fn of(rank: Rank) -> Self {
        let asked = env::var(VARIABLE).ok();
        Fault { panics: asked.is_some_and(|asked| is_panic_of(&asked, rank)) }
    }

    /// Called once the run has begun.
    pub fn strike(self) {
        assert!(!self.panics, "`{VARIABLE}` made this rank panic on purpose");
    }
}

fn is_panic_of(asked: &str, rank: Rank) -> bool {
    asked.strip_prefix("panic:").and_then(|number| number.parse().ok()) == Some(rank.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_rank_panics() {
        let asked = |text| [0, 1, 2].map(|rank| is_panic_of(text, Rank(rank)));
        assert_eq!(asked("panic:1"), [false, true, false]);
        assert_eq!(asked("panic:"), [false; 3]);
        assert_eq!(asked("hang:1"), [false; 3]);
    }
}
