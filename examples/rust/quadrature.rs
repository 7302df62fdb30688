//! The integral of a function with a sharp peak, to a given error: `quadrature [DIGITS] [WIDTH]`.
//!
//! Where the function is smooth one look is enough; where it is not, a task looks twice as closely by
//! submitting two tasks, one for each half. Nobody knows beforehand how deep that goes: the graph begins with one
//! task and grows where there is something to be seen.

use std::process::ExitCode;

use dagmar::Delayed;
use serde::{Deserialize, Serialize};

/// Where the peak is.
const PEAK: f64 = 0.3;

/// An integral over part of the way, and how many tasks it took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Part {
    integral: f64,
    tasks: u64,
    depth: u32,
}

/// A peak of area pi, `width` wide.
fn function(x: f64, width: f64) -> f64 {
    width / (width * width + (x - PEAK) * (x - PEAK))
}

/// Its integral, by a formula: what the tasks must find.
fn exact(from: f64, to: f64, width: f64) -> f64 {
    ((to - PEAK) / width).atan() - ((from - PEAK) / width).atan()
}

/// Simpson's rule.
fn simpson(from: f64, to: f64, width: f64) -> f64 {
    let middle = (from + to) / 2.0;
    let heights = function(from, width) + 4.0 * function(middle, width) + function(to, width);
    heights * (to - from) / 6.0
}

#[dagmar::task]
fn integrate((from, to): (f64, f64), width: f64, error: f64, depth: u32) -> Delayed<Part> {
    let middle = (from + to) / 2.0;
    let halves = simpson(from, middle, width) + simpson(middle, to, width);
    let difference = halves - simpson(from, to, width);
    // Both rules may miss a peak that lies between their points: the first looks do not count.
    if depth > 4 && difference.abs() <= 15.0 * error {
        return Part { integral: halves + difference / 15.0, tasks: 1, depth }.into();
    }
    let part = |from, to| integrate((from, to), width, error / 2.0, depth + 1);
    add(part(from, middle), part(middle, to))
}

#[dagmar::task]
fn add(left: Part, right: Part) -> Part {
    Part {
        integral: left.integral + right.integral,
        tasks: left.tasks + right.tasks + 1,
        depth: left.depth.max(right.depth),
    }
}

/// Runs the example.
pub fn main() -> ExitCode {
    let words: Vec<f64> = std::env::args().skip(1).filter_map(|word| word.parse().ok()).collect();
    let word = |place: usize, usual| words.get(place).copied().unwrap_or(usual);
    let (digits, width) = (word(0, 9.0), word(1, 0.001));
    let error = 10_f64.powf(-digits);
    dagmar::main(move |run| {
        let found = run.compute(integrate((0.0, 1.0), width, error, 0))?;
        let wrong = (found.integral - exact(0.0, 1.0, width)).abs();
        if wrong > error {
            return Err(format!("it is wrong by {wrong:e}").into());
        }
        let Part { tasks, depth, .. } = found;
        println!("the integral to an error below {error:e}, checked: {tasks} tasks, {depth} deep");
        Ok(())
    })
}
