//! Which tasks need not run because their files are there: what make decides.
//!
//! A task that declares output files runs if they are not as they should be, if something that it depends on runs, or if a
//! task that runs takes its value. One that declares none runs if it is asked for, or if a task that runs depends on it.

use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::span::Span;
use crate::core::task_list::TaskList;
use crate::core::task_set::TaskSet;

/// How the files look that a task declares as its outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// It declares none.
    None,
    /// All are there, and none is older than a file that the task reads.
    UpToDate,
    /// Some are not.
    Stale,
}

/// What is to be run, and what is not because its files are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipping {
    /// The tasks to run, hidden ones among them.
    pub runs: TaskSet,
    /// The tasks that were asked for, directly or indirectly, and whose files are there.
    pub skipped: Vec<Span>,
}

impl Skipping {
    /// Decides; `files` is asked once about each task that `asked` needs.
    ///
    /// Takes time for each task and each dependency.
    pub fn find(graph: &Graph, asked: &TaskList, files: impl Fn(TaskId) -> Files) -> Self {
        let needed = graph.needed_by(asked);
        let (mut with_files, mut stale) = (TaskSet::new(graph.len()), Vec::new());
        for task in needed.iter(graph.len()).filter(|&task| !graph.is_join(task)) {
            match files(task) {
                Files::None => continue,
                Files::UpToDate => {}
                Files::Stale => stale.push(task),
            }
            with_files.insert(task);
        }
        let none = TaskSet::new(graph.len());
        let due = stale.into_iter().map(Due::Dirty).collect();
        let mut search = Search { graph, needed, with_files, runs: none.clone(), dirty: none, due };
        search.due.extend(asked.iter().filter(|&task| !search.with_files.contains(task)).map(Due::Runs));
        search.finish();
        let Search { with_files, runs, .. } = search;
        let mut skipped = Vec::new();
        let is_skipped = |task: &TaskId| !runs.contains(*task);
        with_files.iter(graph.len()).filter(is_skipped).for_each(|task| Span::add_to(&mut skipped, task));
        Skipping { runs, skipped }
    }
}

/// What follows next.
enum Due {
    /// The task runs.
    Runs(TaskId),
    /// What the task gives is not what it was.
    Dirty(TaskId),
}

struct Search<'a> {
    graph: &'a Graph,
    needed: TaskSet,
    with_files: TaskSet,
    runs: TaskSet,
    dirty: TaskSet,
    due: Vec<Due>,
}

impl Search<'_> {
    fn finish(&mut self) {
        while let Some(due) = self.due.pop() {
            match due {
                Due::Runs(task) => self.on_runs(task),
                Due::Dirty(task) => self.on_dirty(task),
            }
        }
    }

    /// It needs the values that it takes, and what gives no files.
    fn on_runs(&mut self, task: TaskId) {
        if self.runs.contains(task) {
            return;
        }
        self.runs.insert(task);
        let graph = self.graph;
        self.due.extend(graph.value_inputs(task).iter().map(Due::Runs));
        let plain = graph.order_inputs(task).iter().filter(|&input| !self.with_files.contains(input));
        self.due.extend(plain.map(Due::Runs));
        // A join does nothing by itself.
        if !graph.is_join(task) {
            self.due.push(Due::Dirty(task));
        }
    }

    /// Whoever depends on it and has files is not up to date; what has none is, if nobody needs it, left away.
    fn on_dirty(&mut self, task: TaskId) {
        if self.dirty.contains(task) {
            return;
        }
        self.dirty.insert(task);
        if self.with_files.contains(task) {
            self.due.push(Due::Runs(task));
        }
        let dependents = self.graph.dependents(task).iter().filter(|&task| self.needed.contains(task));
        self.due.extend(dependents.map(Due::Dirty));
    }
}
