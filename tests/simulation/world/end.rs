//! What must be true of a simulated world once its run is over.

use std::collections::BTreeSet;

use dagmar::core::event::{Outcome, StopReason};
use dagmar::core::id::{Rank, TaskId};
use dagmar::core::scheduler::TaskState;

use super::World;
use crate::coverage::Happening;

impl World {
    pub(super) fn check_end(&mut self) {
        let outcome = self.outcome.expect("the run is over");
        self.check_client(is_cut_short(outcome));
        for task in self.problem.graph.tasks() {
            self.check_task(task, outcome);
        }
        for (rank, node) in &self.nodes {
            assert!(node.running.is_empty(), "worker {rank} still runs something");
            assert!(
                is_cut_short(outcome) || node.store.is_empty(),
                "worker {rank} still keeps {:?}",
                node.store
            );
            let memory = node.memory.as_ref().filter(|_| !is_cut_short(outcome));
            memory.into_iter().for_each(|memory| memory.check_empty());
        }
        match outcome {
            Outcome::Done => {
                self.check_results();
                self.coverage.happened(Happening::EndedDone);
            }
            Outcome::TasksFailed { failed, .. } => {
                assert!(failed > 0);
                self.coverage.happened(Happening::EndedWithFailures);
            }
            Outcome::Stopped(StopReason::Terminated) if self.has_end => {
                self.coverage.happened(Happening::EndedForWantOfTime);
            }
            Outcome::Stopped(StopReason::TooManyFailures) => {
                let failed = self.scheduler.count(TaskState::Failed);
                assert!(self.max_fails.is_some_and(|most| failed > most), "stopped by {failed} failures");
                self.coverage.happened(Happening::StoppedByFailures);
            }
            Outcome::Stopped(reason) => assert_eq!(Some(reason), self.faults.stop),
            Outcome::WorkersLost => self.check_workers_lost(),
        }
    }

    /// Who is left could not run anything that is left.
    fn check_workers_lost(&mut self) {
        assert!(!self.faults.lost_come_back, "workers come back here");
        let left: Vec<Rank> = self.nodes.keys().copied().filter(|rank| !self.lost.contains(rank)).collect();
        let state = |task: TaskId| self.scheduler.state(task);
        let graph = &self.problem.graph;
        for task in graph.tasks().filter(|&task| state(task) == TaskState::Waiting) {
            let is_ready = graph.inputs(task).all(|input| state(input) == TaskState::Finished);
            assert!(!is_ready || !self.can_run(&left, task), "task {task} could be run by {left:?}");
        }
        self.coverage.happened(match left.is_empty() {
            true => Happening::EndedDeserted,
            false => Happening::EndedShortOfWorkers,
        });
    }

    fn can_run(&self, workers: &[Rank], task: TaskId) -> bool {
        let options = self.problem.graph.options(task);
        let able = workers.iter().filter(|rank| self.capacity(**rank).covers(&options.resources));
        let hosts: BTreeSet<&str> = able.map(|rank| self.nodes[rank].host.as_str()).collect();
        hosts.len() >= options.several_nodes().unwrap_or(1) as usize
    }

    fn check_task(&self, task: TaskId, outcome: Outcome) {
        let state = self.scheduler.state(task);
        let graph = &self.problem.graph;
        let retries = graph.options(task).retries;
        let failures = self.own_failures.get(&task).copied().unwrap_or(0);
        match state {
            TaskState::Finished if !graph.is_join(task) => {
                let value = self.finished.get(&task).unwrap_or_else(|| panic!("task {task} never ran"));
                assert_eq!(*value, self.expected[task.index()], "the value of task {task}");
            }
            TaskState::Failed => {
                let is_its_fault = failures > retries || self.is_quarantined(task);
                assert!(is_its_fault, "task {task} failed after {failures} failures");
            }
            TaskState::Aborted => {
                let hopeless = graph.inputs(task).any(|input| self.scheduler.state(input).is_bad_end());
                assert!(hopeless, "task {task} was aborted without reason");
            }
            TaskState::Cancelled if self.client.is_some() => {}
            TaskState::Cancelled => {
                assert_eq!(outcome, Outcome::Stopped(StopReason::Cancelled), "task {task}");
            }
            TaskState::Waiting => assert!(is_cut_short(outcome), "task {task} never ran"),
            TaskState::Assigned | TaskState::Running => panic!("task {task} is still {state:?}"),
            TaskState::Culled => {
                let ran = self.finished.contains_key(&task);
                assert!(!ran || self.run_life > 1, "task {task} ran unasked");
            }
            TaskState::Finished => {}
        }
    }
}

/// True if tasks may be left.
fn is_cut_short(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Stopped(_) | Outcome::WorkersLost)
}
