//! Files that were there before a simulated run: which tasks need not run is drawn, decided, and checked by asking every task
//! again and again until nothing changes.

use dagmar::core::graph::Graph;
use dagmar::core::id::TaskId;
use dagmar::core::scheduler::{Files, Skipping};
use dagmar::core::task_list::TaskList;
use fastrand::Rng;

use crate::oracle::Problem;

/// How many of 256 tasks have files, and how many of those are not as they should be.
const WITH_FILES_OF_256: [u8; 3] = [60, 160, 255];
const STALE_OF_256: [u8; 3] = [0, 20, 80];

/// What a run leaves away that looks for files.
pub fn draw(problem: &Problem, rng: &mut Rng) -> Skipping {
    let graph = &problem.beginning;
    let (with_files, stale) = (WITH_FILES_OF_256[rng.usize(..3)], STALE_OF_256[rng.usize(..3)]);
    let mut files = |task: TaskId| match graph.is_join(task) || rng.u8(..) >= with_files {
        true => Files::None,
        false if rng.u8(..) < stale => Files::Stale,
        false => Files::UpToDate,
    };
    let files: Vec<Files> = graph.tasks().map(&mut files).collect();
    let skipping = Skipping::find(graph, &TaskList::from(&problem.asked), |task| files[task.index()]);
    check(problem, &files, &skipping);
    skipping
}

fn check(problem: &Problem, files: &[Files], skipping: &Skipping) {
    let graph = &problem.beginning;
    let needed = graph.needed_by(&problem.asked);
    let mut runs = vec![false; graph.len()];
    loop {
        let now: Vec<bool> = graph
            .tasks()
            .map(|task| {
                needed.contains(task) && !graph.is_join(task) && must_run(problem, files, &runs, task)
            })
            .collect();
        if now == runs {
            break;
        }
        runs = now;
    }
    let skipped: Vec<TaskId> = skipping.skipped.iter().flat_map(|span| span.tasks()).collect();
    for task in graph.tasks().filter(|&task| !graph.is_join(task)) {
        assert_eq!(skipping.runs.contains(task), runs[task.index()], "task {task} runs, {files:?}");
        let is_skipped = needed.contains(task) && !runs[task.index()] && files[task.index()] != Files::None;
        assert_eq!(skipped.contains(&task), is_skipped, "task {task} is skipped, {files:?}");
    }
}

fn must_run(problem: &Problem, files: &[Files], runs: &[bool], task: TaskId) -> bool {
    let graph = &problem.beginning;
    let takers = takers(graph, task);
    let is_taken = takers.iter().any(|&taker| runs[taker.index()] && graph.takes_value(taker, task));
    match files[task.index()] {
        Files::Stale => true,
        Files::UpToDate => is_taken || above(graph, task).iter().any(|input| runs[input.index()]),
        Files::None => problem.asked.contains(&task) || takers.iter().any(|taker| runs[taker.index()]),
    }
}

/// All that a task depends on, directly or not.
fn above(graph: &Graph, task: TaskId) -> Vec<TaskId> {
    let above = graph.needed_by(&[task]);
    above.iter(graph.len()).filter(|&other| other != task).collect()
}

/// What a task depends on, directly or through joins.
pub fn inputs(graph: &Graph, task: TaskId) -> Vec<TaskId> {
    let through = |input: TaskId| match graph.is_join(input) {
        true => inputs(graph, input),
        false => vec![input],
    };
    graph.inputs(task).flat_map(through).collect()
}

/// Who depends on a task, directly or through joins.
fn takers(graph: &Graph, task: TaskId) -> Vec<TaskId> {
    let through = |taker: TaskId| match graph.is_join(taker) {
        true => takers(graph, taker),
        false => vec![taker],
    };
    graph.dependents(task).iter().flat_map(through).collect()
}
