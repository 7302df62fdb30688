//! `dagmar logs`: what tasks printed, from the run directory's packs.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::formats::resolve;
use crate::core::id::{Attempt, TaskId};
use crate::observe::snapshot::State;
use crate::record::pack::Piece;
use crate::record::pack_reader::{PackReader, PieceReader};

use super::failure::Failure;
use super::flags::LogsFlags;
use super::job_watch::JobWatch;
use super::output::{Format, Page, tell};
use super::past_run::PastRun;
use super::run_job;
use super::values::hex;
use super::{CommandResult, OK};

/// How often a followed run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Prints what was asked for.
pub fn run(flags: &LogsFlags) -> CommandResult {
    let run = PastRun::find(flags.run.as_deref())?;
    let tasks = tasks(&run, flags)?;
    let mut printer = Printer::new(&run, flags, &tasks)?;
    if flags.follow {
        follow(&run, &mut printer, &tasks)?;
    } else {
        printer.print_all(&tasks)?;
    }
    if let Some(damage) = printer.packs.damages().first() {
        let (path, offset) = (damage.path.display(), damage.offset);
        let message = format!("some of what was printed is lost: `{path}` is damaged from byte {offset} on");
        return Err(Failure::broken(message));
    }
    if printer.printed.is_empty() {
        tell("nothing was printed");
    }
    Ok(OK)
}

/// Prints until the run is over, or until its job is and the run never will be.
fn follow(run: &PastRun, printer: &mut Printer<'_>, tasks: &[TaskId]) -> Result<(), Failure> {
    let mut job = JobWatch::new(&run.directory)?;
    let (mut is_told, mut is_asked) = (false, true);
    loop {
        // Looked at first: what was printed before the end is then surely there.
        let finished = run.finished()?;
        let may_go_on =
            |finished| is_asked && job.has_job() && !job.is_over() && run_job::can_go_on(finished);
        let is_over = finished.as_ref().is_some_and(|finished| !may_go_on(finished));
        let is_lost = finished.is_none() && job.is_long_over();
        printer.print_all(tasks)?;
        if is_over {
            return Ok(());
        } else if is_lost {
            return Err(job.loss(&run.directory));
        }
        if finished.is_some() {
            job.expect_end();
        }
        let has_begun = run.directory.has_begun();
        match if is_asked { job.ask() } else { Ok(None) } {
            Ok(Some(news)) if !is_told && !has_begun => {
                tell(&format!("{} has not begun: {news}", run.directory.name()));
                is_told = true;
            }
            Ok(_) => {}
            // What the run prints can be read without the batch system.
            Err(_) if has_begun => is_asked = false,
            Err(failure) => return Err(failure),
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// The tasks asked for; without a key the failed ones, or all.
fn tasks(run: &PastRun, flags: &LogsFlags) -> Result<Vec<TaskId>, Failure> {
    // Also tells the graph of tasks that were added while it ran.
    let events = run.events()?;
    if let Some(key) = &flags.key {
        let tasks = resolve(&run.graph, std::slice::from_ref(key));
        return tasks
            .map(|tasks| tasks.iter().collect())
            .map_err(|error| Failure::usage(error.to_string()).hint(error.hint()));
    }
    let has_failed = |task: &TaskId| events.snapshot().state(*task) == State::Failed;
    let failed: Vec<TaskId> = run.graph.tasks().filter(has_failed).collect();
    let all = || run.graph.tasks().filter(|&task| !run.graph.is_join(task)).collect();
    Ok(if failed.is_empty() || flags.follow { all() } else { failed })
}

struct Printer<'a> {
    run: &'a PastRun,
    packs: PackReader,
    pieces: Vec<Piece>,
    /// True if more than one stream may appear, so that each needs a heading.
    has_headings: bool,
    /// Bytes printed of each stream of each attempt.
    printed: HashMap<(TaskId, Attempt, Piece), u64>,
    last: Option<(TaskId, Attempt, Piece)>,
    format: Format,
    page: Page,
}

impl<'a> Printer<'a> {
    fn new(run: &'a PastRun, flags: &LogsFlags, tasks: &[TaskId]) -> Result<Self, Failure> {
        let packs = PackReader::of_run(&run.place).map_err(|error| Failure::broken(error.to_string()))?;
        let pieces = match (flags.stdout, flags.stderr) {
            (true, _) => vec![Piece::Stdout],
            (_, true) => vec![Piece::Stderr],
            _ => vec![Piece::Stdout, Piece::Stderr],
        };
        let has_several = |&task: &TaskId| {
            let latest = packs.latest_attempt(task).map_or(0, |attempt| attempt.0);
            let left = |attempt: &Attempt| packs.reader(task, Some(*attempt), pieces[0]).is_some();
            (1..=latest).map(Attempt).filter(left).count() > 1
        };
        let has_headings = tasks.len() > 1 || pieces.len() > 1 || tasks.iter().any(has_several);
        let (printed, last, format, page) = (HashMap::new(), None, flags.output, Page::open());
        Ok(Printer { run, packs, pieces, has_headings, printed, last, format, page })
    }

    /// Prints what these tasks printed since the last time.
    fn print_all(&mut self, tasks: &[TaskId]) -> Result<(), Failure> {
        self.packs.refresh().map_err(|error| Failure::broken(error.to_string()))?;
        for &task in tasks {
            self.print(task)?;
        }
        self.page.flush()
    }

    /// Prints what every attempt of a task printed and was not printed yet.
    fn print(&mut self, task: TaskId) -> Result<(), Failure> {
        let latest = self.packs.latest_attempt(task).map_or(0, |attempt| attempt.0);
        for attempt in (1..=latest).map(Attempt) {
            for piece in self.pieces.clone() {
                self.print_piece((task, attempt, piece))?;
            }
        }
        Ok(())
    }

    fn print_piece(&mut self, key: (TaskId, Attempt, Piece)) -> Result<(), Failure> {
        let (task, attempt, piece) = key;
        let Some(mut reader) = self.packs.reader(task, Some(attempt), piece) else { return Ok(()) };
        let printed = self.printed.get(&key).copied().unwrap_or(0);
        reader.skip(printed);
        if reader.left_bytes() == 0 {
            return Ok(());
        }
        let bytes = match self.format {
            Format::Json => self.json(key, &mut reader)?,
            Format::Human => {
                self.heading(key)?;
                self.page.copy(&mut reader)?
            }
        };
        self.printed.insert(key, printed + bytes);
        Ok(())
    }

    /// One line of JSON; bytes that are no text as `hex`.
    fn json(&mut self, key: (TaskId, Attempt, Piece), reader: &mut PieceReader) -> Result<u64, Failure> {
        let (task, attempt, piece) = key;
        let bytes = reader.read_rest().map_err(|error| Failure::broken(error.to_string()))?;
        let stream = if piece == Piece::Stderr { "stderr" } else { "stdout" };
        let mut object = json!({ "key": self.run.graph.key(task), "attempt": attempt.0, "stream": stream });
        match std::str::from_utf8(&bytes) {
            Ok(text) => object["text"] = json!(text),
            Err(_) => object["hex"] = json!(hex(&bytes)),
        }
        self.page.json(&object)?;
        Ok(bytes.len() as u64)
    }

    fn heading(&mut self, key: (TaskId, Attempt, Piece)) -> Result<(), Failure> {
        if !self.has_headings || self.last == Some(key) {
            return Ok(());
        }
        self.last = Some(key);
        let (task, attempt, piece) = key;
        let stream = if piece == Piece::Stderr { ", standard error" } else { "" };
        let again = if attempt > Attempt::FIRST { format!(", attempt {attempt}") } else { String::new() };
        self.page.end_line()?;
        self.page.line(format!("==> {}{again}{stream} <==", self.run.graph.key(task)))
    }
}
