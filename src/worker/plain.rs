//! Outputs that are bytes already: they leave this process from where they lie.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::output::Output;
use super::python::PythonObject;
use super::typed::Typed;
use crate::core::value::Value;

/// What the bytes of an output mean that is on its way or on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// They are what a command printed.
    Captured,
    /// They are a value of bytes.
    Bytes,
    /// They are a value of text.
    Text,
    /// They are an encoded output.
    Encoded,
    /// They are a value of this Rust type.
    Typed(String),
}

/// What an output is that need not be encoded, and its bytes.
pub fn plain(output: &Output) -> Option<(Form, &[u8])> {
    let form = match output {
        Output::Captured(_) => Form::Captured,
        Output::Value(Value::Text(_)) => Form::Text,
        Output::Value(_) => Form::Bytes,
        Output::Typed(typed) => Form::Typed(typed.type_name().to_owned()),
    };
    bytes_of(output).map(|bytes| (form, bytes))
}

/// The bytes of an output that need not be encoded.
pub fn bytes_of(output: &Output) -> Option<&[u8]> {
    match output {
        Output::Captured(bytes) | Output::Value(Value::Bytes(bytes)) => Some(bytes),
        Output::Value(Value::Text(text)) => Some(text.as_bytes()),
        Output::Value(_) => None,
        Output::Typed(typed) => typed.lend(),
    }
}

/// The output that plain bytes stand for. Others are given back: encoded ones, and text that is none.
pub fn output_of(form: Form, bytes: Vec<u8>) -> Result<Output, Vec<u8>> {
    match form {
        Form::Captured => Ok(Output::Captured(bytes)),
        Form::Bytes => Ok(Output::Value(Value::Bytes(bytes))),
        Form::Text => match String::from_utf8(bytes) {
            Ok(text) => Ok(Output::Value(Value::Text(text))),
            Err(error) => Err(error.into_bytes()),
        },
        Form::Encoded => Err(bytes),
        Form::Typed(name) => Ok(Output::Typed(Typed::arrived(name, Arc::new(bytes), 0))),
    }
}

/// A sealed memory file of just the bytes of an output, if they lie in one.
pub fn file_of(output: &Output) -> Option<BorrowedFd<'_>> {
    match output {
        Output::Typed(typed) => typed.file(),
        _ => None,
    }
}

/// The output that the bytes of a sealed memory file stand for, if it can stay there: an object of Python's.
pub fn output_in(form: &Form, file: BorrowedFd<'_>) -> Option<Output> {
    let Form::Typed(name) = form else { return None };
    let file = PythonObject::is_named(name).then(|| file.try_clone_to_owned())?.ok()?;
    Some(Output::Typed(PythonObject::of_file(file).ok()?.into_output()))
}

/// About how many bytes of memory an output takes, its frame included.
pub fn memory_of(output: &Output) -> u64 {
    match output {
        Output::Captured(bytes) => bytes.capacity() as u64,
        Output::Value(value) => heap_of(value),
        Output::Typed(typed) => typed.size_bytes(),
    }
}

/// Values nest no deeper than a call lets them.
fn heap_of(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
        Value::Text(text) => text.capacity() as u64,
        Value::Bytes(bytes) => bytes.capacity() as u64,
        Value::List(values) => {
            let frame = values.capacity() as u64 * size_of::<Value>() as u64;
            frame + values.iter().map(heap_of).sum::<u64>()
        }
        Value::Map(entries) => {
            let frame = entries.capacity() as u64 * size_of::<(String, Value)>() as u64;
            frame + entries.iter().map(|(name, value)| name.capacity() as u64 + heap_of(value)).sum::<u64>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_what_they_are() {
        let text = Output::Value(Value::Text("äb".to_owned()));
        for output in [Output::Captured(vec![7; 3]), Output::Value(Value::Bytes(vec![7; 3])), text] {
            let (form, bytes) = plain(&output).expect("they are bytes");
            assert_eq!(output_of(form, bytes.to_vec()), Ok(output));
        }
        assert_eq!(plain(&Output::Value(Value::Int(1))), None);
        assert_eq!(output_of(Form::Text, vec![0xff]), Err(vec![0xff]));
    }

    #[test]
    fn a_list_counts_its_frame() {
        let list = Value::List(vec![Value::Int(1), Value::Bytes(vec![0; 100])]);
        assert_eq!(memory_of(&Output::Value(list)), 2 * size_of::<Value>() as u64 + 100);
    }
}
