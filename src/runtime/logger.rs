//! The log of one process: `logs/rank-N.log` in the run directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use log::{LevelFilter, Log, Metadata, Record};

use crate::clock;

/// The variable that sets how much is logged: `error`, `warn`, `info` (default), `debug`, `trace`.
const LEVEL: &str = "DAGMAR_LOG";

struct FileLog {
    file: Mutex<File>,
}

/// Sends what this process logs into a file from now on. A second call changes nothing: all ranks of
/// one process share its first log.
pub fn start(path: &Path) -> io::Result<()> {
    let file = Mutex::new(File::options().create(true).append(true).open(path)?);
    let level = std::env::var(LEVEL).ok().and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info);
    if log::set_boxed_logger(Box::new(FileLog { file })).is_ok() {
        log::set_max_level(level);
    }
    Ok(())
}

impl Log for FileLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let now = clock::now().0;
        let line =
            format!("{}.{:06} {:5} {}\n", now / 1_000_000, now % 1_000_000, record.level(), record.args());
        // A log that cannot be written must not stop the run.
        let _ = self.file.lock().map(|mut file| file.write_all(line.as_bytes()));
    }

    fn flush(&self) {}
}
