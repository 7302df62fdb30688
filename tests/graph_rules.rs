//! A graph whose arrays are stored as rules, and the same graph task by task, answer alike.
#![allow(clippy::unwrap_used)] // clippy.toml allows it only inside test functions

use dagmar::core::graph::{Definition, Graph, GraphBuilder, Progression};
use dagmar::core::id::{OperationId, OptionsId, TaskId};
use dagmar::core::key::{Axis, Group};
use dagmar::core::resources::Resources;
use dagmar::core::scheduler::{Precedence, Urgency};
use dagmar::core::task::{Argument, Body, Call, Operation, TaskOptions};
use dagmar::core::task_list::TaskList;
use dagmar::core::task_set::TaskSet;
use dagmar::core::value::Value;
use dagmar::record::packed;
use proptest::prelude::*;

/// An array in the making: how many elements it has, which array comes first in the file, and what its
/// elements take.
#[derive(Clone, Debug)]
struct Array {
    count: u32,
    options: u32,
    /// Elements do not share an operation, so that they cannot be stored as a rule.
    is_mixed: bool,
    values: Vec<Taken>,
    orders: Vec<Taken>,
}

/// Inputs out of an earlier array, by chance: what does not fit is left out.
#[derive(Clone, Copy, Debug)]
struct Taken {
    from: usize,
    start: u32,
    advance: i32,
    count: u32,
    step: i32,
}

fn taken() -> impl Strategy<Value = Taken> {
    let advance = prop_oneof![Just(0), Just(1), Just(2), -2..4_i32];
    (0..8_usize, 0..40_u32, advance, 1..4_u32, prop_oneof![Just(1), -2..3_i32])
        .prop_map(|(from, start, advance, count, step)| Taken { from, start, advance, count, step })
}

fn array() -> impl Strategy<Value = Array> {
    let inputs = || prop::collection::vec(taken(), 0..3);
    let count = prop_oneof![1..5_u32, 20..90_u32];
    (count, 0..3_u32, prop::bool::weighted(0.25), inputs(), inputs()).prop_map(
        |(count, options, is_mixed, values, orders)| Array { count, options, is_mixed, values, orders },
    )
}

/// The inputs of an element: of those that exist and come before (`at` is the array's own first task).
fn inputs(taken: &[Taken], element: u32, firsts: &[(u32, u32)], own: usize) -> Vec<TaskId> {
    let mut inputs = Vec::new();
    for taken in taken {
        // An array may take of itself, of what lies before.
        let (first, count) = firsts[taken.from % (own + 1)];
        for number in 0..taken.count {
            let place = i64::from(taken.start)
                + i64::from(taken.advance) * i64::from(element)
                + i64::from(taken.step) * i64::from(number);
            let limit = if taken.from % (own + 1) == own { element } else { count };
            let input = TaskId((i64::from(first) + place) as u32);
            if (0..i64::from(limit)).contains(&place) && !inputs.contains(&input) {
                inputs.push(input);
            }
        }
    }
    inputs
}

/// The graph; task by task if `is_listed`, because then every task has an operation of its own.
/// `turn` puts the arrays into another order of ids.
fn graph(arrays: &[Array], turn: bool, is_listed: bool) -> Graph {
    let mut builder = GraphBuilder::new("rules", "/");
    let place = |number: usize| if turn { arrays.len() - 1 - number } else { number };
    let mut firsts = vec![(0, 0); arrays.len()];
    for number in 0..arrays.len() {
        let count = arrays[place(number)].count;
        let axis = Axis::Range { first: 0, step: 1, count, width: 1 };
        let first = builder.declare(Group::array(format!("a{}", place(number)), vec![axis])).unwrap();
        firsts[place(number)] = (first.0, count);
    }
    let call = |name: &str, number: u32| {
        let arguments = vec![Argument::Value(Value::Int(number.into()))];
        let body = Body::Call(Call { function: name.into(), arguments });
        Operation { body, inputs: vec![], outputs: vec![] }
    };
    let shared: Vec<OperationId> = (0..4).map(|number| builder.operation(call("shared", number))).collect();
    let options: Vec<OptionsId> = (0..3)
        .map(|number| {
            let resources = Resources::cores(number as u32 + 1);
            builder.options(TaskOptions { priority: number % 2, resources, ..TaskOptions::default() })
        })
        .collect();
    for number in 0..arrays.len() {
        let array = &arrays[place(number)];
        for element in 0..array.count {
            let operation = match is_listed {
                true => builder.operation(call("own", element)),
                false if array.is_mixed => shared[element as usize % 4],
                false => shared[0],
            };
            let values = inputs(&array.values, element, &firsts, place(number));
            let orders = inputs(&array.orders, element, &firsts, place(number));
            let options = options[array.options as usize];
            builder.define(Definition { operation, options, values, orders }).unwrap();
        }
    }
    builder.build().unwrap()
}

fn agree(one: &Graph, other: &Graph) {
    assert_eq!((one.len(), one.dependency_count()), (other.len(), other.dependency_count()));
    let (urgency, expected) =
        (Urgency::of(one, Precedence::default()), Urgency::of(other, Precedence::default()));
    for task in one.tasks() {
        assert_eq!(one.key(task), other.key(task));
        assert_eq!(one.value_inputs(task), other.value_inputs(task), "values of {task}");
        assert_eq!(one.order_inputs(task), other.order_inputs(task), "orders of {task}");
        assert_eq!(one.input_count(task), other.input_count(task));
        assert_eq!(one.options(task), other.options(task));
        assert_eq!(urgency.level(task), expected.level(task), "level of {task}");
        check_rows(one, other, task);
        check_run(one, &urgency, task);
    }
    let order: Vec<TaskId> = one.topological_order().collect();
    check_order(one, &order);
    assert!(one.sinks().eq(other.sinks()));
    for asked in one.tasks().step_by(7).chain(one.sinks()) {
        let (needed, expected) = (one.needed_by(&[asked]), other.needed_by(&[asked]));
        assert!(
            one.tasks().all(|task| needed.contains(task) == expected.contains(task)),
            "needed by {asked}"
        );
    }
    let (needed, expected) = (needed_by_sinks(one), needed_by_sinks(other));
    assert!(one.tasks().all(|task| needed.contains(task) == expected.contains(task)));
}

fn needed_by_sinks(graph: &Graph) -> TaskSet {
    graph.needed_by(graph.sink_stretches().collect::<TaskList>())
}

fn check_rows(one: &Graph, other: &Graph, task: TaskId) {
    let (row, expected) = (one.dependents(task), other.dependents(task));
    let mut dependents: Vec<TaskId> = row.iter().collect();
    assert_eq!((row.len(), row.is_empty()), (dependents.len(), dependents.is_empty()));
    assert_eq!((row.first(), row.get(1)), (dependents.first().copied(), dependents.get(1).copied()));
    assert_eq!(row.iter().len(), dependents.len());
    dependents.sort_unstable();
    assert_eq!(expected, dependents[..], "dependents of {task}");
    let values = one.value_inputs(task);
    for candidate in one.tasks().filter(|candidate| candidate.0 % 5 == task.0 % 5) {
        assert_eq!(row.contains(candidate), dependents.contains(&candidate));
        assert_eq!(values.contains(candidate), values.iter().any(|input| input == candidate));
    }
}

/// A run may be cut short, but whoever is in it is like its first task.
fn check_run(graph: &Graph, urgency: &Urgency, task: TaskId) {
    let end = urgency.run_end(task);
    assert!(end > task && end.index() <= graph.len());
    for other in (task.0..end.0).map(TaskId).skip(1) {
        assert_eq!(graph.input_count(task) + graph.input_count(other), 0, "{task} and {other}");
        assert_eq!(graph.options_id(other), graph.options_id(task));
        assert_eq!(urgency.level(other), urgency.level(task));
    }
}

fn check_order(graph: &Graph, order: &[TaskId]) {
    let mut place = vec![usize::MAX; graph.len()];
    for (at, task) in order.iter().enumerate() {
        assert_eq!(std::mem::replace(&mut place[task.index()], at), usize::MAX, "{task} is there twice");
    }
    for task in graph.tasks() {
        assert!(graph.inputs(task).all(|input| place[input.index()] < place[task.index()]), "{task}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn rules_and_lists_answer_alike(arrays in prop::collection::vec(array(), 1..8), turn: bool) {
        let (by_rule, listed) = (graph(&arrays, turn, false), graph(&arrays, turn, true));
        agree(&by_rule, &listed);
        let mut bytes = Vec::new();
        packed::write(&by_rule, &mut bytes).unwrap();
        let read = packed::read(&bytes).unwrap();
        prop_assert_eq!(&read, &by_rule);
        agree(&read, &listed);
    }
}

fn noop(builder: &mut GraphBuilder) -> (OperationId, OptionsId) {
    let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    (operation, builder.options(TaskOptions::default()))
}

fn declare(builder: &mut GraphBuilder, name: &str, count: u32) -> TaskId {
    let axis = Axis::Range { first: 0, step: 1, count, width: 1 };
    builder.declare(Group::array(name, vec![axis])).unwrap()
}

fn packed_bytes(graph: &Graph) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed::write(graph, &mut bytes).unwrap();
    bytes
}

#[test]
fn an_array_of_four_thousand_million_tasks_is_a_few_bytes() {
    let mut builder = GraphBuilder::new("large", "/");
    let count = 1_400_000_000;
    let (a, b) = (declare(&mut builder, "a", count), declare(&mut builder, "b", count));
    declare(&mut builder, "c", count);
    let what = noop(&mut builder);
    builder.define_alike(count, what, &[], &[]).unwrap();
    builder.define_alike(count, what, &[Progression::one_each(a)], &[]).unwrap();
    builder.define_alike(count, what, &[Progression::one_each(b)], &[]).unwrap();
    let graph = builder.build().unwrap();
    let bytes = packed_bytes(&graph);
    assert!(bytes.len() < 1000, "{}", bytes.len());
    let read = packed::read(&bytes).unwrap();
    assert_eq!(read, graph);
    assert_eq!(read.dependents(TaskId(77)), [TaskId(count + 77)]);
    assert_eq!(read.value_inputs(TaskId(2 * count + 5)), [TaskId(count + 5)]);
    let urgency = Urgency::of(&read, Precedence::default());
    let first = urgency.level(TaskId(0));
    let levels = [0, count, 2 * count].map(|task| urgency.level(TaskId(task)));
    assert_eq!(levels, [first, first + 50, first + 100]);
    assert_eq!(urgency.run_end(TaskId(5)), TaskId(count));
    assert!(read.sink_stretches().eq(std::iter::once(2 * count..3 * count)));
}

#[test]
fn tasks_defined_one_by_one_become_rules_where_they_are_alike() {
    let mut builder = GraphBuilder::new("found", "/");
    let (a, b) = (declare(&mut builder, "a", 1000), declare(&mut builder, "b", 500));
    let (operation, options) = noop(&mut builder);
    for _ in 0..1000 {
        builder.define(Definition { operation, options, ..Definition::default() }).unwrap();
    }
    for element in 0..500 {
        let values = vec![TaskId(a.0 + 2 * element), TaskId(a.0 + 2 * element + 1)];
        let orders = if element == 0 { vec![] } else { vec![TaskId(b.0 + element - 1)] };
        builder.define(Definition { operation, options, values, orders }).unwrap();
    }
    let graph = builder.build().unwrap();
    assert!(graph.columns().operation_of.len() <= 2, "{:?}", graph.columns());
    assert_eq!(graph.dependents(TaskId(7)), [TaskId(1003)]);
    assert_eq!(graph.dependents(TaskId(1003)), [TaskId(1004)]);
}

#[test]
fn a_list_of_many_can_be_waited_for_by_many_without_an_edge_each() {
    let mut builder = GraphBuilder::new("all", "/");
    let a = declare(&mut builder, "a", 50_000);
    declare(&mut builder, "b", 50_000);
    let (operation, options) = noop(&mut builder);
    // Each of the first ones takes another, so that these are listed, and their dependents stand in rows.
    for element in 0..50_000_u32 {
        let values =
            if element == 0 { vec![] } else { vec![TaskId(element.wrapping_mul(2_654_435_761) % element)] };
        builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
    }
    builder.define_alike(50_000, (operation, options), &[], &[Progression::all(a, 50_000)]).unwrap();
    let graph = builder.build().unwrap();
    assert_eq!(graph.dependency_count(), 49_999 + 2_500_000_000);
    assert_eq!(graph.derived().0.entries.len(), 49_999, "the listed ones stand in rows");
    assert!(graph.dependents(TaskId(0)).contains(TaskId(99_999)));
    assert!(packed_bytes(&graph).len() < 2_000_000);
}

#[test]
fn inputs_that_are_one_task_by_two_rules_are_refused() {
    let mut builder = GraphBuilder::new("twice", "/");
    let a = declare(&mut builder, "a", 100);
    declare(&mut builder, "b", 100);
    let what = noop(&mut builder);
    builder.define_alike(100, what, &[], &[]).unwrap();
    let back = Progression { first: TaskId(a.0 + 99), advance: -1, count: 1, step: 1 };
    builder.define_alike(100, what, &[Progression::one_each(a)], &[back]).unwrap();
    assert!(builder.build().is_ok(), "99 - i is never i");
    let mut builder = GraphBuilder::new("twice", "/");
    let a = declare(&mut builder, "a", 101);
    declare(&mut builder, "b", 101);
    let what = noop(&mut builder);
    builder.define_alike(101, what, &[], &[]).unwrap();
    let back = Progression { first: TaskId(a.0 + 100), advance: -1, count: 1, step: 1 };
    builder.define_alike(101, what, &[Progression::one_each(a)], &[back]).unwrap();
    assert!(builder.build().is_err(), "element 50 has one input twice");
}
