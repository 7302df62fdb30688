//! Programs whose tasks submit tasks.

use std::process::ExitCode;
use std::sync::Arc;

use dagmar::{Context, Delayed, Given, map, reduce};

#[dagmar::task]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

#[dagmar::task]
fn fibonacci(n: u64) -> Delayed<u64> {
    match n {
        0 | 1 => n.into(),
        _ => add(fibonacci(n - 1), fibonacci(n - 2)),
    }
}

pub fn recursion() -> ExitCode {
    dagmar::main(|run| {
        println!("{}", run.compute(fibonacci(17))?);
        // What was computed can stay, and be used like anything else.
        let tenth = fibonacci(10);
        run.persist(&tenth)?;
        println!("{}", run.compute(add(&tenth, fibonacci(add(2, 3))))?);
        println!("{}", run.compute(Delayed::from(7_u64))?);
        Ok(())
    })
}

#[dagmar::task]
fn joined(smaller: &[i64], pivot: i64, others: &[i64]) -> Vec<i64> {
    [smaller, &[pivot], others].concat()
}

#[dagmar::task]
fn smaller(numbers: &[i64], pivot: i64) -> Vec<i64> {
    numbers[1..].iter().copied().filter(|number| *number < pivot).collect()
}

#[dagmar::task]
fn others(numbers: &[i64], pivot: i64) -> Vec<i64> {
    numbers[1..].iter().copied().filter(|number| *number >= pivot).collect()
}

/// It reads the numbers, and the numbers themselves never come through rank 0.
#[dagmar::task]
fn sorted(numbers: Given<Vec<i64>>) -> Delayed<Vec<i64>> {
    if numbers.len() < 20 {
        let mut numbers = numbers.to_vec();
        numbers.sort_unstable();
        return numbers.into();
    }
    let pivot = numbers[0];
    joined(sorted(smaller(&numbers, pivot)), pivot, sorted(others(&numbers, pivot)))
}

pub fn quick_sort() -> ExitCode {
    dagmar::main(|run| {
        let number = |n: i64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) >> 40) % 10_007;
        let numbers: Vec<i64> = (0..3_000).map(number).collect();
        let mut expected = numbers.clone();
        expected.sort_unstable();
        assert_eq!(run.compute(sorted(numbers))?, expected);
        println!("sorted");
        Ok(())
    })
}

#[dagmar::task]
fn words(path: &str) -> Result<u64, std::io::Error> {
    Ok(std::fs::read_to_string(path)?.split_whitespace().count() as u64)
}

/// Nobody knows how many files there are before this has run.
#[dagmar::task]
fn words_of_all(list: &str) -> Result<Delayed<u64>, std::io::Error> {
    let list = std::fs::read_to_string(list)?;
    Ok(reduce(add, map(words, list.lines())).unwrap_or_else(|| 0.into()))
}

pub fn files() -> ExitCode {
    dagmar::main(|run| {
        let here = std::env::current_dir()?;
        let paths = (0..40).map(|number| here.join(format!("text-{number}")));
        let mut list = String::new();
        for (number, path) in paths.enumerate() {
            std::fs::write(&path, "word ".repeat(number))?;
            list += &format!("{}\n", path.display());
        }
        let name = here.join("list").to_string_lossy().into_owned();
        std::fs::write(&name, &list)?;
        println!("{} words", run.compute(words_of_all(&name))?);
        std::fs::write(&name, "")?;
        println!("{} words", run.compute(words_of_all(&name))?);
        std::fs::write(&name, "no/such/file\n")?;
        let error = run.compute(words_of_all(&name)).expect_err("a file is missing");
        println!("{error}");
        let error = run.compute(words_of_all("no/list")).expect_err("the list is missing");
        println!("{error}");
        Ok(())
    })
}

#[dagmar::task]
fn large(count: usize) -> Vec<u64> {
    (0..count as u64).collect()
}

#[dagmar::task]
fn sum(numbers: &[u64], from: usize, to: usize) -> u64 {
    numbers[from..to].iter().sum()
}

/// It hands its input on without looking at it: the numbers do not travel through rank 0.
#[dagmar::task]
fn sum_in_parts(numbers: Delayed<Vec<u64>>, count: usize, parts: usize) -> Delayed<u64> {
    let part = |part| sum(&numbers, count * part / parts, count * (part + 1) / parts);
    reduce(add, map(part, 0..parts)).unwrap_or_else(|| 0.into())
}

#[dagmar::task]
fn every_second(elements: Vec<Delayed<u64>>) -> Delayed<u64> {
    reduce(add, elements.into_iter().step_by(2)).unwrap_or_else(|| 0.into())
}

#[dagmar::task]
fn same(value: Delayed<u64>) -> Delayed<u64> {
    value
}

#[dagmar::task]
fn total(numbers: Vec<u64>, more: &[Arc<u64>]) -> u64 {
    numbers.iter().sum::<u64>() + more.iter().map(|one| **one).sum::<u64>()
}

/// Calls, values and what it was given, side by side.
#[dagmar::task]
fn mixed(given: Vec<Delayed<u64>>) -> Delayed<u64> {
    let mut all = given.clone();
    all.push(100.into());
    all.push(add(1_000, 2_000));
    total(&all, given)
}

#[dagmar::task]
fn longest(given: Given<Vec<u64>>, one: Given<u64>) -> Delayed<u64> {
    match given.len() as u64 > *one {
        true => total(&given, vec![Delayed::from(one.clone())]),
        false => one.into(),
    }
}

pub fn handing_on() -> ExitCode {
    dagmar::main(|run| {
        let two = add(1, 1);
        println!("{}", run.compute(longest(map(|n| add(n, 0), 0..4), &two))?);
        println!("{}", run.compute(longest(vec![5, 6, 7], two.clone()))?);
        println!("{}", run.compute((longest(vec![5], &two), longest(large(3), 7)))?.0);
        let numbers = large(100_000);
        let parts = sum_in_parts(&numbers, 100_000, 7);
        println!("{}", run.compute((&parts, &parts))?.1);
        println!("{}", run.compute(sum_in_parts(vec![1, 2, 3], 3, 3))?);
        println!("{}", run.compute(every_second(map(|n| add(n, 0), 0..10)))?);
        println!("{}", run.compute(every_second(vec![5, 6, 7]))?);
        println!("{}", run.compute(same(same(add(same(add(1, 2)), 4))))?);
        println!("{}", run.compute(mixed(map(|n| add(n, 0), 1..4)))?);
        println!("{}", run.compute(mixed(vec![Delayed::from(1), add(2, 0)]))?);
        Ok(())
    })
}

#[dagmar::task]
fn sour(x: u64) -> Result<u64, String> {
    Err(format!("{x} is sour"))
}

#[dagmar::task]
fn fails_below(depth: u64) -> Delayed<u64> {
    match depth {
        0 => sour(7),
        _ => add(fails_below(depth - 1), 1),
    }
}

#[dagmar::task]
fn twice_then(context: &Context, then: u64) -> Result<Delayed<u64>, String> {
    match context.attempt().0 {
        1 | 2 => Err("not yet".to_owned()),
        attempt => Ok(add(then, u64::from(attempt))),
    }
}

#[dagmar::task]
fn panics() -> Delayed<u64> {
    panic!("before it submits anything")
}

pub fn failures() -> ExitCode {
    dagmar::main(|run| {
        println!("{}", run.compute(add(fails_below(2), 1)).expect_err("one is sour"));
        println!("{}", run.compute(twice_then(10).retries(2))?);
        println!("{}", run.compute(twice_then(10).retries(1)).expect_err("it is tried twice"));
        println!("{}", run.compute(panics()).expect_err("it panics"));
        println!("{}", run.compute(greedy()).expect_err("nobody has so many cores"));
        println!("{}", run.compute(fibonacci(12))?);
        Ok(())
    })
}

#[dagmar::task]
fn greedy() -> Delayed<u64> {
    add(1, 2).cpus(99).name("much")
}

#[dagmar::task]
fn countdown(n: u64, sum: u64) -> Delayed<u64> {
    match n {
        0 => sum.into(),
        _ => countdown(n - 1, sum + n),
    }
}

#[dagmar::task]
fn process() -> u32 {
    std::process::id()
}

#[dagmar::task]
fn other_process() -> Delayed<u32> {
    process().isolated()
}

#[dagmar::task]
fn deep(n: u64) -> Delayed<u64> {
    match n {
        0 => 0.into(),
        _ => add(deep(n - 1).priority(1), 1).cpus(2),
    }
}

pub fn depths() -> ExitCode {
    dagmar::main(|run| {
        println!("{}", run.compute(countdown(2_000, 0))?);
        println!("{}", run.compute(deep(300))?);
        println!("{}", run.compute(fibonacci(8).isolated())?);
        assert_ne!(run.compute(other_process())?, std::process::id());
        Ok(())
    })
}

pub fn told() -> ExitCode {
    dagmar::main(|run| {
        assert_eq!(run.compute(fibonacci(6))?, 8);
        run.compute(fails_below(1))?;
        unreachable!("it fails");
    })
}
