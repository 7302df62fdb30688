//! What a graph has become since it began: tasks that were submitted while it ran.
//!
//! Rows are only ever added, each written once, so whoever holds the graph reads on undisturbed while it
//! grows. A task may have several rows, of which the latest counts. A graph that never grows has nothing of
//! this, and its look-ups ask once whether it has.

use std::sync::{Arc, OnceLock};

use crate::core::addition::{Addition, AdditionError, Grown, Numbering};
use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::{Group, Named};
use crate::core::task::{Operation, TaskOptions};

use super::Graph;
use super::columns::{Columns, Facts};
use super::row::Row;

/// Tasks whose cells come into being together.
const PAGE: usize = 256;
/// Pages that are found together.
const SHELF: usize = 4096;

const ELSEWHERE: AdditionError = AdditionError::Inconsistent("it is numbered from elsewhere");

type Shelf = Box<[OnceLock<Page>]>;
type Page = Box<[Cell]>;

/// The rows that a graph did not begin with, and who takes what besides what it began with.
#[derive(Clone, Debug)]
pub(super) struct Growth {
    shelves: Box<[OnceLock<Shelf>]>,
}

/// What was added about one task.
#[derive(Clone, Debug, Default)]
struct Cell {
    rows: Appended<Arc<Grown>>,
    /// A task that takes this one, and the version of its row that says so.
    takers: Appended<(TaskId, u32)>,
}

/// A list that only gets longer. Behind its first entry are blocks of two, four, eight and so on.
#[derive(Clone, Debug)]
struct Appended<T> {
    first: OnceLock<T>,
    more: OnceLock<Box<[OnceLock<Block<T>>]>>,
}

type Block<T> = Box<[OnceLock<T>]>;

impl<T> Default for Appended<T> {
    fn default() -> Self {
        Appended { first: OnceLock::new(), more: OnceLock::new() }
    }
}

fn unset<T>(count: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

impl<T> Appended<T> {
    fn get(&self, place: usize) -> Option<&T> {
        if place == 0 {
            return self.first.get();
        }
        let (block, at) = block_of(place);
        self.more.get()?[block].get()?[at].get()
    }

    fn push(&self, entry: T) {
        let Err(entry) = self.first.set(entry) else { return };
        let blocks = self.more.get_or_init(|| unset(u32::BITS as usize));
        let (block, at) = block_of(self.len());
        let block = blocks[block].get_or_init(|| unset(2 << block));
        assert!(block[at].set(entry).is_ok(), "a graph grows in one place at a time");
    }

    fn len(&self) -> usize {
        let Some(blocks) = self.more.get() else { return usize::from(self.first.get().is_some()) };
        let count = blocks.iter().take_while(|block| block.get().is_some()).count();
        let Some(last) = count.checked_sub(1).and_then(|last| blocks[last].get()) else { return 1 };
        (1 << count) - 1 + last.partition_point(|entry| entry.get().is_some())
    }

    fn last(&self) -> Option<&T> {
        match self.more.get() {
            None => self.first.get(),
            Some(_) => self.get(self.len().checked_sub(1)?),
        }
    }
}

/// The block of a place behind the first, and the place in it.
fn block_of(place: usize) -> (usize, usize) {
    let block = (place + 1).ilog2() as usize - 1;
    (block, place + 1 - (2 << block))
}

impl Default for Growth {
    fn default() -> Self {
        Growth { shelves: unset((u32::MAX as usize + 1) / PAGE / SHELF) }
    }
}

impl Growth {
    fn cell(&self, task: TaskId) -> Option<&Cell> {
        let page = task.index() / PAGE;
        Some(&self.shelves[page / SHELF].get()?[page % SHELF].get()?[task.index() % PAGE])
    }

    fn cell_or_new(&self, task: TaskId) -> &Cell {
        let page = task.index() / PAGE;
        let shelf = self.shelves[page / SHELF].get_or_init(|| unset(SHELF));
        let page =
            shelf[page % SHELF].get_or_init(|| std::iter::repeat_with(Cell::default).take(PAGE).collect());
        &page[task.index() % PAGE]
    }

    fn row(&self, task: TaskId) -> Option<&Arc<Grown>> {
        self.cell(task)?.rows.last()
    }

    /// How many tasks from this one on have a row, without a gap: twice as far each time, then half.
    fn count_from(&self, first: usize) -> usize {
        let has_row = |count: usize| {
            u32::try_from(first + count - 1).is_ok_and(|last| self.row(TaskId(last)).is_some())
        };
        let mut step = 1;
        let mut count = 0;
        while has_row(count + step) {
            count += step;
            step *= 2;
        }
        while step > 0 {
            count += if has_row(count + step) { step } else { 0 };
            step /= 2;
        }
        count
    }
}

impl Graph {
    /// The row that a task got while the graph ran, if it got any: it takes the place of what the graph
    /// began with.
    #[inline]
    pub fn grown(&self, task: TaskId) -> Option<&Arc<Grown>> {
        match self.growth.get() {
            None => None,
            Some(growth) => growth.row(task),
        }
    }

    /// Adds a row, and with it the task if there was none, or replaces what the task was. A row that is
    /// known already, or was replaced, changes nothing.
    ///
    /// Whoever adds rows to a graph says them one after the other.
    pub fn learn(&self, task: TaskId, row: Arc<Grown>) {
        let growth = self.growth.get_or_init(Box::default);
        let cell = growth.cell_or_new(task);
        let before = cell.rows.last().cloned();
        if before.as_ref().is_some_and(|before| before.version >= row.version) {
            return;
        }
        let (version, values) = (row.version, row.values.clone());
        cell.rows.push(row);
        for input in values {
            let took_it = match &before {
                Some(before) => before.values.contains(&input),
                None => self.began_with(task) && self.table.inputs(task).any(|taken| taken.0 == input),
            };
            if !took_it {
                growth.cell_or_new(TaskId(input)).takers.push((task, version));
            }
        }
    }

    /// Adds what a task submitted once, as it was recorded. What is known already changes nothing. A record
    /// may say anything: what would be no graph is refused.
    pub fn replay(&self, by: TaskId, numbering: Numbering, addition: &Addition) -> Result<(), AdditionError> {
        let end = numbering.task.index() + addition.tasks.len();
        let is_known = match addition.becomes {
            Some(_) => self.grown(by).is_some_and(|row| row.version >= numbering.version),
            None => end <= self.len(),
        };
        if is_known {
            return if end <= self.len() { Ok(()) } else { Err(ELSEWHERE) };
        }
        match addition.becomes {
            Some(_) => {
                let taken: Vec<TaskId> = self.value_inputs(by).iter().collect();
                addition.check(self.len(), &taken)?;
            }
            None => addition.check_of_client(self.len())?,
        }
        self.check_numbering(by, numbering, addition)?;
        let (rows, becomes) = addition.rows(numbering, by, self.grown(by).map(Arc::as_ref));
        for (task, row) in (numbering.task.0..).map(TaskId).zip(rows) {
            self.learn(task, Arc::new(row));
        }
        if let Some(becomes) = becomes {
            self.learn(by, Arc::new(becomes));
        }
        Ok(())
    }

    /// The row that a task gets when it is given so much memory: it is the same otherwise.
    pub fn row_with_memory(&self, task: TaskId, numbering: Numbering, memory_bytes: u64) -> Grown {
        let before = self.grown(task);
        let mut options = self.options(task).clone();
        options.resources.memory_bytes = memory_bytes;
        let ids = |row: Row<'_>| row.iter().map(|task| task.0).collect();
        Grown {
            version: numbering.version,
            origin: before.and_then(|row| row.origin.clone()),
            submitted: numbering.submitted,
            operation: match before {
                Some(row) => row.operation.clone(),
                None => Arc::new(self.operation(task).clone()),
            },
            operation_id: self.operation_id(task),
            place: before.map_or(0, |row| row.place),
            options: Arc::new(options),
            options_id: numbering.options,
            values: ids(self.value_inputs(task)),
            orders: ids(self.order_inputs(task)),
        }
    }

    /// Refuses numbers that are others' already, or go beyond what can be numbered.
    fn check_numbering(
        &self,
        by: TaskId,
        numbering: Numbering,
        addition: &Addition,
    ) -> Result<(), AdditionError> {
        let is_free = |first: u32, count: usize, used: usize| {
            first as usize >= used && first as usize + count < u32::MAX as usize
        };
        let Columns { operations, options, .. } = self.columns();
        let fits = by.index() < self.len()
            && numbering.task.index() == self.len()
            && is_free(numbering.operation.0, addition.operations.len(), operations.len())
            && is_free(numbering.options.0, addition.options.len(), options.len())
            && is_free(numbering.submitted, addition.tasks.len(), 0);
        match fits {
            true => Ok(()),
            false => Err(ELSEWHERE),
        }
    }

    /// The task of the graph as it began that a task leads back to: itself, if it was there.
    pub fn root(&self, task: TaskId) -> TaskId {
        let origin = self.grown(task).and_then(|row| row.origin.as_ref());
        origin.map_or(task, |origin| origin.root)
    }

    /// The group that a task is counted in: its own, or that of the task it leads back to.
    pub fn group_of(&self, task: TaskId) -> &Group {
        &self.keys().groups()[self.group_place(task)]
    }

    /// Which of the groups that is.
    pub fn group_place(&self, task: TaskId) -> usize {
        let root = self.root(task);
        // Empty groups share their first task with the group behind them, which is the right one.
        let place = self.keys().groups().partition_point(|group| group.first <= root) - 1;
        // What a client submits is in the group behind what stands for it.
        let is_of_client = root != task && self.is_join(root);
        place + usize::from(is_of_client)
    }

    /// The task or array of this name, or the added task.
    pub fn find(&self, key: &str) -> Option<Named> {
        let added = || {
            let may_be_added = key.contains('/') || key.ends_with(']');
            let count = if may_be_added { self.len() } else { self.table.task_count() };
            let mut added = (self.table.task_count() as u32..count as u32).map(TaskId);
            added.find(|&task| self.grown_key(task) == key).map(Named::Task)
        };
        self.keys().find(key).or_else(added)
    }

    /// All tasks, each behind its inputs, those that were added among them. Takes time and memory for each
    /// task and dependency.
    pub fn order_of_all(&self) -> Vec<TaskId> {
        let mut order = Vec::with_capacity(self.len());
        let mut is_entered = vec![false; order.capacity()];
        for task in
            self.topological_order().chain((self.table.task_count() as u32..self.len() as u32).map(TaskId))
        {
            let mut way = vec![(task, false)];
            while let Some((task, is_done)) = way.pop() {
                if is_done {
                    order.push(task);
                } else if !std::mem::replace(&mut is_entered[task.index()], true) {
                    way.push((task, true));
                    way.extend(self.inputs(task).map(|input| (input, false)));
                }
            }
        }
        order
    }

    /// True for the tasks that were there from the beginning.
    pub fn began_with(&self, task: TaskId) -> bool {
        task.index() < self.table.task_count()
    }

    /// How many tasks were there from the beginning.
    pub fn count_begun(&self) -> usize {
        self.table.task_count()
    }

    #[cold]
    #[inline(never)]
    pub(super) fn count_all(&self) -> usize {
        let began_with = self.table.task_count();
        began_with + self.growth.get().map_or(0, |growth| growth.count_from(began_with))
    }

    /// The next task that takes this one, from a place on; stale rows are passed over.
    pub(super) fn next_taker(&self, task: TaskId, at: &mut u32) -> Option<TaskId> {
        let began_with = match self.began_with(task) {
            true => self.dependents.row(&self.table, task),
            false => Row::listed(&[]),
        };
        let cell = self.growth.get().and_then(|growth| growth.cell(task));
        loop {
            let place = *at as usize;
            let (taker, version) = match began_with.get(place) {
                Some(taker) => (taker, None),
                None => {
                    let (taker, version) = cell?.takers.get(place - began_with.len())?;
                    (*taker, Some(*version))
                }
            };
            *at += 1;
            let takes = match self.grown(taker) {
                None => true,
                Some(row) => {
                    version == Some(row.version)
                        || row.values.contains(&task.0)
                        || row.orders.contains(&task.0)
                }
            };
            if takes {
                return Some(taker);
            }
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown_facts(&self, task: TaskId) -> Facts<'_> {
        match self.grown(task) {
            None => self.table.facts(task),
            Some(row) => Facts {
                operation: row.operation_id,
                options: row.options_id,
                values: Row::listed(&row.values),
                orders: Row::listed(&row.orders),
            },
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown_operation(&self, task: TaskId) -> &Operation {
        &self.grown(task).expect("operations behind the table are those of rows").operation
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown_options(&self, task: TaskId) -> &TaskOptions {
        &self.grown(task).expect("options behind the table are those of rows").options
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown_ids(&self, task: TaskId) -> (OperationId, OptionsId) {
        match self.grown(task) {
            None => (self.table.operation_id(task), self.table.options_id(task)),
            Some(row) => (row.operation_id, row.options_id),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown_values(&self, task: TaskId) -> Row<'_> {
        match self.grown(task) {
            None => self.table.values(task),
            Some(row) => Row::listed(&row.values),
        }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn grown_orders(&self, task: TaskId) -> Row<'_> {
        match self.grown(task) {
            None => self.table.orders(task),
            Some(row) => Row::listed(&row.orders),
        }
    }

    /// The key of a task: that of who submitted it, its name there, and its number among all submitted there.
    pub(super) fn grown_key(&self, task: TaskId) -> String {
        let mut parts = Vec::new();
        let mut next = task;
        let root = loop {
            if self.began_with(next) {
                let key = self.keys().key(next);
                // What a client submits bears no name of its own before it.
                let is_client = self.is_join(next);
                break if is_client { String::new() } else { key };
            }
            let Some(origin) = self.grown(next).and_then(|row| row.origin.as_ref()) else {
                // Not everybody knows every task.
                break format!("#{next}");
            };
            parts.push(format!("/{}[{}]", origin.name, origin.number));
            next = origin.by;
        };
        let key = parts.iter().rev().fold(root, |key, part| key + part);
        key.strip_prefix('/').map(str::to_owned).unwrap_or(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::addition::Origin;
    use crate::core::graph::{Definition, GraphBuilder};
    use crate::core::task::{Body, Call};

    fn operation(function: &str) -> Operation {
        let body = Body::Call(Call { function: function.to_owned(), arguments: vec![] });
        Operation { body, inputs: vec![], outputs: vec![] }
    }

    /// `a`, `b` that takes it, and `c` that takes both.
    fn graph() -> Graph {
        let mut builder = GraphBuilder::new("test", "/");
        for key in ["a", "b", "c"] {
            builder.declare(Group::single(key)).unwrap();
        }
        let (operation, options) =
            (builder.operation(operation("noop")), builder.options(TaskOptions::default()));
        for inputs in [&[][..], &[0], &[0, 1]] {
            let values = inputs.iter().copied().map(TaskId).collect();
            builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
        }
        builder.build().unwrap()
    }

    fn row(version: u32, values: &[u32], origin: Option<(u32, &str, u32)>) -> Arc<Grown> {
        let origin = origin.map(|(by, name, number)| {
            let (by, root) = (TaskId(by), TaskId(0));
            Origin { by, root, name: name.to_owned(), number }
        });
        let (operation_id, options_id) = (OperationId(1), OptionsId(1));
        let (operation, options) = (Arc::new(operation("grown")), Arc::default());
        let submitted = 0;
        Arc::new(Grown {
            version,
            origin,
            submitted,
            operation_id,
            operation,
            place: 0,
            options_id,
            options,
            values: values.to_vec(),
            orders: vec![],
        })
    }

    #[test]
    fn a_task_that_becomes_another_takes_what_its_new_row_says() {
        let graph = graph();
        assert_eq!((graph.len(), graph.grown(TaskId(1)).is_none()), (3, true));
        graph.learn(TaskId(3), row(0, &[0], Some((1, "part", 0))));
        graph.learn(TaskId(1), row(0, &[3], None));
        assert_eq!((graph.len(), graph.key(TaskId(3))), (4, "b/part[0]".to_owned()));
        assert_eq!(graph.dependents(TaskId(0)), [TaskId(2), TaskId(3)], "b takes it no more");
        assert_eq!(graph.dependents(TaskId(3)), [TaskId(1)]);
        assert_eq!(graph.dependents(TaskId(1)), [TaskId(2)]);
        assert_eq!(graph.value_inputs(TaskId(1)), [TaskId(3)]);
        assert_eq!(graph.facts(TaskId(1)).options, OptionsId(1));
        assert!(matches!(&graph.operation(TaskId(1)).body, Body::Call(call) if call.function == "grown"));
        assert!(matches!(&graph.operation(TaskId(2)).body, Body::Call(call) if call.function == "noop"));
        assert!(!graph.takes_value(TaskId(1), TaskId(0)) && graph.takes_value(TaskId(3), TaskId(0)));
        assert_eq!(graph.dependents(TaskId(0)).len(), 2);
        assert!(!graph.dependents(TaskId(0)).contains(TaskId(1)) && graph.dependents(TaskId(2)).is_empty());
    }

    #[test]
    fn an_input_that_is_taken_on_is_taken_once() {
        let graph = graph();
        graph.learn(TaskId(2), row(0, &[1], None));
        assert_eq!(graph.dependents(TaskId(0)), [TaskId(1)]);
        assert_eq!(graph.dependents(TaskId(1)), [TaskId(2)]);
        graph.learn(TaskId(2), row(1, &[1], None));
        assert_eq!(graph.dependents(TaskId(1)), [TaskId(2)]);
        graph.learn(TaskId(2), row(2, &[], None));
        assert!(graph.dependents(TaskId(1)).is_empty());
    }

    #[test]
    fn every_task_comes_behind_its_inputs() {
        let graph = graph();
        graph.learn(TaskId(3), row(0, &[0], Some((1, "part", 0))));
        graph.learn(TaskId(4), row(0, &[3], Some((1, "part", 1))));
        graph.learn(TaskId(1), row(0, &[3, 4], None));
        assert_eq!(graph.order_of_all(), [0, 3, 4, 1, 2].map(TaskId));
    }

    #[test]
    fn what_is_old_changes_nothing() {
        let graph = graph();
        graph.learn(TaskId(1), row(4, &[0], None));
        graph.learn(TaskId(1), row(4, &[], None));
        graph.learn(TaskId(1), row(3, &[], None));
        assert_eq!(graph.value_inputs(TaskId(1)), [TaskId(0)]);
    }

    #[test]
    fn rows_may_be_known_without_those_before_them() {
        let graph = graph();
        graph.learn(TaskId(900_000), row(0, &[1], Some((70_000, "leaf", 3))));
        assert_eq!(graph.value_inputs(TaskId(900_000)), [TaskId(1)]);
        assert_eq!(graph.dependents(TaskId(1)), [TaskId(2), TaskId(900_000)]);
        assert_eq!(graph.key(TaskId(900_000)), "#70000/leaf[3]");
    }

    #[test]
    fn many_tasks_are_counted_and_found() {
        let graph = graph();
        for task in 3..5_000 {
            graph.learn(TaskId(task), row(0, &[task - 1], Some((task - 1, "next", 0))));
            assert_eq!(graph.len(), task as usize + 1);
        }
        let copy = graph.clone();
        copy.learn(TaskId(5_000), row(0, &[], Some((1, "next", 1))));
        assert_eq!((graph.len(), copy.len()), (5_000, 5_001));
        assert_eq!(graph.key(TaskId(5)), "c/next[0]/next[0]/next[0]");
        assert_eq!(graph.dependents(TaskId(4_000)), [TaskId(4_001)]);
    }

    #[test]
    fn a_list_finds_what_was_added() {
        let list = Appended::<usize>::default();
        for number in 0..1_000_usize {
            assert_eq!((list.len(), list.last()), (number, number.checked_sub(1).as_ref()));
            list.push(number);
        }
        assert!((0..1_000).all(|place| list.get(place) == Some(&place)) && list.get(1_000).is_none());
    }
}
