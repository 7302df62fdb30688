//! Whether a process is still the one that was started.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::clock;
use crate::core::time::Micros;
use crate::launch::batch::JobId;

/// How long a shell may take to say who it is.
const RECORD_WITHIN: Micros = Micros::from_secs(10);
/// How often a file is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// What a process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Running,
    Stopped,
    Gone,
    /// On a host whose processes cannot be seen.
    Elsewhere,
}

/// What the process that this id names is doing. A number that was given to another process since
/// has another start.
pub(super) fn life(id: &JobId) -> Life {
    let Some((pid, start)) = parts(id) else { return Life::Gone };
    match status(pid) {
        Some((_, now)) if now != start => Life::Gone,
        Some(('Z' | 'X', _)) | None => Life::Gone,
        Some(('T' | 't', _)) => Life::Stopped,
        Some(_) => Life::Running,
    }
}

/// The process number and the moment of its start, in clock ticks since the machine's.
pub(super) fn parts(id: &JobId) -> Option<(i32, u64)> {
    let (pid, start) = id.as_str().split_once('.')?;
    let pid = pid.parse().ok().filter(|pid| *pid > 1)?;
    Some((pid, start.parse().ok()?))
}

/// Its state and start, as the kernel tells them. The name, which may contain anything, ends at the
/// last parenthesis.
fn status(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The id that process `pid` writes into its record.
pub(super) fn await_record(record: &Path, pid: u32) -> Option<JobId> {
    let own = format!("{pid}.");
    wait_until(RECORD_WITHIN, || {
        let text = fs::read_to_string(record).ok()?;
        let id = text.split(' ').next()?;
        if id.starts_with(&own) { JobId::new(id) } else { None }
    })
}

/// Looks until there is something, but not for ever.
pub(super) fn wait_until<T>(limit: Micros, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = clock::now() + limit;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if clock::now() >= deadline {
            return None;
        }
        thread::sleep(LOOK);
    }
}
