//! Collects tasks, and notices by itself where many in a row are alike.

use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::{Group, Keys};
use crate::core::task::{Operation, TaskOptions};

use super::check::{RULES_MAX, are_distinct};
use super::columns::{Alike, Columns, Form, Segment};
use super::progression::Progression;
use super::{Graph, GraphError};

/// Numbers that a segment with rules takes besides its rules; those that it needs to be found, too.
const SEGMENT_COST: u64 = 16;
/// Numbers that a listed task takes besides its inputs.
const TASK_COST: u64 = 4;

/// Collects tasks, then checks them all at once.
///
/// Groups are declared first and hand out ids, so that tasks may name inputs that come later;
/// then every task is defined, in the order of ids.
#[derive(Debug, Default)]
pub struct GraphBuilder {
    columns: Columns,
    /// Tasks defined so far, those of `run` included.
    defined: u32,
    run: Run,
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

impl Definition {
    /// The same with each input once.
    fn normal(mut self) -> Self {
        let Definition { values, orders, .. } = &mut self;
        debug_assert!(are_distinct(values), "value inputs repeat: {values:?}");
        if !orders.is_empty() {
            orders.sort_unstable();
            orders.dedup();
            if !values.is_empty() {
                let mut sorted = values.clone();
                sorted.sort_unstable();
                orders.retain(|input| sorted.binary_search(input).is_err());
            }
        }
        self
    }
}

/// The last tasks, as long as each differs from the one before in the same way: the first of them,
/// how far each input advances, and how many they are.
#[derive(Debug, Default)]
struct Run {
    first: Definition,
    advances: Vec<i32>,
    count: u32,
}

impl GraphBuilder {
    /// A builder without tasks. `directory` is absolute: relative paths of the graph start there.
    pub fn new(name: impl Into<String>, directory: impl Into<String>) -> Self {
        let columns = Columns { name: name.into(), directory: directory.into(), ..Columns::default() };
        GraphBuilder { columns, defined: 0, run: Run::default() }
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
        let task = TaskId(self.defined);
        let definition = definition.normal();
        if !self.run.takes(&definition) {
            self.end_run()?;
            self.run.start(definition);
        }
        self.defined += 1;
        Ok(task)
    }

    /// Defines the next `count` tasks, which do the same under the same options and take what the same
    /// rules say, and returns the first one's id. However many they are, this takes no time.
    pub fn define_alike(
        &mut self,
        count: u32,
        (operation, options): (OperationId, OptionsId),
        values: &[Progression],
        orders: &[Progression],
    ) -> Result<TaskId, GraphError> {
        let first = TaskId(self.defined);
        if count == 0 {
            return Ok(first);
        }
        let rules =
            |rules: &[Progression]| rules.iter().flat_map(|rule| rule.invertible()).collect::<Vec<_>>();
        let (values, orders) = (rules(values), rules(orders));
        if values.len() + orders.len() > RULES_MAX {
            let definition = |element: u32| Definition {
                operation,
                options,
                values: values.iter().flat_map(|rule| rule.inputs(element)).collect(),
                orders: orders.iter().flat_map(|rule| rule.inputs(element)).collect(),
            };
            (0..count).try_for_each(|element| self.define(definition(element)).map(drop))?;
            return Ok(first);
        }
        self.end_run()?;
        self.defined += count;
        self.push_alike(count, (operation, options), &values, &orders);
        Ok(first)
    }

    /// Defines the next `count` tasks, which are all the same, and returns the first one's id.
    pub fn define_all(&mut self, count: u32, definition: Definition) -> Result<TaskId, GraphError> {
        let Definition { operation, options, values, orders } = definition.normal();
        let same = |inputs: &[TaskId]| rules(inputs, &vec![0; inputs.len()]);
        self.define_alike(count, (operation, options), &same(&values), &same(&orders))
    }

    /// Checks everything and gives the graph.
    pub fn build(mut self) -> Result<Graph, GraphError> {
        self.end_run()?;
        let columns = &mut self.columns;
        for rows in [&mut columns.values, &mut columns.orders] {
            rows.ends.shrink();
            rows.entries.shrink();
        }
        columns.operation_of.shrink();
        columns.options_of.shrink();
        Graph::from_columns(self.columns)
    }

    /// Stores the tasks of the run, as a rule if that is shorter.
    fn end_run(&mut self) -> Result<(), GraphError> {
        let run = std::mem::take(&mut self.run);
        if run.count == 0 {
            return Ok(());
        }
        let (values, orders) = run.rules();
        let rules = values.len() + orders.len();
        let inputs = (run.first.values.len() + run.first.orders.len()) as u64;
        let as_rule = SEGMENT_COST + (rules * Progression::WORDS) as u64;
        let as_list = u64::from(run.count) * (TASK_COST + inputs);
        if rules <= RULES_MAX && 2 * as_rule <= as_list {
            let what = (run.first.operation, run.first.options);
            self.push_alike(run.count, what, &values, &orders);
            return Ok(());
        }
        self.push_listed(&run)
    }

    fn next_segment(&self) -> u32 {
        let last = self.columns.segment_count().checked_sub(1);
        last.map_or(0, |last| self.columns.segment(last).end())
    }

    fn push_alike(
        &mut self,
        count: u32,
        (operation, options): (OperationId, OptionsId),
        values: &[Progression],
        orders: &[Progression],
    ) {
        let alike = Alike {
            operation,
            options,
            rules: (self.columns.rules.len() / Progression::WORDS) as u32,
            values: values.len() as u32,
            orders: orders.len() as u32,
        };
        let segment = Segment { first: self.next_segment(), count, form: Form::Alike(alike) };
        self.columns.segments.extend(segment.to_words());
        let words = values.iter().chain(orders).flat_map(|rule| rule.to_words());
        self.columns.rules.extend(words);
    }

    fn push_listed(&mut self, run: &Run) -> Result<(), GraphError> {
        let first = self.next_segment();
        let columns = &mut self.columns;
        let at = columns.operation_of.len() as u32;
        for element in 0..run.count {
            columns.operation_of.push(run.first.operation.0);
            columns.options_of.push(run.first.options.0);
            let (values, orders) = run.advances.split_at(run.first.values.len());
            for (rows, inputs, advances) in [
                (&mut columns.values, &run.first.values, values),
                (&mut columns.orders, &run.first.orders, orders),
            ] {
                let moved =
                    inputs.iter().zip(advances).map(|(input, advance)| moved(*input, *advance, element));
                rows.entries.extend(moved.map(|input| input as u32));
                let end = u32::try_from(rows.entries.len()).map_err(|_| GraphError::TooManyDependencies)?;
                rows.ends.push(end);
            }
        }
        let last = columns.segment_count().checked_sub(1).map(|last| columns.segment(last));
        match last {
            Some(Segment { first, count, form: Form::Listed(at) }) => {
                let grown = Segment { first, count: count + run.count, form: Form::Listed(at) };
                columns.segments.replace_last(&grown.to_words());
            }
            _ => {
                let segment = Segment { first, count: run.count, form: Form::Listed(at) };
                columns.segments.extend(segment.to_words());
            }
        }
        Ok(())
    }
}

/// An input of the n-th task, `advance` behind that of the task before it.
fn moved(input: TaskId, advance: i32, element: u32) -> i64 {
    i64::from(input.0) + i64::from(advance) * i64::from(element)
}

impl Run {
    /// With one task. How its inputs advance shows with the next.
    fn start(&mut self, first: Definition) {
        self.advances.clear();
        self.advances.resize(first.values.len() + first.orders.len(), 0);
        self.first = first;
        self.count = 1;
    }

    fn inputs(definition: &Definition) -> impl Iterator<Item = TaskId> + '_ {
        definition.values.iter().chain(&definition.orders).copied()
    }

    /// Adds a task, if it goes on as the others did.
    fn takes(&mut self, next: &Definition) -> bool {
        let Definition { operation, options, values, orders } = &self.first;
        let is_alike = self.count > 0
            && (next.operation, next.options) == (*operation, *options)
            && (next.values.len(), next.orders.len()) == (values.len(), orders.len());
        if !is_alike || (self.count == 1 && !self.set_advances(next)) {
            return false;
        }
        let element = self.count;
        let expected = Self::inputs(&self.first).zip(&self.advances);
        let goes_on = Self::inputs(next)
            .zip(expected)
            .all(|(input, (first, advance))| moved(first, *advance, element) == i64::from(input.0));
        self.count += u32::from(goes_on);
        goes_on
    }

    fn set_advances(&mut self, next: &Definition) -> bool {
        let pairs = Self::inputs(&self.first).zip(Self::inputs(next));
        for (advance, (before, after)) in self.advances.iter_mut().zip(pairs) {
            match i32::try_from(i64::from(after.0) - i64::from(before.0)) {
                Ok(distance) if distance > i32::MIN => *advance = distance,
                _ => {
                    self.advances.fill(0);
                    return false;
                }
            }
        }
        true
    }

    fn rules(&self) -> (Vec<Progression>, Vec<Progression>) {
        let (values, orders) = self.advances.split_at(self.first.values.len());
        (rules(&self.first.values, values), rules(&self.first.orders, orders))
    }
}

/// The fewest rules that give these inputs to a first task, and to each next what lies as far ahead as
/// `advances` say.
fn rules(inputs: &[TaskId], advances: &[i32]) -> Vec<Progression> {
    let mut rules: Vec<Progression> = Vec::new();
    for (input, advance) in inputs.iter().zip(advances) {
        if let Some(grown) = rules.last().and_then(|last| last.grown(*input, *advance)) {
            rules.pop();
            rules.push(grown);
        } else {
            rules.push(Progression { first: *input, advance: *advance, count: 1, step: 1 });
        }
    }
    rules
}

impl Progression {
    /// This rule with one more input, if it can have it.
    fn grown(self, input: TaskId, advance: i32) -> Option<Progression> {
        let step = match self.count {
            1 => i32::try_from(i64::from(input.0) - i64::from(self.first.0)).ok()?,
            _ => self.step,
        };
        let expected = i64::from(self.first.0) + i64::from(step) * i64::from(self.count);
        let grown = Progression { step, count: self.count + 1, ..self };
        let fits = advance == self.advance && expected == i64::from(input.0) && step > i32::MIN;
        (fits && grown.is_invertible()).then_some(grown)
    }

    /// The same as rules that can be turned around; none if nothing is taken.
    fn invertible(self) -> Vec<Progression> {
        if self.count == 0 {
            return Vec::new();
        }
        if self.is_invertible() {
            return vec![self];
        }
        let single = |input: TaskId| Progression { first: input, count: 1, step: 1, ..self };
        self.inputs(0).map(single).collect()
    }
}
