//! Tasks that submit tasks in a simulated world: who submits what is a matter of who it is, and of nothing
//! else, so that every try submits the same, and the value of every task is known beforehand.

use std::sync::Arc;

use dagmar::core::addition::{Addition, NewTask, Source, Work};
use dagmar::core::graph::Graph;
use dagmar::core::id::TaskId;
use dagmar::core::resources::Resources;
use dagmar::core::task::{Argument, Body, Call, Operation, TaskOptions};
use dagmar::core::value::Value;
use fastrand::Rng;

use crate::oracle::{hash, mix};

/// So often in a row a task may submit tasks or become another.
const LEVELS: u32 = 3;
/// Tasks submitted at once.
const TASKS_MAX: usize = 4;

/// Who a task is, whatever its id: what it does says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    number: u64,
    level: u32,
}

impl Who {
    /// Who a task is, as far as a rank knows.
    pub fn of(graph: &Graph, task: TaskId) -> Self {
        let operation = graph.operation(task);
        // Programs submit nothing.
        let level = if matches!(operation.body, Body::Command(_)) { LEVELS } else { 0 };
        // Numbers of tasks differ between the graphs of a run, and names do not.
        let number = match &operation.body {
            Body::Command(command) => {
                mix(hash(&graph.key(task)) ^ hash(&format!("{:?}", command.environment)))
            }
            _ => mix(hash(&graph.key(task))),
        };
        Who::in_operation(operation).unwrap_or(Who { number, level })
    }

    /// Somebody of this number, who may submit tasks.
    pub fn numbered(number: u64) -> Self {
        Who { number, level: 0 }
    }

    fn in_operation(operation: &Operation) -> Option<Self> {
        match &operation.body {
            Body::Call(Call { arguments, .. }) => match &arguments[..] {
                [Argument::Value(Value::Int(number)), Argument::Value(Value::Int(level))] => {
                    Some(Who { number: *number as u64, level: *level as u32 })
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// What says so.
    pub fn operation(self) -> Operation {
        let number = |number: u64| Argument::Value(Value::Int(number as i64));
        let arguments = vec![number(self.number), number(u64::from(self.level))];
        let body = Body::Call(Call { function: "simulated".into(), arguments });
        Operation { body, inputs: vec![], outputs: vec![] }
    }
}

/// How graphs grow in one world.
#[derive(Clone, Copy, Debug)]
pub struct Growing {
    /// How many of 256 tasks submit tasks.
    pub of_256: u8,
    /// Cores that every worker has.
    pub cores: u32,
}

impl Growing {
    /// What a task that takes so many values submits; none if it gives its output itself.
    pub fn addition(self, who: Who, inputs: usize) -> Option<Addition> {
        let mut rng = Rng::with_seed(mix(who.number ^ 0x5eed));
        if who.level >= LEVELS || rng.u8(..) >= self.of_256 {
            return None;
        }
        let mut addition =
            Addition { names: vec!["part".to_owned(), "piece".to_owned()], ..Addition::default() };
        let count = rng.usize(0..=TASKS_MAX);
        let mut works: Vec<Work> =
            (0..=count).map(|place| self.work(&mut rng, who, place, inputs, &mut addition)).collect();
        addition.becomes = works.pop();
        addition.tasks = works.into_iter().map(|work| NewTask { name: work.operation % 2, work }).collect();
        Some(addition)
    }

    fn work(self, rng: &mut Rng, by: Who, place: usize, inputs: usize, addition: &mut Addition) -> Work {
        let who = Who { number: mix(by.number ^ (place as u64 + 77)), level: by.level + 1 };
        addition.operations.push(Arc::new(who.operation()));
        addition.options.push(Arc::new(self.options(rng)));
        let new = (0..place as u32).map(Source::New);
        let taken = (0..inputs as u32).map(Source::Taken);
        let mut values: Vec<Source> = new.chain(taken).filter(|_| rng.u8(..) < 100).collect();
        rng.shuffle(&mut values);
        Work { operation: place as u32, place: 0, options: place as u32, values }
    }

    fn options(self, rng: &mut Rng) -> TaskOptions {
        let (retries, priority) = (rng.u32(0..3), rng.i32(-1..2));
        let options = TaskOptions { retries, priority, ..TaskOptions::default() };
        if rng.bool() {
            return options;
        }
        let cpus = rng.u32(1..=self.cores);
        TaskOptions {
            resources: Resources { memory_bytes: rng.u64(0..3), ..Resources::cores(cpus) },
            ..options
        }
    }

    /// What the output of a task must be worth, whatever it submits: a hash of who it is, and of the values it
    /// takes in the end.
    pub fn value(self, who: Who, inputs: &[u64]) -> u64 {
        let Some(addition) = self.addition(who, inputs.len()) else {
            return inputs.iter().fold(who.number, |hash, value| mix(hash ^ value));
        };
        let mut new = Vec::new();
        for work in addition.tasks.iter().map(|task| &task.work).chain(&addition.becomes) {
            let values: Vec<u64> = work
                .values
                .iter()
                .map(|source| match *source {
                    Source::New(number) => new[number as usize],
                    Source::Taken(place) => inputs[place as usize],
                    Source::Known(_) => unreachable!("who submits knows of no ids"),
                })
                .collect();
            let who = Who::in_operation(&addition.operations[work.operation as usize]);
            new.push(self.value(who.expect("submitted tasks say who they are"), &values));
        }
        new.pop().expect("what it becomes is the last")
    }
}
