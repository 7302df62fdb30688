//! Edits of a simulated run: what a person may do to a graph between two lives of its run. Tasks are changed, taken
//! away and added, and all of them get other numbers.

use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::TaskId;
use dagmar::core::key::Group;
use dagmar::core::task::{Body, Operation, TaskOptions, Text};
use fastrand::Rng;

use crate::growing::Who;
use crate::oracle::Problem;

/// How much one edit changes, of 256 tasks.
const CHANGED_OF_256: [u8; 3] = [0, 10, 60];
const GONE_OF_256: [u8; 3] = [0, 10, 60];
/// Tasks that one edit adds at most.
const NEW_MAX: usize = 4;
/// How often an input is left away, and how often an option is changed, of 256 times.
const UNLINKED_OF_256: u8 = 6;
const OPTIONS_OF_256: u8 = 40;

/// A task on its way into another graph, its inputs by name.
#[derive(Clone)]
struct Draft {
    key: String,
    hidden: bool,
    operation: Operation,
    options: TaskOptions,
    values: Vec<String>,
    orders: Vec<String>,
}

/// The problem as a person has changed it. New tasks have this number in their names.
pub fn edited(problem: &Problem, rng: &mut Rng, number: u32) -> (Graph, Vec<TaskId>) {
    let mut drafts = drafts(&problem.beginning);
    take_away(&mut drafts, rng);
    change(&mut drafts, rng);
    for place in 0..rng.usize(0..=NEW_MAX) {
        let draft = new(&drafts, rng, format!("n{number}.{place}"));
        drafts.push(draft);
    }
    rng.shuffle(&mut drafts);
    let graph = build(&drafts);
    let asked = asked(problem, &graph, rng);
    (graph, asked)
}

/// All tasks, each behind its inputs.
fn drafts(graph: &Graph) -> Vec<Draft> {
    let draft = |task: TaskId| Draft {
        key: graph.key(task),
        hidden: graph.group_of(task).hidden,
        operation: graph.operation(task).clone(),
        options: graph.options(task).clone(),
        values: graph.value_inputs(task).iter().map(|input| graph.key(input)).collect(),
        orders: graph.order_inputs(task).iter().map(|input| graph.key(input)).collect(),
    };
    graph.topological_order().map(draft).collect()
}

fn take_away(drafts: &mut Vec<Draft>, rng: &mut Rng) {
    let of_256 = GONE_OF_256[rng.usize(..3)];
    let mut kept: Vec<Draft> = drafts.iter().filter(|_| rng.u8(..) >= of_256).cloned().collect();
    if !kept.iter().any(|draft| !draft.hidden) {
        return;
    }
    let names: Vec<String> = kept.iter().map(|draft| draft.key.clone()).collect();
    for draft in &mut kept {
        let mut keep = |input: &String| names.contains(input) && rng.u8(..) >= UNLINKED_OF_256;
        draft.values.retain(&mut keep);
        draft.orders.retain(&mut keep);
    }
    *drafts = kept;
}

fn change(drafts: &mut [Draft], rng: &mut Rng) {
    let of_256 = CHANGED_OF_256[rng.usize(..3)];
    for draft in drafts {
        if rng.u8(..) < OPTIONS_OF_256 {
            (draft.options.retries, draft.options.priority) = (rng.u32(0..3), rng.i32(-1..2));
        }
        if rng.u8(..) >= of_256 {
            continue;
        }
        match &mut draft.operation.body {
            // No graph here has Python functions: to the machines they are calls like any other.
            Body::Join | Body::Python(_) | Body::Pickled(_) | Body::PickledCall(_) => {}
            Body::Call(_) => draft.operation = Who::numbered(rng.u64(..)).operation(),
            Body::Command(command) => {
                command.environment = vec![("EDIT".to_owned(), Text::from(rng.u64(..).to_string()))];
            }
        }
    }
}

/// A task that takes what there is, behind all of it.
fn new(drafts: &[Draft], rng: &mut Rng, key: String) -> Draft {
    let mut inputs: Vec<&Draft> = drafts.iter().filter(|_| rng.u8(..) < 20).collect();
    rng.shuffle(&mut inputs);
    let (orders, values): (Vec<&Draft>, Vec<&Draft>) =
        inputs.into_iter().partition(|draft| draft.hidden || rng.u8(..) < 60);
    let keys = |drafts: Vec<&Draft>| drafts.into_iter().map(|draft| draft.key.clone()).collect();
    Draft {
        key,
        hidden: false,
        operation: Who::numbered(rng.u64(..)).operation(),
        options: TaskOptions { retries: rng.u32(0..3), keep: rng.bool(), ..TaskOptions::default() },
        values: keys(values),
        orders: keys(orders),
    }
}

fn build(drafts: &[Draft]) -> Graph {
    let mut builder = GraphBuilder::new("random", "/");
    for Draft { key, hidden, .. } in drafts {
        let group = Group { hidden: *hidden, ..Group::single(key.clone()) };
        builder.declare(group).expect("names differ");
    }
    for draft in drafts {
        let operation = builder.operation(draft.operation.clone());
        let options = builder.options(draft.options.clone());
        let ids = |names: &[String]| -> Vec<TaskId> {
            names.iter().map(|name| builder.keys().group(name).expect("it was kept").first).collect()
        };
        let (values, orders) = (ids(&draft.values), ids(&draft.orders));
        builder.define(Definition { operation, options, values, orders }).expect("few inputs");
    }
    builder.build().expect("nothing waits for itself")
}

/// What was asked for, as far as it is there; else every sink.
fn asked(problem: &Problem, graph: &Graph, rng: &mut Rng) -> Vec<TaskId> {
    let key = |task: &TaskId| problem.beginning.key(*task);
    let there = problem.asked.iter().filter_map(|task| Some(graph.keys().group(&key(task))?.first));
    let there: Vec<TaskId> = there.collect();
    match there.is_empty() || rng.u8(..) < 80 {
        true => {
            graph.tasks().filter(|&task| !graph.is_join(task) && graph.dependents(task).is_empty()).collect()
        }
        false => there,
    }
}
