//! Points in time and spans of time, as plain numbers. Who reads the clock is `crate::clock`.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01 00:00 UTC, on the clock of the rank that took it.
///
/// One rank's timestamps never go back. Between nodes they differ by the nodes' clock offset, so
/// durations are only taken between timestamps of one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

/// A length of time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Micros(pub u64);

impl Timestamp {
    /// The time from `earlier` to this point, zero when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }
}

impl Micros {
    /// No time at all.
    pub const ZERO: Micros = Micros(0);

    /// `seconds` as microseconds.
    pub const fn from_secs(seconds: u64) -> Micros {
        Micros(seconds * 1_000_000)
    }

    /// `millis` as microseconds.
    pub const fn from_millis(millis: u64) -> Micros {
        Micros(millis * 1_000)
    }

    /// The length in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl From<Duration> for Micros {
    /// Lengths over 584,000 years become the longest that fits.
    fn from(duration: Duration) -> Self {
        Micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
    }
}

impl From<Micros> for Duration {
    fn from(micros: Micros) -> Self {
        Duration::from_micros(micros.0)
    }
}

impl Add<Micros> for Timestamp {
    type Output = Timestamp;

    fn add(self, span: Micros) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Add for Micros {
    type Output = Micros;

    fn add(self, other: Micros) -> Micros {
        Micros(self.0.saturating_add(other.0))
    }
}

impl Sub for Micros {
    type Output = Micros;

    fn sub(self, other: Micros) -> Micros {
        Micros(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Micros {
    /// Three significant figures with a unit: `15 us`, `1.20 s`, `3 min 20 s`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.as_secs_f64();
        match self.0 {
            0..1_000 => write!(out, "{} us", self.0),
            1_000..10_000 => write!(out, "{:.2} ms", seconds * 1e3),
            10_000..1_000_000 => write!(out, "{:.0} ms", seconds * 1e3),
            1_000_000..10_000_000 => write!(out, "{seconds:.2} s"),
            10_000_000..120_000_000 => write!(out, "{seconds:.1} s"),
            120_000_000..7_200_000_000 => {
                write!(out, "{} min {:02} s", self.0 / 60_000_000, self.0 / 1_000_000 % 60)
            }
            _ => write!(out, "{} h {:02} min", self.0 / 3_600_000_000, self.0 / 60_000_000 % 60),
        }
    }
}
