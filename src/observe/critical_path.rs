//! The chain of dependencies that took longest: no run of the graph can be shorter.

use crate::core::edit::Edit;
use crate::core::graph::Graph;
use crate::core::id::TaskId;
use crate::core::time::Micros;

/// How long each task ran: eight bytes a task, once it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    /// One more than the microseconds; 0 for tasks that did not run to success. The system hands out
    /// memory that is zero where it is written first.
    micros: Vec<u64>,
}

impl Durations {
    /// No task of `graph` has run, and none was added to those that it began with.
    pub fn new(graph: &Graph) -> Self {
        Durations { micros: vec![0; graph.count_begun()] }
    }

    /// So many more tasks were added.
    pub fn add(&mut self, tasks: usize) {
        self.micros.resize(self.micros.len() + tasks, 0);
    }

    /// The run goes on with another graph: what was carried over took what it took.
    pub fn edit(&mut self, edit: &Edit, graph: &Graph) {
        let before = std::mem::replace(self, Durations::new(graph));
        if edit.check(before.micros.len(), self.micros.len()).is_ok() {
            for (from, to) in edit.carried.iter().flat_map(|tasks| tasks.tasks()) {
                self.micros[to.index()] = before.micros[from.index()];
            }
        }
    }

    /// A task ran to success. A task that is not in the graph is left out.
    pub fn set(&mut self, task: TaskId, ran: Micros) {
        if let Some(place) = self.micros.get_mut(task.index()) {
            *place = ran.0.saturating_add(1);
        }
    }

    /// How long a task ran, if it did to success.
    pub fn get(&self, task: TaskId) -> Option<Micros> {
        self.micros.get(task.index())?.checked_sub(1).map(Micros)
    }
}

/// The longest chain of measured durations over a graph's dependencies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriticalPath {
    /// The sum of its tasks' durations.
    pub length: Micros,
    /// Its tasks, each behind the one it waited for. Hidden joins are left out.
    pub tasks: Vec<TaskId>,
}

impl CriticalPath {
    /// Finds it. Of two chains of one length, the one with the smaller ids is taken.
    pub fn find(graph: &Graph, durations: &Durations) -> Self {
        let ends = ends(graph, durations);
        let mut tasks = Vec::new();
        let mut next = latest(graph.tasks(), &ends);
        let length = next.map_or(Micros::ZERO, |task| Micros(ends[task.index()]));
        while let Some(task) = next {
            tasks.push(task);
            next = latest(graph.inputs(task), &ends);
        }
        tasks.retain(|&task| durations.get(task).is_some() && !graph.group_of(task).hidden);
        tasks.reverse();
        CriticalPath { length, tasks }
    }

    /// The `count` longest tasks of the path, in the path's order.
    pub fn longest(&self, durations: &Durations, count: usize) -> Vec<TaskId> {
        let mut places: Vec<usize> = (0..self.tasks.len()).collect();
        let duration = |place: &usize| durations.get(self.tasks[*place]);
        places.sort_by_key(|place| std::cmp::Reverse(duration(place)));
        places.truncate(count);
        places.sort_unstable();
        places.into_iter().map(|place| self.tasks[place]).collect()
    }
}

/// When each task could have ended at the earliest, in microseconds, on machines without limit.
fn ends(graph: &Graph, durations: &Durations) -> Vec<u64> {
    let mut ends = vec![0_u64; graph.len()];
    let mut enter = |task: TaskId| {
        let start = graph.inputs(task).map(|input| Micros(ends[input.index()])).max().unwrap_or_default();
        ends[task.index()] = (start + durations.get(task).unwrap_or_default()).0;
    };
    match graph.has_grown() {
        false => graph.topological_order().for_each(&mut enter),
        true => graph.order_of_all().into_iter().for_each(&mut enter),
    }
    ends
}

/// The task that ends last; the first of them.
fn latest(tasks: impl Iterator<Item = TaskId>, ends: &[u64]) -> Option<TaskId> {
    tasks.max_by_key(|task| (ends[task.index()], std::cmp::Reverse(*task)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::scenario::graph;

    fn path(text: &str, durations: &[(u32, u64)]) -> (u64, Vec<u32>) {
        let graph = graph(text);
        let mut measured = Durations::new(&graph);
        durations.iter().for_each(|&(task, micros)| measured.set(TaskId(task), Micros(micros)));
        let path = CriticalPath::find(&graph, &measured);
        (path.length.0, path.tasks.iter().map(|task| task.0).collect())
    }

    #[test]
    fn the_longest_chain_is_found_through_joins() {
        let text = "a:\nb:\n~j: a b\nc: ~j\nd: a";
        assert_eq!(path(text, &[(0, 5), (1, 7), (2, 0), (3, 4), (4, 5)]), (11, vec![1, 3]));
    }

    #[test]
    fn one_long_task_beats_a_chain_of_short_ones() {
        assert_eq!(path("a:\nb: a\nc: b\nd:", &[(0, 1), (1, 1), (2, 1), (3, 9)]), (9, vec![3]));
    }

    #[test]
    fn tasks_that_did_not_run_are_no_part_of_it() {
        assert_eq!(path("a:\nb: a\nc: b", &[(0, 3)]), (3, vec![0]));
        assert_eq!(path("a:\nb: a", &[]), (0, vec![]));
        assert_eq!(path("a:\nb: a", &[(0, u64::MAX), (1, u64::MAX)]).1, [0, 1]);
    }

    #[test]
    fn the_longest_tasks_stay_in_the_paths_order() {
        let graph = graph("a:\nb: a\nc: b\nd: c");
        let mut measured = Durations::new(&graph);
        [9, 1, 3, 7].iter().enumerate().for_each(|(task, &micros)| measured.set(task.into(), Micros(micros)));
        let path = CriticalPath::find(&graph, &measured);
        assert_eq!(path.longest(&measured, 2), [TaskId(0), TaskId(3)]);
    }
}
