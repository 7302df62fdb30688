//! Calls that a Python function leaves its output to, as its process tells them. The other half is
//! `python/dagmar/handing.py`.
//!
//! The length of a JSON text in four bytes, that text, and the blocks of the calls, one behind the other. The text has
//! the calls in an order in which they can be done; the last one is what the task becomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::core::addition::{Addition, NewTask, Source, Work};
use crate::core::resources::Resources;
use crate::core::task::{Body, Operation, TaskOptions};
use crate::core::time::Micros;

/// What Python says of how a task runs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    cpus: u32,
    gpus: u64,
    memory: u64,
    retries: u32,
    priority: i32,
    resources: BTreeMap<String, u64>,
    timeout_us: u64,
    expected_us: u64,
    keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cpus: 1,
            gpus: 0,
            memory: 0,
            retries: 0,
            priority: 0,
            resources: BTreeMap::new(),
            timeout_us: 0,
            expected_us: 0,
            keep: false,
        }
    }
}

impl Options {
    /// The same in the graph's words.
    pub fn into_options(self) -> TaskOptions {
        let mut custom = self.resources;
        if self.gpus > 0 {
            custom.insert("gpus".to_owned(), self.gpus);
        }
        let resources = Resources { memory_bytes: self.memory, custom, ..Resources::cores(self.cpus) };
        TaskOptions {
            resources,
            retries: self.retries,
            priority: self.priority,
            timeout: (self.timeout_us > 0).then_some(Micros(self.timeout_us)),
            expected: (self.expected_us > 0).then_some(Micros(self.expected_us)),
            keep: self.keep,
            ..TaskOptions::default()
        }
    }
}

#[derive(Deserialize)]
struct Calls {
    names: Vec<String>,
    options: Vec<Options>,
    calls: Vec<Call>,
}

/// Its name and its options by number, the length of its block, and the earlier calls whose outputs it takes.
#[derive(Deserialize)]
struct Call(u32, u32, usize, Vec<u32>);

/// Reads what a child has submitted. Says what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Addition, String> {
    const CUT: &str = "what it submits is cut off";
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(CUT)?;
    let (text, mut blocks) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or(CUT)?;
    let Calls { names, options, calls } = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let options = options.into_iter().map(|options| Arc::new(options.into_options())).collect();
    let mut addition = Addition { names, options, ..Addition::default() };
    for (place, Call(name, options, length, inputs)) in calls.into_iter().enumerate() {
        let (block, rest) = blocks.split_at_checked(length).ok_or(CUT)?;
        blocks = rest;
        let body = Body::PickledCall(Arc::new(block.to_vec()));
        addition.operations.push(Arc::new(Operation { body, inputs: vec![], outputs: vec![] }));
        if inputs.iter().any(|&input| input as usize >= place) {
            return Err("it submits calls that take each other's outputs".to_owned());
        }
        let values = inputs.into_iter().map(Source::New).collect();
        let work = Work { operation: place as u32, place: 0, options, values };
        addition.tasks.push(NewTask { name, work });
    }
    addition.becomes = Some(addition.tasks.pop().ok_or("it submits nothing")?.work);
    Ok(addition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, blocks: &[u8]) -> Vec<u8> {
        [&(text.len() as u32).to_le_bytes()[..], text.as_bytes(), blocks].concat()
    }

    #[test]
    fn the_last_call_is_what_the_task_becomes() {
        let text = r#"{"names":["inc","add"],"options":[{},{"cpus":2}],"calls":[[0,0,1,[]],[0,0,2,[]],[1,1,3,[0,1]]]}"#;
        let addition = read(&told(text, b"abbccc")).unwrap();
        let becomes = addition.becomes.unwrap();
        assert_eq!((becomes.operation, becomes.options), (2, 1));
        assert_eq!(becomes.values, [Source::New(0), Source::New(1)]);
        assert_eq!(addition.options[1].resources.cpus, 2);
        let blocks: Vec<Body> = addition.operations.iter().map(|operation| operation.body.clone()).collect();
        assert_eq!(
            blocks,
            [&b"a"[..], b"bb", b"ccc"].map(|block| Body::PickledCall(Arc::new(block.to_vec())))
        );
        assert_eq!(addition.tasks.iter().map(|task| task.name).collect::<Vec<_>>(), [0, 0]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (text, blocks) in [
            (r#"{"names":[],"options":[],"calls":[]}"#, &b""[..]),
            (r#"{"names":["a"],"options":[{}],"calls":[[0,0,1,[0]]]}"#, b"x"),
            (r#"{"names":["a"],"options":[{}],"calls":[[0,0,2,[]]]}"#, b"x"),
            (r#"{"names":["a"],"options":[{"cores":1}],"calls":[[0,0,1,[]]]}"#, b"x"),
        ] {
            assert!(read(&told(text, blocks)).is_err(), "{text}");
        }
        assert!(read(b"\x09\0\0\0{").is_err());
    }
}
