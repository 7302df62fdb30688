//! Work of a known length with a result that can be checked, for benchmarks: what the tasks of
//! `dagmar graph make --iterations` call. benches/taskbench.h is the same in C, word by word.

use std::borrow::Cow;

use super::number::{argument, integer};
use super::{Arguments, Context};
use crate::core::value::Value;

/// What a value is before anything was taken in.
const BEGIN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Iterations between two looks whether to go on: about ten milliseconds.
const ITERATIONS_AT_ONCE: u64 = 1 << 22;

/// `kernel(iterations, bytes, input...)`: computes for so many iterations and gives so many bytes,
/// all of which follow from the inputs (whole numbers, or what another `kernel` gave) and from the
/// computation. A damaged input is an error.
pub(super) fn kernel(context: &Context, arguments: &Arguments<'_>) -> Result<Value, String> {
    let [iterations, bytes, inputs @ ..] = &arguments[..] else {
        return Err(format!("`kernel` takes 2 or more arguments, not {}", arguments.len()));
    };
    let iterations = size(integer("kernel", iterations, argument(0))?)?;
    let bytes = size(integer("kernel", bytes, argument(1))?)?;
    let value = take_in(inputs)? ^ compute(context, iterations).to_bits();
    let words = usize::try_from(bytes.div_ceil(8)).map_err(|_| "`kernel` cannot give so many bytes")?;
    Ok(Value::Bytes(value.to_le_bytes().repeat(words.max(1))))
}

/// `checksum(input...)`: one number that follows from what `kernel`s gave.
pub(super) fn checksum(arguments: &Arguments<'_>) -> Result<Value, String> {
    Ok(Value::Int(take_in(arguments)? as i64))
}

fn size(number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("`kernel` takes no sizes below zero, such as {number}"))
}

fn take_in(inputs: &[Cow<'_, Value>]) -> Result<u64, String> {
    inputs.iter().try_fold(BEGIN, |value, input| Ok(mix(value ^ word_of(input)?)))
}

/// One step of a linear congruential generator.
fn mix(value: u64) -> u64 {
    value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

/// What an input is worth. All words of a `kernel`'s output are the same; the first and the last
/// are looked at.
fn word_of(input: &Value) -> Result<u64, String> {
    match input {
        Value::Int(number) => Ok(*number as u64),
        Value::Bytes(bytes) if bytes.len() % 8 == 0 => match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) if first == last => Ok(u64::from_le_bytes(*first)),
            _ => Err("an input is not what `kernel` gave: its ends differ".to_owned()),
        },
        other => Err(format!("an input is {}, not what `kernel` gave", other.type_name())),
    }
}

/// Multiplies and adds, each time with the result of the last, so that no compiler shortens it.
fn compute(context: &Context, iterations: u64) -> f64 {
    let mut number = std::hint::black_box(1.0);
    let mut left = iterations;
    while left > 0 {
        let now = left.min(ITERATIONS_AT_ONCE);
        for _ in 0..now {
            number = number * 0.999_999 + 0.000_002;
        }
        left -= now;
        if left > 0 && context.is_stopped() {
            break;
        }
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{Attempt, TaskId};
    use crate::worker::function::context::Stops;

    fn call(iterations: i64, bytes: i64, inputs: &[Value]) -> Result<Value, String> {
        let stops = Stops::default();
        let context = Context::new(TaskId(0), Attempt::FIRST, None, &stops);
        let sizes = [Value::Int(iterations), Value::Int(bytes)];
        kernel(&context, &sizes.iter().chain(inputs).map(Cow::Borrowed).collect())
    }

    fn checksum_of(values: &[Value]) -> Value {
        checksum(&values.iter().map(Cow::Borrowed).collect()).unwrap()
    }

    #[test]
    fn every_argument_changes_the_value() {
        let first = call(10, 16, &[Value::Int(1)]).unwrap();
        let second = call(10, 16, &[Value::Int(2)]).unwrap();
        let others = [
            second.clone(),
            call(11, 16, &[Value::Int(1)]).unwrap(),
            call(10, 16, &[first.clone(), second.clone()]).unwrap(),
            call(10, 16, &[second.clone(), first.clone()]).unwrap(),
        ];
        for (place, other) in others.iter().enumerate() {
            assert!(*other != first && !others[..place].contains(other), "{place}");
        }
        assert_ne!(checksum_of(&[first.clone(), second.clone()]), checksum_of(&[second, first]));
    }

    #[test]
    fn as_many_bytes_are_given_as_were_asked_for() {
        for (asked, given) in [(0, 8), (8, 8), (9, 16), (65536, 65536)] {
            let Ok(Value::Bytes(bytes)) = call(0, asked, &[]) else { panic!("{asked}") };
            assert_eq!(bytes.len(), given);
            assert!(bytes.chunks(8).all(|word| word == &bytes[..8]));
        }
    }

    #[test]
    fn a_damaged_input_is_an_error() {
        let mut bytes = vec![7; 64];
        assert!(call(1, 16, &[Value::Bytes(bytes.clone())]).is_ok());
        bytes[63] = 8;
        assert!(call(1, 16, &[Value::Bytes(bytes)]).is_err());
        assert!(call(1, 16, &[Value::Bytes(vec![7; 3])]).is_err());
        assert!(call(1, 16, &[Value::Null]).is_err());
        assert!(call(-1, 16, &[]).is_err());
    }
}
