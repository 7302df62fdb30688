//! What a graph is made of: everything that cannot be derived, and the way to one task's share.
//!
//! Tasks lie in segments. In one kind of segment every task has entries of its own in columns; in
//! the other all tasks are alike, and what they take is a rule that is stored once.

use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::Keys;
use crate::core::task::{Operation, TaskOptions};

use super::finder::Finder;
use super::numbers::Numbers;
use super::progression::Progression;
use super::row::Row;

/// What a graph is made of and what its packed form stores: everything that cannot be derived.
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// The segments in the order of their tasks, eight numbers each.
    pub segments: Numbers,
    /// The rules of all segments whose tasks are alike, four numbers each.
    pub rules: Numbers,
    /// Of each listed task its operation.
    pub operation_of: Numbers,
    /// Of each listed task its options.
    pub options_of: Numbers,
    /// Of each listed task its value inputs, in the positions that its operation's arguments name.
    pub values: Rows,
    /// Of each listed task its other inputs, which only have to be finished. None is also a value input.
    pub orders: Rows,
}

/// A list of tasks for each of many, all in one column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Where each row ends; row `i` starts where row `i - 1` ends, row 0 at 0.
    pub ends: Numbers,
    /// The rows' entries, one after the other.
    pub entries: Numbers,
}

impl Rows {
    /// One row.
    pub(super) fn row(&self, place: usize) -> &[u32] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start as usize..self.ends[place] as usize]
    }
}

/// Tasks side by side that are stored alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub first: u32,
    pub count: u32,
    pub form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Every task has entries of its own in the columns, the first one at this place.
    Listed(u32),
    /// Every task does the same, and takes what the same rules say.
    Alike(Alike),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alike {
    pub operation: OperationId,
    pub options: OptionsId,
    /// Where its rules start: first those of value inputs, then those of the others.
    pub rules: u32,
    pub values: u32,
    pub orders: u32,
}

/// Stands for a segment that is listed, where another names its operation.
const LISTED: u32 = u32::MAX;

impl Segment {
    /// Numbers that a segment takes in a column.
    pub const WORDS: usize = 8;

    pub fn from_words(words: &[u32; Self::WORDS]) -> Self {
        let [first, count, operation, options, rules, values, orders, at] = *words;
        let form = match operation {
            LISTED => Form::Listed(at),
            _ => Form::Alike(Alike {
                operation: OperationId(operation),
                options: OptionsId(options),
                rules,
                values,
                orders,
            }),
        };
        Segment { first, count, form }
    }

    pub const fn to_words(self) -> [u32; Self::WORDS] {
        let Segment { first, count, form } = self;
        match form {
            Form::Listed(at) => [first, count, LISTED, 0, 0, 0, 0, at],
            Form::Alike(Alike { operation, options, rules, values, orders }) => {
                [first, count, operation.0, options.0, rules, values, orders, 0]
            }
        }
    }

    /// The task behind the last.
    pub const fn end(self) -> u32 {
        self.first + self.count
    }

    pub fn tasks(self) -> impl DoubleEndedIterator<Item = TaskId> {
        (self.first..self.end()).map(TaskId)
    }
}

impl Columns {
    /// Every segment, in order.
    pub(super) fn segments(
        &self,
    ) -> impl DoubleEndedIterator<Item = Segment> + ExactSizeIterator + Clone + '_ {
        self.segments.as_chunks().0.iter().map(Segment::from_words)
    }

    /// How many segments there are.
    pub(super) fn segment_count(&self) -> usize {
        self.segments.len() / Segment::WORDS
    }

    /// One segment.
    pub(super) fn segment(&self, number: usize) -> Segment {
        Segment::from_words(&self.segments.as_chunks().0[number])
    }

    /// The rules of a segment for value inputs.
    pub(super) fn value_rules(&self, alike: Alike) -> &[[u32; Progression::WORDS]] {
        &self.rules.as_chunks().0[alike.rules as usize..][..alike.values as usize]
    }

    /// The rules of a segment for the other inputs.
    pub(super) fn order_rules(&self, alike: Alike) -> &[[u32; Progression::WORDS]] {
        &self.rules.as_chunks().0[(alike.rules + alike.values) as usize..][..alike.orders as usize]
    }

    /// All rules of a segment.
    pub(super) fn rules_of(&self, alike: Alike) -> impl DoubleEndedIterator<Item = Progression> + Clone + '_ {
        let count = (alike.values + alike.orders) as usize;
        self.rules.as_chunks().0[alike.rules as usize..][..count].iter().map(Progression::from_words)
    }
}

/// What a graph says of one task, found in one look.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What it does.
    pub operation: OperationId,
    /// How it runs.
    pub options: OptionsId,
    /// The tasks whose values it takes, by position.
    pub values: Row<'a>,
    /// The tasks that must be finished before it, but whose values it does not take.
    pub orders: Row<'a>,
}

impl Facts<'_> {
    /// How many inputs the task has.
    #[inline]
    pub fn input_count(self) -> usize {
        self.values.taken_len() + self.orders.taken_len()
    }
}

/// Columns, and the index that finds a task's segment.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub columns: Columns,
    finder: Finder,
}

impl Table {
    /// The segments follow each other from the first task to the last.
    pub fn new(columns: Columns) -> Self {
        let finder = Finder::new(columns.segments().map(|segment| segment.first), columns.keys.task_count());
        Table { columns, finder }
    }

    pub fn task_count(&self) -> usize {
        self.columns.keys.task_count()
    }

    /// The number of the segment that a task is in.
    #[inline]
    pub fn segment_of(&self, task: TaskId) -> usize {
        let segments = self.columns.segments.as_chunks::<{ Segment::WORDS }>().0;
        self.finder.find(task.0, |number| segments[number][0])
    }

    #[inline]
    fn segment_at(&self, task: TaskId) -> Segment {
        self.columns.segment(self.segment_of(task))
    }

    #[inline]
    pub fn facts(&self, task: TaskId) -> Facts<'_> {
        let columns = &self.columns;
        let segment = self.segment_at(task);
        let element = task.0 - segment.first;
        match segment.form {
            Form::Listed(at) => {
                let place = (at + element) as usize;
                Facts {
                    operation: OperationId(columns.operation_of[place]),
                    options: OptionsId(columns.options_of[place]),
                    values: Row::listed(columns.values.row(place)),
                    orders: Row::listed(columns.orders.row(place)),
                }
            }
            Form::Alike(alike) => Facts {
                operation: alike.operation,
                options: alike.options,
                values: Row::taken(columns.value_rules(alike), element),
                orders: Row::taken(columns.order_rules(alike), element),
            },
        }
    }

    /// The end of the tasks from this one on that say the same of themselves, as far as is known at once,
    /// and take nothing.
    #[inline]
    pub fn sources_end(&self, task: TaskId) -> TaskId {
        let segment = self.segment_at(task);
        match segment.form {
            Form::Alike(alike) if alike.values + alike.orders == 0 => TaskId(segment.end()),
            _ => task,
        }
    }

    pub fn operation_id(&self, task: TaskId) -> OperationId {
        let segment = self.segment_at(task);
        match segment.form {
            Form::Listed(at) => {
                OperationId(self.columns.operation_of[(at + task.0 - segment.first) as usize])
            }
            Form::Alike(alike) => alike.operation,
        }
    }

    pub fn options_id(&self, task: TaskId) -> OptionsId {
        let segment = self.segment_at(task);
        match segment.form {
            Form::Listed(at) => OptionsId(self.columns.options_of[(at + task.0 - segment.first) as usize]),
            Form::Alike(alike) => alike.options,
        }
    }

    pub fn values(&self, task: TaskId) -> Row<'_> {
        let segment = self.segment_at(task);
        let element = task.0 - segment.first;
        match segment.form {
            Form::Listed(at) => Row::listed(self.columns.values.row((at + element) as usize)),
            Form::Alike(alike) => Row::taken(self.columns.value_rules(alike), element),
        }
    }

    pub fn orders(&self, task: TaskId) -> Row<'_> {
        let segment = self.segment_at(task);
        let element = task.0 - segment.first;
        match segment.form {
            Form::Listed(at) => Row::listed(self.columns.orders.row((at + element) as usize)),
            Form::Alike(alike) => Row::taken(self.columns.order_rules(alike), element),
        }
    }

    /// All inputs of a task: its values first.
    pub fn inputs(&self, task: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        self.values(task).iter().chain(self.orders(task))
    }

    /// How many dependencies there are.
    pub fn dependency_count(&self) -> u64 {
        let by_rule = |segment: Segment| match segment.form {
            Form::Listed(_) => 0,
            Form::Alike(alike) => {
                let each: u64 = self.columns.rules_of(alike).map(|rule| u64::from(rule.count)).sum();
                each * u64::from(segment.count)
            }
        };
        let listed = self.columns.values.entries.len() + self.columns.orders.entries.len();
        listed as u64 + self.columns.segments().map(by_rule).sum::<u64>()
    }
}
