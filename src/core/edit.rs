//! Edits: a run goes on with another graph of the same name, and what did not change is kept.
//!
//! Tasks are numbered by their place in a graph, so an edit gives them other numbers. It says which tasks are what
//! they were before, and under which number; `Lineage` finds a task of an earlier graph again.

use serde::{Deserialize, Serialize};

use super::id::TaskId;

mod comparison;
mod difference;
mod pairing;

pub use comparison::{Comparison, Reason};

/// Tasks side by side that lie side by side in the next graph, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The first of them, as it was numbered.
    pub from: TaskId,
    /// The first of them, as it is numbered now.
    pub to: TaskId,
    /// How many.
    pub count: u32,
}

/// What became of the tasks when a run went on with another graph.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The number of the new graph: that of the life of the run that brought it.
    pub graph: u32,
    /// How many tasks it has.
    pub tasks: u32,
    /// The keys that are asked for from now on; none means every sink.
    pub keys: Vec<String>,
    /// Tasks that are what they were before, and so is all that they depend on. In the order of their old
    /// numbers.
    pub carried: Vec<Move>,
    /// Tasks that have the key of one before and are not what that was. Likewise.
    pub changed: Vec<Move>,
}

impl Move {
    /// Each task's old number and its new one.
    pub fn tasks(self) -> impl Iterator<Item = (TaskId, TaskId)> {
        (0..self.count).map(move |place| (TaskId(self.from.0 + place), TaskId(self.to.0 + place)))
    }

    /// The new number of a task, if it is one of these.
    fn find(self, task: TaskId) -> Option<TaskId> {
        let place = task.0.checked_sub(self.from.0).filter(|&place| place < self.count)?;
        Some(TaskId(self.to.0 + place))
    }

    /// Adds a task to a list: to its last move if it follows that.
    pub(crate) fn add_to(moves: &mut Vec<Move>, from: TaskId, to: TaskId) {
        match moves.last_mut() {
            Some(last) if (last.from.0 + last.count, last.to.0 + last.count) == (from.0, to.0) => {
                last.count += 1;
            }
            _ => moves.push(Move { from, to, count: 1 }),
        }
    }
}

impl Edit {
    /// The new number of a task that was carried over.
    pub fn now(&self, task: TaskId) -> Option<TaskId> {
        let after = self.carried.partition_point(|one| one.from <= task);
        self.carried[..after].last()?.find(task)
    }

    /// Refuses what cannot be; only damaged data says it. Graphs are told by how many tasks they have.
    pub fn check(&self, before: usize, now: usize) -> Result<(), &'static str> {
        if self.tasks as usize != now {
            return Err("the graph that it goes on with has another number of tasks");
        }
        for moves in [&self.carried, &self.changed] {
            if !are_apart(moves.iter().map(|one| (one.from, one.count)), before) {
                return Err("an edit takes tasks over that were not there");
            }
        }
        let both = self.carried.iter().chain(&self.changed);
        let mut taken: Vec<(TaskId, u32)> = both.map(|one| (one.to, one.count)).collect();
        taken.sort_unstable();
        match are_apart(taken.into_iter(), now) {
            true => Ok(()),
            false => Err("an edit makes two tasks into one"),
        }
    }
}

/// True if these stretches follow each other, and end where there are so many tasks.
fn are_apart(mut stretches: impl Iterator<Item = (TaskId, u32)>, count: usize) -> bool {
    let mut end = 0;
    stretches.all(|(first, count)| {
        let is_behind = u64::from(first.0) >= end;
        end = u64::from(first.0) + u64::from(count);
        is_behind
    }) && end <= count as u64
}

/// All edits of a run, the first one first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    edits: Vec<Edit>,
}

impl Lineage {
    /// Adds the next edit.
    pub fn push(&mut self, edit: Edit) {
        self.edits.push(edit);
    }

    /// The edits.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// The number of the graph that the run goes on with now; 0 for the one that it began with.
    pub fn current(&self) -> u32 {
        self.edits.last().map_or(0, |edit| edit.graph)
    }

    /// The number that a task of some graph of the run has now. `None` if it is not there any more, or no longer
    /// what it was, or if the run never had such a graph.
    pub fn now(&self, graph: u32, task: TaskId) -> Option<TaskId> {
        let later = match graph {
            0 => &self.edits[..],
            _ => &self.edits[self.edits.iter().position(|edit| edit.graph == graph)? + 1..],
        };
        later.iter().try_fold(task, |task, edit| edit.now(task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moves(moves: &[(u32, u32, u32)]) -> Vec<Move> {
        let all = moves.iter().map(|&(from, to, count)| Move { from: TaskId(from), to: TaskId(to), count });
        all.collect()
    }

    fn edit(graph: u32, tasks: u32, carried: &[(u32, u32, u32)]) -> Edit {
        Edit { graph, tasks, carried: moves(carried), ..Edit::default() }
    }

    #[test]
    fn a_task_is_found_through_all_edits_behind_its_graph() {
        let mut lineage = Lineage::default();
        assert_eq!((lineage.current(), lineage.now(0, TaskId(7))), (0, Some(TaskId(7))));
        lineage.push(edit(2, 20, &[(0, 10, 5), (5, 0, 5)]));
        lineage.push(edit(5, 9, &[(0, 4, 3), (12, 0, 2)]));
        let now = |graph, task| lineage.now(graph, TaskId(task)).map(|task| task.0);
        assert_eq!(lineage.current(), 5);
        assert_eq!([now(0, 2), now(0, 5), now(0, 9), now(0, 10)], [Some(0), Some(4), None, None]);
        assert_eq!([now(2, 13), now(2, 14), now(5, 14), now(3, 0)], [Some(1), None, Some(14), None]);
    }

    #[test]
    fn edits_that_cannot_be_are_refused() {
        assert_eq!(edit(2, 9, &[(0, 4, 5), (7, 0, 2)]).check(9, 9), Ok(()));
        let bad = [
            (edit(2, 8, &[]), "the graph that it goes on with has another number of tasks"),
            (edit(2, 9, &[(0, 0, 10)]), "an edit takes tasks over that were not there"),
            (edit(2, 9, &[(4, 0, 2), (5, 5, 1)]), "an edit takes tasks over that were not there"),
            (edit(2, 9, &[(0, 0, 2), (5, 1, 1)]), "an edit makes two tasks into one"),
            (edit(2, 9, &[(0, 8, 2)]), "an edit makes two tasks into one"),
            (edit(2, 9, &[(0, u32::MAX, u32::MAX)]), "an edit takes tasks over that were not there"),
        ];
        for (edit, why) in bad {
            assert_eq!(edit.check(9, 9), Err(why), "{edit:?}");
        }
        let twice = Edit { changed: moves(&[(3, 3, 1)]), ..edit(2, 9, &[(0, 3, 1)]) };
        assert_eq!(twice.check(9, 9), Err("an edit makes two tasks into one"));
    }
}
