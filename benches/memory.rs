//! What a graph costs before anything runs: anonymous memory, and seconds on a core and on the clock.
//!
//!     cargo bench --bench memory               10^7 tasks: explicit, by rule, and an array
//!     cargo bench --bench memory -- 1000000    as many tasks as that
//!     cargo bench --bench memory -- --small    a few tasks: only checks that everything works
//!
//! Every line is measured in a process of its own, which this program starts by its own name and the
//! name of the step, because memory that was freed is not always given back.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use dagmar::client::formats::make::{Shape, Size, make};
use dagmar::core::graph::{Definition, Graph, GraphBuilder};
use dagmar::core::id::TaskId;
use dagmar::core::key::{Axis, Group};
use dagmar::core::scheduler::{Options, Persist, Precedence, Scheduler, Urgency};
use dagmar::core::task::{Body, Call, Operation, TaskOptions};
use dagmar::core::task_list::TaskList;
use dagmar::observe::report::ReportBuilder;
use dagmar::record::packed;

/// The graphs, and what their tasks are.
const GRAPHS: [(&str, &str); 4] = [
    ("explicit", "each listed, two inputs by chance"),
    ("stencil", "`make stencil_1d`, 1000 wide"),
    ("tree", "`make tree`"),
    ("array", "`--each 1..N --call noop`"),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [step, graph, tasks, path] = &words[..] {
        return run_step(step, graph, tasks.parse().expect("a number of tasks"), Path::new(path));
    }
    let is_small = words.iter().any(|word| word == "--small");
    let tasks: u32 = words.iter().find_map(|word| word.parse().ok()).unwrap_or(10_000_000);
    let tasks = if is_small { 10_000 } else { tasks };
    let directory = std::env::temp_dir().join(format!("dagmar-memory-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("a directory for packed graphs");
    println!(
        "{:<9} {:<10} {:>11} {:>9} {:>7} {:>9} {:>8} {:>8}",
        "graph", "step", "anon KiB", "B/task", "B/edge", "file KiB", "cpu s", "seconds"
    );
    for (graph, what) in GRAPHS {
        println!("{graph}: {what}");
        for step in ["build", "open", "urgency", "scheduler", "report"] {
            let path = directory.join(graph);
            let arguments = [step, graph, &tasks.to_string(), &path.display().to_string()];
            let program = std::env::current_exe().expect("this program has a path");
            let ended = Command::new(program).args(arguments).status().expect("this program starts again");
            assert!(ended.success(), "{step} of {graph}");
        }
    }
    fs::remove_dir_all(&directory).expect("the directory is ours");
}

/// One step in a process of its own. `build` writes the file that the others open.
fn run_step(step: &str, graph: &str, tasks: u32, path: &Path) {
    let before = anonymous_kib();
    let start = now();
    let graph_of = || packed::open(path).expect("a graph that was packed");
    let line = |step: &str, graph_now: &Graph, before: i64, (start, busy): (Instant, f64)| {
        let (seconds, busy) = (start.elapsed().as_secs_f64(), busy_seconds() - busy);
        let anonymous = anonymous_kib() - before;
        let edges = graph_now.dependency_count();
        let each = |count: u64| anonymous as f64 * 1024.0 / count.max(1) as f64;
        let file = fs::metadata(path).map_or(0, |file| file.len() / 1024);
        println!(
            "{graph:<9} {step:<10} {anonymous:>11} {:>9.2} {:>7.2} {file:>9} {busy:>8.3} {seconds:>8.3}",
            each(graph_now.len() as u64),
            each(edges),
        );
    };
    match step {
        "build" => {
            let built = build(graph, tasks);
            line("build", &built, before, start);
            let (before, start) = (anonymous_kib(), now());
            let file = File::create(path).expect("a file beside the others");
            packed::write(&built, BufWriter::new(file)).expect("room for the file");
            line("pack", &built, before, start);
        }
        "open" => {
            let opened = graph_of();
            line("open", &opened, before, start);
            let start = now();
            let needed = opened.needed_by(opened.sink_stretches().collect::<TaskList>());
            black_box(opened.count_shown(&needed));
            line("needed", &opened, before, start);
        }
        "urgency" => {
            let opened = graph_of();
            let (before, start) = (anonymous_kib(), now());
            let urgency = Urgency::of(&opened, Precedence::default());
            line("+ urgency", &opened, before, start);
            black_box(urgency.level(TaskId(0)));
        }
        "scheduler" => {
            let opened = Arc::new(graph_of());
            let asked: TaskList = opened.sink_stretches().collect();
            let (before, start) = (anonymous_kib(), now());
            let options = Options {
                workers: 1,
                workers_come_back: false,
                persist: Persist::Kept,
                precedence: Precedence::default(),
            };
            let scheduler = Scheduler::new(opened.clone(), &asked, options);
            line("+ schedul.", &opened, before, start);
            black_box(scheduler.state(TaskId(0)));
        }
        _ => {
            let opened = graph_of();
            let (before, start) = (anonymous_kib(), now());
            let report = ReportBuilder::new(std::sync::Arc::new(opened.clone()));
            line("+ report", &opened, before, start);
            black_box(report.snapshot().counts());
        }
    }
}

fn build(graph: &str, tasks: u32) -> Graph {
    let made = |shape, width, steps| make(shape, Size { width, steps, seed: 1 }).expect("a size that fits");
    match graph {
        "explicit" => explicit(tasks),
        "stencil" => made(Shape::Stencil1d, 1000, tasks / 1000),
        "tree" => made(Shape::Tree, (tasks / 2).next_power_of_two(), 1),
        _ => made(Shape::Trivial, tasks, 1),
    }
}

/// Tasks of one array that no rule describes: each takes two of those before it.
fn explicit(tasks: u32) -> Graph {
    let mut builder = GraphBuilder::new("explicit", "/");
    let axis = Axis::Range { first: 0, step: 1, count: tasks, width: 1 };
    builder.declare(Group::array("t", vec![axis])).expect("one name");
    let body = Body::Call(Call { function: "noop".into(), arguments: vec![] });
    let operation = builder.operation(Operation { body, inputs: vec![], outputs: vec![] });
    let options = builder.options(TaskOptions::default());
    let mut random = fastrand::Rng::with_seed(7);
    for task in 0..tasks {
        let values = match task {
            0 | 1 => vec![],
            _ => {
                let first = random.u32(0..task);
                vec![TaskId(first), TaskId((first + random.u32(1..task)) % task)]
            }
        };
        builder.define(Definition { operation, options, values, orders: vec![] }).expect("room");
    }
    builder.build().expect("inputs come before")
}

/// The time on the clock, and the time that this thread has been on a core.
fn now() -> (Instant, f64) {
    (Instant::now(), busy_seconds())
}

fn busy_seconds() -> f64 {
    let told = fs::read_to_string("/proc/self/schedstat").expect("Linux");
    let nanoseconds: f64 = told.split(' ').next().and_then(|word| word.parse().ok()).expect("a number");
    nanoseconds / 1e9
}

/// What this process has in memory of its own, without files.
fn anonymous_kib() -> i64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux since 4.5");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
