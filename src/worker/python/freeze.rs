//! Children that stand still, as nobody lets them go on: they would keep their task for ever.

use std::fs;

use crate::core::time::{Micros, Timestamp};

/// How often to look.
const EVERY: Micros = Micros::from_secs(1);
/// Looks in a row that find a child stopped before it counts as lost. If the whole node stood still, none was made.
const LOOKS: u32 = 10;

/// Looks after a child during one call.
#[derive(Debug)]
pub struct Freeze {
    looked: Timestamp,
    stopped: u32,
}

impl Freeze {
    /// The call begins.
    pub fn new(now: Timestamp) -> Self {
        Freeze { looked: now, stopped: 0 }
    }

    /// True once the process has stood still for long.
    pub fn has_frozen(&mut self, process: i32, now: Timestamp) -> bool {
        if now.since(self.looked) >= EVERY {
            self.looked = now;
            self.stopped = if is_stopped(process) { self.stopped + 1 } else { 0 };
        }
        self.stopped >= LOOKS
    }
}

/// True for a process that a signal has stopped.
fn is_stopped(process: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // What it is called may contain anything.
    let state = text.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state == Some("T")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_not_frozen_however_often_it_is_looked_at() {
        let process = std::process::id() as i32;
        let mut freeze = Freeze::new(Timestamp(0));
        assert!((1..60).all(|second| !freeze.has_frozen(process, Timestamp(second * 1_000_000))));
    }
}
