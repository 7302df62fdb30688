//! The built-in functions: what a small graph in text needs.
//!
//! Numbers are 64-bit integers, else floats. Nothing wraps: a result that does not fit fails the
//! task. Text stands for a number if it is one in JSON, as what commands print often does.

use std::borrow::Cow;
use std::time::Duration;

use super::kernel::{checksum, kernel};
use super::number::{Number, Place, add, argument, arithmetic, div, integer, mul, number, sub};
use super::{Arguments, Context, Functions};
use crate::clock::now;
use crate::core::value::Value;
use crate::worker::last_words;

type Outcome = Result<Value, String>;
type Builtin = fn(&Context, Arguments<'_>) -> Outcome;

/// Numbers that `range` makes at most, so that a slip of the pen does not eat the memory.
const RANGE_MAX: u64 = 100_000_000;

/// Enters all built-in functions.
pub(super) fn register(functions: &mut Functions) {
    let table: [(&str, Builtin); 20] = [
        ("add", |_, arguments| fold("add", &arguments, add)),
        ("sub", |_, arguments| pair("sub", &arguments, sub)),
        ("mul", |_, arguments| fold("mul", &arguments, mul)),
        ("div", |_, arguments| pair("div", &arguments, div)),
        ("sum", |_, arguments| sum(&arguments)),
        ("min", |_, arguments| extreme("min", &arguments, f64::lt, i64::lt)),
        ("max", |_, arguments| extreme("max", &arguments, f64::gt, i64::gt)),
        ("concat", |_, arguments| concat(&arguments)),
        ("identity", |_, arguments| take("identity", arguments).map(|[value]| value.into_owned())),
        ("list", |_, arguments| Ok(Value::List(arguments.into_iter().map(Cow::into_owned).collect()))),
        ("get", |_, arguments| get(&take("get", arguments)?)),
        ("len", |_, arguments| len(&take::<1>("len", arguments)?[0])),
        ("range", |_, arguments| range(&arguments)),
        ("noop", |_, _| Ok(Value::Null)),
        ("sleep", |context, arguments| sleep(context, &arguments)),
        ("spin", |context, arguments| spin(context, &arguments)),
        ("kernel", |context, arguments| kernel(context, &arguments)),
        ("checksum", |_, arguments| checksum(&arguments)),
        ("fail", |_, arguments| Err(message(&arguments))),
        ("crash", |_, arguments| crash(&take::<1>("crash", arguments)?[0])),
    ];
    for (name, function) in table {
        functions.register(name, function);
    }
}

/// Ends the rank.
fn crash(how: &Value) -> Outcome {
    match how {
        Value::Text(how) => last_words::crash(how).map(|()| Value::Null),
        _ => Err("`crash` takes a text".to_owned()),
    }
}

/// Exactly `N` arguments.
fn take<'a, const N: usize>(function: &str, given: Arguments<'a>) -> Result<[Cow<'a, Value>; N], String> {
    let count = given.len();
    given.try_into().map_err(|_| wrong_count(function, &N.to_string(), count))
}

fn wrong_count(function: &str, wanted: &str, given: usize) -> String {
    let noun = if wanted == "1" { "argument" } else { "arguments" };
    format!("`{function}` takes {wanted} {noun}, not {given}")
}

type Operator = fn(Number, Number) -> Result<Number, String>;

/// One or more numbers, from left to right.
fn fold(function: &str, arguments: &[Cow<'_, Value>], operator: Operator) -> Outcome {
    let Some((first, rest)) = arguments.split_first() else {
        return Err(wrong_count(function, "1 or more", 0));
    };
    let mut result = number(function, first, argument(0))?;
    for (place, value) in rest.iter().enumerate() {
        result = operator(result, number(function, value, argument(place + 1))?)?;
    }
    Ok(result.into())
}

fn pair(function: &str, arguments: &[Cow<'_, Value>], operator: Operator) -> Outcome {
    match arguments.len() {
        2 => fold(function, arguments, operator),
        count => Err(wrong_count(function, "2", count)),
    }
}

/// Calls `visit` for each number, looking into lists.
fn each_number(
    function: &str,
    arguments: &[Cow<'_, Value>],
    mut visit: impl FnMut(Number) -> Result<(), String>,
) -> Result<(), String> {
    for (place, value) in arguments.iter().enumerate() {
        match &**value {
            Value::List(values) => {
                for (element, value) in values.iter().enumerate() {
                    visit(number(function, value, Place { argument: place, element: Some(element) })?)?;
                }
            }
            value => visit(number(function, value, argument(place))?)?,
        }
    }
    Ok(())
}

fn sum(arguments: &[Cow<'_, Value>]) -> Outcome {
    let mut total = Number::Int(0);
    each_number("sum", arguments, |number| {
        let sum = arithmetic("sum", (total, number), i64::checked_add, |left, right| left + right);
        sum.map(|sum| total = sum)
    })?;
    Ok(total.into())
}

/// The first number that none surpasses. Integers are compared as such, so large ones do not blur.
fn extreme(
    function: &str,
    arguments: &[Cow<'_, Value>],
    floats: fn(&f64, &f64) -> bool,
    integers: fn(&i64, &i64) -> bool,
) -> Outcome {
    let mut best: Option<Number> = None;
    each_number(function, arguments, |number| {
        let is_better = match (number, best) {
            (_, None) => true,
            (Number::Int(number), Some(Number::Int(best))) => integers(&number, &best),
            (number, Some(best)) => floats(&number.as_f64(), &best.as_f64()),
        };
        if is_better {
            best = Some(number);
        }
        Ok(())
    })?;
    best.map(Value::from).ok_or_else(|| format!("`{function}` takes at least one number"))
}

/// Texts, lists or bytes, one after the other. A single list stands for its elements.
fn concat(arguments: &[Cow<'_, Value>]) -> Outcome {
    if let [single] = arguments
        && let Value::List(values) = &**single
    {
        return join(values.iter());
    }
    join(arguments.iter().map(|value| &**value))
}

fn join<'a>(mut values: impl Iterator<Item = &'a Value>) -> Outcome {
    let Some(first) = values.next() else { return Ok(Value::List(Vec::new())) };
    let mut whole = first.clone();
    if !matches!(whole, Value::Text(_) | Value::Bytes(_) | Value::List(_)) {
        return Err(format!("`concat` takes texts, lists or bytes: value 1 is {}", first.type_name()));
    }
    for (place, value) in values.enumerate() {
        match (&mut whole, value) {
            (Value::Text(whole), Value::Text(text)) => whole.push_str(text),
            (Value::Bytes(whole), Value::Bytes(bytes)) => whole.extend_from_slice(bytes),
            (Value::Bytes(whole), Value::Text(text)) => whole.extend_from_slice(text.as_bytes()),
            (Value::Text(text), Value::Bytes(bytes)) => {
                whole = Value::Bytes([text.as_bytes(), bytes].concat());
            }
            (Value::List(whole), Value::List(list)) => whole.extend_from_slice(list),
            (whole, value) => {
                let (kind, other) = (whole.type_name(), value.type_name());
                return Err(format!(
                    "`concat` takes values of one type: value {} is {other}, not {kind}",
                    place + 2
                ));
            }
        }
    }
    Ok(whole)
}

/// An element of a list by place, from the end if negative, or of a map by name.
fn get([container, selector]: &[Cow<'_, Value>; 2]) -> Outcome {
    match (&**container, &**selector) {
        (Value::Map(entries), Value::Text(name)) => {
            let found = entries.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| value.clone()).ok_or_else(|| format!("`get` finds no `{name}` in the map"))
        }
        (Value::List(values), selector) => {
            let place = integer("get", selector, argument(1))?;
            let count = values.len();
            let from_start = if place < 0 { place.checked_add(count as i64) } else { Some(place) };
            let found = from_start.and_then(|place| values.get(usize::try_from(place).ok()?));
            found.cloned().ok_or_else(|| format!("`get` finds no element {place} in a list of {count}"))
        }
        (Value::Map(_), selector) => {
            Err(format!("`get` takes a name for a map: argument 2 is {}", selector.type_name()))
        }
        (other, _) => Err(format!("`get` takes a list or a map: argument 1 is {}", other.type_name())),
    }
}

/// Elements of a list or a map, characters of a text, bytes.
fn len(value: &Value) -> Outcome {
    let count = match value {
        Value::List(values) => values.len(),
        Value::Map(entries) => entries.len(),
        Value::Text(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        other => {
            let kind = other.type_name();
            return Err(format!("`len` takes a list, a map, text or bytes: argument 1 is {kind}"));
        }
    };
    Ok(Value::Int(count as i64))
}

/// `range(end)`, `range(start, end)`, `range(start, end, step)`; the end is left out.
fn range(arguments: &[Cow<'_, Value>]) -> Outcome {
    let numbers = arguments.iter().enumerate();
    let numbers: Result<Vec<i64>, String> =
        numbers.map(|(place, value)| integer("range", value, argument(place))).collect();
    let (start, end, step) = match numbers?[..] {
        [end] => (0, end, 1),
        [start, end] => (start, end, 1),
        [start, end, step] => (start, end, step),
        _ => return Err(wrong_count("range", "1 to 3", arguments.len())),
    };
    if step == 0 {
        return Err("`range` cannot take steps of 0".to_owned());
    }
    let distance =
        if step > 0 { i128::from(end) - i128::from(start) } else { i128::from(start) - i128::from(end) };
    let width = i128::from(step.unsigned_abs());
    let count = (distance.max(0) + width - 1) / width;
    if count > i128::from(RANGE_MAX) {
        return Err(format!("`range` makes at most {RANGE_MAX} numbers, not {count}"));
    }
    // Each number lies between the start and the end; only the distance to it may wrap on the way.
    let nth = |place: i64| Value::Int(start.wrapping_add(place.wrapping_mul(step)));
    Ok(Value::List((0..count as i64).map(nth).collect()))
}

fn seconds(function: &str, value: &Value) -> Result<Duration, String> {
    let seconds = number(function, value, argument(0))?.as_f64();
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("`{function}` cannot take {seconds} seconds"))
}

/// Waits without using the processor.
fn sleep(context: &Context, arguments: &[Cow<'_, Value>]) -> Outcome {
    let (time, value) = pastime("sleep", arguments)?;
    context.sleep(time);
    Ok(value)
}

/// Waits using the processor.
fn spin(context: &Context, arguments: &[Cow<'_, Value>]) -> Outcome {
    let (time, value) = pastime("spin", arguments)?;
    let until = now() + time.into();
    while now() < until && !context.is_stopped() {
        std::hint::spin_loop();
    }
    Ok(value)
}

/// How long to wait, and what to give then: nothing, or as many bytes as are asked for.
fn pastime(function: &str, arguments: &[Cow<'_, Value>]) -> Result<(Duration, Value), String> {
    match arguments {
        [time] => Ok((seconds(function, time)?, Value::Null)),
        [time, count] => {
            let count = integer(function, count, argument(1))?;
            let too_many = || format!("`{function}` cannot give {count} bytes");
            let count = usize::try_from(count).map_err(|_| too_many())?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(count).map_err(|_| too_many())?;
            bytes.resize(count, 0);
            Ok((seconds(function, time)?, Value::Bytes(bytes)))
        }
        _ => Err(wrong_count(function, "1 or 2", arguments.len())),
    }
}

fn message(arguments: &[Cow<'_, Value>]) -> String {
    match arguments.first().map(|value| &**value) {
        None => "`fail` was called".to_owned(),
        Some(Value::Text(text)) => text.clone(),
        Some(value) => format!("`fail` was called with {}", value.type_name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::id::{Attempt, TaskId};
    use crate::worker::function::Registered;
    use crate::worker::function::context::Stops;
    use crate::worker::json::from_json;

    /// Calls a function with arguments given as a JSON list.
    fn call(name: &str, arguments: &str) -> Outcome {
        let Ok(Value::List(arguments)) = from_json(arguments) else { panic!("{arguments}") };
        let stops = Stops::default();
        let context = Context::new(TaskId(0), Attempt::FIRST, None, &stops);
        let functions = Functions::builtin();
        let Some(Registered::OfValues(function)) = functions.get(name) else { panic!("{name}") };
        function(&context, arguments.iter().map(Cow::Borrowed).collect())
    }

    #[test]
    fn good_calls_give_values() {
        let cases = [
            ("add", "[2, 3]", "5"),
            ("add", "[2, 0.5]", "2.5"),
            ("add", "[1, 2, 3]", "6"),
            ("add", r#"["40\n", 2]"#, "42"),
            ("sub", "[2, 3]", "-1"),
            ("mul", "[4, 5]", "20"),
            ("div", "[6, 3]", "2"),
            ("div", "[1, 4]", "0.25"),
            ("div", "[-9223372036854775808, 2]", "-4611686018427387904"),
            ("sum", "[[1, 2, 3], 4]", "10"),
            ("sum", "[[]]", "0"),
            ("sum", "[]", "0"),
            ("min", "[[3, 1.5, 2]]", "1.5"),
            ("max", "[3, 9007199254740993, 9007199254740992]", "9007199254740993"),
            ("concat", r#"["a", "b"]"#, r#""ab""#),
            ("concat", "[[1], [2, 3]]", "[1,2,3]"),
            ("concat", r#"[["a", "b", "c"]]"#, r#""abc""#),
            ("concat", "[]", "[]"),
            ("identity", "[[1]]", "[1]"),
            ("list", "[1, [2]]", "[1,[2]]"),
            ("get", "[[5, 6], 1]", "6"),
            ("get", "[[5, 6], -1]", "6"),
            ("get", r#"[{"a": 7}, "a"]"#, "7"),
            ("len", r#"["äb"]"#, "2"),
            ("len", "[[1, 2, 3]]", "3"),
            ("range", "[3]", "[0,1,2]"),
            ("range", "[5, 1, -2]", "[5,3]"),
            ("range", "[3, 1]", "[]"),
            (
                "range",
                "[-9000000000000000000, 9000000000000000000, 9000000000000000000]",
                "[-9000000000000000000,0]",
            ),
            ("range", "[9223372036854775806, 9223372036854775807]", "[9223372036854775806]"),
            ("noop", "[1, 2]", "null"),
            ("sleep", "[0.001]", "null"),
            ("spin", "[0.001]", "null"),
            ("spin", "[0.001]", "null"),
        ];
        for (name, arguments, expected) in cases {
            assert_eq!(call(name, arguments), Ok(from_json(expected).unwrap()), "{name}({arguments})");
        }
    }

    #[test]
    fn bad_calls_say_what_is_wrong() {
        let cases = [
            ("add", r#"[1, "x"]"#, "`add` takes numbers: argument 2 is text"),
            ("add", "[]", "`add` takes 1 or more arguments, not 0"),
            ("sub", "[1]", "`sub` takes 2 arguments, not 1"),
            ("mul", "[1, null]", "`mul` takes numbers: argument 2 is null"),
            ("div", "[1, 0]", "`div` cannot divide by zero"),
            ("div", "[1, 0.0]", "`div` cannot divide by zero"),
            ("sum", "[[1, true]]", "`sum` takes numbers: element 2 of argument 1 is a boolean"),
            ("min", "[[]]", "`min` takes at least one number"),
            ("concat", r#"["a", 1]"#, "`concat` takes values of one type: value 2 is an integer, not text"),
            ("concat", "[1]", "`concat` takes texts, lists or bytes: value 1 is an integer"),
            ("identity", "[]", "`identity` takes 1 argument, not 0"),
            ("get", "[[5], 1]", "`get` finds no element 1 in a list of 1"),
            ("get", "[[5], -2]", "`get` finds no element -2 in a list of 1"),
            ("get", r#"[{"a": 1}, "b"]"#, "`get` finds no `b` in the map"),
            ("get", "[1, 1]", "`get` takes a list or a map: argument 1 is an integer"),
            ("get", "[[1], 0.5]", "`get` takes whole numbers: argument 2 is a float"),
            ("len", "[1]", "`len` takes a list, a map, text or bytes: argument 1 is an integer"),
            ("range", "[1, 2, 0]", "`range` cannot take steps of 0"),
            ("range", "[1000000000]", "`range` makes at most 100000000 numbers, not 1000000000"),
            ("sleep", "[-1]", "`sleep` cannot take -1 seconds"),
            ("sleep", "[0, -1]", "`sleep` cannot give -1 bytes"),
            ("spin", "[]", "`spin` takes 1 or 2 arguments, not 0"),
            ("fail", r#"["as asked"]"#, "as asked"),
            ("fail", "[]", "`fail` was called"),
        ];
        for (name, arguments, expected) in cases {
            assert_eq!(call(name, arguments), Err(expected.to_owned()), "{name}({arguments})");
        }
    }

    #[test]
    fn nothing_wraps() {
        let cases = [
            ("add", "[9223372036854775807, 1]"),
            ("sub", "[-9223372036854775808, 1]"),
            ("mul", "[9223372036854775807, 2]"),
            ("div", "[-9223372036854775808, -1]"),
            ("sum", "[[9223372036854775807, 1]]"),
            ("mul", "[1e308, 10.0]"),
            ("div", "[1e308, 1e-10]"),
        ];
        for (name, arguments) in cases {
            let error = call(name, arguments).expect_err(name);
            assert!(error.starts_with(&format!("`{name}` overflows")), "{error}");
        }
    }
}
