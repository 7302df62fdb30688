//! Random graphs, and what must come out of them whatever happens on the way.

use std::sync::Arc;

use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{OptionsId, TaskId};
use dagmar::core::key::Group;
use dagmar::core::resources::Resources;
use dagmar::core::task::{
    Body, Call, Command, CommandLine, Operation, Ranks, Stdin, Stream, TaskOptions, Text,
};
use dagmar::core::time::Micros;
use fastrand::Rng;

use crate::growing::{Growing, Who};

/// A graph and the tasks asked of it.
pub struct Problem {
    /// As rank 0 knows it: it grows.
    pub graph: Arc<Graph>,
    /// As it began.
    pub beginning: Graph,
    pub growing: Growing,
    pub asked: Vec<TaskId>,
}

/// Cores of every simulated worker; no task asks for more.
pub const CORES_MAX: u32 = 3;

impl Problem {
    /// A graph of up to 40 tasks: layers, chains, joins and diamonds all turn up. Multi-node tasks take
    /// no more than this many nodes.
    pub fn random(rng: &mut Rng, nodes_max: u32, cores_min: u32) -> Self {
        let count = rng.usize(1..=40);
        let mut builder = GraphBuilder::new("random", "/");
        let is_join: Vec<bool> = (0..count).map(|_| rng.u8(..) < 25).collect();
        for (number, hidden) in is_join.iter().enumerate() {
            builder
                .declare(Group { hidden: *hidden, ..Group::single(format!("t{number}")) })
                .expect("names differ");
        }
        let call = Body::Call(Call { function: "simulated".into(), arguments: vec![] });
        let [call, program, join] = [call, Body::Command(Box::new(program())), Body::Join]
            .map(|body| builder.operation(Operation { body, inputs: vec![], outputs: vec![] }));
        let programs_of_256 = [0, 0, 120, 255][rng.usize(..4)];
        let shape = Shape { reach: rng.usize(1..=10), inputs_of_256: [8, 40, 90][rng.usize(..3)] };
        let spread_of_256 = [0, 0, 60, 180][rng.usize(..4)];
        let light_of_256 = [0, 120, 230, 255][rng.usize(..4)];
        let options = (0..6).map(|_| random_options(rng, nodes_max, spread_of_256, light_of_256));
        let options: Vec<OptionsId> = options.map(|options| builder.options(options)).collect();
        let mostly_alike = rng.bool();
        for number in 0..count {
            let (values, orders) = random_inputs(rng, number, shape, &is_join);
            let operation = match is_join[number] {
                true => join,
                false if rng.u8(..) < programs_of_256 => program,
                false => call,
            };
            let which = if mostly_alike && rng.u8(..) < 230 { 0 } else { rng.usize(..options.len()) };
            let options = options[which];
            builder.define(Definition { operation, options, values, orders }).expect("few inputs");
        }
        let graph = builder.build().expect("inputs come before");
        let asked = random_asked(rng, &graph);
        let growing = Growing { of_256: [0, 0, 60, 160][rng.usize(..4)], cores: cores_min };
        Problem { beginning: graph.clone(), graph: Arc::new(graph), asked, growing }
    }

    /// What a task's output must be worth, as it stands in the graph now.
    pub fn value(&self, task: TaskId, input: impl Fn(TaskId) -> u64) -> u64 {
        let values: Vec<u64> = self.graph.value_inputs(task).iter().map(input).collect();
        self.growing.value(Who::of(&self.graph, task), &values)
    }

    /// The values of all tasks, computed one after the other.
    pub fn values(&self) -> Vec<u64> {
        let mut values = vec![0; self.graph.len()];
        for task in self.graph.topological_order() {
            values[task.index()] = self.value(task, |input| values[input.index()]);
        }
        values
    }
}

/// Nobody starts it: what it does says no more than that it is no call.
fn program() -> Command {
    Command {
        line: CommandLine::Arguments(vec![Text::from("simulated")]),
        environment: Vec::new(),
        directory: Text::from("/"),
        stdin: Stdin::Null,
        stdout: Stream::Capture,
        stderr: Stream::Capture,
        capture_limit_bytes: 0,
    }
}

/// How far back inputs lie, and how many there are: from nearly independent to dense.
#[derive(Clone, Copy)]
struct Shape {
    reach: usize,
    inputs_of_256: u8,
}

fn random_options(rng: &mut Rng, nodes_max: u32, spread_of_256: u8, light_of_256: u8) -> TaskOptions {
    let (retries, priority, keep) = (rng.u32(0..3), rng.i32(-1..2), rng.u8(..) < 100);
    let expected = rng.bool().then_some(Micros(100));
    if rng.u8(..) < light_of_256 {
        return TaskOptions { retries, priority, keep, expected, ..TaskOptions::default() };
    }
    let is_spread = rng.u8(..) < spread_of_256 && nodes_max > 1;
    let nodes = if is_spread { rng.u32(2..=nodes_max) } else { 1 };
    let cpus = rng.u32(1..=CORES_MAX);
    let memory_bytes = rng.u64(0..3);
    let may_get_more = memory_bytes > 0 && !is_spread && rng.bool();
    let memory_max_bytes = if may_get_more { rng.u64(memory_bytes..=9) } else { 0 };
    TaskOptions {
        ranks: is_spread.then_some(Ranks { count: nodes * cpus, nodes, cpus: 1 }),
        resources: Resources { memory_bytes, ..Resources::cores(cpus) },
        memory_max_bytes,
        retries,
        priority,
        keep,
        expected,
        ..TaskOptions::default()
    }
}

fn random_inputs(rng: &mut Rng, number: usize, shape: Shape, is_join: &[bool]) -> (Vec<TaskId>, Vec<TaskId>) {
    let first = number.saturating_sub(shape.reach);
    let mut inputs: Vec<usize> = (first..number).filter(|_| rng.u8(..) < shape.inputs_of_256).collect();
    rng.shuffle(&mut inputs);
    // A join takes and gives no value.
    let takes = |rng: &mut Rng, input: usize| !is_join[number] && !is_join[input] && rng.u8(..) < 190;
    let (values, orders): (Vec<usize>, Vec<usize>) = inputs.into_iter().partition(|&input| takes(rng, input));
    let ids = |inputs: Vec<usize>| inputs.into_iter().map(TaskId::from).collect();
    (ids(values), ids(orders))
}

fn random_asked(rng: &mut Rng, graph: &Graph) -> Vec<TaskId> {
    let shown = |task: &TaskId| !graph.is_join(*task);
    let sinks: Vec<TaskId> = graph.sinks().collect();
    if rng.bool() && !sinks.is_empty() {
        return sinks;
    }
    let asked: Vec<TaskId> = graph.tasks().filter(shown).filter(|_| rng.u8(..) < 60).collect();
    if asked.is_empty() { graph.tasks().filter(shown).take(1).collect() } else { asked }
}

/// A number for a text.
pub fn hash(text: &str) -> u64 {
    text.bytes().fold(14_695_981_039_346_656_037, |hash, byte| mix(hash ^ u64::from(byte)))
}

/// A 64-bit finalizer: every bit of the input changes about half of the output.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
