//! A million tasks pass through everything that is written: what it costs, and that it comes back.
//!
//! The costs are printed (`cargo test --release --test record_million -- --nocapture`); the limits
//! that are asserted are several times what a laptop takes without optimisation.

#![allow(clippy::unwrap_used)] // clippy.toml allows it only inside test functions

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use dagmar::core::batch::Batch;
use dagmar::core::event::{Event, Success};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::{Attempt, Rank, TaskId};
use dagmar::core::key::{Axis, Group};
use dagmar::core::task::{Argument, Body, Call, Operation, TaskOptions};
use dagmar::core::time::{Micros, Timestamp};
use dagmar::core::value::Value;
use dagmar::observe::report::ReportBuilder;
use dagmar::record::journal::{JournalReader, JournalWriter};
use dagmar::record::pack::{PackWriter, Piece};
use dagmar::record::pack_reader::PackReader;
use dagmar::record::packed;

const MILLION: u32 = 1_000_000;
const BEGAN: u64 = 1_790_000_000_000_000;

/// Measures the processor time of this thread: other tests may run beside this one.
fn measured<T>(what: &str, limit: Duration, deed: impl FnOnce() -> T) -> T {
    let start = processor_time();
    let result = deed();
    let took = processor_time() - start;
    println!("{what}: {:.0} ms", took.as_secs_f64() * 1e3);
    assert!(took < limit, "{what} took {took:?}, more than {limit:?}");
    result
}

/// What Linux counts for this thread, in nanoseconds: the first number of its `schedstat`.
fn processor_time() -> Duration {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

fn finished(task: u32) -> (Timestamp, Event) {
    let now = Timestamp(BEGAN + u64::from(task));
    let success =
        Success { started: now, ran: Micros(u64::from(task % 5000)), size_bytes: 42, file_sizes: vec![] };
    let (task, attempt, worker) = (TaskId(task), Attempt::FIRST, Rank(1 + task % 16));
    (now, Event::TasksFinished { worker, batch: Batch::one(task, attempt, success) })
}

/// A chain of a million tasks: one array of one operation, or a million names and operations.
fn chain(is_array: bool) -> Graph {
    let mut builder = GraphBuilder::new("million", "/home/ada");
    let call = |number: i64| {
        let arguments = vec![Argument::Value(Value::Int(number))];
        let body = Body::Call(Call { function: "identity".into(), arguments });
        Operation { body, outputs: vec![], inputs: vec![] }
    };
    let mut operation = builder.operation(call(0));
    if is_array {
        let axis = Axis::Range { first: 0, step: 1, count: MILLION, width: 7 };
        builder.declare(Group::array("task", vec![axis])).unwrap();
    } else {
        for number in 0..MILLION {
            builder.declare(Group::single(format!("task-{}", number.wrapping_mul(2_654_435_761)))).unwrap();
        }
    }
    let options = builder.options(TaskOptions::default());
    for task in 0..MILLION {
        if !is_array && task > 0 {
            operation = builder.operation(call(task.into()));
        }
        let values = task.checked_sub(1).map(TaskId).into_iter().collect();
        builder.define(Definition { operation, options, values, orders: vec![] }).unwrap();
    }
    builder.build().unwrap()
}

#[test]
fn a_million_events_pass_through_the_journal_and_the_report() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let events: Vec<_> = (0..MILLION).map(finished).collect();
    measured("write 10^6 events", Duration::from_secs(3), || {
        let mut journal = JournalWriter::create(&path).unwrap();
        for turn in events.chunks(100) {
            journal.append(turn).unwrap();
            journal.flush().unwrap();
        }
    });
    println!("journal: {} bytes an event", fs::metadata(&path).unwrap().len() / u64::from(MILLION));
    let found: Vec<_> = measured("read 10^6 events", Duration::from_secs(3), || {
        JournalReader::open(&path).unwrap().map(Result::unwrap).collect()
    });
    assert!(found == events, "what was written is read");
    let graph = Arc::new(chain(true));
    let report = measured("report on 10^6 events", Duration::from_secs(5), || {
        let mut builder = ReportBuilder::new(graph.clone());
        found.iter().for_each(|(time, event)| builder.on_event(*time, event));
        builder.report()
    });
    assert_eq!((report.tasks.finished, report.critical_path_tasks), (MILLION, MILLION));
}

#[test]
fn a_million_packed_tasks_are_read_in_a_moment() {
    for is_array in [true, false] {
        let what = if is_array { "one array" } else { "a million names" };
        let graph = measured(&format!("build {what}"), Duration::from_secs(20), || chain(is_array));
        let mut bytes = Vec::new();
        packed::write(&graph, &mut bytes).unwrap();
        println!("packed, {what}: {} bytes a task", bytes.len() / MILLION as usize);
        let again =
            measured(&format!("read {what}"), Duration::from_secs(6), || packed::read(&bytes).unwrap());
        assert!(again == graph);
    }
}

#[test]
fn a_million_outputs_lie_in_two_files() {
    let directory = tempfile::tempdir().unwrap();
    measured("write 10^6 outputs", Duration::from_secs(5), || {
        let mut writer = PackWriter::create(directory.path(), Rank(1)).unwrap();
        for task in (0..MILLION).map(TaskId) {
            writer.append(task, Attempt::FIRST, Piece::Stdout, b"printed by the task\n").unwrap();
            writer.end(task, Attempt::FIRST);
        }
        writer.flush().unwrap();
    });
    let index = fs::metadata(directory.path().join("rank-1.index")).unwrap().len();
    println!("index: {} bytes an output", index / u64::from(MILLION));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    let reader =
        measured("open 10^6 outputs", Duration::from_secs(5), || PackReader::open(directory.path()).unwrap());
    let read = || reader.read(TaskId(MILLION - 1), None, Piece::Stdout).unwrap();
    assert_eq!(measured("read one", Duration::from_secs(1), read).unwrap(), b"printed by the task\n");
}
