//! Whether columns are a graph. They may come from a damaged file: nothing is believed.
//!
//! Every check is one pass, and takes no memory that grows with the number of tasks.

use crate::core::id::TaskId;
use crate::core::task::{Argument, Body, CommandLine, Operation, Stdin, TaskOptions};

use super::GraphError;
use super::columns::{Alike, Columns, Form, Rows, Segment};
use super::progression::Progression;

/// Rules of one segment; more would make every look at a row slow.
pub(super) const RULES_MAX: usize = 64;
/// Inputs that are compared pair by pair.
const COMPARED_MAX: usize = 16;

/// Refuses columns that contradict each other. Cycles are another matter.
pub(super) fn check(columns: &Columns) -> Result<(), GraphError> {
    check_segments(columns)?;
    check_rows(columns)?;
    check_what(columns)?;
    columns.segments().try_for_each(|segment| match segment.form {
        Form::Listed(_) => Ok(()),
        Form::Alike(alike) => check_alike(columns, segment, alike),
    })?;
    check_each_input_once(columns)
}

fn refuse<T>(why: &'static str) -> Result<T, GraphError> {
    Err(GraphError::Inconsistent(why))
}

/// Segments lie side by side, and the listed ones use the columns up in order.
fn check_segments(columns: &Columns) -> Result<(), GraphError> {
    let are_whole = columns.segments.len().is_multiple_of(Segment::WORDS)
        && columns.rules.len().is_multiple_of(Progression::WORDS);
    if !are_whole {
        return refuse("a segment is not whole");
    }
    let (mut end, mut listed) = (0_u64, 0_u64);
    for segment in columns.segments() {
        if u64::from(segment.first) != end || segment.count == 0 {
            return refuse("the segments leave gaps");
        }
        end += u64::from(segment.count);
        if let Form::Listed(at) = segment.form {
            if u64::from(at) != listed {
                return refuse("the segments do not fit the columns");
            }
            listed += u64::from(segment.count);
        }
    }
    let lengths = [&columns.operation_of, &columns.options_of, &columns.values.ends, &columns.orders.ends];
    match end == columns.keys.task_count() as u64
        && lengths.iter().all(|column| column.len() as u64 == listed)
    {
        true => Ok(()),
        false => refuse("the columns have different lengths"),
    }
}

fn check_rows(columns: &Columns) -> Result<(), GraphError> {
    for Rows { ends, entries } in [&columns.values, &columns.orders] {
        let is_rising = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if !is_rising || ends.last().copied().unwrap_or(0) as usize != entries.len() {
            return refuse("the rows of inputs do not fit the tasks");
        }
        let greatest = entries.iter().copied().max();
        if greatest.is_some_and(|input| input as usize >= columns.keys.task_count()) {
            return refuse("an input is no task of the graph");
        }
    }
    Ok(())
}

/// Operations and options are there, can run, and name no input that their task does not have.
fn check_what(columns: &Columns) -> Result<(), GraphError> {
    let is_beyond = |column: &[u32], length: usize| {
        column.iter().copied().max().is_some_and(|greatest| greatest as usize >= length)
    };
    if is_beyond(&columns.operation_of, columns.operations.len()) {
        return refuse("an operation is missing");
    }
    if is_beyond(&columns.options_of, columns.options.len()) {
        return refuse("a set of options is missing");
    }
    if columns.options.iter().any(|options| !has_consistent_ranks(options)) {
        return refuse("ranks do not fit their nodes or cores");
    }
    if columns.operations.iter().any(is_without_program) {
        return refuse("a command names no program");
    }
    let named: Vec<u64> = columns.operations.iter().map(inputs_named).collect();
    let mut start = 0;
    let fits = |(operation, end): (&u32, &u32)| {
        let count = end - std::mem::replace(&mut start, *end);
        named[*operation as usize] <= u64::from(count)
    };
    match columns.operation_of.iter().zip(columns.values.ends.iter()).all(fits) {
        true => Ok(()),
        false => refuse("an operation names an input that its task does not have"),
    }
}

fn check_alike(columns: &Columns, segment: Segment, alike: Alike) -> Result<(), GraphError> {
    let Some(operation) = columns.operations.get(alike.operation.index()) else {
        return refuse("an operation is missing");
    };
    if alike.options.index() >= columns.options.len() {
        return refuse("a set of options is missing");
    }
    let count = u64::from(alike.values) + u64::from(alike.orders);
    let rules = (columns.rules.len() / Progression::WORDS) as u64;
    if count > RULES_MAX as u64 || u64::from(alike.rules) + count > rules {
        return refuse("the rules of a segment are missing");
    }
    if columns.rules_of(alike).any(|rule| !is_sound(columns, segment, rule)) {
        return refuse("a rule names an input that is no task of the graph");
    }
    let taken = columns.value_rules(alike).iter().map(|[_, _, count, _]| u64::from(*count));
    match inputs_named(operation) <= taken.sum() {
        true => Ok(()),
        false => refuse("an operation names an input that its task does not have"),
    }
}

fn is_sound(columns: &Columns, segment: Segment, rule: Progression) -> bool {
    let is_usable = rule.count > 0
        && rule.is_invertible()
        && rule.step != i32::MIN
        && rule.advance != i32::MIN
        && (rule.count == 1 || rule.step != 0);
    let (least, greatest) = rule.reach(segment.count);
    is_usable && least >= 0 && greatest < columns.keys.task_count() as i64
}

/// Refuses a task that has one input twice, be it as a value or otherwise.
fn check_each_input_once(columns: &Columns) -> Result<(), GraphError> {
    let mut row = Vec::new();
    for place in 0..columns.operation_of.len() {
        let (values, orders) = (columns.values.row(place), columns.orders.row(place));
        if values.len() + orders.len() < 2 {
            continue;
        }
        row.clear();
        row.extend_from_slice(values);
        row.extend_from_slice(orders);
        if !is_each_once(&mut row) {
            return refuse("a task has the same input twice");
        }
    }
    for segment in columns.segments() {
        let Form::Alike(alike) = segment.form else { continue };
        let rules = columns.rules_of(alike);
        let meet = |(number, rule): (usize, Progression)| {
            rules.clone().take(number).any(|other| do_meet(rule, other, segment.count))
        };
        if rules.clone().enumerate().any(meet) {
            return refuse("a task has the same input twice");
        }
    }
    Ok(())
}

/// True if no number is there twice. The order is lost.
fn is_each_once(row: &mut [u32]) -> bool {
    if row.len() <= COMPARED_MAX {
        return (1..row.len()).all(|place| !row[..place].contains(&row[place]));
    }
    row.sort_unstable();
    row.windows(2).all(|pair| pair[0] != pair[1])
}

/// True if any task takes the same input by both rules.
fn do_meet(one: Progression, other: Progression, elements: u32) -> bool {
    // Ends move evenly from task to task: apart on the same side at both ends, apart all the way.
    let side = |element: u32| {
        let (one, other) = (one.inputs(element).ends(), other.inputs(element).ends());
        i32::from(one.0 > other.1) - i32::from(one.1 < other.0)
    };
    let sides = (side(0), side(elements - 1));
    if sides.0 != 0 && sides.0 == sides.1 {
        return false;
    }
    let (fewer, more) = if one.count <= other.count { (one, other) } else { (other, one) };
    let is_still = one.advance == other.advance;
    let elements = if is_still { 1 } else { elements };
    (0..elements).any(|element| {
        side(element) == 0 && fewer.inputs(element).any(|input| more.inputs(element).contains(input))
    })
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

/// How many value inputs a task must have for this operation: one more than the highest position.
fn inputs_named(operation: &Operation) -> u64 {
    match &operation.body {
        Body::Join | Body::Pickled(_) | Body::PickledCall(_) => 0,
        Body::Call(call) => call.arguments.iter().map(inputs_named_by).max().unwrap_or(0),
        Body::Python(python) => python.all_arguments().map(inputs_named_by).max().unwrap_or(0),
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

/// True if no task is there twice.
pub(super) fn are_distinct(tasks: &[TaskId]) -> bool {
    is_each_once(&mut tasks.iter().map(|task| task.0).collect::<Vec<_>>())
}
