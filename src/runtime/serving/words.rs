//! What a client and rank 0 say to each other, as bytes. The other half is `python/dagmar/connection.py`.
//!
//! Numbers are little-endian. From the client: `S` tasks, `F` and a number to fetch that output, `R` and numbers
//! to release outputs, `N`, a number and a name by which later clients find that output (or, if the number is none,
//! a name that is taken back), `C` to close. To the client, first of all: `H`, the version of all this, how many tasks of one core run
//! at once, the number of its first task, and of each name its number, length and letters; or `N` and why it is not served.
//! Then `F` and the numbers of tasks that have finished; `V`, a
//! number, a form and a value, or a form of 255 if Python has none for it; `E`, eight bytes of a number, the
//! lengths of two texts (the key and why it failed), of which kind that is, those, and the pickled exception; `A`, a number and the
//! eight bytes of the failed one because of which it does not run; `X` and a number that was cancelled; `B`, a first
//! number, a count and why those tasks were refused; `Z` and how the run ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ledger::NewCall;
use crate::core::addition::{Addition, NewTask, Source, Work};
use crate::core::event::{Cause, Outcome, StopReason};
use crate::core::id::TaskId;
use crate::core::task::{Body, Operation};
use crate::worker::python::Options;

/// One thing that the client says. Its numbers are the client's own.
pub enum Word {
    Submit(Box<Submitted>),
    /// Tasks that cannot be.
    Refuse {
        count: u32,
        why: String,
    },
    Fetch(u32),
    Release(Vec<u32>),
    /// It has given a name to an output, or taken it back: that is for later clients.
    Named,
    /// Another client is there, and knows these numbers.
    Came(Vec<u32>),
    /// Nobody is there, nor will be.
    Leave,
    Close,
    /// The one client that the run had is gone.
    Vanish,
}

/// Tasks, put into the order in which they should run.
pub struct Submitted {
    /// Those that it takes from before are named by the client's numbers.
    pub addition: Addition,
    /// The place of each, in the order in which the client numbers them.
    pub places: Vec<u32>,
    /// The places of those that it holds.
    pub held: Vec<u32>,
    /// The calls, in the order in which the client numbers them.
    pub calls: Vec<NewCall>,
    /// What it pickled.
    pub blocks: Vec<Block>,
}

/// Calls that were pickled together.
pub struct Block {
    pub number: u32,
    pub bytes: Vec<u8>,
}

/// Reads what a client says, one word after the other.
#[derive(Default)]
pub struct Reader {
    tasks: u32,
    blocks: u32,
    /// Outputs that were named for later clients.
    names: BTreeMap<String, u32>,
}

impl Reader {
    /// Reads one word.
    pub fn read(&mut self, frame: &[u8]) -> Result<Word, String> {
        let Some((&kind, rest)) = frame.split_first() else { return Err("it says nothing".to_owned()) };
        let mut rest = Rest(rest);
        match kind {
            b'S' => self.read_submission(&mut rest),
            b'F' => Ok(Word::Fetch(rest.number()?)),
            b'R' => {
                let count = rest.0.len() / 4;
                Ok(Word::Release(rest.numbers(count)?))
            }
            b'N' => self.read_name(&mut rest),
            b'C' => Ok(Word::Close),
            _ => Err("it says what no client says".to_owned()),
        }
    }

    /// The names that were given, and of what.
    pub fn names(&self) -> impl Iterator<Item = (&str, u32)> {
        self.names.iter().map(|(name, number)| (name.as_str(), *number))
    }

    /// A name of an output, which the client holds as long as it has that.
    fn read_name(&mut self, rest: &mut Rest<'_>) -> Result<Word, String> {
        let number = rest.number()?;
        let name = String::from_utf8(rest.0.to_vec()).map_err(|_| "its text is none".to_owned())?;
        match number {
            u32::MAX => self.names.remove(&name),
            number if number < self.tasks => self.names.insert(name, number),
            _ => return Err("it names a task that it has not submitted".to_owned()),
        };
        Ok(Word::Named)
    }

    fn read_submission(&mut self, rest: &mut Rest<'_>) -> Result<Word, String> {
        let counts = rest.numbers(5)?;
        let [count, block_count, name_count, options_count, input_count] = counts[..] else {
            unreachable!("five were read");
        };
        let tasks = count as usize;
        let mut addition = Addition::default();
        for _ in 0..name_count {
            addition.names.push(rest.text()?);
        }
        for _ in 0..options_count {
            let options: Options = serde_json::from_str(&rest.text()?).map_err(|error| error.to_string())?;
            addition.options.push(Arc::new(options.into_options()));
        }
        let lengths = (0..block_count).map(|_| rest.length()).collect::<Result<Vec<u64>, _>>()?;
        let [names, operations, places, options, counts] = [(); 5]
            .map(|()| rest.numbers(tasks))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .try_into()
            .map_err(|_| CUT)?;
        let is_held = rest.bytes(tasks)?;
        let numbers = rest.numbers(input_count as usize)?;
        let mut inputs = &numbers[..];
        let mut calls = Vec::with_capacity(tasks);
        let mut blocks = Vec::new();
        for (number, length) in (self.blocks..).zip(lengths) {
            let bytes = rest.bytes(usize::try_from(length).map_err(|_| CUT)?)?.to_vec();
            let body = Body::Pickled(number);
            addition.operations.push(Arc::new(Operation { body, inputs: vec![], outputs: vec![] }));
            blocks.push(Block { number, bytes });
        }
        let first = self.tasks;
        for task in 0..tasks {
            let (own, rest) = inputs.split_at_checked(counts[task] as usize).ok_or(CUT)?;
            inputs = rest;
            let values = own.iter().map(|&number| match number.checked_sub(first) {
                Some(place) => Source::New(place),
                None => Source::Known(TaskId(number)),
            });
            let values = values.collect();
            let block = self.blocks.checked_add(operations[task]).ok_or(CUT)?;
            calls.push(NewCall { block, inputs: own.into(), is_held: is_held[task] != 0 });
            let (operation, place, options) = (operations[task], places[task], options[task]);
            let work = Work { operation, place, options, values };
            addition.tasks.push(NewTask { name: names[task], work });
        }
        self.tasks = first.checked_add(count).ok_or("it has too many tasks")?;
        self.blocks = self.blocks.checked_add(block_count).ok_or("it has too many blocks")?;
        let places = match addition.put_depth_first() {
            Ok(places) => places,
            Err(error) => return Ok(Word::Refuse { count, why: error.to_string() }),
        };
        let mut held: Vec<u32> = places
            .iter()
            .zip(is_held)
            .filter(|(_, is_held)| **is_held != 0)
            .map(|(place, _)| *place)
            .collect();
        held.sort_unstable();
        Ok(Word::Submit(Box::new(Submitted { addition, places, held, calls, blocks })))
    }
}

/// The version of what is said here. A client of another one says so and goes.
const VERSION: u32 = 1;

const CUT: &str = "it is cut off";

/// What is left of a frame.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(CUT)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u32, String> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("it has four")))
    }

    fn length(&mut self) -> Result<u64, String> {
        let bytes = self.bytes(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("it has eight")))
    }

    fn numbers(&mut self, count: usize) -> Result<Vec<u32>, String> {
        let bytes = self.bytes(count.checked_mul(4).ok_or(CUT)?)?;
        Ok(bytes
            .chunks_exact(4)
            .map(|four| u32::from_le_bytes(four.try_into().expect("it has four")))
            .collect())
    }

    fn text(&mut self) -> Result<String, String> {
        let length = self.number()?;
        let bytes = self.bytes(length as usize)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "its text is none".to_owned())
    }
}

pub fn hello(slots: u32, reader: &Reader) -> Vec<u8> {
    let numbers = [VERSION, slots, reader.tasks].map(u32::to_le_bytes).concat();
    let mut frame = [b"H", &numbers[..]].concat();
    for (name, number) in reader.names() {
        frame.extend_from_slice(&number.to_le_bytes());
        frame.extend_from_slice(&(name.len() as u32).to_le_bytes());
        frame.extend_from_slice(name.as_bytes());
    }
    frame
}

pub fn not_served(why: &str) -> Vec<u8> {
    [b"N", why.as_bytes()].concat()
}

pub fn finished(numbers: &[u32]) -> Vec<u8> {
    let mut frame = vec![b'F'];
    numbers.iter().for_each(|number| frame.extend_from_slice(&number.to_le_bytes()));
    frame
}

pub fn value(number: u32, form: Option<u8>, value: &[u8]) -> Vec<u8> {
    let form = [form.unwrap_or(u8::MAX)];
    [b"V", &number.to_le_bytes()[..], &form, value].concat()
}

pub fn failed(id: u64, (key, cause): (&str, &Cause), pickled: &[u8]) -> Vec<u8> {
    let why = &cause.to_string();
    let length = |text: &str| (text.len() as u32).to_le_bytes();
    let (key_length, why_length) = (length(key), length(why));
    let texts = [key.as_bytes(), why.as_bytes()].concat();
    [b"E", &id.to_le_bytes()[..], &key_length, &why_length, &[kind_of(cause)], &texts, pickled].concat()
}

/// What kind of failure it was: the process was killed, or took too much memory, or time; or anything else.
const fn kind_of(cause: &Cause) -> u8 {
    match cause {
        Cause::ExitCode(_)
        | Cause::Signal(_)
        | Cause::NotStarted(_)
        | Cause::NoSpawner
        | Cause::KilledRank { .. }
        | Cause::LostRank(_) => b'K',
        Cause::OutOfMemory(_) => b'M',
        Cause::Timeout(_) => b'T',
        _ => b'F',
    }
}

pub fn aborted(number: u32, because: u64) -> Vec<u8> {
    [b"A", &number.to_le_bytes()[..], &because.to_le_bytes()].concat()
}

pub fn cancelled(number: u32) -> Vec<u8> {
    [b"X", &number.to_le_bytes()[..]].concat()
}

pub fn refused(first: u32, count: u32, why: &str) -> Vec<u8> {
    [b"B", &first.to_le_bytes()[..], &count.to_le_bytes(), why.as_bytes()].concat()
}

pub fn ended(outcome: Outcome) -> Vec<u8> {
    let told = match outcome {
        Outcome::Done => "it is done",
        Outcome::TasksFailed { .. } => "tasks failed",
        Outcome::Stopped(StopReason::Interrupted) => "it was interrupted",
        Outcome::Stopped(StopReason::Terminated) => "it was told to end",
        Outcome::Stopped(StopReason::Cancelled) => "it was cancelled",
        Outcome::Stopped(StopReason::TooManyFailures) => "it was stopped, as too many tasks had failed",
        Outcome::WorkersLost => "too many workers were lost",
    };
    [b"Z", told.as_bytes()].concat()
}
