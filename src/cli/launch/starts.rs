//! How often the ranks of a run are started in one allocation: as long as each start gets somewhere.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use crate::core::event::{Cause, Event};
use crate::core::id::TaskId;
use crate::core::task::Body;
use crate::launch::supervise::Ended;
use crate::record::edits;
use crate::record::journal::JournalReader;
use crate::record::last_words;
use crate::record::layout::RunDirectory;
use crate::record::packed;

use super::super::output::tell;

/// Starts in a row that may end without a task having ended.
const VAIN_MAX: u32 = 3;
/// Starts in a row that may end by a task that killed its rank, and without a task having ended. A function that
/// always crashes would otherwise cost a start for each try of each of its tasks.
const KILLED_MAX: u32 = 10;

/// The starts so far.
pub(super) struct Starts<'a> {
    directory: &'a RunDirectory,
    resumes: bool,
    /// How far the run was when the last start began.
    was: Progress,
    /// Starts since the last in which a task ended, or killed its rank.
    vain: u32,
    /// Starts since the last in which a task ended.
    killed: u32,
}

impl<'a> Starts<'a> {
    /// None yet in this allocation.
    pub fn new(directory: &'a RunDirectory, resumes: bool) -> Self {
        Starts { directory, resumes, was: Progress::of(directory), vain: 0, killed: 0 }
    }

    /// True if the next start goes on with what earlier ones left.
    pub fn resumes(&self) -> bool {
        self.resumes
    }

    /// A start was cut off. True if the ranks are to be started again.
    pub fn is_worth_another(&mut self, ended: &Ended) -> bool {
        self.resumes |= self.directory.has_begun();
        let now = Progress::of(self.directory);
        let latest = now.latest_killing;
        self.count(now);
        let name = self.directory.name();
        if self.vain >= VAIN_MAX {
            tell(&format!("`{name}` was started {VAIN_MAX} times without getting anywhere"));
            return false;
        }
        if self.killed >= KILLED_MAX {
            let who =
                latest.and_then(|task| who(self.directory, task)).unwrap_or_else(|| "a task".to_owned());
            tell(&format!(
                "`{name}` was cut off {KILLED_MAX} times in a row by tasks that killed their rank, the last time by \
                 {who}; nothing else ended meanwhile"
            ));
            tell(&format!(
                "  hint: mend it and go on with `dagmar resume {name}`; with `--crash-limit 1` each such task fails \
                 with the first time"
            ));
            return false;
        }
        let code = ended.code();
        tell(&match self.resumes {
            _ if ended.is_overdue => format!("`{name}` did not begin in time; starting it again"),
            true => format!("a rank of `{name}` was lost (the launcher ended with {code}); going on"),
            false => format!("`{name}` did not begin (the launcher ended with {code}); starting it again"),
        });
        thread::sleep(Duration::from_secs(u64::from(self.vain)));
        true
    }

    fn count(&mut self, now: Progress) {
        (self.vain, self.killed) = match (now.ended > self.was.ended, now.killings > self.was.killings) {
            (true, _) => (0, 0),
            (false, true) => (0, self.killed + 1),
            (false, false) => (self.vain + 1, self.killed),
        };
        self.was = now;
    }
}

/// What is told of a task that killed its rank: its function, and the group of tasks that it is of.
fn who(directory: &RunDirectory, task: TaskId) -> Option<String> {
    let directory = edits::with_edits(directory.clone()).ok()?;
    let graph = packed::open(&directory.graph_of(directory.lineage().current())).ok()?;
    if !graph.began_with(task) {
        return Some("a task that another one submitted".to_owned());
    }
    let group = &graph.group_of(task).name;
    Some(match &graph.operation(task).body {
        Body::Call(call) => format!("the function `{}` of `{group}`", call.function),
        _ => format!("`{group}`"),
    })
}

/// How far a run is, as far as its events have it.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Tasks that ended by themselves at least once. An attempt that was lost or told to stop got nowhere, and neither
    /// did one that only repeated what had been done before.
    ended: u64,
    /// Attempts that killed their rank. Each brings its task nearer to the limit; the next start records it.
    killings: u64,
    /// The last of them.
    latest_killing: Option<TaskId>,
}

/// What a run has done, in one number that grows while it gets somewhere.
pub(super) fn ended_attempts(directory: &RunDirectory) -> u64 {
    let progress = Progress::of(directory);
    progress.ended + progress.killings
}

impl Progress {
    fn of(directory: &RunDirectory) -> Self {
        let Ok(journal) = JournalReader::open(&directory.journal()) else { return Progress::default() };
        let (mut seen, mut progress) = (Vec::new(), Progress::default());
        let mut killed = BTreeSet::new();
        for (_, event) in journal.map_while(Result::ok) {
            match event {
                Event::TasksFinished { batch, .. } => {
                    batch.tasks().for_each(|task| progress.ended += see(&mut seen, task));
                }
                Event::AttemptFailed { task, attempt, failure, .. } if is_killing(&failure.cause) => {
                    killed.insert((task, attempt));
                }
                Event::AttemptFailed { task, failure, .. } if !is_cut_off(&failure.cause) => {
                    progress.ended += see(&mut seen, task);
                }
                // Tasks have other numbers from here on.
                Event::GraphEdited(_) => {
                    seen.clear();
                    progress.killings += std::mem::take(&mut killed).len() as u64;
                }
                _ => {}
            }
        }
        let words = edits::with_edits(directory.clone()).ok().and_then(|run| last_words::read(&run).ok());
        for words in words.unwrap_or_default() {
            if killed.insert((words.task, words.attempt)) {
                // Of the last start: what came before is recorded by now.
                progress.latest_killing = Some(words.task);
            }
        }
        progress.killings += killed.len() as u64;
        progress.latest_killing = progress.latest_killing.or(killed.last().map(|(task, _)| *task));
        progress
    }
}

const fn is_killing(cause: &Cause) -> bool {
    matches!(cause, Cause::KilledRank { .. })
}

/// 1 for a task that was not seen before.
fn see(seen: &mut Vec<bool>, task: TaskId) -> u64 {
    if seen.len() <= task.index() {
        seen.resize(task.index() + 1, false);
    }
    u64::from(!std::mem::replace(&mut seen[task.index()], true))
}

fn is_cut_off(cause: &Cause) -> bool {
    cause.is_infrastructure() || matches!(cause, Cause::Cancelled | Cause::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_end_by_killings_are_counted_until_a_task_ends() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(folder.path(), "g").unwrap();
        let mut starts = Starts::new(&directory, false);
        let mut count = |ended, killings| {
            starts.count(Progress { ended, killings, latest_killing: None });
            (starts.vain, starts.killed)
        };
        assert_eq!(count(0, 1), (0, 1));
        assert_eq!(count(0, 2), (0, 2));
        assert_eq!(count(0, 2), (1, 2), "one that was lost otherwise");
        assert_eq!(count(0, 3), (0, 3));
        assert_eq!(count(1, 4), (0, 0));
        assert_eq!(count(1, 5), (0, 1));
    }
}
