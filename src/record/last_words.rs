//! Last words: what a rank that is ended by a function of a task writes before it goes.
//!
//! One file for a life of a rank, beside its pack and named like it (`rank-3.2.last-words`), which comes into being
//! only then. It has one line: `task 17 attempt 2 signal 11`, or `task 17 attempt 2 exit`. A process that is about
//! to die writes it, so it is text that needs no encoder, and whoever reads it believes whole lines only.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::core::event::Death;
use crate::core::id::{Attempt, Rank, TaskId};

use super::layout::RunDirectory;
use super::pack::graph_of;

/// How the files' names end.
const EXTENSION: &str = "last-words";
/// No line is longer.
const BYTES_MAX: u64 = 128;

/// What one file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWords {
    /// Where it lies.
    pub path: PathBuf,
    /// Whose it is.
    pub rank: Rank,
    /// What ended the rank.
    pub task: TaskId,
    /// Which try.
    pub attempt: Attempt,
    /// How.
    pub death: Death,
}

/// The file for the rank that writes this pack.
pub fn beside(pack: &Path) -> PathBuf {
    pack.with_extension(EXTENSION)
}

/// The last words of all lives since the run was edited last. What cannot be understood says nothing.
pub fn read(run: &RunDirectory) -> io::Result<Vec<LastWords>> {
    read_of(&run.output(), run.lineage().current())
}

/// Those that name tasks by this graph.
fn read_of(directory: &Path, graph: u32) -> io::Result<Vec<LastWords>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(rank) = rank_of(&path).filter(|_| graph_of(&path) == Some(graph)) else { continue };
        let mut text = String::new();
        // What is not text, or is gone by now, is no word either.
        if File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)).is_err() {
            continue;
        }
        if let Some((task, attempt, death)) = parse(&text) {
            found.push(LastWords { path, rank, task, attempt, death });
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}

fn rank_of(path: &Path) -> Option<Rank> {
    let name = path.file_name()?.to_str()?.strip_prefix("rank-")?.strip_suffix(EXTENSION)?;
    Some(Rank(name.split('.').next()?.parse().ok()?))
}

fn parse(text: &str) -> Option<(TaskId, Attempt, Death)> {
    let (line, _) = text.split_once('\n')?;
    let words: Vec<&str> = line.split(' ').collect();
    let (task, attempt, death) = match words[..] {
        ["task", task, "attempt", attempt, "exit"] => (task, attempt, Death::Exit),
        ["task", task, "attempt", attempt, "signal", signal] => {
            (task, attempt, Death::Signal(signal.parse().ok()?))
        }
        _ => return None,
    };
    Some((TaskId(task.parse().ok()?), Attempt(attempt.parse().ok()?), death))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_believed_and_nothing_else() {
        let (task, attempt) = (TaskId(17), Attempt(2));
        assert_eq!(
            parse("task 17 attempt 2 signal 11\n"),
            Some((task, attempt, Death::Signal(11))),
            "a signal"
        );
        assert_eq!(parse("task 17 attempt 2 exit\n"), Some((task, attempt, Death::Exit)));
        let torn =
            ["", "\n", "task 17 attempt 2 signal 1", "task 17 attempt 2\n", "task 17 attempt 2 exit 3\n"];
        let wrong =
            ["task -1 attempt 2 exit\n", "task 99999999999 attempt 2 exit\n", "task 1 attempt 2 signal x\n"];
        for text in torn.into_iter().chain(wrong) {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn words_lie_beside_their_pack() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        assert_eq!(beside(&place("rank-3.2.pack")), place("rank-3.2.last-words"));
        fs::write(place("rank-3.2.last-words"), "task 7 attempt 1 signal 6\n").unwrap();
        fs::write(place("rank-4.last-words"), [0xff; 200]).unwrap();
        fs::write(place("rank-3.graph-4.last-words"), "task 8 attempt 5 exit\n").unwrap();
        fs::write(place("rank-5.pack"), "task 7 attempt 1 signal 6\n").unwrap();
        let (rank, task, attempt) = (Rank(3), TaskId(7), Attempt(1));
        let (path, death) = (place("rank-3.2.last-words"), Death::Signal(6));
        assert_eq!(read_of(directory.path(), 0).unwrap(), [LastWords { path, rank, task, attempt, death }]);
        let of_edited = read_of(directory.path(), 4).unwrap();
        assert_eq!(of_edited.iter().map(|words| words.task.0).collect::<Vec<_>>(), [8]);
    }
}
