//! Which worker a task goes to whose inputs are large.

use super::*;

const LARGE: u64 = 4 << 20;

impl Run {
    /// Tasks that take 3 ms: too long to be assigned ahead.
    fn placing(text: &str) -> Self {
        Run::of(graph_of(text, 0, Micros::from_millis(3)), 0)
    }

    fn gives(&mut self, worker: u32, key: &str, size_bytes: u64) {
        let success = Success { ran: Micros::from_millis(3), size_bytes, ..Success::default() };
        let batch = Batch::one(task(&self.graph, key), Attempt(1), success);
        self.says(worker, LIFE, Report::Finished(batch));
    }

    /// Where a task was assigned to, if it was so by the last input.
    fn place_of(&self, key: &str) -> Option<u32> {
        self.assigned().iter().find(|(_, other, _)| other == key).map(|(worker, ..)| *worker)
    }
}

#[test]
fn a_copy_of_a_large_input_counts_like_the_input() {
    // Only worker 2 has the two cores that `c` asks for: it fetches `a` from worker 1.
    let mut run = Run::placing("a b c+2:a d:c t:a,b,d");
    run.machine = scheduler_of(&run.graph, 2);
    run.joins(1, LIFE);
    run.joins_with(2, 2);
    assert_eq!((run.place_of("a"), run.place_of("b")), (Some(1), Some(2)));
    run.gives(1, "a", LARGE);
    for (key, size_bytes) in [("b", LARGE / 40), ("c", 8), ("d", 8)] {
        run.gives(2, key, size_bytes);
    }
    assert_eq!(run.place_of("t"), Some(2));
}

#[test]
fn outputs_that_one_task_takes_are_made_in_one_place() {
    let mut run = Run::placing("a b c d s:a,b t:c,d u:s,t");
    run.machine = scheduler_of(&run.graph, 2);
    (1..=2).for_each(|worker| run.joins(worker, LIFE));
    let mut places = std::collections::BTreeMap::new();
    let mut due: VecDeque<(u32, String)> = VecDeque::new();
    loop {
        for (worker, key, _) in run.assigned() {
            places.insert(key.clone(), worker);
            due.push_back((worker, key));
        }
        let Some((worker, key)) = due.pop_front() else { break };
        run.gives(worker, &key, LARGE);
    }
    assert_ne!((places["a"], places["c"]), (places["b"], places["d"]), "each takes one from either worker");
    assert_eq!(places["s"], places["t"], "{places:?}");
}

#[test]
fn a_worker_with_nothing_to_do_takes_a_task_whose_large_input_is_elsewhere() {
    let mut run = Run::placing("a b:a c:a d:a");
    run.machine = scheduler_of(&run.graph, 2);
    (1..=2).for_each(|worker| run.joins(worker, LIFE));
    run.gives(1, "a", LARGE / 4);
    let workers: Vec<u32> = run.assigned().iter().map(|(worker, ..)| *worker).collect();
    assert!(workers.contains(&1) && workers.contains(&2), "{workers:?}");
}
