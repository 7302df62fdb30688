//! The only file that reads the time.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::core::time::Timestamp;

/// Now, in microseconds since 1970. Never goes back, even when the system's clock is set.
pub fn now() -> Timestamp {
    static START: OnceLock<(Timestamp, Instant)> = OnceLock::new();
    let (start, began) = START.get_or_init(|| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (Timestamp(since_epoch.as_micros() as u64), Instant::now())
    });
    Timestamp(start.0 + began.elapsed().as_micros() as u64)
}
