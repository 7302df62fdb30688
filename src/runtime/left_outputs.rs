//! What earlier processes of a run left: whether it is still there, and can be read where it will be.

use std::fs;

use crate::core::event::Event;
use crate::core::graph::Graph;
use crate::core::id::{Attempt, TaskId};
use crate::core::scheduler::Past;
use crate::core::task::Body;
use crate::core::task_set::TaskSet;
use crate::record::frame_reader::Damage;
use crate::record::pack::Piece;
use crate::record::pack_reader::{PackError, PackReader};
use crate::worker::files::output_paths;

use super::edited;
use super::looks::look_at_all;
use super::scheduler_loop::{SchedulerError, Setup};

const IN_NO_PACK: &str = "its output is in no pack, or not all of it is";

/// What the latest try of a command printed, or a function returned; none if it is nothing. An error says why it cannot be read.
pub fn read_output(graph: &Graph, packs: &PackReader, task: TaskId) -> Result<Option<Vec<u8>>, PackError> {
    packs.read(task, None, piece_of(graph, task))
}

fn piece_of(graph: &Graph, task: TaskId) -> Piece {
    match graph.operation(task).body {
        Body::Command(_) => Piece::Stdout,
        _ => Piece::Value,
    }
}

/// Why nobody can read what a task that finished left, if that is so.
pub fn lost_output(graph: &Graph, packs: &PackReader, task: TaskId) -> Option<String> {
    match packs.latest_attempt(task) {
        Some(attempt) if packs.is_whole(task, attempt) => {
            let reader = packs.reader(task, Some(attempt), piece_of(graph, task));
            reader.and_then(|mut reader| reader.verify().err()).map(|error| error.to_string())
        }
        _ => Some(IN_NO_PACK.to_owned()),
    }
}

/// Durable outputs must be there, packs and files alike; and no number of a try is used twice.
/// What is printed in the end is read as well; all else is, when somebody takes it.
pub(super) fn look_at_outputs(setup: &Setup, past: &mut Past) -> Result<Lost, SchedulerError> {
    let Setup { directory, graph, .. } = setup;
    let packs = PackReader::of_run(directory).map_err(SchedulerError::Packs)?;
    let damage = |damage: &Damage| {
        format!("the index `{}` is damaged from byte {} on", damage.path.display(), damage.offset)
    };
    let damages = packs.damages().iter().map(damage).collect();
    for (task, attempt) in packs.latest_attempts() {
        past.on_trace(task, attempt);
    }
    let stored: Vec<(TaskId, Attempt)> = past.durable().collect();
    let seen: &Past = past;
    let mut printed = TaskSet::new(graph.len());
    if setup.prints {
        setup.asked.iter().for_each(|task| printed.insert(task));
    }
    let missing = look_at_all(&stored, |&stored| {
        let is_printed = printed.contains(stored.0);
        missing_output(graph, &packs, seen, stored)
            .or_else(|| is_printed.then(|| lost_output(graph, &packs, stored.0))?)
    });
    let missing = stored.iter().zip(missing).filter_map(|((task, _), why)| Some((*task, why?)));
    let skipped: Vec<TaskId> = past.skipped().filter(|&task| graph.began_with(task)).collect();
    let gone = look_at_all(&skipped, |&task| missing_file(graph, task, Attempt::FIRST, &[]));
    let gone = skipped.iter().zip(gone).filter_map(|(task, why)| Some((*task, why?)));
    let lost: Vec<(TaskId, String)> = missing.chain(gone).collect();
    lost.iter().for_each(|(task, _)| past.forget(*task));
    Ok(Lost { damages, lost })
}

/// What was there, and is not any more.
pub(super) struct Lost {
    damages: Vec<String>,
    /// Tasks whose output is lost, and how.
    lost: Vec<(TaskId, String)>,
}

impl Lost {
    /// A line for each loss that makes a task run again.
    pub fn lines(self, setup: &Setup, event: &Event) -> Vec<String> {
        let due = edited::tasks_to_do(event, setup.graph.len());
        let key = |task: TaskId| match setup.graph.began_with(task) {
            true => setup.graph.key(task),
            false => format!("task {task}"),
        };
        let lost = self.lost.into_iter().filter(|(task, _)| due.contains(*task));
        let lost = lost.map(|(task, why)| format!("{} runs again: {why}", key(task)));
        self.damages.into_iter().chain(lost).collect()
    }
}

fn missing_output(
    graph: &Graph,
    packs: &PackReader,
    past: &Past,
    (task, attempt): (TaskId, Attempt),
) -> Option<String> {
    if !packs.is_whole(task, attempt) {
        return Some(IN_NO_PACK.to_owned());
    }
    match graph.began_with(task) {
        true => missing_file(graph, task, attempt, past.file_sizes(task)),
        false => None,
    }
}

/// What is wrong with the files that a task declares; those of which a size is known must have it.
fn missing_file(graph: &Graph, task: TaskId, attempt: Attempt, sizes: &[u64]) -> Option<String> {
    let files = output_paths(&graph.operation(task).outputs, attempt);
    files.iter().enumerate().find_map(|(place, file)| match (fs::metadata(file), sizes.get(place)) {
        (Ok(found), Some(size)) if found.len() != *size => {
            Some(format!("`{}` has {} bytes, and had {size}", file.display(), found.len()))
        }
        (Ok(_), _) => None,
        (Err(error), _) => Some(format!("`{}`: {error}", file.display())),
    })
}
