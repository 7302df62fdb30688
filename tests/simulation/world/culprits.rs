//! Tasks that end the rank they run in, and sometimes all of them: the rank's last words stay on the disk.
//!
//! The world knows who did it. So nobody else may be blamed, and each as often as it did so.

use std::collections::{BTreeMap, BTreeSet};

use dagmar::core::edit::Edit;
use dagmar::core::event::{Cause, Death};
use dagmar::core::id::{Attempt, Incarnation, Rank, TaskId};
use dagmar::core::scheduler::{Input, Killing, Past};
use dagmar::core::task::Body;

use super::World;
use crate::coverage::Happening;

/// What killed ranks, and what is known of it.
pub struct Culprits {
    /// How often a task may.
    pub limit: u32,
    /// The truth, and at the same time what lies in the run directory.
    words: BTreeMap<(TaskId, Attempt), Killing>,
    /// Those that an event of this life or an earlier one told of.
    recorded: BTreeSet<(TaskId, Attempt)>,
}

impl Culprits {
    pub fn new(limit: u32) -> Self {
        Culprits { limit, words: BTreeMap::new(), recorded: BTreeSet::new() }
    }

    /// What an edit takes over is held against the same tasks under their new numbers. What has changed begins anew.
    /// True if there is something.
    pub fn take_over(&mut self, edit: &Edit) -> bool {
        let words = std::mem::take(&mut self.words).into_iter();
        let now = |((task, attempt), killing): ((TaskId, Attempt), Killing)| {
            let task = edit.now(task)?;
            Some(((task, attempt), Killing { task, ..killing }))
        };
        self.words = words.filter_map(now).collect();
        let recorded = std::mem::take(&mut self.recorded).into_iter();
        self.recorded = recorded.filter_map(|(task, attempt)| Some((edit.now(task)?, attempt))).collect();
        !self.words.is_empty()
    }

    fn times(&self, task: TaskId) -> u32 {
        self.words.keys().filter(|(other, _)| *other == task).count() as u32
    }
}

impl World {
    /// True if this start of a task ends its rank. Programs have processes of their own.
    pub(super) fn kills_its_rank(&mut self, task: TaskId) -> bool {
        let graph = &self.problem.graph;
        let is_in_rank = matches!(graph.operation(task).body, Body::Call(_));
        let is_one_node = graph.options(task).several_nodes().is_none();
        self.faults.killings_of_256 > 0
            && is_in_rank
            && is_one_node
            && self.rng.u8(..) < self.faults.killings_of_256
    }

    pub(super) fn kill(&mut self, worker: Rank, life: Incarnation, (task, attempt): (TaskId, Attempt)) {
        let node = &self.nodes[&worker];
        let runs = node.running.get(&task).is_some_and(|run| run.attempt == attempt);
        if !node.is_alive || node.life != life || !runs {
            return;
        }
        let death = if self.rng.bool() { Death::Signal(11) } else { Death::Exit };
        let before = self.culprits.words.insert((task, attempt), Killing { worker, task, attempt, death });
        assert!(before.is_none(), "try {attempt} of task {task} has killed two ranks");
        // Nobody goes on with a client's run without the client.
        match self.rng.bool() || self.client.is_some() {
            true => {
                self.coverage.happened(Happening::RankKilled);
                self.lose(worker);
            }
            false => {
                self.coverage.happened(Happening::JobKilled);
                self.crash();
            }
        }
    }

    /// Rank 0 reads what a rank said that it gives up now.
    pub(super) fn read_last_words(&mut self, worker: Rank) {
        let words = self.culprits.words.values().filter(|killing| killing.worker == worker);
        for killing in words.copied().collect::<Vec<_>>() {
            self.scheduler_takes_only(Input::KilledRank(killing));
        }
    }

    /// A new life reads all that was ever said. Words of tasks that nobody knows any more are removed.
    pub(super) fn leave_last_words(&mut self, past: &mut Past) {
        let words = self.culprits.words.len();
        self.culprits.words.retain(|_, killing| past.on_last_words(*killing));
        if self.culprits.words.len() < words {
            self.coverage.happened(Happening::KillerUnknown);
        }
    }

    /// Who is blamed did it; and how often is known exactly.
    pub(super) fn check_killing(
        &mut self,
        (task, attempt, worker): (TaskId, Attempt, Rank),
        cause: &Cause,
        retried: bool,
    ) {
        let Cause::KilledRank { death, times, limit } = *cause else { panic!("{cause:?}") };
        let truth = self.culprits.words.get(&(task, attempt));
        assert_eq!(truth, Some(&Killing { worker, task, attempt, death }), "task {task} is blamed");
        assert_eq!(limit, self.culprits.limit);
        assert!(times <= limit, "task {task} killed its rank {times} times");
        let expected = times < limit && !self.is_stopping;
        assert_eq!(retried, expected, "task {task} killed its rank {times} times of {limit}");
        let is_new = self.culprits.recorded.insert((task, attempt));
        if is_new && self.run_life > 1 {
            self.coverage.happened(Happening::KillingRecordedLater);
        }
        match retried {
            true => self.coverage.happened(Happening::KillingTriedAgain),
            false if self.is_stopping => {}
            false => {
                assert_eq!(times, self.culprits.times(task), "task {task} is given up");
                self.coverage.happened(Happening::KillerQuarantined);
            }
        }
    }

    pub(super) fn is_quarantined(&self, task: TaskId) -> bool {
        self.culprits.times(task) >= self.culprits.limit
    }

    /// What killed its rank too often never starts again.
    pub(super) fn check_not_quarantined(&self, task: TaskId, attempt: Attempt) {
        assert!(
            !self.is_quarantined(task),
            "task {task} starts as try {attempt}, and killed its rank too often"
        );
    }
}
