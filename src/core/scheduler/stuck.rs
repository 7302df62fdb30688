//! Why a run does not go on: reasons for whoever looks into one that stands still.

use crate::core::id::TaskId;

use super::ahead::Bond;
use super::machine::{Phase, Scheduler};
use super::tasks::TaskState;

impl Scheduler {
    /// True if tasks are left and none is known to run: if nothing happens for long, something is wrong.
    pub fn may_hang(&self) -> bool {
        self.phase == Phase::Working
            && self.tasks.count(TaskState::Running) == 0
            && self.tasks.open_count() > u32::from(self.client.is_there())
    }

    /// What the first tasks wait for that could go on, no more than so many: each task, and in words why it
    /// does not. Looks at all tasks.
    pub fn why_stuck(&self, most: usize) -> Vec<(TaskId, String)> {
        let open = self.graph.tasks().filter(|&task| !self.state(task).is_ended());
        open.filter_map(|task| Some((task, self.why_not(task)?))).take(most).collect()
    }

    /// Nothing of tasks that wait for others: those have a reason of their own.
    fn why_not(&self, task: TaskId) -> Option<String> {
        let (worker, attempt) = self.location(task);
        match self.state(task) {
            TaskState::Assigned => {
                let unmet: Vec<String> = self
                    .graph
                    .inputs(task)
                    .filter(|&input| self.state(input) != TaskState::Finished)
                    .map(|input| {
                        format!("{} ({:?} at rank {})", input, self.state(input), self.location(input).0)
                    })
                    .collect();
                let waits = match unmet.is_empty() {
                    true => "all its inputs are finished".to_owned(),
                    false => format!("it waits for {}", unmet.join(", ")),
                };
                Some(format!(
                    "try {attempt} was given to rank {worker}, which has not said that it runs; {waits}"
                ))
            }
            TaskState::Waiting if self.is_ready(task) => {
                if let Some(Bond { input, worker }) = self.bond(&self.graph.facts(task)) {
                    return Some(format!("it waits for the end of {input} at rank {worker}"));
                }
                let request = &self.graph.options(task).resources;
                let able = self.workers.iter().filter(|(_, record)| record.capacity.covers(request));
                let (able, reserved) = able.fold((0, 0), |(able, reserved), (_, record)| {
                    (able + 1, reserved + u32::from(record.reserved_for.is_some()))
                });
                Some(format!(
                    "it is ready and at no worker: {able} are large enough, {reserved} of them kept for tasks of several nodes"
                ))
            }
            _ => None,
        }
    }
}
