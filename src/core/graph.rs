//! Tasks and their dependencies. A `Graph` is valid once built: no cycle, no dangling input.
//!
//! Stored as columns: ids are `u32`, dependencies lie in one array with offsets (compressed sparse
//! rows), and operations and options are shared by the tasks that have the same.

use serde::{Deserialize, Serialize};

mod row;

pub use row::{Row, RowTasks};

use super::id::{OperationId, OptionsId, TaskId};
use super::key::{Group, KeyError, Keys};
use super::task::{Argument, Body, CommandLine, Operation, Stdin, TaskOptions};

/// A valid graph. It never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    columns: Columns,
    dependents: Rows,
    order: Vec<TaskId>,
}

/// What a graph is made of and what its packed form stores: everything that cannot be derived.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// The graph's name.
    pub name: String,
    /// Where relative paths started when the graph was read: an absolute path.
    pub directory: String,
    /// The tasks' names.
    pub keys: Keys,
    /// The distinct operations.
    pub operations: Vec<Operation>,
    /// The distinct options.
    pub options: Vec<TaskOptions>,
    /// Each task's operation.
    pub operation_of: Vec<OperationId>,
    /// Each task's options.
    pub options_of: Vec<OptionsId>,
    /// Each task's value inputs, in the positions that its operation's arguments name.
    pub values: Rows,
    /// Each task's other inputs, which only have to be finished. None is also a value input.
    pub orders: Rows,
}

/// A list of tasks for each task, all in one array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Where each row ends; row `i` starts where row `i - 1` ends, row 0 at 0.
    pub ends: Vec<u32>,
    /// The rows' entries, one after the other.
    pub entries: Vec<TaskId>,
}

/// Why columns are not a graph. Tasks are named by key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GraphError {
    /// These tasks wait for each other, each for the next and the last for the first.
    Cycle(Vec<TaskId>),
    /// A name is used twice, or there are too many tasks.
    Key(KeyError),
    /// More than 2^32 - 1 dependencies.
    TooManyDependencies,
    /// The columns contradict each other; only damaged data does that. Says how.
    Inconsistent(&'static str),
}

impl Default for Rows {
    fn default() -> Self {
        Rows::new()
    }
}

impl Rows {
    /// No rows.
    pub const fn new() -> Self {
        Rows { ends: Vec::new(), entries: Vec::new() }
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One row.
    pub fn row(&self, task: TaskId) -> &[TaskId] {
        let start = task.index().checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start as usize..self.ends[task.index()] as usize]
    }

    /// Adds a row behind the others.
    fn push(&mut self, row: impl IntoIterator<Item = TaskId>) -> Result<(), GraphError> {
        self.entries.extend(row);
        self.ends.push(u32::try_from(self.entries.len()).map_err(|_| GraphError::TooManyDependencies)?);
        Ok(())
    }

    fn check(&self, tasks: usize) -> Result<(), GraphError> {
        let rising = self.ends.windows(2).all(|pair| pair[0] <= pair[1]);
        let complete = self.ends.last().copied().unwrap_or(0) as usize == self.entries.len();
        if self.ends.len() != tasks || !rising || !complete {
            return Err(GraphError::Inconsistent("the rows of inputs do not fit the tasks"));
        }
        match self.entries.iter().all(|input| input.index() < tasks) {
            true => Ok(()),
            false => Err(GraphError::Inconsistent("an input is no task of the graph")),
        }
    }
}

impl Graph {
    /// Checks columns and derives the rest.
    ///
    /// Time and memory are linear in tasks and dependencies.
    pub fn from_columns(columns: Columns) -> Result<Self, GraphError> {
        check_columns(&columns)?;
        let dependents = dependents(&columns)?;
        let order = topological_order(&columns, &dependents)?;
        Ok(Graph { columns, dependents, order })
    }

    /// What the graph is made of.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.columns.name
    }

    /// Where relative paths started when the graph was read.
    pub fn directory(&self) -> &str {
        &self.columns.directory
    }

    /// The tasks' names.
    pub fn keys(&self) -> &Keys {
        &self.columns.keys
    }

    /// The key of a task.
    pub fn key(&self, task: TaskId) -> String {
        self.columns.keys.key(task)
    }

    /// How many tasks there are, hidden joins included.
    pub fn len(&self) -> usize {
        self.columns.operation_of.len()
    }

    /// True if there is no task.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many dependencies there are.
    pub fn dependency_count(&self) -> usize {
        self.columns.values.entries.len() + self.columns.orders.entries.len()
    }

    /// All tasks in the order of their ids.
    pub fn tasks(&self) -> impl DoubleEndedIterator<Item = TaskId> + use<> {
        (0..self.len() as u32).map(TaskId)
    }

    /// All tasks, each behind its inputs; as near to the order of ids as that allows.
    pub fn topological_order(&self) -> impl DoubleEndedIterator<Item = TaskId> + '_ {
        self.order.iter().copied()
    }

    /// What a task does.
    pub fn operation(&self, task: TaskId) -> &Operation {
        &self.columns.operations[self.columns.operation_of[task.index()].index()]
    }

    /// How a task runs.
    pub fn options(&self, task: TaskId) -> &TaskOptions {
        &self.columns.options[self.columns.options_of[task.index()].index()]
    }

    /// Which set of options a task has.
    pub fn options_id(&self, task: TaskId) -> OptionsId {
        self.columns.options_of[task.index()]
    }

    /// True for the hidden tasks that only stand for others.
    pub fn is_join(&self, task: TaskId) -> bool {
        matches!(self.operation(task).body, Body::Join)
    }

    /// Which operation a task has.
    pub fn operation_id(&self, task: TaskId) -> OperationId {
        self.columns.operation_of[task.index()]
    }

    /// The tasks whose values a task takes, by position.
    pub fn value_inputs(&self, task: TaskId) -> Row<'_> {
        Row::listed(self.columns.values.row(task))
    }

    /// The tasks that must be finished before a task, but whose values it does not take.
    pub fn order_inputs(&self, task: TaskId) -> Row<'_> {
        Row::listed(self.columns.orders.row(task))
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
    pub fn dependents(&self, task: TaskId) -> Row<'_> {
        Row::listed(self.dependents.row(task))
    }

    /// True if `dependent` takes the value of `input`.
    pub fn takes_value(&self, dependent: TaskId, input: TaskId) -> bool {
        self.value_inputs(dependent).contains(input)
    }

    /// The tasks that nobody waits for and that users know of.
    pub fn sinks(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.tasks().filter(|&task| self.dependents(task).is_empty() && !self.keys().group_of(task).hidden)
    }

    /// The tasks that `asked` needs, itself included: true at their places.
    pub fn needed_by(&self, asked: impl IntoIterator<Item = TaskId>) -> Vec<bool> {
        let mut needed = vec![false; self.len()];
        for task in asked {
            needed[task.index()] = true;
        }
        for task in self.topological_order().rev() {
            if needed[task.index()] {
                for input in self.inputs(task) {
                    needed[input.index()] = true;
                }
            }
        }
        needed
    }
}

fn check_columns(columns: &Columns) -> Result<(), GraphError> {
    let tasks = columns.keys.task_count();
    if columns.operation_of.len() != tasks || columns.options_of.len() != tasks {
        return Err(GraphError::Inconsistent("the columns have different lengths"));
    }
    if columns.operation_of.iter().any(|id| id.index() >= columns.operations.len()) {
        return Err(GraphError::Inconsistent("an operation is missing"));
    }
    if columns.options_of.iter().any(|id| id.index() >= columns.options.len()) {
        return Err(GraphError::Inconsistent("a set of options is missing"));
    }
    if columns.options.iter().any(|options| !has_consistent_ranks(options)) {
        return Err(GraphError::Inconsistent("ranks do not fit their nodes or cores"));
    }
    columns.values.check(tasks)?;
    columns.orders.check(tasks)?;
    check_each_input_once(columns)?;
    check_positions(columns)?;
    match columns.operations.iter().any(is_without_program) {
        true => Err(GraphError::Inconsistent("a command names no program")),
        false => Ok(()),
    }
}

/// True if there is a rank on each node, and the cores asked for are those of all ranks of a node.
fn has_consistent_ranks(options: &TaskOptions) -> bool {
    options.ranks.is_none_or(|ranks| {
        let spreads = ranks.nodes > 0 && ranks.nodes <= ranks.count;
        let cpus = || u64::from(ranks.on_node_max()) * u64::from(ranks.cpus);
        spreads && cpus() == u64::from(options.resources.cpus)
    })
}

fn is_without_program(operation: &Operation) -> bool {
    let Body::Command(command) = &operation.body else { return false };
    matches!(&command.line, CommandLine::Arguments(words) if words.is_empty())
}

/// Refuses a task that has one input twice, be it as a value or otherwise.
fn check_each_input_once(columns: &Columns) -> Result<(), GraphError> {
    let tasks = columns.operation_of.len() as u32;
    let mut last_seen_by = vec![u32::MAX; tasks as usize];
    for task in (0..tasks).map(TaskId) {
        for input in columns.values.row(task).iter().chain(columns.orders.row(task)) {
            if std::mem::replace(&mut last_seen_by[input.index()], task.0) == task.0 {
                return Err(GraphError::Inconsistent("a task has the same input twice"));
            }
        }
    }
    Ok(())
}

/// Refuses operations that name an input by a position beyond their task's value inputs.
fn check_positions(columns: &Columns) -> Result<(), GraphError> {
    let named: Vec<u64> = columns.operations.iter().map(inputs_named).collect();
    let fits = |(task, operation): (u32, &OperationId)| {
        named[operation.index()] <= columns.values.row(TaskId(task)).len() as u64
    };
    match (0..).zip(&columns.operation_of).all(fits) {
        true => Ok(()),
        false => Err(GraphError::Inconsistent("an operation names an input that its task does not have")),
    }
}

/// How many value inputs a task must have for this operation: one more than the highest position.
fn inputs_named(operation: &Operation) -> u64 {
    match &operation.body {
        Body::Join => 0,
        Body::Call(call) => call.arguments.iter().map(inputs_named_by).max().unwrap_or(0),
        Body::Command(command) => match command.stdin {
            Stdin::Null => 0,
            Stdin::Input(position) => u64::from(position) + 1,
        },
    }
}

fn inputs_named_by(argument: &Argument) -> u64 {
    match argument {
        Argument::Value(_) | Argument::Text(_) => 0,
        Argument::Input(position) => u64::from(*position) + 1,
        Argument::Inputs { first, count } => u64::from(*first) + u64::from(*count),
        Argument::List(list) => list.iter().map(inputs_named_by).max().unwrap_or(0),
        Argument::Map(map) => map.iter().map(|(_, inner)| inputs_named_by(inner)).max().unwrap_or(0),
    }
}

/// Turns the rows of inputs around: a counting sort, so dependents stand in the order of ids.
fn dependents(columns: &Columns) -> Result<Rows, GraphError> {
    let tasks = columns.operation_of.len();
    let total = columns.values.entries.len() + columns.orders.entries.len();
    u32::try_from(total).map_err(|_| GraphError::TooManyDependencies)?;
    let mut ends = vec![0_u32; tasks];
    for input in columns.values.entries.iter().chain(&columns.orders.entries) {
        ends[input.index()] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        let count = *end;
        *end = sum; // for now the start; moved to the end by the filling below
        sum += count;
    }
    let mut entries = vec![TaskId(0); total];
    for task in (0..tasks as u32).map(TaskId) {
        for input in columns.values.row(task).iter().chain(columns.orders.row(task)) {
            let place = &mut ends[input.index()];
            entries[*place as usize] = task;
            *place += 1;
        }
    }
    Ok(Rows { ends, entries })
}

fn topological_order(columns: &Columns, dependents: &Rows) -> Result<Vec<TaskId>, GraphError> {
    let tasks = columns.operation_of.len();
    let inputs_of = |task: TaskId| columns.values.row(task).len() + columns.orders.row(task).len();
    let mut unmet: Vec<u32> = (0..tasks as u32).map(|task| inputs_of(TaskId(task)) as u32).collect();
    let mut order: Vec<TaskId> =
        (0..tasks as u32).map(TaskId).filter(|task| unmet[task.index()] == 0).collect();
    let mut next = 0;
    while let Some(&task) = order.get(next) {
        next += 1;
        for &dependent in dependents.row(task) {
            unmet[dependent.index()] -= 1;
            if unmet[dependent.index()] == 0 {
                order.push(dependent);
            }
        }
    }
    match order.len() == tasks {
        true => Ok(order),
        false => Err(GraphError::Cycle(find_cycle(columns, &unmet))),
    }
}

/// Walks from input to input among the tasks that never became ready until one comes twice.
fn find_cycle(columns: &Columns, unmet: &[u32]) -> Vec<TaskId> {
    let stuck = |task: &TaskId| unmet[task.index()] > 0;
    let mut visited_at = vec![usize::MAX; unmet.len()];
    let mut path = Vec::new();
    let first = (0..unmet.len() as u32).map(TaskId).find(stuck);
    let mut task = first.expect("an incomplete order leaves a task with unmet inputs");
    while visited_at[task.index()] == usize::MAX {
        visited_at[task.index()] = path.len();
        path.push(task);
        let inputs = columns.values.row(task).iter().chain(columns.orders.row(task));
        task = *inputs.copied().find(stuck).as_ref().expect("a stuck task has a stuck input");
    }
    path.split_off(visited_at[task.index()])
}

/// Collects tasks, then checks them all at once.
///
/// Groups are declared first and hand out ids, so that tasks may name inputs that come later;
/// then every task is defined, in the order of ids.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    columns: Columns,
}

/// One task as it enters a builder.
#[derive(Clone, Debug, Default)]
pub struct Definition {
    /// What it does.
    pub operation: OperationId,
    /// How it runs.
    pub options: OptionsId,
    /// The tasks whose values it takes, by position, each once.
    pub values: Vec<TaskId>,
    /// The tasks that must be finished besides. Duplicates, and those in `values`, are dropped.
    pub orders: Vec<TaskId>,
}

impl GraphBuilder {
    /// A builder without tasks. `directory` is absolute: relative paths of the graph start there.
    pub fn new(name: impl Into<String>, directory: impl Into<String>) -> Self {
        let columns = Columns { name: name.into(), directory: directory.into(), ..Columns::default() };
        GraphBuilder { columns }
    }

    /// Announces a task or an array and returns the id of its first task. The tasks are owed:
    /// `define` must be called for each before `build`.
    pub fn declare(&mut self, group: Group) -> Result<TaskId, GraphError> {
        self.columns.keys.add(group).map_err(GraphError::Key)
    }

    /// The names declared so far.
    pub fn keys(&self) -> &Keys {
        &self.columns.keys
    }

    /// Enters an operation. Enter an operation that many tasks share once.
    pub fn operation(&mut self, operation: Operation) -> OperationId {
        self.columns.operations.push(operation);
        OperationId::from(self.columns.operations.len() - 1)
    }

    /// Enters options; equal ones get the same id.
    pub fn options(&mut self, options: TaskOptions) -> OptionsId {
        let known = self.columns.options.iter().position(|other| *other == options);
        OptionsId::from(known.unwrap_or_else(|| {
            self.columns.options.push(options);
            self.columns.options.len() - 1
        }))
    }

    /// Defines the next task in the order of ids and returns its id.
    pub fn define(&mut self, definition: Definition) -> Result<TaskId, GraphError> {
        let Definition { operation, options, mut values, mut orders } = definition;
        let task = TaskId::from(self.columns.operation_of.len());
        debug_assert!(is_each_once(&values), "value inputs of task {task} repeat: {values:?}");
        if !orders.is_empty() {
            orders.sort_unstable();
            orders.dedup();
            if !values.is_empty() {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                orders.retain(|input| sorted.binary_search(input).is_err());
            }
        }
        self.columns.operation_of.push(operation);
        self.columns.options_of.push(options);
        self.columns.values.push(values.drain(..))?;
        self.columns.orders.push(orders)?;
        Ok(task)
    }

    /// Checks everything and gives the graph.
    pub fn build(self) -> Result<Graph, GraphError> {
        Graph::from_columns(self.columns)
    }
}

fn is_each_once(tasks: &[TaskId]) -> bool {
    let mut sorted = tasks.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::task::Call;

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
        assert_eq!(graph.needed_by([TaskId(1)]), [true, true, false, false, false]);
        assert_eq!(graph.needed_by([TaskId(3)]), [true, true, true, true, false]);
        assert_eq!(graph.sinks().collect::<Vec<_>>(), [TaskId(4)]);
    }

    #[test]
    fn contradicting_columns_are_refused() {
        let good = graph("a:\nb: a").unwrap();
        let damaged: [fn(&mut Columns); 8] = [
            |columns| columns.orders = Rows { ends: vec![0, 1], entries: vec![TaskId(0)] },
            |columns| {
                columns.operations[0].body = call(Argument::Map(vec![("n".into(), Argument::Input(0))]))
            },
            |columns| columns.operations[0].body = call(Argument::Inputs { first: 1, count: u32::MAX }),
            |columns| columns.values.entries[0] = TaskId(9),
            |columns| columns.values.ends[0] = 7,
            |columns| columns.operation_of[1] = OperationId(3),
            |columns| columns.options_of[1] = OptionsId(3),
            |columns| columns.operation_of.truncate(1),
        ];
        for damage in damaged {
            let mut columns = good.columns().clone();
            damage(&mut columns);
            assert!(matches!(Graph::from_columns(columns), Err(GraphError::Inconsistent(_))));
        }
    }
}
