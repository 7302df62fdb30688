//! The variables of arrays and the ranges that they go through.

use crate::core::key::Axis;
use crate::core::value::Value;

/// Most variables that one array can have; a bit each in `Template::uses`.
pub const VARIABLES_MAX: usize = 16;

/// A variable of `each`.
#[derive(Clone, Debug)]
pub struct Variable {
    pub name: String,
    pub axis: Axis,
    /// The elements with their types; none when they are what the axis says.
    pub values: Option<Vec<Value>>,
}

impl Variable {
    /// A variable without types of its own.
    pub fn new(name: &str, axis: Axis) -> Variable {
        Variable { name: name.to_owned(), axis, values: None }
    }

    /// True if arithmetic makes sense.
    pub fn is_range(&self) -> bool {
        matches!(self.axis, Axis::Range { .. })
    }

    /// An element with its type.
    pub fn value(&self, place: usize) -> Value {
        match (&self.values, self.axis.number(place)) {
            (Some(values), _) => values[place].clone(),
            (None, Some(number)) => Value::Int(number),
            (None, None) => Value::Text(self.axis.element(place).into_owned()),
        }
    }
}

/// Parses `first..last` or `first..last..step`. The error says what is wrong.
pub fn parse_range(text: &str) -> Result<Axis, String> {
    let parts: Vec<&str> = text.split("..").map(str::trim).collect();
    let (first, last, step) = match parts[..] {
        [first, last] => (first, last, "1"),
        [first, last, step] => (first, last, step),
        _ => return Err("a range is written `1..9` or `1..9..2`, a single element as a list".into()),
    };
    let width = padding(first).max(padding(last));
    let (first, last, step) = (whole(first)?, whole(last)?, whole(step)?);
    if step == 0 {
        return Err("the step is zero".into());
    }
    let distance = i128::from(last) - i128::from(first);
    if distance.signum() * i128::from(step.signum()) < 0 {
        return Err("its end cannot be reached by its step".into());
    }
    let count = distance / i128::from(step) + 1;
    let count =
        u32::try_from(count).map_err(|_| format!("it has {count} elements, more than a graph holds"))?;
    Ok(Axis::Range { first, step, count, width })
}

fn whole(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{text}` is no whole number"));
    }
    text.parse().map_err(|_| format!("`{text}` does not fit into 64 bits"))
}

/// The width that zeros in front ask for; 1 without such zeros.
fn padding(number: &str) -> u8 {
    let digits = number.strip_prefix('-').unwrap_or(number);
    match digits.len() > 1 && digits.starts_with('0') {
        true => digits.len().min(30) as u8,
        false => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive_and_keep_their_zeros() {
        let check = |text: &str, expected: Option<&str>| {
            let all = |axis: Axis| {
                (0..axis.count()).map(|place| axis.element(place).into_owned()).collect::<Vec<_>>().join(" ")
            };
            assert_eq!(parse_range(text).ok().map(all).as_deref(), expected, "{text}");
        };
        check("1..3", Some("1 2 3"));
        check("08..11", Some("08 09 10 11"));
        check("1..9..4", Some("1 5 9"));
        check("1..8..4", Some("1 5"));
        check("3..1..-1", Some("3 2 1"));
        check("-1..1", Some("-1 0 1"));
        check("5..5", Some("5"));
        check("3..1", None);
        check("1..3..0", None);
        check("1...3", None);
        check("1-3", None);
        check("a..c", None);
        check("0..9999999999", None);
        check("-9223372036854775808..9223372036854775807", None);
    }
}
