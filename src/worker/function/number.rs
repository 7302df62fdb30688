//! Numbers as built-in functions see them: what counts as one, and arithmetic that never wraps.

use crate::core::value::Value;
use crate::worker::json::from_json;

/// A number, as arithmetic sees it.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub fn as_f64(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Float(number) => number,
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Int(number) => Value::Int(number),
            Number::Float(number) => Value::Float(number),
        }
    }
}

/// What stands at a place, for messages: `argument 2`, `element 3 of argument 1`.
#[derive(Clone, Copy)]
pub struct Place {
    pub argument: usize,
    pub element: Option<usize>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(element) = self.element {
            write!(out, "element {} of ", element + 1)?;
        }
        write!(out, "argument {}", self.argument + 1)
    }
}

pub fn argument(argument: usize) -> Place {
    Place { argument, element: None }
}

pub fn number(function: &str, value: &Value, place: Place) -> Result<Number, String> {
    let parsed = match value {
        Value::Int(number) => return Ok(Number::Int(*number)),
        Value::Float(number) => return Ok(Number::Float(*number)),
        Value::Text(text) => from_json(text.strip_suffix('\n').unwrap_or(text)).ok(),
        _ => None,
    };
    match parsed {
        Some(Value::Int(number)) => Ok(Number::Int(number)),
        Some(Value::Float(number)) => Ok(Number::Float(number)),
        _ => Err(format!("`{function}` takes numbers: {place} is {}", value.type_name())),
    }
}

/// A whole number, such as a place in a list.
pub fn integer(function: &str, value: &Value, place: Place) -> Result<i64, String> {
    match number(function, value, place) {
        Ok(Number::Int(number)) => Ok(number),
        _ => Err(format!("`{function}` takes whole numbers: {place} is {}", value.type_name())),
    }
}

/// Arithmetic that is exact for two integers where it can be, and in floats otherwise.
pub fn arithmetic(
    function: &str,
    (left, right): (Number, Number),
    exact: fn(i64, i64) -> Option<i64>,
    rounded: fn(f64, f64) -> f64,
) -> Result<Number, String> {
    let overflow = || {
        let (left, right) = (left.as_f64(), right.as_f64());
        format!("`{function}` overflows: the result for {left:e} and {right:e} does not fit into 64 bits")
    };
    if let (Number::Int(left), Number::Int(right)) = (left, right) {
        return exact(left, right).map(Number::Int).ok_or_else(overflow);
    }
    let (left, right) = (left.as_f64(), right.as_f64());
    let result = rounded(left, right);
    let overflows = result.is_infinite() && left.is_finite() && right.is_finite();
    if overflows { Err(overflow()) } else { Ok(Number::Float(result)) }
}

pub fn add(left: Number, right: Number) -> Result<Number, String> {
    arithmetic("add", (left, right), i64::checked_add, |left, right| left + right)
}

pub fn sub(left: Number, right: Number) -> Result<Number, String> {
    arithmetic("sub", (left, right), i64::checked_sub, |left, right| left - right)
}

pub fn mul(left: Number, right: Number) -> Result<Number, String> {
    arithmetic("mul", (left, right), i64::checked_mul, |left, right| left * right)
}

/// True division: whole if it comes out even, else a float.
pub fn div(left: Number, right: Number) -> Result<Number, String> {
    if right.as_f64() == 0.0 {
        return Err("`div` cannot divide by zero".to_owned());
    }
    match (left, right) {
        (Number::Int(left), Number::Int(right)) if left.checked_rem(right) == Some(0) => {
            Ok(Number::Int(left / right))
        }
        // The smallest integer divided by -1 is the one quotient that does not fit.
        (Number::Int(_), Number::Int(-1)) => {
            arithmetic("div", (left, right), i64::checked_div, |left, right| left / right)
        }
        _ => {
            let (left, right) = (Number::Float(left.as_f64()), Number::Float(right.as_f64()));
            arithmetic("div", (left, right), i64::checked_div, |left, right| left / right)
        }
    }
}
