//! What a rank and its children say to each other, packet by packet. The other half is `python/dagmar/child`.
//!
//! A call: `C`, or `M` if its text lies in a memory file, the last of the packet's descriptors. The text is
//! the number of a block of eight bytes, five numbers of four (the place in that block, the attempt, the lengths
//! of key and definition, the count of inputs), the key, the definition as JSON unless the child has it or a
//! block is named, form, place and length of each input, and the inputs that have no file of their own. All
//! numbers are little-endian.
//!
//! A block of pickled calls comes before the first of them: `B`, its number and its bytes, or a file with those. `D` and
//! its number follow once it is not needed any more.
//! A child keeps the last `BLOCKS_KEPT`, and its rank knows which.
//!
//! An answer: `V` and a value, `W` and one in a memory file, `L` and the number and size of one that stays where it
//! is, `J` and the calls that it leaves its output to (see `submission`), in a memory file if they are many, or `E`
//! and why there is none: the length of a JSON text, that, and the pickled exception. `I` and names of libraries may come before it. `H` is a child's first word, and `X` how it ended, which its template
//! says.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value as Json, json};

use crate::core::addition::Addition;
use crate::core::event::{Cause, Raised};
use crate::core::id::{Attempt, OperationId};
use crate::core::task::{Argument, Python, Text};
use crate::core::value::Value;
use crate::worker::json::{from_json, to_json};
use crate::worker::output::Output;
use crate::worker::packet::send_parts;

use super::object::{self, Home, PythonObject};
use super::submission;

/// Texts up to here travel in the packet; the children's own limit is the same.
const INLINE_BYTES: usize = 48 * 1024;
/// Files that go with one packet at most; the system allows 253.
const FILES_MAX: usize = 240;

/// How a value is encoded; the numbers are the same in `child/values.py`.
mod form {
    pub const NULL: u8 = 0;
    pub const JSON: u8 = 1;
    pub const BYTES: u8 = 2;
    pub const TEXT: u8 = 3;
    pub const OBJECT: u8 = 4;
    pub const CAPTURED: u8 = 5;
    pub const TAGGED: u8 = 6;
    pub const FLOAT: u8 = 7;
    pub const INT: u8 = 8;
}

/// Blocks of pickled calls that a child keeps; the children's own number is the same.
pub const BLOCKS_KEPT: usize = 64;

const IN_TEXT: u8 = 0;
const IN_FILE: u8 = 1;
const HERE: u8 = 2;

/// A function and its arguments, as all tasks of an operation have them.
pub struct Definition<'a> {
    pub python: &'a Python,
    /// Where modules are looked for besides: the graph's directory.
    pub path: &'a str,
    /// What tells it from others; none if nothing does.
    pub number: Option<(u64, OperationId)>,
}

/// What is called.
pub enum Callee<'a> {
    /// A function by name; the child has its definition unless it comes here.
    Defined(Option<&'a Definition<'a>>),
    /// One of the calls of a block that the child has.
    Pickled { block: u64, place: u32 },
}

/// One call of it.
pub struct Call<'a> {
    pub key: &'a str,
    pub attempt: Attempt,
    pub inputs: &'a [Arc<Output>],
}

/// What a child said.
pub enum Answer {
    /// The function returned this.
    Value(Arc<Output>),
    /// It has imported these libraries, which take long; its answer follows.
    Imported(Vec<String>),
    /// It leaves its output to other calls.
    HandedOn(Box<Addition>),
    /// It failed: in its own words, with the exception if that can be pickled.
    Failed(Raised),
    /// The child ended.
    Ended { status: i32, max_rss_bytes: u64 },
}

/// Why an exception was raised.
#[derive(Deserialize)]
struct Failed {
    text: String,
    /// The file and line of the function that raised it.
    place: Option<String>,
}

/// Hands a child a call. Says why if one of the inputs cannot be handed over.
pub fn send_call(
    (socket, home): (BorrowedFd<'_>, &Arc<Home>),
    callee: &Callee<'_>,
    call: &Call<'_>,
) -> io::Result<Result<(), Cause>> {
    let mut objects = Vec::new();
    let mut table = Vec::with_capacity(call.inputs.len() * 10);
    let mut bodies: Vec<u8> = Vec::new();
    for (place, input) in call.inputs.iter().enumerate() {
        let before = bodies.len();
        let form = match &**input {
            Output::Captured(bytes) => {
                bodies.extend_from_slice(bytes);
                form::CAPTURED
            }
            Output::Value(value) => encode_value(value, &mut bodies),
            Output::Typed(typed) => {
                let object = match PythonObject::of_output(typed) {
                    Ok(object) => object,
                    Err(_) => {
                        let name = typed.type_name();
                        let why = format!("its input {place} is a `{name}`, which only Rust functions take");
                        return Ok(Err(Cause::Function(why)));
                    }
                };
                if let Some(number) = object.number_in(home) {
                    table.extend_from_slice(&[form::OBJECT, HERE]);
                    table.extend_from_slice(&number.to_le_bytes());
                    continue;
                }
                if object.bytes().is_empty() {
                    return Ok(Err(Cause::LostInput(place as u32)));
                }
                if objects.len() < FILES_MAX && object.file()?.is_some() {
                    table.extend_from_slice(&[form::OBJECT, IN_FILE]);
                    table.extend_from_slice(&(object.bytes().len() as u64).to_le_bytes());
                    objects.push(object);
                    continue;
                }
                bodies.extend_from_slice(object.bytes());
                form::OBJECT
            }
        };
        table.extend_from_slice(&[form, IN_TEXT]);
        table.extend_from_slice(&((bodies.len() - before) as u64).to_le_bytes());
    }
    let (block, place, definition) = match callee {
        Callee::Pickled { block, place } => (*block, *place, None),
        Callee::Defined(definition) => (0, 0, *definition),
    };
    let definition = definition.map(|definition| definition.to_json().to_string()).unwrap_or_default();
    let (key, count) = (call.key.as_bytes(), call.inputs.len());
    let mut head = Vec::with_capacity(28 + key.len() + definition.len() + table.len());
    head.extend_from_slice(&block.to_le_bytes());
    for number in [place, call.attempt.0, key.len() as u32, definition.len() as u32, count as u32] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head.extend_from_slice(key);
    head.extend_from_slice(definition.as_bytes());
    head.extend_from_slice(&table);
    let mut files = Vec::with_capacity(objects.len() + 1);
    for object in &objects {
        files.extend(object.file()?);
    }
    if head.len() + bodies.len() <= INLINE_BYTES {
        send_parts(socket, &[b"C", &head, &bodies], &files)?;
        return Ok(Ok(()));
    }
    head.extend_from_slice(&bodies);
    let memory = object::write(&head)?;
    files.push(memory.as_fd());
    send_parts(socket, &[b"M"], &files)?;
    Ok(Ok(()))
}

/// Hands a child a block of pickled calls.
pub fn send_block(socket: BorrowedFd<'_>, block: u64, bytes: &[u8]) -> io::Result<()> {
    let number = block.to_le_bytes();
    if bytes.len() <= INLINE_BYTES {
        return send_parts(socket, &[b"B", &number, bytes], &[]);
    }
    let memory = object::write(bytes)?;
    send_parts(socket, &[b"B", &number], &[memory.as_fd()])
}

/// Tells a child that no calls of a block follow.
pub fn send_unneeded(socket: BorrowedFd<'_>, block: u64) -> io::Result<()> {
    send_parts(socket, &[b"D", &block.to_le_bytes()], &[])
}

/// Reads what a child said.
pub fn read_answer(packet: &[u8], files: Vec<OwnedFd>, home: &Arc<Home>) -> io::Result<Answer> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let Some((&kind, rest)) = packet.split_first() else { return Err(bad("it says nothing")) };
    match kind {
        b'V' => {
            let (&form, bytes) = rest.split_first().ok_or_else(|| bad("it gives a value of no form"))?;
            let output = match form {
                form::OBJECT => Output::Typed(PythonObject::of_bytes(bytes.to_vec()).into_output()),
                _ => Output::Value(decode_value(form, bytes)?),
            };
            Ok(Answer::Value(Arc::new(output)))
        }
        b'W' => {
            let (&form, _) = rest.split_first().ok_or_else(|| bad("it gives a value of no form"))?;
            let file = files.into_iter().next().ok_or_else(|| bad("its memory file did not arrive"))?;
            let output = match form {
                form::OBJECT => Output::Typed(PythonObject::of_file(file)?.into_output()),
                _ => Output::Value(decode_value(form, object::map(&file)?.bytes())?),
            };
            Ok(Answer::Value(Arc::new(output)))
        }
        b'J' => {
            let addition = match files.into_iter().next() {
                Some(file) => submission::read(object::map(&file)?.bytes()),
                None => submission::read(rest),
            };
            Ok(Answer::HandedOn(Box::new(addition.map_err(|why| bad(&why))?)))
        }
        b'I' => Ok(Answer::Imported(serde_json::from_slice(rest)?)),
        b'L' => {
            let numbers = rest.as_chunks::<8>().0;
            let &[number, size] = numbers else { return Err(bad("it keeps a value, and which?")) };
            let (number, size) = (u64::from_le_bytes(number), u64::from_le_bytes(size));
            let object = PythonObject::in_child(home.clone(), number, size);
            Ok(Answer::Value(Arc::new(Output::Typed(object.into_output()))))
        }
        b'E' => {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| bad("it failed, and why?"))?;
            let told = rest.split_at_checked(u32::from_le_bytes(*length) as usize);
            let (told, pickled) = told.ok_or_else(|| bad("why it failed is cut off"))?;
            let Failed { text, place } = serde_json::from_slice(told)?;
            let text = match place {
                Some(place) => format!("{text} ({place})"),
                None => text,
            };
            Ok(Answer::Failed(Raised { text, pickled: pickled.to_vec() }))
        }
        b'X' => {
            let (status, rss) = rest.split_first_chunk::<4>().ok_or_else(|| bad("it ended, and how?"))?;
            let rss = rss.first_chunk::<8>().ok_or_else(|| bad("it ended, and how?"))?;
            Ok(Answer::Ended { status: i32::from_le_bytes(*status), max_rss_bytes: u64::from_le_bytes(*rss) })
        }
        _ => Err(bad("it says what no child says")),
    }
}

/// Appends an output as any interpreter reads it; returns its form. None if it is no value of Python's.
pub fn encode_output(output: &Output, bytes: &mut Vec<u8>) -> Option<u8> {
    Some(match output {
        Output::Captured(captured) => {
            bytes.extend_from_slice(captured);
            form::CAPTURED
        }
        Output::Value(value) => encode_value(value, bytes),
        Output::Typed(typed) => {
            bytes.extend_from_slice(PythonObject::of_output(typed).ok()?.bytes());
            form::OBJECT
        }
    })
}

/// Appends a value; returns its form.
fn encode_value(value: &Value, bytes: &mut Vec<u8>) -> u8 {
    match value {
        Value::Null => form::NULL,
        Value::Bytes(own) => {
            bytes.extend_from_slice(own);
            form::BYTES
        }
        Value::Text(text) => {
            bytes.extend_from_slice(text.as_bytes());
            form::TEXT
        }
        Value::Int(number) => {
            bytes.extend_from_slice(&number.to_le_bytes());
            form::INT
        }
        Value::Float(number) => {
            bytes.extend_from_slice(&number.to_le_bytes());
            form::FLOAT
        }
        other => match to_json(other).ok().filter(|_| is_plain(other)) {
            Some(json) => {
                bytes.extend_from_slice(&json);
                form::JSON
            }
            None => {
                bytes.extend_from_slice(tagged(other).to_string().as_bytes());
                form::TAGGED
            }
        },
    }
}

fn decode_value(form: u8, bytes: &[u8]) -> io::Result<Value> {
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "it gives a value that is none".to_owned());
    let text = || std::str::from_utf8(bytes).map_err(|_| bad());
    Ok(match form {
        form::NULL => Value::Null,
        form::BYTES => Value::Bytes(bytes.to_vec()),
        form::TEXT => Value::Text(text()?.to_owned()),
        form::INT => Value::Int(i64::from_le_bytes(bytes.try_into().map_err(|_| bad())?)),
        form::FLOAT => Value::Float(f64::from_le_bytes(bytes.try_into().map_err(|_| bad())?)),
        form::JSON => from_json(text()?).map_err(io::Error::other)?,
        _ => return Err(bad()),
    })
}

/// True if JSON holds the value without loss.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Bytes(_) => false,
        Value::Float(number) => number.is_finite(),
        Value::List(values) => values.iter().all(is_plain),
        Value::Map(entries) => entries.iter().all(|(_, value)| is_plain(value)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) => true,
    }
}

/// Any value as an argument of `child/definition.py`.
fn tagged(value: &Value) -> Json {
    match value {
        Value::Bytes(bytes) => json!(["b", bytes]),
        Value::Float(number) if !number.is_finite() => json!(["f", number.to_string()]),
        Value::List(values) if !is_plain(value) => {
            json!(["l", values.iter().map(tagged).collect::<Vec<_>>()])
        }
        Value::Map(entries) if !is_plain(value) => {
            json!(["m", entries.iter().map(|(name, value)| json!([name, tagged(value)])).collect::<Vec<_>>()])
        }
        plain => {
            json!(["v", to_json(plain).ok().and_then(|text| serde_json::from_slice::<Json>(&text).ok())])
        }
    }
}

fn argument_json(argument: &Argument) -> Json {
    match argument {
        Argument::Value(value) => tagged(value),
        Argument::Input(place) => json!(["i", place]),
        Argument::Inputs { first, count } => json!(["s", first, count]),
        Argument::List(items) => json!(["l", items.iter().map(argument_json).collect::<Vec<_>>()]),
        Argument::Map(entries) => {
            json!([
                "m",
                entries.iter().map(|(name, item)| json!([name, argument_json(item)])).collect::<Vec<_>>()
            ])
        }
        Argument::Text(text) => json!(["t", pieces(text)]),
    }
}

/// Text around the number of the attempt.
fn pieces(text: &Text) -> Json {
    match text {
        Text::Plain(text) => json!([text]),
        Text::AroundAttempt(pieces) => json!(pieces),
    }
}

impl Definition<'_> {
    fn to_json(&self) -> Json {
        let Python { module, function, arguments, keywords, environment, directory } = self.python;
        json!({
            "module": module,
            "function": function,
            "path": self.path,
            "arguments": arguments.iter().map(argument_json).collect::<Vec<_>>(),
            "keywords": keywords.iter().map(|(name, item)| json!([name, argument_json(item)])).collect::<Vec<_>>(),
            "environment": environment.iter().map(|(name, text)| json!([name, pieces(text)])).collect::<Vec<_>>(),
            "directory": pieces(directory),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_values_come_back_as_they_left() {
        let list = Value::List(vec![Value::Int(-1), Value::Float(0.1 + 0.2), Value::Text("ä".to_owned())]);
        let map = Value::Map(vec![("b".to_owned(), list.clone()), ("a".to_owned(), Value::Null)]);
        let float = Value::Float(f64::NEG_INFINITY);
        for value in [
            Value::Null,
            Value::Bool(true),
            Value::Int(i64::MIN),
            float,
            Value::Bytes(vec![0, 255]),
            list,
            map,
        ] {
            let mut bytes = Vec::new();
            let form = encode_value(&value, &mut bytes);
            assert_eq!(decode_value(form, &bytes).unwrap(), value, "{form}");
        }
    }

    #[test]
    fn what_json_cannot_hold_is_tagged() {
        let value = Value::List(vec![Value::Bytes(vec![7]), Value::Float(f64::INFINITY), Value::Int(1)]);
        let mut bytes = Vec::new();
        assert_eq!(encode_value(&value, &mut bytes), form::TAGGED);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, r#"["l",[["b",[7]],["f","inf"],["v",1]]]"#);
    }

    #[test]
    fn strange_answers_are_refused() {
        let home = Arc::new(Home::new(crate::worker::packet::pair().unwrap().0));
        for packet in [&b""[..], b"V", b"W", b"X12", b"L123", b"?", b"E{", &[b'V', form::INT, 1]] {
            assert!(read_answer(packet, Vec::new(), &home).is_err(), "{packet:?}");
        }
    }
}
