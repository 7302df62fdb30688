//! The order in which ready tasks are started.

use std::cmp::Reverse;
use std::mem::discriminant;
use std::ops::Range;

use crate::core::graph::{Graph, Levels, Stretch};
use crate::core::id::{OptionsId, TaskId};

/// Runs shorter than this are not worth remembering.
const RUN_MIN: usize = 16;

/// How urgent every task is.
///
/// A higher `priority` comes first, then the longer path to an exit (the b-level, in tasks), then
/// the lower id, so that equal graphs are always ordered equally.
#[derive(Debug)]
pub struct Urgency {
    levels: Levels,
    /// Many tasks side by side that are alike in every respect but their ids, in order.
    runs: Vec<Range<u32>>,
}

impl Urgency {
    /// Weighs all tasks of a graph.
    ///
    /// Takes time linear in tasks and dependencies, but none for each task of an array that is a rule.
    pub fn of(graph: &Graph) -> Self {
        let mut levels = Levels::to_exit(graph);
        put_priorities_first(graph, &mut levels);
        let runs = runs(graph, &levels);
        Urgency { levels, runs }
    }

    /// The task's level: a lower one starts first, and of one level the lower id.
    pub fn level(&self, task: TaskId) -> u32 {
        self.levels.get(task)
    }

    /// The end of a run of tasks from this one on that have the same level, options and kind of
    /// operation, and no inputs. Short runs are taken for tasks that are alone.
    pub fn run_end(&self, task: TaskId) -> TaskId {
        let run = self.runs[..self.runs.partition_point(|run| run.start <= task.0)].last();
        TaskId(run.map_or(0, |run| run.end).max(task.0 + 1))
    }
}

/// Turns paths to an exit into levels: those of a higher priority lie below those of a lower one.
fn put_priorities_first(graph: &Graph, levels: &mut Levels) {
    let options = &graph.columns().options;
    let mut priorities: Vec<i32> = options.iter().map(|options| options.priority).collect();
    priorities.sort_unstable_by_key(|&priority| Reverse(priority));
    priorities.dedup();
    let rank = |priority: i32| priorities.partition_point(|&other| other > priority);
    let ranks: Vec<usize> = options.iter().map(|options| rank(options.priority)).collect();
    let rank_of = |options: OptionsId| ranks[options.index()];
    let mut longest = vec![0; priorities.len()];
    levels.update(graph, |options, path| {
        let longest = &mut longest[rank_of(options)];
        *longest = (*path).max(*longest);
    });
    let mut behind = 0_u32;
    for end in &mut longest {
        behind = behind.saturating_add(*end + 1);
        *end = behind - 1;
    }
    levels.update(graph, |options, path| *path = longest[rank_of(options)] - *path);
}

fn runs(graph: &Graph, levels: &Levels) -> Vec<Range<u32>> {
    let kind = |first: u32| {
        let task = TaskId(first);
        (levels.get(task), graph.options_id(task), discriminant(&graph.operation(task).body))
    };
    let each = |stretch: &Stretch| if levels.is_same(stretch) { stretch.tasks.len() } else { 1 };
    let sources = graph.stretches().filter(|stretch| stretch.is_source);
    let alike = sources.flat_map(|stretch| {
        let each = each(&stretch);
        stretch.tasks.step_by(each).map(move |first| first..first + each as u32)
    });
    let mut runs: Vec<Range<u32>> = Vec::new();
    for tasks in alike {
        match runs.last_mut() {
            Some(run) if run.end == tasks.start && kind(run.start) == kind(tasks.start) => {
                run.end = tasks.end
            }
            Some(run) if run.len() < RUN_MIN => *run = tasks,
            _ => runs.push(tasks),
        }
    }
    runs.retain(|run| run.len() >= RUN_MIN);
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::key::Group;
    use crate::core::task::{Body, Call, Operation, TaskOptions};

    /// Tasks by their priorities and inputs, in the order of ids.
    fn urgency(tasks: &[(i32, &[u32])]) -> Urgency {
        let mut builder = GraphBuilder::new("test", "/");
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        for number in 0..tasks.len() {
            builder.declare(Group::single(format!("t{number}"))).unwrap();
        }
        for (priority, inputs) in tasks {
            let options = builder.options(TaskOptions { priority: *priority, ..TaskOptions::default() });
            let values = inputs.iter().copied().map(TaskId).collect();
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        Urgency::of(&builder.build().unwrap())
    }

    fn order(urgency: &Urgency, count: u32) -> Vec<u32> {
        let mut tasks: Vec<u32> = (0..count).collect();
        tasks.sort_by_key(|&task| (urgency.level(TaskId(task)), task));
        tasks
    }

    #[test]
    fn priority_counts_more_than_the_path_and_the_path_more_than_the_id() {
        let tasks: [(i32, &[u32]); 6] = [(0, &[]), (0, &[]), (0, &[1]), (-1, &[]), (-1, &[3]), (7, &[])];
        assert_eq!(order(&urgency(&tasks), 6), [5, 1, 0, 2, 3, 4]);
    }

    #[test]
    fn a_run_ends_where_tasks_differ_or_take_inputs() {
        let source = |priority| (priority, &[] as &[u32]);
        let mut tasks = vec![source(0); 20];
        tasks.extend(vec![source(1); 20]);
        tasks.extend([source(0), (0, &[40]), source(0)]);
        let urgency = urgency(&tasks);
        let ends = [0, 7, 19, 20, 39, 40, 41, 42].map(|task| urgency.run_end(TaskId(task)).0);
        assert_eq!(ends, [20, 20, 20, 40, 40, 41, 42, 43]);
    }
}
