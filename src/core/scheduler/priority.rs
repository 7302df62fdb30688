//! The order in which ready tasks are started.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::mem::discriminant;
use std::ops::Range;

use crate::core::column::Column;
use crate::core::graph::{Graph, Levels, Stretch};
use crate::core::id::{OptionsId, TaskId};

use super::precedence::Precedence;

/// Runs shorter than this are not worth remembering.
const RUN_MIN: usize = 16;

/// How urgent every task is.
///
/// A higher `priority` comes first, then what the `Precedence` says, then the lower id, so that equal
/// graphs are always ordered equally.
#[derive(Debug)]
pub struct Urgency {
    levels: Levels,
    /// Many tasks side by side that are alike in every respect but their ids, in order.
    runs: Vec<Range<u32>>,
    bands: Vec<Band>,
    /// The levels of submitted tasks, as level + 1.
    grown: Column<u32>,
}

/// The levels of one priority; bands follow each other, the highest priority first.
#[derive(Clone, Copy, Debug)]
struct Band {
    priority: i32,
    /// The lowest level. From here up to `begins` there is room for tasks that are submitted.
    room: u32,
    /// The lowest level of a task that was there from the beginning.
    begins: u32,
    last: u32,
}

/// Levels kept free before those of each priority, if there are enough: so deep may tasks submit tasks,
/// each more urgent than the one that submitted it.
const ROOM: u32 = 1 << 20;

impl Urgency {
    /// Weighs all tasks of a graph.
    ///
    /// Takes time linear in tasks and dependencies, but none for each task of an array that is a rule.
    pub fn of(graph: &Graph, precedence: Precedence) -> Self {
        let mut levels = precedence.weigh(graph, most(graph));
        let bands = put_priorities_first(graph, &mut levels);
        let runs = runs(graph, &levels);
        Urgency { levels, runs, bands, grown: Column::new(0) }
    }

    /// A task was submitted, or has become another: it comes before its like that were there before the task
    /// it is submitted `by`, so that what was begun is finished first.
    pub fn learn(&mut self, task: TaskId, priority: i32, (by, priority_of_by): (TaskId, i32)) {
        let place = self.bands.partition_point(|band| band.priority > priority);
        let level = match self.bands.get(place) {
            Some(band) if priority == priority_of_by && band.priority == priority => {
                self.level(by).saturating_sub(1).max(band.room)
            }
            Some(band) if band.priority == priority => band.begins.saturating_sub(1).max(band.room),
            _ if priority == priority_of_by => self.level(by),
            Some(band) => band.room,
            None => self.bands.last().map_or(0, |band| band.last),
        };
        self.grown.set(task, level + 1);
    }

    /// The task's level: a lower one starts first, and of one level the lower id.
    pub fn level(&self, task: TaskId) -> u32 {
        match self.grown.get(task).checked_sub(1) {
            None => self.levels.get(task),
            Some(level) => level,
        }
    }

    /// The end of a run of tasks from this one on that have the same level, options and kind of
    /// operation, and no inputs. Short runs are taken for tasks that are alone.
    pub fn run_end(&self, task: TaskId) -> TaskId {
        let run = self.runs[..self.runs.partition_point(|run| run.start <= task.0)].last();
        TaskId(run.map_or(0, |run| run.end).max(task.0 + 1))
    }
}

/// The greatest weight with which the levels of all priorities have room one behind the other.
fn most(graph: &Graph) -> u32 {
    let priorities: BTreeSet<i32> = graph.columns().options.iter().map(|options| options.priority).collect();
    let each = u32::MAX / (priorities.len() as u32 + 1) - 1;
    each - room(priorities.len())
}

/// How many levels are kept free for each of so many priorities.
fn room(priorities: usize) -> u32 {
    ROOM.min(u32::MAX / (priorities as u32 + 1) / 4)
}

/// Turns paths to an exit into levels: those of a higher priority lie below those of a lower one.
fn put_priorities_first(graph: &Graph, levels: &mut Levels) -> Vec<Band> {
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
    let free = room(priorities.len());
    let mut bands = Vec::new();
    for (end, &priority) in longest.iter_mut().zip(&priorities) {
        let (room, begins) = (behind, behind.saturating_add(free));
        behind = begins.saturating_add(*end + 1);
        *end = behind - 1;
        bands.push(Band { priority, room, begins, last: *end });
    }
    levels.update(graph, |options, path| *path = longest[rank_of(options)] - *path);
    bands
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
    use crate::core::time::Micros;

    /// Expected milliseconds, inputs by number, priority.
    type Task<'a> = (u64, &'a [u32], i32);

    const ALL: [Precedence; 4] =
        [Precedence::LongestPath, Precedence::DepthFirst, Precedence::Submission, Precedence::Random(3)];

    fn urgency(tasks: &[Task<'_>], precedence: Precedence) -> Urgency {
        let mut builder = GraphBuilder::new("test", "/");
        for number in 0..tasks.len() {
            builder.declare(Group::single(format!("t{number}"))).unwrap();
        }
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        for &(millis, inputs, priority) in tasks {
            let expected = Some(Micros::from_millis(millis));
            let options = builder.options(TaskOptions { expected, priority, ..TaskOptions::default() });
            let values = inputs.iter().copied().map(TaskId).collect();
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        Urgency::of(&builder.build().unwrap(), precedence)
    }

    /// Task numbers in the order in which they would be started.
    fn order(tasks: &[Task<'_>], precedence: Precedence) -> Vec<u32> {
        let urgency = urgency(tasks, precedence);
        let mut order: Vec<u32> = (0..tasks.len() as u32).collect();
        order.sort_by_key(|&task| (urgency.level(TaskId(task)), task));
        order
    }

    #[test]
    fn priority_counts_more_than_the_path_and_the_path_more_than_the_id() {
        let tasks: [Task<'_>; 6] =
            [(1, &[], 0), (1, &[], 0), (1, &[1], 0), (1, &[], -1), (1, &[3], -1), (1, &[], 7)];
        assert_eq!(order(&tasks, Precedence::LongestPath), [5, 1, 0, 2, 3, 4]);
        for precedence in ALL {
            assert_eq!(order(&tasks, precedence)[0], 5, "{precedence:?}");
        }
    }

    #[test]
    fn the_longest_path_is_measured_in_time() {
        // Two tasks in a row against one.
        let check = |each, alone, expected: [u32; 3]| {
            let tasks: [Task<'_>; 3] = [(each, &[], 0), (each, &[0], 0), (alone, &[], 0)];
            assert_eq!(order(&tasks, Precedence::LongestPath), expected);
        };
        check(1, 5, [2, 0, 1]);
        check(3, 5, [0, 2, 1]);
    }

    #[test]
    fn paths_of_years_in_many_priorities_still_have_levels() {
        let year = 365 * 86_400 * 1000;
        let tasks: Vec<Task<'_>> = (0..100).map(|n| (year * (n % 10 + 1), &[][..], n as i32 % 7)).collect();
        let order = order(&tasks, Precedence::LongestPath);
        let facts: Vec<(i32, u64)> =
            order.iter().map(|&n| (tasks[n as usize].2, tasks[n as usize].0)).collect();
        assert!(facts.windows(2).all(|pair| pair[0] >= pair[1]), "{facts:?}");
    }

    #[test]
    fn depth_first_ends_one_branch_before_the_next() {
        // Two pairs, each added up, and both sums added up.
        let pairs: [Task<'_>; 7] = [
            (1, &[], 0),
            (1, &[], 0),
            (1, &[], 0),
            (1, &[], 0),
            (1, &[0, 2], 0),
            (1, &[1, 3], 0),
            (1, &[4, 5], 0),
        ];
        assert_eq!(order(&pairs, Precedence::DepthFirst), [0, 2, 4, 1, 3, 5, 6]);
        assert_eq!(order(&pairs, Precedence::Submission), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn depth_first_follows_a_long_chain_without_a_deep_stack() {
        let inputs: Vec<[u32; 1]> = (0..100_000).map(|number: u32| [number.saturating_sub(1)]).collect();
        let mut tasks: Vec<Task<'_>> = inputs.iter().map(|input| (1, &input[..], 0)).collect();
        tasks[0].1 = &[];
        assert!(order(&tasks, Precedence::DepthFirst).is_sorted());
    }

    #[test]
    fn chance_is_the_same_for_the_same_number() {
        let tasks: [Task<'_>; 50] = [(1, &[], 0); 50];
        let [one, again, other] = [1, 1, 2].map(|seed| order(&tasks, Precedence::Random(seed)));
        assert!(one == again && one != other && !one.is_sorted());
    }

    #[test]
    fn a_run_ends_where_tasks_differ_or_take_inputs() {
        let source = |priority| (1, &[] as &[u32], priority);
        let mut tasks: Vec<Task<'_>> = vec![source(0); 20];
        tasks.extend(vec![source(1); 20]);
        tasks.extend([source(0), (1, &[40], 0), source(0)]);
        let urgency = urgency(&tasks, Precedence::LongestPath);
        let ends = [0, 7, 19, 20, 39, 40, 41, 42].map(|task| urgency.run_end(TaskId(task)).0);
        assert_eq!(ends, [20, 20, 20, 40, 40, 41, 42, 43]);
    }
}
