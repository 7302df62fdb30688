//! All tasks, each behind its inputs, as stretches of tasks that lie side by side.
//!
//! Most graphs are in order as they are, which is one stretch. Else whole segments are put in order,
//! and only where that is not enough single tasks are.

use crate::core::id::TaskId;

use super::GraphError;
use super::columns::{Form, Segment, Table};
use super::dependents::Dependents;
use super::finder::Finder;
use super::numbers::Numbers;
use super::progression::Progression;

/// First task and number of tasks.
type Stretch = [u32; 2];

/// Edges between segments past which ordering single tasks is cheaper, for each segment.
const EDGES_OF_SEGMENT: usize = 64;

/// An order: two numbers for each stretch.
pub(super) fn order(table: &Table, dependents: &Dependents) -> Result<Numbers, GraphError> {
    let tasks = table.task_count() as u32;
    let mut as_it_is = Numbers::new();
    as_it_is.extend([0, tasks].into_iter().filter(|_| tasks > 0));
    if is_order(table, &as_it_is) {
        return Ok(as_it_is);
    }
    if let Some(by_segment) = order_of_segments(table).filter(|order| is_order(table, order)) {
        return Ok(by_segment);
    }
    order_of_tasks(table, dependents)
}

/// True if every task is there once, behind its inputs.
pub(super) fn is_order(table: &Table, order: &[u32]) -> bool {
    let Some(places) = Places::of(order, table.task_count()) else { return false };
    table.columns.segments().all(|segment| match segment.form {
        Form::Listed(at) => {
            let columns = &table.columns;
            segment.tasks().zip(at as usize..).all(|(task, row)| {
                let inputs = columns.values.row(row).iter().chain(columns.orders.row(row));
                inputs.copied().all(|input| places.is_before(input, task.0))
            })
        }
        Form::Alike(alike) => table.columns.rules_of(alike).all(|rule| are_before(&places, rule, segment)),
    })
}

/// True if all that a rule names comes before the tasks that it is for.
fn are_before(places: &Places<'_>, rule: Progression, segment: Segment) -> bool {
    let (least, greatest) = rule.reach(segment.count);
    let leads = rule.greatest_lead(segment.first, segment.count) >= 0;
    if places.are_all_before(least as u32..greatest as u32 + 1, segment, leads) {
        return true;
    }
    segment
        .tasks()
        .zip(0..)
        .all(|(task, element)| rule.inputs(element).all(|input| places.is_before(input.0, task.0)))
}

/// Where each task stands in an order.
struct Places<'a> {
    order: &'a [Stretch],
    /// Where each stretch starts and its place in the order, by the tasks' ids.
    stretches: Vec<[u32; 2]>,
    finder: Finder,
}

impl<'a> Places<'a> {
    /// `None` if a task is missing or there twice.
    fn of(order: &'a [u32], tasks: usize) -> Option<Self> {
        let (order, rest) = order.as_chunks::<2>();
        let mut stretches: Vec<[u32; 2]> =
            order.iter().zip(0..).map(|(stretch, at)| [stretch[0], at]).collect();
        stretches.sort_unstable();
        let mut end = 0;
        for [first, at] in &stretches {
            let count = order[*at as usize][1];
            if u64::from(*first) != end || count == 0 {
                return None;
            }
            end += u64::from(count);
        }
        let finder = Finder::new(stretches.iter().map(|stretch| stretch[0]), tasks);
        (rest.is_empty() && end == tasks as u64).then_some(Places { order, stretches, finder })
    }

    fn stretch(&self, task: u32) -> usize {
        self.finder.find(task, |number| self.stretches[number][0])
    }

    /// The place in the order of the stretch that a task is in.
    fn place(&self, task: u32) -> u32 {
        self.stretches[self.stretch(task)][1]
    }

    #[inline]
    fn is_before(&self, one: u32, other: u32) -> bool {
        if self.order.len() == 1 {
            return one < other;
        }
        let (first, second) = (self.place(one), self.place(other));
        first < second || (first == second && one < other)
    }

    /// True if all of `tasks` come before the segment; `leads` if any of them may lie behind its own
    /// task in the order of ids. May be false although it is so.
    fn are_all_before(&self, tasks: std::ops::Range<u32>, segment: Segment, leads: bool) -> bool {
        let own = self.stretch(segment.first);
        if own != self.stretch(segment.end() - 1) {
            return false;
        }
        let between = self.stretch(tasks.start)..=self.stretch(tasks.end - 1);
        self.stretches[between].iter().all(|stretch| {
            let own = self.stretches[own][1];
            stretch[1] < own || (stretch[1] == own && !leads)
        })
    }
}

/// Adds tasks to an order, to the last stretch if they follow it.
fn append(order: &mut Vec<Stretch>, first: u32, count: u32) {
    match order.last_mut() {
        Some(last) if last[0] + last[1] == first => last[1] += count,
        _ => order.push([first, count]),
    }
}

/// Segments, each behind those that it takes anything of, as far as that is possible.
fn order_of_segments(table: &Table) -> Option<Numbers> {
    let count = table.columns.segment_count();
    let mut edges_left = EDGES_OF_SEGMENT * count;
    let mut seen_by = vec![u32::MAX; count];
    let mut is_entered = vec![false; count];
    let mut order = Vec::new();
    let mut path: Vec<(usize, Vec<usize>)> = Vec::new();
    for start in 0..count {
        path.extend((!is_entered[start]).then(|| (start, segments_taken(table, start, &mut seen_by))));
        is_entered[start] = true;
        while let Some((number, taken)) = path.last_mut() {
            match taken.pop() {
                Some(next) if is_entered[next] => (),
                Some(next) => {
                    is_entered[next] = true;
                    let taken = segments_taken(table, next, &mut seen_by);
                    edges_left = edges_left.checked_sub(taken.len())?;
                    path.push((next, taken));
                }
                None => {
                    let segment = table.columns.segment(*number);
                    append(&mut order, segment.first, segment.count);
                    path.pop();
                }
            }
        }
    }
    Some(order.concat().into())
}

/// The other segments that a segment takes anything of, and perhaps some that it does not.
fn segments_taken(table: &Table, number: usize, seen_by: &mut [u32]) -> Vec<usize> {
    let mut found = Vec::new();
    seen_by[number] = number as u32;
    let mut note = |segment: usize| {
        if std::mem::replace(&mut seen_by[segment], number as u32) != number as u32 {
            found.push(segment);
        }
    };
    let segment = table.columns.segment(number);
    match segment.form {
        Form::Listed(_) => segment.tasks().for_each(|task| {
            table.inputs(task).for_each(|input| note(table.segment_of(input)));
        }),
        Form::Alike(alike) => table.columns.rules_of(alike).for_each(|rule| {
            let (least, greatest) = rule.reach(segment.count);
            let ends = (TaskId(least as u32), TaskId(greatest as u32));
            (table.segment_of(ends.0)..=table.segment_of(ends.1)).for_each(&mut note);
        }),
    }
    found
}

/// Task by task: whoever has all inputs behind it comes next.
fn order_of_tasks(table: &Table, dependents: &Dependents) -> Result<Numbers, GraphError> {
    let tasks = table.task_count() as u32;
    let count = |task: TaskId| (table.values(task).len() + table.orders(task).len()) as u32;
    let mut unmet: Vec<u32> = (0..tasks).map(|task| count(TaskId(task))).collect();
    let mut order: Vec<u32> = (0..tasks).filter(|task| unmet[*task as usize] == 0).collect();
    let mut next = 0;
    while let Some(&task) = order.get(next) {
        next += 1;
        for dependent in dependents.row(table, TaskId(task)) {
            unmet[dependent.index()] -= 1;
            if unmet[dependent.index()] == 0 {
                order.push(dependent.0);
            }
        }
    }
    if order.len() < tasks as usize {
        return Err(GraphError::Cycle(find_cycle(table, &unmet)));
    }
    let mut stretches = Vec::new();
    order.into_iter().for_each(|task| append(&mut stretches, task, 1));
    Ok(stretches.concat().into())
}

/// Walks from input to input among the tasks that never became ready until one comes twice.
fn find_cycle(table: &Table, unmet: &[u32]) -> Vec<TaskId> {
    let is_stuck = |task: &TaskId| unmet[task.index()] > 0;
    let mut visited_at = vec![usize::MAX; unmet.len()];
    let mut path = Vec::new();
    let first = (0..unmet.len() as u32).map(TaskId).find(is_stuck);
    let mut task = first.expect("an incomplete order leaves a task with unmet inputs");
    while visited_at[task.index()] == usize::MAX {
        visited_at[task.index()] = path.len();
        path.push(task);
        task = table.inputs(task).find(is_stuck).expect("a stuck task has a stuck input");
    }
    path.split_off(visited_at[task.index()])
}
