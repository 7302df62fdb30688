//! Tasks and their dependencies. A `Graph` is valid once built: no cycle, no dangling input.
//!
//! Stored as columns: ids are `u32`, dependencies lie in one array with offsets (compressed sparse
//! rows), and operations and options are shared by the tasks that have the same. Tasks side by side
//! that are alike are a segment, which is stored as a rule, however many they are.

use std::sync::OnceLock;

use super::id::{OperationId, OptionsId, TaskId};
use super::key::{KeyError, Keys};
use super::task::{Body, Operation, TaskOptions};
use super::task_list::TaskList;
use super::task_set::TaskSet;

mod builder;
mod check;
mod columns;
mod dependents;
mod finder;
mod growth;
mod levels;
mod numbers;
mod order;
mod progression;
mod row;

pub use builder::{Definition, GraphBuilder};
pub use columns::{Columns, Facts, Rows};
pub use levels::Levels;
pub use numbers::Numbers;
pub use progression::Progression;
pub use row::{Row, RowTasks};

use columns::{Form, Segment, Table};
use dependents::Dependents;
use growth::Growth;

/// A valid graph. What it began with never changes; tasks may be added while it runs (`learn`), and only
/// what is said of a single task then tells of them.
#[derive(Clone, Debug)]
pub struct Graph {
    table: Table,
    dependents: Dependents,
    order: Numbers,
    /// Nothing if it has not grown.
    growth: OnceLock<Box<Growth>>,
}

/// What follows from columns, but not in a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Derived {
    /// Dependents of the tasks for which no rule gives them.
    pub dependents: Rows,
    /// All tasks, each behind its inputs: first task and number of tasks of each stretch.
    pub order: Numbers,
}

/// Why columns are not a graph. Tasks are named by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// These tasks wait for each other, each for the next and the last for the first.
    Cycle(Vec<TaskId>),
    /// A name is used twice, or there are too many tasks.
    Key(KeyError),
    /// More than 2^32 - 1 dependencies that no rule gives.
    TooManyDependencies,
    /// The columns contradict each other; only damaged data does that. Says how.
    Inconsistent(&'static str),
}

/// Tasks side by side that do the same under the same options, and take what the same rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The tasks' numbers.
    pub tasks: std::ops::Range<u32>,
    /// What each of them does.
    pub operation: OperationId,
    /// How each of them runs.
    pub options: OptionsId,
    /// True if they take nothing.
    pub is_source: bool,
}

impl Graph {
    /// Checks columns and derives the rest.
    ///
    /// Time is linear in tasks and dependencies, memory in what stands in the columns.
    pub fn from_columns(columns: Columns) -> Result<Self, GraphError> {
        check::check(&columns)?;
        let table = Table::new(columns);
        let dependents = Dependents::derive(&table)?;
        let order = order::order(&table, &dependents)?;
        Ok(Graph { table, dependents, order, growth: OnceLock::new() })
    }

    /// Checks columns and what was derived from them before. Takes no memory for each task.
    pub fn from_parts(columns: Columns, derived: Derived) -> Result<Self, GraphError> {
        check::check(&columns)?;
        let table = Table::new(columns);
        if !order::is_order(&table, &derived.order) {
            return Err(GraphError::Inconsistent("a task comes before its inputs"));
        }
        let dependents = Dependents::with_rows(&table, derived.dependents)?;
        Ok(Graph { table, dependents, order: derived.order, growth: OnceLock::new() })
    }

    /// What the graph is made of.
    pub fn columns(&self) -> &Columns {
        &self.table.columns
    }

    /// What follows from the columns and is worth keeping: the rows of dependents, and the order.
    pub fn derived(&self) -> (&Rows, &Numbers) {
        (self.dependents.rows(), &self.order)
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.columns().name
    }

    /// Where relative paths started when the graph was read.
    pub fn directory(&self) -> &str {
        &self.columns().directory
    }

    /// The tasks' names.
    pub fn keys(&self) -> &Keys {
        &self.columns().keys
    }

    /// The key of a task.
    pub fn key(&self, task: TaskId) -> String {
        match self.has_grown() {
            false => self.keys().key(task),
            true => self.grown_key(task),
        }
    }

    /// True once tasks were added or have become others.
    #[inline]
    pub fn has_grown(&self) -> bool {
        self.growth.get().is_some()
    }

    /// How many tasks there are, hidden joins and added ones included.
    pub fn len(&self) -> usize {
        match self.has_grown() {
            false => self.table.task_count(),
            true => self.count_all(),
        }
    }

    /// True if there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many dependencies there are.
    pub fn dependency_count(&self) -> u64 {
        self.table.dependency_count()
    }

    /// All tasks in the order of their ids.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskId> + use<> {
        (0..self.len() as u32).map(TaskId)
    }

    /// All tasks, each behind its inputs; as near to the order of ids as that allows.
    pub fn topological_order(&self) -> impl DoubleEndedIterator<Item = TaskId> + '_ {
        let stretches = self.order.as_chunks().0.iter();
        stretches.flat_map(|[first, count]| *first..first + count).map(TaskId)
    }

    /// The segments in the same order, the last first; those that are cut by it piece by piece.
    fn segments_backwards(&self) -> impl Iterator<Item = (usize, Segment, std::ops::Range<u32>)> + '_ {
        self.order.as_chunks().0.iter().rev().flat_map(move |[first, count]| {
            let ends = (TaskId(*first), TaskId(first + count - 1));
            let numbers = self.table.segment_of(ends.0)..=self.table.segment_of(ends.1);
            numbers.rev().map(move |number| {
                let segment = self.columns().segment(number);
                (number, segment, segment.first.max(*first)..segment.end().min(first + count))
            })
        })
    }

    /// What is to be known of a task, for whoever wants more than one thing of it.
    #[inline]
    pub fn facts(&self, task: TaskId) -> Facts<'_> {
        match self.has_grown() {
            false => self.table.facts(task),
            true => self.grown_facts(task),
        }
    }

    /// The end of a stretch of tasks from this one on that are alike and take nothing; the task itself if
    /// it is in none. A stretch may be told of in pieces.
    #[inline]
    pub fn sources_end(&self, task: TaskId) -> TaskId {
        match self.has_grown() {
            false => self.table.sources_end(task),
            true => task,
        }
    }

    /// What a task does.
    pub fn operation(&self, task: TaskId) -> &Operation {
        self.operation_with(task, self.operation_id(task))
    }

    /// What a task does, for whoever knows its place in the table.
    #[inline]
    pub fn operation_with(&self, task: TaskId, id: OperationId) -> &Operation {
        match self.columns().operations.get(id.index()) {
            Some(operation) => operation,
            None => self.grown_operation(task),
        }
    }

    /// Which operation a task has.
    pub fn operation_id(&self, task: TaskId) -> OperationId {
        match self.has_grown() {
            false => self.table.operation_id(task),
            true => self.grown_ids(task).0,
        }
    }

    /// How a task runs.
    pub fn options(&self, task: TaskId) -> &TaskOptions {
        self.options_with(task, self.options_id(task))
    }

    /// How a task runs, for whoever knows the place of its options in the table.
    #[inline]
    pub fn options_with(&self, task: TaskId, id: OptionsId) -> &TaskOptions {
        match self.columns().options.get(id.index()) {
            Some(options) => options,
            None => self.grown_options(task),
        }
    }

    /// Which set of options a task has.
    pub fn options_id(&self, task: TaskId) -> OptionsId {
        match self.has_grown() {
            false => self.table.options_id(task),
            true => self.grown_ids(task).1,
        }
    }

    /// False if it is known at once that there are no joins.
    pub fn has_joins(&self) -> bool {
        let is_join = |operation: &Operation| matches!(operation.body, Body::Join);
        self.has_grown() || self.columns().operations.iter().any(is_join)
    }

    /// True for the hidden tasks that only stand for others.
    pub fn is_join(&self, task: TaskId) -> bool {
        matches!(self.operation(task).body, Body::Join)
    }

    /// The hidden tasks that are no joins: they gather the values of arrays that are taken whole.
    pub fn hidden_lists(&self) -> impl Iterator<Item = TaskId> + '_ {
        let hidden = self.keys().groups().iter().filter(|group| group.hidden);
        hidden.map(|group| group.first).filter(|&task| !self.is_join(task))
    }

    /// All tasks, in stretches of those that are alike. Where every task is stored for itself, each
    /// is a stretch.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> + '_ {
        self.columns().segments().flat_map(move |segment| {
            let each = match segment.form {
                Form::Listed(_) => 1,
                Form::Alike(_) => segment.count,
            };
            (segment.first..segment.end()).step_by(each as usize).map(move |first| {
                let task = TaskId(first);
                Stretch {
                    tasks: first..first + each,
                    operation: self.operation_id(task),
                    options: self.options_id(task),
                    is_source: self.value_inputs(task).is_empty() && self.order_inputs(task).is_empty(),
                }
            })
        })
    }

    /// The tasks whose values a task takes, by position.
    #[inline]
    pub fn value_inputs(&self, task: TaskId) -> Row<'_> {
        match self.has_grown() {
            false => self.table.values(task),
            true => self.grown_values(task),
        }
    }

    /// The tasks that must be finished before a task, but whose values it does not take.
    #[inline]
    pub fn order_inputs(&self, task: TaskId) -> Row<'_> {
        match self.has_grown() {
            false => self.table.orders(task),
            true => self.grown_orders(task),
        }
    }

    /// All inputs of a task, each once.
    pub fn inputs(&self, task: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        self.value_inputs(task).iter().chain(self.order_inputs(task))
    }

    /// How many inputs a task has.
    pub fn input_count(&self, task: TaskId) -> usize {
        self.value_inputs(task).len() + self.order_inputs(task).len()
    }

    /// The tasks that wait for a task, each once.
    #[inline]
    pub fn dependents(&self, task: TaskId) -> Row<'_> {
        match self.has_grown() {
            false => self.dependents.row(&self.table, task),
            true => Row::grown(self, task),
        }
    }

    /// True if `dependent` takes the value of `input`.
    pub fn takes_value(&self, dependent: TaskId, input: TaskId) -> bool {
        self.value_inputs(dependent).contains(input)
    }

    /// The tasks that nobody waits for and that users know of, in stretches.
    pub fn sink_stretches(&self) -> impl Iterator<Item = std::ops::Range<u32>> + '_ {
        let groups = self.keys().groups().iter().filter(|group| !group.hidden);
        groups.flat_map(|group| self.sinks_among(group.first.0..group.first.0 + group.count().unwrap_or(0)))
    }

    /// The tasks of a range that nobody waits for, in stretches.
    fn sinks_among(&self, tasks: std::ops::Range<u32>) -> impl Iterator<Item = std::ops::Range<u32>> + '_ {
        let mut start = tasks.start;
        std::iter::from_fn(move || {
            while start < tasks.end {
                let number = self.table.segment_of(TaskId(start));
                let end = self.columns().segment(number).end().min(tasks.end);
                if self.dependents.only_rules(number).is_some_and(|mut rules| rules.next().is_none()) {
                    return Some(std::mem::replace(&mut start, end)..end);
                }
                let is_sink = |task: &u32| self.dependents(TaskId(*task)).is_empty();
                let Some(first) = (start..end).find(is_sink) else {
                    start = end;
                    continue;
                };
                start = (first..end).find(|task| !is_sink(task)).unwrap_or(end);
                return Some(first..start);
            }
            None
        })
    }

    /// The tasks that nobody waits for and that users know of.
    pub fn sinks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.sink_stretches().flatten().map(TaskId)
    }

    /// The tasks that `asked` needs, itself included.
    pub fn needed_by(&self, asked: impl Into<TaskList>) -> TaskSet {
        let mut needed = TaskSet::new(self.len());
        for stretch in asked.into().stretches() {
            needed.insert_all(stretch.clone());
        }
        self.add_needed(&mut needed);
        needed
    }

    /// Adds whatever the tasks of a set need, directly or indirectly.
    fn add_needed(&self, needed: &mut TaskSet) {
        for (_, segment, piece) in self.segments_backwards() {
            match segment.form {
                Form::Alike(alike) if alike.values + alike.orders == 0 => (),
                Form::Alike(_) if self.needs_at_once(segment, &piece, needed) => (),
                _ => self.add_needed_by_each(piece, needed),
            }
        }
    }

    /// How many tasks of a set are not joins.
    pub fn count_shown(&self, tasks: &TaskSet) -> u32 {
        let shown = self.stretches().filter(|stretch| {
            !matches!(self.columns().operations[stretch.operation.index()].body, Body::Join)
        });
        shown.map(|stretch| tasks.count(stretch.tasks)).sum()
    }

    fn add_needed_by_each(&self, piece: std::ops::Range<u32>, needed: &mut TaskSet) {
        for task in piece.rev().map(TaskId) {
            if needed.contains(task) {
                self.inputs(task).for_each(|input| needed.insert(input));
            }
        }
    }

    /// Adds what a whole segment takes, if it is needed as a whole and takes stretches of others.
    fn needs_at_once(&self, segment: Segment, piece: &std::ops::Range<u32>, needed: &mut TaskSet) -> bool {
        let Form::Alike(alike) = segment.form else { return false };
        let rules = self.columns().rules_of(alike);
        let is_apart = |(least, greatest): (i64, i64)| {
            greatest < i64::from(segment.first) || least >= i64::from(segment.end())
        };
        let takes_stretch =
            |rule: Progression| rule.is_gapless(segment.count) && is_apart(rule.reach(segment.count));
        if piece.len() < segment.count as usize
            || !rules.clone().all(takes_stretch)
            || !needed.contains_all(piece.clone())
        {
            return false;
        }
        for rule in rules {
            let (least, greatest) = rule.reach(segment.count);
            needed.insert_all(least as u32..greatest as u32 + 1);
        }
        true
    }
}

impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        self.columns() == other.columns() // the rest follows from them
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::Group;
    use crate::core::task::{Argument, Call};

    /// A graph of single tasks from lines such as `c: a b` (value inputs) or `c: a ; b` (order).
    fn graph(text: &str) -> Result<Graph, GraphError> {
        let mut builder = GraphBuilder::new("test", "/");
        let lines: Vec<(&str, &str)> = text.lines().filter_map(|line| line.trim().split_once(':')).collect();
        for (key, _) in &lines {
            builder.declare(Group::single(*key))?;
        }
        let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
        let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
        let options = builder.options(TaskOptions::default());
        for (_, inputs) in &lines {
            let (values, orders) = inputs.split_once(';').unwrap_or((inputs, ""));
            let ids = |builder: &GraphBuilder, names: &str| -> Vec<TaskId> {
                names.split_whitespace().map(|name| builder.keys().group(name).unwrap().first).collect()
            };
            let (values, orders) = (ids(&builder, values), ids(&builder, orders));
            builder.define(Definition { operation, options, values, orders })?;
        }
        builder.build()
    }

    fn call(argument: Argument) -> Body {
        Body::Call(Call { function: "identity".into(), arguments: vec![argument] })
    }

    #[test]
    fn dependents_mirror_inputs() {
        let graph = graph("a:\nb: a\nc: a ; b").unwrap();
        assert_eq!(graph.dependents(TaskId(0)), [TaskId(1), TaskId(2)]);
        assert_eq!(graph.dependents(TaskId(1)), [TaskId(2)]);
        assert_eq!(graph.order_inputs(TaskId(2)), [TaskId(1)]);
        assert!(graph.takes_value(TaskId(2), TaskId(0)) && !graph.takes_value(TaskId(2), TaskId(1)));
    }

    #[test]
    fn inputs_may_come_later_than_their_dependents() {
        let graph = graph("c: b\nb: a\na:").unwrap();
        let order: Vec<TaskId> = graph.topological_order().collect();
        assert_eq!(order, [TaskId(2), TaskId(1), TaskId(0)]);
    }

    #[test]
    fn a_cycle_is_named_task_by_task() {
        let error = graph("a:\nb: a d\nc: b\nd: c\ne: d").unwrap_err();
        let GraphError::Cycle(cycle) = error else { panic!("{error:?}") };
        assert_eq!(cycle.len(), 3);
        assert!(!cycle.contains(&TaskId(0)) && !cycle.contains(&TaskId(4)));
    }

    #[test]
    fn what_a_task_needs_is_what_it_can_reach() {
        let graph = graph("a:\nb: a\nc:\nd: b ; c\ne: d").unwrap();
        let needed =
            |task: u32| graph.needed_by(&[TaskId(task)]).iter(5).map(|task| task.0).collect::<Vec<_>>();
        assert_eq!((needed(1), needed(3)), (vec![0, 1], vec![0, 1, 2, 3]));
        assert_eq!(graph.sinks().collect::<Vec<_>>(), [TaskId(4)]);
    }

    #[test]
    fn contradicting_columns_are_refused() {
        let good = graph("a:\nb: a").unwrap();
        let set = |column: &mut Numbers, place: usize, number: u32| {
            let mut words = column.to_vec();
            words[place] = number;
            *column = words.into();
        };
        let damaged: [&dyn Fn(&mut Columns); 9] = [
            &|columns| {
                columns.orders = Rows { ends: vec![0, 1].into(), entries: vec![0].into() };
            },
            &|columns| {
                columns.operations[0].body = call(Argument::Map(vec![("n".into(), Argument::Input(0))]));
            },
            &|columns| columns.operations[0].body = call(Argument::Inputs { first: 1, count: u32::MAX }),
            &|columns| set(&mut columns.values.entries, 0, 9),
            &|columns| set(&mut columns.values.ends, 0, 7),
            &|columns| set(&mut columns.operation_of, 1, 3),
            &|columns| set(&mut columns.options_of, 1, 3),
            &|columns| columns.operation_of = columns.operation_of[..1].to_vec().into(),
            &|columns| set(&mut columns.segments, 1, 1),
        ];
        for damage in damaged {
            let mut columns = good.columns().clone();
            damage(&mut columns);
            assert!(matches!(Graph::from_columns(columns), Err(GraphError::Inconsistent(_))));
        }
    }
}
