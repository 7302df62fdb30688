//! Every invariant of the scheduler's tables. A broken one is a bug, so `check` panics.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::id::{Rank, TaskId};
use crate::core::resources::Resources;

use super::machine::{Phase, Scheduler};
use super::tasks::{Marks, TaskState};

impl Scheduler {
    /// Checks everything. Takes time linear in tasks and dependencies: for tests.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub fn check(&self) {
        for task in self.graph.tasks() {
            self.check_task(task);
        }
        self.check_workers();
        self.workers.check(|task| self.tasks.expected_us.get(task));
        self.check_counts();
        self.check_ready();
        self.check_teams();
    }

    fn check_task(&self, task: TaskId) {
        let state = self.state(task);
        if state == TaskState::Waiting {
            let met = self.graph.inputs(task).filter(|&input| self.is_met(task, input)).count();
            let met = met + usize::from(self.client.is(task));
            assert_eq!(self.tasks.met.get(task) as usize, met, "met inputs of task {task}");
        }
        let takes = |dependent: &TaskId| {
            !self.state(*dependent).is_ended() && self.graph.takes_value(*dependent, task)
        };
        let consumers = self.graph.dependents(task).iter().filter(takes).count();
        let consumers = consumers + usize::from(self.client.holds(task));
        assert!(!(self.client.has_left(task) && state.is_ended()), "nobody lets task {task} go, {state:?}");
        if state != TaskState::Culled {
            let known = self.tasks.consumers.get(task) as usize;
            assert_eq!(known, consumers, "consumers of task {task}, {state:?}");
        }
        if self.tasks.has(task, Marks::HELD) {
            assert_eq!(state, TaskState::Finished, "the output of task {task} is held");
            let lives = self.workers.get(self.tasks.worker.get(task)).is_some();
            assert!(lives || self.phase != Phase::Working, "the holder of task {task} is gone");
        }
        if self.tasks.has(task, Marks::STORED) && !self.tasks.has(task, Marks::HELD) {
            let place = self.tasks.worker.get(task);
            assert_eq!(place, Rank::SCHEDULER, "the output of task {task} is in the run directory alone");
        }
        if self.tasks.has(task, Marks::ANNOUNCED) {
            assert!(state.is_active(), "task {task} was announced and is {state:?}");
        }
        if state == TaskState::Finished && consumers > 0 && self.phase == Phase::Working {
            let is_held = self.tasks.has(task, Marks::HELD);
            let is_stored = self.tasks.has(task, Marks::STORED);
            assert!(is_held || is_stored, "task {task} is finished and needed, but nobody has it");
        }
        let is_hopeless = self.graph.inputs(task).any(|input| self.state(input).is_bad_end());
        assert!(!(is_hopeless && state == TaskState::Waiting), "task {task} waits for one that ended badly");
    }

    fn check_workers(&self) {
        let mut assigned: BTreeMap<Rank, Resources> = BTreeMap::new();
        for task in self.graph.tasks().filter(|task| self.state(*task).is_active()) {
            let worker = self.tasks.worker.get(task);
            let record = self.workers.get(worker).expect("an active task's worker lives");
            let is_listed = self.workers.tasks_of(record).any(|other| other == task);
            assert!(is_listed, "task {task} is assigned to worker {worker}");
            if !self.tasks.has(task, Marks::AHEAD) {
                assigned.entry(worker).or_default().give(&self.graph.options(task).resources);
            }
        }
        for (rank, record) in self.workers.iter() {
            let expected = assigned.remove(&rank).unwrap_or_default();
            assert!(
                record.committed.covers(&expected) && expected.covers(&record.committed),
                "worker {rank}"
            );
        }
    }

    fn check_counts(&self) {
        let is_unsaved =
            |task: &TaskId| self.state(*task) == TaskState::Finished && self.tasks.has(*task, Marks::UNSAVED);
        let unsaved = self.graph.tasks().filter(is_unsaved).count();
        assert_eq!(unsaved, self.tasks.unsaved_count() as usize, "outputs that are still to be durable");
        let active: u32 = self.workers.iter().map(|(_, record)| record.assigned).sum();
        assert_eq!(active, self.tasks.active_count(), "tasks at workers");
        for state in [TaskState::Waiting, TaskState::Finished, TaskState::Failed, TaskState::Aborted] {
            let count = self.tasks.state.iter().filter(|other| *other == state).count();
            assert_eq!(count, self.tasks.count(state) as usize, "tasks that are {state:?}");
        }
    }

    fn check_ready(&self) {
        if self.phase != Phase::Working {
            return;
        }
        for task in self.graph.tasks().filter(|&task| self.is_ready(task)) {
            let (class, level) = (self.ready.class(self.graph.options_id(task)), self.urgency.level(task));
            let is_parked = || self.workers.with_parked().any(|(_, record)| record.parked.contains(task));
            let is_queued = match self.graph.options(task).several_nodes() {
                Some(_) => self.multi_node.contains(level, task),
                None => {
                    self.ready.contains(class, level, task)
                        || is_parked()
                        || self.held_back.contains(&task)
                        || self.followers.values().flatten().any(|&other| other == task)
                }
            };
            assert!(is_queued, "task {task} is ready but not queued");
        }
    }

    /// Reservations and teams match; a team at work is whole, or short of a lost worker, and its workers
    /// have nothing else.
    fn check_teams(&self) {
        let mut reserved: BTreeMap<Rank, TaskId> = BTreeMap::new();
        for (task, team) in self.multi_node.teams() {
            let mut hosts = BTreeSet::new();
            for &member in team {
                assert_eq!(reserved.insert(member, task), None, "worker {member} is in two teams");
                let record = self.workers.get(member).expect("the workers of a team live");
                let request = &self.graph.options(task).resources;
                assert!(record.capacity.covers(request), "worker {member} is too small for task {task}");
                assert!(hosts.insert(&record.host), "task {task} has `{}` twice", record.host);
            }
            let nodes = self.graph.options(task).several_nodes().expect("only multi-node tasks have teams");
            assert!(!team.is_empty() && team.len() <= nodes as usize, "the team of task {task}: {team:?}");
        }
        let known = self.workers.iter().filter_map(|(rank, record)| Some((rank, record.reserved_for?)));
        assert_eq!(known.collect::<BTreeMap<_, _>>(), reserved, "reservations");
        for task in self.graph.tasks() {
            self.check_team_at_work(task);
        }
    }

    fn check_team_at_work(&self, task: TaskId) {
        let is_multi_node = self.graph.options(task).several_nodes().is_some();
        let team = self.multi_node.team_of(task);
        assert_eq!(team.is_some(), is_multi_node && self.state(task).is_active(), "the team of task {task}");
        for (place, member) in team.unwrap_or_default().iter().enumerate() {
            let record = self.workers.get(*member).expect("the workers of a team live");
            let assigned: Vec<TaskId> = self.workers.tasks_of(record).collect();
            let expected = if place == 0 { vec![task] } else { vec![] };
            assert_eq!(assigned, expected, "worker {member} belongs to the team of task {task}");
        }
    }
}
